"""The census of a store: every stage of every division, with its objects, who trains it and which searches need it.

One listing for each division, whatever is in it. Nothing here needs torch.
"""

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyarrow import fs

from datasets.remote import listing
from datasets.uri import reason
from trainables.claims import FOLDER, Claim, read_claims
from trainables.lease import Terms
from trainables.objects import CHECKPOINT, EVALUATION, STAGE, Objects, StoreError

log = logging.getLogger(__name__)

THREADS = 8  # objects at a time

Progress = Callable[[int, int], None]  # told (done, total)


@dataclass(frozen=True)
class Item:
    """An object of a stage; `modified` in unix seconds by the filesystem's clock."""

    path: str
    bytes: int
    modified: float

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def weighs(self) -> bool:
        """Whether it is a checkpoint, or what is left of one: all that a store's size is about."""
        return ".ckpt" in self.name


@dataclass(frozen=True)
class Entry:
    """One stage in one division."""

    division: str
    key: str
    items: tuple[Item, ...]
    lease: Terms | None

    @cached_property
    def checkpoints(self) -> tuple[Item, ...]:
        """In the order in which they can be spared: rolling ones, then kept ones, the last step last."""
        found = [(match[1] == "kept", int(match[2]), item) for item, match in self._named(CHECKPOINT)]
        return tuple(item for *_, item in sorted(found, key=lambda one: one[:2]))

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that have a checkpoint, ascending."""
        return tuple(sorted({int(match[2]) for _, match in self._named(CHECKPOINT)}))

    @property
    def reached(self) -> int:
        """The largest step that was ever saved or evaluated, as far as the store knows."""
        evaluated = (int(match[1]) for _, match in self._named(EVALUATION))
        return max((*self.steps, *evaluated), default=0)

    @property
    def evaluations(self) -> int:
        return sum(1 for _ in self._named(EVALUATION))

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items if item.weighs)

    @property
    def used(self) -> float:
        """When it was last used, in unix seconds: the time of its newest object."""
        return max((item.modified for item in self.items), default=0.0)

    def _named(self, pattern: Any) -> Iterable[tuple[Item, Any]]:
        return ((item, match) for item in self.items if (match := pattern.fullmatch(item.name)))


@dataclass(frozen=True)
class Census:
    """A store as it was at `taken` (unix seconds). `ended` are the paths of claims that hold no more."""

    entries: tuple[Entry, ...]
    claims: tuple[Claim, ...]
    ended: tuple[str, ...]
    taken: float

    @property
    def bytes(self) -> int:
        """What checkpoints take."""
        return sum(entry.bytes for entry in self.entries)

    def searches(self, stage: str) -> tuple[str, ...]:
        """The running searches that need a stage."""
        return tuple(sorted(claim.search for claim in self.claims if stage in claim.stages))


def take_census(objects: Objects, progress: Progress = lambda done, total: None) -> Census:
    """Looks at a whole store. Raises StoreError where there is none, or it cannot be read."""
    try:
        top = objects.filesystem.get_file_info(fs.FileSelector(objects.root))
        divisions = [info for info in top if info.type == fs.FileType.Directory and info.base_name != FOLDER]
        entries: list[Entry] = []
        for done, division in enumerate(divisions):
            progress(done, len(divisions))
            entries += _entries(objects, division.path)
        progress(len(divisions), len(divisions))
        claims, ended = read_claims(objects)
    except FileNotFoundError:
        raise StoreError(f"{objects.root}: no store here; name the folder or URI that the search used") from None
    except OSError as error:
        raise StoreError(f"{objects.root}: the store must be readable, but: {reason(error)}") from None
    entries.sort(key=lambda entry: (entry.division, entry.key))
    return Census(tuple(entries), tuple(claims), tuple(ended), time.time())


def damaged(objects: Objects, census: Census, progress: Progress = lambda done, total: None) -> list[str]:
    """Reads every object, sets aside those that fail their checksum, and returns the paths of these."""
    items = [item for entry in census.entries for item in entry.items]
    found, done, total = [], 0, sum(item.bytes for item in items)

    def check(item: Item) -> bool:
        try:
            return objects.intact(item.path)
        except FileNotFoundError:
            return True  # removed since it was listed

    with ThreadPoolExecutor(THREADS) as pool:
        for item, intact in zip(items, pool.map(check, items), strict=True):
            if not intact:
                objects.set_aside(item.path)
                found.append(item.path)
            done += item.bytes
            progress(done, total)
    return found


def _entries(objects: Objects, folder: str) -> list[Entry]:
    """The stages of a division and of the namespaces in it."""
    stages: dict[str, list[Item]] = {}
    for info in listing(objects.filesystem, folder, recursive=True):
        parent = info.path.rpartition("/")[0]
        if info.type == fs.FileType.File and STAGE.fullmatch(parent.rpartition("/")[2]):
            stages.setdefault(parent, []).append(Item(info.path, info.size, (info.mtime_ns or 0) / 1e9))
    leases = [f"{path}/lease.json" for path, items in stages.items() if any(i.name == "lease.json" for i in items)]
    with ThreadPoolExecutor(THREADS) as pool:
        terms = {
            path: Terms.parse(raw, time.time())
            for path, raw in zip(leases, pool.map(objects.read, leases), strict=True)
        }
    return [
        Entry(
            path.rpartition("/")[0].removeprefix(f"{objects.root}/"),
            path.rpartition("/")[2],
            tuple(items),
            terms.get(f"{path}/lease.json"),
        )
        for path, items in stages.items()
    ]
