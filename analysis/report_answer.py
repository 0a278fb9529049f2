"""The sections of a report that answer: which recipe, how probably, where the optimum is, what the choice flatters."""

import math

from analysis import notes
from analysis.design import group_of
from analysis.gap import Cell, gap
from analysis.next_run import next_run
from analysis.ranking import Candidate
from analysis.report_blocks import Block, Bullets, Grid, Section, Text, Tiles
from analysis.report_context import Context
from analysis.wording import chance, decimals

SHOWN = 12  # contenders and trainings in a table


def answer(context: Context) -> Section:
    """The answer in three sentences: what to train, what that is better than, and what it saves."""
    decision, table = context.decision, context.table
    blocks: list[Block] = [Text(decision.recommendation, "lead")]
    if decision.winner is None:
        return Section("answer", "The answer", (*blocks, *([Bullets(decision.notes)] if decision.notes else [])))
    told = [
        versus for versus in decision.comparisons if "real-only" in versus.role or "synthetic images" in versus.role
    ]
    for comparison in told[:1]:
        text = notes.versus(decision.winner, comparison)
        blocks.append(Text(f"{text[0].upper()}{text[1:]}."))
    saved = _saved(context)
    if saved:
        blocks.append(Text(saved))
    blocks.append(Tiles(tuple(_tiles(context, decision.winner))))
    running = sum(row.status == "running" for row in table.rows)
    if running:
        blocks.append(Text(f"{running} of {len(table.rows)} trials still run: this is preliminary.", "warning"))
    return Section("answer", "The answer", tuple(blocks))


def _saved(context: Context) -> str:
    """What synthetic images save, in a sentence; else why that cannot be said."""
    if context.law is None:
        return f"What synthetic images save cannot be said: {context.no_law}."
    found = context.worth
    return "" if found is None else f"By `{found.place.group}`, {found.headline.sentence(found.place.total)}."


def _tiles(context: Context, winner: Candidate) -> list[tuple[str, str]]:
    """The few numbers that one remembers."""
    table, shrunk = context.table, context.decision.contenders[0]
    digits = decimals(winner.mean)
    tiles = [
        (
            f"{shrunk.expected:.{digits}f}",
            f"{table.metric} to expect: {shrunk.low:.{digits}f} to {shrunk.high:.{digits}f}",
        )
    ]
    if len(context.decision.candidates) > 1:
        tiles.append(
            (chance(shrunk.probability_best), f"probability that it is the best of {len(context.decision.candidates)}")
        )
    tiles += [(f"{score.mean:.{digits}f}", f"{score.metric}, which chose nothing") for score in shrunk.tests[:2]]
    labels = winner.rows[0].num_real_labels
    if labels is not None:
        tiles.append((f"{labels:,}", "labelled real images to train on"))
    return tiles


def contenders(context: Context) -> Section | None:
    """The recipes that may be the best, with the probability of each, and of each schedule and adaptation."""
    decision, table = context.decision, context.table
    beliefs = decision.posterior
    if beliefs is None or len(decision.candidates) < 2:
        return None
    digits = decimals(decision.candidates[0].mean)
    low, high = beliefs.interval(0.9)
    places = {candidate.recipe: beliefs.index(candidate.recipe) for candidate in decision.candidates}
    order = sorted(decision.candidates, key=lambda c: -beliefs.probability_best[places[c.recipe]])
    first = decision.candidates[0]
    shown = [first, *(c for c in order if c is not first)][:SHOWN]
    rows = []
    for candidate in shown:
        i, row = places[candidate.recipe], candidate.rows[0]
        spread = f" ± {candidate.std:.{digits}f}" if len(candidate.values) > 1 else ""
        rows.append(
            (
                f"#{row.number}",
                str(candidate.recipe),
                f"{candidate.mean:.{digits}f}{spread}",
                f"{beliefs.mean[i]:.{digits}f}",
                f"{low[i]:.{digits}f} to {high[i]:.{digits}f}",
                chance(float(beliefs.probability_best[i])),
                f"{len(candidate.values)}/{table.seeds}",
                _count(row.num_real_labels),
                _count(row.num_synthetic),
            )
        )
    header = ("trial", "recipe", "measured", "expected", "90% interval", "best", "seeds", "labels", "synthetic")
    caption = (
        f"Of {len(decision.candidates)} recipes that finished. Measured: mean ± standard deviation of {table.metric}"
        " over seeds. Expected: what that regresses to, since the best of many has also been lucky. Best: the"
        " probability that no other recipe is better."
    )
    blocks: list[Block] = [Grid(header, tuple(rows), words=2, best=0, caption=caption)]
    groups = beliefs.probability_group_best
    if len(groups) > 1:
        sizes: dict[tuple[str, str], int] = {}
        for recipe in beliefs.recipes:
            sizes[group_of(recipe)] = sizes.get(group_of(recipe), 0) + 1
        chances = tuple((notes.name(group), chance(p), str(sizes[group])) for group, p in groups.items())
        blocks.append(Grid(("schedule and adaptation", "has the best recipe", "recipes tried"), chances))
    return Section("contenders", "Contenders", tuple(blocks))


def optimum(context: Context) -> Section | None:
    """Where the best recipe lies on each axis that was varied, as a distribution."""
    found = context.decision.optima
    if not found:
        return None
    return Section("optimum", "Where the optimum lies", (Bullets(tuple(map(str, found))),))


def shrinkage(context: Context) -> Section | None:
    """From validation to test, with the part of the drop that is the choice and the part that is the data."""
    found = context.decision.contenders
    tests = list(dict.fromkeys(score.metric for shrunk in found for score in shrunk.tests))
    if not found or not tests:
        return None
    digits = decimals(found[0].raw)
    rows = []
    for shrunk in found:
        scores = {score.metric: score for score in shrunk.tests}
        cells = [str(shrunk.candidate.recipe), f"{shrunk.raw:.{digits}f}", f"{shrunk.expected:.{digits}f}"]
        for name in tests:
            score = scores.get(name)
            spread = f" ± {score.std:.{digits}f}" if score is not None and len(score.values) > 1 else ""
            cells += (
                ["", ""]
                if score is None
                else [f"{score.mean:.{digits}f}{spread}", _signed(-shrunk.drops[name], digits)]
            )
        rows.append(tuple(cells))
    header = ["recipe", context.table.metric, "expected"]
    for name in tests:
        header += [name, "of which data"]
    caption = (
        "Validation chose, so the highest of its means is too high; from it to the expected value is what the choice"
        " flatters. Test sets chose nothing; from the expected value to them is what their data make of it (negative is"
        " worse)."
    )
    grid = Grid(tuple(header), tuple(rows), best=0, caption=caption)
    return Section("shrinkage", "From validation to test", (grid,))


def domain_gap(context: Context) -> Section | None:
    """Training domain by test domain, with what each training loses against real images of the test's own domain."""
    if context.winner is None:
        return None
    made = gap(context.table, domains=context.domains)
    if len(made.columns) < 2 or len(made.lines) < 2:
        return None
    means = [cell.mean for line in made.lines for cell in line.cells.values()]
    digits = decimals(max(map(abs, means)))
    lines = [line for line in made.lines if line.cells][: 2 * SHOWN]
    rows = tuple(
        (line.label, *(_gap_cell(line.cells.get(column), digits) for column in made.columns)) for line in lines
    )
    caption = (
        f"{made.metric} of the best recipe of each training; in brackets, points against real images of the set's own"
        " domain."
    )
    blocks: list[Block] = [Grid(("trained on", *made.columns), rows, caption=caption)]
    blocks.append(Bullets(tuple(map(str, made.transfers))))
    return Section("domain-gap", "Domain gap", tuple(blocks))


def _gap_cell(cell: Cell | None, digits: int) -> str:
    if cell is None:
        return ""
    drop = "" if math.isnan(cell.drop) else f" ({-round(cell.drop, 1) + 0.0:+.1f})"
    return f"{cell.mean:.{digits}f}{drop}"


def following(context: Context) -> Section | None:
    """What to run next, to narrow the answer most for its cost."""
    beliefs = context.decision.posterior
    if beliefs is None or len(beliefs.candidates) < 2:
        return None
    advice = next_run(beliefs)
    rows = tuple((str(option), f"{option.value:.2g}", f"{option.cost:,.0f}") for option in advice.options[:5])
    header = ("run", f"{advice.metric} to gain", advice.unit)
    grid = [Grid(header, rows)] if rows else []
    return Section("next", "What to run next", (Text(str(advice)), *grid))


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}"
