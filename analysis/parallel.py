"""Parallel coordinates: every recipe a line through its parameters to its score, to be filtered by hand.

Optuna's own picture leaves out every trial that lacks a parameter, and so, in a space of several schedules, most of
them. Here a parameter that a recipe does not have is at "–", below the values that others have.
"""

import html
import math
from typing import Any

import plotly.graph_objects as go

from analysis.curves import is_geometric
from analysis.importance import LISTED, scores
from analysis.interactive import LAYOUT, heading
from analysis.runs import Table

ABSENT = "–"


def figure(table: Table, metric: str | None = None) -> go.Figure:
    """Of the recipes with a finished replicate, by their means. Drag along an axis to keep a range of it. A parameter
    that is the same in all that have it has no axis.

    Raises ValueError where no finished trial has the metric.
    """
    judged = metric or table.metric
    scored = scores(table, judged)
    if not scored:
        raise ValueError(f"search {table.search!r} must have a finished trial with metric {judged!r}, but has none")
    params = [recipe.params() for recipe in scored]
    names = dict.fromkeys(name for given in params for name in given)
    columns = {name: [given.get(name) for given in params] for name in names}
    shown = [_dimension(name, column) for name, column in columns.items() if len({*column} - {None}) > 1]
    values = list(scored.values())
    shown.append({"label": html.escape(judged), "values": values})
    line = {
        "color": values,
        "colorscale": "Cividis",  # even in lightness, and the same to readers of any colour vision
        "reversescale": table.mode == "min",
        "showscale": True,
        "colorbar": {"title": html.escape(judged)},
    }
    picture = go.Figure(go.Parcoords(line=line, dimensions=shown, labelangle=-15, labelside="top"))
    under = f"{len(values)} recipes; – is a parameter that a recipe does not have; drag along an axis to keep a part"
    return picture.update_layout(
        **LAYOUT | {"margin": {"l": 90, "r": 60, "t": 150, "b": 40}},
        title=heading(f"{table.search}: every recipe and its {judged}", under),
        height=600,
    )


def _dimension(name: str, column: list[Any]) -> dict[str, Any]:
    """An axis: the values of a list at equal distances, those of a range where they are, on a log scale if they are
    geometric."""
    levels = sorted({value for value in column if value is not None}, key=lambda v: (isinstance(v, str), v))
    absent = [None] if None in column else []
    if len(levels) <= LISTED or any(isinstance(level, str) for level in levels):
        order = [*absent, *levels]
        ticks = [
            ABSENT if level is None else f"{level:g}" if isinstance(level, float) else str(level) for level in order
        ]
        places = {level: place for place, level in enumerate(order)}
        return {
            "label": name,
            "values": [places[value] for value in column],
            "tickvals": list(range(len(order))),
            "ticktext": ticks,
        }
    log = is_geometric(levels)
    low, high = (math.log10(end) if log else float(end) for end in (levels[0], levels[-1]))
    below = low - 0.08 * (high - low)
    values = [below if value is None else math.log10(value) if log else float(value) for value in column]
    marks = [low + (high - low) * k / 4 for k in range(5)]
    texts = [f"{10**mark if log else mark:.3g}" for mark in marks]
    return {
        "label": name,
        "values": values,
        "tickvals": [*([below] if absent else []), *marks],
        "ticktext": [*([ABSENT] if absent else []), *texts],
    }
