"""Sharing is sound: a path trained from what others left gives the bits of one that was trained by itself."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.toy import RECIPES, RUNGS, toy_problem, toy_trainer
from trainables.loop import Interrupted, Report
from trainables.numerics import set_deterministic
from trainables.path import path_of, steps_alone, steps_shared
from trainables.store import Store

REPLICATES = (0, 1)


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    set_deterministic(1)


def train_all(packs: Path, store: Path, *, share: bool, **options: object) -> tuple[dict, int]:
    """{(recipe, replicate): [(step, metrics)]} of the fixed list of recipes, and the steps that were trained."""
    trainer = toy_trainer(packs, store, **options)
    problem = toy_problem(packs)
    table = {}
    for name, recipe in RECIPES.items():
        for replicate in REPLICATES:
            namespace = "" if share else f"alone-{recipe.key}"
            reports = trainer.train(path_of(recipe, problem, replicate), RUNGS, namespace=namespace)
            table[name, replicate] = [(report.step, report.metrics) for report in reports]
    return table, trainer.steps_trained


def checkpoints(store: Path) -> dict[str, bytes]:
    """The kept checkpoints of a store by (stage, step), whatever namespace they are in."""
    found: dict[str, bytes] = {}
    for file in store.rglob("kept-*.ckpt"):
        name = f"{file.parent.name}/{file.name}"
        raw = file.read_bytes()
        assert found.setdefault(name, raw) == raw, f"{name} has two contents"
    return found


@pytest.fixture(scope="module")
def undisturbed(toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, int, Path]:
    set_deterministic(1)
    store = tmp_path_factory.mktemp("undisturbed")
    return *train_all(toy_packs, store, share=False), store


@pytest.fixture(scope="module")
def together(toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, int, Path]:
    """The same recipes in one store that they share."""
    set_deterministic(1)
    store = tmp_path_factory.mktemp("together")
    return (*train_all(toy_packs, store, share=True), store)


def test_shared_and_unshared_runs_are_bit_equal_and_sharing_trains_less(
    toy_packs: Path, undisturbed: tuple[dict, int, Path], together: tuple[dict, int, Path]
) -> None:
    alone, steps_of_alone, store = undisturbed
    shared, steps_of_shared, shared_store = together
    assert shared == alone
    assert checkpoints(shared_store) == checkpoints(store)
    problem = toy_problem(toy_packs)
    paths = [path_of(recipe, problem, replicate) for recipe in RECIPES.values() for replicate in REPLICATES]
    assert steps_of_alone == steps_alone(paths)
    assert steps_of_shared == steps_shared(paths) < steps_of_alone


def test_metrics_move_and_differ_between_replicates(undisturbed: tuple[dict, int, Path]) -> None:
    """Guards the tests of this file against a training that does nothing."""
    table, _, _ = undisturbed
    assert table["real", 0] != table["real", 1]
    assert table["mixed", 0][0][1]["val/pixel_accuracy"] != table["mixed", 0][1][1]["val/pixel_accuracy"]
    assert any(name.startswith("test/same/") for name in table["real", 0][-1][1])
    assert not any(name.startswith("test/") for name in table["real", 0][0][1])


def test_a_second_search_trains_nothing(toy_packs: Path, together: tuple[dict, int, Path]) -> None:
    first, steps, store = together
    assert steps > 0
    again, steps = train_all(toy_packs, store, share=True)
    assert again == first
    assert steps == 0


def test_loader_processes_change_nothing(toy_packs: Path, tmp_path: Path, undisturbed: tuple[dict, int, Path]) -> None:
    table, _ = train_all(toy_packs, tmp_path, share=True, num_workers=2)
    assert table == undisturbed[0]


def test_a_longer_search_goes_on_from_the_shorter_one(toy_packs: Path, tmp_path: Path) -> None:
    problem = toy_problem(toy_packs)
    recipe = RECIPES["finetune"]
    path = path_of(recipe, problem, 0)
    short = toy_trainer(toy_packs, tmp_path)
    list(short.train(path, (3,)))
    long = toy_trainer(toy_packs, tmp_path)
    reports = list(long.train(path, (3, 6)))
    assert long.steps_trained == 3
    whole = list(toy_trainer(toy_packs, tmp_path / "other").train(path, (3, 6)))
    assert reports[-1].metrics == whole[-1].metrics


@pytest.mark.parametrize("name", ["finetune", "mixed"])
def test_a_device_that_augments_gives_the_same_bits_however_it_is_fed_and_stopped(
    toy_packs: Path, tmp_path: Path, undisturbed: tuple[dict, int, Path], name: str
) -> None:
    problem = toy_problem(toy_packs)
    training = problem.training.model_copy(update={"augmentation": "device"})
    path = path_of(RECIPES[name], replace(problem, training=training), 0)
    whole = [(r.step, r.metrics) for r in toy_trainer(toy_packs, tmp_path / "whole").train(path, RUNGS)]
    asked = iter(range(1_000_000))
    with pytest.raises(Interrupted):
        list(toy_trainer(toy_packs, tmp_path / "cut").train(path, RUNGS, control=lambda stage, step: next(asked) < 4))
    again = toy_trainer(toy_packs, tmp_path / "cut", num_workers=2)
    assert [(r.step, r.metrics) for r in again.train(path, RUNGS)] == whole
    assert checkpoints(tmp_path / "cut") == checkpoints(tmp_path / "whole")
    # The same draws as in the loader, rounded once instead of after each transform.
    loader = undisturbed[0][name, 0]
    assert path[-1].stage.key != path_of(RECIPES[name], problem, 0)[-1].stage.key
    assert 0 < abs(whole[-1][1]["train/loss"] - loader[-1][1]["train/loss"]) < 0.2  # of about 2.3


@pytest.mark.parametrize("name", ["finetune", "mixed"])
@pytest.mark.parametrize("stop_at", [1, 2, 4, 5, 7])
def test_a_verdict_to_stop_loses_nothing(
    toy_packs: Path, tmp_path: Path, undisturbed: tuple[dict, int, Path], name: str, stop_at: int
) -> None:
    path = path_of(RECIPES[name], toy_problem(toy_packs), 0)
    trainer = toy_trainer(toy_packs, tmp_path, checkpoint_s=0.0)
    asked = iter(range(1_000_000))
    reports: list[Report] = []
    try:
        for report in trainer.train(path, RUNGS, control=lambda stage, step: next(asked) < stop_at):
            reports.append(report)
    except Interrupted:
        pass
    assert trainer.steps_trained <= stop_at
    again = toy_trainer(toy_packs, tmp_path)
    reports = list(again.train(path, RUNGS))
    assert trainer.steps_trained + again.steps_trained == sum(leg.steps for leg in path)
    assert [(report.step, report.metrics) for report in reports] == undisturbed[0][name, 0]


def _train_and_die(packs: str, store: str, name: str, at: int) -> None:
    """In a process of its own: trains one path, with a checkpoint after each step, and is killed before step `at`."""
    set_deterministic(1)
    trainer = toy_trainer(Path(packs), Path(store), checkpoint_s=0.0, owner="killed")
    asked = iter(range(1_000_000))

    def control(stage: object, step: int) -> bool:
        if next(asked) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    list(trainer.train(path_of(RECIPES[name], toy_problem(Path(packs)), 0), RUNGS, control=control))


@pytest.mark.parametrize("at", [3, 4, 8])  # within the trunk, between the stages, beyond a rung
def test_a_killed_process_costs_no_bit(
    toy_packs: Path, tmp_path: Path, undisturbed: tuple[dict, int, Path], at: int
) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_train_and_die, args=(str(toy_packs), str(tmp_path), "finetune", at))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    trainer = toy_trainer(toy_packs, tmp_path, owner="killed")
    path = path_of(RECIPES["finetune"], toy_problem(toy_packs), 0)
    reports = list(trainer.train(path, RUNGS))
    assert [(report.step, report.metrics) for report in reports] == undisturbed[0]["finetune", 0]
    assert trainer.steps_trained == sum(leg.steps for leg in path) - at  # at most the steps since the last checkpoint
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_damaged_checkpoint_is_set_aside_and_trained_again(
    toy_packs: Path, tmp_path: Path, undisturbed: tuple[dict, int, Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = path_of(RECIPES["finetune"], toy_problem(toy_packs), 0)
    list(toy_trainer(toy_packs, tmp_path).train(path, (3,)))
    (trunk,) = tmp_path.rglob(f"{path[0].stage.key}/kept-00000004.ckpt")
    (rung,) = tmp_path.rglob(f"{path[1].stage.key}/kept-00000003.ckpt")
    for file in (trunk, rung):
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    reports = list(toy_trainer(toy_packs, tmp_path).train(path, RUNGS))
    assert [(report.step, report.metrics) for report in reports] == undisturbed[0]["finetune", 0]
    assert "damaged" in caplog.text
    assert Store(str(tmp_path), "division").kept(path[0].stage.key, 4)
