"""Leases: who trains a stage now, so that two searches on one store do not train the same steps.

A lease is a small object in the stage's folder: owner, when it expires (unix seconds) and the step. It is advisory, for
an object store offers no lock: two that look at the same moment both train for some seconds, until the first of them
finds the other's lease in place of its own and gives way. Training a stage twice is waste, never an error, and a lease
changes no number.

Expiry is by each machine's own clock. A holder renews three times within the life of a lease, so that clocks which
differ by less than two thirds of LEASE_S change nothing. One that is further ahead takes stages over, and the holder
gives way; one that is behind waits longer, by the difference, after a crash. A lease that ends more than FAR_S from
now is a wrong clock's, and counts as damaged.
"""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets.ordinary import parse_json
from trainables.objects import StoreError

if TYPE_CHECKING:
    from trainables.ranks import Ranks
    from trainables.store import Store

log = logging.getLogger(__name__)

LEASE_S = 30.0
FAR_S = 600.0
ASK_EVERY = 10  # steps between looks that all ranks of a slot share


class Leased(Exception):
    """Another trainer trains the stage, and what is asked for is not there yet; `until` in unix seconds, at most."""

    def __init__(self, stage: str, until: float) -> None:
        super().__init__(stage, until)
        self.stage = stage
        self.until = until

    def __str__(self) -> str:
        return f"stage {self.stage} is trained by another search; ask again in {max(0, self.until - time.time()):.0f} s"


@dataclass(frozen=True)
class Terms:
    """What a lease says. `expires` is in unix seconds, `step` is where the stage was when it was written."""

    owner: str
    expires: float
    step: int

    @classmethod
    def parse(cls, raw: bytes | None, now: float) -> "Terms | None":
        """The terms of a lease that holds at `now` (unix seconds); None where there is none, or it expired or is
        damaged."""
        try:
            found: Any = parse_json(raw or b"")
            terms = cls(str(found["owner"]), float(found["expires"]), int(found["step"]))
        except (ValueError, TypeError, KeyError, OverflowError):
            return None
        return terms if now < terms.expires < now + FAR_S else None  # NaN is neither


def lease_path(store: "Store", stage: str) -> str:
    return store.path(stage, "lease.json")


def held_until(store: "Store", stage: str, owner: str) -> float | None:
    """When the lease that another owner has of a stage expires; None where nobody has one.

    A lease that cannot be read stops nobody: what cannot be trained without the store says so itself.
    """
    try:
        terms = Terms.parse(store.objects.read(lease_path(store, stage)), time.time())
    except OSError as error:
        log.warning("the lease of stage %s cannot be read, and counts as none: %s", stage, error)
        return None
    return terms.expires if terms is not None and terms.owner != owner else None


class Lease:
    """A stage held while it is trained. Use as a context manager, on every rank alike: rank 0 reads and writes.

    owner    who holds it; those of one name do not see each other's leases
    seconds  how long it lasts without being renewed: LEASE_S, and what a checkpoint takes to write
    """

    def __init__(self, store: "Store", stage: str, owner: str, ranks: "Ranks", step: int, seconds: float) -> None:
        self._store = store
        self._stage = stage
        self._owner = owner
        self._ranks = ranks
        self._step = step
        self._seconds = min(seconds, FAR_S / 2)
        self._renewed = 0.0
        self._lost: float | None = None

    def __enter__(self) -> "Lease":
        """Takes it. Raises Leased, on every rank, where another has it."""
        if self._ranks.first:
            self._look(self._step)
        if (lost := self._ranks.broadcast(self._lost)) is not None:
            raise Leased(self._stage, lost)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ranks.first or self._lost is not None:
            return
        try:
            if held_until(self._store, self._stage, self._owner) is None:
                self._store.objects.delete(lease_path(self._store, self._stage))
        except OSError as error:
            log.warning("the lease of stage %s cannot be removed, and expires by itself: %s", self._stage, error)

    def lost(self, step: int) -> float | None:
        """Renews the lease when it is time to; when another has taken it, the time when that one's expires.

        For every step: it costs nothing but in one of them each third of the lease's life.
        """
        if self._ranks.first and self._lost is None and time.monotonic() - self._renewed > self._seconds / 3:
            self._look(step)
        if self._ranks.world_size > 1 and step % ASK_EVERY:
            return None  # every rank must leave at the same step, and a broadcast in each would cost
        found: float | None = self._ranks.broadcast(self._lost)
        return found

    def _look(self, step: int) -> None:
        """Writes the lease, unless another's is there."""
        self._renewed = time.monotonic()
        self._lost = held_until(self._store, self._stage, self._owner)
        if self._lost is None:
            terms = {"owner": self._owner, "expires": time.time() + self._seconds, "step": step}
            try:
                self._store.objects.write_json(lease_path(self._store, self._stage), terms)
            except StoreError as error:
                log.warning("stage %s is trained without a lease: %s", self._stage, error)
