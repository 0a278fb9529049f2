"""`python -m search store`: what it lists, removes, verifies, and how it says what is wrong."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from search.__main__ import app
from search.store_admin import in_words
from tests.s3 import S3, s3_server
from tests.toy import MORE, RECIPES, RUNGS, toy_problem, toy_trainer
from trainables.claims import write_claim
from trainables.lease import lease_path
from trainables.numerics import set_deterministic
from trainables.objects import Objects
from trainables.path import Path as Stages
from trainables.path import path_of
from trainables.store import Store

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def path(toy_packs: Path) -> Stages:
    return path_of(RECIPES["finetune"], toy_problem(toy_packs), 0)


@pytest.fixture
def store(toy_packs: Path, tmp_path: Path, path: Stages) -> Path:
    """The store of one fine-tuned recipe, used a day ago: a trunk at 3 and 4, and its end at 3 and 6."""
    set_deterministic(1)
    folder = tmp_path / "store"
    list(toy_trainer(toy_packs, folder).train(path, RUNGS))
    for file in folder.rglob("*"):
        os.utime(file, (time.time() - 86_400,) * 2)
    return folder


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["store", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result.output


def fails(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["store", *arguments])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_ls_says_what_each_stage_trains_and_who_uses_it(store: Path, path: Stages) -> None:
    trunk, last = (leg.stage.key for leg in path)
    write_claim(Objects(str(store)), "faces", [trunk])
    division = Store(str(store), "division")
    lease = {"owner": "somebody", "expires": time.time() + 60, "step": 6}
    division.objects.write_json(lease_path(division, last), lease)
    lines = [" ".join(line.split()) for line in invoke("ls", str(store)).splitlines()]
    assert lines[0].startswith("division division: 2 stages, ")
    (of_trunk,) = [line for line in lines if line.startswith(trunk[:8])]
    (of_last,) = [line for line in lines if line.startswith(last[:8])]
    assert "segmentation on 40 of 40 synthetic images at lr 0.05, seed 0 4 2 " in of_trunk
    assert of_trunk.endswith("MB 24.0 h ago claimed by faces")
    assert f"segmentation on 12 of 24 real images at lr 0.1, seed 0, from step 4 of {trunk[:8]} 6 2 " in of_last
    assert of_last.endswith("s ago leased by somebody")
    assert lines[-1].startswith("2 stages, 4 checkpoints of ")
    assert lines[-1].endswith(" 3 evaluations; 1 running searches")


def test_ls_for_programs(store: Path, path: Stages) -> None:
    found = json.loads(invoke("ls", str(store), "--json"))
    sizes = {file.parent.name: 0 for file in store.rglob("*.ckpt")}
    for file in store.rglob("*.ckpt"):
        sizes[file.parent.name] += file.stat().st_size
    rows = {row["stage"]: row for row in found["stages"]}
    assert {key: row["bytes"] for key, row in rows.items()} == sizes
    assert found["bytes"] == sum(sizes.values())
    trunk, last = (rows[leg.stage.key] for leg in path)
    assert (trunk["checkpoints"], last["checkpoints"]) == ([3, 4], [3, 6])
    assert (trunk["evaluations"], last["evaluations"], last["reached"]) == (0, 3, 6)
    assert (last["division"], last["leased_by"], last["claimed_by"]) == ("division", None, [])
    assert time.time() - last["used"] == pytest.approx(86_400, abs=300)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mixed", "on 12 of 24 real and 40 of 40 synthetic images with real_bn at lr 0.1, seed 1"),
        ("finetune fda", "on 20 of 40 synthetic images with fda at lr 0.05, seed 1"),
        ("mixed_finetune dsbn", "on 12 of 24 real and 20 of 40 synthetic images with dsbn at lr 0.05, seed 1"),
    ],
)
def test_words_for_every_kind_of_stage(toy_packs: Path, name: str, expected: str) -> None:
    stage = path_of((RECIPES | MORE)[name], toy_problem(toy_packs), 1)[0].stage
    assert in_words(json.loads(json.dumps(stage.canonical()))) == f"segmentation {expected}"


def test_gc_says_what_it_removes_and_what_it_spares(store: Path, path: Stages) -> None:
    trunk, last = (leg.stage.key for leg in path)
    write_claim(Objects(str(store)), "faces", [trunk])
    before = sorted(store.rglob("*"))
    said = invoke("gc", str(store), "--max-gb", "0", "--dry-run")
    assert sorted(store.rglob("*")) == before
    assert "would remove 2 checkpoints" in said
    said = invoke("gc", str(store), "--max-gb", "0")
    (line,) = [line for line in said.splitlines() if line.startswith(f"division/{last[:8]}")]
    assert line.endswith("kept-00000003.ckpt, kept-00000006.ckpt; none of it is left")
    assert "spared: 1 stages" in said
    assert "needed by faces" in said
    assert "removed 2 checkpoints" in said
    assert "that is more than 0 GB: all that is left is spared" in said
    assert sorted(file.name for file in store.rglob("*.ckpt")) == ["kept-00000003.ckpt", "kept-00000004.ckpt"]
    assert len(list(store.rglob("eval-*"))) == 3


def test_gc_stops_when_it_fits_and_keeps_a_stages_last(store: Path) -> None:
    size = sum(file.stat().st_size for file in store.rglob("*.ckpt"))
    assert "removed 0 checkpoints" in invoke("gc", str(store), "--max-gb", str(size / 1e9))
    said = invoke("gc", str(store), "--max-gb", str((size - 1) / 1e9))
    assert "kept-00000003.ckpt; its last stays" in said
    assert "removed 1 checkpoints" in said
    assert "all that is left is spared" not in said


def test_gc_spares_what_is_younger_than_it_is_told(store: Path) -> None:
    said = invoke("gc", str(store), "--max-gb", "0", "--older-than", "2")
    assert "removed 0 checkpoints" in said
    assert "spared: 2 stages" in said
    assert "used within 2 days" in said
    assert "removed 4 checkpoints" in invoke("gc", str(store), "--max-gb", "0", "--older-than", "0.5")


def test_verify_finds_a_flipped_byte_and_exits_with_1(store: Path) -> None:
    assert " objects of 2 stages read, 0 damaged" in invoke("verify", str(store))
    file = next(store.rglob("kept-00000006.ckpt"))
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 16
    file.write_bytes(raw)
    said = invoke("verify", str(store), code=1)
    assert f"damaged: {file}; set aside as kept-00000006.ckpt.damaged" in said
    assert said.strip().endswith("read, 1 damaged")
    assert not file.exists()
    assert "0 damaged" in invoke("verify", str(store))


@pytest.mark.parametrize("command", [["ls"], ["gc", "--max-gb", "1"], ["verify"]])
def test_what_is_wrong_is_one_line(tmp_path: Path, s3: S3, command: list[str]) -> None:
    assert f"{tmp_path}/none: no store here" in fails(*command, f"{tmp_path}/none")
    assert "must be a folder or a URI that pyarrow opens" in fails(*command, "ftp://user:secret@host/x")
    (tmp_path / "file").write_text("x")
    assert f"{tmp_path}/file: " in fails(*command, f"{tmp_path}/file")
    assert "no store here" in fails(*command, s3.uri("bucket/none"))
    assert "/none" in (line := fails(*command, s3.uri("nobucket/none")))
    assert "secret" not in line


def test_a_size_that_is_none(store: Path) -> None:
    assert "--max-gb must be a number, but got inf" in fails("gc", str(store), "--max-gb", "inf")


def test_a_store_on_s3_by_a_real_process(toy_packs: Path, path: Stages, s3: S3, store: Path) -> None:
    uri = s3.uri("bucket/results")
    there = Store(uri, "division")
    for file in (file for file in store.rglob("*") if file.is_file()):
        there.objects.write(
            f"{there.root}/{file.relative_to(store / 'division')}", lambda s, f=file: s.write(f.read_bytes())
        )
    done = subprocess.run(
        [sys.executable, "-m", "search", "store", "ls", uri, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert "secret" not in done.stdout + done.stderr
    assert {row["stage"] for row in found["stages"]} == {leg.stage.key for leg in path}
    assert "0 damaged" in invoke("verify", uri)
    said = invoke("gc", uri, "--max-gb", "0")
    assert "spared: 2 stages" in said
    assert "used within 10 minutes" in said
