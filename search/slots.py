"""Slots: Ray Train runs that live as long as the search. Their workers stay warm: take a job, train it, report."""

import logging
import os
import socket
import threading
import time
import traceback
import uuid
from dataclasses import dataclass
from typing import Any, Literal

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from search.config import SlotsConfig, trains
from search.job import Failed, Job, Measured, Outcome
from search.problem import read_columns
from trainables.specs import TaskSpec
from trainables.stage import Stage

log = logging.getLogger(__name__)

ASK_EVERY_S = 0.5  # how often a slot tells where it is and asks whether to go on
TAKE_WAIT_S = 2.0  # how long one question for work waits
PEER_LOSS_S = 6.0  # Train notices a killed worker and ends its peers well within this


@dataclass(frozen=True)
class SlotJob:
    """What every slot of a search is given: the task, the data and where the store is."""

    task: TaskSpec
    packs: dict[str, tuple[tuple[str, str], ...]]  # Opened.packs: (place, digest) of each set's
    backgrounds: dict[str, tuple[tuple[str, str], ...]]  # Opened.backgrounds
    store: str
    threads: int
    loaders: int


def slot_count(slots: SlotsConfig, resources: dict[str, float]) -> int:
    """How many slots a cluster with these resources holds; ValueError when not even one (or not as many as asked)."""
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    fits = slots.fit(cpus, gpus)
    wanted = fits if slots.count == "auto" else slots.count
    if wanted < 1 or wanted > fits:
        raise ValueError(
            f"slots: the cluster must hold {max(wanted, 1)} x ({slots.workers} workers of {slots.threads} CPUs and"
            f" {slots.gpus_per_worker:g} GPUs), but it has {cpus:g} CPUs and {gpus:g} GPUs;"
            " lower slots.count or the worker's size"
        )
    return wanted


class SlotPool:
    """The slots of a search, each a `TorchTrainer.fit` in a thread of the driver."""

    def __init__(
        self, count: int, slots: SlotsConfig, job: SlotJob, dispatcher: Any, storage: str, search: str
    ) -> None:
        self.errors: list[BaseException] = []
        self._threads = [
            threading.Thread(
                target=self._fit,
                args=(number, slots, job, dispatcher, storage, search),
                name=f"slot-{number}",
                daemon=True,
            )
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)

    def join(self, timeout_s: float) -> bool:
        """Waits for the slots to end (after the dispatcher was closed); False when some did not in time."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.alive == 0

    def _fit(self, number: int, slots: SlotsConfig, job: SlotJob, dispatcher: Any, storage: str, search: str) -> None:
        resources: dict[str, float] = {"CPU": slots.threads}
        if slots.gpus_per_worker:
            resources["GPU"] = slots.gpus_per_worker
        trainer = TorchTrainer(
            slot_loop,
            train_loop_config={"slot": number, "job": job, "dispatcher": dispatcher},
            scaling_config=ScalingConfig(
                num_workers=slots.workers, use_gpu=bool(slots.gpus_per_worker), resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=f"{search}-slot-{number}-{uuid.uuid4().hex[:8]}",
                storage_path=storage,
                failure_config=FailureConfig(max_failures=-1, controller_failure_limit=-1),  # type: ignore[call-arg]
            ),
        )
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001  (whatever ended a slot is the search's to report)
            self.errors.append(error)


def slot_loop(config: dict[str, Any]) -> None:
    """The training function of a slot's workers: everything that is slow to make is made once, before the loop."""
    from trainables.ranks import Ranks

    desk = _Desk(config["dispatcher"], config["slot"], Ranks())
    try:
        trainer = make_trainer(config["job"], desk.ranks.world_size)
    except Exception as error:  # noqa: BLE001  (Train would start it again and again, and say nothing)
        desk.lost(error)
        return
    desk.trainer = trainer
    while True:
        job = desk.take()
        if job == "close":
            return
        if not isinstance(job, Job):
            continue
        try:
            for report in trainer.train(
                job.path, job.rungs, namespace=job.namespace, control=desk.control(job), milestone=desk.milestone(job)
            ):
                desk.report(job, Measured(**vars(report)))
        except Exception as error:
            trainer.forget()
            match desk.ended_by(job, error):
                case "end":
                    return
                case "restart":
                    raise


def make_trainer(what: SlotJob, world_size: int) -> Any:
    """A `trainables.loop.Trainer` over the packs of a search, on this worker's device."""
    import torch

    from datasets import Pack, Source
    from datasets.compositing import Compositor, Scenes
    from trainables.loop import Trainer
    from trainables.numerics import division, set_deterministic
    from trainables.store import Store
    from trainables.task import build_task

    set_deterministic(what.threads)
    device: torch.device = ray.train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    part = division(device, world_size=world_size)
    packs = {pack: Pack.open(*pack) for group in what.packs.values() for pack in group}
    scenes = None
    if what.backgrounds:
        behind = {use: [Pack.open(*pack) for pack in group] for use, group in what.backgrounds.items()}
        scenes = Scenes(Compositor.over(behind["train"]), Compositor.over(behind["evaluation"]))
    task = build_task(what.task, scenes)
    sources = {
        name: Source([packs[pack] for pack in group], read_columns(name, task)) for name, group in what.packs.items()
    }
    return Trainer(
        what.task,
        [source for name, source in sources.items() if trains(name)],
        val=sources["val"],
        tests={name.removeprefix("test/"): source for name, source in sources.items() if name.startswith("test/")},
        store_of=lambda namespace: Store(what.store, f"{part}/{namespace}" if namespace else part),
        device=device,
        scenes=scenes,
        num_workers=what.loaders,
    )


class _Desk:
    """A slot's side of the conversation with the dispatcher: rank 0 talks, the other ranks hear the same."""

    def __init__(self, dispatcher: Any, slot: int, ranks: Any) -> None:
        self.ranks = ranks
        self.trainer: Any = None
        self._dispatcher = dispatcher
        self._slot = slot
        self._incarnation = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def take(self) -> Job | str:
        job = None
        if self.ranks.first:
            job = ray.get(self._dispatcher.take.remote(self._slot, self._incarnation, TAKE_WAIT_S))
        return self.ranks.broadcast(job)

    def control(self, job: Job) -> Any:
        """The loop's question before each step. An answer is read when it is there, so that no step waits for it."""
        asked: list[Any] = []
        here = (self._slot, job.id)
        asked_at, asked_stage, answer = 0.0, "", True

        def go_on(stage: Stage, step: int) -> bool:
            nonlocal asked_at, asked_stage, answer
            if self.ranks.first:
                if asked and ray.wait(asked, timeout=0)[0]:
                    answer = answer and ray.get(asked.pop())
                if not asked and (time.monotonic() - asked_at > ASK_EVERY_S or asked_stage != stage.key):
                    asked.append(self._dispatcher.progress.remote(*here, stage.key, step, self.trainer.steps_trained))
                    asked_at, asked_stage = time.monotonic(), stage.key
            if self.ranks.world_size > 1 and step % 10:
                return True  # one broadcast in ten steps: every rank must leave at the same one
            return bool(self.ranks.broadcast(answer))

        return go_on

    def milestone(self, job: Job) -> Any:
        def tell(stage: str, step: int) -> None:
            if self.ranks.first:
                self._dispatcher.milestone.remote(self._slot, job.id, stage, step)

        return tell

    def report(self, job: Job, outcome: Outcome) -> None:
        if self.ranks.first:
            ray.get(self._dispatcher.report.remote(self._slot, job.id, outcome, self.trainer.steps_trained))

    def lost(self, error: Exception) -> None:
        """This slot cannot work: the search shows why, and ends when no slot is left."""
        log.error("slot %d ends: %s", self._slot, error)
        ray.get(self._dispatcher.lost.remote(self._slot, _one_line(error)))

    def ended_by(self, job: Job, error: Exception) -> Literal["go on", "restart", "end"]:
        """Says what ended a job to the dispatcher, and to the slot what to do.

        A verdict: go on with the next job. An error of the place and not of the recipe (store or packs cannot be
        read or written): the job stays unfinished and the slot ends. A poisoned process: restart, and the job is queued
        again. Anything else fails the job; with several workers the slot restarts, since the others wait for this one.
        """
        import torch

        from datasets import PackError
        from trainables.loop import Interrupted

        alone = self.ranks.world_size == 1
        if isinstance(error, (Interrupted, OSError, PackError)):
            if self.ranks.first:
                ray.get(self._dispatcher.released.remote(self._slot, job.id, self.trainer.steps_trained))
            if isinstance(error, Interrupted):
                return "go on"
            self.lost(error)
            return "end" if alone else "restart"
        if isinstance(error, torch.AcceleratorError):
            return "restart"
        if not alone and isinstance(error, RuntimeError):
            # A peer that was killed shows as a failed collective here: Train is given the time to end this one too.
            time.sleep(PEER_LOSS_S)
        outcome = Failed(_one_line(error), traceback.format_exc())
        ray.get(self._dispatcher.report.remote(self._slot, job.id, outcome, self.trainer.steps_trained))
        return "go on" if alone else "restart"


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
