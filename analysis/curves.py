"""Curve: how good one gets with how much real (or synthetic) data, one line per schedule, adaptation and source.

At each x a line shows the replicates of the best recipe there, chosen by `ranking.rank`: on the mean of the objective
over seeds, never on the metric that is drawn, so a curve of a test metric is not chosen on the test set. The
best of many recipes is optimistic on the objective itself, and more so where more recipes were tried: a point says
how many there were, and names the MLflow runs behind it.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from analysis.ranking import Candidate, rank
from analysis.runs import Row, Table, mean, std
from trainables.recipe import DOMAINS, SCHEDULES, Recipe

Axis = Literal["real_fraction", "num_real_labels", "num_synthetic", "synthetic_share"]
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True)
class Point:
    """The replicates of one recipe at one x; `values` are of the drawn metric, one per row."""

    x: float
    recipe: Recipe
    rows: tuple[Row, ...]
    values: tuple[float, ...]
    num_recipes: int  # it was chosen from

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def std(self) -> float:
        """Over seeds (n - 1); NaN with one seed."""
        return std(self.values)


@dataclass(frozen=True)
class Line:
    """The points of a schedule, adaptation and source, by x. A reference has no x that varies: one point, a level.

    source  of what the search varied: "real refined"; "" where it varied none that the schedule reads
    """

    label: str
    schedule: str
    adaptation: str
    source: str
    points: tuple[Point, ...]
    reference: bool


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


def curve(table: Table, axis: Axis = "real_fraction", metric: str | None = None) -> Curve:
    """The curve of a search over `axis`; `metric` is drawn, by default the objective.

    A schedule that uses none of what the axis counts is a reference at x = 0 (synthetic_only on real_fraction), or at
    NaN where the axis means nothing for it (finetune on synthetic_share). Raises ValueError for unknown names, and
    where no finished trial has the metric.
    """
    if axis not in AXES:
        raise ValueError(f"x must be one of {', '.join(AXES)}, but got {axis!r}")
    drawn = metric or table.metric
    varied = table.varied
    groups: dict[tuple[str, str, str], dict[float, list[Candidate]]] = {}
    for candidate in rank(table):  # best first, and so each group
        recipe = candidate.recipe
        kind = (recipe.schedule, recipe.adaptation or "none", _source(recipe, varied))
        groups.setdefault(kind, {}).setdefault(_position(axis, candidate)[0], []).append(candidate)
    lines = []
    in_order = sorted(groups.items(), key=lambda g: (SCHEDULES.index(g[0][0]), g[0][1] != "none", *g[0][1:]))
    for (schedule, adaptation, source), candidates in in_order:
        points = []
        for x in sorted(candidates):
            rows = [row for row in candidates[x][0].rows if row.value(drawn) is not None]
            values = [value for row in rows if (value := row.value(drawn)) is not None]
            if values:
                points.append(Point(x, candidates[x][0].recipe, tuple(rows), tuple(values), len(candidates[x])))
        if points:
            name = schedule + (f" + {adaptation}" if adaptation != "none" else "") + (f", {source}" if source else "")
            reference = not any(_position(axis, c)[1] for group in candidates.values() for c in group)
            lines.append(Line(name, schedule, adaptation, source, tuple(points), reference))
    if not lines:
        known = sorted({name for row in table.rows if row.status == "finished" for name in row.metrics})
        there = f"there are: {', '.join(known) or 'none'}"
        raise ValueError(f"no finished trial of search {table.search!r} has metric {drawn!r}; {there}")
    return Curve(table.search, axis, drawn, table.metric, table.mode, len(table.recipes()), table.seeds, tuple(lines))


def _source(recipe: Recipe, varied: Sequence[str]) -> str:
    """A recipe's sources of the domains that the search varied: `real refined, synthetic studio+street`."""
    named = [(domain, recipe.sources(domain)) for domain in DOMAINS if domain in varied]
    return ", ".join(f"{domain} {'+'.join(names)}" for domain, names in named if names)


def _position(axis: Axis, candidate: Candidate) -> tuple[float, bool]:
    """The x of a recipe, and whether the axis varies for its schedule."""
    recipe, row = candidate.recipe, candidate.rows[0]
    if axis == "synthetic_share":
        share = recipe.synthetic_share
        if share is None:  # that of `gradual` is no number, and what comes before `finetune` no share
            return {"real_only": 0.0, "synthetic_only": 1.0}.get(recipe.schedule, math.nan), False
        if isinstance(share, float):
            return share, True
        synthetic, real = _count(row, "num_synthetic"), _count(row, "num_real_labels")
        return synthetic / (synthetic + real), True
    if axis == "num_synthetic":
        return (_count(row, axis), True) if recipe.synthetic_fraction is not None else (0.0, False)
    if recipe.real_fraction is None:
        return 0.0, False
    return (recipe.real_fraction if axis == "real_fraction" else _count(row, "num_real_labels")), True


def _count(row: Row, name: Literal["num_synthetic", "num_real_labels"]) -> float:
    value: int | None = getattr(row, name)
    if value is None:
        raise ValueError(
            f"MLflow run {row.run_id} must have param {name} for this axis, but has none; choose another x"
        )
    return float(value)


def write_csv(drawn: Curve, path: Path) -> None:
    """One row per point, with the ids of its MLflow runs separated by spaces."""
    header = ["line", drawn.axis, "metric", "mean", "std", "min", "max", "seeds", "values", "num_recipes"]
    header += ["num_real_labels", "num_synthetic", "real_source", "synthetic_source", "recipe", "recipe_key", "run_ids"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for line in drawn.lines:
            for point in line.points:
                row = point.rows[0]
                cells: list[object] = [line.label, _cell(point.x), drawn.metric]
                cells += [_cell(value) for value in (point.mean, point.std, min(point.values), max(point.values))]
                cells += [_joined([r.seed for r in point.rows]), _joined(point.values), point.num_recipes]
                cells += [row.num_real_labels, row.num_synthetic]
                cells += [point.recipe.real_source, point.recipe.synthetic_source, str(point.recipe), point.recipe.key]
                writer.writerow([*cells, _joined([r.run_id for r in point.rows])])


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _joined(values: Sequence[object]) -> str:
    return " ".join(map(str, values))
