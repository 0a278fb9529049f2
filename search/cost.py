"""Costs: what recipes take, counted in the steps that the store lacks, and in accelerator-hours.

A recipe by itself takes the steps of all its stages. What it takes here is less: a stage goes on from the furthest
checkpoint that the store has of it, and where a later stage has one, the earlier stages are not needed at all.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from datasets.uri import reason
from search.shape import SlotsConfig
from trainables.path import Leg, Path, path_of, rungs_of
from trainables.problem import Problem
from trainables.recipe import Recipe

if TYPE_CHECKING:
    from trainables.store import Store

log = logging.getLogger(__name__)

PATHS = 1000  # that are remembered: a path takes some kilobytes


@dataclass(frozen=True)
class Rates:
    """How fast a search trains: steps, and the slot-seconds they took, evaluations and waits for data included."""

    steps_trained: int
    busy_s: float

    def seconds(self, steps: int) -> float | None:
        """Slot-seconds that so many steps take; None before anything was trained."""
        return steps * self.busy_s / self.steps_trained if self.steps_trained else None


def accelerators(slots: SlotsConfig) -> float:
    """What a slot holds: the GPUs of its workers or, where they have none, the workers themselves."""
    return slots.workers * (slots.gpus_per_worker or 1)


def accelerator_hours(busy_s: float, slots: SlotsConfig) -> float:
    """The unit of `budget.hours`. `busy_s` are slot-seconds with a job: a slot that waits for one spends nothing."""
    return busy_s * accelerators(slots) / 3600


class Costs:
    """What the recipes of one search take. On the driver; exact where the store can be listed.

    share     False: every recipe has a store of its own, as in Job.namespace
    store_of  the store of a namespace, where this process knows its division. Without it what `update` tells is all
              that is known to be stored, and what was trained before this search counts as missing
    """

    def __init__(
        self, problem: Problem, *, share: bool = True, store_of: "Callable[[str], Store] | None" = None
    ) -> None:
        self._problem = problem
        self._share = share
        self._store_of = store_of
        self._path = lru_cache(PATHS)(lambda recipe, replicate: path_of(recipe, problem, replicate))
        self._reached: dict[str, int] = {}
        self._stores: dict[str, tuple[Store, set[str]]] = {}  # by namespace, with the stages that it had at first
        self._listed: dict[str, tuple[frozenset[int], int]] = {}  # steps, and what `_reached` was when they were listed

    @property
    def exact(self) -> bool:
        """Whether the store can be listed."""
        return self._store_of is not None

    def open(self, store_of: "Callable[[str], Store]") -> None:
        """The same as `store_of`, later: a search's division is known when its first slot is ready."""
        self._store_of = store_of

    def path(self, recipe: Recipe, replicate: int = 0) -> Path:
        """`path_of`, once for each recipe and replicate of late."""
        return self._path(recipe, replicate)

    def rungs(self, recipe: Recipe) -> tuple[int, ...]:
        """The rungs of its last stage: the search's, or its end alone where it knows its end."""
        return rungs_of(self.path(recipe), self._problem)

    def update(self, reached: Mapping[str, int]) -> None:
        """Tells how far stages are trained: (namespace +) stage key -> step.

        That does not make every step before it a checkpoint: of those only the ones that stay (Leg.keep) count, and
        where the store can be listed it is asked again as soon as a stage has passed one.
        """
        for name, step in reached.items():
            self._reached[name] = max(step, self._reached.get(name, 0))

    def alone(self, recipe: Recipe, replicate: int = 0) -> int:
        """The steps of a recipe's whole path."""
        return sum(leg.steps for leg in self.path(recipe, replicate))

    def marginal(self, recipe: Recipe, replicate: int = 0, upto_rung: int | None = None) -> int:
        """The steps that the store lacks of a recipe, up to a rung of its last stage or to its end.

        A recipe without that rung (one that is measured at its end alone) is taken to its next one.
        """
        return sum(target - (had or 0) for _, had, target in self._missing(recipe, replicate, upto_rung))

    def together(self, wanted: Iterable[tuple[Recipe, int]], upto_rung: int | None = None) -> int:
        """The steps that the store lacks of all these (recipe, replicate) together, each stage trained once."""
        stages: dict[str, dict[int, int]] = {}  # name -> target -> the step that it goes on from
        for recipe, replicate in wanted:
            for name, had, target in self._missing(recipe, replicate, upto_rung):
                stages.setdefault(name, {})[target] = had or 0
        steps = 0
        for targets in stages.values():
            before = 0
            for target, had in sorted(targets.items()):  # the shorter length is on the way to the longer
                steps += target - max(had, before)
                before = target
        return steps

    def _missing(self, recipe: Recipe, replicate: int, upto_rung: int | None) -> Iterator[tuple[str, int | None, int]]:
        """(name, the stored step that it goes on from, the step to train to) of each stage that is needed."""
        path = self.path(recipe, replicate)
        namespace = "" if self._share else f"alone-{recipe.key}"
        end = path[-1].steps
        if upto_rung is not None:
            end = next((rung for rung in self.rungs(recipe) if rung >= upto_rung), end)
        for leg, target in [(path[-1], end), *((leg, leg.steps) for leg in reversed(path[:-1]))]:
            had = max((step for step in self._stored(namespace, leg) if step <= target), default=None)
            yield namespace + leg.stage.key, had, target
            if had is not None:
                return  # it begins there, and needs nothing that was before

    def _stored(self, namespace: str, leg: Leg) -> frozenset[int]:
        """The steps of a stage that have a checkpoint, as far as is known."""
        name = namespace + leg.stage.key
        reached = self._reached.get(name, 0)
        kept = {*leg.keep, leg.steps}
        if self._store_of is None:
            return frozenset(step for step in kept if step <= reached)
        if namespace not in self._stores:
            opened = self._store_of(namespace)
            self._stores[namespace] = opened, opened.stages()
        store, stages = self._stores[namespace]
        steps, at = self._listed.get(name, (frozenset(), 0))
        if (name not in self._listed and leg.stage.key in stages) or any(at < step <= reached for step in kept):
            try:
                steps = frozenset(store.steps(leg.stage.key))
            except OSError as error:  # an outage: what was known before stands
                log.warning("the store could not be listed, costs may be out of date: %s", reason(error))
            self._listed[name] = steps, reached
        return steps
