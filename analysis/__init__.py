"""analysis: what did a search teach us? Reads MLflow alone; no other folder but `trainables/recipe.py`."""

from dataclasses import dataclass
from pathlib import Path

from analysis.curves import Axis, Curve, Line, Point, curve, write_csv
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
    "decide",
    "load",
    "show",
    "write_csv",
]


@dataclass(frozen=True)
class Conclusion:
    """What a search came to: its table, its decision, and the files that show it (none if nothing finished)."""

    table: Table
    decision: Decision
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
    metric: str | None = None,
) -> Conclusion:
    """Reads a search from MLflow, decides, and writes curve.png, curve.svg and curve.csv into `out`.

    Nothing is written when no trial finished. Raises ValueError as `load` and `curve` do.
    """
    table = load(search, tracking_uri=tracking_uri, experiment=experiment)
    decision = decide(table)
    if decision.winner is None:
        return Conclusion(table, decision, ())
    drawn = curve(table, axis, metric)
    from analysis import plots  # matplotlib takes a second to import

    out.mkdir(parents=True, exist_ok=True)
    files = plots.save(drawn, out)
    write_csv(drawn, out / "curve.csv")
    return Conclusion(table, decision, (*files, out / "curve.csv"))
