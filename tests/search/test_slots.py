"""A slot reads the packs that the driver read, and no others."""

import shutil
from pathlib import Path

import pytest

from datasets import Pack, PackError
from search.config import load
from search.problem import open_problem
from search.slots import SlotJob, make_trainer
from tests.toy import SPEC, toy_search


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_slot_refuses_a_pack_that_was_replaced_after_the_driver_read_it(
    toy_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("TITRATE_PACK_CACHE", str(tmp_path / "driver"))
    shutil.copytree(toy_packs, tmp_path / "packs")
    opened = open_problem(load(toy_search(f"{scheme}{tmp_path}/packs", tmp_path)))
    job = SlotJob(SPEC, opened.packs, opened.backgrounds, str(tmp_path / "store"), "me", threads=1, loaders=0)
    trainer = make_trainer(job, 1)
    assert {"val": trainer.val.digest, "test/same": trainer.tests["same"].digest}.items() <= opened.digests.items()

    old, new = (Pack.open(toy_packs / name).digest[:12] for name in ("val", "test"))
    shutil.rmtree(tmp_path / "packs" / "val")
    shutil.copytree(toy_packs / "test", tmp_path / "packs" / "val")
    monkeypatch.setenv("TITRATE_PACK_CACHE", str(tmp_path / "another node"))
    with pytest.raises(PackError, match=f"packs/val: digest must be {old}, but is {new}; the pack was replaced"):
        make_trainer(job, 1)
