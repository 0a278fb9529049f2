"""A whole search on real Ray, Optuna and MLflow: its numbers are those of plain training, whatever happens."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from search.config import load
from search.run import Result, run
from search.tracking import default_uri
from tests.toy import RUNGS, toy_problem, toy_search, toy_trainer
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


def test_without_sharing_every_number_is_the_same(
    ray_session: None, toy_packs: Path, tmp_path: Path, truth: dict[tuple[str, int], dict[str, float]]
) -> None:
    result = search(toy_packs, tmp_path, share=False)
    assert last_metrics(result.tracking_uri) == truth
    assert result.steps_trained == result.steps_alone


def test_a_trial_that_raises_is_failed_everywhere_and_the_others_complete(
    ray_session: None, toy_packs: Path, tmp_path: Path
) -> None:
    result = search(toy_packs, tmp_path, {"lr: [0.1]": "lr: [0.1, 1.0e+30]"})
    failed = {t.user_attrs["recipe"] for t in study_of(tmp_path).trials if t.params["lr"] == 1e30}
    assert failed
    for trial in study_of(tmp_path).trials:
        expected = TrialState.FAIL if trial.user_attrs["recipe"] in failed else TrialState.COMPLETE
        assert trial.state is expected
        if expected is TrialState.FAIL:
            assert "NotFiniteError" in trial.user_attrs["error"]
    for (key, _), one in runs_of(result.tracking_uri).items():
        assert one.info.status == ("FAILED" if key in failed else "FINISHED")
        if key in failed:
            text = mlflow.artifacts.load_text(f"{one.info.artifact_uri}/traceback.txt")
            assert "the loss must stay finite, but at step" in text
            assert "Traceback" in text
    assert result.summary["failed"] == len(failed)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/served"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
            *served,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_a_search_runs_against_an_mlflow_server(
    ray_session: None, toy_packs: Path, tmp_path: Path, server: str, truth: dict[tuple[str, int], dict[str, float]]
) -> None:
    result = search(toy_packs, tmp_path, {"sampler: grid": f"sampler: grid\ntracking: {{uri: '{server}'}}"})
    assert result.tracking_uri == server
    assert last_metrics(server) == truth
    assert result.conclusion is not None
    assert not (tmp_path / "results" / "mlflow.db").exists()


def command(path: Path, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "search", "run", str(path), "--results", str(folder / "results")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until_it_trains(folder: Path) -> None:
    """Waits for the first checkpoint in the store of a search."""
    deadline = time.monotonic() + 180
    while not list((folder / "results" / "store").rglob("*.ckpt")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_stopped_or_killed_is_completed_by_the_next_run(
    toy_packs: Path, tmp_path: Path, truth: dict[tuple[str, int], dict[str, float]], number: signal.Signals
) -> None:
    path = toy_search(toy_packs, tmp_path)
    process = command(path, tmp_path)
    until_it_trains(tmp_path)
    process.send_signal(number)
    output, _ = process.communicate(timeout=180)
    if number is signal.SIGINT:
        assert process.returncode == 130
        assert "run the same command again" in output
        assert "Traceback" not in output
        states = {one.info.status for one in runs_of(default_uri(tmp_path / "results")).values()}
        assert "RUNNING" not in states
    again = command(path, tmp_path)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    uri = default_uri(tmp_path / "results")
    assert last_metrics(uri) == truth
    assert {one.info.status for one in runs_of(uri).values()} == {"FINISHED"}
    assert {trial.state for trial in study_of(tmp_path).trials} == {TrialState.COMPLETE}
    assert "Train `" in output


@pytest.fixture
def kill_workers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kills the first two worker processes that are seen at work, one after the other; returns their process ids."""
    from search.watch import Watch

    killed: list[int] = []
    look = Watch.look

    def watch(self: Watch) -> dict[str, Any]:
        now = look(self)
        busy = [slot["process"] for slot in now["slots"].values() if slot["job"]]
        if busy and len(killed) < 2:
            pid = int(busy[0].split(":")[1])
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        return now

    monkeypatch.setattr(Watch, "look", watch)
    monkeypatch.setattr("search.watch.ASK_EVERY_S", 0.05)
    monkeypatch.setattr("search.watch.LOOK_EVERY_S", 0.1)
    return killed


def test_a_killed_slot_costs_no_trial_and_no_number(
    ray_session: None,
    toy_packs: Path,
    tmp_path: Path,
    truth: dict[tuple[str, int], dict[str, float]],
    kill_workers: list[int],
) -> None:
    result = search(toy_packs, tmp_path)
    assert len(kill_workers) == 2
    assert last_metrics(result.tracking_uri) == truth
    assert {trial.state for trial in study_of(tmp_path).trials} == {TrialState.COMPLETE}


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
    assert len(kill_workers) == 2
    values = last_metrics(result.tracking_uri)
    assert all(0 < metrics["val/pixel_accuracy"] <= 1 for metrics in values.values() if "val/pixel_accuracy" in metrics)


def test_packs_of_a_uri_are_read_from_the_nodes_cache_even_while_their_store_is_away(
    ray_session: None,
    toy_packs: Path,
    tmp_path: Path,
    truth: dict[tuple[str, int], dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver fetches them; before a slot opens them they are gone."""
    from search.engine import Engine

    moved = tmp_path / "moved"
    shutil.copytree(toy_packs, moved)
    start = Engine.run

    def away(self: Engine, console: Console) -> int:
        shutil.rmtree(moved)
        return start(self, console)

    monkeypatch.setattr(Engine, "run", away)
    note = {"name: toy": "name: toy  # the packs came from s3://key:secret@bucket/toy"}
    result = search(f"file://{moved}", tmp_path, note)
    assert last_metrics(result.tracking_uri) == truth
    (parent,) = {one.data.tags["mlflow.parentRunId"] for one in runs_of(result.tracking_uri).values()}
    run_of = mlflow.MlflowClient(result.tracking_uri).get_run(parent)
    inputs = run_of.inputs.dataset_inputs
    assert {one.dataset.name for one in inputs} == {"real", "synthetic", "val", "test"}
    assert all(f"file://{moved}/{one.dataset.name}" in one.dataset.source for one in inputs)
    shown = mlflow.artifacts.load_text(f"{run_of.info.artifact_uri}/toy.yaml")
    assert "# the packs came from s3://***@bucket/toy" in shown


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
        search(moved, tmp_path)
    assert f"{moved}/val" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert TrialState.FAIL not in {trial.state for trial in study_of(tmp_path).trials}
