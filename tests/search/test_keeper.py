"""The keeper: a running search's stages are claimed, the store keeps to its size, an outage is survived."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from search.keeper import Keeper
from trainables.census import take_census
from trainables.claims import read_claims
from trainables.objects import Objects
from trainables.store import Store

A, B = "a" * 32, "b" * 32


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.keeper.EVERY_S", 0.05)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Two stages that were used an hour ago."""
    folder = tmp_path / "store"
    store = Store(str(folder), "division")
    for stage in (A, B):
        for step in (3, 6):
            store.save(stage, step, {"step": step, "weight": torch.zeros(100)}, keep=True)
    for file in folder.rglob("*.ckpt"):
        os.utime(file, (time.time() - 3600,) * 2)
    return folder


def wait(until: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def claimed(folder: Path) -> dict[str, frozenset[str]]:
    return {claim.search: claim.stages for claim in read_claims(Objects(str(folder)))[0]}


def test_a_claim_follows_what_is_needed_and_ends_with_the_search(filled: Path) -> None:
    needed = {A}
    with Keeper(str(filled), "faces", lambda: set(needed)):
        wait(lambda: claimed(filled) == {"faces": {A}})
        needed.add(B)
        wait(lambda: claimed(filled) == {"faces": {A, B}})
        with Keeper(str(filled), "hands", lambda: {B}):
            wait(lambda: claimed(filled) == {"faces": {A, B}, "hands": {B}})
        assert claimed(filled) == {"faces": {A, B}}
    assert claimed(filled) == {}
    assert len(list(filled.rglob("*.ckpt"))) == 4  # without a size nothing is evicted


def test_what_no_search_needs_is_evicted(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "search.keeper")
    store, needed = Store(str(filled), "division"), {A}
    with Keeper(str(filled), "hands", lambda: {B}):
        wait(lambda: "hands" in claimed(filled))
        with Keeper(str(filled), "faces", lambda: set(needed), max_bytes=0):
            wait(lambda: "more than its 0.00, and all of it is in use" in caplog.text)
            assert len(list(filled.rglob("*.ckpt"))) == 4  # one's own, and another search's
            needed.clear()
            wait(lambda: not store.steps(A))
            assert sorted(store.steps(B)) == [3, 6]
    assert "2 checkpoints evicted" in caplog.text
    assert take_census(Objects(str(filled))).claims == ()


def test_an_outage_is_survived(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = filled.with_name("away")
    with Keeper(str(filled), "faces", lambda: {A}, max_bytes=10**9):
        wait(lambda: claimed(filled))
        filled.rename(away)
        filled.write_text("in the way")
        wait(lambda: "the store could not be kept" in caplog.text)
        filled.unlink()
        away.rename(filled)
        (claim,) = (filled / "claims").iterdir()
        claim.unlink()
        wait(lambda: claimed(filled) == {"faces": {A}})
    assert claimed(filled) == {}


def test_a_search_ends_though_its_store_is_gone(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Keeper(str(filled), "faces", lambda: {A}):
        wait(lambda: claimed(filled))
        filled.rename(filled.with_name("away"))
        filled.write_text("in the way")


def test_whatever_cannot_be_told_is_logged(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def needed() -> set[str]:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("set changed size during iteration")
        return {A}

    with Keeper(str(filled), "faces", needed):
        wait(lambda: claimed(filled) == {"faces": {A}})
    assert "set changed size during iteration" in caplog.text
