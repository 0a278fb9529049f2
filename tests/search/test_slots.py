"""A slot reads the packs that the driver read; what it says at its desk; how many slots a pool has."""

import errno
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from datasets import Pack, PackError
from search.config import Node, SlotsConfig, load
from search.desk import ASK_AT_FIRST_S, ASK_EVERY_S, Desk, Pace
from search.dispatcher import Dispatcher
from search.job import Job, Measured, Ticket
from search.pool import CONTROLLERS, SlotPool
from search.problem import open_problem
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
    job = SlotJob(SPEC, opened.packs, opened.backgrounds, str(tmp_path / "store"), "me", threads=1, loaders=0)
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


def test_a_slot_at_its_desk_lives_hears_verdicts_and_gives_leased_stages_back(dispatcher: Any) -> None:
    import ray

    def ask(what: str, *words: Any) -> Any:
        return ray.get(getattr(dispatcher, what).remote(*words))

    tickets = [Ticket(n, 0, 0, tuple(RECIPES[name].params().items())) for n, name in enumerate(("real", "mixed"))]
    desk = Desk(dispatcher, 0, Ranks())
    desk.trainer = SimpleNamespace(steps_trained=0, forget=lambda: None)
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

    cluster: list[Node] = [(1, 0)]
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
    cluster = [(1, 0), (2, 0)]
    until(lambda: pool.alive == slots)
    cluster = [(1, 0)]
    seen = looks
    if count == "auto":
        until(lambda: looks > seen + 2)
    assert pool.alive == slots
    ray.get(dispatcher.beat.remote(0, "a"))
    assert not pool.join(0.3)  # slot 0 has spoken, and works
    pool.gates[0].set()
    assert pool.join(60)
    assert pool.alive == slots - 1  # those that never spoke wait for a node, and are not waited for
    for gate in pool.gates.values():
        gate.set()


def test_a_slot_outlives_an_outage_of_the_store_but_not_one_without_end(
    dispatcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr("search.desk.PATIENCE_S", (0.01, 0.02))
    desk = Desk(dispatcher, 0, Ranks())
    desk.trainer = SimpleNamespace(steps_trained=0, forget=lambda: None, checkpoints=SimpleNamespace(saved=0))
    ray.get(dispatcher.submit.remote(Ticket(0, 0, 0, tuple(RECIPES["real"].params().items()))))

    def fails(error: Exception) -> str:
        job = desk.take()
        assert isinstance(job, Job)  # the same again
        return desk.ended_by(job, error)

    assert [fails(OSError("out of reach")) for _ in range(2)] == ["go on", "go on"]
    desk.trainer.checkpoints.saved = 1  # the store was there again
    job = desk.take()
    assert isinstance(job, Job)
    assert desk.ended_by(job, OSError("out of reach")) == "go on"
    desk.report(job, Measured(3, {}, 0, 3, final=False))  # which may be read from a store that takes no more
    assert [fails(OSError("out of reach")) for _ in range(2)] == ["go on", "end"]
    assert ray.get(dispatcher.snapshot.remote())["errors"] == {0: "OSError: out of reach"}

    desk.leave()
    full = StoreError("the store must be writable")
    full.__context__ = OSError(errno.ENOSPC, "No space left on device")
    for slot, error in enumerate((full, PackError("p: the file is damaged")), start=1):  # nothing to wait for
        other = Desk(dispatcher, slot, Ranks())
        other.trainer = desk.trainer
        job = other.take()
        assert isinstance(job, Job)
        assert other.ended_by(job, error) == "end"
        other.leave()


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

    monkeypatch.setattr("search.pool.TorchTrainer", Trainer)
    monkeypatch.setattr("search.pool.PAUSE_S", 0.0)
    pool = SlotPool(1, SlotsConfig(count=1), None, dispatcher, "", "toy")  # type: ignore[arg-type]
    pool.start()
    until(lambda: not pool.alive)
    assert pool.join(60)
    assert len(pool.errors) == errors
    assert len(set(begun)) == CONTROLLERS  # each run of Train has a name of its own


def test_a_slot_that_is_to_leave_its_node_gives_its_job_back_and_takes_none(dispatcher: Any) -> None:
    import ray

    leaving = False
    desk = Desk(dispatcher, 0, Ranks(), lambda: leaving)
    desk.trainer = SimpleNamespace(steps_trained=0, forget=lambda: None)
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
    other = Desk(dispatcher, 1, Ranks()).take()  # as urgent as it was
    assert isinstance(other, Job)
    assert other.id == job.id
    desk.leave()
