"""The census, eviction and verification of a store: what goes first, what never goes, and what a flipped byte does."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import fs

from tests.s3 import S3, s3_server
from tests.toy import RECIPES, RUNGS, toy_problem, toy_trainer
from trainables.census import Census, damaged, take_census
from trainables.claims import CLAIM_S, read_claims, remove_claim, write_claim
from trainables.eviction import LEFTOVER_S, Plan, carry_out, gc, plan
from trainables.lease import Lease, lease_path
from trainables.numerics import set_deterministic
from trainables.objects import Objects, StoreError
from trainables.path import path_of
from trainables.ranks import Ranks
from trainables.recipe import digest
from trainables.store import Evaluation, Store

A, B, C = ("a" * 32, "b" * 32, "c" * 32)
HOUR = 3600.0


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weight": torch.full((250,), float(step))}


def age(folder: Path, seconds: float) -> None:
    """Makes every object under a folder so old."""
    then = time.time() - seconds
    for file in folder.rglob("*"):
        if file.is_file():
            os.utime(file, (then, then))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Three stages: A was used three hours ago, B two, and C one; each has rungs 3, 6, 9 and B is at 11."""
    store = Store(str(tmp_path), "division")
    for hours, stage in ((3, A), (2, B), (1, C)):
        for step in (3, 6, 9):
            store.save(stage, step, state(step), keep=True)
            store.save_evaluation(stage, step, "e", Evaluation({"val/miou": 0.5}, 1.0, step))
        if stage == B:
            store.save(stage, 11, state(11), keep=False)
        store.describe(stage, {"lr": hours})
        age(tmp_path / "division" / stage, hours * HOUR)
    return tmp_path


def names(planned: Plan) -> list[str]:
    return [f"{removal.entry.key[0]}{removal.item.name[:1]}{removal.item.name[-7:-5]}" for removal in planned.removals]


def taken(folder: Path) -> Census:
    return take_census(Objects(str(folder)))


def test_a_census_knows_every_stage(filled: Path) -> None:
    Store(str(filled), "division/alone-1").save(A, 3, state(3), keep=True)
    (filled / "division" / "notes.txt").write_text("of somebody's")
    found = taken(filled)
    assert [(entry.division, entry.key[0], entry.steps, entry.reached) for entry in found.entries] == [
        ("division", "a", (3, 6, 9), 9),
        ("division", "b", (3, 6, 9, 11), 11),
        ("division", "c", (3, 6, 9), 9),
        ("division/alone-1", "a", (3,), 3),
    ]
    checkpoints = [file.stat().st_size for file in filled.rglob("*.ckpt")]
    assert found.bytes == sum(checkpoints)
    assert len(checkpoints) == 11
    assert [entry.evaluations for entry in found.entries] == [3, 3, 3, 0]
    assert found.entries[0].used == pytest.approx(time.time() - 3 * HOUR, abs=60)


def test_the_least_recently_used_go_first_and_the_last_of_a_stage_last(filled: Path) -> None:
    found = taken(filled)
    one = max(item.bytes for item in found.entries[0].checkpoints)
    assert names(plan(found, found.bytes)) == []
    assert names(plan(found, found.bytes - 1)) == ["ak03"]
    everything = ["ak03", "ak06", "ak09", "br11", "bk03", "bk06", "bk09", "ck03", "ck06", "ck09"]
    assert names(plan(found, 0)) == everything
    for count in range(1, 10):
        kept = plan(found, found.bytes - count * one)
        assert names(kept) == everything[: len(kept.removals)]
        assert kept.after == found.bytes - sum(removal.item.bytes for removal in kept.removals) <= kept.before - count
    assert [removal.last for removal in plan(found, 0).removals] == [name[1:] == "k09" for name in everything]


def test_gc_removes_what_it_planned_and_keeps_evaluations(filled: Path) -> None:
    before = {str(file.relative_to(filled)) for file in filled.rglob("*") if file.is_file()}
    found = taken(filled)
    told = []
    planned = gc(Objects(str(filled)), found.bytes // 2, removed=lambda removal: told.append(removal.item.path))
    assert told == [removal.item.path for removal in planned.removals] != []
    after = {str(file.relative_to(filled)) for file in filled.rglob("*") if file.is_file()}
    assert before - after == {str(Path(path).relative_to(filled)) for path in told}
    assert taken(filled).bytes == planned.after <= found.bytes // 2
    carry_out(Objects(str(filled)), found, planned)  # somebody else was first: no error
    store = Store(str(filled), "division")
    assert store.evaluation(A, 3, "e") == Evaluation({"val/miou": 0.5}, 1.0, 3)
    assert store.latest(C, 9) == 9
    assert (filled / "division" / A / "stage.json").exists()


def test_what_is_claimed_leased_or_just_used_is_spared(filled: Path) -> None:
    objects, store = Objects(str(filled)), Store(str(filled), "division")
    write_claim(objects, "faces", [A])
    with Lease(store, B, "me", Ranks(), 11, 30.0):
        age(filled / "division" / B, 2 * HOUR)  # what spares it is the lease, not its time
        found = taken(filled)
        planned = plan(found, 0)
        assert names(planned) == ["ck03", "ck06", "ck09"]
        assert {entry.key: why for entry, why in planned.spared} == {A: "needed by faces", B: "being trained"}
        assert planned.after > 0
    assert {removal.entry.key for removal in plan(taken(filled), 0).removals} == {B, C}
    remove_claim(objects, "faces")
    assert {removal.entry.key for removal in plan(taken(filled), 0, needed={C}).removals} == {A, B}
    assert {removal.entry.key for removal in plan(taken(filled), 0, grace_s=2.5 * HOUR).removals} == {A}
    store.save(A, 10, state(10), keep=False)  # a use
    assert {removal.entry.key for removal in plan(taken(filled), 0).removals} == {B, C}


def test_loading_is_a_use_but_is_written_once_a_minute(toy_packs: Path, tmp_path: Path) -> None:
    set_deterministic(1)
    path = path_of(RECIPES["finetune"], toy_problem(toy_packs), 0)
    list(toy_trainer(toy_packs, tmp_path).train(path, (3,)))
    trunk, last = (tmp_path / "division" / leg.stage.key for leg in path)
    assert not list(tmp_path.rglob("used"))  # what was just saved says so itself
    age(tmp_path, 2 * HOUR)
    for removal in plan(taken(tmp_path), 0).removals:
        if removal.entry.key == path[1].stage.key:
            Path(removal.item.path).unlink()  # so that the stage forks again
    list(toy_trainer(toy_packs, tmp_path).train(path, RUNGS))
    assert (trunk / "used").exists()
    assert {entry.key for entry, _ in plan(taken(tmp_path), 0).spared} == {leg.stage.key for leg in path}
    store = Store(str(tmp_path), "division")
    written = (trunk / "used").stat().st_mtime_ns
    store.touch(path[0].stage.key)
    assert (trunk / "used").stat().st_mtime_ns == written
    age(trunk, 61)
    store.touch(path[0].stage.key)
    assert (trunk / "used").stat().st_mtime > time.time() - 30
    assert last.exists()


def test_claims_expire_and_gc_clears_them_away(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, now = Objects(str(filled)), time.time()
    write_claim(objects, "one/../two", [A, B])
    write_claim(objects, "one/../two", [A])  # in place of the first
    (filled / "claims" / "broken.json").write_text("{")
    (filled / "claims" / "far.json").write_text('{"search": "far", "stages": [], "expires": 1e300}')
    live, dead = read_claims(objects)
    assert [(claim.search, claim.stages) for claim in live] == [("one/../two", frozenset({A}))]
    assert sorted(Path(path).name for path in dead) == ["broken.json", "far.json"]
    assert {file.parent for file in filled.rglob("*two.json")} == {filled / "claims"}
    gc(objects, 10**12)
    assert [file.name for file in (filled / "claims").iterdir()] == ["one%2F..%2Ftwo.json"]
    monkeypatch.setattr("time.time", lambda: now + CLAIM_S + 5)
    assert not taken(filled).claims
    assert "ak03" in names(gc(objects, 0))
    assert not list((filled / "claims").iterdir())


def test_leftovers_of_killed_processes_go_first_once_they_are_old(filled: Path) -> None:
    tmp = filled / "division" / A / f"kept-00000012.ckpt.{'0' * 32}.tmp"
    tmp.write_bytes(b"x" * 1000)
    aside = filled / "division" / C / "kept-00000012.ckpt.damaged"
    aside.write_bytes(b"x" * 1000)
    found = taken(filled)
    assert not {Path(removal.item.path) for removal in plan(found, 0).removals} & {
        tmp,
        aside,
    }  # it may be being written
    for file in (tmp, aside):
        os.utime(file, (time.time() - LEFTOVER_S - 60,) * 2)
    os.utime(filled / "division" / A / "kept-00000003.ckpt")  # A is in use, and its leftover goes all the same
    write_claim(Objects(str(filled)), "faces", [A, B, C])
    assert {Path(removal.item.path) for removal in plan(taken(filled), 0).removals} == {tmp, aside}


def test_a_search_trains_again_what_was_evicted(toy_packs: Path, tmp_path: Path) -> None:
    """While it runs: eviction is safe, if wasteful, even where nothing is spared."""
    set_deterministic(1)
    problem = toy_problem(toy_packs)
    expected = {
        name: [
            (r.step, r.metrics)
            for r in toy_trainer(toy_packs, tmp_path / "alone").train(path_of(recipe, problem, 0), RUNGS)
        ]
        for name, recipe in RECIPES.items()
    }
    ended = threading.Event()
    errors: list[BaseException] = []
    removed: list[str] = []

    def evict() -> None:
        objects = Objects(str(tmp_path / "shared"))
        while not ended.wait(0.01):
            try:
                found = take_census(objects)
                unleased = tuple(replace(entry, lease=None) for entry in found.entries)
                free = replace(found, entries=unleased)
                planned = plan(free, 0, grace_s=-HOUR)
                carry_out(objects, free, planned)
                removed.extend(removal.item.path for removal in planned.removals)
            except StoreError as error:
                if "no store here" not in str(error):
                    errors.append(error)
            except BaseException as error:  # noqa: BLE001  (shown by the assertion below)
                errors.append(error)

    thread = threading.Thread(target=evict)
    thread.start()
    try:
        trainer = toy_trainer(toy_packs, tmp_path / "shared", checkpoint_s=0.0)
        for name, recipe in RECIPES.items():
            reports = list(trainer.train(path_of(recipe, problem, 0), RUNGS))
            assert [(report.step, report.metrics) for report in reports] == expected[name]
            trainer.forget()
    finally:
        ended.set()
        thread.join()
    assert not errors
    assert removed


def _flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def test_verify_finds_a_flipped_byte_anywhere(toy_packs: Path, tmp_path: Path) -> None:
    set_deterministic(1)
    path = path_of(RECIPES["finetune"], toy_problem(toy_packs), 0)
    list(toy_trainer(toy_packs, tmp_path).train(path, RUNGS))
    objects = Objects(str(tmp_path))
    seen: list[tuple[int, int]] = []
    assert damaged(objects, take_census(objects), lambda done, total: seen.append((done, total))) == []
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert seen[-1] == (sum(file.stat().st_size for file in files),) * 2
    for pattern in ("kept-*", "eval-*", "stage.json"):
        file = next(tmp_path.rglob(pattern))
        _flip(file)
        assert damaged(objects, take_census(objects)) == [str(file)]
        assert not file.exists()
        assert file.with_name(f"{file.name}.damaged").exists()
        assert damaged(objects, take_census(objects)) == []
    for size in (0, 10, 40):  # shorter than a checkpoint can be
        file = tmp_path / "division" / path[0].stage.key / "kept-00000001.ckpt"
        file.write_bytes(b"x" * size)
        assert damaged(objects, take_census(objects)) == [str(file)]


def test_checking_a_stream_in_pieces_is_checking_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path), "division")
    store.save(A, 3, state(3), keep=True)
    (file,) = tmp_path.rglob("*.ckpt")
    for chunk in (1, 31, 32, 33, 1000, 1 << 20):
        monkeypatch.setattr("trainables.objects._CHUNK_BYTES", chunk)
        assert store.objects.intact(str(file))
    raw = file.read_bytes()
    for bad in (raw[:-1], raw + b"x", raw[:-1] + bytes([raw[-1] ^ 1])):
        file.write_bytes(bad)
        assert not store.objects.intact(str(file))


def test_no_store_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here; name the folder or URI"):
        taken(tmp_path / "nowhere")
    assert taken(tmp_path).entries == ()


def test_a_store_on_s3(s3: S3) -> None:
    """Leases, uses, claims, census, eviction and verification; objects cannot be renamed there."""
    uri = s3.uri("bucket/store")
    store, objects = Store(uri, "division"), Objects(uri)
    with pytest.raises(StoreError, match="no store here"):
        take_census(objects)
    canonical = {"lr": 0.1}
    stage = digest(canonical)[:32]
    with Lease(store, stage, "me", Ranks(), 0, 30.0) as lease:
        assert lease.lost(1) is None
        store.describe(stage, canonical)
        for step in (3, 6):
            store.save(stage, step, state(step), keep=True)
        store.save_evaluation(stage, 3, "e", Evaluation({"val/miou": 0.5}, 1.0, 3))
        (entry,) = take_census(objects).entries
        assert entry.lease is not None
        assert (entry.division, entry.key, entry.steps, entry.lease.owner) == ("division", stage, (3, 6), "me")
        assert not plan(take_census(objects), 0, grace_s=-HOUR).removals
    assert store.objects.read(lease_path(store, stage)) is None
    store.touch(stage)
    write_claim(objects, "faces", [stage])
    found = take_census(objects)
    assert found.searches(stage) == ("faces",)
    assert abs(found.entries[0].used - time.time()) < 60
    assert "used" not in [item.name for item in found.entries[0].items]
    remove_claim(objects, "faces")
    assert damaged(objects, take_census(objects)) == []
    assert names(gc(objects, found.bytes - 1, grace_s=-HOUR))[0][1:] == "k03"
    assert store.latest(stage, 9) == 6
    path = store.steps(stage)[6]
    raw = store.objects.read(path)
    assert raw is not None
    store.objects.write(path, lambda stream: stream.write(raw[:-1]))
    assert damaged(objects, take_census(objects)) == [path]
    assert store.latest(stage, 9) is None
    assert store.evaluation(stage, 3, "e") is not None


def test_a_census_lists_each_division_once(filled: Path) -> None:
    """However many stages there are: an object store answers a thousand objects at a time."""
    Store(str(filled), "other").save(A, 3, state(3), keep=True)
    objects = Objects(str(filled))
    asked: list[Any] = []

    class Counting:
        def get_file_info(self, selector: Any) -> Any:
            asked.append(selector)
            return fs.LocalFileSystem().get_file_info(selector)

        def open_input_stream(self, path: str) -> Any:
            raise AssertionError(f"{path} need not be read")

    objects.filesystem = Counting()
    assert len(take_census(objects).entries) == 4
    assert len(asked) == 4  # the root, two divisions, the claims
    assert all(isinstance(selector, fs.FileSelector) for selector in asked)
