"""The reporter: keeps the report of a running search up to date in its MLflow run (analysis/report.py).

A report reads all runs and fits models to them, for seconds of a core. So it is made by a process of its own, which is
nicer than the search's, after some more trials have ended and some minutes have passed: never for more than a few
percent of the time. What fails is logged once, and tried again; nothing waits for a report.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from analysis.report import HTML, MARKDOWN
from analysis.report_blocks import FOLDER as FIGURES
from search.cluster import ROOT
from search.tracking import NOTE_CHARS

log = logging.getLogger(__name__)

EVERY_S = 180.0  # at most so often,
SHARE = 0.03  # for at most this part of the time,
TRIALS = 3  # and after so many more recipes have ended
LOOK_EVERY_S = 5.0
NICENESS = 10
FOLDER, LOG = "report", "report.log"  # of RESULTS/NAME


class Shelf(Protocol):
    """Where reports go (search/tracking.py)."""

    def artifact(self, path: Path, folder: str | None = None) -> None: ...

    def describe(self, text: str) -> None: ...


class Reporter:
    """Makes reports until it is closed. Use as a context manager.

    ended   how many recipes have ended
    folder  RESULTS/NAME
    """

    def __init__(
        self, ended: Callable[[], int], folder: Path, shelf: Shelf, *, search: str, uri: str, experiment: str
    ) -> None:
        self._ended = ended
        self._folder = folder / FOLDER
        self._shelf = shelf
        self._command = ["nice", "-n", str(NICENESS), sys.executable, "-m", "analysis", "report", search]
        self._command += ["--experiment", experiment]
        self._command += ["--out", str(self._folder.absolute())]
        self._environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
        self._logged = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def __enter__(self) -> "Reporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        reported, due = self._ended(), time.monotonic() + EVERY_S
        while not self._closed.wait(LOOK_EVERY_S):
            ended = self._ended()
            if ended - reported < TRIALS or time.monotonic() < due:
                continue
            began = time.monotonic()
            self._report()
            reported, took = ended, time.monotonic() - began
            due = time.monotonic() + max(EVERY_S, took / SHARE)

    def _report(self) -> None:
        """Makes one report; a search that ends meanwhile ends it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        said = self._folder / LOG
        with said.open("wb") as out:
            process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # a Ctrl-C is the search's
            )
            while process.poll() is None:
                if self._closed.wait(0.2):
                    process.kill()
        if process.returncode == 0:
            send(self._folder, self._shelf)
        elif not self._closed.is_set() and not self._logged:
            lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            log.warning("the report is not up to date: %s", lines[-1] if lines else f"see {said}")
            self._logged = True


def send(folder: Path, shelf: Shelf) -> None:
    """Sends the report in a folder: as artifacts, and its answer as the description of the search's run."""
    for name in (HTML, MARKDOWN):
        shelf.artifact(folder / name)
    for picture in sorted((folder / FIGURES).iterdir()):
        shelf.artifact(picture, FIGURES)
    shelf.describe(answer_of((folder / MARKDOWN).read_text(encoding="utf-8")))


def answer_of(text: str) -> str:
    """The first section of a report in Markdown, and where the rest is."""
    answer = text.partition("\n## ")[2].partition("\n## ")[0].partition("\n")[2].strip()
    return f"{answer[: NOTE_CHARS - 200]}\n\nThe whole report is the artifact `{HTML}`."
