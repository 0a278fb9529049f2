"""status: what a search does, seen from outside its process: its newest snapshot or, without one, study and runs."""

import json
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from rich.console import Console, RenderableType
from rich.live import Live

from analysis import Table, load
from datasets.ordinary import read_bytes
from datasets.settings import line
from datasets.uri import redacted
from search.mlflow_calls import Calls, brief
from search.mlflow_writer import LIVE
from search.publisher import FILE, Snapshot
from search.recorded import of_study, of_table
from search.tracking import default_uri
from search.view import Look, draw, duration, plain_line

SILENT_S = 60.0  # after so long without a word the driver is taken to be dead
FRESH_S = 15.0  # a younger file is the newest word, whatever MLflow has
WATCH_FILE_S, WATCH_MLFLOW_S = 1.0, 10.0

State = Literal["running", "silent", "dead", "finished", "stopped", "unknown"]
GO_ON = "run the same command again to go on"


@dataclass(frozen=True)
class Status:
    """The last word of a search.

    state   "silent" is a driver of which nothing was heard for a while, "dead" one whose process is gone from this
            machine; "unknown" where there is no snapshot
    at      when it was said, in seconds of Unix time; None where it was put together from study and runs
    source  where it was read, and `driver` who said it
    """

    search: str
    metric: str
    state: State
    at: float | None
    source: str
    driver: str
    look: Look

    @property
    def over(self) -> bool:
        return self.state not in ("running", "silent")

    def sentence(self) -> str:
        """`faces: running, as of 2 s ago`, and what to do where it is not."""
        ago = duration(max(0.0, time.time() - self.at)) if self.at is not None else ""
        said = {
            "running": f"running, as of {ago} ago ({self.driver})",
            "silent": f"last word {ago} ago ({self.driver}): the driver may be dead; {GO_ON}",
            "dead": f"last word {ago} ago: the driver ({self.driver}) is dead; {GO_ON}",
            "finished": f"finished {ago} ago",
            "stopped": f"stopped {ago} ago; {GO_ON}",
            "unknown": f"no word of a driver, but what is in {self.source}",
        }
        return f"{self.search}: {said[self.state]}"

    def plain(self) -> dict[str, Any]:
        """All of it as values of JSON."""
        age = None if self.at is None else round(time.time() - self.at, 1)
        return {**vars(self), "age_s": age}


def show(search: str, results: Path, tracking: str | None, console: Console, *, as_json: bool, watch: bool) -> None:
    """Prints the status of a search, again and again with `watch` until the search is over or Ctrl-C.

    Raises ValueError, one line, where nothing is known of the search.
    """
    if as_json and watch:
        raise ValueError("--json must be given without --watch, but both are; ask again as often as you like")
    status = read(search, results, tracking)
    if as_json:
        print(json.dumps(status.plain(), indent=1))
        return
    if not watch:
        console.print(_drawn(status, console))
        return
    if console.is_terminal:
        with Live(_drawn(status, console), console=console, auto_refresh=False) as live:
            while not status.over:
                time.sleep(_pause(status))
                status = read(search, results, tracking)
                live.update(_drawn(status, console), refresh=True)
        return
    while True:
        line = f"{status.sentence()}; {plain_line(status.look, status.metric)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        if status.over:
            return
        time.sleep(WATCH_MLFLOW_S)
        status = read(search, results, tracking)


def read(search: str, results: Path, tracking: str | None = None) -> Status:
    """The status of a search: from RESULTS/SEARCH/status.json while it is fresh, else from the tag of its MLflow run
    where that is newer, else from its study and its runs.

    tracking  MLflow's URI; None is MLFLOW_TRACKING_URI where it is set, else the database in the results folder

    Raises ValueError, one line that says where it looked, when there is nothing of the search.
    """
    if not search or search[0] in "-." or not all(c.isalnum() or c in "-_." for c in search):
        raise ValueError(f"a search is known by its name, letters, digits, '-', '_' or '.', but got {search!r}")
    folder = results.resolve() / search
    said = _file(folder / FILE)
    remote = tracking or os.environ.get("MLFLOW_TRACKING_URI")
    if said is not None and (remote is None or said["state"] != "running" or time.time() - said["at"] < FRESH_S):
        return _status(said, str(folder / FILE))
    uri = remote or default_uri(results)
    looked = [] if said else [f"no {folder / FILE}"]
    try:
        tagged, experiment = _tag(uri, search)
    except _Absent as absent:
        tagged, experiment = None, None
        looked.append(str(absent))
    if tagged is not None and (said is None or tagged["at"] > said["at"]):
        return _status(tagged, f"MLflow at {redacted(uri)}")
    if said is not None:
        return _status(said, str(folder / FILE))
    table = load(search, tracking_uri=uri, experiment=experiment) if experiment is not None else None
    return _put_together(search, folder / "study.db", table, redacted(uri), looked)


class _Absent(Exception):
    """Why MLflow says nothing of a search."""


def _file(path: Path) -> Snapshot | None:
    try:
        return _snapshot(read_bytes(path), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path} must be a snapshot of a search, but: {error}; remove it") from None


def _snapshot(text: str | bytes, where: str) -> Snapshot:
    try:
        return TypeAdapter(Snapshot).validate_json(text)
    except ValidationError as error:
        problems = error.errors()
        absent = sorted(str(one["loc"][0]) for one in problems if one["type"] == "missing" and len(one["loc"]) == 1)
        absent = absent if problems[0]["loc"] else sorted(Snapshot.__required_keys__)
        field = line(".".join(map(str, problems[0]["loc"])), 100)
        wrong = f"lacks {', '.join(absent)}" if absent else f"{field} is wrong: {problems[0]['msg']}"
        raise ValueError(f"{where} must be a snapshot of a search, but {wrong}; remove it") from None


def _tag(uri: str, search: str) -> tuple[Snapshot | None, str | None]:
    """The newest snapshot in MLflow, and the experiment of the search that began last. Raises _Absent without any."""
    shown = redacted(uri)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise _Absent(f"no MLflow database at {shown}")  # the client would make one
    from mlflow.exceptions import MlflowException  # takes seconds to import

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # someone waits at a prompt
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        calls = Calls(uri)
        calls.open()
        experiments = {one.experiment_id: one.name for one in calls.client.search_experiments()}
        query = f"tags.\"titrate.kind\" = 'search' and tags.\"titrate.search\" = '{search}'"
        newest_first = ["attributes.start_time DESC"]
        runs = calls.client.search_runs(list(experiments), query, order_by=newest_first) if experiments else []
    except MlflowException as error:
        raise _Absent(f"MLflow at {shown} cannot be read ({brief(error)})") from error
    if not runs:
        raise _Absent(f"no run of it in MLflow at {shown}")
    tags = [run.data.tags[LIVE] for run in runs if LIVE in run.data.tags]
    snapshots = [_snapshot(text, f"the tag {LIVE} in MLflow at {shown}") for text in tags]
    newest = max(snapshots, key=lambda one: one["at"], default=None)
    return newest, experiments[runs[0].info.experiment_id]


def _status(said: Snapshot, source: str) -> Status:
    state: State = said["state"]
    age = time.time() - said["at"]
    # A young word is of a live driver, even where another machine has this one's name.
    if state == "running" and age > FRESH_S and said["host"] == socket.gethostname() and not _lives(said["pid"]):
        state = "dead"
    elif state == "running" and age > SILENT_S:
        state = "silent"
    driver = f"process {said['pid']} on {said['host']}"
    return Status(said["search"], said["metric"], state, said["at"], source, driver, said["look"])


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def _put_together(search: str, study: Path, table: Table | None, uri: str, looked: list[str]) -> Status:
    """What the study says of recipes, and MLflow of runs."""
    sources, look, metric = [], Look(), ""
    if table is not None:
        metric = table.metric
        look = {"summary": of_table(table), "runs": Counter(row.status for row in table.rows)}
        sources.append(f"MLflow at {uri}")
    if study.exists():
        texts = {row.recipe.key: str(row.recipe) for row in table.rows} if table else {}
        summary, asked = of_study(search, study, texts)
        look["summary"], metric = summary, metric or asked
        sources.insert(0, str(study))
    if not sources:
        raise ValueError(f"no search {search!r} is known: {'; '.join(looked)}; and no {study}")
    return Status(search, metric, "unknown", None, " and ".join(sources), "", look)


def _drawn(status: Status, console: Console) -> RenderableType:
    return draw(status.look, status.metric, console, [status.sentence()])


def _pause(status: Status) -> float:
    return WATCH_FILE_S if status.source.endswith(FILE) else WATCH_MLFLOW_S
