"""Writer: turns the tracker's records into MLflow calls, each of which may be made twice and changes nothing then.

It decides what is an outage (an exception: the records are kept and written again) and what MLflow will never take
(logged, counted and left out, so that one bad name holds nothing back).
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.uri import redacted
from search.spool import Record

log = logging.getLogger("titrate.tracking")

RUN_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "interrupted": "KILLED"}
MAX_METRICS = 800  # of one call: MLflow takes 1000 metrics, params and tags together,
MAX_PARAMS = MAX_TAGS = 100  # and 100 of each of these
ARTIFACT_TRIES = 3
# Answers that stay the same however often one asks; everything else is an outage and is waited out.
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}


class TrackingError(ValueError):
    """MLflow cannot be used as configured; one line that names the URI and what to do."""


@dataclass
class _Run:
    """What is known of a run in MLflow, so that nothing is asked twice."""

    id: str
    status: str
    params: dict[str, str]
    step: int = -1
    inputs: set[tuple[str, str]] = field(default_factory=set)  # name and digest of each dataset, as MLflow has them


@dataclass
class _Runs:
    """The runs of one study: its parent, once there is one, and its children by recipe and seed."""

    parent: _Run | None = None
    children: dict[tuple[str, int], _Run] = field(default_factory=dict)


@dataclass
class _Batch:
    metrics: list[Any] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Writer:
    """Turns records into MLflow calls. Every record may be written again: the second time changes nothing."""

    def __init__(self, uri: str, experiment: str, search: str, artifact_root: str | None) -> None:
        self.uri = uri
        self.refused = 0
        self._experiment = experiment
        self._search = search
        self._artifact_root = artifact_root
        self._client: Any = None
        self._experiment_id: str = ""
        self._loaded = False
        self._runs: dict[str, _Runs] = {}  # by study
        self._batches: dict[str, _Batch] = {}
        self._artifact_failures: dict[tuple[str, str], int] = {}

    def load(self) -> None:
        """Finds or creates the experiment, and forgets what was known of runs."""
        from mlflow import MlflowClient  # seconds to import, and only the driver needs it

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:  # else the terminal shows how MLflow makes its tables
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
        if self._client is None:
            if self.uri.startswith("sqlite:///"):
                Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self._client = MlflowClient(tracking_uri=self.uri)
        self._experiment_id = self._find_experiment()
        self._runs.clear()
        self._loaded = True

    def _runs_of(self, study: str) -> _Runs:
        """The runs that MLflow has of a study of this search: two reads the first time, however many runs."""
        if study not in self._runs:
            runs = _Runs()
            for run in self._search_runs("tags.\"titrate.kind\" = 'search'"):
                tags = run.data.tags
                if (tags.get("titrate.search"), tags.get("titrate.study")) == (self._search, study):
                    runs.parent = _known(run)
                    break
            if runs.parent is not None:
                for run in self._search_runs(f"tags.mlflow.parentRunId = '{runs.parent.id}'"):
                    tags = run.data.tags
                    if "titrate.recipe" in tags and "titrate.seed" in tags:
                        runs.children.setdefault((tags["titrate.recipe"], int(tags["titrate.seed"])), _known(run))
            self._runs[study] = runs
        return self._runs[study]

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            root = self._artifact_root
            if root is None and self.uri.startswith("sqlite:///"):
                root = str(Path(self.uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts")
            return str(self._client.create_experiment(self._experiment, artifact_location=root))
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"MLflow experiment {self._experiment!r} at {redacted(self.uri)} must be active, but it is "
                f"{found.lifecycle_stage}; run `mlflow experiments restore -x {found.experiment_id}` or name another"
            )
        return str(found.experiment_id)

    def _search_runs(self, query: str) -> Iterator[Any]:
        """The experiment's runs that match, oldest first."""
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], query, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def write(self, records: Sequence[Record]) -> None:
        """All of the records, or an exception: then write all of them again later."""
        self._batches.clear()
        try:
            if not self._loaded:
                self.load()
            for record in records:
                getattr(self, f"_{record['op']}")(record, self._runs_of(record["study"]))
            for run_id in list(self._batches):
                self._flush(run_id)
        except Exception:
            self._loaded = False  # a call whose answer was lost may have created a run: look before the retry
            raise

    def _start(self, record: Record, runs: _Runs) -> None:
        tags = {**record["tags"], "titrate.state": "running"}
        parent = runs.parent
        if parent is None:
            found_by = {"titrate.kind": "search", "titrate.study": record["study"]}
            parent = runs.parent = self._create(self._search, record["at"], found_by)
        self._reopen(parent)
        self._gather(parent, record["params"], tags)
        self._flush(parent.id)
        name, text = record["config"]
        self._artifact_call(parent, name, lambda: self._client.log_text(parent.id, text, name))
        self._inputs(parent, record["datasets"])

    def _trial(self, record: Record, runs: _Runs) -> None:
        if runs.parent is None:
            self._refuse("trial_started before start", record)
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
            runs.children[key] = self._create(record["name"], record["at"], tags)
            self._gather(runs.children[key], record["params"], {})
        else:
            self._reopen(runs.children[key])
            self._gather(runs.children[key], record["params"], record["tags"])
        self._inputs(runs.children[key], record["datasets"])

    def _evaluation(self, record: Record, runs: _Runs) -> None:
        from mlflow.entities import Metric

        child = self._child(record, runs)
        if child is None:
            return
        batch = self._batches.setdefault(child.id, _Batch())
        batch.metrics += [Metric(k, v, record["at"], record["step"]) for k, v in record["metrics"].items()]
        child.step = max(child.step, record["step"])
        batch.tags["titrate.step"] = str(child.step)

    def _end(self, record: Record, runs: _Runs) -> None:
        child = self._child(record, runs)
        if child is None:
            return
        self._gather(child, {}, record["tags"])
        self._flush(child.id)
        if record["traceback"] is not None:
            text = record["traceback"]
            self._artifact_call(child, "traceback.txt", lambda: self._client.log_text(child.id, text, "traceback.txt"))
        self._terminate(child, RUN_STATUS[record["status"]], record["at"])

    def _artifact(self, record: Record, runs: _Runs) -> None:
        parent, path = runs.parent, record["path"]
        if parent is None or not Path(path).exists():
            self._refuse("no such file" if parent else "artifact before start", record)
            return
        self._artifact_call(parent, path, lambda: self._client.log_artifact(parent.id, path))

    def _finish(self, record: Record, runs: _Runs) -> None:
        if runs.parent is None:
            self._refuse("finish before start", record)
            return
        for child in runs.children.values():
            if child.status == "RUNNING":  # of a killed process, or interrupted now
                self._gather(child, {}, {"titrate.status": "stopped"})
                self._flush(child.id)
                self._terminate(child, "KILLED", record["at"])
        self._gather(runs.parent, {}, {"titrate.state": record["state"]})
        self._flush(runs.parent.id)
        self._terminate(runs.parent, RUN_STATUS[record["state"]], record["at"])

    def _child(self, record: Record, runs: _Runs) -> _Run | None:
        child = runs.children.get((record["recipe"], record["seed"]))
        if child is None:
            self._refuse("no trial_started came before", record)
        return child

    def _create(self, name: str, at: int, tags: dict[str, str]) -> _Run:
        tags = {**tags, "titrate.search": self._search}
        run = self._client.create_run(self._experiment_id, start_time=at, tags=tags, run_name=name)
        return _Run(run.info.run_id, "RUNNING", {})

    def _reopen(self, run: _Run) -> None:
        if run.status != "RUNNING":
            self._call(run, lambda: self._client.update_run(run.id, status="RUNNING"))
            run.status = "RUNNING"

    def _terminate(self, run: _Run, status: str, at: int) -> None:
        self._call(run, lambda: self._client.set_terminated(run.id, status=status, end_time=at))
        run.status = status

    def _gather(self, run: _Run, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Puts params and tags aside for the run's next flush. MLflow refuses a changed param: it becomes a tag."""
        batch = self._batches.setdefault(run.id, _Batch())
        for name, value in params.items():
            if name not in run.params:
                run.params[name] = batch.params[name] = value
            elif run.params[name] != value:
                batch.tags[f"titrate.changed.{name}"] = value
        batch.tags |= tags

    def _flush(self, run_id: str) -> None:
        from mlflow.entities import Param, RunTag

        batch = self._batches.pop(run_id, None)
        if batch is None:
            return
        params = [Param(name, value) for name, value in batch.params.items()]
        tags = [RunTag(name, value) for name, value in batch.tags.items()]
        metrics = batch.metrics
        while metrics or params or tags:
            self._log_batch(run_id, metrics[:MAX_METRICS], params[:MAX_PARAMS], tags[:MAX_TAGS])
            metrics, params, tags = metrics[MAX_METRICS:], params[MAX_PARAMS:], tags[MAX_TAGS:]

    def _log_batch(self, run_id: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        """One call. If MLflow refuses it, its halves are tried, so that one bad name costs itself alone."""
        try:
            self._client.log_batch(run_id, metrics, params, tags, synchronous=True)
        except Exception as error:
            if not _is_refusal(error):
                raise
            kinds: tuple[tuple[list[Any], list[Any], list[Any]], ...] = (
                (metrics, [], []),
                ([], params, []),
                ([], [], tags),
            )
            parts = [kind for kind in kinds if any(kind)]
            if len(parts) == 1:
                items = metrics or params or tags
                if len(items) == 1:
                    self._refuse(brief(error), {"run": run_id, "item": str(items[0])})
                    return
                middle = len(items) // 2
                (m, p, t) = parts[0]
                parts = [(m[:middle], p[:middle], t[:middle]), (m[middle:], p[middle:], t[middle:])]
            for part in parts:
                self._log_batch(run_id, *part)

    def _inputs(self, run: _Run, facts: Sequence[Mapping[str, Any]]) -> None:
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
            self._call(run, lambda: self._client.log_inputs(run.id, datasets=inputs))
            run.inputs |= missing.keys()

    def _call(self, run: _Run, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            if not _is_refusal(error):
                raise
            self._refuse(brief(error), {"run": run.id})

    def _artifact_call(self, run: _Run, name: str, call: Callable[[], Any]) -> None:
        """Artifacts may live elsewhere (a bucket without credentials here) and fail without stopping the rest."""
        try:
            call()
        except Exception as error:
            self._client.get_experiment(self._experiment_id)  # raises when it is MLflow itself that is away
            tries = self._artifact_failures[run.id, name] = self._artifact_failures.get((run.id, name), 0) + 1
            if tries < ARTIFACT_TRIES and not _is_refusal(error):
                raise
            self._refuse(f"artifact {name}: {brief(error)}", {"run": run.id})

    def _refuse(self, why: str, record: Record) -> None:
        self.refused += 1
        log.warning("MLflow does not take a record: %s (%.300s)", why, record)


def _known(run: Any) -> _Run:
    inputs = {(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
    step = int(run.data.tags.get("titrate.step", -1))
    return _Run(run.info.run_id, run.info.status, dict(run.data.params), step, inputs)


def _is_refusal(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in REFUSALS


def brief(error: BaseException) -> str:
    """The first line of an error, with its type and without passwords: MLflow's run over many lines."""
    lines = redacted(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
