"""The race: which recipes are still contenders, so that further seeds go to them and not to clear losers.

Replicate r seeds every recipe alike, so recipes are compared by their differences over the seeds that both have. A
recipe with two seeds tells little of its own spread, all recipes together tell enough: their values are a table of
recipes and seeds, and what is left of it beside the effects of its rows and columns is the spread of one value.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

CONFIDENCE = 0.9  # one-sided: a loser is worse than a rival with this probability

Values = Mapping[int, Mapping[int, float]]  # recipe -> replicate -> value, greater being better


def contenders(values: Values, beats: Callable[[int, int], bool] | None = None) -> set[int]:
    """The recipes that are not clearly worse than any of their rivals.

    While no spread can be told (not two recipes with two seeds) they are the best few, the square root of the number
    of recipes and at least two, by their means.

    beats  whether a recipe (the second) may beat another (the first) at all; None: any may. All values are finite
    """
    numbers = sorted(number for number, seeds in values.items() if seeds)
    means = {number: float(np.mean(list(values[number].values()))) for number in numbers}
    spread = residual_spread(values)
    if spread is None:
        best = sorted(numbers, key=lambda number: (-means[number], number))
        return set(best[: max(2, math.isqrt(len(best)))])
    from scipy import stats

    deviation, freedom = spread
    quantile = float(stats.t.ppf(CONFIDENCE, freedom))
    seeds = sorted({seed for number in numbers for seed in values[number]})
    table = np.array([[values[number].get(seed, np.nan) for seed in seeds] for number in numbers])
    there = ~np.isnan(table)
    filled = np.where(there, table, 0.0)
    common = there.astype(float) @ there.T  # [recipe, rival]
    behind = there @ filled.T - filled @ there.T  # the sum over common seeds of what the rival has more
    with np.errstate(divide="ignore", invalid="ignore"):
        loses = behind / common > quantile * deviation * np.sqrt(2 / common)
    lost: set[int] = set()
    for k, m in zip(*np.nonzero(loses), strict=True):
        if numbers[k] not in lost and (beats is None or beats(numbers[k], numbers[m])):
            lost.add(numbers[k])
    return set(numbers) - lost


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
