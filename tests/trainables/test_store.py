"""The store: what was saved comes back bit for bit, or counts as absent; an object is whole or not there."""

import errno
import math
import multiprocessing
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import fs

from trainables.store import Evaluation, Store, StoreError

STAGE = "a" * 32
METRICS = {"val/miou": 0.1 + 0.2, "val/iou/hair": float("nan"), "val/worst": float("-inf"), "val/tiny": 5e-324}


def state(step: int, *, size: int = 100) -> dict[str, Any]:
    """A state of every kind of value that a run saves, different at each step."""
    generator = torch.Generator().manual_seed(step)
    return {
        "stage": STAGE,
        "step": step,
        "model": {
            "weight": torch.randn(size, generator=generator),
            "half": torch.randn(7, generator=generator).bfloat16(),
            "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
            "count": torch.tensor(step, dtype=torch.int64),
        },
        "optimizer": {"state": {0: {"momentum_buffer": None}}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
        "loss_average": torch.tensor(1 / 3, dtype=torch.float64),
    }


def same(one: Any, other: Any) -> bool:
    """Whether two nested states are equal to the bit, types included."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, torch.Tensor):
        as_bytes = [t.contiguous().reshape(-1).view(torch.uint8).tolist() for t in (one, other)]
        return one.dtype == other.dtype and one.shape == other.shape and as_bytes[0] == as_bytes[1]
    return type(one) is type(other) and one == other


def names(store: Store) -> list[str]:
    return sorted(store._names(STAGE))


def _local(folder: Path) -> Store:
    return Store(str(folder), "division")


def _by_uri(folder: Path) -> Store:
    return Store(f"{folder.as_uri()}/", "division/alone-1")


def _in_memory(folder: Path) -> Store:
    return Store("mock://", "division")


def _subtree(folder: Path) -> Store:
    store = Store("/", "division")
    store.objects.filesystem = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
    store.root = "some/where"
    return store


def _cannot_rename(folder: Path) -> Store:
    store = Store(str(folder), "division")
    store.objects._renames = False  # as on an object store
    return store


@pytest.mark.parametrize("make", [_local, _by_uri, _in_memory, _subtree, _cannot_rename])
def test_states_and_evaluations_come_back_bit_for_bit(tmp_path: Path, make: Callable[[Path], Store]) -> None:
    store = make(tmp_path)
    assert (store.steps(STAGE), store.latest(STAGE, 9), store.load(STAGE, 3)) == ({}, None, None)
    assert store.evaluation(STAGE, 3, "e") is None
    for step, keep in ((3, True), (5, False)):
        store.save(STAGE, step, state(step), keep=keep)
    found = store.load(STAGE, 3)
    assert same(found, state(3))
    assert not same(found, state(4))
    assert same(store.load(STAGE, 5), state(5))
    evaluation = Evaluation(METRICS, train_loss=float("nan"), time_ms=1_700_000_000_123)
    store.save_evaluation(STAGE, 3, "e", evaluation)
    again = store.evaluation(STAGE, 3, "e")
    assert again is not None
    assert list(again.metrics) == list(METRICS)
    assert repr(again) == repr(evaluation)  # NaN is no equal of itself, and repr of a float is exact
    assert math.isnan(again.metrics["val/iou/hair"])
    assert store.evaluation(STAGE, 3, "other") is None
    assert store.evaluation(STAGE, 5, "e") is None
    store.describe(STAGE, {"lr": 0.1})
    store.describe(STAGE, {"lr": 0.2})  # written once
    expected = ["eval-00000003-e.json", "kept-00000003.ckpt", "rolling-00000005.ckpt", "stage.json"]
    assert names(store) == expected


def test_a_rolling_checkpoint_is_replaced_by_a_newer_one_and_by_a_kept_one(tmp_path: Path) -> None:
    store = _local(tmp_path)
    store.save(STAGE, 4, state(4), keep=False)
    store.save(STAGE, 7, state(7), keep=False)
    assert names(store) == ["rolling-00000007.ckpt"]
    store.save(STAGE, 5, state(5), keep=True)  # an earlier one replaces nothing later
    assert names(store) == ["kept-00000005.ckpt", "rolling-00000007.ckpt"]
    store.save(STAGE, 7, state(7), keep=True)
    assert names(store) == ["kept-00000005.ckpt", "kept-00000007.ckpt"]
    store.save(STAGE, 9, state(9), keep=False)
    assert names(store) == ["kept-00000005.ckpt", "kept-00000007.ckpt", "rolling-00000009.ckpt"]
    assert (store.kept(STAGE, 7), store.kept(STAGE, 9), store.kept(STAGE, 4)) == (True, False, False)
    assert sorted(store.steps("b" * 32)) == []  # another stage has its own


def test_latest_is_the_largest_step_at_or_before(tmp_path: Path) -> None:
    store = _local(tmp_path)
    for step, keep in ((0, True), (2, True), (5, True), (100_000_000, True), (200_000_000, False)):
        store.save(STAGE, step, {"step": step}, keep=keep)
    found = {step: store.latest(STAGE, step) for step in (0, 1, 2, 4, 5, 99_999_999, 100_000_000, 300_000_000)}
    expected = {0: 0, 1: 0, 2: 2, 4: 2, 5: 5, 99_999_999: 5, 100_000_000: 100_000_000, 300_000_000: 200_000_000}
    assert found == expected


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other"])
def test_a_damaged_checkpoint_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str, keep: bool
) -> None:
    store = _local(tmp_path)
    store.save(STAGE, 3, state(3), keep=True)
    store.save(STAGE, 6, state(6), keep=keep)
    path = Path(store.steps(STAGE)[6])
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 4
    path.write_bytes({"flip": bytes(raw), "truncate": raw[:-1], "empty": b"", "other": b"not ours"}[damage])
    assert store.latest(STAGE, 6) == 6
    assert store.load(STAGE, 6) is None
    assert f"{path} is damaged" in caplog.text
    assert f"{path.name}.damaged" in names(store)
    assert store.latest(STAGE, 6) == 3
    assert same(store.load(STAGE, 3), state(3))
    store.save(STAGE, 6, state(6), keep=keep)  # what was set aside is in nobody's way
    assert same(store.load(STAGE, 6), state(6))
    store.save(STAGE, 7, state(7), keep=keep)
    assert store.latest(STAGE, 9) == 7


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "list"])
def test_a_damaged_evaluation_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    store = _local(tmp_path)
    evaluation = Evaluation({"val/miou": 0.75}, 1.5, 1_700_000_000_000)
    store.save_evaluation(STAGE, 3, "e", evaluation)
    (path,) = tmp_path.rglob("eval-*.json")
    raw = path.read_bytes()
    damaged = {"flip": raw.replace(b"0.75", b"0.76"), "truncate": raw[:-5], "empty": b"", "list": b"[]"}[damage]
    path.write_bytes(damaged)
    assert store.evaluation(STAGE, 3, "e") is None
    assert "is damaged" in caplog.text
    assert [file.name for file in tmp_path.rglob("eval-*")] == [f"{path.name}.damaged"]
    store.save_evaluation(STAGE, 3, "e", evaluation)
    assert store.evaluation(STAGE, 3, "e") == evaluation


class _Breaks(fs.LocalFileSystem):
    """A local filesystem whose files take ten bytes and then fail."""

    error: BaseException

    def open_output_stream(self, path: str, *args: Any, **kwargs: Any) -> Any:
        stream = super().open_output_stream(path, *args, **kwargs)
        error = self.error

        class Half:
            def __enter__(self) -> "Half":
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

            def write(self, raw: bytes) -> None:
                stream.write(raw[:10])
                raise error

        return Half()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    store = _local(tmp_path)
    store.save(STAGE, 3, state(3), keep=False)
    working, broken = store.objects.filesystem, _Breaks()
    broken.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    store.objects.filesystem = broken
    with pytest.raises(StoreError, match=r"must be writable, but .*kept-00000005\.ckpt failed: .*No space left"):
        store.save(STAGE, 5, state(5), keep=True)
    with pytest.raises(StoreError) as caught:
        store.save_evaluation(STAGE, 3, "e", Evaluation(METRICS, 0.0, 0))
    assert "\n" not in str(caught.value)
    store.objects.filesystem = working
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["rolling-00000003.ckpt"]
    assert same(store.load(STAGE, 3), state(3))  # the older rolling one goes only once the newer one is there


def test_an_interrupt_in_mid_write_leaves_nothing_and_goes_on(tmp_path: Path) -> None:
    store = _local(tmp_path)
    broken = _Breaks()
    broken.error = KeyboardInterrupt()
    store.objects.filesystem = broken
    with pytest.raises(KeyboardInterrupt):
        store.save(STAGE, 5, state(5), keep=True)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_limit_of_the_operating_system_is_one_line_too(tmp_path: Path) -> None:
    """The real thing: the kernel refuses to let the file grow."""
    store = _local(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(StoreError, match="the store must be writable") as caught:
            store.save(STAGE, 5, state(5, size=1_000_000), keep=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"the store must be writable, but .*set `store:` elsewhere"):
        Store(str(tmp_path / "file"), "division").save(STAGE, 1, state(1), keep=True)


class _Evil:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    store, marker = _local(tmp_path / "store"), tmp_path / "was here"
    store.save(STAGE, 3, {"step": 3, "model": _Evil(str(marker))}, keep=True)
    with pytest.raises(StoreError, match=r"kept-00000003\.ckpt: must be a file that torch.load reads, but: it holds"):
        store.load(STAGE, 3)
    assert not marker.exists()
    pickle.loads(pickle.dumps(_Evil(str(marker))))  # it would have
    assert marker.exists()


def _save_again_and_again(folder: str, barrier: Any, number: int) -> None:
    store = _local(Path(folder))
    barrier.wait(60)
    for step in range(1, 31):
        store.save(STAGE, 1000, state(1000), keep=True)
        store.save(STAGE, step, state(step), keep=False)
        store.save_evaluation(STAGE, 1000, "e", Evaluation({"val/miou": 0.5}, 1.0, number))
        for there in store.steps(STAGE):
            found = store.load(STAGE, there)
            assert found is None or same(found, state(there)), f"step {there} is not whole"
        assert store.evaluation(STAGE, 1000, "e") is not None


def test_two_processes_that_save_the_same_leave_it_whole(tmp_path: Path) -> None:
    """Leases are advisory: training a stage twice is waste, never an error."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_save_again_and_again, args=(str(tmp_path), barrier, n)) for n in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    assert [process.exitcode for process in processes] == [0, 0]
    store = _local(tmp_path)
    assert names(store) == ["eval-00001000-e.json", "kept-00001000.ckpt", "rolling-00000030.ckpt"]
    assert same(store.load(STAGE, 1000), state(1000))
    assert not list(tmp_path.rglob("*.damaged"))
    assert not list(tmp_path.rglob("*.tmp"))
