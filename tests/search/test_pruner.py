"""The pruner's rules and the race, against their definitions."""

import math
from statistics import fmean, median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.budget import PrunerConfig
from search.pruner import Pruner
from search.race import contenders, residual_spread

CURVES = st.dictionaries(
    st.integers(0, 60), st.lists(st.floats(-1, 1), min_size=2, max_size=2), min_size=1, max_size=30
)


@given(CURVES, st.integers(2, 4))
def test_successive_halving_lets_one_of_factor_go_on(curves: dict[int, list[float]], factor: int) -> None:
    passed = Pruner(PrunerConfig(kind="asha", factor=factor), 3).going_on(1, curves)
    assert len(passed) == len(curves) // factor
    assert all(curves[p][-1] >= curves[n][-1] for p in passed for n in curves.keys() - passed)


@given(CURVES)
def test_the_median_rule_is_that_of_its_paper(curves: dict[int, list[float]]) -> None:
    passed = Pruner(PrunerConfig(kind="median", startup=5), 3).going_on(1, curves)
    middle = median(fmean(curve) for curve in curves.values())
    assert passed == ({n for n, c in curves.items() if max(c) >= middle} if len(curves) >= 5 else set(curves))


def test_a_value_that_is_no_number_never_goes_on() -> None:
    curves = {0: [math.nan], 1: [math.nan], 2: [0.1], 3: [0.2]}
    assert Pruner(PrunerConfig(kind="asha", factor=2), 2).going_on(0, curves) == {3}
    assert Pruner(PrunerConfig(kind="asha", factor=2), 2).going_on(0, {0: [math.nan], 1: [math.nan]}) == set()
    assert Pruner(PrunerConfig(kind="median", startup=2), 2).going_on(0, curves) == {3}


def test_hyperband_spares_each_bracket_at_its_first_rungs_and_halves_within_it() -> None:
    pruner = Pruner(PrunerConfig(kind="hyperband", factor=3), 4)
    brackets = [pruner.bracket(number) for number in range(4000)]
    # Hyperband with R / r = 27: brackets of 27, 9 (12 by its rounding), 6 and 4 configurations, here by their shares
    shares = np.array([27 / 4, 9 / 3, 3 / 2, 1])
    assert np.bincount(brackets) / 4000 == pytest.approx(shares / shares.sum(), abs=0.002)
    curves = {number: [float(number)] for number in range(400)}
    passed = pruner.going_on(1, curves)
    for bracket in range(4):
        mine = [n for n in curves if pruner.bracket(n) == bracket]
        expected = mine if bracket > 1 else sorted(mine)[len(mine) - len(mine) // 3 :]
        assert sorted(passed & set(mine)) == expected


def test_nothing_is_left_behind_without_a_pruner_or_a_second_rung() -> None:
    assert not Pruner(PrunerConfig(kind="none"), 3).active
    assert not Pruner(PrunerConfig(kind="asha"), 1).active


def race_of(means: list[float], seeds: int, *, spread: float, noise: float, seed: int) -> dict[int, dict[int, float]]:
    rng = np.random.Generator(np.random.Philox(key=seed))
    shared = rng.normal(0, noise, seeds)  # what a seed does to every recipe alike
    return {n: {r: m + shared[r] + rng.normal(0, spread) for r in range(seeds)} for n, m in enumerate(means)}


def test_the_spread_is_what_is_left_beside_recipes_and_seeds() -> None:
    estimates = [residual_spread(race_of([0, 1, 2, 3], 3, spread=0.1, noise=2.0, seed=s)) for s in range(300)]
    found = [one for one in estimates if one is not None]
    assert {freedom for _, freedom in found} == {6}  # (4 - 1) x (3 - 1)
    assert np.mean([deviation**2 for deviation, _ in found]) == pytest.approx(0.01, rel=0.15)
    assert residual_spread({0: {0: 1.0}, 1: {0: 2.0}}) is None
    assert residual_spread({0: {0: 1.0, 1: 2.0}, 1: {0: 2.0}}) is None


def test_a_contender_is_dropped_as_often_as_the_confidence_says() -> None:
    """Two equal recipes beside two clear losers: each of the two is called worse in one of ten races."""
    dropped = losers = 0
    for seed in range(600):
        values = race_of([0.5, 0.5, 0.0, 0.0], 3, spread=0.05, noise=0.3, seed=seed)
        alive = contenders(values)
        dropped += 0 not in alive
        losers += len(alive & {2, 3})
    assert dropped / 600 == pytest.approx(0.1, abs=0.035)
    assert losers == 0


def test_before_a_spread_is_known_the_best_few_get_a_second_seed() -> None:
    values = {n: {0: float(n)} for n in range(16)}
    assert contenders(values) == {12, 13, 14, 15}
    assert contenders({0: {0: 1.0}}) == {0}
