"""What the Optuna study is told of a recipe. Its intermediate values are means over replicates, its state says how it
ended: COMPLETE with the mean at the last rung, PRUNED at an earlier one, or FAIL."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.entry import GOES_TO, MEASURED, RUNGS, SEEDS, TRAINED, Entry
from search.proposer import Proposal
from search.study_rows import StudyRows

CLOSED = "closed"  # user attribute of the study
ORIGIN = "origin"  # of a trial: search.proposer.Origin as JSON


class StudyWriter:
    """Writes one study, each event in one transaction. `against`: the costs that are objectives too."""

    def __init__(self, study: optuna.Study, against: tuple[str, ...]) -> None:
        self._study = study
        self._rows = StudyRows(study)
        self._against = against

    def begin(self, proposal: Proposal) -> FrozenTrial:
        """A new RUNNING trial."""
        return self._rows.begin(
            create_trial(
                state=TrialState.RUNNING,
                params=proposal.params,
                distributions=proposal.distributions,
                user_attrs={"recipe": proposal.recipe.key} | _origin(proposal),
                system_attrs=proposal.system_attrs,
            )
        )

    def report(self, entry: Entry, step: int, mean: float) -> None:
        """A rung that every replicate has reached."""
        if self._against:  # Optuna takes no intermediate values beside several objectives
            self._write(entry, **{RUNGS: _numbered(entry.reported)}, **_measured(entry))
        else:
            self._rows.write(entry.trial, intermediate={step: mean}, user_attrs=_measured(entry))

    def goes_to(self, entry: Entry) -> None:
        self._write(entry, **{GOES_TO: entry.goes_to})

    def seeds(self, entry: Entry) -> None:
        """The final values of its replicates so far, from which a race goes on."""
        self._write(entry, **{SEEDS: _numbered(entry.seeds)}, **_measured(entry))

    def trained(self, entry: Entry) -> None:
        """The steps that were trained for each of its replicates, in all runs of the search."""
        self._write(entry, **{TRAINED: _numbered(entry.steps_trained)})

    def tell(self, entry: Entry) -> FrozenTrial:
        """The recipe's end. Returns the trial as it ended."""
        told: dict[str, Any] = {}
        if entry.failed:
            told["error"] = next(iter(entry.failed.values())).strip().splitlines()[-1]
            told["failed_replicates"] = sorted(entry.failed)
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
        # How far each constraint is from being kept is a system attribute too.
        new = {name: attr for name, attr in ended.system_attrs.items() if name not in entry.trial.system_attrs}
        self._rows.write(entry.trial, user_attrs=told, system_attrs=new, state=state, values=values)
        return ended

    def closed(self, budget: list[Any]) -> None:
        """Nothing new was found to try within this budget."""
        self._study.set_user_attr(CLOSED, budget)

    @property
    def closed_at(self) -> list[Any] | None:
        """The budget within which nothing new was found to try, in this run or one before."""
        found: list[Any] | None = self._study.user_attrs.get(CLOSED)
        return found

    def _write(self, entry: Entry, **attrs: Any) -> None:
        self._rows.write(entry.trial, user_attrs=attrs)


def _measured(entry: Entry) -> dict[str, str]:
    measured = entry.measured()
    return {MEASURED: json.dumps(measured)} if measured else {}


def _numbered(values: Mapping[int, float]) -> str:
    return json.dumps({str(number): value for number, value in values.items()})


def _origin(proposal: Proposal) -> dict[str, str]:
    return {ORIGIN: json.dumps(asdict(proposal.origin))} if proposal.origin else {}
