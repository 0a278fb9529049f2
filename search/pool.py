"""The pool: the slots of a search, each a `SlotTrainer.fit` in a thread of the driver. It grows with the cluster."""

import logging
import threading
import time
import uuid
from typing import Any

import ray
from ray.exceptions import ActorDiedError
from ray.train import FailureConfig, RunConfig, ScalingConfig

from search.controllers import SlotTrainer, end_controllers, free_groups
from search.shape import Node, SlotsConfig
from search.slots import SlotJob, slot_loop

log = logging.getLogger(__name__)

WATCH_S = 3.0  # how often the cluster's size is looked at
CONTROLLERS = 5  # that a slot may lose one after another: Train restarts its workers, but nobody its controller
LASTED_S = 600.0  # a controller that lived so long is no more of those
PAUSE_S = 2.0  # before another one is started
END_S = 10.0  # in which the slots that are left at the end of a search are ended
MODEL = "accelerator_type:"  # before the name of a GPU's model among a node's resources


def nodes() -> list[Node]:
    """The nodes of the cluster that are alive."""
    return [_node(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _node(resources: dict[str, float]) -> Node:
    models = frozenset(name.removeprefix(MODEL) for name in resources if name.startswith(MODEL))
    return Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0), models)


def slot_count(slots: SlotsConfig, cluster: list[Node]) -> int:
    """How many slots a cluster of these nodes holds; ValueError when not even one (or not as many as asked)."""
    fits = slots.fit(cluster)
    wanted = fits if slots.count == "auto" else slots.count
    if wanted < 1 or wanted > fits:
        has = ", ".join(f"{node.cpus:g} CPUs and {node.gpus:g} GPUs{_of(node)}" for node in cluster)
        where = f" of {slots.accelerator_type}" if slots.accelerator_type else ""
        raise ValueError(
            f"slots: the cluster must hold {max(wanted, 1)} x ({slots.workers} workers of {slots.threads} CPUs and"
            f" {slots.gpus_per_worker:g} GPUs{where}, each on one node), but it has nodes of {has};"
            " lower slots.count or the worker's size"
        )
    return wanted


def _of(node: Node) -> str:
    return f" ({', '.join(sorted(node.accelerator_types))})" if node.accelerator_types else ""


class SlotPool:
    """The slots of a search. With `count: auto` there are more as soon as the cluster can hold more.

    Where it shrinks nothing is ended: a slot that has lost its node waits, within Ray Train, for another one, and is
    absent until then.

    count  of slots at the start
    """

    def __init__(
        self, count: int, slots: SlotsConfig, job: SlotJob, dispatcher: Any, storage: str, search: str
    ) -> None:
        self.errors: list[BaseException] = []
        self._count = count
        self._slots = slots
        self._job = job
        self._dispatcher = dispatcher
        self._storage = storage
        self._search = search
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="slots", daemon=True)

    def start(self) -> None:
        self._grow(self._count)
        self._watcher.start()

    @property
    def alive(self) -> int:
        """Slots that work, start, or wait for a node."""
        return sum(thread.is_alive() for thread in self._threads)

    def join(self, timeout_s: float) -> bool:
        """Waits for the slots to end, after the dispatcher was closed; False when some did not in time.

        Absent ones are not waited for, since nobody knows when they come back: they are ended.
        """
        self._closing.set()
        self._watcher.join()
        deadline = time.monotonic() + timeout_s
        ended = False
        while not ended and time.monotonic() < deadline:
            present = ray.get(self._dispatcher.present.remote())
            ended = not any(self._threads[number].is_alive() for number in present)
            time.sleep(0 if ended else 0.1)
        self._end()
        return ended

    def _end(self) -> None:
        """Ends the slots that are left. A thread that still waits for its controller when Ray is shut down would end
        this whole process with an error, at whatever it does by then."""
        deadline = time.monotonic() + END_S
        while self.alive and time.monotonic() < deadline:
            end_controllers()
            time.sleep(0.1)

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_S):
            try:
                ray.get(self._dispatcher.present.remote())  # so that slots fall silent even where no other is left
                if self._slots.count == "auto":
                    self._grow(self._slots.fit(nodes()))
            except ray.exceptions.RayError as error:  # the dispatcher or Ray's head is just restarted
                log.warning("the cluster did not say what it has: %s", error)

    def _grow(self, count: int) -> None:
        """Starts slots until so many were started. Those that ended are not replaced: they could not work."""
        for number in range(len(self._threads), count):
            thread = threading.Thread(target=self._fit, args=(number,), name=f"slot-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _fit(self, number: int) -> None:
        """A slot, to its end. Its workers go with its controller, and both are started anew."""
        lost = 0
        while True:
            began = time.monotonic()
            try:
                self._trainer(number).fit()
            except ActorDiedError as error:
                lost = lost + 1 if time.monotonic() - began < LASTED_S else 1
                if lost < CONTROLLERS and not self._closing.wait(PAUSE_S):
                    log.warning(
                        "slot %d lost its controller and is started again: %s", number, str(error).split("\n")[0]
                    )
                    free_groups()
                    continue
                if not self._closing.is_set():  # else it was ended
                    self.errors.append(error)
            except Exception as error:  # noqa: BLE001  (whatever ended a slot is the search's to report)
                self.errors.append(error)
            return

    def _trainer(self, number: int) -> SlotTrainer:
        slots = self._slots
        resources: dict[str, float] = {"CPU": slots.threads}
        if slots.gpus_per_worker:
            resources["GPU"] = slots.gpus_per_worker
        return SlotTrainer(
            slot_loop,
            train_loop_config={"slot": number, "job": self._job, "dispatcher": self._dispatcher},
            scaling_config=ScalingConfig(
                num_workers=slots.workers,
                use_gpu=bool(slots.gpus_per_worker),
                resources_per_worker=resources,
                accelerator_type=slots.accelerator_type,
            ),
            run_config=RunConfig(
                name=f"{self._search}-slot-{number}-{uuid.uuid4().hex[:8]}",
                storage_path=self._storage,
                failure_config=FailureConfig(max_failures=-1, controller_failure_limit=-1),  # type: ignore[call-arg]
            ),
        )
