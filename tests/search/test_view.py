"""The view: a whole search drawn on terminals of every size, what is absent not shown, and lines elsewhere."""

import io
import json

import pytest
from rich.console import Console

from search.view import Look, View, cost_line, draw, head_line, plain_line, short
from tests.search.looks import RECIPES, look


def drawn(now: Look, width: int = 140, height: int = 50, *, terminal: bool = True) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=terminal, color_system=None)
    console.print(draw(now, "val/miou", console))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_search_in_full_swing() -> None:
    recipe = RECIPES[0]
    assert drawn(look()) == [
        "12 of 48 recipes done (1 failed, 4 pruned), 5 running, 5 left behind at a rung;"
        " trials: 3 queued, 2 waiting for a stage",
        "slot  stage          step  seed  idle  recipe",
        f"1     mixed      101/2000  1       3%  {RECIPES[1]}",
        f"2     real_only  102/2000  0       3%  {RECIPES[2]}",
        f"3     pretrain   103/2000  1       3%  {recipe}",
        "0     waits                       25%",
        "stages: 14 trained, 3 in training, 6 waiting",
        "  pretrain at 103/2000: 2 trials wait for it",
        "  real_only at 102/2000: 1 trial waits for it",
        "best val/miou:",
        f"  0.6123  3 seeds  {recipe}",
        f"  0.5987  1 seed   {RECIPES[2]}",
        f"  0.5500  1 seed   {RECIPES[1]}",
        "trained 12,300 steps for what takes 41,000 alone (70% saved), 0.8 of 2 accelerator-hours; about 14 min left",
    ]


def test_what_passed_through_json_is_drawn_alike() -> None:
    assert drawn(json.loads(json.dumps(look(12)))) == drawn(look(12))


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("height", [16, 24, 50, 90])
def test_64_slots_fit_on_a_terminal_with_the_busy_ones_first(width: int, height: int) -> None:
    lines = drawn(look(64, idle=10), width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    first = next(i for i, line in enumerate(lines) if line.startswith("slot")) + 1
    shown = next(i for i, line in enumerate(lines[first:]) if line.startswith(("and ", "stages")))
    numbers = [int(line.split()[0]) for line in lines[first : first + shown]]
    assert numbers == [*range(10, 64), *range(10)][:shown]
    assert shown >= min(8, height - 14)
    if shown < 64:
        busy = 54 - min(54, shown)
        assert lines[first + shown] == f"and {64 - shown} more slots: {busy} train, {64 - shown - busy} wait"
    assert "accelerator-hours" in " ".join(lines)


def test_what_is_piped_shows_every_slot() -> None:
    assert sum("pretrain" in line and "/2000" in line for line in drawn(look(64), 80, terminal=False)) == 21 + 1


def test_what_is_absent_is_not_shown() -> None:
    assert drawn({}) == []
    assert drawn({"summary": {"ended": 3}, "left_s": None, "cost": {}}) == ["3 recipes done"]
    assert drawn({"slots": {0: {"job": "a", "leg": "real_only", "step": 7}}}) == [
        "slot  stage      step  seed  idle  recipe",
        "0     real_only     7",
    ]
    assert head_line({"runs": {"finished": 3, "failed": 1}}) == "runs in MLflow: 3 finished, 1 failed"
    assert (
        head_line({"summary": {"ended": 0, "recipes": 4}, "note": "slots start"}) == "0 of 4 recipes done [slots start]"
    )


def test_slots_that_were_left_out_are_counted() -> None:
    lines = drawn({**look(4), "slots_left_out": 60})
    assert "and 60 more slots" in lines


def test_a_pareto_front_stands_in_place_of_the_best() -> None:
    front = [((0.61, 1200.0), RECIPES[2], 3)] + [((0.5, 60.0), RECIPES[0], 1)] * 5
    lines = drawn({"summary": {"ended": 9, "objectives": ["val/miou", "num_real_labels"], "pareto": front}})
    assert lines[1:3] == [
        "on the Pareto front of val/miou and num_real_labels:",
        f"  0.61  1200  3 seeds  {RECIPES[2]}",
    ]
    assert lines[-1] == "  and 1 more"


def test_nothing_is_said_to_be_saved_while_more_was_trained_than_has_ended() -> None:
    assert cost_line({"steps_trained": 86, "steps_alone": 60}) == "trained 86 steps"
    assert cost_line({"steps_trained": 0, "steps_alone": 0, "hours": 120.4}) == "120 accelerator-hours"
    assert cost_line({"steps_trained": 0, "steps_alone": 60}) == "trained 0 steps for what takes 60 alone (100% saved)"
    assert [short(x) for x in (0.123, 2.0, 1234.5)] == ["0.12", "2", "1,234"]


def test_elsewhere_than_on_a_terminal_it_is_lines() -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    with View(look, console, "val/miou") as view:
        view._ended.wait(1.5)
    assert isinstance(console.file, io.StringIO)
    (line,) = console.file.getvalue().splitlines()
    assert line.endswith(plain_line(look(), "val/miou"))
    assert f"best val/miou 0.6123: {RECIPES[0]}; trained 12,300 steps" in line
    assert "14 min left; slot 0: waits; slot 1: mixed @101/2000" in line
