"""Two processes train one path: exact metrics, one verdict for all, and checkpoints that go on with the same bits."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from datasets import eval_batches
from tests.toy import RECIPES, RUNGS, toy_problem, toy_sources, toy_trainer
from trainables.loop import Interrupted, Trainer
from trainables.numerics import set_deterministic
from trainables.path import Path as StagePath
from trainables.path import path_of
from trainables.ranks import Ranks
from trainables.recipe import Recipe
from trainables.run import NotFiniteError, Run
from trainables.store import Store

NAMES = ("mixed", "finetune real_bn")
STOP = 4  # where the control of the interrupted run says no


def train(trainer: Trainer, path: StagePath, **options: Any) -> list[Any]:
    return [vars(report) for report in trainer.train(path, RUNGS, **options)]


def confusion(trainer: Trainer, run: Run) -> torch.Tensor:
    """The confusion matrix of a run's averaged weights on the validation set, summed over the ranks."""
    ranks = trainer.ranks
    evaluator: Any = trainer.task.evaluator(trainer.device)
    batches = eval_batches(
        trainer.sets.val,
        trainer.task.prepare,
        trainer.task.columns,
        batch_size=32,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    with torch.no_grad():
        for batch in batches:
            evaluator.update(run.average.eval(), batch)
    ranks.sum(evaluator.state())
    return evaluator.confusion


def restored(trainer: Trainer, folder: Path, path: StagePath) -> Run:
    """The run of a path's last checkpoint in a store."""
    stage = path[-1].stage
    state = Store(str(folder), "division").load(stage.key, 6)
    return Run.restore(stage, trainer.task, trainer.device, trainer.ranks, ("", ""), state)


def first_processes(rank: int, packs: str, folder: str) -> dict[str, Any]:
    problem, ranks = toy_problem(Path(packs)), Ranks()
    result: dict[str, Any] = {"world_size": ranks.world_size}
    for name in NAMES:
        path = path_of(RECIPES[name], problem, 0)
        store = Path(folder) / name
        result[name] = train(toy_trainer(Path(packs), store), path)
        # The same checkpoints, evaluated once more after they were read back.
        if ranks.first:
            for file in store.rglob("eval-*.json"):
                file.unlink()
        dist.barrier()
        again = toy_trainer(Path(packs), store)
        result[f"{name}, read back"] = train(again, path)
        result[f"{name}, confusion"] = confusion(again, restored(again, store, path)).tolist()

    path = path_of(RECIPES["mixed"], problem, 0)
    trainer = toy_trainer(Path(packs), Path(folder) / "interrupted")
    try:
        train(trainer, path, control=lambda stage, step: step < STOP)
    except Interrupted as error:
        result["interrupted"] = str(error)
        result["trained"] = trainer.steps_trained
    result["collectives"] = [
        ranks.all(True),
        ranks.all(rank == 0),
        ranks.broadcast(rank),
        float(ranks.mean(torch.tensor(float(rank)))),
    ]

    diverges = Recipe.from_params(RECIPES["mixed"].params() | {"lr": 1e30})
    long = path_of(diverges, replace(problem, rungs=(40,)), 0)
    trainer = toy_trainer(Path(packs), Path(folder) / "diverged", checkpoint_s=0.0)
    try:
        list(trainer.train(long, (40,)))
    except NotFiniteError as error:
        result["diverged"] = [str(error), trainer.steps_trained]
    return result


def fresh_processes(rank: int, packs: str, folder: str) -> dict[str, Any]:
    trainer = toy_trainer(Path(packs), Path(folder) / "interrupted")
    reports = train(trainer, path_of(RECIPES["mixed"], toy_problem(Path(packs)), 0))
    return {"reports": reports, "trained": trainer.steps_trained}


def _worker(rank: int, what: str, packs: str, folder: str) -> None:
    set_deterministic(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/{what}-group", rank=rank, world_size=2)
    result = globals()[what](rank, packs, folder)
    (Path(folder) / f"{what}-{rank}.json").write_text(json.dumps(result), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def two_processes(what: str, packs: Path, folder: Path) -> list[dict[str, Any]]:
    mp.spawn(_worker, (what, str(packs), str(folder)), nprocs=2, join=True)
    return [json.loads((folder / f"{what}-{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


@pytest.fixture(scope="module")
def trained(toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("distributed")
    return two_processes("first_processes", toy_packs, folder), folder


def shorn(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reports without what differs between a training and a reading of it: the time and the steps trained."""
    return [{name: value for name, value in r.items() if name not in ("time_ms", "steps_trained")} for r in reports]


def test_both_ranks_report_the_same(trained: tuple[list[dict[str, Any]], Path]) -> None:
    (first, second), _ = trained
    assert first["world_size"] == 2
    assert first == second | {"collectives": first["collectives"]}
    assert first["collectives"] == second["collectives"] == [True, False, 0, 0.5]
    assert [report["steps_trained"] for report in first["mixed"]] == [3, 6]
    assert first["mixed"][0]["metrics"] != first["mixed"][1]["metrics"]


@pytest.mark.parametrize("name", NAMES)
def test_a_live_run_and_its_checkpoint_have_the_same_metrics(
    trained: tuple[list[dict[str, Any]], Path], name: str
) -> None:
    """Every rank evaluates with the weights and running statistics that the checkpoint holds."""
    results, _ = trained
    for result in results:
        assert shorn(result[name]) == shorn(result[f"{name}, read back"])
        assert [report["steps_trained"] for report in result[f"{name}, read back"]] == [0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_those_of_one_process_to_the_bit(
    toy_packs: Path, tmp_path: Path, trained: tuple[list[dict[str, Any]], Path], name: str
) -> None:
    (result, _), folder = trained
    set_deterministic(1)
    path = path_of(RECIPES[name], toy_problem(toy_packs), 0)
    trainer = toy_trainer(toy_packs, tmp_path)
    alone = confusion(trainer, restored(trainer, folder / name, path))
    assert alone.dtype == torch.int64
    assert alone.tolist() == result[f"{name}, confusion"]
    sources = toy_sources(toy_packs)
    pixels = sum(sources["val"].sample(i)["segmentation"].size for i in range(len(sources["val"])))
    assert int(alone.sum()) == pixels

    source, target = Store(str(folder / name), "division"), Store(str(tmp_path), "division")
    for step in RUNGS:  # the checkpoints without the evaluations
        state = source.load(path[-1].stage.key, step)
        assert state is not None
        target.save(path[-1].stage.key, step, state, keep=True)
    assert shorn(train(trainer, path)) == shorn(result[name])
    assert trainer.steps_trained == 0


def test_both_ranks_stop_at_a_verdict_and_fresh_ones_go_on_with_the_same_bits(
    toy_packs: Path, trained: tuple[list[dict[str, Any]], Path]
) -> None:
    results, folder = trained
    path = path_of(RECIPES["mixed"], toy_problem(toy_packs), 0)
    for result in results:
        assert result["interrupted"] == f"stage {path[-1].stage.key} at step {STOP}"
        assert result["trained"] == STOP
    again = two_processes("fresh_processes", toy_packs, folder)
    for result, more in zip(results, again, strict=True):
        assert more["trained"] == 6 - STOP
        assert shorn(more["reports"]) == shorn(result["mixed"])
    files = [{f.name: f.read_bytes() for f in (folder / n).rglob("kept-*")} for n in ("mixed", "interrupted")]
    assert files[0] == files[1]
    assert sorted(files[0]) == ["kept-00000003.ckpt", "kept-00000006.ckpt"]


def test_both_ranks_raise_for_the_same_step_that_was_not_finite(
    trained: tuple[list[dict[str, Any]], Path],
) -> None:
    """Though rank 0 alone looks at the guard, to save: no rank is left waiting for one that has raised."""
    (first, second), folder = trained
    assert first["diverged"] == second["diverged"]
    text, trained_steps = first["diverged"]
    step = int(text.partition("at step ")[2].split()[0])
    (saved,) = (folder / "diverged").rglob("*.ckpt")
    assert saved.name == f"rolling-{step - 1:08d}.ckpt"
    assert trained_steps == -(-step // 10) * 10 - 1  # the step that looked raised before it was counted
