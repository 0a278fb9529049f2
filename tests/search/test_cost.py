"""Costs against what a trainer really trains, and forecasts against counts by hand."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from search.budget import PrunerConfig
from search.config import load
from search.cost import Costs, Rates, accelerator_hours, accelerators
from search.forecast import forecast, going_on
from search.problem import open_problem
from search.shape import SlotsConfig
from tests.toy import MORE, RECIPES, RUNGS, toy_problem, toy_search, toy_trainer
from trainables.loop import Interrupted, Trainer
from trainables.path import rungs_of, steps_shared
from trainables.recipe import Recipe
from trainables.store import Store

TRUNKS = {name: recipe for name, recipe in (RECIPES | MORE).items() if "finetune" in name or name == "synthetic"}


class CountingStore(Store):
    """Counts how often each stage is listed."""

    def __init__(self, uri: str, division: str) -> None:
        super().__init__(uri, division)
        self.asked: Counter[str] = Counter()

    def steps(self, stage: str) -> dict[int, str]:
        self.asked[stage] += 1
        return super().steps(stage)


def train(trainer: Trainer, costs: Costs, recipe: Recipe, replicate: int, upto: int) -> int:
    """Trains a recipe up to a rung as a slot that was just started would; the steps that it took."""
    trainer.forget()
    before = trainer.steps_trained
    for _ in trainer.train(costs.path(recipe, replicate), tuple(r for r in costs.rungs(recipe) if r <= upto)):
        pass
    return trainer.steps_trained - before


def with_store(packs: Path, folder: Path) -> Costs:
    return Costs(toy_problem(packs), store_of=lambda namespace: Store(str(folder), f"division/{namespace}".rstrip("/")))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_marginal_cost_is_what_a_trainer_trains(toy_packs: Path, tmp_path: Path, seed: int) -> None:
    """Recipes with common stages, in any order, to any rung, some again: the store says beforehand what each takes."""
    trainer = toy_trainer(toy_packs, tmp_path)
    draw = random.Random(seed)
    for _ in range(8):
        recipe, replicate, rung = draw.choice(list(TRUNKS.values())), draw.choice((0, 1)), draw.choice(RUNGS)
        costs = with_store(toy_packs, tmp_path)
        said = costs.marginal(recipe, replicate, rung)
        assert said <= costs.alone(recipe, replicate)
        assert train(trainer, costs, recipe, replicate, rung) == said


def test_what_several_recipes_take_together_is_what_training_them_one_by_one_takes(
    toy_packs: Path, tmp_path: Path
) -> None:
    trainer = toy_trainer(toy_packs, tmp_path)
    costs = with_store(toy_packs, tmp_path)
    train(trainer, costs, TRUNKS["finetune"], 0, RUNGS[0])
    wanted = [(recipe, 0) for recipe in TRUNKS.values()]
    said = with_store(toy_packs, tmp_path).together(wanted)
    assert said == steps_shared([costs.path(*one) for one in wanted]) - 4 - 3  # the trunk, and to the first rung
    assert sum(train(trainer, costs, recipe, 0, RUNGS[-1]) for recipe, _ in wanted) == said


def test_a_stored_last_stage_makes_the_earlier_ones_free(toy_packs: Path, tmp_path: Path) -> None:
    recipe = RECIPES["finetune"]
    costs = with_store(toy_packs, tmp_path)
    trunk, last = costs.path(recipe)
    Store(str(tmp_path), "division").save(last.stage.key, 2, {}, keep=False)
    assert costs.marginal(recipe) == 4
    assert costs.marginal(recipe, upto_rung=3) == 1
    assert costs.marginal(recipe, 1) == costs.alone(recipe) == trunk.steps + last.steps


def test_an_interruption_before_the_first_step_leaves_a_checkpoint_that_counts(toy_packs: Path, tmp_path: Path) -> None:
    """A fork that was saved at step 0 holds the trunk's weights: the trunk is not needed any more."""
    trainer, recipe = toy_trainer(toy_packs, tmp_path, checkpoint_s=0.0), RECIPES["finetune"]
    costs = with_store(toy_packs, tmp_path)
    last = costs.path(recipe)[-1].stage.key
    with pytest.raises(Interrupted):
        list(trainer.train(costs.path(recipe), RUNGS, control=lambda stage, step: stage.key != last))
    (tmp_path / "division" / costs.path(recipe)[0].stage.key).rename(tmp_path / "evicted")
    assert with_store(toy_packs, tmp_path).marginal(recipe) == 6
    assert train(trainer, costs, recipe, 0, RUNGS[-1]) == 6


def test_without_the_store_a_longer_stage_counts_for_its_kept_checkpoints_alone(toy_packs: Path) -> None:
    """`finetune` leaves the trunk at 4, `finetune real_bn` at 5; both forks are kept, other steps are not."""
    costs = Costs(toy_problem(toy_packs))
    short, long = RECIPES["finetune"], RECIPES["finetune real_bn"]
    trunk, last = costs.path(short)
    assert costs.path(long)[0].stage.key == trunk.stage.key
    assert trunk.keep == (3, 4)
    costs.update({trunk.stage.key: 2})
    assert costs.marginal(short) == 10
    costs.update({trunk.stage.key: 5})
    assert (costs.marginal(short), costs.marginal(long)) == (6, 6)
    costs.update({last.stage.key: 5})
    assert costs.marginal(short) == 3  # 5 is on the way to 6: only the rung at 3 is sure to be there
    costs.update({last.stage.key: 4})  # a late word
    costs.update({last.stage.key: 6})
    assert costs.marginal(short) == 0


def test_a_recipe_without_the_rung_is_taken_to_its_end(toy_packs: Path) -> None:
    costs = Costs(toy_problem(toy_packs))
    assert rungs_of(costs.path(MORE["gradual"]), toy_problem(toy_packs)) == (6,)
    assert costs.marginal(MORE["gradual"], upto_rung=3) == 6


def test_without_sharing_a_stage_is_the_recipes_own(toy_packs: Path) -> None:
    costs = Costs(toy_problem(toy_packs), share=False)
    one, other = RECIPES["finetune"], MORE["finetune fda"]
    trunk = costs.path(one)[0]
    costs.update({f"alone-{one.key}{trunk.stage.key}": 4})
    assert (costs.marginal(one), costs.marginal(other)) == (6, 10)
    assert costs.together([(one, 0), (other, 0)]) == 16


def test_a_stage_is_listed_once_and_again_when_it_passed_what_is_kept(toy_packs: Path, tmp_path: Path) -> None:
    store = CountingStore(str(tmp_path), "division")
    recipe = RECIPES["real"]
    (key,) = (leg.stage.key for leg in Costs(toy_problem(toy_packs)).path(recipe))
    store.save(key, 1, {}, keep=False)
    costs = Costs(toy_problem(toy_packs), store_of=lambda namespace: store)
    for _ in range(3):
        assert costs.marginal(recipe) == 5
        assert costs.marginal(RECIPES["synthetic"]) == 6  # no folder: not listed at all
    assert store.asked == {key: 1}
    costs.update({key: 2})
    assert costs.marginal(recipe) == 5  # what rolls is not asked for
    store.save(key, 3, {}, keep=True)
    costs.update({key: 4})
    assert costs.marginal(recipe) == costs.marginal(recipe) == 3
    assert store.asked == {key: 2}


def test_accelerators_are_gpus_or_workers() -> None:
    assert accelerators(SlotsConfig(workers=3)) == 3
    assert accelerators(SlotsConfig(workers=2, gpus_per_worker=0.5)) == 1
    assert accelerator_hours(1800, SlotsConfig(workers=2, gpus_per_worker=2)) == 2
    assert Rates(200, 50.0).seconds(100) == 25
    assert Rates(0, 3.0).seconds(100) is None


@pytest.mark.parametrize(
    ("pruner", "shares"),
    [
        ({"kind": "none"}, (1, 1, 1)),
        ({"kind": "asha", "factor": 4}, (1, 1 / 4, 1 / 16)),
        ({"kind": "median", "factor": 4}, (1, 1 / 2, 1 / 4)),
        ({"kind": "hyperband", "factor": 2}, (1, (1 / 2 + 1 + 1) / 3, (1 / 4 + 1 / 2 + 1) / 3)),
    ],
)
def test_the_share_that_goes_on_from_each_rung(pruner: dict[str, Any], shares: tuple[float, ...]) -> None:
    assert going_on(PrunerConfig(**pruner), 3) == pytest.approx(shares)


def test_a_forecast_with_halving_and_racing_by_hand(toy_packs: Path, tmp_path: Path) -> None:
    """5 recipes: 2 real_only, 1 synthetic_only, 2 finetune on one trunk of 4. Seed 1 for a third of the finishers."""
    replace = {"seeds: 2": "seeds: 2, racing: true", "sampler: grid": "sampler: grid\npruner: {kind: asha, factor: 2}"}
    config = load(toy_search(toy_packs, tmp_path, replace))
    opened = open_problem(config)
    ahead = forecast(config, Costs(opened.problem), config.space.enumerate(), tests=0.5)
    assert ahead.steps == 68
    first = 4 + 5 * 3 + 5 * 3 / 2
    other = (4 + 5 * 6) * (1 / 2 / 3)
    assert ahead.steps_expected == pytest.approx(first + other)
    assert ahead.evaluations_expected == pytest.approx(5 * (1 + 1.5 / 2) + 5 * (1 + 1.5) / 6)
    said = "asha: 1 in 2 goes on from each rung; racing: 1 in 3 at the last rung gets its other seeds"
    assert ahead.assumes == said
