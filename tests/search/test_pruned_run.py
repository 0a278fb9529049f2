"""A search that prunes, on real Ray: numbers are those of plain training, Optuna and MLflow agree on who stopped."""

from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from search.run import Result
from tests.search.test_run import runs_of, search, study_of
from tests.toy import toy_problem, toy_trainer
from trainables.numerics import set_deterministic
from trainables.path import path_of, rungs_of, steps_shared
from trainables.recipe import Recipe

pytestmark = pytest.mark.slow

RUNGS = (3, 90)  # far apart, since a verdict takes some milliseconds, in which a toy trains several steps

FILE = {
    "lr: [0.1]": "lr: {low: 0.01, high: 0.2, log: true}",
    "steps: 6, rungs: [3, 6], seeds: 2": "steps: 90, rungs: [3, 90], trials: 9",
    "sampler: grid": "sampler: tpe\npruner: {kind: asha, factor: 3}",
}


@pytest.fixture(scope="module")
def pruned(ray_session: None, toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("pruned")
    return folder, search(toy_packs, folder, FILE)


def test_every_value_is_that_of_plain_training_and_the_best_went_on(
    pruned: tuple[Path, Result], toy_packs: Path, tmp_path: Path
) -> None:
    folder, result = pruned
    trials = study_of(folder).trials
    assert len(trials) == 9
    set_deterministic(1)
    trainer, problem = toy_trainer(toy_packs, tmp_path), replace(toy_problem(toy_packs), rungs=RUNGS)
    for trial in trials:
        path = path_of(Recipe.from_params(trial.params), problem, 0)
        reached = tuple(rung for rung in rungs_of(path, problem) if rung <= max(trial.intermediate_values))
        reports = list(trainer.train(path, reached, namespace=str(trial.number)))
        assert trial.intermediate_values == {report.step: report.metrics["val/miou"] for report in reports}
        assert trial.state is (TrialState.COMPLETE if RUNGS[-1] in trial.intermediate_values else TrialState.PRUNED)
    best = sorted(trials, key=lambda trial: trial.intermediate_values[RUNGS[0]])[-3:]
    assert {trial.state for trial in best} == {TrialState.COMPLETE}
    assert TrialState.PRUNED in {trial.state for trial in trials}
    assert result.summary["pruned"] == sum(trial.state is TrialState.PRUNED for trial in trials)


def test_what_was_left_behind_was_not_trained_on(pruned: tuple[Path, Result], toy_packs: Path) -> None:
    """A verdict takes a moment, in which a slot trains on; what it wastes is less than the rungs it saves."""
    folder, result = pruned
    problem = replace(toy_problem(toy_packs), rungs=RUNGS)
    whole = steps_shared([path_of(Recipe.from_params(t.params), problem, 0) for t in study_of(folder).trials])
    assert result.steps_trained < whole


def test_mlflow_says_who_stopped_and_nothing_still_runs(pruned: tuple[Path, Result]) -> None:
    folder, result = pruned
    stopped = {t.user_attrs["recipe"] for t in study_of(folder).trials if t.state is TrialState.PRUNED}
    for (key, _), run in runs_of(result.tracking_uri).items():
        assert run.data.tags["titrate.status"] == ("stopped" if key in stopped else "finished")
        assert run.info.status != "RUNNING"


def test_a_second_run_has_nothing_to_do(pruned: tuple[Path, Result], toy_packs: Path) -> None:
    folder, _ = pruned
    before = [(trial.state, trial.values) for trial in study_of(folder).trials]
    again = search(toy_packs, folder, FILE)
    assert again.steps_trained == 0
    assert [(trial.state, trial.values) for trial in study_of(folder).trials] == before
