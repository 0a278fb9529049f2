"""Ticks: how x is scaled and labelled, by what it counts and by how much room a panel has."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from analysis.curves import Curve, Point, is_geometric

AXIS_LABELS = {
    "real_fraction": "labelled real images (share of all)",
    "num_real_labels": "labelled real images (number)",
    "num_synthetic": "synthetic images (number)",
    "synthetic_share": "synthetic share of each batch",
}
WIDTH = 9.5  # inches, of a figure
TICKS = {1: 0.95, 2: 0.55, 3: 0.45}  # inches that a tick's label takes, by columns: with "images", a number, a share
MANY = 15  # x, that are no list of fractions but drawn from a range: ticks are round numbers


def scale(axes: Axes, drawn: Curve, columns: int) -> None:
    """A log scale where the x are geometric; ticks at the x there are, with image counts below where there is room."""
    points: dict[float, list[Point]] = {}
    for point in (point for line in drawn.sweeps for point in line.points):
        points.setdefault(point.x, []).append(point)
    if drawn.axis == "synthetic_share":
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
        return
    if not points:
        axes.set_xticks([])
        return
    x = sorted(points)
    log = len(x) > 1 and is_geometric(x)
    if log:
        axes.set_xscale("log")
    places = np.log(x) if log else np.array(x)
    span = float(places[-1] - places[0])
    if len(x) == 1:
        axes.set_xlim(x[0] / 2, x[0] * 1.5)
    elif log:
        axes.set_xlim(x[0] / math.exp(0.07 * span), x[-1] * math.exp(0.07 * span))
    else:
        axes.set_xlim(x[0] - 0.07 * span, x[-1] + 0.07 * span)
    if len(x) <= MANY:
        gap = TICKS[columns] / (0.8 * WIDTH / columns) * span  # 0.8: what the axis takes of the width
        shown = [x[-1]]
        for value, place in zip(reversed(x[:-1]), reversed(places[:-1]), strict=True):
            if (math.log(shown[-1]) if log else shown[-1]) - place >= gap:
                shown.append(value)
        axes.xaxis.set_major_locator(FixedLocator(sorted(shown)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([_tick(drawn, points[value], columns) for value in sorted(shown)])
    elif drawn.axis == "real_fraction":
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    else:
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _tick(drawn: Curve, points: Sequence[Point], columns: int) -> str:
    """Of the points at one x. How many images a fraction is depends on the source: said where all points agree."""
    x = points[0].x
    if drawn.axis != "real_fraction":
        return f"{x:,g}"
    counts = {point.rows[0].num_real_labels for point in points}
    if columns > 2 or len(counts) > 1 or None in counts:
        return f"{100 * x:.4g}%"
    return f"{100 * x:.4g}%\n{counts.pop():,}" + (" images" if columns == 1 else "")
