"""What the Optuna study is told of a recipe. Its intermediate values are means over replicates, its state says how it
ended: COMPLETE with the mean at the last rung, PRUNED at an earlier one, or FAIL."""

import json
from dataclasses import asdict
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.entry import GOES_TO, MEASURED, RUNGS, SEEDS, TRAINED, Entry
from search.proposer import Proposal

CLOSED = "closed"  # user attribute of the study
ORIGIN = "origin"  # of a trial: search.proposer.Origin as JSON


class StudyWriter:
    """Writes one study, each fact in one transaction, past what Optuna's own `ask` and `tell` read again each time.

    It is the only writer, so that it knows the number of the next trial. `against`: the costs that are objectives too.
    """

    def __init__(self, study: optuna.Study, against: tuple[str, ...]) -> None:
        self._study = study
        self._storage = study._storage
        self._against = against
        self._number = self._storage.get_n_trials(study._study_id)

    def begin(self, proposal: Proposal) -> FrozenTrial:
        """A new RUNNING trial."""
        trial = create_trial(
            state=TrialState.RUNNING,
            params=proposal.params,
            distributions=proposal.distributions,
            user_attrs={"recipe": proposal.recipe.key} | _origin(proposal),
            system_attrs=proposal.system_attrs,
        )
        trial._trial_id = self._storage.create_new_trial(self._study._study_id, template_trial=trial)
        trial.number = self._number
        self._number += 1
        return trial

    def report(self, entry: Entry, step: int, mean: float) -> None:
        """A rung that every replicate has reached."""
        if self._against:  # Optuna takes no intermediate values beside several objectives
            self._attr(entry, RUNGS, json.dumps({str(s): value for s, value in entry.reported.items()}))
        else:
            self._storage.set_trial_intermediate_value(entry.trial._trial_id, step, mean)
        self._measured(entry)

    def goes_to(self, entry: Entry) -> None:
        self._attr(entry, GOES_TO, entry.goes_to)

    def seeds(self, entry: Entry) -> None:
        """The final values of its replicates so far, from which a race goes on."""
        self._attr(entry, SEEDS, json.dumps({str(r): value for r, value in entry.seeds.items()}))
        self._measured(entry)

    def trained(self, entry: Entry) -> None:
        """The steps that were trained for each of its replicates, in all runs of the search."""
        self._attr(entry, TRAINED, json.dumps({str(r): steps for r, steps in entry.steps_trained.items()}))

    def tell(self, entry: Entry) -> FrozenTrial:
        """The recipe's end. Returns the trial as it ended."""
        if entry.failed:
            self._attr(entry, "error", next(iter(entry.failed.values())).strip().splitlines()[-1])
            self._attr(entry, "failed_replicates", sorted(entry.failed))
        value, values = entry.final(), None
        if value is not None and value == value:
            state, values = TrialState.COMPLETE, [value, *(entry.costs[name] for name in self._against)]
        elif value is None and entry.waiting and entry.reported:
            state = TrialState.PRUNED
            last = entry.reported[entry.reached]
            values = [last] if last == last and not self._against else None  # as Optuna has it
        else:  # no replicate ended, or the metric is NaN
            state = TrialState.FAIL
        ended = entry.as_trial(state, values, self._against)
        for name, attr in ended.system_attrs.items():
            if name not in entry.trial.system_attrs:  # how far each constraint is from being kept
                self._storage.set_trial_system_attr(entry.trial._trial_id, name, attr)
        self._storage.set_trial_state_values(entry.trial._trial_id, state, values)
        return ended

    def closed(self, budget: list[Any]) -> None:
        """Nothing new was found to try within this budget."""
        self._study.set_user_attr(CLOSED, budget)

    @property
    def closed_at(self) -> list[Any] | None:
        """The budget within which nothing new was found to try, in this run or one before."""
        found: list[Any] | None = self._study.user_attrs.get(CLOSED)
        return found

    def _measured(self, entry: Entry) -> None:
        if measured := entry.measured():
            self._attr(entry, MEASURED, json.dumps(measured))

    def _attr(self, entry: Entry, name: str, value: Any) -> None:
        self._storage.set_trial_user_attr(entry.trial._trial_id, name, value)


def _origin(proposal: Proposal) -> dict[str, str]:
    return {ORIGIN: json.dumps(asdict(proposal.origin))} if proposal.origin else {}
