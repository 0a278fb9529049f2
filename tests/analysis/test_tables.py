"""CSV and Parquet of a curve: the same rows in both, each naming its recipe and its runs."""

import csv
import math
from pathlib import Path

import pyarrow.parquet as pq

from analysis import Curve, curves_of, tables
from tests.analysis import scored
from tests.analysis.test_curves import REAL_LOW, SOURCES, TABLE, make


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def saved(drawn: tuple[Curve, ...], folder: Path) -> tuple[list[dict[str, str]], list[dict[str, object]]]:
    text, parquet = tables.save(tables.points(drawn), folder, "curve")
    return read(text), pq.read_table(parquet).to_pylist()


def test_every_point_names_its_recipe_and_its_runs(tmp_path: Path) -> None:
    text, parquet = saved(curves_of(TABLE), tmp_path)
    assert len(text) == len(parquet) == 6
    assert text[0]["run_ids"] == "run00 run01 run02"
    assert parquet[0]["run_ids"] == ["run00", "run01", "run02"]
    assert float(text[0]["mean"]) == 0.5
    assert text[0]["recipe_key"] == parquet[0]["recipe_key"] == REAL_LOW.key
    assert (parquet[0]["axis"], parquet[0]["x"], parquet[0]["seeds"]) == ("real_fraction", 0.05, [0, 1, 2])


def test_both_files_say_the_same_of_every_metric_to_the_last_bit(tmp_path: Path) -> None:
    table = scored.table(scored.recipes())
    drawn = curves_of(table, metrics=("val/miou", "test/other/miou"))
    text, parquet = saved(drawn, tmp_path)
    assert [row["metric"] for row in text] == [row["metric"] for row in parquet]
    assert {row["metric"] for row in text} == {"val/miou", "test/other/miou"}
    for row, same in zip(text, parquet, strict=True):
        assert [float(row[name]) for name in ("x", "mean", "std", "min", "max")] == [
            same[name] for name in ("x", "mean", "std", "min", "max")
        ]
        assert [float(value) for value in row["values"].split()] == same["values"]


def test_what_is_not_known_is_empty_and_null(tmp_path: Path) -> None:
    text, parquet = saved(curves_of(make({REAL_LOW: [0.5]})), tmp_path)
    assert (text[0]["std"], text[0]["num_synthetic"]) == ("", "")
    assert (parquet[0]["std"], parquet[0]["num_synthetic"]) == (None, None)
    drawn = curves_of(TABLE, "synthetic_share")
    assert any(math.isnan(point.x) for line in drawn[0].lines for point in line.points)
    text, parquet = saved(drawn, tmp_path)
    assert [row["x"] is None for row in parquet] == [row["x"] == "" for row in text]
    assert sum(row["x"] == "" for row in text) == 1


def test_the_sources_are_there(tmp_path: Path) -> None:
    text, _ = saved(curves_of(make(SOURCES)), tmp_path)
    assert [(row["real_source"], row["synthetic_source"]) for row in text] == [
        ("original", ""),
        ("original+refined", ""),
        ("refined", ""),
        ("", "studio"),
        ("refined", "studio"),
    ]
