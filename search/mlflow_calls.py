"""Calls: MLflow's client, raising for an outage alone. What MLflow will never take is logged, counted and left out.

So one bad name holds nothing back. Everything else that fails is an outage: the records are kept and written again.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.uri import redacted
from search.spool import Record

log = logging.getLogger("titrate.tracking")

MAX_METRICS = 800  # of one call: MLflow takes 1000 metrics, params and tags together,
MAX_PARAMS = MAX_TAGS = 100  # and 100 of each of these
ARTIFACT_TRIES = 3
# Answers that stay the same however often one asks; everything else is an outage and is waited out.
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}


class TrackingError(ValueError):
    """MLflow cannot be used as configured; one line that names the URI and what to do."""


class Calls:
    """Calls to the MLflow at `uri`. `refused` counts what it did not take; `client` is there after `open`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.refused = 0
        self.client: Any = None
        self._artifact_failures: dict[tuple[str, str], int] = {}

    def open(self) -> None:
        """Makes the client, and the folder of a SQLite database."""
        from mlflow import MlflowClient  # seconds to import, and only the driver needs it

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:  # else the terminal shows how MLflow makes its tables
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
        if self.client is None:
            if self.uri.startswith("sqlite:///"):
                Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self.client = MlflowClient(tracking_uri=self.uri)

    def log(self, run_id: str, metrics: Sequence[Any], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """MLflow's Metrics, params and tags of a run, in as few calls as it takes them."""
        from mlflow.entities import Param, RunTag

        metrics = list(metrics)
        some = [Param(name, value) for name, value in params.items()]
        more = [RunTag(name, value) for name, value in tags.items()]
        while metrics or some or more:
            self._log_batch(run_id, metrics[:MAX_METRICS], some[:MAX_PARAMS], more[:MAX_TAGS])
            metrics, some, more = metrics[MAX_METRICS:], some[MAX_PARAMS:], more[MAX_TAGS:]

    def _log_batch(self, run_id: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        """One call. If MLflow refuses it, its halves are tried, so that one bad name costs itself alone."""
        try:
            self.client.log_batch(run_id, metrics, params, tags, synchronous=True)
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
                    self.refuse(brief(error), {"run": run_id, "item": str(items[0])})
                    return
                middle = len(items) // 2
                (m, p, t) = parts[0]
                parts = [(m[:middle], p[:middle], t[:middle]), (m[middle:], p[middle:], t[middle:])]
            for part in parts:
                self._log_batch(run_id, *part)

    def attempt(self, run_id: str, call: Callable[[], Any]) -> None:
        """A call about a run; a refusal of it is counted."""
        try:
            call()
        except Exception as error:
            if not _is_refusal(error):
                raise
            self.refuse(brief(error), {"run": run_id})

    def attempt_artifact(self, run_id: str, name: str, call: Callable[[], Any]) -> None:
        """Artifacts may live elsewhere (a bucket without credentials here) and fail without stopping the rest."""
        try:
            call()
        except Exception as error:
            self.client.search_experiments(max_results=1)  # raises when it is MLflow itself that is away
            tries = self._artifact_failures[run_id, name] = self._artifact_failures.get((run_id, name), 0) + 1
            if tries < ARTIFACT_TRIES and not _is_refusal(error):
                raise
            self.refuse(f"artifact {name}: {brief(error)}", {"run": run_id})

    def refuse(self, why: str, record: Record) -> None:
        """Counts what is left out, and says so."""
        self.refused += 1
        log.warning("MLflow does not take a record: %s (%.300s)", why, record)


def _is_refusal(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in REFUSALS


def brief(error: BaseException) -> str:
    """The first line of an error, with its type and without passwords: MLflow's run over many lines."""
    lines = redacted(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
