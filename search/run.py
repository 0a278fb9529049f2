"""run: brings a search to completion. Run it again after a crash or with more trials: it does only what is missing."""

import fcntl
import importlib.metadata
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis import Conclusion, conclude
from analysis.report import report
from analysis.report_context import Context
from datasets.uri import redacted
from search.cluster import connect
from search.config import SearchConfig
from search.cost import Costs
from search.delivery import deliver
from search.head import HeadWatch
from search.ledger import Ledger
from search.problem import open_problem
from search.registry import Registrar
from search.reporter import FOLDER as REPORT
from search.reporter import Reporter, send
from search.spending import Spending
from search.study import identity, note_numerics, num_recipes, open_study
from search.tracking import State, Tracker, default_uri
from search.written import leave


@dataclass(frozen=True)
class Result:
    """How a run of a search ended: `conclusion` is None when it was interrupted or recorded nothing.

    left  what there is of the best recipe, to use, in lines (search/delivery.py)
    """

    state: State
    summary: dict[str, Any]
    steps_trained: int
    steps_alone: int
    wall_s: float
    tracking_uri: str
    conclusion: Conclusion | None
    left: tuple[str, ...] = ()


def run(
    config: SearchConfig,
    config_text: str,
    *,
    results: Path,
    address: str | None = None,
    share: bool = True,
    console: Console | None = None,
) -> Result:
    """Runs a search to its end.

    Raises ValueError (one line) on anything wrong with the file, the data or the tracking server.

    config   read by search.config.load, so that its paths are absolute; config_text is what MLflow shows of it
    results  the folder of results: RESULTS/NAME for this search, the default store and the default MLflow database
    share    False trains every recipe by itself, to check that sharing changes no number
    """
    began = time.monotonic()
    console = console or Console()
    opened = open_problem(config)
    folder = results.resolve() / config.name
    with _alone(folder):
        tracker, uri = _tracker(config, results.resolve(), folder)
        steps_trained = steps_alone = 0
        state: State = "interrupted"
        conclusion = None
        left: list[str] = []
        try:
            study = open_study(config, opened.digests, folder, share=share)
            leave(config, folder)
            tracker.start(
                identity(study),
                _params(config),
                _tags(config),
                redacted(config_text),
                f"{config.name}.yaml",
                opened.facts,
            )
            costs = Costs(opened.problem, share=share)
            spending = Spending(config, study, costs)
            ledger = Ledger(
                study,
                config,
                opened.problem,
                tracker,
                datasets=opened.facts_of,
                cost=costs.marginal,
                affords=spending.affords,
            )
            if not ledger.complete:
                with _ray(address, console):
                    from search.engine import Engine  # imports Ray, which reads its environment when it is imported

                    parts = config, opened, ledger, costs, spending, tracker, folder
                    owner, note = identity(study), partial(note_numerics, study)
                    engine = Engine(*parts, owner=owner, share=share, note=note)
                    with _signals(engine.interrupt), _reporter(config, ledger, folder, tracker, uri):
                        steps_trained = engine.run(console)
                    steps_alone = engine.steps_alone
            if ledger.complete:
                state = "finished"
                if tracker.flush():
                    with Registrar(uri) if config.tracking.best_model else nullcontext() as registrar:
                        conclusion = conclude(config.name, uri, config.tracking.experiment, folder)
                        for file in conclusion.files:
                            tracker.artifact(file)
                        if registrar is not None:
                            left = deliver(
                                config, opened, results.resolve(), folder, tracker, uri, conclusion, registrar
                            )
                            tracker.flush()  # the report reads it
                        if config.tracking.report:
                            report(Context(conclusion.table, uri)).write(folder / REPORT)
                            send(folder / REPORT, tracker)
                        if registrar is not None and (line := registrar.answer()):
                            left.append(line)
        finally:
            if not tracker.finish(state):
                console.print(
                    f"MLflow lacks a part of this search: the next `run` sends it from {folder}", markup=False
                )
    wall_s = time.monotonic() - began
    return Result(state, ledger.summary(), steps_trained, steps_alone, wall_s, uri, conclusion, tuple(left))


def _tracker(config: SearchConfig, results: Path, folder: Path) -> tuple[Tracker, str]:
    uri = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(results)
    tracker = Tracker(uri, config.tracking.experiment, config.name, folder / "mlflow.spool")
    tracker.connect()
    return tracker, uri


def _reporter(
    config: SearchConfig, ledger: Ledger, folder: Path, tracker: Tracker, uri: str
) -> AbstractContextManager[object]:
    if not config.tracking.report:
        return nullcontext()
    experiment = config.tracking.experiment
    return Reporter(
        lambda: ledger.summary()["ended"], folder, tracker, search=config.name, uri=uri, experiment=experiment
    )


def _params(config: SearchConfig) -> dict[str, Any]:
    """What the parent run shows of a search: its task, budget, sampler and objective, flat."""
    shown = config.model_dump(mode="json", include={"task", "training", "objective", "sampler", "seed"})
    flat = {f"{group}.{k}": v for group, values in shown.items() if isinstance(values, dict) for k, v in values.items()}
    return flat | {
        "sampler": config.sampler,
        "seed": config.seed,
        "budget.steps": config.budget.steps,
        "budget.seeds": config.budget.seeds,
    }


def _tags(config: SearchConfig) -> dict[str, Any]:
    """What `analysis` needs to know of a search, and what may change between two runs of it."""
    tags = {
        "titrate.metric": config.objective.metric,
        "titrate.mode": config.objective.mode,
        "titrate.seeds": config.budget.seeds,
        "titrate.trials": num_recipes(config),
        "titrate.versions": json.dumps(_versions()),
    }
    if config.constraints:
        bounds = {name: bound.model_dump(exclude_none=True) for name, bound in config.constraints.items()}
        tags["titrate.constraints"] = json.dumps(bounds)
    return tags


def _versions() -> dict[str, str]:
    """What the search runs on, for whoever repeats it."""
    packages = ("torch", "ray", "optuna", "mlflow", "albumentations", "numpy")
    return {"Python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the search's folder: a second `run` of the same search would train and tell everything twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"a search must be run by one process at a time, but another one holds {folder}; wait for it, or end it"
            ) from None
        yield


@contextmanager
def _ray(address: str | None, console: Console) -> Iterator[None]:
    """Ray while the search needs it; shut down afterwards if it was started here."""
    started = connect(address)
    import ray

    try:
        with HeadWatch(ray.get_runtime_context().gcs_address, partial(console.print, markup=False)):
            yield
    finally:
        if started:
            ray.shutdown()


@contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the search in order; a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)
        interrupt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
