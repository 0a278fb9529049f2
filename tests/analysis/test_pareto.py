"""The Pareto front against its definition, and its picture."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis import pareto
from tests.analysis.scored import NUM_SYNTHETIC, recipes, table

TABLE = table(recipes(rates=(0.003, 0.01, 0.03)))


@pytest.mark.parametrize("mode", ["max", "min"])
def test_on_the_front_is_what_nothing_that_costs_no_more_beats(mode: str) -> None:
    found = pareto.fronts(replace(TABLE, mode=mode))
    assert [front.cost for front in found] == ["num_real_labels", "num_synthetic", "steps"]
    sign = 1 if mode == "max" else -1
    for front in found:
        assert len(front.offers) == len(TABLE.recipes())
        for offer in front.offers:
            beaten = any(
                other.cost <= offer.cost
                and sign * other.candidate.mean >= sign * offer.candidate.mean
                and other is not offer
                for other in front.offers
            )
            assert offer.on_front == (not beaten)


def test_what_reads_no_images_of_a_kind_costs_none_of_them() -> None:
    labels, synthetic, steps = pareto.fronts(TABLE)
    assert {offer.cost for offer in labels.offers if offer.candidate.recipe.schedule == "synthetic_only"} == {0}
    assert {offer.cost for offer in synthetic.offers} == {0, NUM_SYNTHETIC}
    assert {offer.cost for offer in steps.offers} == {1000, 1500}


def test_a_recipe_with_fewer_replicates_than_others_is_on_no_front() -> None:
    lucky = next(iter(TABLE.recipes()))
    rows = [
        replace(row, status="failed") if row.seed else replace(row, metrics={"val/miou": 0.999})
        for row in TABLE.rows
        if row.recipe == lucky
    ]
    others = [row for row in TABLE.rows if row.recipe != lucky]
    for front in pareto.fronts(replace(TABLE, rows=(*rows, *others))):
        assert lucky not in {offer.candidate.recipe for offer in front.offers}


def test_where_there_is_nothing_to_weigh_it_is_said() -> None:
    with pytest.raises(ValueError, match="must have a finished trial with val/miou, but has none"):
        pareto.fronts(replace(TABLE, rows=()))
    one = recipes(("real_only",), fractions=(0.5,), rates=(0.01, 0.1))
    with pytest.raises(ValueError, match="all that finished cost the same"):
        pareto.fronts(table(one))


def test_the_files_name_every_recipe_and_its_runs(tmp_path: Path) -> None:
    found = pareto.fronts(TABLE)
    files = pareto.save(found, tmp_path)
    assert {file.name for file in files} == {f"pareto.{kind}" for kind in ("png", "svg", "html", "csv", "parquet")}
    rows = pq.read_table(tmp_path / "pareto.parquet").to_pylist()
    assert len(rows) == 3 * len(TABLE.recipes())
    best = [row for row in rows if row["on_front"] and row["cost"] == "num_real_labels"]
    assert [row["recipe"] for row in best] == [str(o.candidate.recipe) for o in found[0].offers if o.on_front]
    assert all(len(row["run_ids"]) == 3 for row in rows)
