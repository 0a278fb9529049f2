"""The data behind a picture as CSV and Parquet: one row per point, which names its recipe and its MLflow runs.

Both hold the same columns. What is a list in Parquet (seeds, values, run_ids) is joined by spaces in CSV, and what is
null there is empty here.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.curves import Curve

POINT = pa.schema(
    [
        ("line", pa.string()),
        ("axis", pa.string()),
        ("x", pa.float64()),
        ("metric", pa.string()),
        ("mean", pa.float64()),
        ("std", pa.float64()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("seeds", pa.list_(pa.int64())),
        ("values", pa.list_(pa.float64())),
        ("num_recipes", pa.int64()),
        ("num_real_labels", pa.int64()),
        ("num_synthetic", pa.int64()),
        ("real_source", pa.string()),
        ("synthetic_source", pa.string()),
        ("recipe", pa.string()),
        ("recipe_key", pa.string()),
        ("run_ids", pa.list_(pa.string())),
    ]
)
BAND = pa.schema(
    [
        ("line", pa.string()),
        ("axis", pa.string()),
        ("x", pa.float64()),
        ("metric", pa.string()),
        ("num_real_labels", pa.float64()),
        ("num_synthetic", pa.float64()),
        ("middle", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("inside", pa.bool_()),
    ]
)


def points(drawn: Sequence[Curve]) -> pa.Table:
    """The points of curves; x is null where a line has no place on the axis."""
    records = [
        {
            "line": line.label,
            "axis": panel.axis,
            "x": None if math.isnan(point.x) else point.x,
            "metric": panel.metric,
            "mean": point.mean,
            "std": None if math.isnan(point.std) else point.std,
            "min": min(point.values),
            "max": max(point.values),
            "seeds": [row.seed for row in point.rows],
            "values": list(point.values),
            "num_recipes": point.num_recipes,
            "num_real_labels": point.rows[0].num_real_labels,
            "num_synthetic": point.rows[0].num_synthetic,
            "real_source": point.recipe.real_source,
            "synthetic_source": point.recipe.synthetic_source,
            "recipe": str(point.recipe),
            "recipe_key": point.recipe.key,
            "run_ids": [row.run_id for row in point.rows],
        }
        for panel in drawn
        for line in panel.lines
        for point in line.points
    ]
    return pa.Table.from_pylist(records, POINT)


def bands(drawn: Sequence[Curve]) -> pa.Table:
    """The bands of curves; no rows where no line has one."""
    records = [
        dict(zip(BAND.names, (line.label, panel.axis, x, panel.metric, *rest), strict=True))
        for panel in drawn
        for line in panel.lines
        if (band := line.band) is not None
        for x, *rest in zip(
            *(
                part.tolist()
                for part in (band.x, band.real, band.synthetic, band.middle, band.low, band.high, band.inside)
            ),
            strict=True,
        )
    ]
    return pa.Table.from_pylist(records, BAND)


def save(table: pa.Table, folder: Path, name: str) -> tuple[Path, Path]:
    """Writes NAME.csv and NAME.parquet into an existing folder."""
    text, parquet = folder / f"{name}.csv", folder / f"{name}.parquet"
    with text.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        for record in table.to_pylist():
            writer.writerow(map(_cell, record.values()))
    pq.write_table(table, parquet)
    return text, parquet


def _cell(value: Any) -> object:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else value
