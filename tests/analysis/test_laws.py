"""Laws: what is simulated from a law is found again, what is not known is said, and nothing is drawn by chance.

The truths are laws of counts and errors written down here, with noise that is drawn from known generators.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import Row, Table
from analysis.calibration import Calibration
from analysis.laws import LEAST_CELLS, MOST_CELLS, Law, fit, law_of, no_change
from trainables.recipe import Recipe

Floats = NDArray[np.float64]

IMAGENET = Path(__file__).resolve().parents[3] / "shared" / "data" / "laws" / "mikami_imagenet_r50.csv"
REAL = np.array([250.0, 500, 1000, 2000, 4000, 8000])
SYNTHETIC = np.array([0.0, 500, 2000, 8000, 32000])


def grid(real: Floats = REAL, synthetic: Floats = SYNTHETIC) -> tuple[Floats, Floats]:
    n, s = np.meshgrid(real, synthetic, indexing="ij")
    return n.ravel(), s.ravel()


def effective(n: Floats, s: Floats, k: float = 2.0) -> Floats:
    """0.05 + 6 (n + k s^0.6)^-0.45: from 0.55 to 0.15 on the grid."""
    error: Floats = 0.05 + 6 * (n + k * s**0.6) ** -0.45
    return error


def gap(n: Floats, s: Floats) -> Floats:
    """Mikami's: what renders bring is bounded."""
    error: Floats = 0.03 + 4 * (n + 50) ** -0.4 * (0.7 + 0.3 * (1 + s / 1000) ** -0.8)
    return error


def noisy(error: Floats, noise: float, seed: int) -> Floats:
    rng = np.random.Generator(np.random.Philox(key=seed))
    moved: Floats = error * np.exp(noise * rng.normal(size=error.shape))
    return moved


@pytest.mark.parametrize("truth", [effective, gap])
def test_a_law_without_noise_is_found_between_its_cells_and_beyond_them(truth: object) -> None:
    assert callable(truth)
    n, s = grid()
    law = fit(n, s, truth(n, s))
    within = np.array([350.0, 1500, 6000]), np.array([1000.0, 4000, 16000])
    assert law.predict(*within) == pytest.approx(truth(*within), rel=0.005)
    beyond = np.array([16000.0, 8000]), np.array([0.0, 64000])
    assert law.predict(*beyond) == pytest.approx(truth(*beyond), rel=0.03)
    assert law.relative_error < 0.01 < law.baseline


def test_intervals_are_ordered_hold_the_median_and_grow_with_coverage_and_away_from_the_data() -> None:
    n, s = grid()
    law = fit(n, s, noisy(effective(n, s), 0.02, 1))
    at = [1500.0, 8000 * 32], [4000.0, 4000]
    (low, high), (narrow_low, narrow_high) = law.interval(*at), law.interval(*at, coverage=0.5)
    assert np.all((low < narrow_low) & (narrow_low < law.predict(*at)))
    assert np.all((law.predict(*at) < narrow_high) & (narrow_high < high))
    assert np.log(high / low)[1] > 2 * np.log(high / low)[0]
    with pytest.raises(ValueError, match="coverage"):
        law.interval(*at, coverage=1.0)


def test_a_draw_is_one_function_however_it_is_asked() -> None:
    n, s = grid()
    law = fit(n, s, noisy(effective(n, s), 0.02, 2))
    whole = law.draws([300, 700, 9000], [100, 0, 5000])
    assert whole.shape[1] == 3
    np.testing.assert_allclose(law.draws([9000], 5000), whole[:, 2:], rtol=1e-12)
    assert np.median(whole, axis=0) == pytest.approx(law.predict([300, 700, 9000], [100, 0, 5000]))


def test_the_same_runs_in_any_order_give_the_same_law_bit_for_bit() -> None:
    n, s = grid()
    e = noisy(effective(n, s), 0.02, 3)
    order = np.random.Generator(np.random.Philox(key=1)).permutation(len(n))
    one, other = fit(n, s, e), fit(n[order], s[order], e[order])
    np.testing.assert_array_equal(one.draws(n, s), other.draws(n, s))
    assert not np.array_equal(one.draws(n, s), fit(n, s, e, seed=1).draws(n, s))
    assert fit(n, s, e, seed=1).predict(n, s) == pytest.approx(one.predict(n, s), rel=0.01)


def test_errors_in_other_units_give_the_same_law() -> None:
    n, s = grid()
    e = noisy(effective(n, s), 0.02, 4)
    one, other = fit(n, s, e), fit(n * 37, s * 11, e * 100)
    assert other.predict(n * 37, s * 11) == pytest.approx(100 * one.predict(n, s), rel=1e-3)


def test_only_real_and_only_synthetic_images_are_cells_like_others() -> None:
    n, s = grid(np.array([0.0, *REAL]))
    some = n + s > 0
    n, s = n[some], s[some]
    law = fit(n, s, noisy(effective(n, s), 0.01, 5))
    at = np.array([0.0, 0, 3000]), np.array([4000.0, 16000, 0])
    assert law.predict(*at) == pytest.approx(effective(*at), rel=0.06)


def test_a_law_of_real_images_alone() -> None:
    n = np.geomspace(200, 20000, 10)
    law = fit(n, 0 * n, effective(n, 0 * n))
    assert law.predict([40000.0], [0.0]) == pytest.approx(effective(np.array([40000.0]), np.array([0.0])), rel=0.04)


def test_replicates_tell_the_noise() -> None:
    """Three runs of each cell that differ by 5%: the interval of one run is about ±1.645 x 5%, of the mean less."""
    n, s = grid()
    n, s = np.tile(n, 3), np.tile(s, 3)
    law = fit(n, s, noisy(effective(n, s), 0.05, 6))
    assert len(law.real) == len(REAL) * len(SYNTHETIC)
    low, high = law.interval([1000.0], [2000.0])
    assert 0.5 * np.log(high / low)[0] == pytest.approx(1.645 * 0.05, rel=0.3)
    draws = np.log(law.draws([1000.0], [2000.0]))
    assert np.std(draws) < 0.03


def test_methods_share_the_law_of_real_images_and_have_a_worth_of_their_own() -> None:
    n, s = grid()
    n, s = np.tile(n, 2), np.tile(s, 2)
    names = ["mixed"] * 30 + ["finetune"] * 30
    truth = np.concatenate([effective(n[:30], s[:30], 0.5), effective(n[30:], s[30:], 6.0)])
    law = fit(n, s, noisy(truth, 0.01, 7), names)
    assert law.groups == ("finetune", "mixed")
    at = np.array([500.0, 2000]), np.array([8000.0, 8000])
    assert law.predict(*at, "mixed") == pytest.approx(effective(*at, 0.5), rel=0.03)
    assert law.predict(*at, "finetune") == pytest.approx(effective(*at, 6.0), rel=0.03)
    np.testing.assert_array_equal(law.predict(at[0], 0, "mixed"), law.predict(at[0], 0))
    with pytest.raises(ValueError, match="group must be one of 'finetune', 'mixed', but got 'real_bn'"):
        law.predict(*at, "real_bn")
    with pytest.raises(ValueError, match="group must be one of"):
        law.predict(*at)


def test_a_method_with_three_cells_borrows_from_the_others() -> None:
    n, s = grid()
    few = np.array([500.0, 2000, 8000]), np.array([8000.0, 8000, 8000])
    names = ["mixed"] * 30 + ["finetune"] * 3
    n, s = np.concatenate([n, few[0]]), np.concatenate([s, few[1]])
    truth = np.concatenate([effective(n[:30], s[:30]), effective(*few, 4.0)])
    law = fit(n, s, noisy(truth, 0.01, 8), names)
    at = np.array([1000.0, 4000]), np.array([2000.0, 32000])
    assert law.predict(*at, "finetune") == pytest.approx(effective(*at, 4.0), rel=0.06)


def test_a_flat_curve_gives_a_flat_law() -> None:
    n, s = grid()
    held = []
    for seed in range(10):
        law = fit(n, s, noisy(0.3 + 0 * n, 0.01, seed))
        assert law.predict(n, s) == pytest.approx(np.full(len(n), 0.3), rel=0.02)
        low, high = law.interval([32000.0], [0.0])
        held.append(low[0] < 0.3 < high[0])
    assert sum(held) >= 7, "of a binomial of 10 at 90%, 7 or more have probability 0.99"


def test_errors_near_one_and_near_zero() -> None:
    n, s = grid()
    high = 1 - 0.001 * np.log1p((n + s / 10) / 100)
    assert fit(n, s, high).predict(n, s) == pytest.approx(high, rel=1e-3)
    low = 1e-5 * effective(n, s)
    assert fit(n, s, low).predict(n, s) == pytest.approx(low, rel=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"error": np.nan}, "error must be finite and positive, but got nan at cell 3"),
        ({"error": 0.0}, "error must be finite and positive, but got 0.0 at cell 3"),
        ({"real": -1.0}, "real must be finite counts, 0 or more, but got -1.0"),
        ({"synthetic": np.inf}, "synthetic must be finite counts, 0 or more, but got inf"),
    ],
)
def test_values_that_are_none_are_refused(change: dict[str, float], message: str) -> None:
    n, s = grid()
    columns = {"real": n, "synthetic": s, "error": effective(n, s)}
    for name, value in change.items():
        columns[name][3] = value
    with pytest.raises(ValueError, match=message):
        fit(**columns)


def test_too_few_cells_are_refused_in_words() -> None:
    n, s = grid()
    e = effective(n, s)
    few = LEAST_CELLS - 1
    with pytest.raises(ValueError, match=f"needs {LEAST_CELLS} different cells .* or more, but got {few}"):
        fit(np.tile(n[:few], 4), np.tile(s[:few], 4), np.tile(e[:few], 4))
    with pytest.raises(ValueError, match="two different real counts"):
        fit(np.full(30, 500.0), np.tile([0.0, 100], 15), e, [f"method {i % 15}" for i in range(30)])
    with pytest.raises(ValueError, match="must be as long, but got 30, 30, 29, 30"):
        fit(n, s, e[1:])
    law = fit(n[:LEAST_CELLS], s[:LEAST_CELLS], e[:LEAST_CELLS])
    assert np.isfinite(law.predict(n, s)).all()


def test_more_cells_than_can_be_fitted_are_thinned_evenly() -> None:
    n, s = grid(np.geomspace(100, 10000, 20), np.concatenate([[0], np.geomspace(100, 10000, 14)]))
    law = fit(n, s, effective(n, s))
    assert len(law.real) == MOST_CELLS
    assert (law.real.min(), law.real.max()) == (n.min(), n.max())


def test_no_change_is_the_nearest_cell_on_a_log_scale() -> None:
    n, s, e = np.array([100.0, 1000, 1000]), np.array([0.0, 0, 400]), np.array([0.5, 0.3, 0.2])
    assert no_change(n, s, e, np.array([200.0, 400, 9000]), np.array([0.0, 0, 3000])).tolist() == [0.5, 0.3, 0.2]


def test_the_conformal_multiple_is_the_quantile_that_counts_the_new_cell() -> None:
    scores = np.array([0.1, -0.2, 0.3, -0.4, 0.5, 0.6, -0.7, 0.8, 3.0])
    found = Calibration(scores, scores)
    assert found.multiple(0.8) == 0.8  # the 8th of 9, 0.8 x 10
    assert found.multiple(0.9) == 3.0
    assert found.multiple(0.95) > 3.0
    assert found.coverage == pytest.approx(8 / 9)


def simulated(seed: int) -> tuple[Law, Floats, Floats, Floats]:
    """A law with 12 cells, and as many others with their own noise."""
    n, s = grid()
    e = noisy(effective(n, s), 0.02, 1000 + seed)
    chosen = np.random.Generator(np.random.Philox(key=seed)).permutation(len(n))
    train, test = chosen[:12], chosen[12:]
    return fit(n[train], s[train], e[train]), n[test], s[test], e[test]


def covered(count: int) -> float:
    """How many of the unseen cells lie in their 90% intervals, over simulations."""
    inside = []
    for seed in range(count):
        law, n, s, e = simulated(seed)
        low, high = law.interval(n, s)
        inside.append(np.mean((low <= e) & (e <= high)))
    return float(np.mean(inside))


def test_intervals_from_twelve_cells_cover_what_they_say() -> None:
    """Ten simulations of 18 cells each; over more the rate is 0.9 ± 0.02, and of ten alone it strays by 0.05."""
    assert 0.78 <= covered(10) <= 0.99


@pytest.mark.skipif(not IMAGENET.is_file(), reason="needs shared/data/laws/mikami_imagenet_r50.csv")
def test_the_law_of_imagenet_beats_no_change_on_cells_left_out_and_when_extrapolating() -> None:
    n, s, e = np.loadtxt(IMAGENET, delimiter=",", skiprows=1).T
    law = fit(n, s, e)
    assert law.relative_error < 0.007 < law.baseline
    assert 0.85 <= law.coverage <= 0.95
    for trained, most in ((n < 0.2 * n.max(), 0.0171), (s <= 16000, 0.0098)):
        found = fit(n[trained], s[trained], e[trained]).predict(n[~trained], s[~trained])
        assert np.mean(np.abs(found - e[~trained]) / e[~trained]) < most


def recipe(fraction: float | None, renders: float | None, adaptation: str = "none", lr: float = 0.01) -> Recipe:
    if renders is None:
        return Recipe(schedule="real_only", real_fraction=fraction, lr=lr)
    if fraction is None:
        return Recipe(schedule="synthetic_only", synthetic_fraction=renders, lr=lr)
    return Recipe.model_validate(
        {
            "schedule": "mixed",
            "adaptation": adaptation,
            "real_fraction": fraction,
            "synthetic_fraction": renders,
            "synthetic_share": "natural",
            "lr": lr,
        }
    )


def table(recipes: list[Recipe], score: float = 1.0, metric: str = "val/miou", mode: str = "max") -> Table:
    """Two replicates of each; the metric is `score` times the accuracy of the effective law."""
    rows = []
    for number, tried in enumerate(recipes):
        n = None if tried.real_fraction is None else round(8000 * tried.real_fraction)
        s = None if tried.synthetic_fraction is None else round(32000 * tried.synthetic_fraction)
        error = float(effective(np.array([n or 0.0]), np.array([s or 0.0]))[0]) + (tried.lr - 0.01)
        for seed in range(2):
            value = score * (1 - error - 0.001 * seed) if mode == "max" else error + 0.001 * seed
            rows.append(
                Row(
                    f"{number}-{seed}",
                    tried,
                    seed,
                    number,
                    "finished",
                    9,
                    {metric: value, "test/far/miou": value - 0.1},
                    num_real_labels=n,
                    num_synthetic=s,
                )
            )
    return Table("faces", metric, "min" if mode == "min" else "max", 2, tuple(rows))


FRACTIONS = (0.0625, 0.25, 1.0)
RECIPES = [
    *(recipe(fraction, renders) for fraction in FRACTIONS for renders in (None, 0.25, 1.0)),
    *(recipe(None, renders) for renders in (0.25, 1.0)),
]


def test_a_search_gives_its_law_by_method_from_the_best_recipe_of_each_cell() -> None:
    worse = recipe(1.0, 1.0, lr=0.05)
    law = law_of(table([*RECIPES, worse]))
    assert law.groups == ("mixed", "synthetic_only")
    assert len(law.real) == len(RECIPES)
    np.testing.assert_array_equal(np.unique(law.real), [0, 500, 2000, 8000])
    assert law.predict([8000], [32000], "mixed") == pytest.approx(
        effective(np.array([8000.0]), np.array([32000.0])), rel=0.02
    )
    far = law_of(table(RECIPES), "test/far/miou")
    assert far.predict([8000], [0])[0] == pytest.approx(law.predict([8000], [0])[0] + 0.1, rel=0.02)


def test_a_metric_to_be_minimised_is_an_error_as_it_is() -> None:
    law = law_of(table(RECIPES, metric="val/nme", mode="min"))
    assert law.predict([2000], [0])[0] == pytest.approx(effective(np.array([2000.0]), np.array([0.0]))[0], rel=0.02)


def test_a_search_without_a_law_says_why() -> None:
    with pytest.raises(ValueError, match=r"no law of val/miou: a law needs 6 different cells .*, but got 3"):
        law_of(table(RECIPES[:3]))
    with pytest.raises(ValueError, match="no law of val/miou: no finished trial has it"):
        law_of(table([]))
    with pytest.raises(ValueError, match=r"no law of val/psnr: a metric to be maximised must lie in \[0, 1\]"):
        law_of(table(RECIPES, score=40.0, metric="val/psnr"))
