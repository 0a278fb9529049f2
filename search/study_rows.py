"""Rows: an event of a trial in Optuna's tables, in one transaction.

Optuna's storage has a method for each fact, and each is a transaction that first reads the trial again: of a trial of
five parameters and five rungs some 15 ms of the driver's one thread. The rows that these methods would leave are
written here, with Optuna's own tables and encodings, in 1.4 ms.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Table, Update, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.engine import Connection


class StudyRows:
    """The trials of one study in a SQLite database."""

    def __init__(self, study: optuna.Study) -> None:
        storage: Any = study._storage
        self._engine = storage._backend.engine  # behind Optuna's cache of what it has read
        self._study_id = study._study_id

    def begin(self, trial: FrozenTrial) -> FrozenTrial:
        """A new trial in its state, with its parameters and attributes. Returns it, with its number."""
        row = {"study_id": self._study_id, "state": trial.state, "datetime_start": _utc(trial.datetime_start)}
        params = [
            {
                "param_name": name,
                "param_value": trial.distributions[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(trial.distributions[name]),
            }
            for name, value in trial.params.items()
        ]
        with self._engine.begin() as connection:
            trial._trial_id = connection.execute(insert(_TRIALS), row).inserted_primary_key[0]
            # As Optuna numbers them; nobody else adds one now, for SQLite has a single writer at a time.
            before = _TRIALS.c.study_id == self._study_id, _TRIALS.c.trial_id < trial._trial_id
            trial.number = connection.execute(select(func.count()).where(*before)).scalar_one()
            connection.execute(_this(trial).values(number=trial.number))
            _insert(connection, insert(_PARAMS), trial, params)
            _attributes(connection, _USER_ATTRS, trial, trial.user_attrs)
            _attributes(connection, _SYSTEM_ATTRS, trial, trial.system_attrs)
        return trial

    def write(
        self,
        trial: FrozenTrial,
        *,
        intermediate: Mapping[int, float] | None = None,
        user_attrs: Mapping[str, Any] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
        state: TrialState | None = None,
        values: Sequence[float] | None = None,
    ) -> None:
        """Further facts of a trial that has not ended: values by step, attributes, and its end (`state`) with the
        values of its objectives. What was there under the same name or step is replaced. (Optuna would refuse to change
        a trial that has ended; nobody here asks for it.)"""
        with self._engine.begin() as connection:
            _insert(connection, _STEPS, trial, [_step(*one) for one in (intermediate or {}).items()])
            _attributes(connection, _USER_ATTRS, trial, user_attrs or {})
            _attributes(connection, _SYSTEM_ATTRS, trial, system_attrs or {})
            _insert(connection, insert(_VALUES), trial, [_value(*one) for one in enumerate(values or ())])
            if state is not None:
                connection.execute(_this(trial).values(state=state, datetime_complete=_utc(datetime.now())))


def _step(step: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}


def _value(objective: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"objective": objective, "value": stored, "value_type": kind}


def _utc(local: datetime | None) -> datetime | None:
    """Optuna's times are local ones without a zone, and those of its tables UTC."""
    return local and local.astimezone(UTC).replace(tzinfo=None)


def _this(trial: FrozenTrial) -> Update:
    return update(_TRIALS).where(_TRIALS.c.trial_id == trial._trial_id)


def _table(model: Any) -> Table:
    table: Table = model.__table__
    return table


def _replacing(table: Table, key: str, columns: Sequence[str]) -> Any:
    """The statement that inserts a row of a trial, or replaces these columns of the one with the same key."""
    statement = upsert(table)
    new = {name: statement.excluded[name] for name in columns}
    return statement.on_conflict_do_update(index_elements=["trial_id", key], set_=new)


def _insert(connection: Connection, statement: Any, trial: FrozenTrial, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(statement, [{"trial_id": trial._trial_id} | row for row in rows])


def _attributes(connection: Connection, statement: Any, trial: FrozenTrial, attrs: Mapping[str, Any]) -> None:
    _insert(connection, statement, trial, [{"key": k, "value_json": json.dumps(v)} for k, v in attrs.items()])


_TRIALS = _table(models.TrialModel)
_PARAMS = _table(models.TrialParamModel)
_VALUES = _table(models.TrialValueModel)
_INTERMEDIATE = ["intermediate_value", "intermediate_value_type"]
_STEPS = _replacing(_table(models.TrialIntermediateValueModel), "step", _INTERMEDIATE)
_USER_ATTRS = _replacing(_table(models.TrialUserAttributeModel), "key", ["value_json"])
_SYSTEM_ATTRS = _replacing(_table(models.TrialSystemAttributeModel), "key", ["value_json"])
