"""The sections of a report that are figures: curves, classes, importances, quality against cost."""

import io
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
