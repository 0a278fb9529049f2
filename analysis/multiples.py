"""Small multiples: the same curve for each class or region, to see where synthetic images help and where they hurt.

The panels have one scale, each from its own level, so that a rise of a point is as high in every panel, also where
one class is at 0.98 and another at 0.5. The hardest class comes first.
"""

from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis import plots
from analysis.axes import Axis
from analysis.curves import DIRECTIONS, Curve, curves_of, measure
from analysis.ranking import rank
from analysis.runs import Table, mean
from analysis.style import looks

NOUNS = {"iou": "class", "region_nme": "region"}  # point_nme would be 51 panels or more: those are in the tables
MOST_LINES = 5


@dataclass(frozen=True)
class Multiples:
    """The curves of all classes or regions on one set of data, hardest first.

    noun     class or region
    measure  `iou`
    dataset  `val`, or `test/NAME`
    """

    noun: str
    measure: str
    dataset: str
    curves: tuple[Curve, ...]


def multiples(table: Table, axis: Axis = "real_fraction", dataset: str = "val") -> tuple[Multiples, ...]:
    """Those of what was measured by class or by region; none where nothing was, or nothing finished."""
    winner = next(iter(rank(table)), None)
    if winner is None:
        return ()
    found = []
    for family, noun in NOUNS.items():
        prefix = f"{dataset}/{family}/"
        values: dict[str, list[float]] = {}
        for row in winner.rows:
            for metric in row.metrics:
                if metric.startswith(prefix) and (value := row.value(metric)) is not None:
                    values.setdefault(metric, []).append(value)
        sign = 1 if DIRECTIONS[family] == "max" else -1
        order = sorted(values, key=lambda metric: (sign * mean(values[metric]), metric))
        if order:
            found.append(Multiples(noun, family, dataset, curves_of(table, axis, order)))
    return tuple(found)


def draw(several: Multiples) -> Figure:
    """A panel per class or region, three in a row. Of more than five lines each schedule has its best by the objective
    alone."""
    first = several.curves[0]
    kept = _kept(first)
    panels = [
        plots.Panel(
            measure(each.metric).partition("/")[2], each, tuple(line for line in each.lines if line.label in kept)
        )
        for each in several.curves
    ]
    return plots.grid(
        panels,
        looks([line for panel in panels for line in panel.lines]),
        title=title(several),
        label=label(several),
        columns=min(3, len(panels)),
        height=2.1,
        one_scale=True,
    )


def title(several: Multiples) -> str:
    return f"{several.curves[0].search}: {several.dataset}/{several.measure} by {several.noun}, hardest first"


def label(several: Multiples) -> str:
    """Of y."""
    return f"{several.measure} ({several.curves[0].better})"


def _kept(drawn: Curve) -> set[str]:
    """The labels of the lines that are drawn: all of a few, else each schedule's with the best point."""
    if len(drawn.lines) <= MOST_LINES:
        return {line.label for line in drawn.lines}
    sign = 1 if drawn.mode == "max" else -1
    best: dict[str, tuple[float, str]] = {}
    for line in drawn.lines:
        means = [
            sign * mean([value for row in point.rows if (value := row.value(drawn.objective)) is not None])
            for point in line.points
        ]
        if line.schedule not in best or max(means) > best[line.schedule][0]:
            best[line.schedule] = max(means), line.label
    return {label for _, label in best.values()}
