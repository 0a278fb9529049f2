"""Bands: a law's own numbers along each line, where it was measured; the law here is a formula, known everywhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from analysis import curve, interactive, plots, tables
from analysis.bands import Floats, with_bands
from analysis.curves import Line
from tests.analysis.scored import NUM_REAL, NUM_SYNTHETIC, recipes, table


class Formula:
    """A law with an interval of 5% about it. It refuses methods that it does not know, as a fitted one does."""

    def predict(self, real: ArrayLike, synthetic: ArrayLike, group: str | None = None) -> Floats:
        worth = {None: 0.0, "synthetic_only": 0.02, "mixed": 0.05, "finetune": 0.08}
        worth |= {f"{schedule} + real_bn": 0.06 for schedule in ("mixed", "finetune")}
        return 2.0 * (1 + np.asarray(real, float) + worth[group] * np.asarray(synthetic, float)) ** -0.3

    def interval(
        self, real: ArrayLike, synthetic: ArrayLike, group: str | None = None, coverage: float = 0.9
    ) -> tuple[Floats, Floats]:
        middle = self.predict(real, synthetic, group)
        return 0.95 * middle, 1.05 * middle


TABLE = table(recipes())


def named(label: str, lines: tuple[Line, ...]) -> Line:
    (line,) = [line for line in lines if line.label == label]
    return line


def test_a_band_is_one_less_the_laws_error_at_the_counts_of_the_lines_recipes() -> None:
    drawn = with_bands(curve(TABLE), Formula())
    for label, group, synthetic in (
        ("real_only", None, 0),
        ("finetune + real_bn", "finetune + real_bn", NUM_SYNTHETIC),
    ):
        line = named(label, drawn.lines)
        assert line.band is not None
        for point in line.points:
            (place,) = np.flatnonzero(line.band.x == point.x)
            error = Formula().predict(NUM_REAL * point.x, synthetic, group)
            assert line.band.middle[place] == pytest.approx(1 - error)
            assert (line.band.low[place], line.band.high[place]) == pytest.approx((1 - 1.05 * error, 1 - 0.95 * error))
    assert named("synthetic_only", drawn.lines).band is None, "a level has no x"


def test_where_less_is_better_the_error_is_the_metric() -> None:
    line = named("real_only", with_bands(curve(replace(TABLE, mode="min")), Formula()).lines)
    assert line.band is not None
    assert line.band.middle[-1] == pytest.approx(2.0 * (1 + NUM_REAL) ** -0.3)


def test_beyond_what_a_line_measured_there_is_a_middle_and_no_shade() -> None:
    short = [r for r in recipes() if r.schedule != "finetune" or r.real_fraction in (0.1, 0.25)]
    drawn = with_bands(curve(table(short)), Formula())
    line = named("finetune", drawn.lines)
    assert line.band is not None
    assert (line.band.x[0], line.band.x[-1]) == (0.05, 1.0), "as far as others were measured"
    assert list(line.band.x[line.band.inside][[0, -1]]) == [0.1, 0.25]
    (axes,) = plots.draw([drawn]).axes
    shades = [shade.get_paths()[0].get_extents() for shade in axes.collections if shade.get_paths()]
    assert any((round(box.x0, 6), round(box.x1, 6)) == (0.1, 0.25) for box in shades)
    fills = [trace for trace in interactive.figure([drawn]).data if trace.fill == "toself" and trace.name == "finetune"]
    assert [(min(trace.x), max(trace.x)) for trace in fills] == [(0.1, 0.25)]


@pytest.mark.parametrize("axis", ["num_real_labels", "num_synthetic"])
def test_counts_as_an_axis_have_the_same_law(axis: str) -> None:
    chosen = [
        r.model_copy(update={"synthetic_fraction": part}) if r.synthetic_fraction else r
        for r in recipes()
        for part in (0.1, 0.5, 1.0)
    ]
    rows = table(list(dict.fromkeys(chosen)))
    halved = tuple(
        replace(row, num_synthetic=round(NUM_SYNTHETIC * (row.recipe.synthetic_fraction or 0))) for row in rows.rows
    )
    line = named("finetune", with_bands(curve(replace(rows, rows=halved), axis), Formula()).lines)  # type: ignore[arg-type]
    assert line.band is not None
    for point in line.points:
        (place,) = np.flatnonzero(line.band.x == point.x)
        counts = point.rows[0].num_real_labels, point.rows[0].num_synthetic
        assert (line.band.real[place], line.band.synthetic[place]) == pytest.approx(counts)


def test_there_is_no_band_without_counts_over_a_share_or_for_sources_that_a_law_does_not_tell_apart() -> None:
    uncounted = replace(TABLE, rows=tuple(replace(row, num_real_labels=None) for row in TABLE.rows))
    shared = curve(TABLE, "synthetic_share")
    of_sources = [r.model_copy(update={"real_source": s}) for r in recipes(("real_only",)) for s in ("old", "refined")]
    for drawn in (curve(uncounted), shared, curve(table(of_sources))):
        assert all(line.band is None for line in with_bands(drawn, Formula()).lines)


def test_the_data_of_the_bands_are_written_as_they_are_drawn(tmp_path: Path) -> None:
    drawn = with_bands(curve(TABLE), Formula())
    found = tables.bands([drawn]).to_pylist()
    line = named("mixed", drawn.lines)
    assert line.band is not None
    own = [row for row in found if row["line"] == "mixed"]
    assert [row["middle"] for row in own] == line.band.middle.tolist()
    assert tables.bands([curve(TABLE)]).num_rows == 0
