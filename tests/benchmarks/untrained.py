"""Slots that train nothing, and trials that only count: the parts of `engine_scale.py`.

An `UntrainedPool` stands in the place of an engine's `SlotPool`: all of its slots are threads of one actor, and each of
them runs the real `slot_loop` with a trainer that reports at once what it was asked for.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
import ray.tune

from search.job import Job, Measured, Ticket
from tests.nodes import processes
from trainables.landmarks.spec import LandmarksSpec
from trainables.problem import Problem, SourceFacts
from trainables.recipe import Recipe
from trainables.stage import Training

REPORTS = 5  # evaluations of a trial
STEP_S = 0.05  # of the training that is not done

# So that the functions below reach Ray's workers whatever path this module was imported by.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


# -- the dispatcher alone -----------------------------------------------------------------------------------------


def problem() -> Problem:
    spec = LandmarksSpec(kind="landmarks", stacks=1, resolution=64)
    return Problem(spec, Training(), SourceFacts("real", 100), None, rungs=tuple(range(1, REPORTS + 1)))


def dispatch(num_jobs: int, num_slots: int, *, pause_s: float = 0.0) -> tuple[float, list[float]]:
    """(verdicts a second, milliseconds of each job between its submission and a slot, from when both were there) of a
    dispatcher in this process.

    Half as many trials again as there are slots are out, as in an engine. Each job is submitted, taken and reported on
    REPORTS times, `pause_s` apart, and each report is fetched by its trial: that is a verdict.
    """
    from search.dispatcher import Dispatcher

    dispatcher = Dispatcher(problem(), share=True, max_failures=3)
    tickets = iter(
        Ticket(n, 0, 0, tuple(Recipe(schedule="real_only", real_fraction=1.0, lr=1e-3 + n * 1e-6).params().items()))
        for n in range(num_jobs)
    )
    submitted: dict[str, float] = {}
    latencies: list[float] = []

    async def trial() -> None:
        for ticket in tickets:
            submitted[ticket.id] = time.perf_counter()
            for index in range(REPORTS):
                outcome = await dispatcher.outcome(ticket, index)
                assert isinstance(outcome, Measured), outcome

    async def slot(number: int) -> None:
        trained, me = 0, (number, f"slot {number}")
        while True:
            asked = time.perf_counter()
            job = await dispatcher.take(*me, 2.0, trained)
            if not isinstance(job, Job):
                if job == "close":
                    return
                continue
            latencies.append(1000 * (time.perf_counter() - max(asked, submitted[job.id])))
            for rung in job.rungs:
                await asyncio.sleep(pause_s)
                trained += 1
                await dispatcher.progress(*me, job.id, job.path[-1].stage.key, rung, trained)
                measured = Measured(rung, {"val/nme": 1 / rung}, rung, 0, rung == job.rungs[-1])
                await dispatcher.report(*me, job.id, measured, trained)

    async def all_jobs() -> float:
        slots = [asyncio.create_task(slot(number)) for number in range(num_slots)]
        began = time.perf_counter()
        await asyncio.gather(*(trial() for _ in range(num_slots + num_slots // 2)))
        seconds = time.perf_counter() - began
        await dispatcher.close()
        await asyncio.gather(*slots)
        return seconds

    return num_jobs * REPORTS / asyncio.run(all_jobs()), latencies


# -- through Tune -------------------------------------------------------------------------------------------------


class _Untrained:
    """A trainer without a network: every rung is measured `pace_s` after it was asked for, and in the meantime the
    loop's question is asked as it is before each step."""

    steps_trained = 0
    device = SimpleNamespace(type="cpu")

    def __init__(self, pace_s: float) -> None:
        self._pace_s = pace_s

    def train(self, path: Any, rungs: tuple[int, ...], *, control: Any, **_: Any) -> Iterator[Any]:
        from trainables.loop import Interrupted

        before = self.steps_trained
        for rung in rungs:
            until = time.monotonic() + self._pace_s
            while (left := until - time.monotonic()) > 0:
                if not control(path[-1].stage, rung - 1):
                    raise Interrupted
                time.sleep(min(left, STEP_S))
            self.steps_trained += 1
            value = (path[-1].stage.lr * 1000 + 1 / rung) / 100
            yield SimpleNamespace(
                step=rung,
                metrics={"val/miou": value},
                time_ms=rung,
                steps_trained=self.steps_trained - before,
                final=rung == rungs[-1],
            )

    def forget(self) -> None: ...


class _Slots:
    """The actor: `slot_loop` in as many threads."""

    def run(self, count: int, dispatcher: Any, pace_s: float) -> None:
        from search import slots

        with (
            mock.patch.object(slots, "make_trainer", side_effect=lambda *_: _Untrained(pace_s)),
            mock.patch.object(slots, "Notice", return_value=SimpleNamespace(given=False, leave=lambda: None)),
        ):
            threads = [
                threading.Thread(target=slots.slot_loop, args=({"slot": n, "job": None, "dispatcher": dispatcher},))
                for n in range(count)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


class UntrainedPool:
    """In the place of search.pool.SlotPool, with its arguments and the seconds between evaluations."""

    def __init__(self, count: int, _slots: Any, _job: Any, dispatcher: Any, *_: Any, pace_s: float) -> None:
        self.errors: list[BaseException] = []
        self._pace_s = pace_s
        actor: Any = ray.remote(_Slots)
        self._actor = actor.options(num_cpus=0).remote()
        self._count = count
        self._thread = threading.Thread(target=self._run, args=(dispatcher,), name="slots", daemon=True)

    def _run(self, dispatcher: Any) -> None:
        ray.get(self._actor.run.remote(self._count, dispatcher, self._pace_s))

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> int:
        return self._count if self._thread.is_alive() else 0

    def join(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


@dataclass
class Counter:
    """In the place of search.tracking.Tracker: it notes when trials end, what this process holds then, and the CPU
    seconds that it and the dispatcher have taken."""

    ends: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    driver_s: list[float] = field(default_factory=list)
    dispatcher_s: list[float] = field(default_factory=list)
    _dispatcher: int | None = None  # its process

    def trial_ended(self, recipe_key: str, seed: int, status: str, **_: Any) -> None:
        assert status == "finished", status
        self.ends.append(time.monotonic())
        self.rss_mb.append(_resident_mb())
        self.driver_s.append(time.process_time())
        self.dispatcher_s.append(self._of_dispatcher())

    def _of_dispatcher(self) -> float:
        if self._dispatcher is None:
            self._dispatcher = next(one.pid for one in processes() if one.title.startswith("ray::Dispatcher"))
        user, system = Path(f"/proc/{self._dispatcher}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def within(self, begin: float, end: float) -> tuple[float, float, float, float]:
        """Scale's figures between the ends of these shares of the trials."""
        first, last = round(begin * len(self.ends)), round(end * len(self.ends)) - 1
        seconds = self.ends[last] - self.ends[first]
        driver, dispatcher = ((times[last] - times[first]) / seconds for times in (self.driver_s, self.dispatcher_s))
        return (last - first) / seconds, driver, dispatcher, _growth_kb(self.rss_mb, first, last)

    def __getattr__(self, name: str) -> Any:
        """Whatever else is told is heard, and nothing is ever written."""
        return lambda *_, **__: False


@dataclass(frozen=True)
class Scale:
    """What a search without training came to. All but the first and the last are of the time in which all is started:
    between the ends of two shares of the trials.

    trials_per_s     from the start of the search to the last trial's end
    steady           trials a second
    driver_load      CPU seconds a second, as those of the dispatcher
    rss_kb_a_trial   by which the driver grows
    actors           that carried trials
    """

    trials_per_s: float
    steady: float
    driver_load: float
    dispatcher_load: float
    rss_kb_a_trial: float
    actors: int


SEARCH = """
name: scale
task: {{kind: segmentation, width: 0.0625, resolution: 32, aspp_rates: [1, 2, 3]}}
data: {{real: {{toy: {packs}/real}}, val: {packs}/val}}
space: {{schedule: [real_only], real_fraction: [1.0], lr: {{low: 0.001, high: 0.1}}}}
budget: {{trials: {trials}, steps: 5, rungs: [1, 2, 3, 4, 5]}}
sampler: random
pruner: none
slots: {{count: {slots}}}
"""


def untrained_search(
    num_trials: int, num_slots: int, *, pace_s: float = 0.0, between: tuple[float, float] = (0.2, 1.0)
) -> Scale:
    """A whole search through Tune, the ledger on SQLite, trials' actors and the dispatcher's, but for training and
    MLflow. Ray is up. `pace_s` lies between a slot's evaluations, `between` is as Scale has it."""
    from rich.console import Console

    from search.config import load
    from search.run import run
    from tests.conftest import write_toy_pack

    counter = Counter()
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        write_toy_pack(folder / "real", range(2), synthetic=False)
        write_toy_pack(folder / "val", range(10, 12), synthetic=False)
        file = folder / "scale.yaml"
        file.write_text(SEARCH.format(packs=folder, trials=num_trials, slots=num_slots))
        with (
            mock.patch("search.engine.SlotPool", partial(UntrainedPool, pace_s=pace_s)),
            mock.patch("search.engine.slot_count", return_value=num_slots),
            mock.patch("search.run.Tracker", return_value=counter),
        ):
            began = time.monotonic()
            run(load(file), file.read_text(), results=folder / "results", console=Console(quiet=True))
    if len(counter.ends) != num_trials:
        raise RuntimeError(f"{num_trials} trials must end, but {len(counter.ends)} did")
    return Scale(num_trials / (counter.ends[-1] - began), *counter.within(*between), _trial_actors())


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _growth_kb(rss_mb: list[float], first: int, last: int) -> float:
    """For each trial between these two; means of ten, since memory is taken in steps."""
    grown = fmean(rss_mb[last - 9 : last + 1]) - fmean(rss_mb[first - 5 : first + 5])
    return 1024 * grown / (last - first)


def _trial_actors() -> int:
    """Actors that Ray ever started, but for the dispatcher and the slots."""
    table = ray._private.state.state.actor_table(None)
    return sum(one["ActorClassName"] not in ("Dispatcher", "_Slots") for one in table.values())


# -- stock --------------------------------------------------------------------------------------------------------


def _stock_trial(_config: dict[str, Any]) -> None:
    for rung in range(1, REPORTS + 1):
        ray.tune.report({"value": 1 / rung})


class _Weighed(ray.tune.Callback):
    """Notes what this process holds when trials end."""

    def __init__(self) -> None:
        self.rss_mb: list[float] = []

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        self.rss_mb.append(_resident_mb())


def stock_search(num_trials: int, concurrent: int) -> tuple[float, float]:
    """Trials a second of plain Tune functions that report as often and import nothing, and by how many kB a trial the
    driver grows after the first 20% of them. Ray is up, with as many CPUs."""
    weighed = _Weighed()
    with tempfile.TemporaryDirectory(prefix="stock-") as storage:
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(_stock_trial, {"cpu": 1}),
            param_space={"number": ray.tune.grid_search(list(range(num_trials)))},
            tune_config=ray.tune.TuneConfig(max_concurrent_trials=concurrent),
            run_config=ray.tune.RunConfig(name="stock", storage_path=storage, verbose=0, callbacks=[weighed]),
        )
        with contextlib.redirect_stdout(sys.stderr):  # Tune's banner
            began = time.perf_counter()
            results = tuner.fit()
            seconds = time.perf_counter() - began
    if results.num_errors:
        raise RuntimeError(f"{results.num_errors} of {num_trials} trials failed: {results.errors[0]}")
    return num_trials / seconds, _growth_kb(weighed.rss_mb, round(0.2 * num_trials), num_trials - 1)
