"""Decision: which recipe to train, by how much it is better, and what the runs cannot tell.

A recipe is judged by its mean over replicates, and one with fewer finished replicates is never put before one with
more, so that no lucky seed wins. Replicate r seeds every recipe alike and replicates share nothing with each other,
so recipes are compared by paired differences over seeds: these are independent, also between fine-tunes that share a
trunk within a replicate. Interval: Student's t on the paired differences, n - 1 degrees of freedom.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.runs import Row, Table, mean, std
from trainables.recipe import DomainName, Recipe, options_of

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Candidate:
    """A recipe with at least one finished replicate: its rows, and the objective of each, by seed."""

    recipe: Recipe
    rows: tuple[Row, ...]
    values: tuple[float, ...]
    complete: bool  # as many replicates finished as were asked

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def std(self) -> float:
        """Over seeds (n - 1); NaN with one seed."""
        return std(self.values)


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


@dataclass(frozen=True)
class Decision:
    """Candidates best first, what the first is compared with, one line to act on, and what to know before acting.

    `notes` are lines too: what still runs, each comparison, how far to trust them, and scores on test sets.
    """

    candidates: tuple[Candidate, ...]
    comparisons: tuple[Comparison, ...]
    recommendation: str
    notes: tuple[str, ...]

    @property
    def winner(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None


def rank(table: Table) -> tuple[Candidate, ...]:
    """The recipes with a finished replicate that keep to the search's constraints: those with most finished replicates
    first (up to what was asked), then by the mean of the objective, then by age."""
    candidates = []
    for recipe, rows in table.recipes().items():
        pairs = [(row, value) for row in rows if (value := row.value(table.metric)) is not None]
        if pairs and table.broken([row for row, _ in pairs]) is None:
            done, values = zip(*pairs, strict=True)
            candidates.append(Candidate(recipe, done, values, len(values) >= table.seeds))
    return tuple(
        sorted(candidates, key=lambda c: (-min(len(c.values), table.seeds), -table.sign * c.mean, c.rows[0].number))
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


def decide(table: Table) -> Decision:
    """The recommendation of a search, and how sure it is. Never raises for a search that failed: it says so."""
    candidates = rank(table)
    counts = {status: sum(row.status == status for row in table.rows) for status in ("failed", "stopped", "running")}
    notes = []
    if counts["running"]:
        notes.append(f"{counts['running']} of {len(table.rows)} trials still run: this is preliminary")
    if counts["stopped"]:
        notes.append(
            f"{counts['stopped']} of {len(table.rows)} trials were left behind at a rung and are in no comparison or"
            " curve; `pruner: none` takes every recipe to its end"
        )
    broken = [name for rows in table.recipes().values() if (name := table.broken(rows)) is not None]
    if broken:
        notes.append(f"{len(broken)} recipes do not keep to {', '.join(sorted(set(broken)))} and are not considered")
    if not candidates:
        return Decision((), (), _nothing(table, counts), tuple(notes))
    winner = candidates[0]
    comparisons = _comparisons(table, candidates)
    notes += [_versus(winner, comparison) for comparison in comparisons]
    notes += _few_seeds(table, winner, comparisons)
    return Decision(candidates, comparisons, _sentence(table, winner), (*notes, *_notes(table, candidates)))


def _comparisons(table: Table, candidates: Sequence[Candidate]) -> tuple[Comparison, ...]:
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


def _sentence(table: Table, winner: Candidate) -> str:
    digits = decimals(winner.mean)
    count = len(winner.values)
    seeds = "one seed" if count == 1 else f"mean ± std over {count} seeds"
    spread = "" if count == 1 else f" ± {winner.std:.{digits}f}"
    return f"Train {describe(winner)}: {table.metric} {winner.mean:.{digits}f}{spread} ({seeds})."


def _versus(winner: Candidate, comparison: Comparison) -> str:
    """A comparison as a line. An interval of two differences tells nothing that "not distinguishable" does not."""
    digits = decimals(winner.mean)
    count = len(comparison.differences)
    text = f"against {comparison.role} ({comparison.other.recipe}): "
    if not count:
        return text + "no seed in common"
    text += f"{abs(comparison.mean):.{digits}f} {'better' if comparison.mean >= 0 else 'worse'}"
    if count < len(winner.values):
        text += f" on {count} common seed{'s' if count > 1 else ''}"
    if comparison.distinguishable is False:
        text += ", not distinguishable"
    if count > 2 or comparison.distinguishable:
        text += f", 95% interval {comparison.low:.{digits}f} to {comparison.high:.{digits}f}"
    return text


def _few_seeds(table: Table, winner: Candidate, comparisons: Sequence[Comparison]) -> list[str]:
    if len(winner.values) == 1:
        advice = "set `seeds: 3` or more" if table.seeds == 1 else "let more replicates finish"
        return [f"one seed: no difference can be told from chance; {advice}"]
    if any(len(comparison.differences) == 2 for comparison in comparisons):
        return ["2 seeds: intervals are wide; 3 or more tell more"]
    return []


def _notes(table: Table, candidates: Sequence[Candidate]) -> list[str]:
    winner, notes = candidates[0], []
    digits = decimals(winner.mean)
    if not winner.complete:
        notes.append(f"no recipe finished all {table.seeds} replicates: the first finished {len(winner.values)}")
    for candidate in candidates[1:]:
        lucky = len(candidate.values) < min(len(winner.values), table.seeds)
        if lucky and table.sign * (candidate.mean - winner.mean) > 0:
            notes.append(
                f"not considered, with {len(candidate.values)} of {table.seeds} replicates finished: "
                f"{candidate.recipe} ({candidate.mean:.{digits}f})"
            )
    if len(candidates) > 1:
        notes.append(
            f"the best of {len(candidates)} recipes on {table.metric}: its mean is optimistic, and no comparison "
            "corrects for the choice"
        )
    own = table.metric.partition("/")[2]  # the objective's metric on each test set, and not that of each class
    for metric in sorted({name for row in winner.rows for name in row.metrics}):
        if not metric.startswith("test/") or metric.split("/", 2)[2:] != [own]:
            continue
        values = [value for row in winner.rows if (value := row.value(metric)) is not None]
        if values:
            spread = f" ± {std(values):.{digits}f}" if len(values) > 1 else ""
            notes.append(
                f"on data that chose nothing: {metric} {mean(values):.{digits}f}{spread}, seeds: {len(values)}"
            )
    return notes


def _nothing(table: Table, counts: dict[str, int]) -> str:
    text = f"Nothing can be recommended: none of {len(table.rows)} trials finished with a {table.metric}"
    text += "".join(f", {count} {status}" for status, count in counts.items() if count)
    errors = [row.error for row in table.rows if row.error]
    return text + (f"; the last error: {errors[-1]}" if errors else "") + "."


def describe(candidate: Candidate) -> str:
    """A recipe as an instruction: "`finetune` on 25% of the real images (30 labels) after 500 steps on ..."."""
    recipe, row = candidate.recipe, candidate.rows[0]
    real = synthetic = ""
    if recipe.real_fraction is not None:
        labels = "" if row.num_real_labels is None else f" ({row.num_real_labels} labels)"
        real = f"{_percent(recipe.real_fraction)} of the real images{_of(recipe.real_source)}{labels}"
    if recipe.synthetic_fraction is not None:
        images = "" if row.num_synthetic is None else f" ({row.num_synthetic})"
        synthetic = (
            f"{_percent(recipe.synthetic_fraction)} of the synthetic images{_of(recipe.synthetic_source)}{images}"
        )
    both, share, falls = f"{real} and {synthetic}", recipe.synthetic_share, recipe.gradual
    if share is not None:
        both += ", mixed as they come" if isinstance(share, str) else f", {_percent(share)} of each batch synthetic"
    if falls is not None:
        both += f", {_percent(falls.start)} to {_percent(falls.end)} of each batch synthetic in {falls.blocks} blocks"
    text = f"`{recipe.schedule}` on "
    if recipe.pretrain is not None:
        before = synthetic if share is None else both
        text += f"{real} after {recipe.pretrain.steps} steps (lr {recipe.pretrain.lr:.3g}) on {before}"
    else:
        text += both if real and synthetic else real or synthetic
    if recipe.adaptation not in (None, "none"):
        told = ", ".join(f"{k} {v}" for k, v in options_of(recipe.options).items()) if recipe.options else ""
        text += f", with {recipe.adaptation}" + (f" ({told})" if told else "")
    if recipe.freeze not in (None, "nothing"):
        text += f", {' and '.join(recipe.frozen)} frozen"
    return f"{text}, at lr {recipe.lr:.3g}"


def _of(source: str | None) -> str:
    return "" if source is None else f" of {source}"


def decimals(value: float) -> int:
    """As many decimals as show three significant digits of a value: 0.612 has 3, 12.3 has 1."""
    return 3 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g}%"
