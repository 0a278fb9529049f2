"""A search in stock Ray: Tune with OptunaSearch and ASHA, each trial its whole path, trained alone.

    nested    each trial starts a Ray Train V2 run, as Ray's user guide shows (see `stock.py`)
    function  each trial is a plain Tune function

Both train with the very `trainables.loop.Trainer` that a slot has, on a store of its own that is thrown away. The
sampler is the search's own (multivariate TPE of the same seed), and so are rungs and reduction factor. Ray is started
by the caller.
"""

import contextlib
import os
import signal
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import optuna
import ray
import ray.train
import ray.tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from ray.util.placement_group import PlacementGroup, PlacementGroupID

from search.config import SearchConfig
from search.problem import open_problem
from search.space import SpaceConfig
from tests.benchmarks.comparison import Record
from tests.benchmarks.stock import fit_nested
from trainables.problem import Problem

# So that the functions below reach Ray's workers whatever path this module was imported by.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

# A driver waits and computes nothing; see `stock.py`.
_DRIVER = ray.tune.PlacementGroupFactory([{"node:__internal_head__": 0.0001}])


@dataclass(frozen=True)
class Work:
    """What each trial is given beside its recipe. packs: their places, by the names of `SearchConfig.sets`."""

    problem: Problem
    packs: dict[str, tuple[str, ...]]
    metric: str


def train(config: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """A trial: its path from the beginning to the last rung, evaluated and reported at each."""
    import torch

    from datasets import Pack, Source
    from trainables.loop import Trainer
    from trainables.numerics import set_deterministic
    from trainables.path import path_of, rungs_of
    from trainables.recipe import Recipe
    from trainables.store import Store
    from trainables.task import build_task

    set_deterministic(1)
    work: Work = config["work"]
    task = build_task(work.problem.task, None)
    columns = {name: task.unlabelled_columns if name == "references" else task.columns for name in work.packs}
    sources = {name: Source([Pack.open(p) for p in paths], columns[name]) for name, paths in work.packs.items()}
    trainer = Trainer(
        work.problem.task,
        [source for name, source in sources.items() if name != "val"],
        val=sources["val"],
        tests={},
        store_of=lambda _: Store(config["storage"], f"alone-{uuid.uuid4().hex}"),
        device=torch.device("cpu"),
    )
    path = path_of(Recipe.from_params(config["recipe"]), work.problem, 0)
    began = time.perf_counter()
    for rung in trainer.train(path, rungs_of(path, work.problem)):
        report(
            {
                "objective": rung.metrics[work.metric],
                "step": rung.step,
                "steps": rung.steps_trained,
                "final": rung.final,
                "busy_s": time.perf_counter() - began,
                "at": time.time(),
            }
        )


def _worker(config: dict[str, Any]) -> None:
    group = ray.util.get_current_placement_group()
    train(config, lambda metrics: ray.train.report(metrics | {"group": group.id.hex()}))


def _driver(config: dict[str, Any]) -> None:
    fit_nested(_worker, config)


def _function(config: dict[str, Any]) -> None:
    train(config, ray.tune.report)


@dataclass(frozen=True)
class _Space:
    """The define-by-run space of OptunaSearch, which pickles it: a trial's config, from a trial that suggests."""

    space: SpaceConfig
    work: Work
    storage: str

    def __call__(self, trial: Any) -> dict[str, Any]:
        return {"recipe": self.space.suggest(trial).params(), "work": self.work, "storage": self.storage}


class _Reports(ray.tune.Callback):
    """Every report of every trial, as the driver hears of it."""

    def __init__(self) -> None:
        self.last: dict[str, dict[str, Any]] = {}
        self.finals: list[tuple[float, float]] = []
        self.booked: list[tuple[float, int]] = []
        self.failed = 0

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.last[trial.trial_id] = result
        if result["final"]:
            self.finals.append((result["at"], result["objective"]))
        self.booked.append((result["at"], sum(last["steps"] for last in self.last.values())))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        _clean(self.last.get(trial.trial_id, {}).get("group"))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.failed += 1
        _clean(self.last.get(trial.trial_id, {}).get("group"))


def _clean(group: str | None) -> None:
    """What Train's PlacementGroupCleaner does once the controller of a run that Tune ended is dead: the workers' CPUs
    are given back, and the cleaner ends. It asks the dashboard of `ray[default]` whether the controller is alive, and
    where that is not installed it would wait forever, with the CPUs of every trial that ASHA stops.
    """
    if group is not None:
        ray.util.remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(group)))
    actors = ray._private.state.state.actor_table(None).values()

    def places(name: str, address: str) -> dict[tuple[str, int], int]:
        found = [one for one in actors if one["ActorClassName"] == name and one["State"] == "ALIVE"]
        return {(one[address]["IPAddress"], one[address]["Port"]): one["Pid"] for one in found}

    controllers = places("TrainController", "Address")
    for controller, pid in places("PlacementGroupCleaner", "OwnerAddress").items():
        if controller not in controllers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def stock_search(config: SearchConfig, shape: Literal["nested", "function"], factor: int, concurrent: int) -> Record:
    """Runs `config`'s search in stock Ray to the end of its trials.

    Steps and seconds of training are those that trials reported: what one trains between its last report and the
    moment that ASHA's verdict ends it is not counted.
    """
    opened = open_problem(config)
    sets = {name: tuple(place for place, _ in group) for name, group in opened.packs.items()}
    work = Work(opened.problem, sets, config.objective.metric)
    reports = _Reports()
    trainable, resources = (_driver, _DRIVER) if shape == "nested" else (_function, {"cpu": 1})
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`, since Optuna 2.8
        sampler = optuna.samplers.TPESampler(seed=config.seed, multivariate=True, group=True, constant_liar=True)
    with tempfile.TemporaryDirectory(prefix="stock-") as storage:
        space = _Space(config.space, work, storage)
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(trainable, resources),
            tune_config=ray.tune.TuneConfig(
                search_alg=OptunaSearch(space, metric="objective", mode=config.objective.mode, sampler=sampler),
                scheduler=ASHAScheduler(
                    time_attr="step",
                    metric="objective",
                    mode=config.objective.mode,
                    max_t=config.budget.steps,
                    grace_period=config.budget.evaluations[0],
                    reduction_factor=factor,
                ),
                num_samples=config.budget.trials,
                max_concurrent_trials=concurrent,
            ),
            run_config=ray.tune.RunConfig(name="stock", storage_path=storage, verbose=0, callbacks=[reports]),
        )
        # Even at verbosity 0 Tune prints a banner: a benchmark's standard output is its own.
        with contextlib.redirect_stdout(sys.stderr):
            began, at = time.perf_counter(), time.time()
            results = tuner.fit()
            wall_s = time.perf_counter() - began
    steps = sum(last["steps"] for last in reports.last.values())
    busy_s = sum(last["busy_s"] for last in reports.last.values())
    return Record(
        wall_s=wall_s,
        trials=len(results),
        failed=reports.failed,
        steps=steps,
        alone_steps=steps,
        busy_s=busy_s,
        fixed_s=wall_s - busy_s / concurrent,
        idle=1 - busy_s / (concurrent * wall_s),
        finals=[(end - at, value) for end, value in reports.finals],
        booked=[(end - at, count) for end, count in reports.booked],
    )
