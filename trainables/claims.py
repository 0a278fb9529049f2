"""Claims: what running searches need of a store, so that nobody evicts it.

A claim is one object, `ROOT/claims/SEARCH.json`: the keys of stages, in whatever division, and when it expires (unix
seconds). Its search renews it; one that expired, or is damaged, counts for nothing. An eviction in spite of a claim (a
clock that is off by minutes) is no error either: what disappears is trained again.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from datasets.ordinary import parse_json
from datasets.remote import listing
from trainables.objects import Objects

FOLDER = "claims"
CLAIM_S = 180.0  # without being renewed; three times what a keeper waits
FAR_S = 86_400.0  # one that ends later than this from now is a wrong clock's


@dataclass(frozen=True)
class Claim:
    """The stages that a search needs, until `expires` (unix seconds)."""

    search: str
    stages: frozenset[str]
    expires: float

    @classmethod
    def parse(cls, raw: bytes, now: float) -> "Claim | None":
        """The claim that holds at `now`; None where it expired or is damaged."""
        try:
            found: Any = parse_json(raw)
            claim = cls(str(found["search"]), frozenset(map(str, found["stages"])), float(found["expires"]))
        except (ValueError, TypeError, KeyError, OverflowError):
            return None
        return claim if now < claim.expires < now + FAR_S else None


def write_claim(objects: Objects, search: str, stages: Collection[str]) -> None:
    """Claims stages for a search, in place of what it claimed before. Raises StoreError."""
    value = {"search": search, "expires": time.time() + CLAIM_S, "stages": sorted(stages)}
    objects.write_json(_path(objects, search), value)


def remove_claim(objects: Objects, search: str) -> None:
    objects.delete(_path(objects, search))


def read_claims(objects: Objects) -> tuple[list[Claim], list[str]]:
    """The claims that hold, and the paths of those that do not any more."""
    live, dead = [], []
    for info in listing(objects.filesystem, f"{objects.root}/{FOLDER}"):
        raw = objects.read(info.path) if info.base_name.endswith(".json") else None
        if raw is not None:
            claim = Claim.parse(raw, time.time())
            if claim is not None:
                live.append(claim)
            else:
                dead.append(info.path)
    return live, dead


def _path(objects: Objects, search: str) -> str:
    return f"{objects.root}/{FOLDER}/{quote(search, safe='')}.json"
