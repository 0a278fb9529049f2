"""Runs: the experiment of a search in MLflow, and what is known of the runs there, so that nothing is asked twice."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.uri import redacted
from search.mlflow_calls import Calls, TrackingError

KIND = {"mlflow.experimentKind": "custom_model_development"}  # else MLflow's pages take runs for evaluations of agents


@dataclass
class KnownRun:
    """What MLflow has of a run. `step` is the last evaluation's, -1 before any."""

    id: str
    status: str
    params: dict[str, str]
    step: int = -1
    inputs: set[tuple[str, str]] = field(default_factory=set)  # name and digest of each dataset, as MLflow has them


@dataclass
class StudyRuns:
    """The runs of one study: its parent, once there is one, and its children by recipe and seed."""

    parent: KnownRun | None = None
    children: dict[tuple[str, int], KnownRun] = field(default_factory=dict)


class Runs:
    """The runs of one search, by study, in an experiment that `load` finds or creates."""

    def __init__(self, calls: Calls, experiment: str, search: str, artifact_root: str | None) -> None:
        self._calls = calls
        self._experiment = experiment
        self._search = search
        self._artifact_root = artifact_root
        self._experiment_id = ""
        self._studies: dict[str, StudyRuns] = {}

    def load(self) -> None:
        """Finds or creates the experiment, and forgets what was known of runs.

        Raises TrackingError for an experiment that was deleted.
        """
        self._experiment_id = self._find_experiment()
        self._studies.clear()

    def of(self, study: str) -> StudyRuns:
        """The runs that MLflow has of a study of this search: two reads the first time, however many runs."""
        if study not in self._studies:
            runs = StudyRuns()
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
            self._studies[study] = runs
        return self._studies[study]

    def create(self, name: str, at: int, tags: dict[str, str]) -> KnownRun:
        """A new run of the search, which began `at` (milliseconds of Unix time)."""
        tags = {**tags, "titrate.search": self._search}
        run = self._calls.client.create_run(self._experiment_id, start_time=at, tags=tags, run_name=name)
        return KnownRun(run.info.run_id, "RUNNING", {})

    def _find_experiment(self) -> str:
        found = self._calls.client.get_experiment_by_name(self._experiment)
        if found is None:
            root = self._artifact_root
            if root is None and self._calls.uri.startswith("sqlite:///"):
                root = str(Path(self._calls.uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts")
            return str(self._calls.client.create_experiment(self._experiment, artifact_location=root, tags=KIND))
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"MLflow experiment {self._experiment!r} at {redacted(self._calls.uri)} must be active, but it is "
                f"{found.lifecycle_stage}; run `mlflow experiments restore -x {found.experiment_id}` or name another"
            )
        return str(found.experiment_id)

    def _search_runs(self, query: str) -> Iterator[Any]:
        """The experiment's runs that match, oldest first."""
        token = None
        while True:
            page = self._calls.client.search_runs(
                [self._experiment_id], query, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return


def _known(run: Any) -> KnownRun:
    inputs = {(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
    step = int(run.data.tags.get("titrate.step", -1))
    return KnownRun(run.info.run_id, run.info.status, dict(run.data.params), step, inputs)
