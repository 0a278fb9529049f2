"""Eviction: which checkpoints a store can do without, the least recently used stages first.

Safe beside running searches: a checkpoint that disappears is trained again, to the same bits. What a running search
claims, what is being trained and what was used within a grace period is spared all the same. Evaluations and
descriptions always stay: they are tiny, and they are what makes a repeat free.
"""

import re
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from datasets.uri import reason
from trainables.census import THREADS, Census, Entry, Item, take_census
from trainables.objects import Objects, StoreError

GRACE_S = 600.0
LEFTOVER_S = 3600.0  # how long a file may be in the writing, by two clocks
_LEFTOVER = re.compile(r".+\.(damaged|[0-9a-f]{32}\.tmp)")  # set aside, or of a process that was killed in mid-write


@dataclass(frozen=True)
class Removal:
    """An object that goes. `last` where it is all that the stage had: training it on begins anew."""

    entry: Entry
    item: Item
    last: bool


@dataclass(frozen=True)
class Plan:
    """What is to be removed, in order, and the stages with checkpoints that are spared, each with the reason.

    before, after  bytes of checkpoints in the store; `after` is more than what was asked where too much is spared
    """

    removals: tuple[Removal, ...]
    spared: tuple[tuple[Entry, str], ...]
    before: int
    after: int


def plan(census: Census, max_bytes: int, *, needed: Collection[str] = (), grace_s: float = GRACE_S) -> Plan:
    """Chooses what goes until checkpoints fit into `max_bytes`: leftovers, then stage by stage the least recently used.

    Of a stage rolling checkpoints go before kept ones and rungs on the way before the last, so that one that need not
    go entirely can still be trained on from its end.

    needed   keys of stages, beside those that running searches claim
    grace_s  what was used in this time is spared
    """
    oldest = census.taken - grace_s
    spared, free = [], []
    for entry in (entry for entry in census.entries if entry.checkpoints):
        why = _why_spared(census, entry, needed, oldest)
        if why is not None:
            spared.append((entry, why))
        else:
            free.append(entry)
    order = [
        Removal(entry, item, last=False)
        for entry in census.entries
        for item in entry.items
        if _LEFTOVER.fullmatch(item.name) and item.modified < census.taken - LEFTOVER_S
    ]
    for entry in sorted(free, key=lambda entry: (entry.used, entry.division, entry.key)):
        order += [Removal(entry, item, last=item is entry.checkpoints[-1]) for item in entry.checkpoints]
    removals, left = [], census.bytes
    for removal in order:
        if left <= max_bytes:
            break
        removals.append(removal)
        left -= removal.item.bytes if removal.item.weighs else 0
    return Plan(tuple(removals), tuple(spared), census.bytes, left)


def gc(
    objects: Objects,
    max_bytes: int,
    *,
    needed: Collection[str] = (),
    grace_s: float = GRACE_S,
    removed: Callable[[Removal], None] = lambda removal: None,
) -> Plan:
    """Takes a census, plans and removes; and removes claims that have ended. Raises StoreError.

    removed  told of each object that went
    """
    census = take_census(objects)
    planned = plan(census, max_bytes, needed=needed, grace_s=grace_s)
    carry_out(objects, census, planned, removed)
    return planned


def carry_out(
    objects: Objects, census: Census, planned: Plan, removed: Callable[[Removal], None] = lambda removal: None
) -> None:
    """Removes what a plan names. What is gone already is no error. Raises StoreError."""
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            paths = [removal.item.path for removal in planned.removals]
            for removal, _ in zip(planned.removals, pool.map(objects.delete, paths), strict=True):
                removed(removal)
        for path in census.ended:
            objects.delete(path)
    except OSError as error:
        raise StoreError(
            f"{objects.root}: objects must be removable, but: {reason(error)}; allow this user to delete there"
        ) from None


def _why_spared(census: Census, entry: Entry, needed: Collection[str], oldest: float) -> str | None:
    if searches := census.searches(entry.key):
        return f"needed by {', '.join(searches)}"
    if entry.key in needed:
        return "needed"
    if entry.lease is not None:
        return "being trained"
    if entry.used > oldest:
        return f"used within {_duration(census.taken - oldest)}"
    return None


def _duration(seconds: float) -> str:
    return f"{seconds / 86400:g} days" if seconds >= 86400 else f"{seconds / 60:g} minutes"
