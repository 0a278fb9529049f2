"""The picture of curves: a PNG to look at, an SVG to print, the same bytes for the same runs.

Drawn without pyplot, so that nothing global is touched and no display is needed. A panel shows a metric; where there
are more lines than eyes tell apart, each schedule has a panel of its own, beside what it is compared with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from analysis import ticks
from analysis.bands import COVERAGE, Band
from analysis.curves import Curve, Line, measure
from analysis.style import Look, is_shared, looks
from analysis.ticks import WIDTH

MOST_LINES = 8  # in one panel
MOST_BANDS = 4  # in one panel; of more, only those of lines without adaptation


@dataclass(frozen=True)
class Panel:
    """Some lines of a curve under a title."""

    title: str
    curve: Curve
    lines: tuple[Line, ...]

    @property
    def limits(self) -> tuple[float, float]:
        """What y has to show: every seed, and the band where the line was measured."""
        values = [value for line in self.lines for point in line.points for value in point.values]
        for band in (line.band for line in self.lines if line.band is not None):
            values += [*band.low[band.inside], *band.high[band.inside]]
        return min(values), max(values)


def draw(drawn: Sequence[Curve]) -> Figure:
    """Curves of several metrics over one axis: one line per schedule, adaptation and source through the means; bars
    from lowest to highest seed, each a dot; shaded, what the law expects of another run; dotted, where it
    extrapolates."""
    lines = [line for panel in drawn for line in panel.lines]
    apart = len({line.label for line in lines}) > MOST_LINES
    panels = []
    for each in drawn:
        own = [line for line in each.lines if not is_shared(line)]
        for schedule in dict.fromkeys(line.schedule for line in own) if apart else ():
            kept = tuple(line for line in each.lines if is_shared(line) or line.schedule == schedule)
            panels.append(Panel(schedule if len(drawn) == 1 else f"{schedule}: {each.metric}", each, kept))
        if not apart:
            panels.append(Panel("" if len(drawn) == 1 else _role(each), each, each.lines))
    columns, look = min(2, len(panels)), looks(lines, apart=apart)
    height = 4.2 if columns == 1 else 3.0
    return grid(panels, look, title=title(drawn), label=label(drawn), columns=columns, height=height)


def title(drawn: Sequence[Curve]) -> str:
    first = drawn[0]
    seeds = "1 seed" if first.seeds == 1 else f"{first.seeds} seeds"
    what = first.metric if len(drawn) == 1 else measure(first.metric)
    return f"{first.search}: {what}, {first.num_recipes} recipes, {seeds}"


def label(drawn: Sequence[Curve]) -> str:
    """Of y: the metric, or what is measured where several have that in common, and which way is better."""
    names = list(dict.fromkeys(each.metric if len(drawn) == 1 else measure(each.metric) for each in drawn))
    ways = {each.better for each in drawn}
    return ", ".join(names) + (f" ({ways.pop()})" if len(ways) == 1 and "" not in ways else "")


def caption(drawn: Sequence[Curve]) -> str:
    lines = [line for panel in drawn for line in panel.lines]
    text = f"each point: the best recipe at that x by mean {drawn[0].objective}"
    if any(len(point.values) > 1 for line in lines for point in line.points):
        text += "; bars: lowest to highest seed; dots: seeds"
    if any(line.band is not None for line in lines):
        text += (
            f"\nshaded: where the law expects {COVERAGE:.0%} of new runs; dotted: the law beyond what a line measured"
        )
    return text


def grid(
    panels: Sequence[Panel],
    look: dict[str, Look],
    *,
    title: str,
    label: str,
    columns: int,
    height: float,
    one_scale: bool = False,
) -> Figure:
    """Panels in rows of `columns`, each `height` inches high, with x shared, and y too between those of one metric; one
    legend is below, and `label` is of y.

    one_scale  every panel spans as much of y as any, each from its own level: equal rises look equal
    """
    rows = math.ceil(len(panels) / columns)
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    in_row = max(1, min(len(labels), int(112 / (max(map(len, labels)) + 8))))  # as many as WIDTH has room for
    tall = rows * height + 0.21 * math.ceil(len(labels) / in_row) + 1.1
    figure = Figure(figsize=(WIDTH, tall), dpi=150, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize="large", fontweight="bold")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    limits: dict[str, tuple[float, float]] = {}
    for panel in panels:
        low, high = panel.limits
        before = limits.get(panel.curve.metric, (low, high))
        limits[panel.curve.metric] = min(low, before[0]), max(high, before[1])
    span = max(high - low for low, high in limits.values()) if one_scale else None
    for place, (panel, each) in enumerate(zip(panels, axes, strict=False)):
        _panel(figure, each, panel, look, columns)
        _level(each, *limits[panel.curve.metric], span)
        each.tick_params(labelbottom=place + columns >= len(panels))
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    lowest = range(max(0, len(panels) - columns), len(panels))
    for place in lowest if columns < 3 else (lowest[len(lowest) // 2],):  # of three, it is wider than one
        axes[place].set_xlabel(ticks.AXIS_LABELS[panels[0].curve.axis])
    figure.supylabel(label, fontsize="medium")
    handles: dict[str, object] = {}
    for each in axes[: len(panels)]:
        handles |= {label: handle for handle, label in zip(*each.get_legend_handles_labels(), strict=True)}
    legend = figure.legend(
        handles=[handles[label] for label in labels],
        loc="outside lower left",
        ncols=in_row,
        frameon=False,
        fontsize="small",
        handlelength=3.4,
        title=caption([panel.curve for panel in panels]),
        title_fontsize="small",
        alignment="left",
    )
    legend.get_title().set_color("#555555")
    return figure


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Writes NAME.png and NAME.svg into an existing folder; the SVG holds no date and no random ids."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with matplotlib.rc_context({"svg.hashsalt": "titrate"}):
        figure.savefig(png)
        figure.savefig(svg, metadata={"Date": None})
    return png, svg


def _role(drawn: Curve) -> str:
    return f"{drawn.metric} (chose the recipes)" if drawn.metric == drawn.objective else drawn.metric


def _panel(figure: Figure, axes: Axes, panel: Panel, look: dict[str, Look], columns: int) -> None:
    sweeps = [line for line in panel.lines if not line.reference]
    for i, line in enumerate(sweeps):
        shift = 6.0 / columns * (i - (len(sweeps) - 1) / 2)
        _sweep(figure, axes, line, look[line.label], shift=shift, small=columns > 1)
    for line in panel.lines:
        if line.reference:
            _reference(axes, line, look[line.label])
    banded = [(line, line.band) for line in panel.lines if line.band is not None]
    for line, band in banded:
        if len(banded) <= MOST_BANDS or line.adaptation == "none":
            _band(axes, line, band, look[line.label])
    ticks.scale(axes, panel.curve, columns)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.title:
        axes.set_title(panel.title, loc="left", fontsize="medium")


def _level(axes: Axes, low: float, high: float, span: float | None) -> None:
    """Sets y by hand: autoscaling does not see lines that were moved."""
    middle, half = (low + high) / 2, (high - low if span is None else span) / 2
    half = 1.12 * half or 0.05
    axes.set_ylim(middle - half, middle + half)


def _sweep(figure: Figure, axes: Axes, line: Line, look: Look, *, shift: float, small: bool) -> None:
    """`shift` in points moves the line sideways, so that bars at one x stay apart."""
    moved = axes.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
    x, mean = [point.x for point in line.points], [point.mean for point in line.points]
    axes.plot(
        x,
        mean,
        color=look.colour,
        linestyle=(0, look.dashes) if look.dashes else "-",
        linewidth=1.6,
        marker=look.marker,
        markersize=5 if small else 6.5,
        markerfacecolor=look.colour if look.filled else "white",
        label=line.label,
        transform=moved,
        zorder=3,
    )
    seeds = [(point, value) for point in line.points for value in point.values if len(point.values) > 1]
    if seeds:
        spread = [point for point in line.points if len(point.values) > 1]
        below = [max(0.0, point.mean - min(point.values)) for point in spread]  # max: three 0.7 average below 0.7
        above = [max(0.0, max(point.values) - point.mean) for point in spread]
        at = [point.x for point in spread]
        axes.errorbar(
            at,
            [point.mean for point in spread],
            yerr=[below, above],
            linestyle="",
            color=look.colour,
            elinewidth=1.1,
            capsize=0 if small else 2.5,
            transform=moved,
            zorder=2.5,
        )
        dots = [point.x for point, _ in seeds], [value for _, value in seeds]
        axes.plot(*dots, ".", color=look.colour, markersize=3 if small else 4.5, alpha=0.35, transform=moved, zorder=2)


def _band(axes: Axes, line: Line, band: Band, look: Look) -> None:
    """The law's interval where the line was measured, and its middle, dotted, where others were measured."""
    axes.fill_between(
        band.x, band.low, band.high, where=band.inside.tolist(), color=look.colour, alpha=0.12, linewidth=0, zorder=1
    )
    for beyond in (band.x <= line.points[0].x, band.x >= line.points[-1].x):
        axes.plot(band.x[beyond], band.middle[beyond], ":", color=look.colour, linewidth=1.3, zorder=1.5)


def _reference(axes: Axes, line: Line, look: Look) -> None:
    """A schedule that the axis does not vary: a dashed level with a band from its lowest to its highest seed."""
    (point,) = line.points
    axes.axhline(
        point.mean,
        color=look.colour,
        linestyle=(0, look.dashes or (12, 3)),
        linewidth=1.4,
        label=line.label,
        zorder=1.5,
    )
    axes.axhspan(min(point.values), max(point.values), color=look.colour, alpha=0.10, linewidth=0, zorder=1)
