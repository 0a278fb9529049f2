"""The pruner: which recipes go on from a rung, by what all that reached it measured there.

Nothing here is final. A recipe that does not go on now is left behind with its checkpoint, and goes on later if it
turns out to be among those that should: the rules are asked anew with every value.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

from search.budget import PrunerConfig

# The values of a recipe at the rungs up to one of them, greater being better.
Curve = Sequence[float]


class Pruner:
    """The rule of a search for its rungs.

    asha       one of `factor` goes on, rounded down: asynchronous successive halving (Li et al., 2020), where the first
               recipe at a rung waits for company
    hyperband  the same in brackets, of Hyperband's sizes, that spare their recipes at the first 0, 1, 2 ... rungs
    median     those whose best value so far is at least the median over recipes of the mean value so far; all, until
               `startup` are there (Golovin et al., 2017)
    none       all
    """

    def __init__(self, config: PrunerConfig, rungs: int) -> None:
        self._config = config
        self._deciding = rungs - 1  # nothing is decided at the last rung
        self._brackets: dict[int, int] = {}

    @property
    def active(self) -> bool:
        """Whether it ever leaves a recipe behind."""
        return self._config.kind != "none" and self._deciding > 0

    def going_on(self, rung: int, curves: Mapping[int, Curve]) -> set[int]:
        """The recipes, by number, that may go on from the rung of this index (0 is the first). NaN never does.

        curves  of every recipe that reached the rung, with its value there last
        """
        curves = {number: curve for number, curve in curves.items() if not any(map(math.isnan, curve))}
        match self._config.kind:
            case "none":
                return set(curves)
            case "asha":
                return self._best(curves)
            case "hyperband":
                brackets = {number: self.bracket(number) for number in curves}
                passed = {number for number, bracket in brackets.items() if bracket > rung}
                for bracket in range(rung + 1):
                    passed |= self._best({n: curve for n, curve in curves.items() if brackets[n] == bracket})
                return passed
            case "median":
                if len(curves) < self._config.startup:
                    return set(curves)
                middle = median(fmean(curve) for curve in curves.values())
                return {number for number, curve in curves.items() if max(curve) >= middle}

    def bracket(self, number: int) -> int:
        """At how many rungs hyperband spares a recipe: of B + 1 brackets the one that spares at b rungs has a share of
        factor^s / (s + 1) of the recipes, s = B - b, spread evenly over their numbers."""
        if number not in self._brackets:
            self._brackets[number] = self._bracket(number)
        return self._brackets[number]

    def _bracket(self, number: int) -> int:
        if self._config.kind != "hyperband":
            return 0
        halvings = [self._deciding - bracket for bracket in range(self._deciding + 1)]
        shares = [self._config.factor**s / (s + 1) for s in halvings]
        place = number * (math.sqrt(5) - 1) / 2 % 1 * sum(shares)
        for bracket, share in enumerate(shares):
            place -= share
            if place < 0:
                return bracket
        return self._deciding

    def _best(self, curves: Mapping[int, Curve]) -> set[int]:
        order = sorted(curves, key=lambda number: (-curves[number][-1], number))
        return set(order[: len(order) // self._config.factor])
