"""Notes: what to know before acting on a decision, a line each: how sure it is, and what the runs cannot tell."""

from collections.abc import Sequence

from analysis.optimum import Optimum
from analysis.posterior import Posterior
from analysis.ranking import Candidate, Comparison
from analysis.runs import Table
from analysis.shrinkage import Shrunk
from analysis.wording import chance, decimals

SHOWN = 3  # recipes and groups whose probability is worth a word


def on_trials(table: Table) -> list[str]:
    """What became of trials that are in no comparison."""
    counts, notes = statuses(table), []
    if counts["running"]:
        notes.append(f"{counts['running']} of {len(table.rows)} trials still run: this is preliminary")
    if counts["stopped"]:
        notes.append(
            f"{counts['stopped']} of {len(table.rows)} trials were left behind at a rung and are in no comparison or"
            " curve; `pruner: none` takes every recipe to its end"
        )
    if counts["failed"]:
        notes.append(_failed(table, counts["failed"]))
    absent = sum(row.status == "finished" and row.value(table.metric) is None for row in table.rows)
    if absent:
        notes.append(
            f"{absent} of {len(table.rows)} trials finished without a finite {table.metric} and count for nothing"
        )
    broken = [name for rows in table.recipes().values() if (name := table.broken(rows)) is not None]
    if broken:
        notes.append(f"{len(broken)} recipes do not keep to {', '.join(sorted(set(broken)))} and are not considered")
    return notes


def _failed(table: Table, count: int) -> str:
    lost = [recipe for recipe, rows in table.recipes().items() if all(row.status == "failed" for row in rows)]
    text = f"{count} of {len(table.rows)} trials failed"
    if lost:
        text += f", and of {len(lost)} recipes every one: nothing can be said of these"
        schedules = {recipe.schedule for recipe in lost} - {
            recipe.schedule for recipe in table.recipes() if recipe not in lost
        }
        if schedules:
            text += f", nor of {', '.join(sorted(schedules))} at all"
    return text


def statuses(table: Table) -> dict[str, int]:
    return {status: sum(row.status == status for row in table.rows) for status in ("failed", "stopped", "running")}


def versus(winner: Candidate, comparison: Comparison) -> str:
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


def on_seeds(table: Table, winner: Candidate, comparisons: Sequence[Comparison]) -> list[str]:
    if len(winner.values) == 1:
        advice = "set `seeds: 3` or more" if table.seeds == 1 else "let more replicates finish"
        return [f"one seed: no difference can be told from chance; {advice}"]
    if any(len(comparison.differences) == 2 for comparison in comparisons):
        return ["2 seeds: intervals are wide; 3 or more tell more"]
    return []


def on_probabilities(posterior: Posterior, winner: Candidate) -> list[str]:
    """Which recipes and which groups are probably the best, and what the probabilities rest on."""
    if len(posterior.candidates) < 2:
        return ["one recipe finished: there is nothing to choose from"]
    probabilities = posterior.probability_best
    order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])
    chosen = posterior.index(winner.recipe)
    rest = [i for i in order if i != chosen and probabilities[i] >= 0.01][:SHOWN]
    text = f"probability {chance(probabilities[chosen])} that it is the best of {len(probabilities)} recipes"
    if rest:
        text += "; else " + ", ".join(f"{posterior.recipes[i]} ({chance(probabilities[i])})" for i in rest)
    notes = [text]
    if order[0] != chosen and probabilities[order[0]] > probabilities[chosen] + 0.05:
        other = posterior.candidates[order[0]]
        notes.append(
            f"more probably the best is {other.recipe}, with {len(other.values)} of {posterior.table.seeds} replicates"
            " finished: more of its replicates would tell"
        )
    groups = posterior.probability_group_best
    if len(groups) > 1:
        shown = [f"{name(group)} {chance(p)}" for group, p in groups.items()][: SHOWN + 1]
        notes.append("the best recipe is of " + ", ".join(shown))
    return notes + list(posterior.limits)


def name(group: tuple[str, str]) -> str:
    """A (schedule, adaptation) in words."""
    return group[0] + ("" if group[1] == "none" else f" + {group[1]}")


def on_optima(optima: Sequence[Optimum]) -> list[str]:
    return [str(optimum) for optimum in optima]


def on_choice(table: Table, winner: Candidate, candidates: Sequence[Candidate], shrunk: Shrunk) -> list[str]:
    """What was passed over for too few replicates, and how much the choice flatters the winner."""
    notes, digits = [], decimals(winner.mean)
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
            f"the best of {len(candidates)} recipes is also the luckiest: its {table.metric} of {shrunk.raw:.{digits}f}"
            f" regresses to {shrunk.expected:.{digits}f}, 90% interval {shrunk.low:.{digits}f} to"
            f" {shrunk.high:.{digits}f}"
        )
    for score in shrunk.tests:
        spread = f" ± {score.std:.{digits}f}" if len(score.values) > 1 else ""
        drop = shrunk.drops[score.metric]
        notes.append(
            f"on data that chose nothing: {score.metric} {score.mean:.{digits}f}{spread}, seeds: {len(score.values)};"
            f" {abs(drop):.{digits}f} {'worse' if drop >= 0 else 'better'} than what {table.metric} regresses to"
        )
    return notes


def nothing(table: Table) -> str:
    text = f"Nothing can be recommended: none of {len(table.rows)} trials finished with a {table.metric}"
    text += "".join(f", {count} {status}" for status, count in statuses(table).items() if count)
    errors = [row.error for row in table.rows if row.error]
    return text + (f"; the last error: {errors[-1]}" if errors else "") + "."
