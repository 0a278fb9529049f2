"""The ledger: which recipes and replicates are out, what they measured, and what Optuna and MLflow are told of it.

The searcher and the scheduler share one, on the driver. It is rebuilt at start from the study: recipes that were
RUNNING are issued again (the store makes what they had reached free) before anything new is asked.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

import optuna
from optuna.trial import Trial, TrialState

from search.job import Ticket
from search.space import SpaceConfig
from search.study import asked_trials
from search.tracking import DatasetFact, Status
from trainables.recipe import Recipe


class Recorder(Protocol):
    """Where the ledger writes what happens (search/tracking.py)."""

    def trial_started(
        self, recipe: Recipe, seed: int, number: int, facts: dict[str, int], datasets: list[DatasetFact]
    ) -> None: ...

    def evaluation(
        self, recipe_key: str, seed: int, step: int, metrics: dict[str, float], timestamp_ms: int
    ) -> None: ...

    def trial_ended(
        self, recipe_key: str, seed: int, status: Status, *, traceback: str | None, facts: dict[str, Any]
    ) -> None: ...


@dataclass
class Entry:
    """One recipe of the study while this run works on it."""

    number: int
    recipe: Recipe
    trial: Trial
    values: dict[int, dict[int, float]] = field(default_factory=dict)  # replicate -> step -> objective
    finished: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)

    def mean(self, step: int) -> float | None:
        """The mean at a step over the replicates that did not fail, once all of them have it."""
        values = [self.values[r].get(step) for r in self.values if r not in self.failed]
        return None if not values or any(v is None for v in values) else fmean(v for v in values if v is not None)


class Ledger:
    """See the module. Called from Tune's loop alone; the live view reads counts under the lock."""

    def __init__(
        self,
        study: optuna.Study,
        space: SpaceConfig,
        recorder: Recorder,
        *,
        recipes: int,
        replicates: int,
        rungs: tuple[int, ...],
        metric: str,
        mode: str,
        counts: Callable[[Recipe], dict[str, int]],
        datasets: Callable[[Recipe], list[DatasetFact]],
    ) -> None:
        self._study = study
        self._space = space
        self._recorder = recorder
        self._recipes = recipes
        self._replicates = replicates
        self._rungs = rungs
        self._metric = metric
        self._better = max if mode == "max" else min
        self._counts = counts
        self._datasets = datasets
        self._attempt = int(study.user_attrs.get("attempts", 0))
        study.set_user_attr("attempts", self._attempt + 1)
        self._lock = threading.Lock()
        self._entries: dict[int, Entry] = {}
        self._tickets: deque[Ticket] = deque()
        self._out: dict[str, Ticket] = {}
        asked = asked_trials(study)
        self._asked = len(asked)
        self._ended = sum(t.state is not TrialState.RUNNING for t in asked)
        self._failures = sum(t.state is TrialState.FAIL for t in asked)
        self._best = self._best_of_study()
        for frozen in asked:
            if frozen.state is TrialState.RUNNING:
                self._issue(Trial(study, frozen._trial_id))

    # -- the searcher ------------------------------------------------------------------------------------------

    def next_ticket(self, bound: int) -> Ticket | None:
        """What to try next; None while `bound` tickets are out, or when everything was issued (`exhausted`)."""
        with self._lock:
            if len(self._out) >= bound:
                return None
            if not self._tickets and self._asked < self._recipes:
                self._asked += 1
                self._issue(self._study.ask())
            if not self._tickets:
                return None
            ticket = self._tickets.popleft()
            self._out[ticket.id] = ticket
            entry = self._entries[ticket.number]
            recipe, facts = entry.recipe, self._counts(entry.recipe)
            self._recorder.trial_started(recipe, ticket.replicate, ticket.number, facts, self._datasets(recipe))
            return ticket

    @property
    def exhausted(self) -> bool:
        """Whether everything that the search will try has been issued."""
        with self._lock:
            return not self._tickets and self._asked >= self._recipes

    @property
    def complete(self) -> bool:
        """Whether every recipe of the search has ended."""
        with self._lock:
            return self._ended >= self._recipes

    def _issue(self, trial: Trial) -> None:
        recipe = self._space.suggest(trial)
        trial.set_user_attr("recipe", recipe.key)
        self._entries[trial.number] = Entry(trial.number, recipe, trial)
        params = tuple(recipe.params().items())
        for replicate in range(self._replicates):
            self._tickets.append(Ticket(trial.number, replicate, self._attempt, params))

    # -- the scheduler -----------------------------------------------------------------------------------------

    def measured(self, ticket: Ticket, step: int, metrics: dict[str, float], time_ms: int) -> None:
        """A replicate reached a rung. Raises ValueError when the objective is not among its metrics."""
        if self._metric not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("val/")))
            raise ValueError(f"objective.metric must be one of {known}; but got {self._metric!r}")
        with self._lock:
            entry = self._entries[ticket.number]
            entry.values.setdefault(ticket.replicate, {})[step] = metrics[self._metric]
            self._recorder.evaluation(entry.recipe.key, ticket.replicate, step, metrics, time_ms)
            self._report(entry)

    def finished(self, ticket: Ticket, steps_trained: int, steps_alone: int) -> None:
        """A replicate reached its last rung."""
        facts = {"steps_trained": steps_trained, "steps_alone": steps_alone}
        self._end(ticket, "finished", None, facts)

    def failed(self, ticket: Ticket, traceback: str) -> None:
        """A replicate failed; the recipe fails when all of its replicates did."""
        self._end(ticket, "failed", traceback, {})

    def _end(self, ticket: Ticket, status: Status, traceback: str | None, facts: dict[str, Any]) -> None:
        with self._lock:
            if self._out.pop(ticket.id, None) is None:
                return  # its end was told before (Tune tells of a failure twice)
            entry = self._entries[ticket.number]
            if traceback is None:
                entry.finished.add(ticket.replicate)
            else:
                entry.failed[ticket.replicate] = traceback
                self._report(entry)
            self._recorder.trial_ended(entry.recipe.key, ticket.replicate, status, traceback=traceback, facts=facts)
            if len(entry.finished) + len(entry.failed) == self._replicates:
                self._tell(entry)

    def _report(self, entry: Entry) -> None:
        """Tells Optuna a rung's mean once every replicate that still counts has it."""
        started = len(entry.values) + sum(r not in entry.values for r in entry.failed)
        known = self._study._storage.get_trial(entry.trial._trial_id).intermediate_values
        for step in self._rungs:
            mean = entry.mean(step)
            if started == self._replicates and mean is not None and step not in known:
                entry.trial.report(mean, step)

    def _tell(self, entry: Entry) -> None:
        """The recipe's end: the mean over its completed replicates, or FAILED when it has none."""
        self._ended += 1
        if entry.failed:
            last = next(iter(entry.failed.values())).strip().splitlines()[-1]
            entry.trial.set_user_attr("error", last)
            entry.trial.set_user_attr("failed_replicates", sorted(entry.failed))
        value = entry.mean(self._rungs[-1])
        if value is None or value != value:  # no replicate ended, or the metric is NaN
            self._failures += 1
            self._study.tell(entry.trial, state=TrialState.FAIL)
            return
        self._study.tell(entry.trial, value)
        if self._best is None or self._better(value, self._best[0]) != self._best[0]:
            self._best = (value, str(entry.recipe))

    # -- the view ----------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """Counts of recipes and the best so far, plain values."""
        with self._lock:
            return {
                "recipes": self._recipes,
                "ended": self._ended,
                "failed": self._failures,
                "running": len({t.number for t in self._out.values()}),
                "replicates_out": len(self._out),
                "best": self._best,
            }

    def _best_of_study(self) -> tuple[float, str] | None:
        complete = [t for t in self._study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
        values = [(t.value, t) for t in complete if t.value is not None]
        if not values:
            return None
        value, trial = self._better(values, key=lambda pair: pair[0])
        return value, str(self._space.recipe(trial.params))
