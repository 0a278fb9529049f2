"""analysis: what did a search teach us? Reads MLflow alone; no other folder but `trainables/recipe.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.axes import Axis
from analysis.curves import Curve, Line, Point, curve, curves_of
from analysis.decide import Decision, decide
from analysis.ranking import Candidate, Comparison
from analysis.runs import Row, Table, load
from analysis.show import best_table, show

__all__ = [
    "Axis",
    "Candidate",
    "Comparison",
    "Conclusion",
    "Curve",
    "Decision",
    "Line",
    "Point",
    "Row",
    "Table",
    "best_table",
    "conclude",
    "curve",
    "curves_of",
    "decide",
    "load",
    "show",
]


@dataclass(frozen=True)
class Conclusion:
    """What a search came to: its table, its decision, what the laws say that its bands are of, or why there is none,
    and the files that show it (none if nothing finished)."""

    table: Table
    decision: Decision
    laws: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def recommendation(self) -> str:
        return self.decision.recommendation


def conclude(
    search: str,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    out: Path = Path("."),
    *,
    axis: Axis = "real_fraction",
    metrics: Sequence[str] = (),
) -> Conclusion:
    """Reads a search from MLflow, decides, and writes its curves into `out`, with the data behind them.

    `metrics` are drawn side by side, by default the objective alone: curve.png, .svg, .html, .csv and .parquet; what
    was measured by class or region on val is in classes.* or regions.*. Where a law of a metric can be fitted its curve
    has bands. Nothing is written when no trial finished.
    Raises ValueError as `load` and `curves_of` do.
    """
    table = load(search, tracking_uri=tracking_uri, experiment=experiment)
    decision = decide(table)
    if decision.winner is None:
        return Conclusion(table, decision, (), ())
    from analysis import pictures  # matplotlib, plotly and scipy take a second to import
    from analysis.bands import with_laws

    drawn, said = with_laws(table, curves_of(table, axis, metrics))
    return Conclusion(table, decision, said, pictures.save(table, drawn, pictures.ready(out)))
