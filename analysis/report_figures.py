"""The sections of a report that are figures: curves, classes, importances, quality against cost."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.report_blocks import Block, Bullets, Interactive, Picture, Section, Text
from analysis.report_context import Context

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def the_curve(context: Context) -> Section | None:
    """The objective against the labelled real images, a line per schedule and adaptation, with what the law expects."""
    if context.winner is None:
        return None
    from analysis import interactive, plots

    drawn = (context.curve,)
    blocks: list[Block] = [
        picture("curve", plots.draw(drawn), f"{context.table.metric} against labelled real images"),
        fragment("curve", interactive.figure(drawn), "The same to point at: recipes, seeds and runs of each point"),
    ]
    if context.no_law:
        blocks.append(Text(f"Without a band: {context.no_law}.", "small"))
    return Section("curve", "The curve", tuple(blocks))


def by_class(context: Context) -> tuple[Picture, ...]:
    """The curve of each class or region, in small multiples."""
    from analysis import multiples

    return tuple(
        picture(f"each-{several.noun}", multiples.draw(several), multiples.title(several))
        for several in multiples.multiples(context.table)
    )


def importances(context: Context) -> Section | None:
    """What each parameter decides, among the recipes that have it; and all recipes in parallel coordinates."""
    if len(context.decision.candidates) < 2:
        return None
    from analysis import bars, importance, parallel

    found = importance.importances(context.table)
    blocks: list[Block] = []
    if any(one.shares for one in found.subspaces):
        blocks.append(picture("importance", bars.draw(found), bars.title(found)))
    else:
        reasons = tuple(f"{bars.headline(one)}: {one.reason}" for one in found.subspaces)
        blocks += [Text("It cannot be said what decides:"), Bullets(reasons)]
    blocks.append(fragment("parallel", parallel.figure(context.table), "All recipes in parallel coordinates"))
    return Section("importances", "What decides", tuple(blocks))


def quality_and_cost(context: Context) -> Section | None:
    """The best quality that each cost buys."""
    if len(context.decision.candidates) < 2:
        return None
    from analysis import pareto

    fronts = pareto.fronts(context.table)
    blocks: tuple[Block, ...] = (
        picture("pareto", pareto.draw(fronts), f"{context.table.metric} against what it costs"),
        fragment("pareto", pareto.figure(fronts), "The same to point at"),
    )
    return Section("pareto", "Quality against cost", blocks)


def picture(name: str, figure: "Figure", alt: str, caption: str = "") -> Picture:
    """A matplotlib figure as SVG; the same bytes for the same figure."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "titrate"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return Picture(name, out.getvalue(), alt, caption)


def fragment(name: str, figure: Any, title: str) -> Interactive:
    """A plotly figure without plotly's script."""
    config = {"responsive": True, "displaylogo": False}
    html = figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"plotly-{name}", config=config)
    return Interactive(html, title)


def line_with_band(
    x: Sequence[float], median: Sequence[float], low: Sequence[float], high: Sequence[float], *, labels: tuple[str, str]
) -> "Figure":
    """A median over a logarithmic x, in its band; `labels` are of x and y. What is infinite leaves the picture."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    values = np.array([median, low, high])
    known = np.append(values[np.isfinite(values)], 0.0)
    room = 0.05 * (float(np.ptp(known)) or 1.0)
    bottom, top = float(known.min()) - room, float(known.max()) + room
    middle, lower, upper = np.clip(values, bottom, top)

    figure = Figure(figsize=(9.5, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(x, lower, upper, color="#0072B2", alpha=0.15, linewidth=0)
    axes.plot(x, np.where(np.isfinite(median), middle, np.nan), color="#0072B2", linewidth=1.8)
    axes.set_ylim(bottom, top)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
