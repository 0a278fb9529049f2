"""Writer: turns the tracker's records into MLflow calls, each of which may be made twice and changes nothing then."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.mlflow_calls import Calls
from search.mlflow_runs import KnownRun, Runs, StudyRuns
from search.run_labels import STATUS
from search.spool import Record

LIVE = "titrate.live"  # the tag of a search's run with the newest snapshot of it (search/publisher.py)
NOTE = "mlflow.note.content"  # MLflow's own tag of a run's description
RUN_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "interrupted": "KILLED"}


@dataclass
class _Batch:
    """What is put aside for a run, to be logged at once."""

    metrics: list[Any] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Writer:
    """Turns records into MLflow calls. Every record may be written again: the second time changes nothing."""

    def __init__(self, uri: str, experiment: str, search: str, artifact_root: str | None) -> None:
        self._calls = Calls(uri)
        self._runs = Runs(self._calls, experiment, search, artifact_root)
        self._search = search
        self._loaded = False
        self._batches: dict[str, _Batch] = {}

    @property
    def uri(self) -> str:
        return self._calls.uri

    @property
    def refused(self) -> int:
        """How many records, or parts of them, MLflow did not take."""
        return self._calls.refused

    def load(self) -> None:
        """Finds or creates the experiment, and forgets what was known of runs."""
        self._calls.open()
        self._runs.load()
        self._loaded = True

    def write(self, records: Sequence[Record]) -> None:
        """All of the records, or an exception: then write all of them again later."""
        self._batches.clear()
        try:
            if not self._loaded:
                self.load()
            for record in records:
                getattr(self, f"_{record['op']}")(record, self._runs.of(record["study"]))
            for run_id in list(self._batches):
                self._flush(run_id)
        except Exception:
            self._loaded = False  # a call whose answer was lost may have created a run: look before the retry
            raise

    def live(self, study: str, text: str) -> None:
        """The tag of the search's run that says what it does now; nothing where it has no run yet."""
        if not self._loaded:
            self.load()
        parent = self._runs.of(study).parent
        if parent is not None:
            self._calls.log(parent.id, [], {}, {LIVE: text})

    def _start(self, record: Record, runs: StudyRuns) -> None:
        tags = {**record["tags"], "titrate.state": "running"}
        parent = runs.parent
        if parent is None:
            found_by = {"titrate.kind": "search", "titrate.study": record["study"]}
            parent = runs.parent = self._runs.create(self._search, record["at"], found_by)
        self._reopen(parent)
        self._gather(parent, record["params"], tags)
        self._flush(parent.id)
        name, text = record["config"]
        self._calls.attempt_artifact(parent.id, name, lambda: self._calls.client.log_text(parent.id, text, name))
        self._inputs(parent, record["datasets"])

    def _trial(self, record: Record, runs: StudyRuns) -> None:
        if runs.parent is None:
            self._calls.refuse("trial_started before start", record)
            return
        key = (record["recipe"], record["seed"])
        if key not in runs.children:
            tags = {
                "mlflow.parentRunId": runs.parent.id,
                "titrate.kind": "trial",
                "titrate.recipe": record["recipe"],
                "titrate.seed": str(record["seed"]),
                **record["tags"],
            }
            runs.children[key] = self._runs.create(record["name"], record["at"], tags)
            self._gather(runs.children[key], record["params"], {})
        else:
            self._reopen(runs.children[key])
            self._gather(runs.children[key], record["params"], record["tags"])
        self._inputs(runs.children[key], record["datasets"])

    def _evaluation(self, record: Record, runs: StudyRuns) -> None:
        from mlflow.entities import Metric

        child = self._child(record, runs)
        if child is None:
            return
        batch = self._batches.setdefault(child.id, _Batch())
        batch.metrics += [Metric(k, v, record["at"], record["step"]) for k, v in record["metrics"].items()]
        child.step = max(child.step, record["step"])
        batch.tags["titrate.step"] = str(child.step)

    def _end(self, record: Record, runs: StudyRuns) -> None:
        child = self._child(record, runs)
        if child is None:
            return
        self._gather(child, {}, record["tags"])
        self._flush(child.id)
        if record["traceback"] is not None:
            text = record["traceback"]
            self._calls.attempt_artifact(
                child.id, "traceback.txt", lambda: self._calls.client.log_text(child.id, text, "traceback.txt")
            )
        self._terminate(child, RUN_STATUS[record["status"]], record["at"])

    def _artifact(self, record: Record, runs: StudyRuns) -> None:
        path, folder = record["path"], record["folder"]
        run = runs.parent if record["trial"] is None else runs.children.get(tuple(record["trial"]))
        if run is None or not Path(path).exists():
            self._calls.refuse("no such file" if run else "artifact before the start of its run", record)
            return
        known = run.id
        self._calls.attempt_artifact(known, path, lambda: self._calls.client.log_artifact(known, path, folder))

    def _progress(self, record: Record, runs: StudyRuns) -> None:
        from mlflow.entities import Metric

        if runs.parent is None:
            self._calls.refuse("progress before start", record)
            return
        batch = self._batches.setdefault(runs.parent.id, _Batch())
        batch.metrics += [Metric(k, v, record["at"], record["step"]) for k, v in record["metrics"].items()]

    def _describe(self, record: Record, runs: StudyRuns) -> None:
        if runs.parent is None:
            self._calls.refuse("description before start", record)
            return
        self._gather(runs.parent, {}, {NOTE: record["text"]})

    def _finish(self, record: Record, runs: StudyRuns) -> None:
        if runs.parent is None:
            self._calls.refuse("finish before start", record)
            return
        for child in runs.children.values():
            if child.status == "RUNNING":  # of a killed process, or interrupted now
                self._gather(child, {}, {STATUS: "stopped", "titrate.status": "stopped"})
                self._flush(child.id)
                self._terminate(child, "KILLED", record["at"])
        self._gather(runs.parent, {}, {"titrate.state": record["state"]})
        self._flush(runs.parent.id)
        self._terminate(runs.parent, RUN_STATUS[record["state"]], record["at"])

    def _child(self, record: Record, runs: StudyRuns) -> KnownRun | None:
        child = runs.children.get((record["recipe"], record["seed"]))
        if child is None:
            self._calls.refuse("no trial_started came before", record)
        return child

    def _reopen(self, run: KnownRun) -> None:
        if run.status != "RUNNING":
            self._calls.attempt(run.id, lambda: self._calls.client.update_run(run.id, status="RUNNING"))
            run.status = "RUNNING"

    def _terminate(self, run: KnownRun, status: str, at: int) -> None:
        self._calls.attempt(run.id, lambda: self._calls.client.set_terminated(run.id, status=status, end_time=at))
        run.status = status

    def _gather(self, run: KnownRun, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Puts params and tags aside for the run's next flush. MLflow refuses a changed param: it becomes a tag."""
        batch = self._batches.setdefault(run.id, _Batch())
        for name, value in params.items():
            if name not in run.params:
                run.params[name] = batch.params[name] = value
            elif run.params[name] != value:
                batch.tags[f"titrate.changed.{name}"] = value
        batch.tags |= tags

    def _flush(self, run_id: str) -> None:
        batch = self._batches.pop(run_id, None)
        if batch is not None:
            self._calls.log(run_id, batch.metrics, batch.params, batch.tags)

    def _inputs(self, run: KnownRun, facts: Sequence[Mapping[str, Any]]) -> None:
        """The packs as dataset inputs, those that the run does not have yet, in one call.

        MLflow takes 36 characters of a digest; source and profile have it whole. Of inputs with the same name and
        digest it keeps the first alone, so a pack with two uses is one input whose context names both.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        missing: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for fact in facts:
            key = (fact["name"], fact["digest"][:36])
            if key not in run.inputs:
                missing.setdefault(key, []).append(fact)
        inputs = [
            DatasetInput(
                Dataset(
                    name,
                    digest,
                    source_type="local",
                    source=json.dumps({"uri": uses[0]["source"], "digest": uses[0]["digest"]}),
                    profile=json.dumps({"num_rows": uses[0]["num_rows"], "digest": uses[0]["digest"]}),
                ),
                [InputTag("mlflow.data.context", ", ".join(dict.fromkeys(use["context"] for use in uses)))],
            )
            for (name, digest), uses in missing.items()
        ]
        if inputs:
            self._calls.attempt(run.id, lambda: self._calls.client.log_inputs(run.id, datasets=inputs))
            run.inputs |= missing.keys()
