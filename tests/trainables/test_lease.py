"""Leases: two trainers on one store do not train a stage at the same time, and nothing of that changes a number."""

import json
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.toy import RECIPES, RUNGS, toy_problem, toy_trainer
from trainables.lease import FAR_S, Lease, Leased, Terms, held_until, lease_path
from trainables.loop import Interrupted, Report
from trainables.numerics import set_deterministic
from trainables.path import path_of, steps_shared
from trainables.ranks import Ranks
from trainables.recipe import Recipe
from trainables.run import NotFiniteError
from trainables.store import Store

STAGE = "a" * 32


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    set_deterministic(1)


def store_of(folder: Path) -> Store:
    return Store(str(folder), "division")


def write(store: Store, stage: str, **terms: Any) -> Path:
    """A lease as another process left it."""
    store.objects.write_json(lease_path(store, stage), terms)
    return Path(lease_path(store, stage))


def until_leased(reports: Iterator[Report]) -> list[Report]:
    """The reports up to a stage that is leased."""
    found: list[Report] = []
    with pytest.raises(Leased):
        found.extend(reports)
    return found


def results(reports: list[Report]) -> list[tuple[int, dict[str, float]]]:
    return [(report.step, report.metrics) for report in reports]


@pytest.fixture(scope="module")
def alone(toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[tuple[int, Any]]]:
    made: dict[str, list[tuple[int, Any]]] = {}

    def train(name: str) -> list[tuple[int, Any]]:
        if name not in made:
            path = path_of(RECIPES[name], toy_problem(toy_packs), 0)
            made[name] = results(list(toy_trainer(toy_packs, tmp_path_factory.mktemp("alone")).train(path, RUNGS)))
        return made[name]

    return train


def test_a_stage_that_another_trains_is_leased_until_its_checkpoint_is_there(
    toy_packs: Path, tmp_path: Path, alone: Any
) -> None:
    path = path_of(RECIPES["finetune"], toy_problem(toy_packs), 0)
    first, second = toy_trainer(toy_packs, tmp_path), toy_trainer(toy_packs, tmp_path)
    refused: list[tuple[str, int]] = []

    def control(stage: Any, step: int) -> bool:
        lease = json.loads(Path(lease_path(store_of(tmp_path), stage.key)).read_text())
        assert lease["owner"] == first.owner
        with pytest.raises(Leased) as caught:
            list(second.train(path, RUNGS))
        assert caught.value.stage == stage.key
        assert caught.value.until == lease["expires"] > time.time()
        assert "\n" not in str(caught.value)
        refused.append((caught.value.stage, step))
        return True

    assert results(list(first.train(path, RUNGS, control=control))) == alone("finetune")
    assert len(refused) == sum(leg.steps for leg in path)
    assert second.steps_trained == 0
    assert results(list(second.train(path, RUNGS))) == alone("finetune")
    assert second.steps_trained == 0


def test_what_is_stored_needs_no_lease(toy_packs: Path, tmp_path: Path, alone: Any) -> None:
    path = path_of(RECIPES["finetune"], toy_problem(toy_packs), 0)
    list(toy_trainer(toy_packs, tmp_path).train(path, (3,)))
    store = store_of(tmp_path)
    for leg in path:
        write(store, leg.stage.key, owner="other", expires=time.time() + 20, step=3)
    for file in tmp_path.rglob("eval-*.json"):
        file.unlink()
    trainer = toy_trainer(toy_packs, tmp_path)
    reports = until_leased(trainer.train(path, RUNGS))  # the second rung would have to be trained
    assert results(reports) == alone("finetune")[:1]
    assert trainer.steps_trained == 0
    assert json.loads(Path(lease_path(store, path[-1].stage.key)).read_text())["owner"] == "other"
    Path(lease_path(store, path[-1].stage.key)).unlink()  # the trunk's does not matter: what is needed of it is there
    assert results(list(trainer.train(path, RUNGS))) == alone("finetune")


def test_a_lease_goes_when_its_stage_is_left(toy_packs: Path, tmp_path: Path) -> None:
    problem = toy_problem(toy_packs)
    asked = iter(range(100))
    trainer = toy_trainer(toy_packs, tmp_path)
    with pytest.raises(Interrupted):
        list(trainer.train(path_of(RECIPES["finetune"], problem, 0), RUNGS, control=lambda s, n: next(asked) < 6))
    assert not list(tmp_path.rglob("lease.json"))
    diverges = Recipe.from_params(RECIPES["real"].params() | {"lr": 1e30})
    with pytest.raises(NotFiniteError):
        list(trainer.train(path_of(diverges, problem, 0), RUNGS))
    assert not list(tmp_path.rglob("lease.json"))
    list(toy_trainer(toy_packs, tmp_path).train(path_of(RECIPES["mixed"], problem, 0), RUNGS))
    assert not list(tmp_path.rglob("lease.json"))


def _ignored(now: float) -> dict[str, bytes]:
    lease = {"owner": "other", "expires": now + 20, "step": 1}
    return {
        "expired": json.dumps(lease | {"expires": now - 1}).encode(),
        "of a wrong clock": json.dumps(lease | {"expires": now + FAR_S + 60}).encode(),
        "not a number": json.dumps(lease | {"expires": float("nan")}).encode(),
        "without an end": json.dumps({"owner": "other", "step": 1}).encode(),
        "cut": json.dumps(lease).encode()[:-4],
        "no text": b"\xff\xfe\x00",
        "another value": b"[3]",
        "empty": b"",
    }


@pytest.mark.parametrize("kind", _ignored(0.0))
def test_a_lease_that_says_nothing_is_replaced(toy_packs: Path, tmp_path: Path, alone: Any, kind: str) -> None:
    (leg,) = path_of(RECIPES["real"], toy_problem(toy_packs), 0)
    store = store_of(tmp_path)
    file = write(store, leg.stage.key)
    file.write_bytes(_ignored(time.time())[kind])
    trainer = toy_trainer(toy_packs, tmp_path)
    seen = set()

    def control(stage: Any, step: int) -> bool:
        seen.add(json.loads(file.read_text())["owner"])
        return True

    assert results(list(trainer.train((leg,), RUNGS, control=control))) == alone("real")
    assert seen == {trainer.owner}


def test_a_trainer_whose_lease_was_taken_gives_way_and_loses_no_step(
    toy_packs: Path, tmp_path: Path, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that was suspended for long, or whose clock is behind."""
    monkeypatch.setattr("trainables.loop.LEASE_S", 0.0)  # renewed before every step
    (leg,) = path_of(RECIPES["mixed"], toy_problem(toy_packs), 0)
    store = store_of(tmp_path)

    def control(stage: Any, step: int) -> bool:
        if step == 5:
            write(store, stage.key, owner="other", expires=time.time() + 20, step=4)
        return True

    trainer = toy_trainer(toy_packs, tmp_path, checkpoint_s=0.0)
    assert len(until_leased(trainer.train((leg,), RUNGS, control=control))) == 1
    file = Path(lease_path(store, leg.stage.key))
    assert json.loads(file.read_text())["owner"] == "other"  # whose lease it is now
    assert trainer.steps_trained == 5
    file.unlink()
    again = toy_trainer(toy_packs, tmp_path)
    assert results(list(again.train((leg,), RUNGS))) == alone("mixed")
    assert again.steps_trained == 1


def test_a_lease_is_renewed_before_it_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = store_of(tmp_path), [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    written = []
    with Lease(store, STAGE, "me", Ranks(), 0, 30.0) as lease:
        file = Path(lease_path(store, STAGE))
        for step in range(1, 61):  # a minute of steps of a second
            now[0] += 1
            assert lease.lost(step) is None
            terms = Terms.parse(file.read_bytes(), now[0])
            assert terms is not None
            assert terms.expires - now[0] > 15  # clocks may differ by half of it
            written.append(terms)
            assert held_until(store, STAGE, "me") is None
            assert held_until(store, STAGE, "you") == terms.expires
    assert len(set(written)) == 6  # once in eleven seconds, and before the first
    assert not file.exists()


def test_a_store_that_fails_stops_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "division").write_text("in the way")
    store = store_of(tmp_path)
    with Lease(store, STAGE, "me", Ranks(), 0, 30.0) as lease:
        assert lease.lost(1) is None
    assert f"stage {STAGE} is trained without a lease" in caplog.text


def test_leased_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(Leased(STAGE, 12.5)))
    assert (error.stage, error.until, str(error)) == (
        STAGE,
        12.5,
        f"stage {STAGE} is trained by another search; ask again in 0 s",
    )


def _train_and_die(packs: str, store: str) -> None:
    set_deterministic(1)

    def control(stage: object, step: int) -> bool:
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    path = path_of(RECIPES["real"], toy_problem(Path(packs)), 0)
    list(toy_trainer(Path(packs), Path(store)).train(path, RUNGS, control=control))


def test_a_crash_leaves_a_lease_that_expires(toy_packs: Path, tmp_path: Path, alone: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_train_and_die, args=(str(toy_packs), str(tmp_path)))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    (file,) = tmp_path.rglob("lease.json")
    path = path_of(RECIPES["real"], toy_problem(toy_packs), 0)
    trainer = toy_trainer(toy_packs, tmp_path)
    left = json.loads(file.read_text())
    file.write_text(json.dumps(left | {"expires": time.time() + 20}))  # however long the process took to end
    with pytest.raises(Leased):
        list(trainer.train(path, RUNGS))
    file.write_text(json.dumps(left | {"expires": time.time() - 0.001}))
    assert results(list(trainer.train(path, RUNGS))) == alone("real")
    assert not list(tmp_path.rglob("lease.json"))


NAMES = ("finetune", "synthetic", "finetune real_bn")


def _search(packs: str, store: str, barrier: Any, answers: Any, names: tuple[str, ...]) -> None:
    """What a search does with a stage that is leased: something else first, and then it asks again."""
    set_deterministic(1)
    trainer = toy_trainer(Path(packs), Path(store))
    left, table = list(names), {}
    barrier.wait(120)
    while left:
        name = left.pop(0)
        try:
            table[name] = results(list(trainer.train(path_of(RECIPES[name], toy_problem(Path(packs)), 0), RUNGS)))
        except Leased:
            trainer.forget()
            left.append(name)
            time.sleep(0.01)
    answers.put((table, trainer.steps_trained))


def test_two_searches_share_a_store(toy_packs: Path, tmp_path: Path, alone: Any) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    orders = (NAMES, NAMES[::-1])
    processes = [
        context.Process(target=_search, args=(str(toy_packs), str(tmp_path), barrier, answers, order))
        for order in orders
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=180) for _ in processes]
    for process in processes:
        process.join(60)
    for table, _ in found:
        assert table == {name: alone(name) for name in NAMES}
    paths = [path_of(RECIPES[name], toy_problem(toy_packs), 0) for name in NAMES]
    trained = sum(steps for _, steps in found)
    assert steps_shared(paths) <= trained <= 2 * steps_shared(paths)  # twice only what both began at one moment
    assert not list(tmp_path.rglob("lease.json"))
    assert not list(tmp_path.rglob("*.tmp"))
