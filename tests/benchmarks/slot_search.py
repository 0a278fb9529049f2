"""A search in Titrate, watched: what `search_vs_stock.py` measures beside stock Ray, and the fixed lists of recipes."""

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.trial import TrialState
from rich.console import Console

from search.config import SearchConfig
from search.problem import open_problem
from search.run import Result, run
from tests.benchmarks.comparison import Record
from trainables.path import path_of

LOOK_EVERY_S = 0.25
WARM_S = 60.0  # the idle share counts from the first minute on


class Watch:
    """Asks the search's dispatcher what slots do, four times a second, until it is gone."""

    def __init__(self) -> None:
        self.began = time.time()
        self.samples: list[tuple[float, int, int]] = []  # seconds since the start, slots with a job, steps trained
        self._ended = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _look(self) -> None:
        dispatcher: Any = None
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                if dispatcher is None:
                    names = [name for name in ray.util.list_named_actors() if name.startswith("titrate-")]
                    dispatcher = ray.get_actor(names[0]) if names else None
                    continue
                shot = ray.get(dispatcher.snapshot.remote())
            except (ray.exceptions.RayActorError, ValueError):
                return  # the search has ended it
            busy = sum(slot["job"] is not None for slot in shot["slots"].values())
            self.samples.append((time.time() - self.began, busy, shot["steps_trained"]))

    def busy_s(self) -> float:
        """Slot-seconds with a job."""
        return sum(busy * (now - before) for (before, _, _), (now, busy, _) in pairwise(self.samples))

    def working(self, slots: int) -> tuple[float, float]:
        """The seconds at which every slot had had a job, and at which the last one was seen with one."""
        full = next((t for t, busy, _ in self.samples if busy == slots), 0.0)
        return full, max((t for t, busy, _ in self.samples if busy), default=0.0)

    def idle(self, slots: int) -> float | None:
        """The share of slot time without a job, from WARM_S to the last job's end; None where that is over before."""
        _, end = self.working(slots)
        late = [busy for t, busy, _ in self.samples if WARM_S <= t <= end]
        return 1 - sum(late) / (slots * len(late)) if late else None


def slot_search(config: SearchConfig, text: str, slots: int) -> Record:
    """Runs a search to its end through warm slots; Ray is up. Everything between the call and its result counts: the
    start of the slots, MLflow, the conclusion with its figure."""
    with tempfile.TemporaryDirectory(prefix="slots-") as folder:
        watch = Watch()
        with watch.watching():
            began = time.perf_counter()
            result = run(config, text, results=Path(folder), console=Console(quiet=True))
            wall_s = time.perf_counter() - began
        trials = _trials(config, Path(folder))
    if result.state != "finished":
        raise RuntimeError(f"the search must finish, but it was {result.state}")
    problem = open_problem(config).problem
    alone = 0
    finals = []
    for trial in trials:
        reached = max(trial.intermediate_values, default=0)
        *before, _ = path_of(config.space.recipe(trial.params), problem, 0)
        alone += sum(leg.steps for leg in before) + reached
        if trial.state is TrialState.COMPLETE and trial.datetime_complete is not None:
            finals.append((trial.datetime_complete.timestamp() - watch.began, float(trial.value or 0.0)))
    full, end = watch.working(slots)
    return Record(
        wall_s=wall_s,
        trials=len(trials),
        failed=sum(trial.state is TrialState.FAIL for trial in trials),
        steps=result.steps_trained,
        alone_steps=alone,
        busy_s=watch.busy_s(),
        fixed_s=full + wall_s - end,
        idle=watch.idle(slots),
        finals=finals,
        booked=[(t, steps) for t, _, steps in watch.samples],
    )


def list_search(config: SearchConfig, text: str) -> dict[str, Any]:
    """Trains a fixed list of recipes shared and alone: the steps of both, and whether all of their metrics are equal
    to the bit."""
    measured: dict[bool, dict[Any, Any]] = {}
    results: dict[bool, Result] = {}
    for share in (True, False):
        with tempfile.TemporaryDirectory(prefix="list-") as folder:
            results[share] = run(config, text, results=Path(folder), share=share, console=Console(quiet=True))
            rungs = {t.user_attrs["recipe"]: t.intermediate_values for t in _trials(config, Path(folder))}
            measured[share] = {"rungs": rungs, "last": _last_metrics(results[share].tracking_uri)}
    shared, alone = results[True], results[False]
    recipes = len(config.space.enumerate())
    for result in results.values():
        if result.state != "finished" or result.summary["ended"] != recipes or result.summary["failed"]:
            raise RuntimeError(f"each of {recipes} recipes must finish, but the search says {result.summary}")
    return {
        "recipes": recipes,
        "shared": shared.steps_trained,
        "alone": alone.steps_trained,
        "shared_s": shared.wall_s,
        "alone_s": alone.wall_s,
        "identical": measured[True] == measured[False],
    }


def _trials(config: SearchConfig, results: Path) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{results.resolve() / config.name / 'study.db'}"
    return optuna.load_study(study_name=config.name, storage=storage).get_trials(deepcopy=False)


def _last_metrics(uri: str) -> dict[str, dict[str, float]]:
    """All metrics of all recipes, by their keys, as MLflow has them."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`titrate.kind` = 'trial'", max_results=5000)
    return {run.data.tags["titrate.recipe"]: run.data.metrics for run in runs}
