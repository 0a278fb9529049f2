"""Small multiples: one panel per class or region, on one scale, hardest first."""

from dataclasses import replace

import pytest

from analysis import multiples
from tests.analysis.scored import CLASSES, recipes, table

TABLE = table(recipes())


def test_each_class_has_a_panel_and_the_hardest_is_first() -> None:
    (found,) = multiples.multiples(TABLE)
    assert (found.noun, found.measure, found.dataset) == ("class", "iou", "val")
    hardest_first = sorted(CLASSES, key=lambda name: CLASSES[name])
    assert [each.metric for each in found.curves] == [f"val/iou/{name}" for name in hardest_first]
    figure = multiples.draw(found)
    assert [axes.get_title(loc="left") for axes in figure.axes[: len(CLASSES)]] == hardest_first


def test_panels_have_one_scale_each_from_its_own_level() -> None:
    (found,) = multiples.multiples(TABLE)
    axes = multiples.draw(found).axes[: len(CLASSES)]
    limits = [each.get_ylim() for each in axes]
    assert [high - low for low, high in limits] == pytest.approx([limits[0][1] - limits[0][0]] * len(CLASSES))
    assert len({round(low, 3) for low, _ in limits}) == len(CLASSES)
    for (low, high), each in zip(limits, found.curves, strict=True):
        values = [value for line in each.lines for point in line.points for value in point.values]
        assert low < min(values)
        assert max(values) < high


def test_of_many_lines_each_schedule_has_its_best_by_the_objective() -> None:
    chosen = recipes(adaptations=("none", "real_bn", "adabn"))
    better = [
        replace(row, metrics={name: value + 0.01 for name, value in row.metrics.items()})
        if row.recipe.adaptation == "adabn"
        else row
        for row in table(chosen, noise=0.0).rows
    ]
    (found,) = multiples.multiples(replace(TABLE, rows=tuple(better)))
    (legend,) = multiples.draw(found).legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ["real_only", "synthetic_only", "mixed + adabn", "finetune + adabn"]


def test_regions_where_less_is_better_begin_with_the_largest_error_and_other_data_can_be_asked_for() -> None:
    errors = {"jaw": 0.02, "left_eye": 0.08, "mouth": 0.05}
    rows = [
        replace(row, metrics=row.metrics | {f"test/300w/region_nme/{name}": error for name, error in errors.items()})
        for row in TABLE.rows
    ]
    (found,) = multiples.multiples(replace(TABLE, rows=tuple(rows)), dataset="test/300w")
    assert (found.noun, [each.metric.rpartition("/")[2] for each in found.curves]) == (
        "region",
        ["left_eye", "mouth", "jaw"],
    )
    assert {each.better for each in found.curves} == {"lower is better"}


def test_where_nothing_was_measured_by_class_there_are_none() -> None:
    rows = tuple(replace(row, metrics={"val/miou": row.metrics["val/miou"]}) for row in TABLE.rows)
    assert multiples.multiples(replace(TABLE, rows=rows)) == ()
    assert multiples.multiples(replace(TABLE, rows=())) == ()
