"""The rows of a study are those that Optuna's own methods leave: both are read back by Optuna and compared."""

import time
from collections.abc import Iterator
from datetime import timedelta
from math import inf, nan
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.study import open_storage
from search.study_rows import StudyRows

PARAMS: dict[str, Any] = {"lr": 0.01, "schedule": "finetune", "share": None, "stacks": 2}
DOMAINS: dict[str, Any] = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "schedule": CategoricalDistribution(["real_only", "finetune"]),
    "share": CategoricalDistribution([None, 0.5]),
    "stacks": IntDistribution(1, 8),
}
USER: dict[str, Any] = {"recipe": "ab" * 16, "goes_to": 0}
SYSTEM: dict[str, Any] = {"cmaes:generation": [1, 2.5, "x"]}


def begun() -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING, params=PARAMS, distributions=DOMAINS, user_attrs=USER, system_attrs=SYSTEM
    )


@pytest.fixture
def studies(tmp_path: Path) -> Iterator[tuple[optuna.Study, optuna.Study]]:
    """Two empty ones, of two objectives."""
    storages = [open_storage(tmp_path / name) for name in ("ours.db", "theirs.db")]
    ours, theirs = (optuna.create_study(storage=s, study_name="s", directions=["minimize"] * 2) for s in storages)
    yield ours, theirs
    for storage in storages:
        storage.engine.dispose()


def read(study: optuna.Study) -> list[FrozenTrial]:
    """As another process would, by Optuna."""
    return optuna.load_study(study_name="s", storage=str(study._storage._backend.engine.url)).trials  # type: ignore[attr-defined]


def same(ours: list[FrozenTrial], theirs: list[FrozenTrial]) -> None:
    assert [t.number for t in ours] == [*range(len(theirs))]
    for mine, their in zip(ours, theirs, strict=True):
        for field in ("state", "values", "params", "distributions", "user_attrs", "system_attrs"):
            assert getattr(mine, field) == getattr(their, field), field
        assert repr(mine.intermediate_values) == repr(their.intermediate_values)  # NaN is nothing's equal
        for field in ("datetime_start", "datetime_complete"):
            times = getattr(mine, field), getattr(their, field)
            assert (None in times) == (times == (None, None)), field
            assert None in times or abs(times[0] - times[1]) < timedelta(minutes=5), field


@pytest.fixture(params=["UTC", "Asia/Tokyo"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_what_optuna_reads_of_a_trial_is_what_it_would_have_written(
    studies: tuple[optuna.Study, optuna.Study], zone: None
) -> None:
    ours, theirs = studies
    rows, storage = StudyRows(ours), theirs._storage
    first, second = rows.begin(begun()), rows.begin(begun())
    ids = [storage.create_new_trial(theirs._study_id, template_trial=begun()) for _ in range(2)]
    same(read(ours), read(theirs))
    assert (first.number, second.number) == (0, 1)

    for step, value in ((3, 0.25), (6, nan), (9, -inf), (3, inf), (12, 1e300)):  # the third step is told twice
        rows.write(second, intermediate={step: value}, user_attrs={"goes_to": step, "measured": '{"a": 1}'})
        storage.set_trial_intermediate_value(ids[1], step, value)
        storage.set_trial_user_attr(ids[1], "goes_to", step)
        storage.set_trial_user_attr(ids[1], "measured", '{"a": 1}')
    same(read(ours), read(theirs))

    rows.write(second, system_attrs={"constraints": [0.5]}, state=TrialState.COMPLETE, values=[0.5, inf])
    storage.set_trial_system_attr(ids[1], "constraints", [0.5])
    storage.set_trial_state_values(ids[1], TrialState.COMPLETE, [0.5, inf])
    rows.write(first, user_attrs={"error": "é"}, state=TrialState.FAIL)
    storage.set_trial_user_attr(ids[0], "error", "é")
    storage.set_trial_state_values(ids[0], TrialState.FAIL)
    same(read(ours), read(theirs))
    assert read(ours)[1].values == [0.5, inf]


def test_trials_are_numbered_beside_those_that_others_add(studies: tuple[optuna.Study, optuna.Study]) -> None:
    ours, _ = studies
    rows = StudyRows(ours)
    rows.begin(begun())
    optuna.create_study(storage=ours._storage, study_name="another").add_trial(begun())
    ours.enqueue_trial({"lr": 0.5})  # by its user, while a search runs
    assert rows.begin(begun()).number == 2
    assert StudyRows(ours).begin(begun()).number == 3
    assert [t.number for t in read(ours)] == [0, 1, 2, 3]


def test_an_event_is_written_whole_or_not_at_all(studies: tuple[optuna.Study, optuna.Study]) -> None:
    ours, _ = studies
    rows = StudyRows(ours)
    trial = rows.begin(begun())
    before = read(ours)
    with pytest.raises(TypeError):
        rows.write(trial, intermediate={3: 0.5}, user_attrs={"goes_to": 1}, system_attrs={"bad": object()})
    same(read(ours), before)
