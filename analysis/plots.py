"""The picture of a curve: curve.png to look at, curve.svg to print, the same bytes for the same runs.

Drawn without pyplot, so that nothing global is touched and no display is needed. Colours: Okabe and Ito's palette
(Color Universal Design, 2008), told apart by readers with any colour vision; schedules differ in colour and marker,
adaptations in line style and filling, sources in how light the colour is.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation

from analysis.curves import Curve, Line, Point

COLOURS = {
    "real_only": "#000000",
    "synthetic_only": "#CC79A7",
    "mixed": "#0072B2",
    "gradual": "#009E73",
    "finetune": "#D55E00",
    "mixed_finetune": "#E69F00",
}
MARKERS = {
    "real_only": "s",
    "synthetic_only": "D",
    "mixed": "o",
    "gradual": "v",
    "finetune": "^",
    "mixed_finetune": "P",
}
AXIS_LABELS = {
    "real_fraction": "labelled real images",
    "num_real_labels": "labelled real images",
    "num_synthetic": "synthetic images",
    "synthetic_share": "synthetic share of each batch",
}
LIGHTEST = 0.55  # how far towards white the last source of a schedule is drawn
MIN_GAP = 1 / 14  # of the axis: x that lie closer have no ticks of their own, their labels would overlap


def draw(drawn: Curve) -> Figure:
    """One line per schedule, adaptation and source through the means; bars from lowest to highest seed, each a dot."""
    figure = Figure(figsize=(9.5, 5.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    sweeps = [line for line in drawn.lines if not line.reference]
    adaptations = sorted({line.adaptation for line in drawn.lines} - {"none"})
    for i, line in enumerate(sweeps):
        shift = 6.0 * (i - (len(sweeps) - 1) / 2)
        _sweep(figure, axes, line, _colour(line, drawn.lines), shift=shift, adaptations=adaptations)
    for line in drawn.lines:
        if line.reference:
            _reference(axes, line, _colour(line, drawn.lines))
    axes.set_xlabel(AXIS_LABELS[drawn.axis])
    _scale(axes, drawn, sweeps)
    values = [value for line in drawn.lines for point in line.points for value in point.values]
    margin = 0.06 * (max(values) - min(values)) or 0.05
    axes.set_ylim(min(values) - margin, max(values) + margin)  # autoscaling does not see lines that were moved
    better = "higher is better" if drawn.mode == "max" else "lower is better"
    axes.set_ylabel(f"{drawn.metric} ({better})" if drawn.metric == drawn.objective else drawn.metric)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    seeds = "1 seed" if drawn.seeds == 1 else f"{drawn.seeds} seeds"
    axes.set_title(f"{drawn.search}: {drawn.metric}, {drawn.num_recipes} recipes, {seeds}", loc="left", pad=26)
    caption = (
        f"each point: the best recipe at that x by mean {drawn.objective}; bars: lowest to highest seed; dots: seeds"
    )
    axes.text(0, 1.025, caption, transform=axes.transAxes, fontsize="small", color="#555555")
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    order = [handles[line.label] for line in drawn.lines]
    axes.legend(
        handles=order, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small", handlelength=3
    )
    return figure


def save(drawn: Curve, folder: Path) -> tuple[Path, Path]:
    """Writes curve.png and curve.svg into an existing folder; the SVG holds no date and no random ids."""
    png, svg = folder / "curve.png", folder / "curve.svg"
    with matplotlib.rc_context({"svg.hashsalt": "titrate"}):
        draw(drawn).savefig(png)
        draw(drawn).savefig(svg, metadata={"Date": None})
    return png, svg


def _colour(line: Line, lines: Sequence[Line]) -> tuple[float, ...]:
    """The schedule's colour as RGB in [0, 1], lighter from source to source in the order of the lines."""
    sources = list(dict.fromkeys(other.source for other in lines if other.schedule == line.schedule))
    light = LIGHTEST * sources.index(line.source) / max(1, len(sources) - 1)
    return tuple(channel + light * (1 - channel) for channel in to_rgb(COLOURS[line.schedule]))


def _sweep(
    figure: Figure, axes: Axes, line: Line, colour: tuple[float, ...], *, shift: float, adaptations: list[str]
) -> None:
    """`shift` in points moves the line sideways, so that bars at one x stay apart."""
    x = [point.x for point in line.points]
    mean = [point.mean for point in line.points]
    below = [max(0.0, point.mean - min(point.values)) for point in line.points]  # max: three 0.7 average below 0.7
    above = [max(0.0, max(point.values) - point.mean) for point in line.points]
    moved = axes.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
    plain = line.adaptation == "none"
    dashes: Any = "-" if plain else (0, (4, 1 + adaptations.index(line.adaptation)))
    style: dict[str, Any] = {"color": colour, "transform": moved, "zorder": 3}
    axes.errorbar(
        x,
        mean,
        yerr=[below, above],
        linestyle=dashes,
        marker=MARKERS[line.schedule],
        markerfacecolor=colour if plain else "white",
        markersize=6.5,
        linewidth=1.6,
        elinewidth=1.1,
        capsize=2.5,
        label=line.label,
        **style,
    )
    seeds = [(point.x, value) for point in line.points for value in point.values]
    axes.plot(*zip(*seeds, strict=True), ".", markersize=4.5, alpha=0.35, **(style | {"zorder": 2}))


def _reference(axes: Axes, line: Line, colour: tuple[float, ...]) -> None:
    """A schedule that the axis does not vary: a dashed level with a band from its lowest to its highest seed."""
    (point,) = line.points
    dashes = (0, (6, 2)) if line.adaptation == "none" else (0, (2, 2))
    axes.axhline(point.mean, color=colour, linestyle=dashes, linewidth=1.4, label=line.label, zorder=1.5)
    axes.axhspan(min(point.values), max(point.values), color=colour, alpha=0.10, linewidth=0, zorder=1)


def _scale(axes: Axes, drawn: Curve, sweeps: list[Line]) -> None:
    """A log scale where x spans a factor of eight or more; ticks at the x there are, with image counts below."""
    points: dict[float, list[Point]] = {}
    for point in (point for line in sweeps for point in line.points):
        points.setdefault(point.x, []).append(point)
    if drawn.axis == "synthetic_share":
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
        return
    if not points:
        axes.set_xticks([])
        return
    x = sorted(points)
    log = x[-1] >= 8 * x[0]
    if log:
        axes.set_xscale("log")
    places = [math.log(value) if log else value for value in x]
    span = places[-1] - places[0]
    if all(right - left >= MIN_GAP * span for left, right in pairwise(places)):
        axes.xaxis.set_major_locator(FixedLocator(x))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([_tick(drawn, points[value]) for value in x])
    elif drawn.axis == "real_fraction":
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if len(x) == 1:
        axes.set_xlim(x[0] / 2, x[0] * 1.5)
    elif log:
        axes.set_xlim(x[0] / math.exp(0.07 * span), x[-1] * math.exp(0.07 * span))
    else:
        axes.set_xlim(x[0] - 0.07 * span, x[-1] + 0.07 * span)


def _tick(drawn: Curve, points: Sequence[Point]) -> str:
    """Of the points at one x. How many images a fraction is depends on the source: said where all points agree."""
    x = points[0].x
    if drawn.axis != "real_fraction":
        return f"{x:g}"
    counts = {point.rows[0].num_real_labels for point in points}
    return f"{100 * x:.4g}%" + (f"\n{counts.pop()} images" if len(counts) == 1 and None not in counts else "")
