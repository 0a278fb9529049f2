"""The loop: what it reads, when it evaluates, what it keeps and tells, and that none of this changes a number."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from datasets import Source, nested_rows
from tests.toy import RECIPES, RUNGS, toy_problem, toy_trainer
from trainables.adaptation import domains
from trainables.lease import Lease, Leased, lease_path
from trainables.loop import Interrupted, Report, Trainer
from trainables.numerics import set_deterministic
from trainables.path import Leg, path_of, steps_shared
from trainables.ranks import Ranks
from trainables.recipe import Recipe
from trainables.run import NotFiniteError, Run
from trainables.stage import Stage
from trainables.store import Store, StoreError


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    set_deterministic(1)


class Recording(Source):
    """A source that counts how often each of its rows is read."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.packs)
        self.read: Counter[int] = Counter()

    def sample(self, i: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
        self.read[i] += 1
        return super().sample(i, columns)


def recorded(trainer: Trainer) -> dict[str, Recording]:
    """Puts recording sources in place of a trainer's: real, synthetic, val, test."""
    training = zip(("real", "synthetic"), trainer.feed.sources.values(), strict=True)
    sources = {name: Recording(source) for name, source in training}
    trainer.feed.sources = {source.digest: source for source in sources.values()}
    sources |= {"val": Recording(trainer.sets.val), "test": Recording(trainer.sets.tests["same"])}
    trainer.sets.val, trainer.sets.tests = sources["val"], {"same": sources["test"]}
    return sources


def kept(store: Path) -> dict[str, bytes]:
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in store.rglob("kept-*.ckpt")}


def results(reports: list[Report]) -> list[tuple[int, Mapping[str, float]]]:
    return [(report.step, report.metrics) for report in reports]


@pytest.fixture(scope="module")
def plain(toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[list[Report], Path]]:
    """The reports and the store of a toy recipe that is trained by itself, with the toy's rungs; made once."""
    made: dict[str, tuple[list[Report], Path]] = {}

    def train(name: str) -> tuple[list[Report], Path]:
        if name not in made:
            store = tmp_path_factory.mktemp("plain")
            path = path_of(RECIPES[name], toy_problem(toy_packs), 0)
            made[name] = list(toy_trainer(toy_packs, store).train(path, RUNGS)), store
        return made[name]

    return train


@pytest.mark.parametrize("name", ["mixed", "finetune real_bn"])
def test_the_cadence_of_evaluation_changes_nothing(toy_packs: Path, tmp_path: Path, plain: Any, name: str) -> None:
    reports, store = plain(name)
    final = f"{path_of(RECIPES[name], toy_problem(toy_packs), 0)[-1].stage.key}/kept-00000006.ckpt"
    for rungs in ((6,), (1, 2, 3, 4, 5, 6)):
        problem = replace(toy_problem(toy_packs), rungs=rungs)
        folder = tmp_path / str(len(rungs))
        others = list(toy_trainer(toy_packs, folder).train(path_of(RECIPES[name], problem, 0), rungs))
        assert others[-1].metrics == reports[-1].metrics
        assert kept(folder)[final] == kept(store)[final]
        assert [report.step for report in others] == list(rungs)


def test_global_random_states_change_nothing(toy_packs: Path, tmp_path: Path, plain: Any) -> None:
    """Of torch, numpy and Python, before every step: augmentation, dropout and order are all keyed."""
    reports, store = plain("mixed")

    def disturb(stage: Stage, step: int) -> bool:
        torch.manual_seed(step + 12)
        np.random.seed(step + 12)  # noqa: NPY002  (the global state is what this test is about)
        random.seed(step + 12)
        return True

    path = path_of(RECIPES["mixed"], toy_problem(toy_packs), 0)
    others = list(toy_trainer(toy_packs, tmp_path).train(path, RUNGS, control=disturb))
    assert results(others) == results(reports)
    assert kept(tmp_path) == kept(store)


def test_real_bn_restarts_the_statistics_at_the_fork(toy_packs: Path, tmp_path: Path, plain: Any) -> None:
    """By hand: with momentum 1, one forward pass in training mode leaves a batch's own statistics as the running ones.

    The 24 real rows are one batch of the pass, so the two definitions coincide.
    """
    trunk, last = path_of(RECIPES["finetune real_bn"], toy_problem(toy_packs), 0)
    trainer = toy_trainer(toy_packs, tmp_path, checkpoint_s=0.0)
    with pytest.raises(Interrupted):
        list(trainer.train((trunk, last), RUNGS, control=lambda stage, step: stage.key == trunk.stage.key))
    store = Store(str(tmp_path), "division")
    raw, start = store.load(trunk.stage.key, 5), store.load(last.stage.key, 0)
    assert raw is not None
    assert start is not None

    model = trainer.task.build_model()
    model.load_state_dict(raw["model"])
    for module in model.modules():
        module.train(isinstance(module, nn.BatchNorm2d))  # and no dropout
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    assert last.stage.real is not None
    source = trainer.feed.sources[last.stage.real.digest]
    order = nested_rows(24, 24, seed=last.stage.seed, digest=source.digest)
    samples = [trainer.task.prepare(source.sample(int(row))) for row in order]
    with torch.no_grad():
        trainer.task.loss(model, {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in samples[0]})

    expected, statistics = model.state_dict(), 0
    for name, value in start["model"].items():
        if "running" in name:
            statistics += 1
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
            assert not torch.equal(value, raw["model"][name])
        elif name.endswith("num_batches_tracked"):
            assert int(value) == 1
        else:
            assert torch.equal(value, raw["model"][name])
        assert torch.equal(value, start["average"][name])  # the average starts from the converted weights
    assert statistics > 10
    assert list(start["optimizer"]["state"]) == []


def test_a_fork_without_a_conversion_takes_the_weights_as_they_are(toy_packs: Path, tmp_path: Path) -> None:
    trunk, last = path_of(RECIPES["finetune"], toy_problem(toy_packs), 0)
    trainer = toy_trainer(toy_packs, tmp_path, checkpoint_s=0.0)
    with pytest.raises(Interrupted):
        list(trainer.train((trunk, last), RUNGS, control=lambda stage, step: stage.key == trunk.stage.key))
    store = Store(str(tmp_path), "division")
    raw, start = store.load(trunk.stage.key, 4), store.load(last.stage.key, 0)
    assert raw is not None
    assert start is not None
    for name, value in start["model"].items():
        assert torch.equal(value, raw["model"][name])  # the raw weights, which are not the averaged ones
        assert torch.equal(value, start["average"][name])
    assert any(not torch.equal(value, raw["average"][name]) for name, value in start["model"].items())


@pytest.mark.parametrize(("share", "num_synthetic"), [(0.25, 9), (0.5, 18), (0.7, 25)])
def test_batches_have_the_share_that_was_asked(
    toy_packs: Path, tmp_path: Path, share: float, num_synthetic: int
) -> None:
    """36 samples in six steps: the synthetic ones are floor(36 * share)."""
    recipe = Recipe.from_params(RECIPES["mixed"].params() | {"synthetic_share": share})
    trainer = toy_trainer(toy_packs, tmp_path)
    sources = recorded(trainer)
    list(trainer.train(path_of(recipe, toy_problem(toy_packs), 0), RUNGS))
    assert sources["synthetic"].read.total() == num_synthetic
    assert sources["real"].read.total() == 36 - num_synthetic


@pytest.mark.parametrize("name", ["real", "mixed", "finetune", "finetune real_bn"])
@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_rows_beyond_the_subset_are_never_read(toy_packs: Path, tmp_path: Path, name: str, fraction: float) -> None:
    """By training steps, nor by the conversion at a fork."""
    given = {"real_fraction": fraction} | ({} if name == "real" else {"synthetic_fraction": fraction})
    recipe = Recipe.from_params(RECIPES[name].params() | given)
    trainer = toy_trainer(toy_packs, tmp_path)
    sources = recorded(trainer)
    list(trainer.train(path_of(recipe, toy_problem(toy_packs), 1), RUNGS))
    for domain, total, count in (("real", 24, {0.1: 2, 0.25: 6}), ("synthetic", 40, {0.1: 4, 0.25: 10})):
        allowed = set(nested_rows(total, count[fraction], seed=1, digest=sources[domain].digest).tolist())
        assert set(sources[domain].read) == (set() if name == "real" and domain == "synthetic" else allowed)


def test_sets_are_read_whole_at_each_rung_and_test_sets_only_at_the_last(toy_packs: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(toy_packs, tmp_path)
    sources = recorded(trainer)
    path = path_of(RECIPES["real"], toy_problem(toy_packs), 0)
    read = []
    for report in trainer.train(path, RUNGS):
        read.append((report.step, report.final, dict(sources["val"].read), dict(sources["test"].read)))
        assert any(name.startswith("test/same/") for name in report.metrics) == report.final
        assert {"val/miou", "train/loss"} <= set(report.metrics)
    once, twice = dict.fromkeys(range(12), 1), dict.fromkeys(range(12), 2)
    assert read == [(3, False, once, {}), (6, True, twice, dict.fromkeys(range(10), 1))]


def test_a_milestone_is_told_of_every_kept_checkpoint(toy_packs: Path, tmp_path: Path) -> None:
    """After it is in the store, since somebody may start from it at once."""
    store = Store(str(tmp_path), "division")
    told: list[tuple[str, int]] = []

    def milestone(stage: str, step: int) -> None:
        assert store.kept(stage, step)
        told.append((stage, step))

    trainer = toy_trainer(toy_packs, tmp_path)
    path = path_of(RECIPES["finetune real_bn"], toy_problem(toy_packs), 0)
    list(trainer.train(path, RUNGS, milestone=milestone))
    assert told == [(leg.stage.key, step) for leg in path for step in leg.keep]
    assert {f"{stage}/kept-{step:08d}.ckpt" for stage, step in told} == set(kept(tmp_path))
    told.clear()
    list(toy_trainer(toy_packs, tmp_path).train(path, RUNGS, milestone=milestone))  # all of it is there already
    assert told == [(path[-1].stage.key, step) for step in RUNGS]


def test_evaluations_outlive_their_checkpoints(toy_packs: Path, tmp_path: Path) -> None:
    path = path_of(RECIPES["finetune"], toy_problem(toy_packs), 0)
    reports = list(toy_trainer(toy_packs, tmp_path).train(path, RUNGS))
    for file in tmp_path.rglob("*.ckpt"):
        file.unlink()
    again = toy_trainer(toy_packs, tmp_path)
    sources = recorded(again)
    repeated = list(again.train(path, RUNGS))
    assert [replace(report, steps_trained=0) for report in reports] == repeated
    assert again.steps_trained == 0
    assert not any(source.read for source in sources.values())
    assert not kept(tmp_path)


def test_an_evaluation_that_is_missing_is_made_from_the_checkpoint(toy_packs: Path, tmp_path: Path) -> None:
    path = path_of(RECIPES["mixed"], toy_problem(toy_packs), 0)
    reports = list(toy_trainer(toy_packs, tmp_path).train(path, RUNGS))
    for file in tmp_path.rglob("eval-*.json"):
        file.unlink()
    again = toy_trainer(toy_packs, tmp_path)
    assert results(list(again.train(path, RUNGS))) == results(reports)
    assert again.steps_trained == 0


class TwoRanks(Ranks):
    """Two ranks that are threads of this process: what they hand each other passes through a barrier."""

    def __init__(self, rank: int, barrier: threading.Barrier, values: list[Any]) -> None:
        self.rank, self.world_size = rank, 2
        self._barrier, self._values = barrier, values

    def _gather(self, value: Any) -> list[Any]:
        self._values[self.rank] = value
        self._barrier.wait(30)
        values = list(self._values)
        self._barrier.wait(30)
        return values

    def broadcast(self, value: Any) -> Any:
        return self._gather(value)[0]

    def all(self, value: bool) -> bool:
        return all(self._gather(value))


def test_ranks_that_do_not_see_one_store_all_say_so(
    toy_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.loop.STORE_WAIT_S", 0)
    path = path_of(RECIPES["real"], toy_problem(toy_packs), 0)
    list(toy_trainer(toy_packs, tmp_path / "0").train(path, RUNGS))
    for file in (tmp_path / "0").rglob("eval-*.json"):
        file.unlink()
    barrier, values = threading.Barrier(2), [None, None]

    def work(rank: int) -> str:
        trainer = toy_trainer(toy_packs, tmp_path / str(rank))
        trainer.ranks = TwoRanks(rank, barrier, values)
        with pytest.raises(StoreError) as caught:
            list(trainer.train(path, RUNGS))
        return str(caught.value)

    with ThreadPoolExecutor(2) as pool:
        messages = list(pool.map(work, range(2)))
    for message in messages:
        assert "every worker of a slot must see the same store, but not all find step 3" in message
        assert "set `store:` to a shared folder or an object store" in message
        assert "\n" not in message
    assert kept(tmp_path / "0")


def _taken_by_another(store: Store, stage: str) -> float:
    until = time.time() + 20
    store.objects.write_json(lease_path(store, stage), {"owner": "other", "expires": until, "step": 1})
    return until


def test_a_leased_stage_is_leased_on_every_rank(toy_packs: Path, tmp_path: Path) -> None:
    """Rank 0 looks alone: another machine may not see the lease yet."""
    (leg,) = path_of(RECIPES["real"], toy_problem(toy_packs), 0)
    until = _taken_by_another(Store(str(tmp_path / "0"), "division"), leg.stage.key)
    barrier, values = threading.Barrier(2), [None, None]

    def work(rank: int) -> tuple[str, float]:
        trainer = toy_trainer(toy_packs, tmp_path / str(rank))
        trainer.ranks = TwoRanks(rank, barrier, values)
        with pytest.raises(Leased) as caught:
            list(trainer.train((leg,), RUNGS))
        return caught.value.stage, caught.value.until

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, range(2))) == [(leg.stage.key, until)] * 2


def test_every_rank_leaves_a_lost_lease_at_the_same_step(tmp_path: Path) -> None:
    barrier, values = threading.Barrier(2), [None, None]
    store, stage = Store(str(tmp_path), "division"), "a" * 32

    def work(rank: int) -> tuple[int, float | None]:
        ranks = TwoRanks(rank, barrier, values)
        with Lease(store, stage, "me", ranks, 0, 0.0) as lease:
            for step in range(100):
                if rank == 0 and step == 14:
                    _taken_by_another(store, stage)
                if (until := lease.lost(step)) is not None:
                    break
        with pytest.raises(Leased, match=stage), Lease(store, stage, "me", ranks, step, 0.0):
            pass
        return step, until

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert first == second
    assert first[0] == 20
    assert json.loads(Path(lease_path(store, stage)).read_text())["expires"] == first[1]


@pytest.mark.parametrize(("save_s", "saved"), [(None, True), (0.0, True), (1e9, False)])
def test_a_stop_saves_only_what_costs_more_to_train_again(
    toy_packs: Path, tmp_path: Path, plain: Any, save_s: float | None, saved: bool
) -> None:
    """Than a checkpoint takes to write, as the last one did."""
    (leg,) = path_of(RECIPES["mixed"], toy_problem(toy_packs), 0)
    trainer = toy_trainer(toy_packs, tmp_path)

    def control(stage: Stage, step: int) -> bool:
        if step == 5:
            trainer.checkpoints.save_s = save_s
        return step < 5

    with pytest.raises(Interrupted):
        list(trainer.train((leg,), RUNGS, control=control))
    steps = {3, 5} if saved else {3}
    assert set(Store(str(tmp_path), "division").steps(leg.stage.key)) == steps
    for others in (trainer, toy_trainer(toy_packs, tmp_path)):  # from the live run, and from what is stored
        assert results(list(others.train((leg,), RUNGS))) == results(plain("mixed")[0])


def test_a_stop_at_a_stored_step_writes_nothing(toy_packs: Path, tmp_path: Path) -> None:
    path = path_of(RECIPES["mixed"], toy_problem(toy_packs), 0)
    list(toy_trainer(toy_packs, tmp_path).train(path, (3,)))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.ckpt")}
    with pytest.raises(Interrupted):
        list(toy_trainer(toy_packs, tmp_path, checkpoint_s=0.0).train(path, RUNGS, control=lambda stage, step: False))
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.ckpt")} == before


def test_a_checkpoint_that_another_rank_sees_late_is_waited_for(
    toy_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.loop.STORE_WAIT_S", 0)

    class Late(Ranks):
        asked = 0

        def all(self, value: bool) -> bool:
            self.asked += 1
            return value and self.asked > 1

    path = path_of(RECIPES["real"], toy_problem(toy_packs), 0)
    reports = list(toy_trainer(toy_packs, tmp_path).train(path, RUNGS))
    for file in tmp_path.rglob("eval-*.json"):
        file.unlink()
    again = toy_trainer(toy_packs, tmp_path)
    again.ranks = late = Late()
    assert results(list(again.train(path, RUNGS))) == results(reports)
    assert late.asked == 3  # twice for the first rung, once for the second
    assert again.steps_trained == 0


@pytest.mark.parametrize("names", [("finetune", "synthetic"), ("synthetic", "finetune")])
def test_a_trunk_is_trained_once_whichever_recipe_comes_first(
    toy_packs: Path, tmp_path: Path, plain: Any, names: tuple[str, str]
) -> None:
    """The rungs of a synthetic-only recipe lie on the way of the trunk, and are kept there."""
    paths = [path_of(RECIPES[name], toy_problem(toy_packs), 0) for name in names]
    trainer = toy_trainer(toy_packs, tmp_path)
    for name, path in zip(names, paths, strict=True):
        assert results(list(trainer.train(path, RUNGS))) == results(plain(name)[0])
    assert trainer.steps_trained == steps_shared(paths) == 12


def bad_step(trainer: Trainer, stage: Stage) -> int:
    """The first step at which the loss or a gradient is not finite, found by computing each one by hand."""
    run = Run.begin(stage, trainer.task, trainer.device, trainer.ranks, ("", ""), None)
    for step, batch in enumerate(trainer.feed.batches(stage, trainer.task, 0, 50)):
        model, seed = deepcopy(run.model), trainer._step_seed(stage, step)
        torch.manual_seed(seed)
        with domains(model, batch["domain"]):
            loss = trainer.task.loss(model, batch)["total"]
        loss.backward()
        grads = [value.grad for value in model.parameters() if value.grad is not None]
        if not (loss.isfinite() and all(grad.isfinite().all() for grad in grads)):
            return step + 1
        run.train_step(batch, seed=seed)
    raise AssertionError("this training does not diverge")


@pytest.mark.parametrize("checkpoint_s", [0.0, 30.0])
def test_nothing_is_saved_after_a_step_that_was_not_finite(
    toy_packs: Path, tmp_path: Path, checkpoint_s: float
) -> None:
    recipe = Recipe.from_params(RECIPES["mixed"].params() | {"lr": 1e30})
    rungs = tuple(range(1, 41))
    (leg,) = path_of(recipe, replace(toy_problem(toy_packs), rungs=rungs), 0)
    expected = bad_step(toy_trainer(toy_packs, tmp_path), leg.stage)
    assert expected > 1
    for keep in ((), rungs):  # nothing to save on the way, and something at every step
        folder = tmp_path / f"{len(keep)}"
        trainer = toy_trainer(toy_packs, folder, checkpoint_s=checkpoint_s)
        with pytest.raises(NotFiniteError, match=f"at step {expected} of stage {leg.stage.key}"):
            list(trainer.train((Leg(leg.stage, 40, keep),), (40,)))
        saved = Store(str(folder), "division").steps(leg.stage.key)
        if keep:
            assert sorted(saved) == list(range(1, expected))
        else:
            assert sorted(saved) == ([expected - 1] if checkpoint_s == 0 else [])
        assert not list(folder.rglob("eval-*"))


def test_a_diverged_run_diverges_again_at_the_same_step(toy_packs: Path, tmp_path: Path) -> None:
    """Also where it goes on from the checkpoint before."""
    recipe = Recipe.from_params(RECIPES["real"].params() | {"lr": 1e30})
    path = path_of(recipe, replace(toy_problem(toy_packs), rungs=(40,)), 0)
    messages = []
    for _ in range(2):
        trainer = toy_trainer(toy_packs, tmp_path, checkpoint_s=0.0)
        with pytest.raises(NotFiniteError) as caught:
            list(trainer.train(path, (40,)))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_an_error_in_one_path_leaves_the_next_one_untouched(toy_packs: Path, tmp_path: Path, plain: Any) -> None:
    trainer = toy_trainer(toy_packs, tmp_path)
    diverges = Recipe.from_params(RECIPES["mixed"].params() | {"lr": 1e30})
    problem = toy_problem(toy_packs)
    with pytest.raises(NotFiniteError):
        list(trainer.train(path_of(diverges, replace(problem, rungs=(40,)), 0), (40,)))
    trainer.forget()
    assert results(list(trainer.train(path_of(RECIPES["mixed"], problem, 0), RUNGS))) == results(plain("mixed")[0])


def test_measuring_saves_nothing(toy_packs: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(toy_packs, tmp_path)
    stage = path_of(RECIPES["mixed"], toy_problem(toy_packs), 0)[0].stage
    run, step_s, evaluation_s = trainer.measure(stage, warm=1, steps=2)
    assert run.step == 3
    assert step_s > 0
    assert evaluation_s > 0
    assert not list(tmp_path.rglob("*"))
