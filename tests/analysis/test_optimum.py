"""optimum: a distribution that holds the true best value, and says when the curve is flat."""

import numpy as np
import pytest

from analysis.optimum import Optimum, optimum
from analysis.posterior import posterior
from tests.analysis.simulated import Scores, mixed, real, simulate, table_of, tuned
from trainables.recipe import Recipe

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)


def peaked(at: float, height: float) -> dict[Recipe, float]:
    return {mixed(f, s): 0.6 + 0.02 * np.log(f) - height * (s - at) ** 2 for f in (0.5, 1.0) for s in SHARES}


def found(key: int, height: float, at: float = 0.5, **noise: float) -> tuple[Optimum, float]:
    """The optimum that is said, and the true one: the share of the recipe that really is the best."""
    made = simulate(np.random.Generator(np.random.Philox(key=key)), peaked(at, height), **noise)
    said = optimum(posterior(made.table), "synthetic_share")
    assert said is not None
    best = made.recipes[int(made.means.argmax())].synthetic_share
    assert isinstance(best, float)
    return said, best


def test_the_interval_holds_the_true_optimum_as_often_as_it_says() -> None:
    held = []
    for key in range(60):
        said, true = found(key, height=0.1, at=0.5)
        held.append(said.low <= true <= said.high)
    assert np.mean(held) >= 0.83  # 0.9 less two standard errors; steps of the axis can only widen it


def test_a_peak_is_found_and_a_flat_curve_is_called_flat() -> None:
    sharp, _ = found(3, height=1.0, recipe=0.001, residual=0.004)
    assert (sharp.median, sharp.low, sharp.high) == (0.5, 0.5, 0.5)
    assert not sharp.flat
    assert str(sharp) == "synthetic share: best at 0.5, 90% sure, of 5 values tried"
    flat, _ = found(3, height=0.0, recipe=0.002, residual=0.02)
    assert flat.flat
    assert str(flat).startswith("synthetic share: the curve is flat as far as these runs tell; the best may be")
    assert sum(flat.probabilities.values()) == pytest.approx(1)
    assert tuple(flat.probabilities) == SHARES


def test_the_optimum_at_the_edge_of_what_was_tried_may_lie_beyond() -> None:
    said, _ = found(4, height=0.5, at=1.0, recipe=0.001, residual=0.003)
    assert said.median == 0.9
    assert str(said).endswith("it is the highest tried, so the best may lie beyond")


def test_the_synthetic_count_at_a_given_number_of_labels() -> None:
    scores: Scores = {}
    for fraction, best in ((0.1, 1.0), (1.0, 0.25)):
        for synthetic in (0.25, 0.5, 1.0):
            recipe = Recipe.from_params(mixed(fraction).params() | {"synthetic_fraction": synthetic})
            score = 0.5 + 0.1 * fraction - 0.1 * abs(np.log(synthetic / best))
            scores[recipe] = [score, score + 0.001, score - 0.001]
    beliefs = posterior(table_of(scores))
    few, many = optimum(beliefs, "num_synthetic", labels=100), optimum(beliefs, "num_synthetic", labels=1000)
    assert few is not None
    assert many is not None
    assert (few.median, many.median) == (4000, 1000)
    assert str(few).startswith("number of synthetic images at 100 labels: best at 4,000")
    assert optimum(beliefs, "num_synthetic", labels=77) is None


def test_recipes_without_a_share_are_not_on_its_axis_and_one_value_has_no_optimum() -> None:
    alone = posterior(table_of({tuned(0.1): [0.5, 0.5, 0.6], tuned(1.0): [0.7, 0.7, 0.8]}))
    assert optimum(alone, "synthetic_share") is None
    both = posterior(
        table_of({real(1.0): [0.5, 0.5, 0.6], mixed(1.0, 0.5): [0.7, 0.7, 0.8], tuned(1.0): [0.9, 0.9, 0.9]})
    )
    said = optimum(both, "synthetic_share")
    assert said is not None
    assert set(said.probabilities) == {0.0, 0.5}
    assert said.num_recipes == 2
