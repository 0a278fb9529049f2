"""Ranking: the recipes of a search, best first, and what the first is compared with.

A recipe is judged by its mean over replicates, and one with fewer finished replicates is never put before one with
more, so that no lucky seed wins. Replicate r seeds every recipe alike and replicates share nothing with each other,
so recipes are compared by paired differences over seeds: these are independent, also between fine-tunes that share a
trunk within a replicate. Interval: Student's t on the paired differences, n - 1 degrees of freedom.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.runs import Replicated, Row, Table, mean, std
from trainables.recipe import DomainName, Recipe

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Candidate(Replicated):
    """A recipe with at least one finished replicate: its rows, and the objective of each, by seed."""

    recipe: Recipe
    rows: tuple[Row, ...]
    values: tuple[float, ...]
    complete: bool  # as many replicates finished as were asked


@dataclass(frozen=True)
class Comparison:
    """The winner against another recipe: the paired difference, positive where the winner is better.

    `low` and `high` bound the mean difference with 95% confidence; with fewer than two common seeds they and
    `standard_error` are NaN and `distinguishable` is None: it cannot be said.
    """

    role: str
    other: Candidate
    differences: tuple[float, ...]
    standard_error: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        return mean(self.differences) if self.differences else math.nan

    @property
    def distinguishable(self) -> bool | None:
        return None if math.isnan(self.low) else self.low > 0 or self.high < 0


def scored(table: Table, metric: str | None = None) -> tuple[Candidate, ...]:
    """The recipes that keep to the search's constraints and have a finished replicate with the metric (by default the
    objective), in the order of the study."""
    candidates = []
    for recipe, rows in table.recipes().items():
        pairs = [(row, value) for row in rows if (value := row.value(metric or table.metric)) is not None]
        if pairs and table.broken([row for row, _ in pairs]) is None:
            done, values = zip(*pairs, strict=True)
            candidates.append(Candidate(recipe, done, values, len(values) >= table.seeds))
    return tuple(candidates)


def rank(table: Table) -> tuple[Candidate, ...]:
    """`scored` by the objective: those with most finished replicates first (up to what was asked), then by the mean,
    then by age."""
    return tuple(
        sorted(scored(table), key=lambda c: (-min(len(c.values), table.seeds), -table.sign * c.mean, c.rows[0].number))
    )


def compare(table: Table, role: str, winner: Candidate, other: Candidate) -> Comparison:
    """Paired over the seeds that both finished."""
    from scipy import stats

    theirs = {row.seed: value for row, value in zip(other.rows, other.values, strict=True)}
    differences = tuple(
        table.sign * (value - theirs[row.seed])
        for row, value in zip(winner.rows, winner.values, strict=True)
        if row.seed in theirs
    )
    count = len(differences)
    if count < 2:
        return Comparison(role, other, differences, math.nan, math.nan, math.nan)
    error = std(differences) / math.sqrt(count)
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    centre = mean(differences)
    return Comparison(role, other, differences, error, centre - margin, centre + margin)


def comparisons(table: Table, candidates: Sequence[Candidate]) -> tuple[Comparison, ...]:
    """The first candidate against the runner-up, the best with (or without) synthetic images, with more (or fewer) real
    ones, and on another source; what is several of these is compared once."""
    winner, others = candidates[0], candidates[1:]
    roles: list[tuple[str, Callable[[Recipe], bool]]] = [("the runner-up", lambda recipe: True)]
    if winner.recipe.schedule == "real_only":
        roles.append(("the best recipe with synthetic images", lambda recipe: recipe.schedule != "real_only"))
    else:
        roles.append(("the best real-only recipe", lambda recipe: recipe.schedule == "real_only"))
    if winner.recipe.real_fraction == 1.0:
        roles.append(("the best recipe on fewer real images", lambda recipe: recipe.real_fraction != 1.0))
    else:
        roles.append(("the best recipe on all real images", lambda recipe: recipe.real_fraction == 1.0))
    for domain in table.varied:
        read = winner.recipe.sources(domain)
        if read:
            roles.append((f"the best recipe on another {domain} source", _on_another(domain, read)))
    chosen: dict[Recipe, tuple[list[str], Candidate]] = {}
    for role, fits in roles:
        best = next((candidate for candidate in others if fits(candidate.recipe)), None)
        if best is not None:
            chosen.setdefault(best.recipe, ([], best))[0].append(role)
    return tuple(compare(table, " and ".join(names), winner, other) for names, other in chosen.values())


def _on_another(domain: DomainName, read: tuple[str, ...]) -> Callable[[Recipe], bool]:
    return lambda recipe: recipe.sources(domain) not in ((), read)
