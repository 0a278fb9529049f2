"""The proposer, with Optuna's real samplers: what it proposes, that it learns, and that a second process goes on."""

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.config import SearchConfig
from search.proposer import CHANCE_TRIES, TRIES, Proposal, Proposer
from search.space import SpaceConfig
from trainables.recipe import Recipe

ONE = {  # every recipe has the same parameters, ranges alone
    "schedule": ["mixed"],
    "adaptation": ["none"],
    "real_fraction": {"low": 0.05, "high": 1.0},
    "synthetic_fraction": [1.0],
    "synthetic_share": {"low": 0.05, "high": 0.95},
    "lr": {"low": 1e-3, "high": 1.0},
}
LISTS = {  # 3 * 3 * 3 recipes
    "schedule": ["mixed"],
    "adaptation": ["none"],
    "real_fraction": [0.1, 0.5, 1.0],
    "synthetic_fraction": [1.0],
    "synthetic_share": [0.25, 0.5, 0.75],
    "lr": [0.01, 0.1, 1.0],
}
TREE = {  # parameters that only some schedules have
    "schedule": ["real_only", "synthetic_only", "mixed", "finetune"],
    "adaptation": ["none", "real_bn"],
    "real_fraction": {"low": 0.05, "high": 1.0},
    "synthetic_fraction": [0.5, 1.0],
    "synthetic_share": {"low": 0.05, "high": 0.95},
    "pretrain": {"steps": [50, 100, 200], "lr": [0.1]},
    "lr": {"low": 1e-3, "high": 1.0},
}
SPACES = {"tpe": TREE, "random": TREE, "nsga": TREE, "qmc": TREE, "gp": ONE, "cmaes": ONE, "grid": LISTS}


def search_of(sampler: str, space: dict[str, Any], **more: Any) -> SearchConfig:
    raw: dict[str, Any] = {
        "name": "toy",
        "task": {"kind": "segmentation"},
        "data": {"real": {"a": "real"}, "synthetic": {"a": "synthetic"}, "val": "val"},
        "space": space,
        "budget": {"trials": 40, "steps": 6, "rungs": [3, 6]},
        "sampler": sampler,
    }
    return SearchConfig.model_validate(raw | more)


class Search:
    """A search as its ledger keeps it: the proposals, as trials, and what they were told."""

    def __init__(
        self,
        config: SearchConfig,
        *,
        cost: Callable[[Recipe], float] = lambda recipe: 0.0,
        allows: Callable[[Recipe], bool] = lambda recipe: True,
    ) -> None:
        self.config, self.cost, self.allows = config, cost, allows
        self.known: list[FrozenTrial] = []
        self.keys: list[str] = []
        self.proposer = self.another()

    def another(self) -> Proposer:
        """A proposer as a second run of the search would have it."""
        return Proposer(self.config, accept=self.accepts, cost=self.cost)

    def accepts(self, recipe: Recipe) -> bool:
        return recipe.key not in self.keys and self.allows(recipe)

    def propose(self) -> Proposal | None:
        return self.proposer.propose(self.known)

    def add(self, proposal: Proposal, **told: Any) -> None:
        """The proposal as a trial; RUNNING unless it is told something."""
        self.keys.append(proposal.recipe.key)
        self._put(len(self.known), proposal.params, proposal.distributions, proposal.system_attrs, told)

    def tell(self, number: int, **told: Any) -> None:
        trial = self.known[number]
        self._put(number, trial.params, trial.distributions, trial.system_attrs, told)

    def _put(self, number: int, params: Any, distributions: Any, attrs: Any, told: dict[str, Any]) -> None:
        state = {"state": TrialState.COMPLETE if "values" in told else TrialState.RUNNING}
        what = {"params": params, "distributions": distributions, "system_attrs": dict(attrs)}
        trial = create_trial(**(what | state | told))
        trial.number = number
        self.known[number : number + 1] = [trial]

    def run(self, value: Callable[[Recipe], Any], count: int, *, out: int = 1) -> list[Recipe]:
        """Tries so many recipes, some at once. `value` gives the objective, or a dict of what the trial is told."""
        found: list[Recipe] = []
        waiting: list[tuple[int, Recipe]] = []
        while len(found) < count:
            proposal = self.propose()
            assert proposal is not None
            found.append(proposal.recipe)
            waiting.append((len(self.known), proposal.recipe))
            self.add(proposal)
            if len(waiting) == out:
                number, recipe = waiting.pop(0)
                told = value(recipe)
                self.tell(number, **(told if isinstance(told, dict) else {"values": [told]}))
        return found


def quality(recipe: Recipe) -> float:
    """Best (0) in `mixed` at lr 0.1 with a share of 0.3 and all real images."""
    assert recipe.real_fraction is None or isinstance(recipe.real_fraction, float)
    worse = {"mixed": 0.0, "finetune": 0.5, "real_only": 1.0, "synthetic_only": 2.0}[recipe.schedule]
    share = recipe.synthetic_share if isinstance(recipe.synthetic_share, float) else 0.3
    return -(worse + (math.log10(recipe.lr) + 1) ** 2 + 4 * (share - 0.3) ** 2 + 1 - (recipe.real_fraction or 0))


def is_of(space: SpaceConfig, proposal: Proposal) -> bool:
    """Whether a proposal's three forms agree, and are of the space."""
    params, domains = proposal.params, proposal.distributions
    inside = all(domains[name]._contains(domains[name].to_internal_repr(value)) for name, value in params.items())
    return inside and space.recipe(params) == proposal.recipe and space.distributions(params) == domains


# -- every sampler --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SPACES)
def test_proposals_are_distinct_recipes_of_the_space(sampler: str) -> None:
    search = Search(search_of(sampler, SPACES[sampler]))
    count = 13 if sampler == "gp" else 25
    recipes = search.run(quality, count, out=3)
    assert len({recipe.key for recipe in recipes}) == count
    proposal = search.propose()
    assert proposal is not None
    assert is_of(search.config.space, proposal)


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga", "qmc", "gp", "grid"])
def test_a_space_of_lists_is_proposed_whole_and_then_nothing_more(sampler: str) -> None:
    search = Search(
        search_of(sampler, LISTS if sampler != "gp" else LISTS | {"real_fraction": [1.0], "lr": [0.1, 1.0]})
    )
    grid = search.config.space.grid()
    recipes = search.run(quality, len(grid), out=2)
    assert {recipe.key for recipe in recipes} == set(grid)
    assert search.propose() is None
    assert search.another().propose(search.known) is None
    if sampler == "grid":
        assert [recipe.key for recipe in recipes] == list(grid)


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "qmc", "grid"])
def test_the_same_history_proposes_the_same_however_long_the_process_lives(sampler: str) -> None:
    """Half of the recipes are left behind at a rung, and some of these go on: what was pruned is complete later."""
    search = Search(search_of(sampler, SPACES[sampler]))

    def told(recipe: Recipe) -> dict[str, Any]:
        value = quality(recipe)
        left = {"state": TrialState.PRUNED, "intermediate_values": {3: value - 1}}
        return left if int(recipe.key, 16) % 2 else {"values": [value], "intermediate_values": {3: value - 1, 6: value}}

    for k in range(14):
        mine, other = search.propose(), search.another().propose(search.known)
        assert mine == other
        assert mine is not None
        search.add(mine)
        search.tell(k, **told(mine.recipe))
        behind = [trial for trial in search.known if trial.state is TrialState.PRUNED]
        if k % 3 == 2 and behind:  # promoted, and at its end
            rungs = {**behind[0].intermediate_values, 6: 1.0}
            search.tell(behind[0].number, values=[1.0], intermediate_values=rungs)


def test_two_processes_propose_the_same() -> None:
    code = (
        "from tests.search.test_proposer import *\n"
        "for sampler in ('tpe', 'nsga', 'cmaes', 'qmc'):\n"
        "    search = Search(search_of(sampler, SPACES[sampler]))\n"
        "    print(*(recipe.key for recipe in search.run(quality, 16, out=2)))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    ]
    assert outputs[0] == outputs[1]
    assert [len(set(line.split())) for line in outputs[0].splitlines()] == [16] * 4


def test_another_seed_searches_elsewhere() -> None:
    first, other = (Search(search_of("tpe", TREE, seed=seed)).run(quality, 5) for seed in (0, 1))
    assert not {recipe.key for recipe in first} & {recipe.key for recipe in other}


# -- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tpe_finds_better_recipes_than_chance() -> None:
    best = {
        sampler: [max(map(quality, Search(search_of(sampler, TREE, seed=seed)).run(quality, 32))) for seed in range(6)]
        for sampler in ("tpe", "random")
    }
    assert median(best["tpe"]) > 0.7 * median(best["random"])  # nearer to the best there is, which is 0
    assert sum(tpe > chance for tpe, chance in zip(best["tpe"], best["random"], strict=True)) >= 4


def history(search: Search, told: list[tuple[float, dict[str, Any]]]) -> None:
    """Trials of real_only at these learning rates, with what each was told."""
    for lr, what in told:
        params = search.config.space.params_of({"schedule": "real_only", "real_fraction": 1.0, "lr": lr})
        recipe = search.config.space.recipe(params)
        search.add(Proposal(recipe, params, search.config.space.distributions(params)), **what)


RATES = {"schedule": ["real_only"], "real_fraction": [1.0], "lr": {"low": 1e-4, "high": 1.0}}


def above(sampler: str, told: list[tuple[float, dict[str, Any]]], lr: float) -> int:
    """In how many of 20 searches the next proposal after such a history is above a learning rate."""
    count = 0
    for seed in range(20):
        search = Search(search_of(sampler, RATES, data={"real": {"a": "real"}, "val": "val"}, seed=seed))
        history(search, told)
        proposal = search.propose()
        assert proposal is not None
        count += proposal.recipe.lr > lr
    return count


def test_what_was_left_behind_at_a_rung_ranks_after_what_went_on_however_good_it_looked() -> None:
    poor = [(10 ** (-k / 4), {"values": [-5.0]}) for k in range(16)]
    ended = [(0.1 * 1.1**k, {"values": [1.0]}) for k in (-1, 0, 1)]
    early = [(0.001 * 1.1**k, {"state": TrialState.PRUNED, "intermediate_values": {3: 9.0}}) for k in (-1, 0, 1)]
    whole = [(lr, {"values": [9.0]}) for lr, _ in early]
    assert above("tpe", poor + early + ended, 0.01) >= 16
    assert above("tpe", poor + whole + ended, 0.01) <= 4  # and it is what it would go for, had it ended so


@pytest.mark.parametrize(("sampler", "count"), [("tpe", 50), ("gp", 18), ("nsga", 80)])
def test_where_constraints_are_violated_it_does_not_go(sampler: str, count: int) -> None:
    """More than 0.3 of the real images are best and violate; of what does not, 0.12 of them are."""
    violations = {}
    for bounded in (True, False):

        def told(recipe: Recipe, bounded: bool = bounded) -> dict[str, Any]:
            assert recipe.real_fraction is not None
            bounds = {"constraints": {"val/cost": recipe.real_fraction - 0.3}} if bounded else {}
            best = 1 if recipe.real_fraction > 0.3 else -(math.log10(recipe.real_fraction / 0.12) ** 2)
            return {"values": [best]} | bounds

        recipes = Search(search_of(sampler, ONE)).run(told, count)[-8:]
        violations[bounded] = sum(recipe.real_fraction > 0.3 for recipe in recipes if recipe.real_fraction)
    assert violations[True] <= 1
    assert violations[False] >= 4


def test_where_gp_proposes_what_is_known_chance_goes_on() -> None:
    """The best recipe is at the end of every range, so that the maximum of the acquisition is drawn again and again."""
    search = Search(search_of("gp", ONE | {"synthetic_share": [0.5], "lr": [0.1]}))
    recipes = search.run(lambda recipe: recipe.real_fraction, 16)
    assert len({recipe.key for recipe in recipes}) == 16
    assert max(recipe.real_fraction for recipe in recipes if recipe.real_fraction) == 1.0


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga", "qmc", "random"])
def test_several_objectives_and_recipes_left_behind_go_together(sampler: str) -> None:
    space = ONE if sampler == "gp" else TREE
    search = Search(search_of(sampler, space, objective={"against": ["num_real_labels", "steps"]}))

    def told(recipe: Recipe) -> dict[str, Any]:
        value = quality(recipe)
        if int(recipe.key, 16) % 4 == 0:
            return {"state": TrialState.PRUNED, "intermediate_values": {3: value}}
        return {"values": [value, recipe.real_fraction or 0.0, float(recipe.pretrain.steps if recipe.pretrain else 0)]}

    recipes = search.run(told, 16 if sampler == "gp" else 30, out=2)
    assert len({recipe.key for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize(("sampler", "attr"), [("nsga", "NSGAIISampler:generation"), ("cmaes", "cma:generation")])
def test_a_second_run_goes_on_with_the_generation_of_the_first(sampler: str, attr: str) -> None:
    search = Search(search_of(sampler, ONE))
    search.run(quality, 20)
    generations = [trial.system_attrs.get(attr, 0) for trial in search.known]
    assert generations == sorted(generations)
    assert generations[-1] >= 1
    search.proposer = search.another()
    again = search.run(quality, 20)
    later = [trial.system_attrs[attr] for trial in search.known[20:]]
    assert generations[-1] <= later[0] <= generations[-1] + 1
    assert later == sorted(later)
    assert later[-1] > later[0]
    assert median(map(quality, again)) > median(quality(search.config.space.recipe(t.params)) for t in search.known[:8])


def test_qmc_is_one_sequence_over_all_schedules_that_a_second_run_continues() -> None:
    """Of the first 2^m points of Sobol's sequence each of 2^m equal parts of an axis holds one."""
    config = search_of("qmc", TREE)
    search = Search(config)
    recipes = search.run(quality, 20)
    search.proposer = search.another()
    recipes += search.run(quality, 44)
    assert Counter(recipe.schedule for recipe in recipes) == dict.fromkeys(TREE["schedule"], 16)
    parts = Counter(int((math.log10(recipe.lr) + 3) / 3 * 64) for recipe in recipes)
    assert parts == dict.fromkeys(range(64), 1)


def test_qmc_goes_on_after_points_that_were_refused() -> None:
    searches = [Search(search_of("qmc", TREE), allows=lambda recipe: int(recipe.key, 16) % 20 == 0) for _ in range(2)]
    whole, halves = searches[0].run(quality, 16), searches[1].run(quality, 8)
    searches[1].proposer = searches[1].another()
    assert halves + searches[1].run(quality, 8) == whole


# -- what is taken --------------------------------------------------------------------------------------------------


def test_enqueued_recipes_come_first_but_those_that_are_known_or_cost_too_much() -> None:
    enqueue = [
        {"schedule": "mixed", "adaptation": "none", "real_fraction": fraction, "synthetic_fraction": 1}
        | {"synthetic_share": 0.5, "lr": 0.1}
        for fraction in (0.5, 1.0, 0.1)
    ]
    for sampler in ("grid", "tpe", "nsga"):
        search = Search(search_of(sampler, LISTS, enqueue=enqueue), allows=lambda recipe: recipe.real_fraction != 1.0)
        recipes = search.run(quality, 12)
        assert [recipe.real_fraction for recipe in recipes[:2]] == [0.5, 0.1]
        assert [recipe.lr for recipe in recipes[:2]] == [0.1, 0.1]
        assert len({recipe.key for recipe in recipes}) == 12
        again = search.another().propose(search.known)
        assert again is not None
        assert again.recipe.key not in search.keys
        assert is_of(search.config.space, again)
    assert all("NSGAIISampler:generation" in trial.system_attrs for trial in search.known)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga"])
def test_a_space_in_which_nothing_is_accepted_is_exhausted(sampler: str) -> None:
    asked: list[str] = []
    search = Search(search_of(sampler, TREE), allows=lambda recipe: bool(asked.append(recipe.key)))
    assert search.propose() is None
    assert len(asked) == TRIES + CHANCE_TRIES


def test_of_recipes_of_one_schedule_the_cheap_ones_come_sooner() -> None:
    """The schedule stays that of the first draw: the cheap ones are not preferred to what promises more."""
    steps = {"steps": lambda recipe: recipe.pretrain.steps if recipe.pretrain else 6.0, "none": lambda recipe: 0.0}
    found = {name: Search(search_of("random", TREE), cost=cost).run(quality, 120) for name, cost in steps.items()}
    schedules = {name: [recipe.schedule for recipe in recipes] for name, recipes in found.items()}
    assert schedules["steps"] == schedules["none"]
    cheap = {name: Counter(r.pretrain.steps for r in recipes if r.pretrain) for name, recipes in found.items()}
    assert cheap["steps"][50] > 1.3 * cheap["none"][50]
    assert cheap["steps"][200] < cheap["none"][200]


def test_of_draws_that_cost_the_same_the_first_is_taken() -> None:
    config = search_of("random", TREE)
    first: list[str] = []

    def accept(recipe: Recipe) -> bool:
        first.append(recipe.key)
        return True

    proposal = Proposer(config, accept=accept, cost=lambda recipe: 1.0).propose([])
    assert proposal is not None
    assert proposal.recipe.key == first[0]
