"""show: a conclusion on the terminal, the same at the end of a search and in `python -m analysis curve`; and the domain
gap, the next run and the worth of synthetic images, in `python -m analysis gap`, `next` and `law`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from analysis.gap import Gap, write_csv
from analysis.next_run import Advice
from analysis.wording import chance, decimals

if TYPE_CHECKING:
    from analysis import Conclusion
    from analysis.worth import Worth


def show(console: Console, conclusion: "Conclusion") -> None:
    """Prints the best recipes, the recommendation, what to know before acting on it, and the files written.

    A search in which nothing finished has no table and no files: then the recommendation says why. No line is
    wrapped but the table's, so that a piped sentence or path stays one line.
    """
    if conclusion.decision.candidates:
        console.print(best_table(conclusion))
    lines = [f"- {note}" for note in (*conclusion.decision.notes, *conclusion.laws)]
    lines += [f"wrote {file}" for file in conclusion.files]
    console.print(conclusion.recommendation, style="bold", markup=False, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def best_table(conclusion: "Conclusion", count: int = 10) -> RichTable:
    """The `count` best recipes: rank, mean ± std over seeds, probability that it is the best, replicates finished of
    those asked, images.

    A recipe without all its replicates has no rank: it stands after those that have them. Without any finished
    replicate the table has no rows.
    """
    table, candidates = conclusion.table, conclusion.decision.candidates
    shown = RichTable(title=escape(f"{table.search}: the best of {len(table.recipes())} recipes on {table.metric}"))
    for name in ("rank", "recipe", "mean ± std", "best", "seeds", "labels", "synthetic"):
        shown.add_column(name, justify="left" if name == "recipe" else "right")
    beliefs = conclusion.decision.posterior
    probabilities = {} if beliefs is None else dict(zip(beliefs.recipes, beliefs.probability_best, strict=True))
    for i, candidate in enumerate(candidates[:count]):
        digits = decimals(candidates[0].mean)
        row = candidate.rows[0]
        spread = f" ± {candidate.std:.{digits}f}" if len(candidate.values) > 1 else ""
        counts = ["" if n is None else str(n) for n in (row.num_real_labels, row.num_synthetic)]
        rank = str(i + 1) if candidate.complete else "–"
        seeds = f"{len(candidate.values)}/{table.seeds}"
        shown.add_row(
            rank,
            escape(str(candidate.recipe)),
            f"{candidate.mean:.{digits}f}{spread}",
            chance(probabilities[candidate.recipe]),
            seeds,
            *counts,
        )
    return shown


def show_gap(console: Console, gap: Gap, out: Path | None = None) -> None:
    """Prints the domain-gap table, each drop in brackets, and what the drops come to; writes it to `out` if given."""
    shown = RichTable(title=escape(f"{gap.search}: {gap.metric} by training and test set (points lost)"))
    shown.add_column("trained on")
    for column in gap.columns:
        shown.add_column(escape(column), justify="right")
    for line in gap.lines:
        cells = []
        for column in gap.columns:
            cell = line.cells.get(column)
            if cell is None:
                cells.append("")
                continue
            drop = "" if math.isnan(cell.drop) else f" ({cell.drop:+.1f})"
            cells.append(f"{cell.mean:.{decimals(cell.mean)}f}{drop}")
        shown.add_row(escape(line.label), *cells)
    console.print(shown)
    for transfer in gap.transfers:
        console.print(f"- {transfer}", markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_csv(gap, out)
        console.print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)


def show_advice(console: Console, advice: Advice, count: int = 10) -> None:
    """Prints what to run next, and the `count` best options with what each is worth and costs."""
    shown = RichTable(title=escape(f"what to run next: worth in {advice.metric}, cost in {advice.unit}"))
    for name in ("run", "worth", "cost"):
        shown.add_column(name, justify="left" if name == "run" else "right")
    for option in advice.options[:count]:
        shown.add_row(escape(str(option)), f"{option.value:.2g}", f"{option.cost:,.0f}")
    if advice.options:
        console.print(shown)
    console.print(str(advice), style="bold", markup=False, highlight=False, soft_wrap=True)


def show_worth(console: Console, worth: "Worth") -> None:
    """Prints, at each real count, what the synthetic images are worth, and then what that comes to, in sentences."""
    from analysis.worth import HEADER, rows  # scipy takes a second to import

    place = worth.place
    shown = RichTable(
        title=escape(
            f"{worth.search}: what {place.synthetic:,.0f} synthetic images are worth by {worth.metric}, {place.group}"
        )
    )
    for name in HEADER:
        shown.add_column(name, justify="right")
    for cells in rows(worth):
        shown.add_row(*cells)
    console.print(shown)
    if any(found.told and found.beyond for found in worth.savings):
        console.print("* beyond what was measured: the law's word alone", markup=False, highlight=False)
    for line in worth.lines:
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
