"""A stage's key holds exactly what changes its weights, and a recipe's path is what `path_of` promises."""

import dataclasses
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from datasets.translation.spec import AdainImage
from datasets.weights import Weights
from tests.toy import RECIPES, SPEC, TRAINING
from trainables.landmarks.spec import LandmarksSpec
from trainables.matting.spec import BasePhase, MattingSpec, Refinement
from trainables.methods import Adain
from trainables.path import Leg, path_of, steps_alone, steps_shared
from trainables.problem import Problem, SourceFacts
from trainables.recipe import Recipe
from trainables.stage import Checkpoint, Rows, Stage, Training

ROOT = Path(__file__).resolve().parents[2]
REAL, SYNTHETIC = SourceFacts("a" * 64, 24), SourceFacts("b" * 64, 40)
PROBLEM = Problem(SPEC, TRAINING, REAL, SYNTHETIC, rungs=(3, 6), forks=(4, 5, 9), seed=100)

# Every field set to something, so that reflection reaches the fields of the fields.
FULL = Stage(
    start=Checkpoint("c" * 32, 4),
    horizon=6,
    conversion="none",
    task=SPEC.model_copy(update={"pretrained": Weights(path="w.pth", digest="d" * 64), "class_weights": (1.0,) * 9}),
    real=Rows("a" * 64, 24, 12),
    synthetic=Rows("b" * 64, 40, 20),
    synthetic_share=0.5,
    backgrounds="e" * 64,
    adaptation="none",
    adain=Adain(),
    translation=AdainImage(
        encoder=Weights(path="e.pth", digest="e" * 64), decoder=Weights(path="d.pth", digest="d" * 64)
    ),
    references=Rows("a" * 64, 24, 12),
    frozen=("backbone",),
    training=Training(),
    lr=0.1,
    seed=0,
)
OPTIONAL = (
    *("start", "horizon", "real", "synthetic", "synthetic_share", "backgrounds"),
    *("adain", "translation", "references"),
)
OTHERS = [
    LandmarksSpec(kind="landmarks", pretrained=Weights(path="w.pth", digest="d" * 64)),
    MattingSpec(
        kind="matting",
        phase="refine",
        pretrained=Weights(path="w.pth", digest="d" * 64),
        base=BasePhase(steps=9, lr=0.1),
        refinement=Refinement(),
    ),
]
NOT_IN_KEYS = {"task.pretrained.path", "translation.encoder.path", "translation.decoder.path"}  # where a file lies
NOT_IN_KEYS |= {"task.flip_test", "task.decoding", "task.refinement.mode", "task.refinement.threshold"}  # evaluation


def leaves(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all plain values inside nested dataclasses and pydantic models, found by reflection."""
    names: list[str] = []
    if isinstance(value, BaseModel):
        names = list(type(value).model_fields)
    elif is_dataclass(value):
        names = [field.name for field in fields(value)]
    if not names:
        yield at
    for name in names:
        yield from leaves(getattr(value, name), (*at, name))


def changed(value: Any, at: tuple[str, ...]) -> Any:
    """A copy of a nested value with the plain value at a path changed, whether or not it is valid."""
    if not at:
        match value:
            case str():
                return value + "-other"
            case bool():
                return not value
            case int() | float():
                return value + 1
            case tuple():
                return (changed(value[0], ()), *value[1:])
        raise AssertionError(f"no rule changes {value!r}")
    inner = {at[0]: changed(getattr(value, at[0]), at[1:])}
    if isinstance(value, BaseModel):
        return value.model_copy(update=inner)
    return replace(value, **inner)


@pytest.mark.parametrize("at", leaves(FULL), ids=".".join)
def test_every_field_changes_the_key(at: tuple[str, ...]) -> None:
    """A field that is added and forgotten in the key is found here by reflection."""
    assert (changed(FULL, at).key == FULL.key) == (".".join(at) in NOT_IN_KEYS)


@pytest.mark.parametrize(
    ("task", "at"), [(task, at) for task in OTHERS for at in leaves(task, ("task",))], ids=lambda it: str(it)[:40]
)
def test_every_field_of_the_other_tasks_changes_the_key(task: Any, at: tuple[str, ...]) -> None:
    stage = replace(FULL, task=task)
    assert (changed(stage, at).key == stage.key) == (".".join(at) in NOT_IN_KEYS)


def test_every_option_of_evaluation_alone_is_in_the_evaluations_key() -> None:
    for task in (FULL.task, *OTHERS):
        for at in leaves(task):
            if "task." + ".".join(at) in NOT_IN_KEYS - {"task.pretrained.path"}:
                assert changed(task, at).evaluation_options() != task.evaluation_options()


def test_reflection_reaches_all_fields() -> None:
    found = {".".join(at) for at in leaves(FULL)}
    assert {"start.stage", "start.step", "real.count", "synthetic.digest", "task.width", "training.ema_decay"} <= found
    assert {field.name for field in fields(Stage)} == {name.partition(".")[0] for name in found}


def test_all_these_changes_give_different_keys() -> None:
    inside = [at for at in leaves(FULL) if ".".join(at) not in NOT_IN_KEYS]
    stages = [FULL, *(changed(FULL, at) for at in inside), *(replace(FULL, **{n: None}) for n in OPTIONAL)]
    stages.append(replace(FULL, real=FULL.synthetic, synthetic=FULL.real))
    stages.append(replace(FULL, conversion="real_bn"))
    stages.append(replace(FULL, adaptation="real_bn"))
    assert len({stage.key for stage in stages}) == len(stages)


def test_equal_stages_have_equal_keys() -> None:
    twin = pickle.loads(pickle.dumps(dataclasses.replace(FULL)))
    assert twin == FULL
    assert twin.key == FULL.key
    assert replace(FULL, lr=1).key == replace(FULL, lr=1.0).key  # an integer is no other learning rate
    assert len(FULL.key) == 32


def test_keys_are_the_same_in_a_fresh_process() -> None:
    code = "from tests.trainables.test_stage import *\nprint(*keys())"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    ).stdout
    assert output.split() == keys()


def keys() -> list[str]:
    paths = [path_of(recipe, PROBLEM, replicate) for recipe in RECIPES.values() for replicate in (0, 1)]
    return [FULL.key, *(leg.stage.key for path in paths for leg in path)]


def test_lengths_and_what_is_kept_do_not_enter() -> None:
    other = replace(PROBLEM, rungs=(1, 2, 50), forks=())
    for recipe in RECIPES.values():
        ours, theirs = path_of(recipe, PROBLEM, 0), path_of(recipe, other, 0)
        assert [leg.stage.key for leg in ours] == [leg.stage.key for leg in theirs]
        assert ours != theirs


def plain(**given: Any) -> Stage:
    """The stage that a recipe of `PROBLEM` has at replicate 2, where the test names what differs from nothing."""
    nothing: dict[str, Any] = {"start": None, "horizon": None, "conversion": "none", "real": None, "synthetic": None}
    nothing |= {"synthetic_share": None, "backgrounds": None, "adaptation": "none"}
    return Stage(task=SPEC, training=TRAINING, seed=102, **(nothing | given))


def test_the_path_of_each_schedule() -> None:
    all_real, half_real, all_synthetic = Rows("a" * 64, 24, 24), Rows("a" * 64, 24, 12), Rows("b" * 64, 40, 40)
    trunk = plain(synthetic=all_synthetic, lr=0.05)
    mixed = plain(real=half_real, synthetic=all_synthetic, synthetic_share=0.5, adaptation="real_bn", lr=0.1)
    tuned = plain(start=Checkpoint(trunk.key, 4), real=half_real, lr=0.1)
    # A stage that sees one domain trains the plain model; the method enters as the conversion at the fork.
    converted = plain(start=Checkpoint(trunk.key, 5), conversion="real_bn", real=all_real, lr=0.1)
    expected = {
        "real": (Leg(plain(real=all_real, lr=0.1), 6, (3, 6)),),
        "synthetic": (Leg(trunk, 6, (3, 4, 5, 6)),),  # 9 is beyond its length
        "mixed": (Leg(mixed, 6, (3, 6)),),
        "finetune": (Leg(trunk, 4, (3, 4)), Leg(tuned, 6, (3, 6))),
        "finetune real_bn": (Leg(trunk, 5, (3, 4, 5)), Leg(converted, 6, (3, 6))),
    }
    assert {name: path_of(recipe, PROBLEM, 2) for name, recipe in RECIPES.items()} == expected
    assert expected["finetune"][0].checkpoint == Checkpoint(trunk.key, 4)


def test_a_schedule_that_knows_its_end_shares_only_what_is_as_long() -> None:
    poly = replace(PROBLEM, rungs=(6,), training=TRAINING.model_copy(update={"lr_schedule": "poly"}))
    trunk, tuned = path_of(RECIPES["finetune"], poly, 0)
    assert (trunk.stage.horizon, tuned.stage.horizon) == (4, 6)
    (whole,) = path_of(RECIPES["synthetic"], poly, 0)
    assert whole.stage.horizon == 6
    assert whole.stage.key != trunk.stage.key
    longer = replace(poly, rungs=(9,))
    assert path_of(RECIPES["real"], longer, 0)[0].stage.key != path_of(RECIPES["real"], poly, 0)[0].stage.key
    assert path_of(RECIPES["finetune"], longer, 0)[0].stage.key == trunk.stage.key


def mixed(**given: Any) -> Stage:
    return path_of(Recipe.from_params(RECIPES["mixed"].params() | given), PROBLEM, 0)[0].stage


def test_the_natural_share_is_its_number() -> None:
    natural = mixed(real_fraction=0.5, synthetic_fraction=0.5, synthetic_share="natural")
    assert natural.synthetic_share == 20 / 32
    assert natural.key == mixed(real_fraction=0.5, synthetic_fraction=0.5, synthetic_share=0.625).key
    assert natural.key != mixed(real_fraction=0.5, synthetic_fraction=0.5, synthetic_share=0.5).key


def test_rows_enter_by_their_count() -> None:
    assert mixed(real_fraction=0.05).key == mixed(real_fraction=0.0501).key  # one row of 24, either way
    assert mixed(real_fraction=0.05).key != mixed(real_fraction=0.1).key


@pytest.mark.parametrize("name", RECIPES)
def test_a_replicate_enters_through_the_seed_alone(name: str) -> None:
    first, second = (path_of(RECIPES[name], PROBLEM, replicate) for replicate in (0, 1))
    for one, other in zip(first, second, strict=True):
        assert (one.stage.seed, other.stage.seed) == (100, 101)
        assert one.stage.key != other.stage.key
        assert replace(one.stage, seed=0, start=None) == replace(other.stage, seed=0, start=None)
        assert (one.steps, one.keep) == (other.steps, other.keep)


def test_a_recipe_without_its_data_is_refused() -> None:
    problem = replace(PROBLEM, real=None)
    path_of(RECIPES["synthetic"], problem, 0)
    with pytest.raises(ValueError, match=r"data\.real must name a pack for recipes that read real images"):
        path_of(RECIPES["real"], problem, 0)


def test_counts_of_images() -> None:
    def counts(name: str) -> tuple[int, ...]:
        found = PROBLEM.counts(RECIPES[name])
        return tuple(found[kind] for kind in ("num_real_labels", "num_real_unlabelled", "num_synthetic"))

    assert [counts(name) for name in RECIPES] == [(24, 0, 0), (0, 0, 40), (12, 0, 40), (12, 0, 40), (24, 0, 40)]


def test_steps_alone_and_shared_against_a_count_of_every_step() -> None:
    grid = itertools.product(("none", "real_bn"), (0.25, 1.0), (0.5, 1.0), (2, 4, 9), (0.05, 0.1))
    recipes = [
        Recipe.from_params(
            {
                "schedule": "finetune",
                "adaptation": adaptation,
                "real_fraction": real,
                "synthetic_fraction": synthetic,
                "pretrain.steps": steps,
                "pretrain.lr": 0.05,
                "lr": lr,
            }
        )
        for adaptation, real, synthetic, steps, lr in grid
    ]
    paths = [path_of(recipe, PROBLEM, r) for recipe in [*RECIPES.values(), *recipes, *recipes[:5]] for r in (0, 1)]
    every = [(leg.stage.key, step) for path in paths for leg in path for step in range(leg.steps)]
    assert steps_alone(paths) == len(every)
    assert steps_shared(paths) == len(set(every)) < len(every)
    assert steps_shared(paths[::-1]) == steps_shared(paths)
    assert (steps_alone([]), steps_shared([])) == (0, 0)
