"""The benchmarks' own arithmetic: what they compare with must be true before what they measure means anything."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.values import Range
from tests.benchmarks.comparison import Record, figures, gain, projected, targets
from tests.benchmarks.designs import Design, Stretch, count, designs, fewest_steps, history, of_limit
from tests.benchmarks.problems import FACTOR, PROBLEMS, SearchProblem
from tests.benchmarks.untrained import dispatch
from trainables.recipe import Recipe

SEEDS = 2


def shrunk(design: Design, by: int = 5000) -> Design:
    """The design with every length divided, so that its steps can be enumerated."""
    config = design.config
    budget = config.budget.model_copy(update={"steps": config.budget.steps // by, "rungs": ()})
    space, task = config.space, config.task
    if space.pretrain is not None:
        shorter = space.pretrain.model_copy(update={"steps": tuple(s // by for s in space.pretrain.steps)})
        space = space.model_copy(update={"pretrain": shorter})
    if task.phases:
        base = task.base.model_copy(update={"steps": task.base.steps // by})
        task = task.model_copy(update={"base": base})
    return replace(design, config=config.model_copy(update={"budget": budget, "space": space, "task": task}))


def steps_of(end: Stretch) -> Iterator[int]:
    """Each step of a history, first to last, as a digest of all that it comes after and of itself."""
    before = list(steps_of(end.before)) if end.before is not None else []
    yield from before
    last = before[-1] if before else 0
    for _ in range(end.steps):
        last = hash((last, end.conditions))
        yield last


@pytest.mark.parametrize("design", designs(), ids=lambda design: design.name)
def test_the_limit_counts_every_step_once_by_its_whole_history(design: Design) -> None:
    small = shrunk(design)
    every = [history(recipe, small, seed) for recipe in small.recipes for seed in range(SEEDS)]
    enumerated = [step for end in every for step in steps_of(end)]
    steps = count(small, SEEDS)
    assert fewest_steps(every) == len(set(enumerated)) == steps["limit"]
    assert len(enumerated) == steps["alone"]


@pytest.mark.parametrize("design", designs(), ids=lambda design: design.name)
def test_sharing_never_beats_the_limit_and_comes_near_it(design: Design) -> None:
    steps = count(design, SEEDS)
    assert steps["limit"] <= steps["shared"] <= steps["alone"]
    assert of_limit(steps) >= 0.95


def test_what_recipes_differ_in_is_in_their_histories() -> None:
    landmarks = next(design for design in designs() if design.name == "landmarks 4x")
    tuned = next(r for r in landmarks.recipes if r.schedule == "finetune" and r.adaptation == "none")
    trunk = history(tuned, landmarks, 0).before
    others = {
        name: Recipe.from_params(tuned.params() | {name: v}) for name, v in (("lr", 0.5), ("adaptation", "real_bn"))
    }
    for other in others.values():
        assert history(other, landmarks, 0) != history(tuned, landmarks, 0)
        assert history(other, landmarks, 0).before == trunk
    assert history(tuned, landmarks, 1).before != trunk
    alone = next(r for r in landmarks.recipes if r.schedule == "synthetic_only")
    assert trunk is not None
    assert history(alone, landmarks, 0) == replace(trunk, steps=landmarks.config.budget.steps)


def test_the_landmark_study_by_hand() -> None:
    """Five set-ups on five subsets, synthetic_only on none: 20,000 steps each, and 80,000 before a fine-tuning."""
    landmarks = next(design for design in designs() if design.name == "landmarks 4x")
    ends = 5 + 1 + 2 * 5 + 2 * 5  # real, synthetic, mixed and fine-tuned, without and with adaptation
    alone = ends * 20_000 + 10 * 80_000
    limit = (ends - 1) * 20_000 + 80_000  # synthetic_only is the beginning of the trunk
    assert count(landmarks, 3) == {"alone": 3 * alone, "shared": 3 * limit, "limit": 3 * limit}


def record(wall_s: float, finals: list[tuple[float, float]], **values: Any) -> Record:
    given = {"trials": 4, "failed": 0, "steps": 400, "alone_steps": 400, "busy_s": 40.0, "fixed_s": 0.0, "idle": None}
    return Record(**given | {"wall_s": wall_s, "finals": finals, "booked": [(5.0, 100), (wall_s, 400)]} | values)


@pytest.fixture
def sides() -> dict[str, dict[int, Record]]:
    nested = {
        0: record(100.0, [(50.0, 0.3), (90.0, 0.2)], fixed_s=80.0),
        1: record(140.0, [(40.0, 0.1)], fixed_s=120.0),
    }
    ours = {0: record(10.0, [(6.0, 0.25), (8.0, 0.1)], steps=100, busy_s=10.0, fixed_s=4.0, idle=0.1)}
    return {"nested": nested, "titrate": ours}


def test_ratios_are_of_the_seeds_that_both_sides_have(sides: dict[str, dict[int, Record]]) -> None:
    found = figures(sides, {"alone": 900, "shared": 300, "identical": True})
    assert found["wall_ratio"] == 10
    assert found["wall_ratio_function"] is None
    assert targets(sides) == {0: 0.2, 1: 0.1}  # the worst of 0.2 and 0.1, and what one side found
    assert found["wall_to_target_ratio"] == 90 / 8
    assert sides["titrate"][0].reached(0.25) == (6.0, 100)
    assert (found["step_ratio"], found["identical"], found["idle"]) == (3, True, 0.1)
    assert found["best_stock"] == pytest.approx(0.15)
    assert found["best"] == 0.1


def test_the_figures_are_the_ones_that_are_promised(sides: dict[str, dict[int, Record]]) -> None:
    keys = {
        "wall_ratio",
        "wall_ratio_function",
        "wall_to_target_ratio",
        "step_ratio",
        "projected",
        "best_stock",
        "best",
    }
    assert set(figures({}, None)) == set(figures(sides, None)) == keys | {"identical", "idle"}
    assert set(figures({}, None)["projected"]) == {"minute", "hour"}


def test_a_projection_scales_training_and_leaves_what_is_fixed(sides: dict[str, dict[int, Record]]) -> None:
    """Stock's four trials trained 10 s each: of 100 s 80 are fixed, of our 10 s 4 are."""
    assert projected(sides, "nested", 10.0) == 100 / 10
    assert projected(sides, "nested", 60.0) == (80 + 6 * 20) / (4 + 6 * 6)
    assert projected(sides, "nested", 1e9) == pytest.approx(20 / 6)


def test_the_parts_of_a_gain_make_the_whole(sides: dict[str, dict[int, Record]]) -> None:
    parts = gain(sides, "nested")
    assert parts is not None
    assert math.prod(parts.values()) == pytest.approx(10)
    # 0.05 s a step and slot pair: stock's 400 steps are 20 s, ours alone 20 s and shared 5 s, and they took 10.
    assert parts == pytest.approx({"overhead": 5.0, "pruning": 1.0, "sharing": 4.0, "own": 0.5})


def test_a_record_survives_json(sides: dict[str, dict[int, Record]]) -> None:
    one = sides["nested"][0]
    again = Record.of(json.loads(json.dumps(one.as_json())))
    assert again.reached(0.2) == one.reached(0.2)
    assert again.as_json() == json.loads(json.dumps(one.as_json()))


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_the_searches_are_of_the_same_rungs_and_their_lists_lie_inside_their_spaces(
    problem: SearchProblem, tmp_path: Path
) -> None:
    data = {"real": {"faces": "real"}, "synthetic": {"studio": "synthetic"}, "val": "val"}
    config, _ = problem.config(tmp_path, data, trials=40, seed=2)
    fixed, _ = problem.fixed_list(tmp_path, data)
    assert config.budget.evaluations == fixed.budget.evaluations
    assert config.budget.evaluations[::-1] == tuple(problem.steps // FACTOR**k for k in range(3))  # as ASHA halves
    assert (config.pruning.kind, config.pruning.factor, fixed.pruning.kind) == ("asha", FACTOR, "none")
    assert {recipe.schedule for recipe in fixed.space.enumerate()} == set(config.space.schedule)
    for recipe in fixed.space.enumerate():
        assert isinstance(config.space.lr, Range)
        assert config.space.lr.low <= recipe.lr <= config.space.lr.high
        assert recipe.pretrain is None or recipe.pretrain.steps == problem.pretrain * problem.steps


def test_untrained_slots_dispatch_every_job_once() -> None:
    rate, latencies = dispatch(30, 4)
    assert rate > 0
    assert len(latencies) == 30
