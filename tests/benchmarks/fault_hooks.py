"""What faults.py puts into every process of a search: a log of the training steps, and a clock that can be moved.

Python runs it at its start, as `sitecustomize` (fault_search.py): the search is started as a user starts it, and none
of its code knows of this. In the environment,

    FAULTS_STEPS  a file that gets a line "TIME PROCESS STAGE STEP" for each step, by whichever slot it is trained
    FAULTS_STEP_S how long a step takes at least: what is left of it is slept
    FAULTS_WHILE  a file: only as long as it is there is it slept
    FAULTS_CLOCK  a file of seconds by which `time.time()` is off, from when it is there; `time.monotonic()` is true
"""

import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

_true_time = time.time


class _StepsAreLogged(importlib.abc.MetaPathFinder):
    """Wraps `Run.train_step` when trainables/run.py is imported."""

    def __init__(self, log: str) -> None:
        self._log = log

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "trainables.run":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            module.Run.train_step = _logged(module.Run.train_step, self._log)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _logged(train_step: Any, log: str) -> Any:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    least_s = float(os.environ.get("FAULTS_STEP_S", "0"))
    condition = os.environ.get("FAULTS_WHILE", "/")

    def logged(run: Any, *words: Any, **more: Any) -> Any:
        began = time.monotonic()
        done = train_step(run, *words, **more)
        if os.path.exists(condition):
            time.sleep(max(0.0, began + least_s - time.monotonic()))
        if run._ranks.first:
            os.write(file, f"{_true_time()} {os.getpid()} {run.stage.key} {run.step}\n".encode())
        return done

    return logged


def _move_clock(offset: Path) -> None:
    def moved() -> float:
        try:
            return _true_time() + float(offset.read_text())
        except (OSError, ValueError):  # not yet there, or just written
            return _true_time()

    moved.__module__, moved.__name__, moved.__qualname__ = "time", "time", "time"  # pickled as what it stands for
    time.time = moved


if "FAULTS_STEPS" in os.environ:
    sys.meta_path.insert(0, _StepsAreLogged(os.environ["FAULTS_STEPS"]))
if "FAULTS_CLOCK" in os.environ:
    _move_clock(Path(os.environ["FAULTS_CLOCK"]))
