"""The standing: how many recipes ended in which way, and which are the best so far."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from optuna.trial import TrialState

from search.entry import Entry

BEST_SHOWN = 5
_NAMES = {TrialState.FAIL: "failed", TrialState.PRUNED: "pruned", TrialState.COMPLETE: "complete"}

Place = tuple[tuple[float, ...], str, int]  # the value and the costs, the recipe in words, the seeds behind the value


class Standing:
    """Of the recipes that ended.

    sign     1 where the objective is to be large, -1 where it is to be small
    against  the costs that are to be small too
    """

    def __init__(self, sign: float, against: tuple[str, ...]) -> None:
        self._sign = sign
        self._against = against
        self._counts: Counter[str] = Counter()
        self._places: list[Place] = []

    def ended(self, state: TrialState) -> None:
        self._counts[_NAMES[state]] += 1

    def place(self, value: float, entry: Entry, seeds: int) -> None:
        """A feasible recipe with a value."""
        costs = tuple(entry.costs[name] for name in self._against)
        self._places.append(((value, *costs), str(entry.recipe), seeds))

    @property
    def complete(self) -> int:
        return self._counts["complete"]

    def counts(self) -> dict[str, int]:
        """{"ended": 12, "failed": 1, "pruned": 7}"""
        return {"ended": self._counts.total(), **{name: self._counts[name] for name in ("failed", "pruned")}}

    def shown(self, racing: Iterable[Entry]) -> dict[str, Any]:
        """The best few, those with more seeds first; with several objectives also the Pareto front, by the metric.

        racing  recipes that have a value and may get more seeds
        """
        now = Standing(self._sign, self._against)
        now._places = list(self._places)
        for entry in racing:
            value = entry.final()
            if value is not None and value == value and entry.feasible:
                now.place(value, entry, len(entry.finished))
        places = sorted(now._places, key=lambda place: (-place[2], -self._sign * place[0][0]))
        shown: dict[str, Any] = {"best": [(values[0], recipe, seeds) for values, recipe, seeds in places[:BEST_SHOWN]]}
        return shown | ({"pareto": now._front()} if self._against else {})

    def _front(self) -> list[Place]:
        """The places that no other is as good as in everything and better than in something."""
        points = np.array([[self._sign * values[0], *(-cost for cost in values[1:])] for values, _, _ in self._places])
        if not len(points):
            return []
        dominates = (points[:, None] >= points[None]).all(-1) & (points[:, None] > points[None]).any(-1)
        front = [self._places[k] for k in np.flatnonzero(~dominates.any(0))]
        return sorted(front, key=lambda place: -self._sign * place[0][0])
