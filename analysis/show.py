"""show: a conclusion on the terminal, the same at the end of a search and in `python -m analysis curve`."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from analysis.decide import decimals

if TYPE_CHECKING:
    from analysis import Conclusion


def show(console: Console, conclusion: "Conclusion") -> None:
    """Prints the best recipes, the recommendation, what to know before acting on it, and the files written.

    A search in which nothing finished has no table and no files: then the recommendation says why. No line is
    wrapped but the table's, so that a piped sentence or path stays one line.
    """
    if conclusion.decision.candidates:
        console.print(best_table(conclusion))
    lines = [f"- {note}" for note in conclusion.decision.notes] + [f"wrote {file}" for file in conclusion.files]
    console.print(conclusion.recommendation, style="bold", markup=False, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def best_table(conclusion: "Conclusion", count: int = 10) -> RichTable:
    """The `count` best recipes: rank, mean ± std over seeds, replicates finished of those asked, images.

    A recipe without all its replicates has no rank: it stands after those that have them. Without any finished
    replicate the table has no rows.
    """
    table, candidates = conclusion.table, conclusion.decision.candidates
    shown = RichTable(title=escape(f"{table.search}: the best of {len(table.recipes())} recipes on {table.metric}"))
    for name in ("rank", "recipe", "mean ± std", "seeds", "labels", "synthetic"):
        shown.add_column(name, justify="left" if name == "recipe" else "right")
    for i, candidate in enumerate(candidates[:count]):
        digits = decimals(candidates[0].mean)
        row = candidate.rows[0]
        spread = f" ± {candidate.std:.{digits}f}" if len(candidate.values) > 1 else ""
        counts = ["" if n is None else str(n) for n in (row.num_real_labels, row.num_synthetic)]
        rank = str(i + 1) if candidate.complete else "–"
        seeds = f"{len(candidate.values)}/{table.seeds}"
        shown.add_row(rank, escape(str(candidate.recipe)), f"{candidate.mean:.{digits}f}{spread}", seeds, *counts)
    return shown
