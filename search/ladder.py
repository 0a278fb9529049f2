"""The ladder: what every recipe measured at each rung, and which of them may go on from it."""

import math

import numpy as np

from search.budget import PrunerConfig
from search.entry import Entry
from search.pruner import Curve, Pruner


class Ladder:
    """The rungs of a search.

    sign     1 where the objective is to be large, -1 where it is to be small
    against  the costs that are to be small too
    """

    def __init__(self, config: PrunerConfig, rungs: int, sign: float, against: tuple[str, ...]) -> None:
        self._pruner = Pruner(config, rungs)
        self._sign = sign
        self._against = against
        self._values: list[dict[int, Curve]] = [{} for _ in range(rungs)]
        self._costs: dict[int, list[float]] = {}

    @property
    def active(self) -> bool:
        """Whether a recipe may be left behind at all."""
        return self._pruner.active

    def reach(self, entry: Entry, level: int) -> None:
        """Notes that a recipe reached the rung of this index, with what it reported up to there."""
        steps = entry.rungs[: level + 1]
        self._values[level][entry.number] = [self._sign * entry.reported[s] for s in steps if s in entry.reported]
        self._costs[entry.number] = [entry.costs[name] for name in self._against]

    def going_on(self, level: int) -> list[int]:
        """The recipes that may go on from a rung, by number."""
        return sorted(self._pruner.going_on(level, self._curves(level)))

    def best(self, level: int, numbers: set[int]) -> int | None:
        """The best of some recipes at a rung; None where none has a value."""
        curves = {n: curve for n, curve in self._curves(level).items() if n in numbers and curve[-1] > -math.inf}
        return max(curves, key=lambda number: (curves[number][-1], -number), default=None)

    def _curves(self, level: int) -> dict[int, Curve]:
        """What recipes are compared by: their values or, with several objectives, how many others are as good in all
        and better in one, less being better."""
        curves = self._values[level]
        if not self._against or not curves:
            return curves
        points = np.array([[curve[-1], *(-cost for cost in self._costs[n])] for n, curve in curves.items()])
        broken = np.isnan(points).any(1)
        dominates = (points[:, None] >= points[None]).all(-1) & (points[:, None] > points[None]).any(-1)
        ranks = np.where(broken, -np.inf, -dominates.sum(0).astype(float))
        return {number: [float(rank)] for number, rank in zip(curves, ranks, strict=True)}
