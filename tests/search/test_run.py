"""A whole search on real Ray, Optuna and MLflow: its numbers are those of plain training, whatever happens.

To start the slots of a search takes some ten seconds, so that there are few searches here, and each is to show much.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console
from typer.testing import CliRunner

from search.__main__ import app
from search.config import load
from search.run import Result, run
from search.tracking import default_uri
from tests.mlflow_server import MlflowServer
from tests.toy import ONE_SLOT, RUNGS, toy_problem, toy_search, toy_trainer
from trainables.numerics import set_deterministic
from trainables.path import path_of, steps_alone, steps_shared
from trainables.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1)

pytestmark = pytest.mark.slow


def search(packs: Path | str, folder: Path, replace: dict[str, str] | None = None, **options: Any) -> Result:
    path = toy_search(packs, folder, replace)
    return run(load(path), path.read_text(), results=folder / "results", console=Console(quiet=True), **options)


def runs_of(uri: str, name: str = "toy") -> dict[tuple[str, int], Any]:
    """The child runs of a search by (recipe key, seed), from MLflow; each is there once."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("titrate")
    query = f"tags.`titrate.search` = '{name}' and tags.`titrate.kind` = 'trial'"
    found = client.search_runs([experiment.experiment_id], query, max_results=1000)
    table = {(r.data.tags["titrate.recipe"], int(r.data.tags["titrate.seed"])): r for r in found}
    assert len(table) == len(found)
    return table


def last_metrics(uri: str) -> dict[tuple[str, int], dict[str, float]]:
    return {key: one.data.metrics for key, one in runs_of(uri).items()}


def study_of(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="toy", storage=f"sqlite:///{folder}/results/toy/study.db")


@pytest.fixture(scope="module")
def recipes(toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Recipe]:
    return load(toy_search(toy_packs, tmp_path_factory.mktemp("file"))).space.enumerate()


@pytest.fixture(scope="module")
def truth(
    toy_packs: Path, recipes: list[Recipe], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], dict[str, float]]:
    """The metrics of every recipe and seed as plain training in this process gives them: no Ray, no sharing."""
    set_deterministic(1)
    trainer = toy_trainer(toy_packs, tmp_path_factory.mktemp("truth"))
    problem = toy_problem(toy_packs)
    return {
        (recipe.key, seed): list(trainer.train(path_of(recipe, problem, seed), RUNGS, namespace=recipe.key))[-1].metrics
        for recipe in recipes
        for seed in SEEDS
    }


@pytest.fixture(scope="module")
def finished(ray_session: None, toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("finished")
    return folder, search(toy_packs, folder)


def test_a_search_gives_the_numbers_of_plain_training_for_fewer_steps(
    finished: tuple[Path, Result],
    toy_packs: Path,
    recipes: list[Recipe],
    truth: dict[tuple[str, int], dict[str, float]],
) -> None:
    _, result = finished
    assert last_metrics(result.tracking_uri) == truth
    problem = toy_problem(toy_packs)
    paths = [path_of(recipe, problem, seed) for recipe in recipes for seed in SEEDS]
    assert result.state == "finished"
    assert result.steps_alone == steps_alone(paths)
    assert result.steps_trained == steps_shared(paths) < result.steps_alone


def test_optuna_holds_each_recipe_with_its_mean_and_its_rungs(
    finished: tuple[Path, Result], recipes: list[Recipe], truth: dict[tuple[str, int], dict[str, float]]
) -> None:
    folder, _ = finished
    trials = study_of(folder).trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    told = {trial.user_attrs["recipe"]: trial for trial in trials}
    assert set(told) == {recipe.key for recipe in recipes}
    for key, trial in told.items():
        mean = sum(truth[key, seed]["val/miou"] for seed in SEEDS) / len(SEEDS)
        assert trial.value == pytest.approx(mean, rel=1e-12)
        assert set(trial.intermediate_values) == set(RUNGS)
        assert Recipe.from_params(trial.params).key == key


def test_mlflow_shows_the_search_its_trials_and_the_curve(finished: tuple[Path, Result], recipes: list[Recipe]) -> None:
    folder, result = finished
    runs = runs_of(result.tracking_uri)
    assert {one.info.status for one in runs.values()} == {"FINISHED"}
    by_key = {recipe.key: recipe for recipe in recipes}
    client = mlflow.MlflowClient(result.tracking_uri)
    for (key, seed), one in runs.items():
        expected = {name: str(value) for name, value in by_key[key].params().items()} | {"seed": str(seed)}
        assert expected.items() <= one.data.params.items()
        history = client.get_metric_history(one.info.run_id, "val/miou")
        assert [point.step for point in sorted(history, key=lambda point: point.step)] == list(RUNGS)
    (parent,) = {one.data.tags["mlflow.parentRunId"] for one in runs.values()}
    assert client.get_run(parent).info.status == "FINISHED"
    assert {"curve.png", "curve.svg", "curve.csv"} <= {
        file.path.rpartition("/")[2] for file in client.list_artifacts(parent)
    }
    datasets = client.get_run(parent).inputs.dataset_inputs
    assert len({one.dataset.digest for one in datasets}) == 4
    assert (folder / "results/toy/curve.png").read_bytes()[:4] == b"\x89PNG"
    assert result.conclusion is not None
    assert "Train `" in result.conclusion.recommendation


def test_running_it_again_does_nothing_and_changes_nothing(finished: tuple[Path, Result], toy_packs: Path) -> None:
    folder, result = finished
    before = last_metrics(result.tracking_uri)
    again = search(toy_packs, folder)
    assert again.steps_trained == 0
    assert again.state == "finished"
    assert last_metrics(result.tracking_uri) == before


def test_the_command_line_ends_with_the_recommendation(finished: tuple[Path, Result], toy_packs: Path) -> None:
    folder, _ = finished
    results = ["--results", str(folder / "results")]
    ended = CliRunner().invoke(app, ["run", str(toy_search(toy_packs, folder)), *results])
    assert ended.exit_code == 0, ended.output
    assert "Train `" in ended.output


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on a free port of loopback."""
    served = MlflowServer(tmp_path_factory.mktemp("server"))
    try:
        served.start()
        yield served.uri
    finally:
        served.end()


@dataclass(frozen=True)
class Elsewhere:
    """A search that differs from `finished` in all that must change no number: nothing is shared, it tracks to a
    server, and its packs are read by URI while their store is away."""

    folder: Path
    moved: Path
    server: str
    result: Result


@pytest.fixture(scope="module")
def elsewhere(ray_session: None, toy_packs: Path, tmp_path_factory: pytest.TempPathFactory, server: str) -> Elsewhere:
    from search.engine import Engine

    folder = tmp_path_factory.mktemp("elsewhere")
    moved = folder / "moved"
    shutil.copytree(toy_packs, moved)
    start = Engine.run

    def away(self: Engine, console: Console) -> int:
        """The driver has fetched the packs; before a slot opens them they are gone."""
        shutil.rmtree(moved)
        return start(self, console)

    changed = {
        "name: toy": "name: toy  # the packs came from s3://key:secret@bucket/toy",
        **ONE_SLOT,
        "tracking: {": f"tracking: {{uri: '{server}', ",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "run", away)
        return Elsewhere(folder, moved, server, search(f"file://{moved}", folder, changed, share=False))


def test_without_sharing_every_number_is_the_same(
    elsewhere: Elsewhere, truth: dict[tuple[str, int], dict[str, float]]
) -> None:
    result = elsewhere.result
    assert last_metrics(result.tracking_uri) == truth
    assert result.steps_trained == result.steps_alone


def test_a_search_runs_against_an_mlflow_server(elsewhere: Elsewhere) -> None:
    assert elsewhere.result.tracking_uri == elsewhere.server
    assert elsewhere.result.conclusion is not None
    assert not (elsewhere.folder / "results" / "mlflow.db").exists()


def test_packs_of_a_uri_are_read_from_the_nodes_cache_even_while_their_store_is_away(elsewhere: Elsewhere) -> None:
    client = mlflow.MlflowClient(elsewhere.server)
    (parent,) = {one.data.tags["mlflow.parentRunId"] for one in runs_of(elsewhere.server).values()}
    inputs = client.get_run(parent).inputs.dataset_inputs
    assert {one.dataset.name for one in inputs} == {"real", "synthetic", "val", "test"}
    assert all(f"file://{elsewhere.moved}/{one.dataset.name}" in one.dataset.source for one in inputs)
    shown = Path(client.download_artifacts(parent, "toy.yaml", str(elsewhere.folder))).read_text()
    assert "# the packs came from s3://***@bucket/toy" in shown


def command(path: Path, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "search", "run", str(path), "--results", str(folder / "results")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def checkpoints(folder: Path) -> int:
    return len(list((folder / "results" / "store").rglob("*.ckpt")))


def until_it_trains(process: subprocess.Popen, folder: Path, before: int = 0) -> None:
    """Waits until there are more checkpoints in the store of a search than there were."""
    deadline = time.monotonic() + 180
    while checkpoints(folder) <= before:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.05)


def test_a_driver_that_is_stopped_and_another_that_is_killed_are_completed_by_the_next_run(
    ray_session: None, toy_packs: Path, tmp_path: Path, truth: dict[tuple[str, int], dict[str, float]]
) -> None:
    path = toy_search(toy_packs, tmp_path, ONE_SLOT)  # which does not train it all in a moment
    uri = default_uri(tmp_path / "results")
    stopped = command(path, tmp_path)
    until_it_trains(stopped, tmp_path)
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate(timeout=180)
    assert stopped.returncode == 130
    assert "run the same command again" in output
    assert "Traceback" not in output
    assert "RUNNING" not in {one.info.status for one in runs_of(uri).values()}

    before = checkpoints(tmp_path)
    killed = command(path, tmp_path)
    until_it_trains(killed, tmp_path, before)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=180)
    assert TrialState.RUNNING in {trial.state for trial in study_of(tmp_path).trials}

    result = search(toy_packs, tmp_path, ONE_SLOT)
    assert result.state == "finished"
    assert last_metrics(uri) == truth
    assert {one.info.status for one in runs_of(uri).values()} == {"FINISHED"}
    assert {trial.state for trial in study_of(tmp_path).trials} == {TrialState.COMPLETE}
    assert result.conclusion is not None
    assert "Train `" in result.conclusion.recommendation


@pytest.fixture
def kill_workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kills so many worker processes as they are seen at work, one after the other; returns their process ids."""
    from search.watch import Watch

    killed: list[int] = []
    look = Watch.look

    def watch(self: Watch) -> dict[str, Any]:
        now = look(self)
        busy = [slot["process"] for slot in now["slots"].values() if slot["job"]]
        if busy and len(killed) < request.param:
            pid = int(busy[0].split(":")[1])
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        return now

    monkeypatch.setattr(Watch, "look", watch)
    monkeypatch.setattr("search.watch.ASK_EVERY_S", 0.05)
    monkeypatch.setattr("search.watch.LOOK_EVERY_S", 0.1)
    return killed


@pytest.mark.parametrize("kill_workers", [2], indirect=True)
def test_a_killed_slot_and_a_trial_that_raises_cost_no_other_trial_and_no_number(
    ray_session: None,
    toy_packs: Path,
    tmp_path: Path,
    truth: dict[tuple[str, int], dict[str, float]],
    kill_workers: list[int],
) -> None:
    fewer = {"real_fraction: [0.5, 1.0]": "real_fraction: [0.5]", "lr: [0.1]\nbudget": "lr: [0.1, 1.0e+30]\nbudget"}
    result = search(toy_packs, tmp_path, fewer)
    assert len(kill_workers) == 2
    failed = {t.user_attrs["recipe"] for t in study_of(tmp_path).trials if t.params["lr"] == 1e30}
    assert len(failed) == 3
    for trial in study_of(tmp_path).trials:
        expected = TrialState.FAIL if trial.user_attrs["recipe"] in failed else TrialState.COMPLETE
        assert trial.state is expected
        if expected is TrialState.FAIL:
            assert "NotFiniteError" in trial.user_attrs["error"]
    runs = runs_of(result.tracking_uri)
    for (key, _), one in runs.items():
        assert one.info.status == ("FAILED" if key in failed else "FINISHED")
        if key in failed:
            text = mlflow.artifacts.load_text(f"{one.info.artifact_uri}/traceback.txt")
            assert "the loss must stay finite, but at step" in text
            assert "Traceback" in text
    assert result.summary["failed"] == len(failed)
    finished = {key: one.data.metrics for key, one in runs.items() if key[0] not in failed}
    assert len(finished) == 3 * len(SEEDS)
    assert finished == {key: truth[key] for key in finished}


@pytest.mark.parametrize("kill_workers", [1], indirect=True)
def test_a_slot_of_two_workers_outlives_a_trial_that_fails_and_the_loss_of_a_worker(
    ray_session: None, toy_packs: Path, tmp_path: Path, kill_workers: list[int]
) -> None:
    replace = {
        "[real_only, synthetic_only, finetune]": "[real_only]",
        "  adaptation: [none]\n": "",
        "real_fraction: [0.5, 1.0]": "real_fraction: [1.0]",
        "  synthetic_fraction: [1.0]\n": "",
        "  pretrain: {steps: [4], lr: [0.05]}\n": "",
        f"  synthetic: {{toy: {toy_packs}/synthetic}}\n": "",
        "lr: [0.1]": "lr: [1.0e+30, 0.1, 0.2]",
        "seeds: 2": "seeds: 1",
        "sampler: grid": "sampler: grid\nslots: {count: 1, workers: 2, max_failures: 5}",
    }
    result = search(toy_packs, tmp_path, replace)
    states = {trial.params["lr"]: trial.state for trial in study_of(tmp_path).trials}
    assert states == {1e30: TrialState.FAIL, 0.1: TrialState.COMPLETE, 0.2: TrialState.COMPLETE}
    assert len(kill_workers) == 1
    values = last_metrics(result.tracking_uri)
    assert all(0 < metrics["val/pixel_accuracy"] <= 1 for metrics in values.values() if "val/pixel_accuracy" in metrics)


def test_a_slot_that_cannot_start_ends_the_search_with_one_line(
    ray_session: None, toy_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster whose nodes do not see the packs: they are there for the driver and gone for the slots."""
    from search.engine import Engine, SlotsLostError

    moved = tmp_path / "moved"
    shutil.copytree(toy_packs, moved)
    start = Engine.run

    def gone(self: Engine, console: Console) -> int:
        shutil.rmtree(moved / "val")
        return start(self, console)

    monkeypatch.setattr(Engine, "run", gone)
    with pytest.raises(SlotsLostError) as caught:
        search(moved, tmp_path, ONE_SLOT)
    assert f"{moved}/val" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert TrialState.FAIL not in {trial.state for trial in study_of(tmp_path).trials}
