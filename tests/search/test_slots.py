"""A slot reads the packs that the driver read; what it says at its desk; how many slots a pool has."""

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.train import BackendConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from datasets import Pack, PackError
from search.cluster import ROOT
from search.config import load
from search.controllers import SlotTrainer, end_controllers, free_groups
from search.desk import ASK_AT_FIRST_S, ASK_EVERY_S, Desk, Pace
from search.dispatcher import Dispatcher
from search.job import Job, Measured, Ticket
from search.patience import Patience
from search.pool import CONTROLLERS, SlotPool
from search.problem import open_problem
from search.shape import Node, SlotsConfig
from search.slots import SlotJob, make_trainer
from tests.toy import RECIPES, SPEC, toy_problem, toy_search
from trainables.lease import Leased
from trainables.loop import Interrupted
from trainables.objects import StoreError
from trainables.ranks import Ranks


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_slot_refuses_a_pack_that_was_replaced_after_the_driver_read_it(
    toy_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("TITRATE_PACK_CACHE", str(tmp_path / "driver"))
    shutil.copytree(toy_packs, tmp_path / "packs")
    opened = open_problem(load(toy_search(f"{scheme}{tmp_path}/packs", tmp_path)))
    job = SlotJob(
        SPEC, opened.packs, opened.backgrounds, str(tmp_path / "store"), "me", threads=1, loaders=0, cache_bytes=2**20
    )
    trainer = make_trainer(job, 1)
    digests = {"val": trainer.sets.val.digest, "test/same": trainer.sets.tests["same"].digest}
    assert digests.items() <= opened.digests.items()

    old, new = (Pack.open(toy_packs / name).digest[:12] for name in ("val", "test"))
    shutil.rmtree(tmp_path / "packs" / "val")
    shutil.copytree(toy_packs / "test", tmp_path / "packs" / "val")
    monkeypatch.setenv("TITRATE_PACK_CACHE", str(tmp_path / "another node"))
    with pytest.raises(PackError, match=f"packs/val: digest must be {old}, but is {new}; the pack was replaced"):
        make_trainer(job, 1)


def test_a_slot_asks_at_once_after_a_report_and_less_and_less_often_then() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    for _ in range(2):
        asked = []
        for step in range(1, 401):  # of a hundredth of a second
            now += 0.01
            if pace.due():
                pace.asked()
                asked.append(step)
        gaps = [(b - a) / 100 for a, b in itertools.pairwise(asked)]
        assert asked[0] == 1
        assert gaps[0] == pytest.approx(ASK_AT_FIRST_S, abs=0.011)
        assert gaps == sorted(gaps)
        assert gaps[-1] == pytest.approx(ASK_EVERY_S, abs=0.011)
        pace.hurry()


@pytest.fixture
def dispatcher(ray_session: None, toy_packs: Path) -> Iterator[Any]:
    import ray

    actor: Any = ray.remote(Dispatcher)
    handle = actor.options(num_cpus=0).remote(toy_problem(toy_packs), share=True, max_failures=3)
    yield handle
    ray.kill(handle)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Hasty(Dispatcher):
    """One that bears two outages in a row."""

    def __init__(self, *what: Any, **options: Any) -> None:
        super().__init__(*what, **options)
        self._patience = Patience(time.monotonic, (0.01, 0.02))


def worker(dispatcher: Any, slot: int, world_size: int = 1, leaving: Callable[[], bool] = lambda: False) -> Desk:
    desk = Desk(dispatcher, slot, Several(world_size), leaving)
    desk.trainer = SimpleNamespace(steps_trained=0, forget=lambda: None, checkpoints=SimpleNamespace(saved=0))
    return desk


class Several(Ranks):
    """Rank 0 of some workers, which agree with it."""

    def __init__(self, world_size: int) -> None:
        super().__init__()
        self.world_size = world_size

    def broadcast(self, value: Any) -> Any:
        return value


def test_a_slot_at_its_desk_lives_hears_verdicts_and_gives_leased_stages_back(dispatcher: Any) -> None:
    import ray

    def ask(what: str, *words: Any) -> Any:
        return ray.get(getattr(dispatcher, what).remote(*words))

    tickets = [Ticket(n, 0, 0, tuple(RECIPES[name].params().items())) for n, name in enumerate(("real", "mixed"))]
    desk = worker(dispatcher, 0)
    until(lambda: ask("present") == [0])  # nobody took anything yet: it is the heartbeat that was heard
    for ticket in tickets:
        ask("submit", ticket)
    job = desk.take()
    assert isinstance(job, Job)
    stage = job.path[0].stage
    go_on = desk.control(job)
    assert go_on(stage, 0)
    desk.trainer.steps_trained = 3
    desk.milestone(job)(stage.key, 3)
    desk.report(job, Measured(3, {}, 0, 3, final=False))
    until(lambda: ask("snapshot")["progress"] == {stage.key: 3})
    ask("stop", job.id)
    until(lambda: not go_on(stage, 4))
    assert desk.ended_by(job, Interrupted("as told")) == "go on"

    other = desk.take()
    assert isinstance(other, Job)
    assert other.id == tickets[1].id
    leased = other.path[0].stage.key
    assert desk.ended_by(other, Leased(leased, time.time() + 60)) == "go on"
    shot = ask("snapshot")
    assert shot["waiting"] == {other.id: leased}
    assert shot["steps_trained"] == 3

    ray.kill(dispatcher)
    assert desk.take() == "close"
    desk.leave()


class Standing(SlotPool):
    """A pool whose slots stand still until they are let go, one by one."""

    def _fit(self, number: int) -> None:
        self.gates.setdefault(number, threading.Event()).wait()

    gates: dict[int, threading.Event]


@pytest.mark.parametrize(("count", "slots"), [("auto", 3), (1, 1)])
def test_a_pool_grows_with_the_cluster_and_waits_for_nobody_who_is_absent(
    dispatcher: Any, monkeypatch: pytest.MonkeyPatch, count: Any, slots: int
) -> None:
    import ray

    cluster = [Node(1, 0)]
    looks = 0

    def nodes() -> list[Node]:
        nonlocal looks
        looks += 1
        return cluster

    monkeypatch.setattr("search.pool.nodes", nodes)
    monkeypatch.setattr("search.pool.WATCH_S", 0.02)
    pool = Standing(1, SlotsConfig(count=count), None, dispatcher, "", "toy")  # type: ignore[arg-type]
    pool.gates = {n: threading.Event() for n in range(3)}
    pool.start()
    assert pool.alive == 1
    cluster = [Node(1, 0), Node(2, 0)]
    until(lambda: pool.alive == slots)
    cluster = [Node(1, 0)]
    seen = looks
    if count == "auto":
        until(lambda: looks > seen + 2)
    assert pool.alive == slots
    ray.get(dispatcher.beat.remote(0, "a", 0))
    assert not pool.join(0.3)  # slot 0 has spoken, and works
    pool.gates[0].set()
    assert pool.join(60)
    assert pool.alive == slots - 1  # those that never spoke wait for a node, and are not waited for
    for gate in pool.gates.values():
        gate.set()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_slot_outlives_an_outage_of_the_store_but_not_one_without_end(
    ray_session: None, toy_packs: Path, workers: int
) -> None:
    import ray

    actor: Any = ray.remote(Hasty)
    dispatcher = actor.options(num_cpus=0).remote(toy_problem(toy_packs), share=True, max_failures=3)
    ray.get(dispatcher.submit.remote(Ticket(0, 0, 0, tuple(RECIPES["real"].params().items()))))
    on, off = ("go on", "end") if workers == 1 else ("restart", "restart")
    desk = worker(dispatcher, 0, workers)

    def fails() -> str:
        """An outage; several workers are then other ones."""
        nonlocal desk
        while not isinstance(job := desk.take(), Job):
            assert job == "wait"
        then = desk.ended_by(job, OSError("out of reach"))
        if workers > 1:
            desk.leave()
            desk = worker(dispatcher, 0, workers)
        return then

    assert [fails() for _ in range(2)] == [on, on]
    desk.trainer.checkpoints.saved = 1  # the store was there again
    assert fails() == on
    while not isinstance(job := desk.take(), Job):
        pass
    desk.report(job, Measured(3, {}, 0, 3, final=False))  # which may be read from a store that takes no more
    assert [fails() for _ in range(2)] == [on, off]
    assert ray.get(dispatcher.snapshot.remote())["errors"] == {0: "OSError: out of reach"}
    assert desk.take() == "close"
    desk.leave()
    ray.kill(dispatcher)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (StoreError("the store must be writable"), OSError(errno.ENOSPC, "No space left on device")),
        (StoreError("s3://b must be writable"), OSError("When uploading: AWS Error ACCESS_DENIED during PutObject")),
        (PackError("p: the file is damaged"), None),
    ],
)
def test_what_somebody_must_see_to_is_not_tried_again(
    dispatcher: Any, error: Exception, cause: Exception | None
) -> None:
    import ray

    ray.get(dispatcher.submit.remote(Ticket(0, 0, 0, tuple(RECIPES["real"].params().items()))))
    error.__context__ = cause
    desk = worker(dispatcher, 0)
    job = desk.take()
    assert isinstance(job, Job)
    assert desk.ended_by(job, error) == "end"
    desk.leave()


@pytest.mark.parametrize(("deaths", "errors"), [(CONTROLLERS - 1, 0), (CONTROLLERS, 1)])
def test_a_slot_whose_controller_is_killed_is_started_again_but_not_without_end(
    dispatcher: Any, monkeypatch: pytest.MonkeyPatch, deaths: int, errors: int
) -> None:
    begun: list[str] = []

    class Trainer:
        def __init__(self, *_: Any, run_config: Any, **more: Any) -> None:
            begun.append(run_config.name)

        def fit(self) -> None:
            if len(begun) <= deaths:
                raise ActorDiedError

    monkeypatch.setattr("search.pool.SlotTrainer", Trainer)
    monkeypatch.setattr("search.pool.PAUSE_S", 0.0)
    pool = SlotPool(1, SlotsConfig(count=1), None, dispatcher, "", "toy")  # type: ignore[arg-type]
    pool.start()
    until(lambda: not pool.alive)
    assert pool.join(60)
    assert len(pool.errors) == errors
    assert len(set(begun)) == CONTROLLERS  # each run of Train has a name of its own


def test_a_slots_train_run_has_no_processes_that_serve_nothing() -> None:
    names = [
        {type(one).__name__ for one in trainer(print, scaling_config=ScalingConfig())._create_default_callbacks()}
        for trainer in (TorchTrainer, SlotTrainer)
    ]
    assert names[0] - names[1] == {"DatasetsCallback", "PlacementGroupCleanerCallback"}
    assert names[1]


@pytest.mark.parametrize(("workers", "backend"), [(1, BackendConfig), (2, TorchConfig)])
def test_workers_are_a_process_group_of_torch_where_there_are_several(workers: int, backend: type) -> None:
    trainer = SlotTrainer(print, scaling_config=ScalingConfig(num_workers=workers))
    assert type(trainer.backend_config) is backend


def test_the_driver_starts_its_slots_without_torch() -> None:
    command = "import sys, search.run, search.engine; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True, timeout=120)


class TrainController:
    """By its name one of Ray Train's, as far as `end_controllers` is concerned."""

    def reserve(self) -> int:
        import ray

        self._group = ray.util.placement_group([{"CPU": 0.5}])
        ray.get(self._group.ready(), timeout=30)
        return os.getpid()


def created() -> set[str]:
    import ray

    return {name for name, group in ray.util.placement_group_table().items() if group["state"] == "CREATED"}


def test_what_a_dead_controller_reserved_is_free_again(ray_session: Any) -> None:
    import ray

    actor: Any = ray.remote(TrainController)
    alive, dies = actor.options(num_cpus=0).remote(), actor.options(num_cpus=0).remote()
    mine = ray.util.placement_group([{"CPU": 0.01}])
    ray.get(mine.ready(), timeout=30)
    before = created()
    ray.get(alive.reserve.remote())
    kept = created()
    os.kill(ray.get(dies.reserve.remote()), signal.SIGKILL)
    with pytest.raises(ActorDiedError):
        ray.get(dies.reserve.remote())
    assert len(created() - before) == 2  # as Ray has it: nobody else would free it

    def freed() -> bool:
        free_groups()
        return created() == kept

    until(freed)
    ray.kill(alive)
    until(lambda: (free_groups(), created() == before)[1])
    ray.util.remove_placement_group(mine)


def test_controllers_are_ended_and_nothing_else(ray_session: Any) -> None:
    import ray

    class Other:
        def lives(self) -> bool:
            return True

    controller: Any = ray.remote(TrainController).options(num_cpus=0).remote()
    other: Any = ray.remote(Other).options(num_cpus=0).remote()
    assert ray.get(other.lives.remote())
    end_controllers()
    with pytest.raises(ActorDiedError):
        ray.get(controller.reserve.remote(), timeout=30)
    assert ray.get(other.lives.remote())
    ray.kill(other)


def test_a_slot_that_is_to_leave_its_node_gives_its_job_back_and_takes_none(dispatcher: Any) -> None:
    import ray

    leaving = False
    desk = worker(dispatcher, 0, leaving=lambda: leaving)
    ticket = Ticket(0, 0, 0, tuple(RECIPES["real"].params().items()))
    ray.get(dispatcher.submit.remote(ticket))
    job = desk.take()
    assert isinstance(job, Job)
    go_on = desk.control(job)
    assert go_on(job.path[0].stage, 0)
    leaving = True
    assert not go_on(job.path[0].stage, 1)
    assert desk.ended_by(job, Interrupted("as told")) == "go on"
    assert desk.take() == "leave"
    other = worker(dispatcher, 1).take()  # as urgent as it was
    assert isinstance(other, Job)
    assert other.id == job.id
    desk.leave()
