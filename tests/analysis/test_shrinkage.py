"""shrinkage: what a contender's score regresses to, beside its scores on sets that chose nothing."""

import math
from dataclasses import replace

import pytest

from analysis.posterior import posterior
from analysis.ranking import rank
from analysis.shrinkage import shrinkage
from tests.analysis.simulated import FRACTIONS, Scores, real, table_of

# Nine equal recipes, and one that was lucky twice.
SCORES: Scores = {
    real(1.0, lr): [0.60 + 0.01 * (i % 3), 0.61 - 0.01 * (i % 2)] for i, lr in enumerate((1, 2, 3, 4, 5, 6, 7, 8, 9))
}
SCORES[real(1.0, 10)] = [0.63, 0.62]


def test_the_best_of_equals_regresses_to_the_others() -> None:
    table = table_of(SCORES, seeds=2)
    (shrunk,) = shrinkage(posterior(table), rank(table)[:1])
    assert shrunk.raw == 0.625
    assert 0.605 < shrunk.expected < 0.622
    assert shrunk.shrinkage == pytest.approx(shrunk.raw - shrunk.expected)
    assert shrunk.low < shrunk.expected < shrunk.high


def test_what_replicates_confirm_hardly_shrinks() -> None:
    scores: Scores = {real(f): [0.5 + 0.2 * f, 0.501 + 0.2 * f, 0.499 + 0.2 * f] for f in FRACTIONS}
    table = table_of(scores)
    (shrunk,) = shrinkage(posterior(table), rank(table)[:1])
    assert abs(shrunk.shrinkage) < 0.002
    assert shrunk.probability_best > 0.99


def test_where_less_is_better_shrinkage_is_positive_where_it_is_really_worse() -> None:
    lower = {recipe: [None if v is None else 1 - v for v in values] for recipe, values in SCORES.items()}
    table = table_of(lower, seeds=2, mode="min")
    (shrunk,) = shrinkage(posterior(table), rank(table)[:1])
    assert shrunk.raw == pytest.approx(0.375)
    assert shrunk.shrinkage > 0.003


def test_scores_on_test_sets_are_of_the_same_rows_and_their_drop_is_from_what_is_expected() -> None:
    table = table_of(SCORES, seeds=2)
    rows = tuple(
        replace(row, metrics={**row.metrics, "test/other/miou": 0.55 + 0.01 * row.seed, "test/other/iou/hair": 0.1})
        for row in table.rows
    )
    table = replace(table, rows=rows)
    shrunk = shrinkage(posterior(table), rank(table)[:1])[0]
    (score,) = shrunk.tests
    assert (score.metric, score.values) == ("test/other/miou", (0.55, 0.56))
    assert shrunk.drops == {"test/other/miou": pytest.approx(shrunk.expected - 0.555)}
    assert not math.isnan(score.std)
