"""What the Optuna study is told of a recipe. Its intermediate values are means over replicates, its state says how it
ended: COMPLETE with the mean at the last rung, PRUNED at an earlier one, or FAIL."""

import json
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.entry import GOES_TO, RUNGS, SEEDS, Entry
from search.proposer import Proposal


class StudyWriter:
    """Writes one study, each fact in one transaction. `against`: the costs that are objectives too."""

    def __init__(self, study: optuna.Study, against: tuple[str, ...]) -> None:
        self._study = study
        self._storage = study._storage
        self._against = against

    def begin(self, proposal: Proposal) -> FrozenTrial:
        """A new RUNNING trial."""
        trial = create_trial(
            state=TrialState.RUNNING,
            params=proposal.params,
            distributions=proposal.distributions,
            user_attrs={"recipe": proposal.recipe.key},
            system_attrs=proposal.system_attrs,
        )
        return self._storage.get_trial(self._storage.create_new_trial(self._study._study_id, template_trial=trial))

    def report(self, entry: Entry, step: int, mean: float) -> None:
        """A rung that every replicate has reached."""
        if self._against:  # Optuna takes no intermediate values beside several objectives
            self._attr(entry, RUNGS, json.dumps({str(s): value for s, value in entry.reported.items()}))
        else:
            self._storage.set_trial_intermediate_value(entry.trial._trial_id, step, mean)

    def goes_to(self, entry: Entry) -> None:
        self._attr(entry, GOES_TO, entry.goes_to)

    def seeds(self, entry: Entry) -> None:
        """The final values of its replicates so far."""
        self._attr(entry, SEEDS, json.dumps({str(r): value for r, value in entry.seeds.items()}))

    def tell(self, entry: Entry) -> FrozenTrial:
        """The recipe's end."""
        if entry.failed:
            self._attr(entry, "error", next(iter(entry.failed.values())).strip().splitlines()[-1])
            self._attr(entry, "failed_replicates", sorted(entry.failed))
        value, state, values = entry.final(), TrialState.FAIL, None
        if value is not None and value == value:
            state, values = TrialState.COMPLETE, [value, *(entry.costs[name] for name in self._against)]
        elif value is None and entry.waiting and entry.reported:
            state = TrialState.PRUNED
        trial = Trial(self._study, entry.trial._trial_id)
        if state is not TrialState.FAIL:
            for name, violation in entry.violations().items():
                trial.set_constraint(name, violation)
        self._study.tell(trial, values, state)
        return self._storage.get_trial(entry.trial._trial_id)

    def _attr(self, entry: Entry, name: str, value: Any) -> None:
        self._storage.set_trial_user_attr(entry.trial._trial_id, name, value)
