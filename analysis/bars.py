"""The picture of importances: a panel of bars for each subspace, grey where a bar is no longer than chance makes it."""

import html
import math
from pathlib import Path

import plotly.graph_objects as go
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from plotly.subplots import make_subplots

from analysis import interactive, parallel, plots, tables, ticks
from analysis.importance import Importances, Subspace
from analysis.runs import Table

CLEAR, UNCLEAR = "#0072B2", "#BBBBBB"
SCHEMA = pa.schema(
    [
        ("subspace", pa.string()),
        ("metric", pa.string()),
        ("parameter", pa.string()),
        ("share", pa.float64()),
        ("clear", pa.bool_()),
        ("chance", pa.float64()),
        ("explained", pa.float64()),
        ("num_recipes", pa.int64()),
        ("num_used", pa.int64()),
        ("reason", pa.string()),
    ]
)
CAPTION = (
    "bars: how the differences between recipes divide over the parameters, each by itself (fANOVA); dashed: what a"
    " shuffled parameter gets;\ngrey: no more than that; explained: the part of the differences that is predicted for"
    " recipes not seen"
)


def draw(found: Importances) -> Figure:
    """Panels in two columns, as high as their bars are many; subspaces without shares are named below them."""
    shown = [one for one in found.subspaces if one.shares]
    columns = min(2, len(shown)) or 1
    rows = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    heights = [max(len(one.shares) for one in row) * 0.24 + 0.75 for row in rows]
    notes = [CAPTION] if shown else []
    notes += [f"{headline(one)}: {one.reason}" for one in found.subspaces if one.reason]
    under = "\n".join(notes)
    size = (ticks.WIDTH, sum(heights) + 0.17 * (under.count("\n") + 1) + 0.8)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    figure.suptitle(title(found), x=0.01, ha="left", fontsize="large", fontweight="bold")
    figure.legend(
        handles=[], loc="outside lower left", frameon=False, title=under, title_fontsize="small", alignment="left"
    ).get_title().set_color("#555555")
    if not shown:
        return figure
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights).ravel()
    for place, (each, one) in enumerate(zip(axes, shown, strict=False)):
        colours = [CLEAR if share.clear else UNCLEAR for share in one.shares]
        lengths = [share.share for share in one.shares]
        each.barh([share.parameter for share in one.shares], lengths, color=colours, height=0.65)
        for bar, length in enumerate(lengths):
            each.text(length + 0.01, bar, f"{length:.0%}", va="center", fontsize="small")
        row = rows[place // columns]
        each.set_ylim(max(len(other.shares) for other in row) - 0.4, -0.6)  # all bars as thick, the first on top
        each.axvline(one.chance, color="#555555", linestyle=(0, (4, 2)), linewidth=1)
        each.set_xlim(0, 1.08)
        each.xaxis.set_major_formatter(PercentFormatter(xmax=1))
        each.tick_params(axis="y", length=0)
        each.spines[["top", "right"]].set_visible(False)
        each.set_title(f"{headline(one)}, {one.explained:.0%} explained", loc="left", fontsize="small")
    for unused in axes[len(shown) :]:
        unused.set_axis_off()
    return figure


def figure(found: Importances) -> go.Figure:
    """The same to point at."""
    shown = [one for one in found.subspaces if one.shares]
    rows = max(1, math.ceil(len(shown) / 2))
    titles = [f"{html.escape(headline(one))}, {one.explained:.0%} explained" for one in shown]
    picture = make_subplots(rows, 2, subplot_titles=titles, vertical_spacing=0.4 / rows, horizontal_spacing=0.2)
    for place, one in enumerate(shown):
        where = {"row": place // 2 + 1, "col": place % 2 + 1}
        bars = go.Bar(
            x=[share.share for share in one.shares],
            y=[share.parameter for share in one.shares],
            orientation="h",
            marker={"color": [CLEAR if share.clear else UNCLEAR for share in one.shares]},
            text=[f"{share.share:.0%}" for share in one.shares],
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
            showlegend=False,
        )
        picture.add_trace(bars, **where)
        picture.add_vline(x=one.chance, line={"dash": "dash", "width": 1, "color": "#555555"}, **where)
        picture.update_xaxes(range=[0, 1.05], tickformat=".0%", **where)
    interactive.hide_unused(picture, len(shown), rows, 2)
    notes = [CAPTION] if shown else []
    notes += [f"{headline(one)}: {one.reason}" for one in found.subspaces if one.reason]
    tallest = max((len(one.shares) for one in shown), default=1)
    for each in picture.select_yaxes():
        each.range = [tallest - 0.4, -0.6]  # all bars as thick, the first on top
    top = interactive.TOP + 18 * len(notes)
    return picture.update_layout(
        **interactive.LAYOUT | {"margin": {"l": 140, "r": 20, "t": top, "b": 40}},
        title=interactive.heading(title(found), "\n".join(notes)),
        height=top + 40 + rows * (76 + 26 * tallest),
    )


def save(table: Table, found: Importances, folder: Path) -> tuple[Path, ...]:
    """Writes importance.png, .svg, .csv, .parquet and .html (with parallel coordinates) into an existing folder."""
    figures = [figure(found), parallel.figure(table, found.metric)]
    page = interactive.save(figures, folder, "importance", title(found))
    return *plots.save(draw(found), folder, "importance"), page, *tables.save(points(found), folder, "importance")


def points(found: Importances) -> pa.Table:
    """A row per parameter and subspace; one without a parameter where a subspace has no shares, with the reason."""
    records = []
    for one in found.subspaces:
        base = {
            "subspace": one.title,
            "metric": found.metric,
            "chance": None if math.isnan(one.chance) else one.chance,
            "explained": None if math.isnan(one.explained) else one.explained,
            "num_recipes": one.num_recipes,
            "num_used": one.num_used,
            "reason": one.reason or None,
        }
        records += [
            base | {"parameter": share.parameter, "share": share.share, "clear": share.clear} for share in one.shares
        ] or [base]
    return pa.Table.from_pylist(records, SCHEMA)


def title(found: Importances) -> str:
    left = f"; {found.num_left_out} recipes without a finished trial are left out" if found.num_left_out else ""
    return f"{found.search}: what decides {found.metric}{left}"


def headline(one: Subspace) -> str:
    used = f"{one.num_used} of " if one.num_used < one.num_recipes else ""
    return f"{one.title}: {used}{one.num_recipes} recipe{'' if one.num_recipes == 1 else 's'}"
