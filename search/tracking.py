"""Tracker: shows a search in MLflow, without ever making the search wait for it.

The study says what was asked and the store what was trained; MLflow shows it, so it may lag and must not
interfere. Every call appends one JSON line to a spool file and returns; a daemon thread sends the lines in
order and in batches. During an outage, or after a kill, the lines stay in the spool and are sent later, by
this process or by the next. Sending twice is harmless: runs are found again by tag, a metric carries the time
of its evaluation (MLflow keeps one row per run, metric, step, time and value), and facts that change are tags.

One parent run per search and study, one child run per (recipe, replicate); `analysis/runs.py` reads what is written
here. A search that is thrown away and started anew has another study, hence another parent: the recipes of both may
be the same, but not their steps or data. Every record names its study, so that what an older one left in the spool
still goes to its own runs.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from datasets.uri import redacted
from search.mlflow_calls import TrackingError, brief
from search.mlflow_writer import Writer
from search.run_labels import COST, STATUS, filter_tags, run_name
from search.spool import Spool
from trainables.recipe import Recipe

log = logging.getLogger("titrate.tracking")

Status = Literal["finished", "failed", "stopped"]
State = Literal["finished", "interrupted"]

NOTE_CHARS = 5000  # of a description; MLflow takes 8,000 of a tag, its older servers 5,000
IDLE_S = 1.0  # how often a snapshot of a search is looked for that has nothing else to send
RETRY_SECONDS = (1.0, 15.0)  # the first wait in an outage, and the longest


@dataclass(frozen=True)
class DatasetFact:
    """A pack as an MLflow dataset input: its name, what it is used as ("train", "val"), its digest, path and length."""

    name: str
    context: str
    digest: str
    source: str
    num_rows: int


def default_uri(results: Path) -> str:
    """The SQLite database `mlflow.db` in the results folder; artifacts go beside it, into `mlartifacts`."""
    return f"sqlite:///{results.absolute() / 'mlflow.db'}"


class Tracker:
    """Writes one search to MLflow. Used by the driver alone: one Tracker per search and spool file at a time.

    All methods but `connect`, `flush` and `finish` return at once and raise for no outage of MLflow.
    """

    def __init__(
        self, uri: str, experiment: str, search: str, spool: Path, *, artifact_root: str | None = None
    ) -> None:
        """`artifact_root` is where a new experiment keeps artifacts; None leaves it to a server, and for SQLite
        means `mlartifacts` beside the database."""
        self._spool = Spool(spool)
        self._writer = Writer(uri, experiment, search, artifact_root)
        self._study = ""
        self._live: deque[str] = deque(maxlen=1)
        self._thread: threading.Thread | None = None
        self._finishing = threading.Event()
        self._closed = threading.Event()

    def connect(self) -> None:
        """Reaches MLflow once, creating database and experiment; starts sending, first what a process before left.

        Raises TrackingError after seconds, not minutes, when MLflow cannot be reached or the experiment not be used.
        For this MLflow's own retries (four minutes a call) are set to none and its timeout to 20 s, in the
        environment and only where it does not set them: the spool is what retries. MLflow is kept off the terminal
        in the same way: its INFO lines, and the link that it prints for each run that a server ends.
        """
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        try:
            self._writer.load()
        except TrackingError:
            raise
        except Exception as error:
            raise TrackingError(
                f"MLflow must be reachable at {redacted(self._writer.uri)} when a search starts, but: {brief(error)}"
                "; start it (`mlflow server`), or correct `tracking:` or MLFLOW_TRACKING_URI"
            ) from error
        self._thread = threading.Thread(target=self._send, name="titrate-tracking", daemon=True)
        self._thread.start()

    def start(
        self,
        study: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        config_text: str,
        config_name: str,
        datasets: Sequence[DatasetFact] = (),
    ) -> None:
        """The search runs (again): its params, tags (`titrate.metric` and `titrate.mode` too), file and packs.

        `study` is the identity of its Optuna study, made with it: with the same one the search goes on in the runs
        that MLflow has of it, with another it begins anew. It comes before all other calls.
        """
        self._study = study
        self._append(
            "start",
            params=_texts(params),
            tags=_texts(tags),
            config=[config_name, config_text],
            datasets=[asdict(fact) for fact in datasets],
        )

    def trial_started(
        self,
        recipe: Recipe,
        seed: int,
        number: int,
        facts: Mapping[str, int | str],
        datasets: Sequence[DatasetFact] = (),
    ) -> None:
        """A replicate of a recipe runs (again), on the packs `datasets`.

        `facts` are params: what never changes, such as num_real_labels.
        """
        self._append(
            "trial",
            recipe=recipe.key,
            seed=seed,
            name=run_name(recipe, seed, number),
            params=_texts({**recipe.params(), "seed": seed, **facts}),
            tags={
                **filter_tags(recipe, seed),
                STATUS: "running",
                "titrate.number": str(number),
                "titrate.status": "running",
            },
            datasets=[asdict(fact) for fact in datasets],
        )

    def evaluation(
        self, recipe_key: str, seed: int, step: int, metrics: Mapping[str, float], timestamp_ms: int
    ) -> None:
        """Metrics at a step of the last stage. The time is that of the evaluation in the store. NaN is kept as NaN."""
        values = {name: float(value) for name, value in metrics.items()}
        self._append("evaluation", at=timestamp_ms, recipe=recipe_key, seed=seed, step=step, metrics=values)

    def trial_ended(
        self,
        recipe_key: str,
        seed: int,
        status: Status,
        *,
        traceback: str | None = None,
        facts: Mapping[str, int | str] | None = None,
    ) -> None:
        """A replicate ended. `facts` become tags `titrate.<name>`: what may change, such as steps_trained.

        `steps_trained` becomes the tag `cost` too. A traceback becomes the artifact traceback.txt, and its last line
        the tag titrate.error.
        """
        tags: dict[str, str] = {STATUS: status, "titrate.status": status}
        tags |= {f"titrate.{name}": str(value) for name, value in (facts or {}).items()}
        if facts and "steps_trained" in facts:
            tags[COST] = str(facts["steps_trained"])
        if traceback is not None:
            tags["titrate.error"] = (traceback.strip().splitlines() or [""])[-1][:500]
        self._append("end", recipe=recipe_key, seed=seed, status=status, tags=tags, traceback=traceback)

    def artifact(self, path: Path, folder: str | None = None, trial: tuple[str, int] | None = None) -> None:
        """A file of the search (a figure, the report), read when it is sent; one of the same name is replaced.

        folder  of artifacts that it goes into
        trial   the recipe's key and seed whose file it is; None: the whole search's
        """
        self._append("artifact", path=str(path.absolute()), folder=folder, trial=trial)

    def progress(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of the whole search, now: how good the best recipe is, and what was spent for it."""
        self._append("progress", metrics={name: float(value) for name, value in metrics.items()}, step=step)

    def describe(self, text: str) -> None:
        """The description of the search's run, in Markdown, as MLflow shows it above everything else. The newest
        counts; a text that is longer than MLflow takes is cut at a line."""
        self._append("describe", text=text if len(text) <= NOTE_CHARS else text[:NOTE_CHARS].rpartition("\n")[0])

    def live(self, text: str) -> None:
        """What the search does now, as the tag `titrate.live` of its run: sent when all records were, or never.

        Only the newest counts: one that was not sent when the next one comes is forgotten, and an outage leaves none.
        """
        self._live.append(text)

    def flush(self, *, timeout: float = 60.0) -> bool:
        """Waits until MLflow has all that was said so far, so that it can be read: at most `timeout` seconds.

        Returns False when it was not in time (an outage); nothing is lost then, and sending goes on. What MLflow
        refuses counts as sent: it is logged, and `finish` returns False for it.
        """
        return self._spool.flush(timeout)

    def finish(self, state: State, *, timeout: float = 60.0) -> bool:
        """Sends everything, ends trials still RUNNING, then the search, and stops. Waits at most `timeout` seconds.

        Returns whether all is in MLflow; what is not stays in the spool for the next process.
        """
        if self._study:  # else nothing was begun, and what is in the spool is of a process before
            self._append("finish", state=state)
        self._finishing.set()
        self._spool.wake()
        if self._thread is not None:
            self._thread.join(timeout)
        self._closed.set()
        self._spool.wake()
        sent = self._spool.close()
        if not sent:
            log.warning("MLflow lacks a part of the search: it is in %s, and the next `run` sends it", self._spool.path)
        return sent and not self._writer.refused

    def _append(self, op: str, **fields: Any) -> None:
        self._spool.append({"op": op, "study": self._study, "at": int(time.time() * 1000), **fields})

    def _send(self) -> None:
        """The thread: chunk after chunk in order, waiting out whatever fails."""
        delay = 0.0
        while not self._closed.is_set():
            try:
                if not self._spool.wait(0.0 if self._finishing.is_set() else IDLE_S):
                    self._send_live()
                    if self._finishing.is_set():
                        return
                    continue
                records, mark = self._spool.read()
                self._writer.write(records)
            except Exception as error:  # noqa: BLE001 (an outage takes many shapes; nothing is lost, and it is logged)
                if not delay:
                    log.warning("MLflow at %s: %s; spooling", redacted(self._writer.uri), brief(error))
                delay = min(max(2 * delay, RETRY_SECONDS[0]), RETRY_SECONDS[1])
                self._closed.wait(delay)
            else:
                if delay:
                    log.warning("MLflow at %s takes records again", redacted(self._writer.uri))
                delay = 0.0
                self._spool.sent(mark)
                self._send_live()

    def _send_live(self) -> None:
        """Sends the newest snapshot of a search that was begun; what fails is forgotten, since a newer one comes."""
        if not self._live or not self._study:
            return
        try:
            self._writer.live(self._study, self._live.pop())
        except Exception as error:  # noqa: BLE001 (as in _send; the next record finds out whether it is an outage)
            log.debug("MLflow at %s: %s; a snapshot is lost", redacted(self._writer.uri), brief(error))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}
