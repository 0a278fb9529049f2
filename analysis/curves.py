"""Curve: how good one gets with how much real (or synthetic) data, one line per schedule, adaptation and source.

At each x a line shows the replicates of the best recipe there, chosen by `ranking.rank`: on the mean of the objective
over seeds, never on the metric that is drawn, so a curve of a test metric is not chosen on the test set. The
best of many recipes is optimistic on the objective itself, and more so where more recipes were tried: a point says
how many there were, and names the MLflow runs behind it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from analysis.axes import AXES, Axis, quantity, varies
from analysis.ranking import Candidate, rank
from analysis.runs import Mode, Replicated, Row, Table
from trainables.recipe import DOMAINS, SCHEDULES, Recipe

if TYPE_CHECKING:
    from analysis.bands import Band

DIRECTIONS = {"iou": "max", "region_nme": "min", "point_nme": "min"}  # of what is measured of each class or region


@dataclass(frozen=True)
class Point(Replicated):
    """The replicates of one recipe at one x; `values` are of the drawn metric, one per row."""

    x: float
    recipe: Recipe
    rows: tuple[Row, ...]
    values: tuple[float, ...]
    num_recipes: int  # it was chosen from


@dataclass(frozen=True)
class Line:
    """The points of a schedule, adaptation and source, by x. A reference has no x that varies: one point, a level.

    source  of what the search varied: "real refined"; "" where it varied none that the schedule reads
    band    what a law says along the line, if one was fitted (see bands.py)
    """

    label: str
    schedule: str
    adaptation: str
    source: str
    points: tuple[Point, ...]
    reference: bool
    band: "Band | None" = None


@dataclass(frozen=True)
class Curve:
    search: str
    axis: Axis
    metric: str  # drawn
    objective: str  # chosen by
    mode: str
    num_recipes: int
    seeds: int
    lines: tuple[Line, ...]

    @property
    def sweeps(self) -> tuple[Line, ...]:
        """The lines along which x varies."""
        return tuple(line for line in self.lines if not line.reference)

    @property
    def better(self) -> str:
        """Which way is better; "" for a metric that is not the objective's on some data, nor that of one class."""
        way = direction(self.metric, self.objective, self.mode)
        return {"max": "higher is better", "min": "lower is better", None: ""}[way]


def direction(metric: str, objective: str, mode: str) -> Mode | None:
    """Which way of a metric is better, where that of the objective is `mode`; None for a metric that is not the
    objective's on some data, nor that of one class."""
    for known, way in ((measure(objective), mode), *DIRECTIONS.items()):
        if measure(metric) == known or measure(metric).startswith(f"{known}/"):
            return "max" if way == "max" else "min"
    return None


def measure(metric: str) -> str:
    """What is measured, without the data that it is measured on: `iou/nose` of `test/other/iou/nose`."""
    dataset, _, rest = metric.partition("/")
    return rest.partition("/")[2] if dataset == "test" else rest


def is_geometric(x: Sequence[float]) -> bool:
    """Whether x, two or more and ascending, belong on a log axis: where their median is nearer to the geometric mean of
    their ends than to the middle, as that of 5%, 10%, 25%, 50% and 100% is. Two, whose median tells nothing, do where
    they differ by a factor of eight."""
    low, high = x[0], x[-1]
    if low <= 0:
        return False
    if len(x) == 2:
        return high >= 8 * low
    centre = median(x)
    return abs(math.log(centre / math.sqrt(low * high))) < abs(math.log(centre / ((low + high) / 2)))


def curves_of(table: Table, axis: Axis = "real_fraction", metrics: Sequence[str] = ()) -> tuple[Curve, ...]:
    """The curves of a search over `axis`, one of each metric, by default of the objective alone.

    A schedule that uses none of what the axis counts is a reference at x = 0 (synthetic_only on real_fraction), or at
    NaN where the axis means nothing for it (finetune on synthetic_share). Raises ValueError for unknown names, and
    where no finished trial has a metric.
    """
    if axis not in AXES:
        raise ValueError(f"x must be one of {', '.join(AXES)}, but got {axis!r}")
    ranked = rank(table)  # best first, and so each group
    groups = _grouped(ranked, axis, table.varied)
    return tuple(_curve(table, axis, metric, groups) for metric in dict.fromkeys(metrics or (table.metric,)))


def curve(table: Table, axis: Axis = "real_fraction", metric: str | None = None) -> Curve:
    """The one curve of a metric, by default of the objective. Raises ValueError as `curves_of` does."""
    return curves_of(table, axis, (metric or table.metric,))[0]


Groups = dict[tuple[str, str, str], dict[float, list[Candidate]]]


def _grouped(ranked: Sequence[Candidate], axis: Axis, varied: Sequence[str]) -> Groups:
    """The candidates of each line, by x, in the order of the lines."""
    groups: Groups = {}
    for candidate in ranked:
        recipe = candidate.recipe
        kind = (recipe.schedule, recipe.adaptation or "none", _source(recipe, varied))
        groups.setdefault(kind, {}).setdefault(_position(axis, candidate)[0], []).append(candidate)
    return dict(sorted(groups.items(), key=lambda g: (SCHEDULES.index(g[0][0]), g[0][1] != "none", *g[0][1:])))


def _curve(table: Table, axis: Axis, metric: str, groups: Groups) -> Curve:
    lines = []
    for (schedule, adaptation, source), candidates in groups.items():
        points = []
        for x in sorted(candidates):
            rows = [row for row in candidates[x][0].rows if row.value(metric) is not None]
            values = [value for row in rows if (value := row.value(metric)) is not None]
            if values:
                points.append(Point(x, candidates[x][0].recipe, tuple(rows), tuple(values), len(candidates[x])))
        if points:
            name = schedule + (f" + {adaptation}" if adaptation != "none" else "") + (f", {source}" if source else "")
            reference = not any(_position(axis, c)[1] for group in candidates.values() for c in group)
            lines.append(Line(name, schedule, adaptation, source, tuple(points), reference))
    if not lines:
        known = sorted({_family(name) for row in table.rows if row.status == "finished" for name in row.metrics})
        there = f"there are: {', '.join(known) or 'none'}"
        raise ValueError(f"no finished trial of search {table.search!r} has metric {metric!r}; {there}")
    return Curve(table.search, axis, metric, table.metric, table.mode, len(table.recipes()), table.seeds, tuple(lines))


def _family(metric: str) -> str:
    """A metric's name, but one name for all classes, regions or points: `val/iou/CLASS`."""
    known = next((name for name in DIRECTIONS if measure(metric).startswith(f"{name}/")), None)
    return metric.partition(f"{known}/")[0] + f"{known}/NAME" if known else metric


def _source(recipe: Recipe, varied: Sequence[str]) -> str:
    """A recipe's sources of the domains that the search varied: `real refined, synthetic studio+street`."""
    named = [(domain, recipe.sources(domain)) for domain in DOMAINS if domain in varied]
    return ", ".join(f"{domain} {'+'.join(names)}" for domain, names in named if names)


def _position(axis: Axis, candidate: Candidate) -> tuple[float, bool]:
    """The x of a recipe, NaN where it has none, and whether the axis varies for its schedule."""
    row = candidate.rows[0]
    x, moves = quantity(axis, row), varies(axis, candidate.recipe)
    if x is None and moves:
        lacking = [name for name in ("num_real_labels", "num_synthetic") if getattr(row, name) is None]
        raise ValueError(
            f"MLflow run {row.run_id} must have param {' and '.join(lacking)} for this axis, but has none; choose"
            " another x"
        )
    return (math.nan if x is None else x), moves
