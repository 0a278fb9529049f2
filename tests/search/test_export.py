"""Export and explain, on a whole search: what is exported is what was measured, and the recipe is the same training."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from datasets import Pack, Source, eval_batches
from search.__main__ import app
from search.config import load
from search.run import Result, run
from trainables.path import path_of
from trainables.predict import Predictor
from trainables.samples import worst_median_best

pytestmark = pytest.mark.slow


def run_file(path: Path, results: Path) -> Result:
    return run(load(path), path.read_text(), results=results, console=Console(quiet=True))


def call(*arguments: object, code: int = 0) -> str:
    """Runs the command line in this process; what it printed, or its one line of error."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    if code:
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith("error: ")
        return line
    return result.stdout


def rows_of(result: Result) -> list[Any]:
    assert result.conclusion is not None
    return [row for row in result.conclusion.table.rows if row.status == "finished"]


def metrics_on(predictor: Predictor, pack: Path) -> dict[str, float]:
    """The metrics of a model on a pack, by the task's evaluator and nothing of the search."""
    source = Source([Pack.open(pack)])
    evaluator = predictor.task.evaluator(predictor.device)
    with torch.no_grad():
        for batch in eval_batches(source, predictor.task.prepare, predictor.task.columns, batch_size=32):
            evaluator.update(predictor.model, batch)
    return evaluator.compute()


def test_every_finished_trial_exports_the_weights_that_were_measured(
    finished: tuple[Path, Result], toy_packs: Path, tmp_path: Path
) -> None:
    folder, result = finished
    rows = rows_of(result)
    methods = {row.recipe.adaptation for row in rows}
    for row in rows:
        out = tmp_path / f"{row.number}-{row.seed}"
        call("export", "toy", "--trial", row.number, "--seed", row.seed, "--out", out, "--results", folder / "results")
        predictor = Predictor.load(out)
        for name, pack in (("val", "val"), ("test/same", "test")):
            measured = {f"{name}/{key}": value for key, value in metrics_on(predictor, toy_packs / pack).items()}
            assert measured == pytest.approx({key: row.metrics[key] for key in measured}, rel=0, abs=0, nan_ok=True)
        assert predictor.file.metrics["val/miou"] == row.metrics["val/miou"]
    assert len(methods) > 1, "the search finished with one method: the test shows nothing of the others"


def test_the_recommended_recipe_is_the_default_beside_the_searchs_own_files(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    out = folder / "results" / "toy" / "exported"
    call("export", "toy", "--results", folder / "results")
    assert result.conclusion is not None
    winner = result.conclusion.decision.winner
    assert winner is not None
    file = json.loads((out / "model.json").read_text())
    assert file["trained"]["recipe_key"] == winner.recipe.key
    best = max(winner.rows, key=lambda row: row.metrics["val/miou"])
    assert file["metrics"]["val/miou"] == best.metrics["val/miou"]
    card = (out / "README.md").read_text()
    assert result.conclusion.recommendation in card
    assert all(note in card for note in result.conclusion.decision.notes)
    assert "val/miou" in card
    assert "test/same/miou" in card
    assert (out / "curve.png").read_bytes()[:4] == b"\x89PNG"
    state = torch.load(out / "weights.pt", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())


def test_every_exported_recipe_has_the_same_stages_and_nothing_is_trained_again(
    finished: tuple[Path, Result], toy_packs: Path, tmp_path: Path
) -> None:
    from search.problem import open_problem

    folder, result = finished
    whole = open_problem(load(folder / "toy.yaml")).problem
    for row in {row.number: row for row in rows_of(result)}.values():
        out = tmp_path / str(row.number)
        call("export", "toy", "--trial", row.number, "--out", out, "--results", folder / "results")
        config = load(out / "recipe.yaml")
        (recipe,) = config.space.enumerate()
        assert recipe == row.recipe
        alone = open_problem(config).problem
        keys = [[leg.stage.key for leg in path_of(recipe, problem, 1)] for problem in (whole, alone)]
        assert keys[0] == keys[1]
    again = run_file(out / "recipe.yaml", folder / "results")
    assert again.steps_trained == 0
    assert {row.metrics["val/miou"] for row in rows_of(again)} == {
        other.metrics["val/miou"] for other in rows_of(result) if other.number == row.number
    }


def test_weights_that_are_gone_say_how_to_train_them_again_and_so_they_are(
    finished: tuple[Path, Result], tmp_path: Path
) -> None:
    folder, result = finished
    results = tmp_path / "results"
    shutil.copytree(folder / "results", results)
    row = rows_of(result)[0]
    uri = f"sqlite:///{results}/mlflow.db"
    asked = ["export", "toy", "--trial", row.number, "--seed", row.seed, "--results", results, "--tracking", uri]
    call(*asked, "--out", tmp_path / "before")
    for path in (results / "store").rglob("*.ckpt"):
        path.unlink()
    line = call(*asked, "--out", tmp_path / "after", code=2)
    assert "no longer in the store" in line
    assert f"--trial {row.number} --no-weights" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "results"]
    call(
        "export",
        "toy",
        "--trial",
        row.number,
        "--no-weights",
        "--results",
        results,
        "--tracking",
        uri,
        "--out",
        tmp_path / "again",
    )
    assert not (tmp_path / "again" / "weights.pt").exists()
    run_file(tmp_path / "again" / "recipe.yaml", tmp_path / "again" / "results")
    name = load(tmp_path / "again" / "recipe.yaml").name
    call("export", name, "--seed", row.seed, "--results", tmp_path / "again" / "results", "--out", tmp_path / "after")
    states = [torch.load(tmp_path / one / "weights.pt", weights_only=True) for one in ("before", "after")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(finished: tuple[Path, Result], tmp_path: Path) -> None:
    folder, result = finished
    results = folder / "results"
    out = tmp_path / "out"
    assert "there are: toy" in call("export", "toi", "--out", out, "--results", results, code=2)
    assert "there is none yet" in call("export", "toy", "--out", out, "--results", tmp_path, code=2)
    assert "--trial must be" in call("export", "toy", "--trial", 99, "--out", out, "--results", results, code=2)
    assert "--seed must be" in call("export", "toy", "--seed", 9, "--out", out, "--results", results, code=2)
    assert result.conclusion is not None
    stopped = [row for row in result.conclusion.table.rows if row.status == "stopped"]
    assert stopped
    line = call("export", "toy", "--trial", stopped[0].number, "--out", out, "--results", results, code=2)
    assert f"python -m search explain toy {stopped[0].number}" in line
    assert list(tmp_path.iterdir()) == []
    (out / "mine").mkdir(parents=True)
    assert "must be a new folder" in call("export", "toy", "--out", out, "--results", results, code=2)


def test_a_damaged_export_is_one_line(finished: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = finished
    out = tmp_path / "model"
    call("export", "toy", "--out", out, "--results", folder / "results")
    weights = bytearray((out / "weights.pt").read_bytes())
    weights[len(weights) // 2] ^= 1
    (out / "weights.pt").write_bytes(weights)
    with pytest.raises(ValueError, match=r"weights\.pt: damaged"):
        Predictor.load(out)
    (out / "weights.pt").unlink()
    with pytest.raises(ValueError, match="the file is missing"):
        Predictor.load(out)


def test_explain_says_what_the_study_says(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    assert result.conclusion is not None
    rows = result.conclusion.table.rows
    for number in sorted({row.number for row in rows}):
        mine = [row for row in rows if row.number == number]
        text = call("explain", "toy", number, "--results", folder / "results")
        assert f"trial {number} of search toy: {mine[0].recipe}" in text
        assert "the next recipe of the grid" in text
        if mine[0].status == "finished":
            assert "completed: val/miou" in text
        else:
            assert "left behind at rung 1 of 2, step 3" in text
        trained = sum(row.steps_trained or 0 for row in mine)
        assert f"{trained:,} steps were trained for all its seeds" in text
    finals = {n: [r.metrics["val/miou"] for r in rows if r.number == n] for n in {r.number for r in rows_of(result)}}
    best = max(finals, key=lambda n: sum(finals[n]))
    text = call("explain", "toy", best, "--results", folder / "results")
    assert f"step       6: val/miou {sum(finals[best]) / 2:.4g}, 1 of {len(finals)} there" in text
    fine = [row.number for row in rows if row.recipe.schedule == "finetune"]
    assert f"shared with trial {max(fine)}" in call("explain", "toy", min(fine), "--results", folder / "results")
    assert "a trial must be one of search toy" in call("explain", "toy", 99, "--results", folder / "results", code=2)


def test_samples_are_the_worst_the_median_and_the_best_by_their_own_scores(
    finished: tuple[Path, Result], toy_packs: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    call("export", "toy", "--out", tmp_path / "model", "--results", folder / "results")
    predictor = Predictor.load(tmp_path / "model")
    pack = Pack.open(toy_packs / "val")
    shown = worst_median_best(predictor, pack, "val/miou")
    scores = []
    for row in range(len(pack)):  # of the prediction itself, by counting
        sample = pack.sample(row)
        (labels,) = predictor([sample["image"]])
        truth = sample["segmentation"]
        ious = [
            ((labels == k) & (truth == k)).sum() / union
            for k in range(9)
            if (union := ((labels == k) | (truth == k)).sum())
        ]
        scores.append(sum(ious) / len(ious))
    order = sorted(range(len(pack)), key=lambda row: (scores[row], row))
    assert [one.place for one in shown] == ["worst", "median", "best"]
    assert [one.row for one in shown] == [order[0], order[len(order) // 2], order[-1]]
    assert [one.score for one in shown] == pytest.approx([scores[one.row] for one in shown], rel=1e-9)
    assert {one.picture.shape for one in shown} == {(32, 96, 3)}
    with pytest.raises(ValueError, match="metric must be one of"):
        worst_median_best(predictor, pack, "val/nme")


def test_a_search_left_behind_is_read_back_as_it_was(finished: tuple[Path, Result]) -> None:
    folder, _ = finished
    left = folder / "results" / "toy" / "search.yaml"
    assert load(left) == load(folder / "toy.yaml")
    assert os.stat(left).st_mode & 0o077 == 0
