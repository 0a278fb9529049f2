"""curve: what stands at each x, chosen by the objective's mean, against tables worked out by hand; and its picture."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from analysis import Row, Table, curve, curves_of, plots
from analysis.curves import Curve, is_geometric, measure
from analysis.style import looks
from trainables.recipe import Pretrain, Recipe


def recipe(schedule: str, **fields: object) -> Recipe:
    base: dict[str, object] = {"schedule": schedule, "lr": 0.01}
    if schedule in ("mixed", "finetune"):
        base |= {"adaptation": "none"}
    if schedule != "real_only":
        base |= {"synthetic_fraction": 1.0}
    if schedule == "mixed":
        base |= {"synthetic_share": 0.5}
    if schedule == "finetune":
        base |= {"pretrain": Pretrain(steps=500, lr=0.03)}
    return Recipe.model_validate(base | fields)


REAL_LOW = recipe("real_only", real_fraction=0.05)
REAL_LUCKY = recipe("real_only", real_fraction=0.05, lr=0.1)
REAL_ALL = recipe("real_only", real_fraction=1.0)
MIXED = recipe("mixed", real_fraction=0.05)
MIXED_BN = recipe("mixed", real_fraction=0.05, adaptation="real_bn", synthetic_share="natural")
TUNED = recipe("finetune", real_fraction=1.0)
SYNTHETIC = recipe("synthetic_only")
SCORES: dict[Recipe, list[float | None]] = {
    REAL_LOW: [0.4, 0.5, 0.6],
    REAL_LUCKY: [0.9, None, None],
    REAL_ALL: [0.7, 0.7, 0.7],
    MIXED: [0.55, 0.6, 0.65],
    MIXED_BN: [0.6, 0.6, 0.66],
    TUNED: [0.8, 0.7, 0.75],
    SYNTHETIC: [0.3, 0.35, 0.4],
}


def make(scores: dict[Recipe, list[float | None]]) -> Table:
    rows = [
        Row(
            run_id=f"run{number}{seed}",
            recipe=r,
            seed=seed,
            number=number,
            status="failed" if value is None else "finished",
            step=1000,
            metrics={} if value is None else {"val/miou": value, "test/other/miou": 1 - value},
            num_real_labels=None if r.real_fraction is None else round(120 * r.real_fraction),
            num_synthetic=None if r.synthetic_fraction is None else 400,
        )
        for number, (r, values) in enumerate(scores.items())
        for seed, value in enumerate(values)
    ]
    return Table("faces", "val/miou", "max", 3, tuple(rows))


TABLE = make(SCORES)


def picture(drawn: Curve) -> tuple[Axes, list[str]]:
    """The one panel of a curve's picture, and what its legend says."""
    figure = plots.draw([drawn])
    (axes,), (legend,) = figure.axes, figure.legends
    return axes, [text.get_text() for text in legend.get_texts()]


def test_one_line_per_schedule_and_adaptation_in_a_fixed_order() -> None:
    drawn = curve(TABLE)
    assert [line.label for line in drawn.lines] == [
        "real_only",
        "synthetic_only",
        "mixed",
        "mixed + real_bn",
        "finetune",
    ]
    assert [line.reference for line in drawn.lines] == [False, True, False, False, False]


def test_a_point_is_the_best_complete_recipe_with_its_spread_and_its_runs() -> None:
    low, full = curve(TABLE).lines[0].points
    assert (low.x, full.x) == (0.05, 1.0)
    assert low.recipe == REAL_LOW, "the 0.9 of one seed in three does not stand for three"
    assert low.values == (0.4, 0.5, 0.6)
    assert (low.mean, low.std) == pytest.approx((0.5, 0.1))
    assert [row.run_id for row in low.rows] == ["run00", "run01", "run02"]
    assert low.num_recipes == 2


def test_another_metric_is_drawn_for_the_recipes_that_the_objective_chose() -> None:
    scores: dict[Recipe, list[float | None]] = {REAL_LOW: [0.4, 0.4, 0.4], REAL_LUCKY: [0.5, 0.5, 0.5]}
    (point,) = curve(make(scores), metric="test/other/miou").lines[0].points
    assert point.recipe == REAL_LUCKY, "the test metric would have chosen the other: 0.6"
    assert point.values == (0.5, 0.5, 0.5)


def test_synthetic_only_is_a_level_at_no_real_images() -> None:
    (line,) = [line for line in curve(TABLE).lines if line.schedule == "synthetic_only"]
    (point,) = line.points
    assert (point.x, point.mean) == (0.0, pytest.approx(0.35))


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (
            "num_real_labels",
            {"real_only": [6, 120], "synthetic_only": [0], "mixed": [6], "mixed + real_bn": [6], "finetune": [120]},
        ),
        (
            "num_synthetic",
            {"real_only": [0], "synthetic_only": [400], "mixed": [400], "mixed + real_bn": [400], "finetune": [400]},
        ),
        (
            "synthetic_share",
            {
                "real_only": [0],
                "synthetic_only": [1],
                "mixed": [0.5],
                "mixed + real_bn": [400 / 406],
                "finetune": [None],
            },
        ),
    ],
)
def test_each_axis_places_recipes_where_they_are(axis: str, expected: dict[str, list[float | None]]) -> None:
    drawn = curve(TABLE, axis)  # type: ignore[arg-type]
    found = {line.label: [None if math.isnan(p.x) else p.x for p in line.points] for line in drawn.lines}
    assert found == expected


def test_unknown_names_are_refused_in_one_line_that_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="x must be one of real_fraction"):
        curve(TABLE, "epochs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has metric 'val/mae'; there are: test/other/miou, val/miou"):
        curve(TABLE, metric="val/mae")


@pytest.mark.parametrize(
    ("x", "log"),
    [
        ((0.05, 0.1, 0.25, 0.5, 1.0), True),
        ((0.25, 0.5, 1.0), True),
        ((100.0, 200.0, 400.0, 800.0), True),
        (tuple(k / 10 for k in range(1, 11)), False),
        ((0.5, 0.75, 1.0), False),
        ((0.5, 1.0), False),
        ((0.05, 1.0), True),
        ((0.0, 0.1, 1.0), False),
    ],
)
def test_geometric_fractions_have_a_log_axis(x: tuple[float, ...], log: bool) -> None:
    assert is_geometric(x) == log


def test_what_is_measured_is_told_apart_from_the_data_that_it_is_measured_on() -> None:
    assert [measure(name) for name in ("val/miou", "test/other/miou", "test/other/iou/nose")] == [
        "miou",
        "miou",
        "iou/nose",
    ]
    value, other = curves_of(TABLE, metrics=("val/miou", "test/other/miou"))
    assert (value.better, other.better) == ("higher is better", "higher is better")
    assert replace(value, metric="val/pixel_accuracy").better == "", "which way that goes is not known"
    assert replace(value, metric="val/region_nme/nose").better == "lower is better"


def test_several_metrics_are_drawn_for_the_same_recipes_in_panels_with_one_legend() -> None:
    drawn = curves_of(TABLE, metrics=("val/miou", "test/other/miou", "val/miou"))
    assert [each.metric for each in drawn] == ["val/miou", "test/other/miou"]
    assert [p.recipe for line in drawn[0].lines for p in line.points] == [
        p.recipe for line in drawn[1].lines for p in line.points
    ]
    figure = plots.draw(drawn)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["val/miou (chose the recipes)", "test/other/miou"]
    assert len(figure.legends) == 1


@pytest.mark.parametrize("axis", ["real_fraction", "num_real_labels", "num_synthetic", "synthetic_share"])
def test_every_axis_can_be_drawn_with_every_line_in_view_and_in_the_legend(axis: str) -> None:
    drawn = curve(TABLE, axis)  # type: ignore[arg-type]
    axes, legend = picture(drawn)
    assert legend == [line.label for line in drawn.lines]
    low, high = axes.get_ylim()
    assert low < 0.3
    assert high > 0.8


def test_tick_labels_say_percents_and_images() -> None:
    axes, _ = picture(curve(TABLE))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["5%\n6 images", "100%\n120 images"]


def test_a_single_point_and_a_search_of_synthetic_only_can_be_drawn(tmp_path: Path) -> None:
    for chosen in (REAL_ALL, SYNTHETIC):
        png, svg = plots.save(plots.draw([curve(make({chosen: [0.5]}))]), tmp_path, "curve")
        assert png.read_bytes().startswith(b"\x89PNG")
        assert "<svg" in svg.read_text()


def test_the_picture_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        plots.save(plots.draw([curve(TABLE)]), tmp_path / name, "curve")
    assert (tmp_path / "a/curve.svg").read_bytes() == (tmp_path / "b/curve.svg").read_bytes()
    assert (tmp_path / "a/curve.png").read_bytes() == (tmp_path / "b/curve.png").read_bytes()


SOURCES: dict[Recipe, list[float | None]] = {
    recipe("real_only", real_fraction=0.05, real_source="original"): [0.4, 0.5, 0.6],
    recipe("real_only", real_fraction=0.05, real_source="refined"): [0.6, 0.7, 0.8],
    recipe("real_only", real_fraction=0.05, real_source="refined", lr=0.1): [0.5, 0.6, 0.7],
    recipe("real_only", real_fraction=1.0, real_source="original+refined"): [0.8, 0.8, 0.8],
    recipe("finetune", real_fraction=1.0, real_source="refined", synthetic_source="studio"): [0.9, 0.8, 0.7],
    recipe("synthetic_only", synthetic_source="studio"): [0.3, 0.3, 0.3],
}


def test_sources_that_the_search_varied_have_lines_of_their_own() -> None:
    drawn = curve(make(SOURCES))
    assert [(line.label, [point.x for point in line.points]) for line in drawn.lines] == [
        ("real_only, real original", [0.05]),
        ("real_only, real original+refined", [1.0]),
        ("real_only, real refined", [0.05]),
        ("synthetic_only", [0.0]),  # of the one synthetic source that there is
        ("finetune, real refined", [1.0]),
    ]
    assert drawn.lines[2].points[0].num_recipes == 2
    both = SOURCES | {recipe("synthetic_only", synthetic_source="street"): [0.2, 0.2, 0.2]}
    labels = [line.label for line in curve(make(both)).lines]
    assert labels[-3:] == [
        "synthetic_only, synthetic street",
        "synthetic_only, synthetic studio",
        "finetune, real refined, synthetic studio",
    ]


def test_lines_of_other_sources_differ_in_lightness_and_are_in_the_legend() -> None:
    drawn = curve(make(SOURCES))
    assert picture(drawn)[1] == [line.label for line in drawn.lines]
    found = looks(drawn.lines)
    colours = [found[line.label].colour for line in drawn.lines]
    assert colours[0] == (0, 0, 0)
    assert 0 < colours[1][0] < colours[2][0] < 0.8
    assert colours[3] == looks(curve(TABLE).lines)["synthetic_only"].colour


def test_a_fraction_of_sources_of_other_sizes_is_not_said_in_images() -> None:
    """5% of `original` are 6 images, and here 5% of `refined` are 3."""
    table = make(SOURCES)
    rows = [replace(row, num_real_labels=3) if row.recipe.real_source == "refined" else row for row in table.rows]
    axes, _ = picture(curve(replace(table, rows=tuple(rows[:9]))))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["5%"]
    axes, _ = picture(curve(replace(table, rows=table.rows[:9])))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["5%\n6 images"]


def test_more_lines_than_eyes_tell_apart_have_a_panel_per_schedule_beside_what_all_are_compared_with() -> None:
    scores = SCORES | {
        recipe("mixed", real_fraction=fraction, adaptation=method): [0.6, 0.6, 0.6]
        for fraction in (0.05, 1.0)
        for method in ("adabn", "dsbn", "dson")
    }
    scores |= {recipe("finetune", real_fraction=0.05, adaptation="adabn"): [0.7, 0.7, 0.7]}
    drawn = curve(make(scores))
    assert len(drawn.lines) == 9
    figure = plots.draw([drawn])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["mixed", "finetune"]
    for axes in figure.axes:
        assert {"real_only", "synthetic_only"} <= {str(line.get_label()) for line in axes.get_lines()}
    assert "mixed + dsbn" not in {str(line.get_label()) for line in figure.axes[1].get_lines()}
    found = looks(drawn.lines, apart=True)
    own = [line.label for line in drawn.lines if line.schedule == "mixed"]
    assert len({found[label].colour for label in own}) == len({found[label].marker for label in own}) == len(own)
