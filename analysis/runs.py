"""Table: a search as tidy rows, one per (recipe, replicate), read from MLflow alone.

Everything that `analysis` says is computed from this table, and each row names its MLflow run, so that every
figure can be traced. `search/tracking.py` writes what is read here.
"""

import gc
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainables.recipe import DOMAINS, DomainName, Recipe

Mode = Literal["max", "min"]
PAGE = 1000  # runs asked of MLflow at a time
COUNTS = ("num_real_labels", "num_real_unlabelled", "num_synthetic")


@dataclass(frozen=True)
class Row:
    """One replicate of one recipe. `metrics` are the last ones logged; `step` is that of its last evaluation."""

    run_id: str
    recipe: Recipe
    seed: int
    number: int
    status: str  # running, finished, failed or stopped
    step: int | None
    metrics: Mapping[str, float]
    num_real_labels: int | None = None
    num_real_unlabelled: int | None = None
    num_synthetic: int | None = None
    steps_alone: int | None = None  # of all its stages, had it been trained alone
    steps_trained: int | None = None  # those that were really trained for it, the rest being shared
    error: str | None = None

    def value(self, metric: str) -> float | None:
        """A metric of a finished replicate; None for others (lower fidelity), and where it is absent or not finite."""
        value = self.metrics.get(metric) if self.status == "finished" else None
        return value if value is not None and math.isfinite(value) else None

    def cost(self, name: str) -> float | None:
        """What a constraint of this name is about: a metric, a number of images, or `steps`."""
        if name.startswith("val/"):
            return self.value(name)
        known: int | None = self.steps_alone if name == "steps" else getattr(self, name)
        return known


@dataclass(frozen=True)
class Table:
    """A search: its objective, how many seeds were asked of each recipe, and its rows by recipe number and seed.

    constraints  what costs and metrics must keep to: {"num_real_labels": {"max": 500}}
    run_id       the search's own MLflow run, "" where the table was not read from MLflow
    """

    search: str
    metric: str
    mode: Mode
    seeds: int
    rows: tuple[Row, ...] = field(repr=False)
    constraints: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    run_id: str = ""

    @property
    def sign(self) -> int:
        """+1 where more is better, -1 where less is: sign * metric is to be maximised."""
        return 1 if self.mode == "max" else -1

    def recipes(self) -> dict[Recipe, tuple[Row, ...]]:
        """The rows of each recipe, in the order of the study."""
        groups: dict[Recipe, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.recipe, []).append(row)
        return {recipe: tuple(rows) for recipe, rows in groups.items()}

    def broken(self, rows: Sequence[Row]) -> str | None:
        """The first constraint that a recipe does not keep to, by the means of its finished rows; None if it keeps all
        that were measured."""
        for name, bound in self.constraints.items():
            values = [value for row in rows if (value := row.cost(name)) is not None]
            if values and not bound.get("min", -math.inf) <= mean(values) <= bound.get("max", math.inf):
                return name
        return None

    @property
    def varied(self) -> tuple[DomainName, ...]:
        """The domains of which the search tried more than one source."""
        tried = {domain: {row.recipe.sources(domain) for row in self.rows} - {()} for domain in DOMAINS}
        return tuple(domain for domain, sources in tried.items() if len(sources) > 1)


def load(search: str, *, tracking_uri: str | None = None, experiment: str | None = None) -> Table:
    """Reads a search, also one that still runs.

    Of several searches with this name, because one was thrown away and started anew or another folder has one too, it
    is the one that began last, and only its own trials: those of the others may have had other steps or data.
    The URI defaults to MLFLOW_TRACKING_URI, then results/mlflow.db under this directory, the experiment to "titrate".
    Raises ValueError, one line, when MLflow cannot be read, or has no such search (it lists those that exist).
    """
    name, shown = experiment or "titrate", _shown(_uri(tracking_uri))
    with connect(tracking_uri) as client:
        found = client.get_experiment_by_name(name)
        if found is None:
            names = sorted(e.name for e in client.search_experiments())
            raise ValueError(f"no MLflow experiment {name!r} at {shown}; there are: {', '.join(names) or 'none'}")
        # MLflow's filters cannot hold every name, so searches are compared here; there are few of them.
        parents = list(_search(client, found.experiment_id, "tags.\"titrate.kind\" = 'search'"))
        named = [run for run in parents if run.data.tags.get("titrate.search") == search]
        if not named:
            names = sorted({run.data.tags.get("titrate.search", "?") for run in parents})
            raise ValueError(
                f"no search {search!r} in experiment {name!r} at {shown}; there are: {', '.join(names) or 'none'}"
            )
        study = named[-1].data.tags.get("titrate.study")
        parent = next(run for run in named if run.data.tags.get("titrate.study") == study)  # as the tracker takes it
        runs = list(_search(client, found.experiment_id, f"tags.mlflow.parentRunId = '{parent.info.run_id}'"))
    tags, params = parent.data.tags, parent.data.params
    if not tags.get("titrate.metric") or tags.get("titrate.mode") not in ("max", "min"):
        raise ValueError(f"search {search!r} (run {parent.info.run_id}) has no tags titrate.metric and titrate.mode")
    unique: dict[tuple[str, int], Row] = {}
    for run in runs:  # oldest first: the one that the tracker goes on with
        if run.data.tags.get("titrate.kind") == "trial" and run.data.params:  # without params: created this moment
            row = _row(run)
            unique.setdefault((row.recipe.key, row.seed), row)
    rows = tuple(sorted(unique.values(), key=lambda row: (row.number, row.recipe.key, row.seed)))
    seeds = int(tags.get("titrate.seeds") or params.get("seeds") or 0) or len({row.seed for row in rows})
    constraints = json.loads(tags.get("titrate.constraints", "{}"))
    return Table(search, tags["titrate.metric"], tags["titrate.mode"], seeds, rows, constraints, parent.info.run_id)


@contextmanager
def connect(tracking_uri: str | None = None) -> Iterator[Any]:
    """MLflow's client. The URI defaults to MLFLOW_TRACKING_URI, then results/mlflow.db under this directory.

    Raises ValueError, one line, when MLflow cannot be read, there or in the body.
    """
    from mlflow import MlflowClient  # takes seconds to import
    from mlflow.exceptions import MlflowException

    if "MLFLOW_LOGGING_LEVEL" not in os.environ:  # a terminal is for the answer
        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.WARNING)
    uri = _uri(tracking_uri)
    shown = _shown(uri)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise ValueError(f"no MLflow database at {shown}; run from the repository's root, or give --tracking-uri")
    # Someone waits at a prompt: not MLflow's four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        yield MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300].replace(uri, shown)
        raise ValueError(f"cannot read MLflow at {shown}: {reason}") from error


def _uri(tracking_uri: str | None) -> str:
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('results/mlflow.db').absolute()}"


def _shown(uri: str) -> str:
    """A URI without its password."""
    return re.sub(r"://[^/@\s]*@", "://***@", uri)


def _search(client: Any, experiment_id: str, query: str) -> Iterator[Any]:
    """The runs that match, oldest first, page by page."""
    token = None
    while True:
        with _without_collector():
            page = client.search_runs(
                [experiment_id], query, max_results=PAGE, order_by=["attributes.start_time ASC"], page_token=token
            )
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def _without_collector() -> Iterator[None]:
    """Without Python's cyclic garbage collector: MLflow makes some sixty objects of each run, and for 5,862 runs of a
    SQLite store the collector walked through them for 10 of 16 seconds."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _row(run: Any) -> Row:
    tags, params = run.data.tags, run.data.params
    try:
        recipe = Recipe.from_params({k: v for k, v in params.items() if k.split(".")[0] in Recipe.model_fields})
        return Row(
            run_id=run.info.run_id,
            recipe=recipe,
            seed=int(tags["titrate.seed"]),
            number=int(tags["titrate.number"]),
            status=tags["titrate.status"],
            step=_integer(tags, "titrate.step"),
            metrics=dict(run.data.metrics),
            **{name: _integer(params, name) for name in COUNTS},
            steps_alone=_integer(tags, "titrate.steps_alone"),
            steps_trained=_integer(tags, "titrate.steps_trained"),
            error=tags.get("titrate.error"),
        )
    except (KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"MLflow run {run.info.run_id} is not a trial of this version: {reason}") from error


def _integer(values: Mapping[str, str], name: str) -> int | None:
    return int(values[name]) if name in values else None


class Replicated:
    """What has a value of each replicate."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def std(self) -> float:
        """Over seeds (n - 1); NaN with one seed."""
        return std(self.values)


def mean(values: Sequence[float]) -> float:
    """The mean; it does not depend on the order of the values."""
    return math.fsum(values) / len(values)


def std(values: Sequence[float]) -> float:
    """The sample standard deviation (n - 1); NaN for a single value, whose spread is unknown."""
    if len(values) < 2:
        return math.nan
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))
