"""Tracker against a real MLflow: what is written, that writing twice changes nothing, and that outages lose nothing."""

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from analysis import load
from search import tracking
from search.mlflow_calls import TrackingError
from search.spool import Spool
from search.tracking import DatasetFact, Tracker, default_uri
from trainables.recipe import Pretrain, Recipe

ROOT = Path(__file__).resolve().parents[2]
REAL = Recipe(schedule="real_only", real_fraction=0.25, lr=0.01)
TUNED = Recipe(
    schedule="finetune",
    adaptation="real_bn",
    real_fraction=0.25,
    synthetic_fraction=1.0,
    pretrain=Pretrain(steps=500, lr=0.03),
    lr=0.02,
)
PHOTOS = DatasetFact("photos", "train", "ab" * 32, "/packs/real", 120)
HELD_OUT = DatasetFact("held out", "validation", "cd" * 32, "/packs/val", 40)
STUDY, ANEW = "1" * 32, "2" * 32
TABLES = ("runs", "metrics", "params", "tags", "inputs", "input_tags", "datasets", "latest_metrics")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables: the migrations take seconds, a copy none."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments(max_results=1)
    return path


@pytest.fixture
def results(template: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "the results"  # a space, as in many a home
    folder.mkdir()
    shutil.copy(template, folder / "mlflow.db")
    return folder


def connected(results: Path, *, uri: str | None = None) -> Tracker:
    tracker = Tracker(uri or default_uri(results), "titrate", "faces", results / "spool.jsonl")
    tracker.connect()
    return tracker


def begin(tracker: Tracker, study: str = STUDY, **params: Any) -> None:
    tags = {"titrate.metric": "val/miou", "titrate.mode": "max"}
    tracker.start(study, {"kind": "segmentation", **params}, tags, "name: faces\n", "faces.yaml", [PHOTOS])


def log_trial(tracker: Tracker, recipe: Recipe, seed: int, number: int, scores: list[float]) -> None:
    tracker.trial_started(recipe, seed, number, {"num_real_labels": 30}, [PHOTOS])
    for i, score in enumerate(scores):
        step = 250 * (i + 1)
        tracker.evaluation(
            recipe.key, seed, step, {"val/miou": score, "train/loss": 1.0 - score}, 1_700_000_000_000 + i
        )
    tracker.trial_ended(recipe.key, seed, "finished", facts={"steps_trained": 500, "steps_alone": 1000})


def children(uri: str) -> dict[tuple[str, int], Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("titrate")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.\"titrate.kind\" = 'trial'")
    found = {(run.data.tags["titrate.recipe"], int(run.data.tags["titrate.seed"])): run for run in runs}
    assert len(found) == len(runs), "one run per recipe and replicate"
    return found


def parent(uri: str) -> Run:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("titrate")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.\"titrate.kind\" = 'search'")
    return run


def history(uri: str, run: Run, metric: str) -> list[tuple[int, float, int]]:
    return [(m.step, m.value, m.timestamp) for m in MlflowClient(uri).get_metric_history(run.info.run_id, metric)]


def count(results: Path, table: str) -> int:
    with sqlite3.connect(results / "mlflow.db") as database:
        return int(database.execute(f"select count(*) from {table}").fetchone()[0])


def test_a_search_is_one_parent_and_one_child_per_replicate_with_its_facts(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    log_trial(tracker, TUNED, 0, 7, [0.4, 0.5])
    log_trial(tracker, TUNED, 1, 7, [0.3, 0.6])
    figure = results / "curve.svg"
    figure.write_text("<svg/>")
    tracker.artifact(figure)
    assert tracker.finish("finished")

    uri = default_uri(results)
    top = parent(uri)
    experiment = MlflowClient(uri).get_experiment(top.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert top.info.run_name == "faces"
    assert top.info.status == "FINISHED"
    assert top.data.tags["titrate.state"] == "finished"
    assert top.data.tags["titrate.metric"] == "val/miou"
    assert top.data.params["kind"] == "segmentation"
    artifacts = results / "mlartifacts" / top.info.run_id / "artifacts"
    assert {path.name: path.read_text() for path in artifacts.iterdir()} == {
        "curve.svg": "<svg/>",
        "faces.yaml": "name: faces\n",
    }

    runs = children(uri)
    assert set(runs) == {(TUNED.key, 0), (TUNED.key, 1)}
    run = runs[TUNED.key, 1]
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == top.info.run_id
    assert run.data.tags["titrate.number"] == "7"
    assert run.data.tags["titrate.status"] == "finished"
    assert run.data.tags["titrate.steps_alone"] == "1000"
    assert run.data.tags["titrate.step"] == "500"
    assert run.data.params == {
        "schedule": "finetune",
        "adaptation": "real_bn",
        "real_fraction": "0.25",
        "synthetic_fraction": "1.0",
        "pretrain.steps": "500",
        "pretrain.lr": "0.03",
        "lr": "0.02",
        "seed": "1",
        "num_real_labels": "30",
    }
    assert history(uri, run, "val/miou") == [(250, 0.3, 1_700_000_000_000), (500, 0.6, 1_700_000_000_001)]
    assert run.inputs is not None
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("photos", ("ab" * 32)[:36])
    assert json.loads(dataset.dataset.source) == {"uri": "/packs/real", "digest": "ab" * 32}
    assert {tag.key: tag.value for tag in dataset.tags} == {"mlflow.data.context": "train"}
    assert not (results / "spool.jsonl").exists()


def test_runs_have_names_that_read_and_are_found_by_plain_tags(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    log_trial(tracker, TUNED, 1, 7, [0.4])
    tracker.trial_started(REAL, 0, 8, {})
    assert tracker.finish("interrupted")
    client = MlflowClient(default_uri(results))
    experiment = client.get_experiment_by_name("titrate")
    assert experiment is not None

    def found(query: str) -> list[str]:
        return [run.info.run_name for run in client.search_runs([experiment.experiment_id], query)]

    tuned, real = "#7 finetune 25% real_bn lr=0.02 s1", "#8 real_only 25% lr=0.01 s0"
    assert found("tags.schedule = 'finetune' and tags.adaptation = 'real_bn' and tags.seed = '1'") == [tuned]
    assert found("tags.status = 'finished' and tags.cost = '500'") == [tuned]
    assert sorted(found("tags.real_fraction = '0.25'")) == [tuned, real]
    assert found("tags.status = 'stopped' and tags.synthetic_share = '0'") == [real]


def test_a_search_shows_how_far_it_came_and_its_answer(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    tracker.progress({"best/val/miou": 0.4, "steps/trained": 100}, 1)
    tracker.progress({"best/val/miou": 0.5, "steps/trained": 300}, 4)
    tracker.describe("an older answer")
    tracker.describe("**Train** it.\n" + "a line\n" * 2000)
    assert tracker.finish("finished")
    uri = default_uri(results)
    assert [(step, value) for step, value, _ in history(uri, parent(uri), "best/val/miou")] == [(1, 0.4), (4, 0.5)]
    note = parent(uri).data.tags["mlflow.note.content"]
    assert note.startswith("**Train** it.\na line\n")
    assert note.endswith("a line")
    assert len(note) <= tracking.NOTE_CHARS


def test_files_go_to_the_search_or_to_a_trial_and_the_newest_stays(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    log_trial(tracker, TUNED, 1, 7, [0.4])
    file = results / "report.html"
    for text in ("old", "new"):
        file.write_text(text)
        tracker.artifact(file)
        assert tracker.flush()
    tracker.artifact(file, "predictions", (TUNED.key, 1))
    assert tracker.finish("finished")
    uri = default_uri(results)
    client, child = MlflowClient(uri), children(uri)[TUNED.key, 1]
    assert Path(client.download_artifacts(parent(uri).info.run_id, "report.html")).read_text() == "new"
    assert [item.path for item in client.list_artifacts(child.info.run_id, "predictions")] == [
        "predictions/report.html"
    ]


def test_a_search_logged_twice_leaves_the_same_rows(results: Path) -> None:
    counts = []
    for _ in range(2):
        tracker = connected(results)
        begin(tracker)
        log_trial(tracker, REAL, 0, 0, [0.4, float("nan"), 0.5])
        assert tracker.finish("finished")
        counts.append({table: count(results, table) for table in TABLES})
    assert counts[0] == counts[1]
    assert counts[0]["metrics"] == 6
    (run,) = children(default_uri(results)).values()
    assert run.info.status == "FINISHED"


def scores(uri: str) -> dict[str, dict[tuple[str, int], float]]:
    """The objective of every child, by the study of its parent."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("titrate")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    found = {run.info.run_id: run.data.tags["titrate.study"] for run in runs if "titrate.study" in run.data.tags}
    assert len(set(found.values())) == len(found), "one parent per study"
    values: dict[str, dict[tuple[str, int], float]] = {study: {} for study in found.values()}
    for run in runs:
        if run.info.run_id not in found:
            tags = run.data.tags
            family, key = values[found[tags["mlflow.parentRunId"]]], (tags["titrate.recipe"], int(tags["titrate.seed"]))
            assert key not in family, "one run per recipe and replicate"
            family[key] = run.data.metrics["val/miou"]
    return values


def test_a_search_started_anew_under_its_old_name_takes_no_number_of_the_old_one(results: Path) -> None:
    old, new = ({(REAL.key, 0): 0.9, (TUNED.key, 0): 0.8}, {(REAL.key, 0): 0.1})
    for study, said in ((STUDY, old), (ANEW, new), (ANEW, new)):
        tracker = connected(results)
        begin(tracker, study)
        for recipe in (REAL, TUNED):
            if (recipe.key, 0) in said:
                log_trial(tracker, recipe, 0, 0, [said[recipe.key, 0]])
        assert tracker.finish("finished")
    uri = default_uri(results)
    assert scores(uri) == {STUDY: old, ANEW: new}
    table = load("faces", tracking_uri=uri)
    assert [(row.recipe.key, row.metrics["val/miou"]) for row in table.rows] == [(REAL.key, 0.1)]


@pytest.mark.parametrize("sent", [True, False], ids=["its start was sent", "nothing was sent"])
def test_what_an_older_study_left_in_the_spool_goes_to_its_own_runs(results: Path, sent: bool) -> None:
    if sent:
        tracker = connected(results)
        begin(tracker)
        assert tracker.finish("interrupted")
    dead = Tracker(default_uri(results), "titrate", "faces", results / "spool.jsonl")  # never connects: killed
    if sent:
        dead._study = STUDY
    else:
        begin(dead)
    log_trial(dead, REAL, 0, 0, [0.9])
    log_trial(dead, TUNED, 0, 1, [0.8])

    tracker = connected(results)
    begin(tracker, ANEW)
    log_trial(tracker, REAL, 0, 0, [0.1])
    assert tracker.finish("finished")
    uri = default_uri(results)
    assert scores(uri) == {STUDY: {(REAL.key, 0): 0.9, (TUNED.key, 0): 0.8}, ANEW: {(REAL.key, 0): 0.1}}
    assert [row.metrics["val/miou"] for row in load("faces", tracking_uri=uri).rows] == [0.1]


def test_a_process_that_begins_nothing_ends_nothing(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    assert tracker.finish("finished")
    tracker = connected(results)  # and then its search file is refused
    assert tracker.finish("interrupted")
    assert parent(default_uri(results)).data.tags["titrate.state"] == "finished"


def inputs(run: Run) -> dict[tuple[str, str], str]:
    """The dataset inputs of a run: name and whole digest -> context."""
    assert run.inputs is not None
    return {
        (one.dataset.name, json.loads(one.dataset.source)["digest"]): {tag.key: tag.value for tag in one.tags}[
            "mlflow.data.context"
        ]
        for one in run.inputs.dataset_inputs
    }


def test_a_child_has_the_packs_that_it_read_and_running_it_again_asks_nothing_more(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = {REAL: [PHOTOS, HELD_OUT], TUNED: [PHOTOS, HELD_OUT, DatasetFact("drawn", "train", "ef" * 32, "/d", 400)]}
    counts, calls = [], []
    log_inputs = MlflowClient.log_inputs

    def counted(client: MlflowClient, run_id: str, **kwargs: Any) -> None:
        calls.append(run_id)
        log_inputs(client, run_id, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_inputs", counted)
    for _ in range(2):
        tracker = connected(results)
        begin(tracker)
        for recipe, facts in reads.items():
            for _ in range(2):  # within a process, as after one
                tracker.trial_started(recipe, 0, 0, {}, facts)
        assert tracker.finish("interrupted")
        counts.append({table: count(results, table) for table in TABLES})
    assert counts[0] == counts[1]
    assert len(calls) == 3, "the parent's and each child's, once"
    for recipe, facts in reads.items():
        run = children(default_uri(results))[recipe.key, 0]
        assert inputs(run) == {(fact.name, fact.digest): fact.context for fact in facts}


def test_a_pack_with_two_uses_is_one_input_that_names_both(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    tested = DatasetFact(HELD_OUT.name, "test", HELD_OUT.digest, HELD_OUT.source, HELD_OUT.num_rows)
    tracker.trial_started(REAL, 0, 0, {}, [PHOTOS, PHOTOS, HELD_OUT, tested])
    assert tracker.finish("interrupted")
    (run,) = children(default_uri(results)).values()
    assert inputs(run) == {("photos", PHOTOS.digest): "train", ("held out", HELD_OUT.digest): "validation, test"}


def test_nan_stays_nan_and_infinity_does_not_stop_the_rest(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    log_trial(tracker, REAL, 0, 0, [0.5, float("nan")])
    log_trial(tracker, TUNED, 0, 1, [float("inf"), 0.25])
    assert tracker.finish("finished")
    runs = children(default_uri(results))
    assert runs[REAL.key, 0].data.metrics["val/miou"] != runs[REAL.key, 0].data.metrics["val/miou"]
    assert runs[TUNED.key, 0].data.metrics["val/miou"] == 0.25


def test_a_changed_param_becomes_a_tag_and_stops_nothing(results: Path) -> None:
    for trials in (8, 16):
        tracker = connected(results)
        begin(tracker, trials=trials)
        log_trial(tracker, REAL, 0, 0, [0.5])
        assert tracker.finish("finished")
    run = parent(default_uri(results))
    assert run.data.params["trials"] == "8"
    assert run.data.tags["titrate.changed.trials"] == "16"


def test_a_failed_trial_shows_its_traceback_and_last_line(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    tracker.trial_started(REAL, 0, 0, {})
    text = "Traceback (most recent call last):\n  File x\nValueError: labels must be < 11, but got 12\n"
    tracker.trial_ended(REAL.key, 0, "failed", traceback=text)
    assert tracker.finish("finished")
    (run,) = children(default_uri(results)).values()
    assert run.info.status == "FAILED"
    assert run.data.tags["titrate.error"] == "ValueError: labels must be < 11, but got 12"
    path = Path(MlflowClient(default_uri(results)).download_artifacts(run.info.run_id, "traceback.txt"))
    assert path.read_text() == text


def test_one_bad_metric_name_costs_itself_alone(results: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = connected(results)
    begin(tracker)
    tracker.trial_started(REAL, 0, 0, {"num_real_labels": 30})
    metrics = {f"val/m{i}": float(i) for i in range(9)} | {"val/iou/<hair>": 0.5}
    tracker.evaluation(REAL.key, 0, 250, metrics, 1_700_000_000_000)
    tracker.trial_ended(REAL.key, 0, "finished")
    with caplog.at_level(logging.WARNING, "titrate.tracking"):
        assert not tracker.finish("finished"), "not everything is in MLflow"
    (run,) = children(default_uri(results)).values()
    assert run.data.metrics == {f"val/m{i}": float(i) for i in range(9)}
    assert run.data.params["num_real_labels"] == "30"
    assert "val/iou/<hair>" in caplog.text


def test_more_than_one_call_takes_arrives_whole(results: Path) -> None:
    tracker = connected(results)
    begin(tracker, STUDY, **{f"p{i}": i for i in range(130)})
    tracker.trial_started(REAL, 0, 0, {})
    tracker.evaluation(REAL.key, 0, 250, {f"m{i}": float(i) for i in range(1700)}, 1_700_000_000_000)
    assert tracker.finish("finished")
    (run,) = children(default_uri(results)).values()
    assert run.data.metrics == {f"m{i}": float(i) for i in range(1700)}
    assert len(parent(default_uri(results)).data.params) == 131


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.search.test_tracking import REAL, TUNED, begin, connected, log_trial
tracker = connected(Path({results!r}))
begin(tracker)
log_trial(tracker, REAL, 0, 0, [0.5])
tracker.trial_started(TUNED, 0, 1, {{}})
tracker.evaluation(TUNED.key, 0, 250, {{"val/miou": 0.25}}, 1_700_000_000_000)
while tracker._spool._size and {sent}:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("sent", [True, False], ids=["after sending", "before sending"])
def test_after_kill_9_the_next_run_has_every_evaluation_and_leaves_nothing_running(results: Path, sent: bool) -> None:
    code = KILLED.format(root=str(ROOT), results=str(results), sent=sent)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
    finally:
        process.kill()
        process.wait()
    uri = default_uri(results)
    if sent:
        assert children(uri)[TUNED.key, 0].info.status == "RUNNING"
        assert parent(uri).info.status == "RUNNING"

    tracker = connected(results)
    begin(tracker)
    assert tracker.finish("interrupted")
    runs = children(uri)
    assert runs[REAL.key, 0].info.status == "FINISHED"
    assert runs[TUNED.key, 0].info.status == "KILLED"
    assert runs[TUNED.key, 0].data.metrics == {"val/miou": 0.25}
    assert parent(uri).data.tags["titrate.state"] == "interrupted"


def test_a_spool_torn_in_the_middle_of_a_line_is_read_up_to_there(results: Path) -> None:
    tracker = Tracker(
        default_uri(results), "titrate", "faces", results / "spool.jsonl"
    )  # never connects: a dead process
    begin(tracker)
    log_trial(tracker, REAL, 0, 0, [0.5])
    with (results / "spool.jsonl").open("ab") as file:
        file.write(b'{"op":"evaluation","rec')
    tracker = connected(results)
    begin(tracker)
    log_trial(tracker, TUNED, 0, 1, [0.75])
    assert tracker.finish("finished")
    assert {key: run.data.metrics["val/miou"] for key, run in children(default_uri(results)).items()} == {
        (REAL.key, 0): 0.5,
        (TUNED.key, 0): 0.75,
    }


def test_a_locked_database_is_waited_out(results: Path, caplog: pytest.LogCaptureFixture) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    tracker = connected(results)
    begin(tracker)
    client, calls = tracker._writer._calls.client, []
    log_batch = client.log_batch

    def locked_once(
        *args: object, **kwargs: object
    ) -> object:  # MLflow itself waits 20 s for the lock before it says so
        calls.append(args)
        if len(calls) == 1:
            raise MlflowException("(sqlite3.OperationalError) database is locked", TEMPORARILY_UNAVAILABLE)
        return log_batch(*args, **kwargs)

    client.log_batch = locked_once
    with caplog.at_level(logging.WARNING, "titrate.tracking"):
        log_trial(tracker, REAL, 0, 0, [0.5])
        assert tracker.finish("finished")
    assert len(calls) > 1
    assert "database is locked" in caplog.text
    (run,) = children(default_uri(results)).values()
    assert history(default_uri(results), run, "val/miou") == [(250, 0.5, 1_700_000_000_000)]


def test_what_an_outage_left_at_the_end_is_sent_by_the_next_process(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)

    def away(*args: object, **kwargs: object) -> None:
        raise ConnectionError("refused")

    tracker._writer._calls.client.log_batch = away
    log_trial(tracker, REAL, 0, 0, [0.25, 0.5])
    assert not tracker.finish("finished", timeout=0.5)
    assert (results / "spool.jsonl").stat().st_size > 0

    tracker = connected(results)
    begin(tracker)
    assert tracker.finish("finished")
    (run,) = children(default_uri(results)).values()
    assert [value for _, value, _ in history(default_uri(results), run, "val/miou")] == [0.25, 0.5]
    assert run.info.status == "FINISHED"
    assert not (results / "spool.jsonl").exists()


def live_tag(uri: str) -> str | None:
    tag: str | None = parent(uri).data.tags.get("titrate.live")
    return tag


def test_the_newest_snapshot_is_a_tag_of_the_search_and_never_in_the_spool(results: Path) -> None:
    tracker = connected(results)
    tracker.live("before there is a run")
    begin(tracker)
    assert tracker.flush()
    for k in range(50):
        tracker.live(f"snapshot {k}")
    assert "snapshot" not in (results / "spool.jsonl").read_text()
    assert tracker.finish("finished")
    assert live_tag(default_uri(results)) == "snapshot 49"


def test_an_outage_leaves_the_newest_snapshot_alone_and_every_record(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    assert tracker.flush()
    with sqlite3.connect(results / "mlflow.db", isolation_level=None) as database:
        database.execute("begin exclusive")
        log_trial(tracker, TUNED, 0, 7, [0.4])
        for k in range(50):
            tracker.live(f"snapshot {k}")
        assert not tracker.flush(timeout=0.5)
        assert "snapshot" not in (results / "spool.jsonl").read_text()
        database.execute("rollback")
    assert tracker.finish("finished")
    assert live_tag(default_uri(results)) == "snapshot 49"
    assert history(default_uri(results), children(default_uri(results))[TUNED.key, 0], "val/miou")[0][1] == 0.4


def test_after_flush_mlflow_has_all_that_was_said_and_the_search_goes_on(results: Path) -> None:
    tracker = connected(results)
    begin(tracker)
    log_trial(tracker, REAL, 0, 0, [0.25, 0.5])
    assert tracker.flush()
    uri = default_uri(results)
    (run,) = children(uri).values()
    assert (run.info.status, run.data.metrics["val/miou"]) == ("FINISHED", 0.5)
    assert parent(uri).info.status == "RUNNING"
    assert tracker.flush(timeout=0), "there is nothing left to send"

    figure = results / "curve.svg"
    figure.write_text("<svg/>")
    tracker.artifact(figure)
    assert tracker.finish("finished")
    assert parent(uri).info.status == "FINISHED"
    names = {item.path for item in MlflowClient(uri).list_artifacts(parent(uri).info.run_id)}
    assert names == {"curve.svg", "faces.yaml"}


def test_flush_in_an_outage_gives_up_in_time_and_sending_goes_on(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.01, 0.02))
    tracker = connected(results)
    begin(tracker)
    assert tracker.flush()
    client, log_batch = tracker._writer._calls.client, tracker._writer._calls.client.log_batch

    def away(*args: object, **kwargs: object) -> None:
        raise ConnectionError("refused")

    client.log_batch = away
    log_trial(tracker, REAL, 0, 0, [0.5])
    before = time.monotonic()
    assert not tracker.flush(timeout=0.2)
    assert time.monotonic() - before < 5
    client.log_batch = log_batch
    assert tracker.flush()
    (run,) = children(default_uri(results)).values()
    assert run.data.metrics["val/miou"] == 0.5
    assert tracker.finish("finished")


def test_flush_waits_for_what_came_before_it_and_not_for_what_comes_after(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    spool.append({"op": "first"})
    _, mark = spool.read()

    def go_on() -> None:
        spool.append({"op": "second"})
        spool.sent(mark)

    timer = threading.Timer(0.2, go_on)
    timer.start()
    assert spool.flush(timeout=30)
    timer.join()
    assert not spool.flush(timeout=0), "the second is not sent"


def test_a_new_database_is_made_without_a_word_on_the_terminal(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from search.tracking import Tracker, default_uri
results = Path({str(tmp_path)!r})
tracker = Tracker(default_uri(results), "titrate", "faces", results / "spool.jsonl")
tracker.connect()
tracker.start("1" * 32, {{}}, {{}}, "", "faces.yaml")
assert tracker.finish("finished")
"""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_LOGGING_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mlflow.db").exists()


def test_an_artifact_that_cannot_be_stored_holds_nothing_back(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.01, 0.02))
    blocked = results / "blocked"
    blocked.write_text("a file where a folder must be")
    tracker = Tracker(
        default_uri(results), "titrate", "faces", results / "spool.jsonl", artifact_root=str(blocked / "artifacts")
    )
    tracker.connect()
    begin(tracker)
    log_trial(tracker, REAL, 0, 0, [0.5])
    assert not tracker.finish("finished")
    (run,) = children(default_uri(results)).values()
    assert run.data.metrics["val/miou"] == 0.5


def test_an_unreachable_server_is_one_line_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(TrackingError, match=rf"http://\*\*\*@127.0.0.1:{port}.*start it") as caught:
        Tracker(f"http://me:secret@127.0.0.1:{port}", "titrate", "faces", tmp_path / "spool.jsonl").connect()
    assert time.monotonic() - started < 20
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_deleted_experiment_is_one_line_that_says_how_to_restore_it(results: Path) -> None:
    client = MlflowClient(default_uri(results))
    client.delete_experiment(client.create_experiment("titrate"))
    with pytest.raises(TrackingError, match="mlflow experiments restore -x"):
        connected(results)


@pytest.fixture
def server(results: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts `mlflow server` on one loopback port and one database, as often as called; ends what still runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[subprocess.Popen[bytes]] = []
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "PYTEST_CURRENT_TEST")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"

    def start() -> subprocess.Popen[bytes]:
        command = [
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
        ]
        command += ["--backend-store-uri", default_uri(results), "--artifacts-destination", str(results / "served")]
        with (results / "server.log").open("ab") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, cwd=results, start_new_session=True, env=environment
            )
        started.append(process)
        process.uri = f"http://127.0.0.1:{port}"  # type: ignore[attr-defined]
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
                return process
            except OSError:
                assert process.poll() is None, (results / "server.log").read_text()
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    yield start
    for process in started:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a server with its workers: it leads its own process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_gets_everything_exactly_once(
    results: Path, server: Callable[[], subprocess.Popen[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    process = server()
    uri = process.uri  # type: ignore[attr-defined]
    tracker = connected(results, uri=uri)
    begin(tracker)
    log_trial(tracker, REAL, 0, 0, [0.25, float("nan")])
    tracker.trial_started(TUNED, 0, 1, {"num_real_labels": 30}, [PHOTOS])
    tracker.evaluation(TUNED.key, 0, 250, {"val/miou": 0.5}, 1_700_000_000_000)
    deadline = time.monotonic() + 60
    while tracker._spool._size and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (results / "spool.jsonl").stat().st_size == 0

    end(process)
    with caplog.at_level(logging.WARNING, "titrate.tracking"):
        before = time.monotonic()
        tracker.evaluation(TUNED.key, 0, 500, {"val/miou": 0.75}, 1_700_000_000_001)
        tracker.trial_ended(TUNED.key, 0, "finished")
        log_trial(tracker, REAL, 1, 0, [0.3])
        assert time.monotonic() - before < 1, "the search does not wait"
        while "spooling" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "spooling" in caplog.text
    assert (results / "spool.jsonl").stat().st_size > 0

    server()
    assert tracker.finish("finished")
    runs = children(uri)
    assert set(runs) == {(REAL.key, 0), (REAL.key, 1), (TUNED.key, 0)}
    assert history(uri, runs[TUNED.key, 0], "val/miou") == [
        (250, 0.5, 1_700_000_000_000),
        (500, 0.75, 1_700_000_000_001),
    ]
    assert len(history(uri, runs[REAL.key, 0], "val/miou")) == 2
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert (Path(results) / "served").exists(), "the server, not the client, chose where artifacts go"
    assert not (results / "mlartifacts").exists()
