"""Shrinkage: contenders chosen on validation, with what that choice flatters them by, and their scores on test sets.

The highest of many noisy means is on average too high (the winner's curse). Its posterior mean is not, since the
posterior knows what else was tried and how noisy it is (Efron 2011). Test sets chose nothing, so that their scores are
fair as they are; the two together say how much of a drop from validation to test is the choice, and how much the data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.posterior import Posterior
from analysis.ranking import Candidate
from analysis.runs import Replicated, Row, Table


@dataclass(frozen=True)
class Score(Replicated):
    """A metric over the replicates that have it; `std` (n - 1) is NaN for one."""

    metric: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Shrunk:
    """A contender: its mean on validation, what that regresses to with a 90% interval, and its scores on test sets.

    shrinkage  by how much the mean is expected to flatter it: positive where it is really worse
    drops      by test set, how much worse it is there than what validation regresses to: the data's part of the drop
    """

    candidate: Candidate
    expected: float
    low: float
    high: float
    probability_best: float
    shrinkage: float
    tests: tuple[Score, ...]
    drops: Mapping[str, float]

    @property
    def raw(self) -> float:
        return self.candidate.mean


def shrinkage(posterior: Posterior, contenders: Sequence[Candidate]) -> tuple[Shrunk, ...]:
    """The contenders, in their order, each with what its score regresses to. They must be of the posterior's metric."""
    table, (lows, highs) = posterior.table, posterior.interval(0.9)
    found = []
    for candidate in contenders:
        i = posterior.index(candidate.recipe)
        expected = float(posterior.mean[i])
        tests = scores_on_tests(table, candidate.rows)
        found.append(
            Shrunk(
                candidate,
                expected,
                float(lows[i]),
                float(highs[i]),
                float(posterior.probability_best[i]),
                table.sign * (candidate.mean - expected),
                tests,
                {score.metric: table.sign * (expected - score.mean) for score in tests},
            )
        )
    return tuple(found)


def scores_on_tests(table: Table, rows: Sequence[Row]) -> tuple[Score, ...]:
    """The objective's own metric on each test set, and not that of each class, over the given rows."""
    own = table.metric.partition("/")[2]
    scores = []
    for metric in sorted({name for row in rows for name in row.metrics}):
        if metric.startswith("test/") and metric.split("/", 2)[2:] == [own]:
            values = tuple(value for row in rows if (value := row.value(metric)) is not None)
            if values:
                scores.append(Score(metric, values))
    return tuple(scores)
