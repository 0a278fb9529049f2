"""Spending: the accelerator-hours of a search over all of its runs, and what its budget still has room for."""

import json
from collections.abc import Iterable

import optuna

from search.config import SearchConfig
from search.cost import Costs, Rates, accelerator_hours
from search.job import Ticket

# User attribute of the study: {"busy_s": ..., "steps": ..., "steps_alone": ...} of the runs before and of this one.
SPENT = "spent"
SAVE_EVERY_S = 10.0  # slot-seconds; a killed driver forgets at most as many


class Spending:
    """See the module. `update` is told what this run has spent, by the engine's watch."""

    def __init__(self, config: SearchConfig, study: optuna.Study, costs: Costs) -> None:
        self._slots = config.slots
        self._budget = config.budget.hours
        self._study = study
        self._costs = costs
        before = json.loads(study.user_attrs.get(SPENT, "{}"))
        self._spent = Rates(int(before.get("steps", 0)), float(before.get("busy_s", 0.0)))
        self.steps_alone = int(before.get("steps_alone", 0))  # those of the same trials by themselves: the engine adds
        self._saved = self._spent
        self._last = Rates(0, 0.0)  # what this run's dispatcher had counted

    def update(self, busy_s: float, steps: int) -> None:
        """Slot-seconds with a job and steps trained, as the dispatcher has counted them; one that was restarted begins
        at 0."""
        last = self._last if busy_s >= self._last.busy_s else Rates(0, 0.0)
        trained = self._spent.steps_trained + max(0, steps - last.steps_trained)
        self._spent = Rates(trained, self._spent.busy_s + busy_s - last.busy_s)
        self._last = Rates(steps, busy_s)
        if self._spent.busy_s - self._saved.busy_s > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        spent = {"busy_s": self._spent.busy_s, "steps": self._spent.steps_trained, "steps_alone": self.steps_alone}
        self._study.set_user_attr(SPENT, json.dumps(spent))
        self._saved = self._spent

    @property
    def steps_trained(self) -> int:
        return self._spent.steps_trained

    @property
    def hours(self) -> float:
        """Accelerator-hours so far."""
        return accelerator_hours(self._spent.busy_s, self._slots)

    def affords(self, tickets: Iterable[Ticket], out: Iterable[Ticket]) -> bool | None:
        """Whether the budget has room for tickets beside those that are out, at what a step took so far: for the steps
        that the store lacks of all of them together, each taken to its end. Before anything was trained it has; None
        while the store of what was trained before is not known."""
        if self._budget is None or not self._spent.steps_trained:
            return True
        if not self._costs.exact:
            return None
        steps = self._costs.together((one.recipe, one.replicate) for one in (*out, *tickets))
        seconds = self._spent.seconds(steps)
        return seconds is None or self.hours + accelerator_hours(seconds, self._slots) <= self._budget
