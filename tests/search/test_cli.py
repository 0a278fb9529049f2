"""The command line: bad input is one line and exit code 2, `check` says what a search costs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from datasets import write_pack
from search.__main__ import app
from search.config import load
from search.preflight import preflight
from search.problem import open_problem
from tests.conftest import toy_face
from tests.toy import RECIPES, toy_search, toy_trainer
from trainables.numerics import division
from trainables.path import path_of
from trainables.store import Store

ROOT = Path(__file__).resolve().parents[2]


def fails(*arguments: str) -> str:
    """Runs the command line in this process and returns the one line that it printed to stderr."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture
def results(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results")]


def test_a_missing_file_and_an_unknown_key(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    assert "the search file must exist" in fails("run", str(tmp_path / "none.yaml"), *results)
    path = toy_search(toy_packs, tmp_path, {"sampler: grid": "samplr: grid"})
    assert "unknown key 'samplr'; did you mean 'sampler'?" in fails("run", str(path), *results)
    assert "unknown key 'samplr'" in fails("check", str(path))


def test_a_missing_pack_names_it(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    path = toy_search(toy_packs, tmp_path, {f"{toy_packs}/val": f"{tmp_path}/nowhere"})
    assert f"{tmp_path}/nowhere" in fails("run", str(path), *results)


def test_a_pack_without_a_column_that_the_task_needs(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    rows = ({"image": toy_face(i, synthetic=False)["image"]} for i in range(3))
    write_pack(tmp_path / "bare", rows, source={"format": "toy"})
    path = toy_search(toy_packs, tmp_path, {f"{toy_packs}/val": f"{tmp_path}/bare"})
    line = fails("run", str(path), *results)
    assert f"{tmp_path}/bare" in line
    assert "needs column 'segmentation'" in line


def test_a_pack_of_another_size(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    path = toy_search(toy_packs, tmp_path, {"resolution: 32": "resolution: 64"})
    assert "must be uint8[64, 64, 3]" in fails("run", str(path), *results)


def test_a_pack_whose_content_changed(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    rows = (toy_face(i, synthetic=False) for i in range(3))
    pack = write_pack(tmp_path / "changed", rows, source={"format": "toy"})
    file = Path(pack.path) / pack.manifest.files[0].name
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    path = toy_search(toy_packs, tmp_path, {f"{toy_packs}/val": str(tmp_path / "changed")})
    assert str(tmp_path / "changed") in fails("run", str(path), *results)


def test_an_evaluation_pack_that_is_trained_on(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    path = toy_search(toy_packs, tmp_path, {f"{toy_packs}/val": f"{toy_packs}/real"})
    assert "must not be a training pack" in fails("run", str(path), *results)


def test_an_unreachable_tracking_server(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    uri = "http://127.0.0.1:9"  # the discard port: nobody listens
    path = toy_search(toy_packs, tmp_path, {"tracking: {": f"tracking: {{uri: '{uri}', "})
    assert f"MLflow must be reachable at {uri}" in fails("run", str(path), *results)


def test_a_changed_search_names_the_field(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    from search.study import open_study

    config = load(toy_search(toy_packs, tmp_path))
    opened = open_problem(config)
    open_study(config, opened.digests, tmp_path / "results" / "toy", share=True).ask()
    path = toy_search(toy_packs, tmp_path, {"batch_size: 6": "batch_size: 4"})
    assert "training.batch_size must stay as it was" in fails("run", str(path), *results)


def test_an_unknown_objective_names_the_known_ones(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    path = toy_search(toy_packs, tmp_path, {"sampler: grid": "sampler: grid\nobjective: {metric: val/mioo}"})
    line = fails("run", str(path), *results)
    assert "objective.metric must be one of val/miou, " in line
    assert "but got 'val/mioo'" in line
    assert not (tmp_path / "results" / "toy" / "study.db").exists()


def test_a_search_that_another_process_runs(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    from search.run import _alone

    with _alone(tmp_path / "results" / "toy"):
        line = fails("run", str(toy_search(toy_packs, tmp_path)), *results)
    assert "one process at a time" in line


def test_check_counts_recipes_and_steps(toy_packs: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(toy_search(toy_packs, tmp_path))])
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "5 (2 real_only, 1 synthetic_only, 2 finetune)" in words
    assert "5 recipes x 2 seeds = 10" in words
    assert "steps alone 76" in words  # 2 seeds x (2 x 6 + 6 + 2 x (4 + 6))
    assert "steps shared 68" in words  # the trunk of 4 steps once a seed
    assert "warning" not in words


def test_check_counts_evaluations_and_checkpoints(toy_packs: Path, tmp_path: Path) -> None:
    """By hand: 5 recipes x 2 seeds; last stages with rungs 3 and 6, a trunk of 4 steps; val has 12 rows, test 10."""
    config = load(toy_search(toy_packs, tmp_path))
    p = preflight(config, open_problem(config))
    assert p.ahead.steps == p.ahead.steps_expected == 68
    assert p.ahead.evaluations_expected == pytest.approx(2 * 5 * (2 + 10 / 12))
    # real_only and finetune: at 3 and 6; synthetic_only: at 3, 4 and 6; the trunk of both finetunes: at 3 and 4.
    assert p.checkpoints == 2 * (4 * 2 + 3 + 2)
    assert p.disk_bytes(3) == (26 + 3) * p.checkpoint_bytes
    assert p.train_s == pytest.approx(68 * p.step_s + 2 * 5 * (2 + 10 / 12) * p.evaluation_s)
    assert p.rare == ()


def checked(path: Path, results: list[str]) -> list[str]:
    """The lines of `check`, words apart by one space."""
    result = CliRunner().invoke(app, ["check", str(path), *results], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.output.splitlines()]


def test_check_knows_what_the_store_has(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    """The trunk and one finetune of seed 0, trained here as a slot would, need not be trained again."""
    path = toy_search(toy_packs, tmp_path)
    assert "to train 68" in checked(path, results)  # which sets this process's numerics to those of the slots
    device = torch.device("cpu")
    trainer = toy_trainer(toy_packs, tmp_path / "unused")
    part = division(device, world_size=1)
    trainer.store_of = lambda namespace: Store(str(tmp_path / "results" / "store"), part)
    opened = open_problem(load(path))
    list(trainer.train(path_of(RECIPES["finetune"], opened.problem, 0), (3, 6)))
    assert trainer.steps_trained == 10
    lines = checked(path, results)
    assert "already stored 10 of these steps, by this machine's versions and device" in lines
    assert "to train 58" in lines
    elsewhere = checked(path, ["--results", str(tmp_path / "elsewhere")])
    assert "to train 68" in elsewhere
    assert not (tmp_path / "elsewhere").exists()


def test_check_says_what_it_assumes_of_pruning_and_whether_the_budget_holds_it(
    toy_packs: Path, tmp_path: Path, results: list[str]
) -> None:
    """By hand: trunks of 4 and first rungs of 3 for 5 recipes a seed, then 1 of 3 goes on for 3 more steps."""
    hours = {"seeds: 2": "seeds: 2, hours: 1.0e-9", "sampler: grid": "sampler: grid\npruner: asha"}
    lines = checked(toy_search(toy_packs, tmp_path, hours), results)
    about = 2 * (4 + 5 * 3 + 5 * 3 / 3)
    said = "asha: 1 in 3 goes on from each rung"
    assert f"to train 68 if every recipe ran to its end; about {about:.0f} with {said}" in lines
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert "budget.hours is 1e-09, but the search is estimated to take" in warning
    lines = checked(toy_search(toy_packs, tmp_path, {"seeds: 2": "seeds: 2, hours: 10"}), results)
    assert not [line for line in lines if line.startswith("warning")]
    assert [line for line in lines if line.startswith("accelerators about ") and " of the 10 of budget.hours" in line]


def test_check_goes_on_where_the_store_cannot_be_read(toy_packs: Path, tmp_path: Path, results: list[str]) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    path = toy_search(toy_packs, tmp_path, {"sampler: grid": f"sampler: grid\nstore: file://{tmp_path}/loop"})
    lines = checked(path, results)
    assert "to train 68" in lines
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert f"nothing counts as stored, since file://{tmp_path}/loop cannot be read here: " in warning


MIXED = {
    "[real_only, synthetic_only, finetune]": "[mixed]",
    "  pretrain: {steps: [4], lr: [0.05]}\n": "  synthetic_share: [natural, 0.9]\n",
    "real_fraction: [0.5, 1.0]": "real_fraction: [0.125]",  # 3 of 24, beside 40
}


def test_check_warns_of_batches_without_a_domain(toy_packs: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(toy_search(toy_packs, tmp_path, MIXED))])
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if "a batch of 6" in line]
    assert "mixed real=0.125 synthetic=1 share=natural lr=0.1: a batch of 6 with a synthetic share of 0.9302" in line
    assert "holds a real image every 2.39 steps; set" in line  # 43 / (6 * 3)
    assert "(and 1 more recipes like it)" in line


def test_check_warns_of_gpus_that_stay_idle_and_of_slots_that_do_not_fit(
    toy_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    result = CliRunner().invoke(app, ["check", str(toy_search(toy_packs, tmp_path))])
    assert "this machine's 2 GPUs stay idle" in result.output
    assert "on 8 slots" in result.output
    path = toy_search(toy_packs, tmp_path, {"sampler: grid": "sampler: grid\nslots: {gpus_per_worker: 0.5}"})
    result = CliRunner().invoke(app, ["check", str(path)])
    assert "GPUs stay idle" not in result.output
    assert "on 4 slots" in result.output
    path = toy_search(toy_packs, tmp_path, {"sampler: grid": "sampler: grid\nslots: {gpus_per_worker: 1, count: 3}"})
    result = CliRunner().invoke(app, ["check", str(path)])
    assert "this machine (8 CPUs, 2 GPUs) holds 2 slots of 1 x (1 CPUs, 1 GPUs)" in result.output
    assert "on 3 slots" in result.output


def test_check_warns_when_nothing_is_shared(toy_packs: Path, tmp_path: Path) -> None:
    replace = {
        "[real_only, synthetic_only, finetune]": "[real_only]",
        "  adaptation: [none]\n": "",
        "  synthetic_fraction: [1.0]\n": "",
        "  pretrain: {steps: [4], lr: [0.05]}\n": "",
        f"  synthetic: {{toy: {toy_packs}/synthetic}}\n": "",
    }
    result = CliRunner().invoke(app, ["check", str(toy_search(toy_packs, tmp_path, replace))])
    assert result.exit_code == 0, result.output
    assert "no two recipes share a stage" in result.output


def test_a_real_process_prints_no_traceback(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "search", "run", str(tmp_path / "none.yaml")], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr
