"""Pictures to point at: plotly figures whose points tell their recipe, seeds and MLflow runs, in one HTML page.

A page holds plotly's own script (5 MB), so that it opens without a network, from MLflow's artifacts too. The figures
are plain plotly: whoever writes a page of their own includes the script once, and the figures as fragments.
"""

import html
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import plots, ticks
from analysis.curves import Curve, Line, Point, is_geometric
from analysis.style import Look, looks
from analysis.wording import decimals

SYMBOLS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "<": "triangle-left",
    ">": "triangle-right",
    "P": "cross",
    "X": "x",
    "*": "star",
}
HOVER = 70  # characters in a row of what a point tells
TOP = 96  # pixels, for a title and two lines under it
LAYOUT = {
    "template": "simple_white",
    "font": {"family": "sans-serif", "size": 13},
    "hoverlabel": {"align": "left", "font": {"size": 12}},
    "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
}


def figure(
    drawn: Sequence[Curve],
    *,
    title: str | None = None,
    label: str | None = None,
    columns: int = 2,
    one_scale: bool = False,
) -> go.Figure:
    """The curves that `plots.draw` draws, a panel each; a click on a line's name hides it in every panel.

    title, label  of the figure and of y, where they are not those of `plots`
    one_scale     as `plots.grid` has it
    """
    columns = min(columns, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    titles = [html.escape(panel.metric) for panel in drawn] if len(drawn) > 1 else None
    picture = make_subplots(rows, columns, subplot_titles=titles, vertical_spacing=0.2 / rows)
    look = looks([line for panel in drawn for line in panel.lines])
    limits = [plots.Panel("", panel, panel.lines).limits for panel in drawn]
    half = 0.56 * max(high - low for low, high in limits)
    lowest = range(max(0, len(drawn) - columns), len(drawn))
    for place, panel in enumerate(drawn):
        where = _cell(place, columns)
        for line in panel.lines:
            for trace in _traces(panel, line, look[line.label]):
                trace.showlegend = bool(trace.showlegend) and place == 0
                picture.add_trace(trace, **where)
        picture.update_xaxes(**_axis(panel), **where)
        if place in (lowest if columns < 3 else (lowest[len(lowest) // 2],)):
            picture.update_xaxes(title=ticks.AXIS_LABELS[panel.axis], **where)
        if place % columns == 0 and (label is None or place == columns * ((rows - 1) // 2)):
            picture.update_yaxes(title=html.escape(label or plots.label(drawn)), **where)
        if one_scale:
            centre = sum(limits[place]) / 2
            picture.update_yaxes(range=[centre - half, centre + half], **where)
        picture.update_yaxes(showgrid=True, gridcolor="#dddddd", **where)
    hide_unused(picture, len(drawn), rows, columns)
    labels = [line.label for line in drawn[0].lines]
    below = 24 * math.ceil(len(labels) * (max(map(len, labels)) + 12) / 130)  # pixels, of the legend's rows
    return picture.update_layout(
        **LAYOUT | {"margin": {"l": 70, "r": 20, "t": TOP + 20, "b": 60 + below}},
        title=heading(title or plots.title(drawn), plots.caption(drawn)),
        height=TOP + 100 + below + (360 if columns < 3 else 230) * rows,
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "groupclick": "togglegroup",
            "itemwidth": 50,
        },
    )


def heading(title: str, under: str) -> dict[str, object]:
    """A figure's title, with lines in small print under it, at the top of a margin of TOP or more."""
    text, small = html.escape(title), html.escape(under).replace("\n", "<br>")
    place = {"yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 14}}
    return {"text": f"<b>{text}</b>", "subtitle": {"text": small}, **place}


def hide_unused(picture: go.Figure, used: int, rows: int, columns: int) -> None:
    """Makes the panels after the first `used` invisible."""
    for place in range(used, rows * columns):
        picture.update_xaxes(visible=False, **_cell(place, columns))
        picture.update_yaxes(visible=False, **_cell(place, columns))


def _cell(place: int, columns: int) -> dict[str, int]:
    return {"row": place // columns + 1, "col": place % columns + 1}


def page(figures: Sequence[go.Figure], title: str) -> str:
    """One self-contained HTML document that shows the figures, one under the other; the same text for the same runs."""
    fragments = [
        each.to_html(
            full_html=False, include_plotlyjs=place == 0, div_id=f"figure-{place}", config={"responsive": True}
        )
        for place, each in enumerate(figures)
    ]
    head = f'<head><meta charset="utf-8"><title>{html.escape(title)}</title></head>'
    return f"<!DOCTYPE html>\n<html>{head}\n<body>\n" + "\n".join(fragments) + "\n</body></html>\n"


def save(figures: Sequence[go.Figure], folder: Path, name: str, title: str) -> Path:
    """Writes NAME.html into an existing folder."""
    path = folder / f"{name}.html"
    path.write_text(page(figures, title), encoding="utf-8")
    return path


def tell(headline: str, lines: Sequence[str]) -> str:
    """What a point says when it is pointed at: a headline, and lines that are wrapped."""
    rows = [row for line in lines for row in wrap(line, HOVER)]
    return "<br>".join([f"<b>{html.escape(headline)}</b>", *map(html.escape, rows)])


def _traces(drawn: Curve, line: Line, look: Look) -> list[go.Scatter]:
    shared = {"legendgroup": line.label, "name": html.escape(line.label)}
    colour = look.css
    dash = ",".join(f"{1.8 * length:g}px" for length in look.dashes) or "solid"
    hovers = [_hover(drawn, line, point) for point in line.points]
    if line.reference:
        (point,) = line.points
        x = sorted({point.x for other in drawn.sweeps for point in other.points})
        ends = [0.0, 1.0] if drawn.axis == "synthetic_share" or not x else [x[0], x[-1]]
        level = go.Scatter(
            x=[ends[0], *x[1:-1], ends[1]],
            y=[point.mean] * (len(x[1:-1]) + 2),
            mode="lines",
            line={"color": colour, "dash": dash if look.dashes else "20px,5px", "width": 1.6},
            text=hovers[0],
            hovertemplate="%{text}<extra></extra>",
            showlegend=True,
            **shared,
        )
        return [level]
    found = []
    if (band := line.band) is not None:
        inside = band.inside
        x = band.x[inside].tolist()
        edge = [*band.high[inside].tolist(), *reversed(band.low[inside].tolist())]
        fill = colour.replace("rgb", "rgba").replace(")", ", 0.13)")
        quiet = {"mode": "lines", "hoverinfo": "skip", "showlegend": False, **shared}
        found.append(
            go.Scatter(x=[*x, *reversed(x)], y=edge, fill="toself", fillcolor=fill, line={"width": 0}, **quiet)
        )
        for beyond in (band.x <= x[0], band.x >= x[-1]):
            if beyond.sum() > 1:
                dots = {"color": colour, "dash": "dot", "width": 1.5}
                found.append(go.Scatter(x=band.x[beyond].tolist(), y=band.middle[beyond].tolist(), line=dots, **quiet))
    found.append(
        go.Scatter(
            x=[point.x for point in line.points],
            y=[point.mean for point in line.points],
            error_y={
                "type": "data",
                "array": [max(0.0, max(point.values) - point.mean) for point in line.points],
                "arrayminus": [max(0.0, point.mean - min(point.values)) for point in line.points],
                "thickness": 1.2,
                "width": 3,
                "visible": any(len(point.values) > 1 for point in line.points),
            },
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": SYMBOLS[look.marker] + ("" if look.filled else "-open"), "size": 9, "color": colour},
            text=hovers,
            hovertemplate="%{text}<extra></extra>",
            showlegend=True,
            **shared,
        )
    )
    return found


def _hover(drawn: Curve, line: Line, point: Point) -> str:
    row, digits = point.rows[0], decimals(point.mean) + 1
    spread = "" if math.isnan(point.std) else f" ± {point.std:.{digits}f}"
    seeds = ", ".join(
        f"{value:.{digits}f} (seed {row.seed})" for row, value in zip(point.rows, point.values, strict=True)
    )
    counts = [
        f"{count:,} {name}"
        for count, name in ((row.num_real_labels, "labelled real images"), (row.num_synthetic, "synthetic images"))
        if count is not None
    ]
    lines = [f"{drawn.metric} {point.mean:.{digits}f}{spread}", seeds, str(point.recipe), ", ".join(counts)]
    lines += [f"the best of {point.num_recipes} recipes here" if point.num_recipes > 1 else ""]
    return tell(line.label, [*lines, "runs " + " ".join(row.run_id for row in point.rows)])


def _axis(drawn: Curve) -> dict[str, object]:
    """A log axis where the x are geometric; ticks at the x there are, unless there are many."""
    x = sorted({point.x for line in drawn.sweeps for point in line.points})
    if drawn.axis == "synthetic_share":
        return {"tickformat": ".0%", "range": [-0.02, 1.02]}
    percent = drawn.axis == "real_fraction"
    found: dict[str, object] = {"type": "log"} if len(x) > 1 and is_geometric(x) else {}
    if 0 < len(x) <= 10:
        found |= {
            "tickvals": x,
            "ticktext": [f"{100 * v:.4g}%" if percent else f"{v:,g}" for v in x],
            "minor": {"ticks": ""},
        }
    elif percent:
        found |= {"tickformat": ".3~p"}
    return found
