"""Proposer: which recipe to try next, by an Optuna sampler that sees the trials as they are meant.

The sampler runs on a scratch study in memory, so that a candidate that is not taken is nowhere in the search's own
study, and so that a recipe that was left behind at a rung counts as pruned though it may still go on.
"""

import random
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.budget import Direction
from search.config import SearchConfig
from trainables.recipe import Recipe

CANDIDATES = 3  # draws of which the cheapest is taken
TRIES = 100  # draws for one that is accepted, before they are drawn by chance
CHANCE_TRIES = 1000  # draws by chance, before a space of ranges counts as exhausted
LISTED_TRIES = 20  # where the recipes that are left can be listed
STARTUP = 10  # ended recipes before tpe and gp learn from them: Optuna's default
GP_TRIES = 3  # where a draw takes seconds, and is the same again where the best lies at the end of every range


@dataclass(frozen=True)
class Origin:
    """Why a recipe is proposed; kept on its trial for `explain`.

    by       "enqueued", the sampler's name, "rest" (at random of those that the sampler did not come to) or "chance"
             (at random of the whole space, where the sampler drew nothing new)
    startup  whether the sampler had too few ended recipes to learn from, and so drew at random
    steps    those that the store lacked for each candidate, where several were drawn: the cheapest was taken
    """

    by: str
    startup: bool = False
    steps: tuple[float, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """A recipe to try.

    params, distributions  a trial's, as Optuna has them (SpaceConfig.recipe)
    system_attrs           what the sampler left on the trial and will look for there (CMA-ES, NSGA-II)
    """

    recipe: Recipe
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    system_attrs: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None


class Proposer:
    """Proposes recipes that `accept` takes, enqueued ones first, until there is none.

    accept  whether a recipe may be tried: it is not known, and what it is known to cost violates no constraint. It
            must not take later what it refused before
    cost    steps that are still to be trained for a recipe: among draws of equal promise the cheapest is taken
    """

    def __init__(
        self, config: SearchConfig, *, accept: Callable[[Recipe], bool], cost: Callable[[Recipe], float]
    ) -> None:
        self._config = config
        self._accept = accept
        self._cost = cost
        self._mirror = Mirror(config.objective.directions)
        self._enqueued = deque(config.space.params_of(given) for given in config.enqueue)
        self._begun = False
        self._startup = False

    def propose(self, known: Sequence[FrozenTrial]) -> Proposal | None:
        """The next recipe, given the search's trials; None when the space has nothing new that is accepted.

        known  every trial, always in the same order: COMPLETE with its values, PRUNED with what it reached at its rungs
               (it may be RUNNING or COMPLETE later), RUNNING, FAIL; with constraints' violations where they are known
        """
        config = self._config
        listed, origin = self._first(self._enqueued), Origin("enqueued")
        if listed is None and config.sampler == "grid":
            listed, origin = self._first(self._left), Origin("grid")
        if listed is not None and config.sampler != "nsga":
            return self._listed(listed, {}, origin)
        if config.sampler == "grid":
            return None
        self._see(known)
        if listed is not None:
            # It is of the generation that a draw would be of.
            return self._listed(listed, self._draw().system_attrs, origin)
        finite = config.space.continuous() is None
        drawn, attrs = self._first_drawn(
            GP_TRIES if config.sampler == "gp" else LISTED_TRIES if finite else TRIES, self._replayed(known)
        )
        if drawn is not None:
            return self._cheapest(drawn)
        attrs = attrs if config.sampler == "nsga" else {}
        if finite:
            return self._chosen(len(known), attrs)
        self._mirror.study.sampler = RandomSampler(seed=seed_of(config, len(known), 1))
        drawn, _ = self._first_drawn(CHANCE_TRIES, set())
        return drawn and replace(drawn, system_attrs=attrs, origin=Origin("chance"))

    def _see(self, known: Sequence[FrozenTrial]) -> None:
        self._mirror.update(known)
        self._mirror.study.sampler = sampler_of(self._config, len(known))
        learned = {"tpe": (TrialState.COMPLETE, TrialState.PRUNED), "gp": (TrialState.COMPLETE,)}
        states = learned.get(self._config.sampler)
        self._startup = states is not None and sum(trial.state in states for trial in known) < STARTUP

    def _draw(self) -> Proposal:
        """One draw of the sampler, of which nothing but its number is left in the scratch study."""
        study = self._mirror.study
        trial = study.ask()
        recipe = self._config.space.suggest(trial)
        drawn = study._storage.get_trial(trial._trial_id)
        study.tell(trial, state=TrialState.FAIL)
        self._mirror.storage.forget(trial._trial_id)  # there are some for each recipe, of kilobytes
        # Relative parameters are those of other schedules too; the trial's own are all that running ones need.
        attrs = {name: value for name, value in drawn.system_attrs.items() if ":relative_params" not in name}
        return Proposal(recipe, drawn.params, drawn.distributions, attrs, Origin(self._config.sampler, self._startup))

    def _replayed(self, known: Sequence[FrozenTrial]) -> set[str]:
        """The recipes that the sequence of qmc will come by again: it begins anew in every process."""
        begun, self._begun = self._begun, True
        if begun or self._config.sampler != "qmc":
            return set()
        return {self._config.space.recipe(trial.params).key for trial in known}

    def _first_drawn(self, tries: int, replayed: set[str]) -> tuple[Proposal | None, dict[str, Any]]:
        """The first accepted draw, if there is one in so many, and what the sampler left on the last. They are counted
        anew after each that is replayed."""
        left = tries
        while True:
            drawn = self._draw()
            if self._accept(drawn.recipe):
                return drawn, drawn.system_attrs
            left = tries if drawn.recipe.key in replayed else left - 1
            replayed.discard(drawn.recipe.key)
            if left == 0:
                return None, drawn.system_attrs

    def _cheapest(self, first: Proposal) -> Proposal:
        """Of the first accepted draw and some more of its schedule, which are draws of one posterior, the one that
        costs least. A sequence (qmc, cmaes, nsga) would miss the dropped ones, and gp draws its maximum again."""
        if self._config.sampler not in ("tpe", "random"):
            return first
        more = [self._draw() for _ in range(CANDIDATES - 1)]
        same = [one for one in more if one.recipe.schedule == first.recipe.schedule and self._accept(one.recipe)]
        candidates = [first, *same]
        costs = [self._cost(one.recipe) for one in candidates]
        chosen = candidates[costs.index(min(costs))]
        return replace(chosen, origin=Origin(self._config.sampler, self._startup, tuple(costs)))

    # -- recipes that are listed ---------------------------------------------------------------------------------------

    @cached_property
    def _left(self) -> deque[dict[str, Any]]:
        """The recipes of a space without ranges that may still be accepted, as a trial's parameters."""
        return deque(self._config.space.grid().values())

    def _first(self, queue: deque[dict[str, Any]]) -> dict[str, Any] | None:
        """The first that is accepted; those before it never will be."""
        while queue and not self._accept(self._config.space.recipe(queue[0])):
            queue.popleft()
        return queue[0] if queue else None

    def _chosen(self, asked: int, attrs: dict[str, Any]) -> Proposal | None:
        """One of the recipes that are left, at random, where the sampler draws none of them: the cheapest of some."""
        space = self._config.space
        self._left = deque(params for params in self._left if self._accept(space.recipe(params)))
        if not self._left:
            return None
        few = random.Random(f"{self._config.seed} {asked}").sample(self._left, min(CANDIDATES, len(self._left)))
        costs = [self._cost(space.recipe(params)) for params in few]
        return self._listed(few[costs.index(min(costs))], attrs, Origin("rest", steps=tuple(costs)))

    def _listed(self, params: dict[str, Any], attrs: dict[str, Any], origin: Origin) -> Proposal:
        space = self._config.space
        return Proposal(space.recipe(params), params, space.distributions(params), attrs, origin)


class Mirror:
    """The scratch study: copies of the search's trials, each written again when its original changed."""

    def __init__(self, directions: Sequence[Direction]) -> None:
        self.storage = _Rewritable()
        self.study: Study = optuna.create_study(storage=self.storage, directions=list(directions))
        self._copies: dict[int, tuple[int, Any]] = {}  # number of the original -> the copy's id, what tells a change

    def update(self, known: Sequence[FrozenTrial]) -> None:
        for trial in known:
            assert trial.state is not TrialState.WAITING, "nothing waits in a queue of Optuna's"
            values = trial.values if trial.state is TrialState.COMPLETE else None
            now = (trial.state, values, len(trial.intermediate_values))
            copy, before = self._copies.get(trial.number, (None, None))
            if now != before:
                copy = self._add(trial) if copy is None else self._rewrite(copy, trial)
                self._copies[trial.number] = copy, now

    def _add(self, trial: FrozenTrial) -> int:
        copied = create_trial(
            state=trial.state,
            values=trial.values if trial.state is TrialState.COMPLETE else None,
            params=trial.params,
            distributions=trial.distributions,
            system_attrs=trial.system_attrs,
            intermediate_values=self._intermediate(trial),
        )
        return self.study._storage.create_new_trial(self.study._study_id, template_trial=copied)

    def _rewrite(self, copy: int, trial: FrozenTrial) -> int:
        storage = self.study._storage
        for step, value in self._intermediate(trial).items():
            storage.set_trial_intermediate_value(copy, step, value)
        for name, attr in trial.system_attrs.items():
            storage.set_trial_system_attr(copy, name, attr)
        if trial.state is TrialState.RUNNING:
            storage.set_trial_state_values(copy, TrialState.WAITING)  # what is finished runs again by way of waiting
        storage.set_trial_state_values(copy, trial.state, trial.values if trial.state is TrialState.COMPLETE else None)
        return copy

    def _intermediate(self, trial: FrozenTrial) -> dict[int, float]:
        """Values at rungs. Optuna has none where there are several objectives, and fails on them."""
        return trial.intermediate_values if len(self.study.directions) == 1 else {}


class _Rewritable(InMemoryStorage):
    """A storage whose finished trials may change."""

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        """Every one is."""

    def forget(self, trial_id: int) -> None:
        """Leaves of a failed trial its number alone."""
        empty = create_trial(state=TrialState.FAIL)
        empty.number, empty._trial_id = self.get_trial_number_from_id(trial_id), trial_id
        self._set_trial(trial_id, empty)


class _Sobol(QMCSampler):
    """Sobol's sequence over the parameters of all schedules at once: a recipe takes the coordinates that it has, so
    that every draw is a point of the sequence, whichever schedule it is of. (Optuna's own covers what the first trial
    happened to have, and draws the rest at random.)"""

    def __init__(self, seed: int, domains: dict[str, BaseDistribution]) -> None:
        super().__init__(qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False)
        self._domains = {name: domain for name, domain in sorted(domains.items()) if not domain.single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._domains


def seed_of(config: SearchConfig, asked: int, use: int = 0) -> int:
    """32 bits of (seed, how many were asked before, what for): the same history proposes the same in any process."""
    return int(np.random.SeedSequence([config.seed, asked, use]).generate_state(1)[0])


def sampler_of(config: SearchConfig, asked: int) -> BaseSampler:
    """The sampler of a search, seeded by `seed_of`; the sequence of qmc is seeded by the search alone."""
    seed = seed_of(config, asked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `group` since Optuna 2.8, and the samplers qmc and gp
        match config.sampler:
            case "tpe":
                return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
            case "gp":
                return GPSampler(seed=seed, warn_independent_sampling=False)
            case "cmaes":
                return CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "nsga":
                # Some ten generations, of between 8 (fewer know no front) and Optuna's 50.
                assert config.budget.trials is not None
                return NSGAIISampler(seed=seed, population_size=min(max(config.budget.trials // 10, 8), 50))
            case "qmc":
                return _Sobol(config.seed % 2**32, config.space.domains())
    return RandomSampler(seed=seed)  # a grid draws nothing
