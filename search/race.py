"""The race: which recipes are still contenders, so that further seeds go to them and not to clear losers.

Replicate r seeds every recipe alike, so recipes are compared by their differences over the seeds that both have. A
recipe with two seeds tells little of its own spread, all recipes together tell enough: their values are a table of
recipes and seeds, and what is left of it beside the effects of its rows and columns is the spread of one value.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

CONFIDENCE = 0.9  # one-sided: a loser is worse than a rival with this probability

Values = Mapping[int, Mapping[int, float]]  # recipe -> replicate -> value, greater being better


def contenders(values: Values, rivals: Callable[[int], Iterable[int]]) -> set[int]:
    """The recipes that are not clearly worse than any of their rivals.

    While no spread can be told (not two recipes with two seeds) they are the best few, the square root of the number
    of recipes and at least two, by their means.
    """
    means = {number: float(np.mean(list(seeds.values()))) for number, seeds in values.items() if seeds}
    spread = residual_spread(values)
    if spread is None:
        best = sorted(means, key=lambda number: (-means[number], number))
        return set(best[: max(2, math.isqrt(len(best)))])
    from scipy import stats

    deviation, freedom = spread
    quantile = float(stats.t.ppf(CONFIDENCE, freedom))

    def loses(number: int, rival: int) -> bool:
        common = values[number].keys() & values[rival].keys()
        if not common:
            return False
        behind = float(np.mean([values[rival][seed] - values[number][seed] for seed in common]))
        return behind > quantile * deviation * math.sqrt(2 / len(common))

    return {number for number in means if not any(loses(number, rival) for rival in rivals(number) if rival in means)}


def residual_spread(values: Values) -> tuple[float, int] | None:
    """(standard deviation, degrees of freedom) of one value beside the effects of its recipe and its seed.

    Least squares of value = recipe + seed over the recipes with several seeds; None without a degree of freedom.
    """
    cells = [(n, r, v) for n, seeds in values.items() if len(seeds) > 1 for r, v in seeds.items()]
    if not cells:
        return None
    recipes = {n: k for k, n in enumerate(sorted({n for n, _, _ in cells}))}
    seeds = {r: k for k, r in enumerate(sorted({r for _, r, _ in cells}))}
    design = np.zeros((len(cells), len(recipes) + len(seeds)))
    for row, (n, r, _) in enumerate(cells):
        design[row, recipes[n]] = design[row, len(recipes) + seeds[r]] = 1
    target = np.array([v for _, _, v in cells])
    fit, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    freedom = len(cells) - int(rank)
    if freedom < 1:
        return None
    return float(np.sqrt(np.sum((target - design @ fit) ** 2) / freedom)), freedom
