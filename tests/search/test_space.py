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


# -- scales and what Optuna draws -----------------------------------------------------------------------------------

RANGES = {
    "schedule": ["mixed"],
    "adaptation": ["none"],
    "real_fraction": {"low": 0.01, "high": 1.0},
    "synthetic_fraction": [1.0],
    "synthetic_share": {"low": 0.01, "high": 0.81},
    "lr": {"low": 1e-4, "high": 1.0},
}
BOTH = {
    "schedule": ["real_only", "synthetic_only", "mixed", "finetune"],
    "real_source": ["a", ["a", "b"]],
    "adaptation": ["none", "dsbn", "fda"],
    "fda": {"beta": [0.01, 0.05]},
    "real_fraction": {"low": 0.05, "high": 1.0},
    "synthetic_fraction": [0.5, 1.0],
    "synthetic_share": {"low": 0.1, "high": 0.9},
    "pretrain": {"steps": [5, 10], "lr": [0.1, 0.3]},
    "freeze": ["nothing", ["backbone", "norm"]],
    "lr": {"low": 0.001, "high": 0.1, "log": False},
    "lr_factor": {"low": 0.01, "high": 1.0},
}


def drawn(space: SpaceConfig, count: int) -> list[tuple[Recipe, optuna.trial.FrozenTrial]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [(space.suggest(study.ask()), study.get_trials(deepcopy=False)[-1]) for _ in range(count)]


@pytest.mark.parametrize(
    ("given", "below"),
    [
        ({}, {"real_fraction": 0.1, "synthetic_share": 0.25, "lr": 0.01}),  # medians: sqrt(0.25) is halfway of 0.1..0.9
        (
            {name: RANGES[name] | {"log": False} for name in ("real_fraction", "synthetic_share", "lr")},
            {"real_fraction": 0.505, "synthetic_share": 0.41, "lr": 0.50005},
        ),
        (
            {"lr": RANGES["lr"] | {"sqrt": True}, "synthetic_share": RANGES["synthetic_share"] | {"log": True}},
            {"lr": 0.255, "synthetic_share": 0.09},
        ),
    ],
)
def test_a_range_is_even_on_the_scale_of_its_kind_or_on_the_one_it_names(given: dict, below: dict[str, float]) -> None:
    space = SpaceConfig.model_validate(RANGES | given)
    recipes = [recipe for recipe, _ in drawn(space, 400)]
    for name, median in below.items():
        assert 160 < sum(getattr(recipe, name) < median for recipe in recipes) < 240
        low, high = getattr(space, name).low, getattr(space, name).high
        assert all(low <= getattr(recipe, name) <= high for recipe in recipes)


def test_what_is_drawn_is_the_recipe_and_back_with_the_distributions_that_optuna_saw() -> None:
    space = SpaceConfig.model_validate(BOTH)
    union = space.domains()
    for recipe, trial in drawn(space, 300):
        assert space.recipe(trial.params) == recipe
        assert space.distributions(trial.params) == trial.distributions
        assert trial.distributions.items() <= union.items()
        params = space.params_of(recipe)
        assert space.recipe(params) == recipe
        assert params.keys() == trial.params.keys()
        assert params == pytest.approx(trial.params)
    assert any("sqrt(synthetic_share)" in trial.params for _, trial in drawn(space, 20))


def test_a_grid_s_recipes_are_theirs_of_their_parameters() -> None:
    for params in SPACE.grid().values():
        assert SPACE.params_of(SPACE.recipe(params)) == params


@pytest.mark.parametrize(
    ("given", "params"),
    [
        (
            {"schedule": "real_only", "real_source": ["b", "a"], "real_fraction": 1, "lr": "1e-2"},
            {"schedule": "real_only", "real_source": "a+b", "real_fraction": 1.0, "lr": 0.01},
        ),
        (
            {"schedule": "synthetic_only", "synthetic_fraction": 1, "lr": 0.01},
            {"schedule": "synthetic_only", "adaptation.synthetic_only": "none", "synthetic_fraction": 1.0, "lr": 0.01},
        ),
        (
            {
                "schedule": "finetune",
                "real_source": "a",
                "adaptation": "fda",
                "fda": {"beta": 0.05},
                "real_fraction": 0.5,
                "synthetic_fraction": 1,
                "pretrain": {"steps": 10, "lr": 0.3},
                "freeze": "norm+backbone",
                "lr": 0.03,
            },
            {
                "schedule": "finetune",
                "adaptation.finetune": "fda",
                "real_source": "a",
                "fda.beta": 0.05,
                "real_fraction": 0.5,
                "synthetic_fraction": 1.0,
                "pretrain.steps": 10,
                "pretrain.lr": 0.3,
                "freeze": "backbone+norm",
                "lr_factor": 0.1,
            },
        ),
    ],
)
def test_a_recipe_is_read_as_people_write_it(given: dict, params: dict) -> None:
    found = SpaceConfig.model_validate(BOTH).params_of(given)
    assert found == pytest.approx(params)
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in params.items()}


def test_a_space_tells_what_only_some_recipes_have() -> None:
    assert SpaceConfig.model_validate(RANGES).uneven() is None
    one = RANGES | {"adaptation": ["none", "dsbn"]}
    assert SpaceConfig.model_validate(one).uneven() is None
    assert SpaceConfig.model_validate(one | {"adaptation": ["none", "fda"]}).uneven() == "fda.beta"
    assert SpaceConfig.model_validate(one | {"schedule": ["mixed", "real_only"]}).uneven() is not None
