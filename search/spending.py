"""Spending: the accelerator-hours of a search over all of its runs, and what its budget still has room for."""

import json
from collections.abc import Iterable

import optuna

from search.config import SearchConfig
from search.cost import Costs, Rates, accelerator_hours
from search.job import Ticket

SPENT = "spent"  # user attribute of the study: {"busy_s": ..., "steps": ...} of the runs before and of this one
SAVE_EVERY_S = 10.0  # slot-seconds; a killed driver forgets at most as many


class Spending:
    """See the module. `update` is told what this run has spent, by the engine's watch."""

    def __init__(self, config: SearchConfig, study: optuna.Study, costs: Costs) -> None:
        self._slots = config.slots
        self._budget = config.budget.hours
        self._study = study
        self._costs = costs
        before = json.loads(study.user_attrs.get(SPENT, "{}"))
        self._before = Rates(int(before.get("steps", 0)), float(before.get("busy_s", 0.0)))
        self._now = self._before
        self._saved = self._before

    def update(self, busy_s: float, steps: int) -> None:
        """Slot-seconds with a job and steps trained, of this run."""
        self._now = Rates(self._before.steps_trained + steps, self._before.busy_s + busy_s)
        if self._now.busy_s - self._saved.busy_s > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        self._study.set_user_attr(SPENT, json.dumps({"busy_s": self._now.busy_s, "steps": self._now.steps_trained}))
        self._saved = self._now

    @property
    def hours(self) -> float:
        """Accelerator-hours so far."""
        return accelerator_hours(self._now.busy_s, self._slots)

    def affords(self, ticket: Ticket, out: Iterable[Ticket]) -> bool:
        """Whether the budget has room for a ticket beside those that are out: for the steps that the store lacks of
        all of them together, each at what a step took so far. Before anything was trained it has."""
        if self._budget is None:
            return True
        steps = self._costs.together((one.recipe, one.replicate) for one in (*out, ticket))
        seconds = self._now.seconds(steps)
        return seconds is None or self.hours + accelerator_hours(seconds, self._slots) <= self._budget
