"""The training loop: a path of stages, trained from whatever the store already has, evaluated at its rungs.

It knows nothing of Ray, Tune or MLflow: it runs in a plain process, which is how it is tested and measured. A
`Trainer` is what stays warm between jobs (the task, the mapped packs, built models); a `Run` is one live stage.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from datasets import Source
from datasets.compositing import Scenes
from trainables.adaptation import converted, recompute_statistics
from trainables.checkpoints import Checkpoints
from trainables.evaluation import EvaluationSets
from trainables.feed import Feed
from trainables.lease import LEASE_S, Lease, Leased, held_until
from trainables.objects import StoreContentError
from trainables.path import Leg, Path
from trainables.ranks import Ranks
from trainables.recipe import digest
from trainables.run import Run
from trainables.stage import Stage
from trainables.store import Store
from trainables.task import Task, build_task

STORE_WAIT_S = 30.0  # how long a folder that several machines mount may be out of date on one (NFS: acdirmin)


class Interrupted(Exception):
    """The control asked to stop. What was trained is in the store, but for steps that are trained again in less time
    than a checkpoint takes to write."""


@dataclass(frozen=True)
class Report:
    """One rung reached: the metrics by set name ("val", "test/NAME"), prefixed, and what it took.

    steps_trained  steps that this process trained for the path since it began on it; 0 when the store had everything
    """

    step: int
    metrics: dict[str, float]
    time_ms: int
    steps_trained: int
    final: bool


# Asked before every step, on every rank alike: False stops the path. The argument is the checkpoint being trained.
Control = Callable[[Stage, int], bool]
Milestone = Callable[[str, int], None]  # told (stage key, step) whenever a kept checkpoint is in the store


class Trainer:
    """Trains paths of one search, in one worker of a slot.

    sources      the training data: a stage finds each of its sources by the digest in its rows
    scenes       what people are put before, where the task composes
    val, tests   the evaluation sets: `val` at every rung, `tests` at the last one only
    store_of     the store of a namespace ("" is shared; anything else shares with nobody)
    num_workers  loader processes, forked here and kept; changes no number
    cache_bytes  of batches that are kept in memory for later stages with the same ones; changes no number
    checkpoint_s seconds between rolling checkpoints, more where one takes long, 0 after each step; changes no number
    owner        whose leases its stages are held by: trainers of one owner never wait for each other
    """

    def __init__(
        self,
        spec: Any,
        sources: Iterable[Source],
        *,
        val: Source,
        tests: Mapping[str, Source],
        store_of: Callable[[str], Store],
        device: torch.device,
        scenes: Scenes | None = None,
        num_workers: int = 0,
        cache_bytes: int = 0,
        checkpoint_s: float = 30.0,
        owner: str | None = None,
    ) -> None:
        self.task = build_task(spec, scenes)
        self._scenes = scenes
        self._tasks: dict[Any, Task] = {spec: self.task}
        self.store_of = store_of
        self.device = device
        self.owner = owner or uuid.uuid4().hex
        self.ranks = Ranks()
        self.feed = Feed(sources, device, self.ranks, num_workers, cache_bytes)
        self.sets = EvaluationSets(
            self.task, val, tests, scenes=scenes, feed=self.feed, device=device, ranks=self.ranks
        )
        self.checkpoints = Checkpoints(checkpoint_s, self.ranks)
        self.steps_trained = 0
        self._live: Run | None = None

    def train(
        self,
        path: Path,
        rungs: tuple[int, ...],
        *,
        namespace: str = "",
        control: Control = lambda stage, step: True,
        milestone: Milestone = lambda stage, step: None,
    ) -> Iterator[Report]:
        """Trains a path and yields a report at each rung of its last stage.

        Raises NotFiniteError when the training diverges, Interrupted when `control` said so, and Leased when another
        trainer is at a stage that is needed.
        """
        store = self.store_of(namespace)
        before = self.steps_trained
        for rung in rungs:
            final = rung == rungs[-1]
            found = self.sets.stored(store, path[-1], rung, final=final)
            if None in found.values():
                run = self._reach(store, path, rung, control, milestone)
                found = self.sets.completed(store, run, path[-1], found, final=final)
            else:
                milestone(path[-1].stage.key, rung)
            metrics = {f"{name}/{key}": value for name, e in found.items() if e for key, value in e.metrics.items()}
            metrics["train/loss"] = next(e.train_loss for e in found.values() if e)
            time_ms = max(e.time_ms for e in found.values() if e)
            yield Report(rung, metrics, time_ms, self.steps_trained - before, final)

    def measure(self, stage: Stage, warm: int, steps: int) -> tuple[Run, float, float]:
        """Trains a stage from initial weights, saving nothing: (the run, seconds a step, seconds an evaluation).

        Seconds a step are the median after `warm` steps; those of an evaluation include all of `val`.
        """
        run = Run.begin(stage, self._task(stage), self.device, self.ranks, ("", stage.key), None)
        seconds = []
        before = time.perf_counter()
        for batch in self.feed.batches(stage, self._task(stage), 0, warm + steps):
            run.train_step(batch, seed=self._step_seed(stage, run.step))
            run.train_loss()  # waits for the device
            seconds.append(time.perf_counter() - before)
            before = time.perf_counter()
        self.sets.metrics(run, self.sets.model(run, None), self.sets.val)
        return run, float(np.median(seconds[warm:])), time.perf_counter() - before

    def forget(self) -> None:
        """Drops the live run (after an error its state is not to be trusted); the store has what was saved."""
        self._live = None

    def _reach(self, store: Store, path: Path, target: int, control: Control, milestone: Milestone) -> Run:
        """A live run of the path's last stage at exactly `target` steps."""
        leg = path[-1]
        run = self._nearest(store, path, target, control, milestone)
        if run.step < target:
            seconds = LEASE_S + (self.checkpoints.save_s or 0.0)
            with Lease(store, leg.stage.key, self.owner, self.ranks, run.step, seconds) as lease:
                if self.ranks.first:
                    store.describe(leg.stage.key, leg.stage.canonical())
                self._advance(store, run, leg, target, lease, control, milestone)
                self.checkpoints.keep(store, run)
        else:
            self.checkpoints.keep(store, run)
        milestone(leg.stage.key, target)
        return run

    def _nearest(self, store: Store, path: Path, target: int, control: Control, milestone: Milestone) -> Run:
        """The run to go on from: the live one, the latest that the store has, or a fork of the stage before.

        Raises, on every rank, Leased when the stage has to be trained and another trains it, and StoreError when rank 0
        can load a checkpoint that another rank does not find, twice.
        """
        stage = path[-1].stage
        key = (store.root, stage.key)
        missed: int | None = None
        while True:
            live = self._live
            looked = self._look(store, stage, target) if self.ranks.first else None
            stored, leased = self.ranks.broadcast(looked)
            if leased is not None:
                raise Leased(stage.key, leased)
            if live is not None and live.address == key and live.step <= target and live.step >= (stored or 0):
                return live
            if stored is None:
                break
            state = store.load(stage.key, stored)
            if self.ranks.all(state is not None):
                self._live = live = None  # one model in memory at a time
                self._live = Run.restore(stage, self._task(stage), self.device, self.ranks, key, state)
                self.checkpoints.begin(0.0)
                if self.ranks.first:
                    store.touch(stage.key)
                return self._live
            # One that is damaged is set aside, and rank 0 then finds an older one. One that rank 0 has and another
            # rank has not may be about to be replaced, or not to be seen there yet; if that lasts, it never will be.
            if self.ranks.broadcast(state is not None):
                if stored == missed:
                    raise StoreContentError(
                        f"every worker of a slot must see the same store, but not all find step {stored} of stage"
                        f" {stage.key} under {store.root}; set `store:` to a shared folder or an object store"
                    )
                missed = stored
                time.sleep(STORE_WAIT_S)
        parent: dict[str, Any] | None = None
        if stage.start is not None:
            before = path[-2]
            parent = self._reach(store, path[:-1], before.steps, control, milestone).raw_weights()
            parent = converted(parent, before.stage.adaptation, stage.adaptation)
        self._live = live = None
        began = time.monotonic()
        run = Run.begin(stage, self._task(stage), self.device, self.ranks, key, parent)
        if stage.conversion == "real_bn":
            assert stage.real is not None
            recompute_statistics(run.model, self.feed.once(stage.real, run.task, stage.seed), run.task.loss)
        run.start_average()
        self._live = run
        self.checkpoints.begin(time.monotonic() - began)
        return run

    def _look(self, store: Store, stage: Stage, target: int) -> tuple[int | None, float | None]:
        """The latest step of a stage up to `target` that is stored; and, where the stage has to be trained on from
        there and another has its lease, when that expires."""
        stored, live = store.latest(stage.key, target), self._live
        there = live.step if live is not None and live.address == (store.root, stage.key) else None
        if target in (stored, there):
            return stored, None
        return stored, held_until(store, stage.key, self.owner)

    def _advance(
        self, store: Store, run: Run, leg: Leg, target: int, lease: Lease, control: Control, milestone: Milestone
    ) -> None:
        """Trains `run` to `target`, saving on the way what must be kept, and a rolling checkpoint now and then."""
        stage = leg.stage
        batches = self.feed.batches(stage, self._task(stage), run.step, target)
        run.train()
        self.checkpoints.start()
        for batch in batches:
            stopped, lost = not control(stage, run.step), lease.lost(run.step)
            if stopped or lost is not None:
                run.check_finite()
                self.checkpoints.set_down(store, run)
                if stopped:
                    raise Interrupted(f"stage {stage.key} at step {run.step}")
                assert lost is not None
                raise Leased(stage.key, lost)
            run.train_step(batch, seed=self._step_seed(stage, run.step))
            self.steps_trained += 1
            if run.step in leg.keep and run.step < target:
                run.check_finite()
                self.checkpoints.keep_on_the_way(store, run)
                milestone(stage.key, run.step)
            elif run.step < target:
                self.checkpoints.roll(store, run)
        run.check_finite()

    def _task(self, stage: Stage) -> Task:
        """The task of a stage: the search's, or an earlier phase of it."""
        if stage.task not in self._tasks:
            self._tasks[stage.task] = build_task(stage.task, self._scenes)
        return self._tasks[stage.task]

    def _step_seed(self, stage: Stage, step: int) -> int:
        """The seed of what a step draws from torch (dropout): of (replicate, data, step, rank), never of the key."""
        data = [rows.digest for rows in (stage.real, stage.synthetic) if rows is not None]
        return int(digest([stage.seed, data, step])[:15], 16) + self.ranks.rank
