"""The HTML page: it needs no network, holds every point, and tells the recipe, the seeds and the runs of each."""

import math
import re
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go

from analysis import curve, curves_of, interactive, parallel
from tests.analysis.scored import FRACTIONS, recipes, table

TABLE = table(recipes())


def named(figure: go.Figure, label: str) -> go.Scatter:
    (trace,) = [trace for trace in figure.data if trace.name == label and trace.mode == "lines+markers"]
    return trace


def test_a_line_has_the_points_of_the_curve_and_bars_from_lowest_to_highest_seed() -> None:
    drawn = curve(TABLE)
    trace = named(interactive.figure([drawn]), "finetune + real_bn")
    (line,) = [line for line in drawn.lines if line.label == "finetune + real_bn"]
    assert list(trace.x) == list(FRACTIONS)
    for y, up, down, point in zip(trace.y, trace.error_y.array, trace.error_y.arrayminus, line.points, strict=True):
        assert y == point.mean
        assert (math.isclose(y + up, max(point.values)), math.isclose(y - down, min(point.values))) == (True, True)


def test_a_point_tells_its_recipe_its_seeds_and_its_runs() -> None:
    drawn = curve(TABLE)
    trace = named(interactive.figure([drawn]), "mixed")
    (line,) = [line for line in drawn.lines if line.label == "mixed"]
    said = trace.text[1].replace("<br>", " ")
    for word in (str(line.points[1].recipe), *(row.run_id for row in line.points[1].rows), "(seed 2)", "200 labelled"):
        assert word in said


def test_each_metric_is_a_panel_and_a_line_is_named_once() -> None:
    figure = interactive.figure(curves_of(TABLE, metrics=("val/miou", "test/same/miou", "test/other/miou")))
    assert [note.text for note in figure.layout.annotations] == ["val/miou", "test/same/miou", "test/other/miou"]
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert shown == [line.label for line in curve(TABLE).lines]
    assert [axis.type for axis in figure.select_xaxes() if axis.visible is not False] == ["log"] * 3


def test_a_page_is_self_contained_escaped_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    figures = [interactive.figure([curve(replace(TABLE, search="<b>&"))]), parallel.figure(TABLE)]
    text = interactive.page(figures, "<title> & more")
    assert text == interactive.page(figures, "<title> & more")
    assert not re.search(r"<script[^>]* src=", text)
    assert text.count("plotly.js v") == 1, "the script is there once, of two figures"
    assert "<title>&lt;title&gt; &amp; more</title>" in text
    assert "&lt;b&gt;&amp;" in figures[0].layout.title.text
    path = interactive.save(figures, tmp_path, "curve", "<title> & more")
    assert path.read_text(encoding="utf-8") == text


def test_parallel_coordinates_show_every_recipe_also_what_lacks_a_parameter() -> None:
    (trace,) = parallel.figure(TABLE).data
    dimensions = {dimension.label: dimension for dimension in trace.dimensions}
    assert set(dimensions) == {"schedule", "adaptation", "real_fraction", "val/miou"}, "the others never differ"
    shown = dimensions["real_fraction"]
    assert list(shown.ticktext) == ["–", "0.05", "0.1", "0.25", "0.5", "1"]
    given = [shown.ticktext[shown.tickvals.index(place)] for place in shown.values]
    assert given == [f"{r.real_fraction:g}" if r.real_fraction else "–" for r in TABLE.recipes()]


def test_a_range_is_where_it_is_and_what_lacks_it_is_below() -> None:
    rates = [10 ** (-3 + 2 * k / 19) for k in range(20)]
    values = [None, *rates]
    found = parallel._dimension("lr", values)
    places = found["values"]
    assert places[1:] == [math.log10(rate) for rate in rates]
    assert places[0] < -3
