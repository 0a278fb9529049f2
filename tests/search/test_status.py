"""status: what a search says of itself while it runs, when it was killed, on another machine, and long afterwards."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from search.__main__ import app
from search.publisher import FILE, TAG_CHARS, Publisher, Snapshot, compact, progress, write
from search.status import FRESH_S, SILENT_S, read
from search.tracking import Tracker, default_uri
from search.view import Look
from tests.search.looks import RECIPES, look
from trainables.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
REAL = Recipe(schedule="real_only", real_fraction=0.25, lr=0.01)
OTHER = Recipe(schedule="real_only", real_fraction=0.5, lr=0.01)


class Tags:
    """Takes what a tracker would send."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.metrics: list[tuple[int, dict[str, float]]] = []

    def live(self, text: str) -> None:
        self.texts.append(text)

    def progress(self, metrics: dict[str, float], step: int) -> None:
        self.metrics.append((step, metrics))


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments(max_results=1)
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results" / "faces").mkdir(parents=True)
    return tmp_path / "results"


def snapshot(age_s: float = 0.0, **fields: Any) -> Snapshot:
    known: Snapshot = {
        "search": "faces",
        "metric": "val/miou",
        "state": "running",
        "at": time.time() - age_s,
        "host": "another-machine",
        "pid": 1,
        "look": look(),
    }
    return {**known, **fields}  # type: ignore[typeddict-item]


def told(results: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["status", "faces", "--results", str(results), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def with_run(database: Path, results: Path, *texts: str) -> Tracker:
    """MLflow with a run of the search, to which snapshots were sent."""
    results.mkdir(parents=True, exist_ok=True)
    shutil.copy(database, results / "mlflow.db")
    tracker = Tracker(default_uri(results), "faces team", "faces", results / "spool")
    tracker.connect()
    tags = {"titrate.metric": "val/miou", "titrate.mode": "max", "titrate.seeds": 2}
    tracker.start("1" * 32, {}, tags, "name: faces\n", "faces.yaml")
    assert tracker.flush()
    for text in texts:
        tracker.live(text)
    return tracker


# -- the publisher ---------------------------------------------------------------------------------------------


def test_a_search_publishes_while_it_runs_and_marks_its_end(results: Path) -> None:
    tags, looks = Tags(), iter([look(2), look(3)])
    final: Look = {"summary": {"recipes": 4, "ended": 4}, "slots": {0: {"job": None}}, "cost": {"steps_trained": 9}}
    with Publisher(lambda: next(looks, final), results / "faces", tags, search="faces", metric="val/miou"):
        deadline = time.monotonic() + 30
        while not (results / "faces" / FILE).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        running = read("faces", results)
        assert (running.state, running.look["summary"]["ended"]) == ("running", 12)
        while next(looks, None) is not None:
            pass
    done = read("faces", results)
    assert (done.state, done.look["cost"]) == ("finished", {"steps_trained": 9})
    assert "slots" not in done.look  # they end with it
    states = [json.loads(text)["state"] for text in tags.texts]
    assert (states[0], states[-1]) == ("running", "finished")
    assert os.listdir(results / "faces") == [FILE]


def test_how_far_a_search_is_becomes_metrics_of_its_run(results: Path) -> None:
    final: Look = {
        "summary": {"recipes": 4, "ended": 4, "best": [(0.75, RECIPES[0], 3)]},
        "cost": {"steps_trained": 300, "steps_alone": 400, "hours": 0.5},
    }
    tags = Tags()
    with Publisher(lambda: final, results / "faces", tags, search="faces", metric="val/miou"):
        pass
    expected = {
        "recipes/ended": 4,
        "best/val/miou": 0.75,
        "steps/trained": 300,
        "steps/alone": 400,
        "accelerator_hours": 0.5,
        "saving": 0.25,
    }
    assert tags.metrics == [(4, expected)]
    nothing: Look = {"summary": {"best": [(float("nan"), RECIPES[0], 1)]}, "cost": {}}
    assert progress(nothing, "val/miou") == {}


def test_a_search_that_is_left_before_its_end_is_stopped(results: Path) -> None:
    with pytest.raises(RuntimeError), Publisher(look, results / "faces", Tags(), search="faces", metric="val/miou"):
        raise RuntimeError("lost")
    assert re.match(r"faces: stopped \d+ s ago; run the same command again to go on\n", told(results))


def test_neither_a_look_nor_a_file_nor_a_tag_that_fails_ends_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.publisher.FILE_EVERY_S", 0.02)
    failing, calls = Tags(), []

    def sometimes() -> Look:
        calls.append(1)
        if len(calls) % 2:
            raise ConnectionError("the dispatcher is gone")
        return look(1)

    with Publisher(sometimes, tmp_path / "missing", failing, search="faces", metric="val/miou"):
        deadline = time.monotonic() + 30
        while len(calls) < 8 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert len(calls) >= 8
    assert json.loads(failing.texts[0])["search"] == "faces"  # with no folder to write to
    assert sum("missing" in message for message in caplog.messages) == 1  # said once, not each second
    with Publisher(lambda: look(1), tmp_path, None, search="faces", metric="val/miou"):  # type: ignore[arg-type]
        pass
    assert json.loads((tmp_path / FILE).read_text())["look"]["summary"]["ended"] == 12


@pytest.mark.parametrize("slots", [0, 1, 40, 500])
def test_a_tag_holds_what_fits_and_says_how_many_slots_it_leaves_out(slots: int) -> None:
    now = look(slots, idle=slots // 2)
    now["note"] = "slots ended: " + "é" * 9000
    now["summary"]["best"] = [(0.5, "real=0.5 of " + "+".join(RECIPES) * 50, 3)] * 5
    now["stages"]["now"] = [{"leg": "pretrain", "step": k, "target": 500, "waits": k % 7} for k in range(500)]
    text = compact(snapshot(look=now))
    assert len(text) <= TAG_CHARS
    short = json.loads(text)
    assert short["look"]["summary"]["ended"] == 12
    assert short["look"]["cost"] == now["cost"]
    kept = short["look"]["slots"]
    assert len(kept) + short["look"]["slots_left_out"] == slots
    if 0 < len(kept) <= slots - slots // 2:
        assert all(slot["job"] for slot in kept.values())  # those that wait are the first to go


# -- reading ---------------------------------------------------------------------------------------------------


def test_a_fresh_file_is_shown_whole_with_its_age(results: Path) -> None:
    write(snapshot(3), results / "faces" / FILE)
    lines = told(results).splitlines()
    assert re.fullmatch(r"faces: running, as of \d+ s ago \(process 1 on another-machine\)", lines[0])
    assert lines[1].startswith("12 of 48 recipes done (1 failed, 4 pruned)")
    assert "trained 12,300 steps for what takes 41,000 alone (70% saved), 0.8 of 2 accelerator-hours" in lines[-1]


def test_json_has_the_same(results: Path) -> None:
    write(snapshot(3), results / "faces" / FILE)
    told_so = json.loads(told(results, "--json"))
    assert told_so["state"] == "running"
    assert told_so["look"] == json.loads(json.dumps(look()))
    assert told_so["age_s"] >= 3
    assert told_so["source"] == str(results / "faces" / FILE)


def test_an_old_word_says_what_to_do(results: Path) -> None:
    write(snapshot(SILENT_S + 120), results / "faces" / FILE)
    line = told(results).splitlines()[0]
    assert "last word 3 min ago (process 1 on another-machine): the driver may be dead; run the same command" in line


DRIVER = """
import sys, time
from pathlib import Path
from search.publisher import Publisher
from tests.search.looks import look

class Nowhere:
    def live(self, text): ...
    def progress(self, metrics, step): ...

with Publisher(look, Path(sys.argv[1]), Nowhere(), search="faces", metric="val/miou"):
    time.sleep(60)
"""


def test_a_driver_that_was_killed_is_known_to_be_dead(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(results / "faces")], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (results / "faces" / FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert read("faces", results).state == "running"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    said = json.loads((results / "faces" / FILE).read_text())
    write({**said, "at": said["at"] - FRESH_S - 1}, results / "faces" / FILE)
    line = told(results).splitlines()[0]
    assert f"the driver (process {driver.pid} on {socket.gethostname()}) is dead; run the same command again" in line
    write({**said, "pid": os.getpid(), "at": said["at"] - FRESH_S - 1}, results / "faces" / FILE)
    assert read("faces", results).state == "running"  # only late


def test_another_machine_reads_the_tag(database: Path, tmp_path: Path, results: Path) -> None:
    tracker = with_run(database, tmp_path / "server", compact(snapshot(5, look=look(64))))
    assert tracker.finish("interrupted")
    uri = default_uri(tmp_path / "server")
    out = told(results, "--tracking", uri)
    assert re.match(r"faces: running, as of \d+ s ago \(process 1 on another-machine\)\n", out)
    assert "more slots" in out
    assert read("faces", results, uri).source == f"MLflow at {uri}"


def test_the_newer_word_counts(database: Path, tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = with_run(database, tmp_path / "server", compact(snapshot(20, pid=20)))
    assert tracker.finish("interrupted")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", default_uri(tmp_path / "server"))
    for age, driver in ((30, 20), (17, 17), (1, 1)):
        write(snapshot(age, pid=age), results / "faces" / FILE)
        assert read("faces", results).driver == f"process {driver} on another-machine"


def add_trials(results: Path) -> None:
    study = optuna.create_study(study_name="faces", storage=f"sqlite:///{results}/faces/study.db", direction="maximize")
    study.set_user_attr("search", json.dumps({"objective.metric": "val/miou", "budget.seeds": 2}))
    fractions = CategoricalDistribution((0.25, 0.5))
    for recipe, state, value in (
        (REAL, TrialState.COMPLETE, 0.4),
        (OTHER, TrialState.COMPLETE, 0.6),
        (REAL, TrialState.PRUNED, None),
        (REAL, TrialState.FAIL, None),
        (REAL, TrialState.RUNNING, None),
        (REAL, TrialState.WAITING, None),
    ):
        params, attrs = {"real_fraction": recipe.real_fraction}, {"recipe": recipe.key}
        study.add_trial(
            create_trial(
                state=state, value=value, params=params, distributions={"real_fraction": fractions}, user_attrs=attrs
            )
        )


def test_without_a_snapshot_the_study_and_the_runs_speak(database: Path, results: Path) -> None:
    add_trials(results)
    out = told(results)
    assert f"no word of a driver, but what is in {results}/faces/study.db" in " ".join(out.split())
    assert "4 recipes done (1 failed, 1 pruned), 1 running" in out
    assert "0.6000 2 seeds real_fraction=0.5" in " ".join(out.split())
    tracker = with_run(database, results)
    for seed, (recipe, score) in enumerate([(REAL, 0.3), (REAL, 0.5), (OTHER, 0.6)]):
        tracker.trial_started(recipe, seed, seed, {})
        tracker.evaluation(recipe.key, seed, 6, {"val/miou": score}, 1)
        tracker.trial_ended(recipe.key, seed, "finished")
    tracker.trial_started(OTHER, 3, 3, {})
    assert tracker.finish("interrupted")  # which stops the last
    out = " ".join(told(results).split())
    assert "4 recipes done (1 failed, 1 pruned), 1 running, runs in MLflow: 3 finished, 1 stopped" in out
    assert f"best val/miou: 0.6000 2 seeds {OTHER} 0.4000 2 seeds {REAL}" in out
    shutil.rmtree(results / "faces")
    out = " ".join(told(results).split())
    assert f"no word of a driver, but what is in MLflow at {default_uri(results)} 2 recipes done, runs in MLflow" in out
    assert f"best val/miou: 0.6000 1 seed {OTHER} 0.4000 2 seeds {REAL}" in out


def test_a_search_that_does_not_exist_is_one_line_that_says_where_it_looked(database: Path, results: Path) -> None:
    def line(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["status", *arguments, "--results", str(results)])
        assert done.exit_code == 2, done.output
        (only,) = done.stderr.strip().splitlines()
        return only

    only = line("facs")
    assert "error: no search 'facs' is known: " in only
    assert f"no {results}/facs/status.json; no MLflow database at {default_uri(results)}; and no {results}" in only
    assert not (results / "mlflow.db").exists()
    assert "MLflow at http://127.0.0.1:9 cannot be read" in line("facs", "--tracking", "http://127.0.0.1:9")
    assert with_run(database, results).finish("finished")
    assert f"no run of it in MLflow at {default_uri(results)}" in line("facs")
    assert "a search is known by its name" in line("../faces")
    (results / "faces" / FILE).write_text("[]")
    assert "must be a snapshot of a search, but lacks at, host, look, " in line("faces")
    assert "--json must be given without --watch" in line("faces", "--json", "--watch")


def test_watching_ends_with_the_search(results: Path) -> None:
    write(snapshot(state="finished"), results / "faces" / FILE)
    (line,) = told(results, "--watch").splitlines()
    assert re.match(r"faces: finished \d+ s ago; 12 of 48 recipes done", line)
