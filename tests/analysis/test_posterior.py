"""posterior: probabilities that come true, against simulated truth and against dense algebra."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import analysis.posterior
from analysis.design import Design, design, first_rows, trunk_of
from analysis.effects import Covariance, Model, Scales
from analysis.posterior import Posterior, collapsed, posterior
from analysis.ranking import rank, scored
from tests.analysis.simulated import FRACTIONS, Scores, Simulated, mixed, real, simulate, table_of, tuned
from trainables.recipe import Recipe


def generator(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


@pytest.fixture(scope="module")
def close_race() -> list[tuple[Simulated, Posterior]]:
    """80 searches of 14 recipes on 3 seeds, in which the best are as near to each other as chance is wide."""
    found = []
    for key in range(80):
        rng = generator(key)
        means: dict[Recipe, float] = {real(f): 0.60 + 0.01 * math.log(f) for f in FRACTIONS}
        means |= {mixed(f, share): 0.61 + 0.008 * math.log(f) for f in (0.25, 0.5, 1.0) for share in (0.25, 0.5, 0.75)}
        made = simulate(rng, means, recipe=0.006)
        found.append((made, posterior(made.table)))
    return found


def test_the_probability_that_a_recipe_is_best_comes_true_as_often_as_it_says(
    close_race: list[tuple[Simulated, Posterior]],
) -> None:
    claimed, right = [], []
    for made, beliefs in close_race:
        claimed.append(beliefs.probability_best.max())
        right.append(beliefs.probability_best.argmax() == made.means.argmax())
    error = math.sqrt(float(np.mean(claimed)) * (1 - float(np.mean(claimed))) / len(claimed))
    assert 0.2 < np.mean(claimed) < 0.8, "a race that is neither lost nor won"
    assert abs(np.mean(claimed) - np.mean(right)) < 3 * error
    # Over all recipes: the quadratic score is what the probabilities themselves expect.
    brier = np.mean([((b.probability_best - (m.means == m.means.max())) ** 2).sum() for m, b in close_race])
    expected = np.mean([(b.probability_best * (1 - b.probability_best)).sum() for _, b in close_race])
    assert brier == pytest.approx(expected, rel=0.25)


def test_intervals_hold_the_truth_as_often_as_they_say(close_race: list[tuple[Simulated, Posterior]]) -> None:
    inside = []
    for made, beliefs in close_race:
        low, high = beliefs.interval(0.9)
        inside.append((low <= made.means) & (made.means <= high))
    assert 0.85 < np.mean(inside) < 0.95


def test_the_winners_curse_is_removed_on_average(close_race: list[tuple[Simulated, Posterior]]) -> None:
    raw, expected = [], []
    for made, beliefs in close_race:
        winner = rank(made.table)[0]
        i = beliefs.index(winner.recipe)
        raw.append(winner.mean - made.means[i])
        expected.append(beliefs.mean[i] - made.means[i])
    error = np.std(expected) / math.sqrt(len(expected))
    assert np.mean(raw) > 5 * error, "the raw mean of the best is too good"
    assert abs(np.mean(expected)) < 3 * error


def test_fine_tunes_that_share_a_trunk_are_not_taken_for_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(*args: object, **told: object) -> Design:
        made = design(*args, **told)  # type: ignore[arg-type]
        return replace(made, trunks=np.full_like(made.trunks, -1))

    claimed: dict[str, list[float]] = {"shared": [], "alone": []}
    right: dict[str, list[bool]] = {"shared": [], "alone": []}
    for key in range(60):
        rng = generator(1000 + key)
        better = 0.01 * rng.standard_normal()
        means: dict[Recipe, float] = {real(f, lr): 0.6 for f in (0.5, 1.0) for lr in (0.01, 0.02, 0.03)}
        means |= {tuned(f, lr): 0.6 + better for f in (0.5, 1.0) for lr in (0.01, 0.02, 0.03)}
        made = simulate(rng, means, recipe=0.002, luck=0.02, residual=0.004)
        truth = made.recipes[int(made.means.argmax())].schedule
        for how in ("shared", "alone"):
            with monkeypatch.context() as patch:
                if how == "alone":
                    patch.setattr(analysis.posterior, "design", alone)
                (best, _), probability = next(iter(posterior(made.table).probability_group_best.items()))
            claimed[how].append(probability)
            right[how].append(best == truth)
    margin = {how: float(np.mean(claimed[how]) - np.mean(right[how])) for how in claimed}
    assert margin["alone"] > 0.12, "as if each were a trial of its own: too sure"
    assert abs(margin["shared"]) < 0.12  # two standard errors of 60 at 0.7
    assert np.mean(claimed["shared"]) < np.mean(claimed["alone"]) - 0.1


def dense(model: Model, scales: Scales) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The covariance of the scores that are there, that of the recipes' means with them, and the means' own."""
    n, seeds = model.scores.shape
    made = model.design
    at = [(i, r) for i in range(n) for r in range(seeds) if model.there[i, r]]
    same = (made.trunks[:, None] == made.trunks[None]) & (made.trunks >= 0)[:, None]
    means = made.features @ np.diag(made.prior**2) @ made.features.T + scales.recipe**2 * (np.eye(n) + same)
    scores = np.array(
        [
            [
                means[i, j]
                + (r == s) * (3.0**2 + scales.luck**2 * same[i, j])
                + (i == j and r == s) * scales.residual**2
                for j, s in at
            ]
            for i, r in at
        ]
    )
    return scores, np.array([[means[i, j] for j, _ in at] for i in range(n)]), means


def small() -> Model:
    rng = generator(5)
    recipes = [real(0.1), real(1.0), tuned(0.1), tuned(1.0), tuned(1.0, pretrain=0.01), tuned(0.1, pretrain=0.01)]
    recipes += [mixed(0.1), tuned(0.5, steps=1000)]
    scores = rng.standard_normal((len(recipes), 3))
    scores[[0, 2, 2, 4], [1, 0, 1, 2]] = np.nan
    rows = table_of({recipe: [0.0] for recipe in recipes}).rows
    return Model(scores, design(rows))


def test_the_evidence_is_that_of_the_whole_covariance() -> None:
    model = small()
    assert sorted(model.design.trunks.tolist()) == [-1, -1, -1, 0, 0, 0, 1, 1]
    known = model.scores[model.there]
    differences = []
    for logs in ([-1.0, 0.5, 0.3], [-0.3, -1.0, 0.9], [0.2, 0.1, -2.0]):
        at = np.array(logs)
        scales = Scales(math.exp(at[0]), math.exp(at[0] + at[1]), math.exp(at[0] + at[2]))
        whole = float(stats.multivariate_normal(cov=dense(model, scales)[0]).logpdf(known))
        flat = replace(model, scores=np.where(model.there, 0.0, np.nan))
        # The prior of the scales and constants fall out of the difference from scores of zero.
        nothing = float(stats.multivariate_normal(cov=dense(model, scales)[0]).logpdf(np.zeros_like(known)))
        differences.append((model.posterior_density(at) - flat.posterior_density(at), whole - nothing))
    for ours, truth in differences:
        assert ours == pytest.approx(truth, rel=1e-8)
    first, second = np.array([-1.0, 0.5, 0.3]), np.array([-1.0, 0.5, -0.3])
    ours = flat.posterior_density(first) - flat.posterior_density(second)
    determinants = [
        np.linalg.slogdet(dense(model, Scales(math.exp(-1), math.exp(-0.5), math.exp(-1 + c)))[0])[1]
        for c in (0.3, -0.3)
    ]
    prior = [-2 * math.log1p(((c + 0.5) / 0.8) ** 2 / 3) for c in (0.3, -0.3)]
    assert ours == pytest.approx(prior[0] - prior[1] - 0.5 * (determinants[0] - determinants[1]), rel=1e-8)


def test_draws_have_the_mean_and_covariance_of_the_gaussian_conditional() -> None:
    model, scales = small(), Scales(0.4, 0.5, 0.6)
    scores, cross, means = dense(model, scales)
    gain = np.linalg.solve(scores, cross.T).T
    draws = Covariance(model, scales).draw(40_000, generator(6)).means(model.design)
    wanted = means - gain @ cross.T
    spread = np.sqrt(np.diag(wanted))
    np.testing.assert_allclose(draws.mean(axis=0), gain @ model.scores[model.there], atol=0.04 * spread.max())
    np.testing.assert_allclose(np.cov(draws.T) / np.outer(spread, spread), wanted / np.outer(spread, spread), atol=0.05)


def test_a_trunk_is_shared_where_the_store_shares_it() -> None:
    assert trunk_of(tuned(0.1)) == trunk_of(tuned(1.0, lr=0.1)) == trunk_of(tuned(0.5, method="real_bn"))
    assert trunk_of(tuned(0.1)) == trunk_of(tuned(0.1, steps=2000)), "a prefix"
    assert trunk_of(tuned(0.1)) != trunk_of(tuned(0.1, pretrain=0.01))
    assert trunk_of(tuned(0.1)) == trunk_of(Recipe(schedule="synthetic_only", synthetic_fraction=1.0, lr=0.03))
    assert trunk_of(real(0.1)) is None
    assert trunk_of(mixed(0.1)) != trunk_of(mixed(0.5)), "both stages read real images"
    fda = Recipe.from_params(tuned(0.1).params() | {"adaptation": "fda", "fda.beta": 0.01})
    assert trunk_of(fda) != trunk_of(tuned(0.1)), "its trunk reads translated images"


def test_one_seed_is_said_and_leaves_it_open_what_is_chance() -> None:
    rng = generator(7)
    made = simulate(rng, {mixed(f, s): 0.6 for f in FRACTIONS for s in (0.25, 0.5, 0.75)}, seeds=1, residual=0.02)
    beliefs = posterior(made.table)
    (limit,) = beliefs.limits
    assert limit.startswith("no recipe has two replicates")
    assert "not likely more than 0.02" in limit
    assert beliefs.probability_best.max() < 0.7
    assert posterior(simulate(rng, {mixed(f): 0.6 for f in FRACTIONS}).table).limits == ()


def test_it_is_deterministic_and_adds_up_to_one() -> None:
    made = simulate(generator(8), {real(f): 0.6 for f in FRACTIONS})
    first, second = posterior(made.table), posterior(made.table)
    np.testing.assert_array_equal(first.draws, second.draws)
    assert first.probability_best.sum() == pytest.approx(1)
    assert sum(first.probability_group_best.values()) == pytest.approx(1)


def test_where_less_is_better_the_lowest_is_probably_the_best() -> None:
    scores: Scores = {real(0.5): [0.10, 0.11, 0.12], real(1.0): [0.04, 0.05, 0.06]}
    beliefs = posterior(table_of(scores, mode="min"))
    assert beliefs.probability_best[1] > 0.9
    assert beliefs.mean[1] == pytest.approx(0.05, abs=0.01)


def test_a_training_that_collapsed_is_in_no_regression_and_cannot_be_the_best() -> None:
    scores: Scores = {
        real(1.0, lr): [0.6 + 0.01 * i, 0.61 + 0.01 * i]
        for i, lr in enumerate((0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07))
    }
    scores[real(1.0, 1.0)] = [0.01, 0.02]
    beliefs = posterior(table_of(scores, seeds=2))
    assert beliefs.pooled.tolist() == [True] * 7 + [False]
    assert beliefs.probability_best[-1] == 0
    assert beliefs.mean[-1] == pytest.approx(0.015, abs=0.005)
    assert "1 of 8 recipes are far below the others and are in no regression" in beliefs.limits
    assert not collapsed(np.array([0.0, 0.6, 0.6, 0.6])).any(), "of few recipes none is called so"


def test_equal_scores_single_recipes_and_gaps_are_no_error() -> None:
    same: Scores = {real(f): [0.5, 0.5, 0.5] for f in FRACTIONS}
    np.testing.assert_allclose(posterior(table_of(same)).mean, 0.5, atol=1e-4)
    assert posterior(table_of({real(1.0): [0.5]})).probability_best.tolist() == [1.0]
    gaps: Scores = {real(1.0): [0.5, None, math.nan], real(0.5): [None, 0.4, 0.4]}
    assert len(posterior(table_of(gaps)).candidates) == 2
    with pytest.raises(ValueError, match="no finished trial of search 'simulated' has metric 'val/absent'"):
        posterior(table_of(same), "val/absent")


def test_recipes_unknown_to_the_design_take_its_columns() -> None:
    table = table_of({recipe: [0.5] for recipe in (tuned(0.1), tuned(1.0), real(0.1), real(1.0))})
    known = first_rows(scored(table))
    other = table_of({tuned(0.5): [0.5]}).rows
    made = design(other, like=known)
    assert made.features.shape == (1, design(known).features.shape[1])
    assert made.trunks.tolist() == [0]
