"""A recipe is a value: its parameters say all of it, and its key is the same in every process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.toy import RECIPES
from trainables.recipe import FIELDS, OPTIONAL, SCHEDULES, Recipe, digest

ROOT = Path(__file__).resolve().parents[2]
NATURAL = Recipe(
    schedule="mixed", adaptation="none", real_fraction=0.05, synthetic_fraction=0.25, synthetic_share="natural", lr=0.01
)
EVERY = [*RECIPES.values(), NATURAL]


@pytest.mark.parametrize("recipe", EVERY, ids=str)
def test_parameters_say_all_of_a_recipe(recipe: Recipe) -> None:
    params = recipe.params()
    assert Recipe.from_params(params) == recipe
    assert Recipe.from_params(json.loads(json.dumps(params))).key == recipe.key
    assert None not in params.values()
    assert {name.partition(".")[0] for name in params} == {"schedule", *FIELDS[recipe.schedule]}


def test_every_parameter_changes_the_key() -> None:
    params = RECIPES["finetune"].params()
    others = {"adaptation": "real_bn", "real_fraction": 0.25, "synthetic_fraction": 0.25}
    others |= {"pretrain.steps": 8, "pretrain.lr": 0.01, "lr": 0.01}
    assert {"schedule", *others} == set(params)
    keys = {Recipe.from_params(params | {name: value}).key for name, value in others.items()}
    assert len(keys | {RECIPES["finetune"].key}) == len(others) + 1
    assert len({recipe.key for recipe in EVERY}) == len(EVERY)


def test_keys_are_the_same_in_a_fresh_process() -> None:
    code = "import sys, json; from trainables.recipe import Recipe\n"
    code += "print(json.dumps([Recipe.from_params(p).key for p in json.load(sys.stdin)]))"
    text = json.dumps([dict(reversed(recipe.params().items())) for recipe in EVERY])
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    output = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    ).stdout
    assert json.loads(output) == [recipe.key for recipe in EVERY]


def test_an_integer_given_for_a_number_is_the_same_recipe() -> None:
    given = RECIPES["real"].params() | {"real_fraction": 1, "lr": 1}
    assert Recipe.from_params(given).key == Recipe.from_params(given | {"real_fraction": 1.0, "lr": 1.0}).key


def test_a_recipe_reads_as_a_name() -> None:
    assert str(RECIPES["finetune real_bn"]) == "finetune real=1 synthetic=1 pretrain=5@0.05 real_bn lr=0.1"
    assert str(NATURAL) == "mixed real=0.05 synthetic=0.25 share=natural lr=0.01"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_does_not_apply_is_refused_and_what_applies_is_required(schedule: str) -> None:
    full = {"adaptation": "none", "real_fraction": 0.5, "synthetic_fraction": 0.5, "synthetic_share": 0.5, "lr": 0.1}
    full |= {"pretrain": {"steps": 4, "lr": 0.1}, "gradual": {}, "freeze": "norm"}
    if schedule in OPTIONAL:
        full = {name: value for name, value in full.items() if name not in OPTIONAL[schedule]}  # type: ignore[index]
    applies = {name: value for name, value in full.items() if name in FIELDS[schedule]}  # type: ignore[index]
    Recipe.model_validate({"schedule": schedule, **applies})
    for name in set(full) - set(applies):
        with pytest.raises(ValidationError, match=f"{name} does not apply to schedule '{schedule}'"):
            Recipe.model_validate({"schedule": schedule, **applies, name: full[name]})
    for name in applies:
        with pytest.raises(ValidationError, match=name):
            Recipe.model_validate({"schedule": schedule, **{n: v for n, v in applies.items() if n != name}})


@pytest.mark.parametrize(
    ("name", "value"),
    [("synthetic_share", 1.0), ("synthetic_share", 0.0), ("real_fraction", 0.0), ("real_fraction", 1.01), ("lr", 0.0)],
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        Recipe.from_params(RECIPES["mixed"].params() | {name: value})


def test_a_digest_tells_types_apart_and_refuses_what_is_no_number() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len({digest(value) for value in (1, 1.0, "1", True, None, [1])}) == 6
    with pytest.raises(ValueError, match="JSON compliant"):
        digest(float("nan"))
