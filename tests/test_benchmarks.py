"""The benchmarks' own arithmetic: what they compare with must be true before what they measure means anything."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.benchmarks.designs import Design, Stretch, count, designs, fewest_steps, history, of_limit
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
