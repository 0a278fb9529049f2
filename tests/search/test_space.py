"""The space draws and enumerates recipes that have exactly the parameters that apply to them."""

import itertools

import optuna
import pytest

from search.space import SpaceConfig
from trainables.recipe import FIELDS, Recipe

SPACE = SpaceConfig.model_validate(
    {
        "schedule": ["real_only", "synthetic_only", "mixed", "finetune"],
        "adaptation": ["none", "real_bn"],
        "real_fraction": [0.1, 1.0],
        "synthetic_fraction": [0.5, 1.0],
        "synthetic_share": ["natural", 0.5],
        "pretrain": {"steps": [5, 10], "lr": [0.1]},
        "lr": [0.1, 0.2, 0.3],
    }
)


def test_a_grid_holds_every_recipe_once() -> None:
    recipes = SPACE.enumerate()
    expected = {
        "real_only": 2 * 3,
        "synthetic_only": 2 * 3,
        "mixed": 2 * 2 * 2 * 2 * 3,
        "finetune": 2 * 2 * 2 * 2 * 1 * 3,
    }
    for schedule, recipes_of in itertools.groupby(recipes, key=lambda recipe: recipe.schedule):
        assert len(list(recipes_of)) == expected[schedule]
    assert len({recipe.key for recipe in recipes}) == len(recipes) == sum(expected.values())


def test_every_draw_has_what_its_schedule_has_and_nothing_else() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    grid = {recipe.key for recipe in SPACE.enumerate()}
    for _ in range(60):
        trial = study.ask()
        recipe = SPACE.suggest(trial)
        assert set(trial.params) == set(recipe.params())
        given = {name for name in type(recipe).model_fields if getattr(recipe, name) is not None} - {"schedule"}
        assert given == set(FIELDS[recipe.schedule])
        assert recipe.key in grid
        assert Recipe.from_params(trial.params) == recipe


def test_ranges_are_drawn_within_and_name_themselves() -> None:
    space = SpaceConfig.model_validate(
        {
            "schedule": ["real_only"],
            "real_fraction": {"low": 0.1, "high": 0.5},
            "lr": {"low": 1e-4, "high": 1, "log": True},
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.suggest(study.ask()) for _ in range(200)]
    assert all(0.1 <= r.real_fraction <= 0.5 and 1e-4 <= r.lr <= 1 for r in drawn if r.real_fraction)
    assert 60 < sum(r.lr < 1e-2 for r in drawn) < 140  # half of a log range lies below its geometric middle
    assert space.continuous() == "real_fraction"
    assert SPACE.continuous() is None


@pytest.mark.parametrize("shares", [["natural", 1e-6, 0.999], {"low": 0.01, "high": 0.99}])
def test_every_share_that_the_space_takes_makes_a_recipe(shares: object) -> None:
    space = SpaceConfig.model_validate(
        {
            "schedule": ["mixed"],
            "adaptation": ["none"],
            "real_fraction": [1.0],
            "synthetic_fraction": [1.0],
            "synthetic_share": shares,
            "lr": [0.1],
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {space.suggest(study.ask()).synthetic_share for _ in range(30)}
    assert len(drawn) == (3 if isinstance(shares, list) else 30)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"schedule": "real_only", "lr": 0.1}, "needs real_fraction"),
        ({"schedule": "real_only", "real_fraction": 1.0, "synthetic_share": 0.5, "lr": 0.1}, "does not apply"),
        (
            {
                "schedule": "mixed",
                "adaptation": "none",
                "real_fraction": 1.0,
                "synthetic_fraction": 1.0,
                "synthetic_share": 1.0,
                "lr": 0.1,
            },
            "`0 < synthetic_share < 1` must hold",
        ),
    ],
)
def test_a_recipe_refuses_what_does_not_apply(params: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Recipe.from_params(params)
