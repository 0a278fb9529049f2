"""The finals: recipes that reached the last rung, and which of them should get a further seed."""

import math
from collections.abc import Mapping

from search.entry import Entry
from search.race import contenders


class Finals:
    """See the module. Recipes that have ended stay in it as rivals.

    sign        1 where the objective is to be large, -1 where it is to be small
    against     the costs that are to be small too
    replicates  seeds that a contender gets at most
    """

    def __init__(self, sign: float, against: tuple[str, ...], replicates: int) -> None:
        self._sign = sign
        self._against = against
        self._replicates = replicates
        self._entries: dict[int, Entry] = {}
        self._settled: set[tuple[int, int]] | None = None  # the seeds that were there when nobody needed more

    def enter(self, entry: Entry) -> None:
        """A recipe with a value at the last rung; again changes nothing."""
        self._entries[entry.number] = entry

    def next(self, able: Mapping[int, Entry]) -> list[Entry]:
        """Those of the recipes `able` that are contenders and have no seed out, fewest seeds first, then the best."""
        there = {(number, r) for number, entry in self._entries.items() for r in {*entry.finished, *entry.failed}}
        if there == self._settled:
            return []
        values = {n: {r: self._sign * v for r, v in entry.seeds.items()} for n, entry in self._entries.items()}
        finite = {n: seeds for n, seeds in values.items() if all(map(math.isfinite, seeds.values()))}
        alive = contenders(finite, self._may_beat)
        waiting = [entry for n in alive if (entry := able.get(n)) is not None and self._needs_seed(entry)]
        if not waiting:
            self._settled = there
        return sorted(waiting, key=lambda e: (e.issued, -self._sign * (e.final() or 0.0), e.number))

    def _needs_seed(self, entry: Entry) -> bool:
        at_rest = entry.issued == len(entry.finished) + len(entry.failed)
        return at_rest and entry.issued < self._replicates

    def _may_beat(self, number: int, rival: int) -> bool:
        """A feasible recipe may beat those that cost no less in anything that is to be small."""
        mine, other = self._entries[number], self._entries[rival]
        return other.feasible and all(other.costs[name] <= mine.costs[name] for name in self._against)
