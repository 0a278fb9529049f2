"""The publisher: what a running search does, written where other processes and machines read it (search/status.py).

A snapshot goes to RESULTS/NAME/status.json each second and, shortened, into a tag of the search's MLflow run now and
then. How far it came becomes metrics of that run, so that MLflow draws them over time. None of this is ever read by a
search, so none may stop one: what fails is logged once, and tried again.
"""

import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from typing_extensions import TypedDict  # which pydantic reads

from search.view import Look, busy_first

log = logging.getLogger(__name__)

FILE = "status.json"
FILE_EVERY_S = 1.0
TAG_EVERY_S = 10.0
PROGRESS_EVERY_S = 60.0
TAG_CHARS = 5000  # MLflow takes no more of a tag
JOIN_S = 10.0  # how long a look that hangs is waited for at the end

State = Literal["running", "finished", "stopped"]


class Snapshot(TypedDict):
    """A look at a search, when it was taken (seconds of Unix time), and by which process of which machine.

    state  "stopped" before its end: run it again
    """

    search: str
    metric: str
    state: State
    at: float
    host: str
    pid: int
    look: Look


class Live(Protocol):
    """Where shortened snapshots and metrics of the whole search go (search/tracking.py)."""

    def live(self, text: str) -> None: ...

    def progress(self, metrics: dict[str, float], step: int) -> None: ...


class Publisher:
    """Publishes what `look` returns until it is closed. Use as a context manager.

    look     called from the publisher's thread, and once more at the end
    folder   RESULTS/NAME
    """

    def __init__(self, look: Callable[[], Look], folder: Path, tracker: Live, *, search: str, metric: str) -> None:
        self._look = look
        self._path = folder / FILE
        self._tracker = tracker
        self._search = search
        self._metric = metric
        self._last: Look = {}
        self._told: dict[str, float] = {}
        self._logged: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def __enter__(self) -> "Publisher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(JOIN_S)
        if not self._thread.is_alive():
            self._attempt("look", self._look_again)
        summary = self._last.get("summary", {})
        finished = "recipes" in summary and summary.get("ended", 0) >= summary["recipes"]
        over: Look = {"summary": summary}  # and nothing of what ends now
        if "stages" in self._last:
            over["stages"] = {**self._last["stages"], "now": [], "training": 0}
        if "cost" in self._last:
            over["cost"] = self._last["cost"]
        self._publish("finished" if finished else "stopped", over, tag=True)
        self._attempt("metrics", self._tell_progress)

    def _run(self) -> None:
        tagged = told = -max(TAG_EVERY_S, PROGRESS_EVERY_S)
        while not self._ended.wait(FILE_EVERY_S):
            if self._attempt("look", self._look_again):
                due = time.monotonic() - tagged >= TAG_EVERY_S
                self._publish("running", self._last, tag=due)
                tagged = time.monotonic() if due else tagged
                if time.monotonic() - told >= PROGRESS_EVERY_S:
                    self._attempt("metrics", self._tell_progress)
                    told = time.monotonic()

    def _tell_progress(self) -> None:
        metrics = progress(self._last, self._metric)
        if metrics and metrics != self._told:
            self._tracker.progress(metrics, self._last.get("summary", {}).get("ended", 0))
            self._told = metrics

    def _look_again(self) -> None:
        self._last = self._look()

    def _publish(self, state: State, look: Look, *, tag: bool) -> None:
        snapshot = Snapshot(
            search=self._search,
            metric=self._metric,
            state=state,
            at=time.time(),
            host=socket.gethostname(),
            pid=os.getpid(),
            look=look,
        )
        self._attempt("file", lambda: write(snapshot, self._path))
        if tag:
            self._attempt("tag", lambda: self._tracker.live(compact(snapshot)))

    def _attempt(self, what: str, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception as error:  # noqa: BLE001 (whatever it is, the search goes on)
            if what not in self._logged:
                log.warning("`status` may be out of date: %s: %s", type(error).__name__, error)
            self._logged.add(what)
            return False
        self._logged.discard(what)
        return True


def progress(look: Look, metric: str) -> dict[str, float]:
    """How far a search is, as metrics; what is not known yet is absent.

    best/METRIC         of the best recipe so far, by mean over its seeds
    recipes/...         ended, and of these failed and pruned
    steps/trained       and `steps/alone`, the same trials without sharing; `saving` is the part that was not trained
    accelerator_hours   so far
    """
    summary, cost = look.get("summary", {}), look.get("cost", {})
    known: dict[str, float | None] = {f"recipes/{name}": summary.get(name) for name in ("ended", "failed", "pruned")}  # type: ignore[misc]
    best = summary.get("best")
    known[f"best/{metric}"] = best[0][0] if best else None
    trained, alone = cost.get("steps_trained"), cost.get("steps_alone")
    known |= {"steps/trained": trained, "steps/alone": alone, "accelerator_hours": cost.get("hours")}
    if trained is not None and alone and alone >= trained:
        known["saving"] = 1 - trained / alone
    return {name: float(value) for name, value in known.items() if value is not None and math.isfinite(value)}


def write(snapshot: Snapshot, path: Path) -> None:
    """Replaces the file as a whole: a reader has the old snapshot or the new one."""
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps(snapshot), encoding="utf-8")
    os.replace(fresh, path)


def compact(snapshot: Snapshot) -> str:
    """A snapshot as JSON of at most TAG_CHARS characters: with fewer slots, stages and recipes and shorter texts, as
    far as it takes."""
    for words, slots, lines in ((120, 64, 8), (60, 32, 5), (40, 24, 5), (40, 12, 3), (30, 4, 1), (20, 0, 0)):
        text = json.dumps(
            {**snapshot, "look": _shortened(snapshot["look"], words, slots, lines)}, separators=(",", ":")
        )
        if len(text) <= TAG_CHARS:
            return text
    raise ValueError(f"a snapshot must fit into {TAG_CHARS} characters, but its shortest form has {len(text)}")


def _shortened(look: Look, words: int, slots: int, lines: int) -> dict[str, Any]:
    short: dict[str, Any] = json.loads(json.dumps(look))
    kept = dict(busy_first(short.get("slots", {}))[:slots])
    for slot in kept.values():
        slot.pop("process", None)
        slot["idle"] = round(slot.get("idle", 0.0), 3)
        slot["recipe"] = _cut(slot.get("recipe"), words)
    if "slots" in short:
        short |= {"slots_left_out": len(short["slots"]) - len(kept), "slots": kept}
    for name in ("best", "pareto"):
        if name in short.get("summary", {}):
            chosen = short["summary"][name][:lines]
            short["summary"][name] = [[value, _cut(recipe, words), seeds] for value, recipe, seeds in chosen]
    if "now" in short.get("stages", {}):
        most = sorted(short["stages"]["now"], key=lambda stage: -stage.get("waits", 0))
        short["stages"]["now"] = most[:lines]
    return short | {"note": _cut(short.get("note"), 5 * words)}


def _cut(text: str | None, words: int) -> str | None:
    return text if text is None or len(text) <= words else text[: words - 1] + "…"
