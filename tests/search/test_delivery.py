"""What a finished search leaves: its best model in the registry, its pictures, its report; and what it does without."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console

from datasets import Pack
from search.config import load
from search.registry import Registrar, Request, requirements
from search.run import Result, run
from tests.toy import PRUNED, toy_search
from trainables.predict import Predictor

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DELIVER = {"report: false": "report: true", "best_model: false": "best_model: true"}

SERVED = """
import sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/titrate-toy@best")
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def delivered(finished: tuple[Path, Result], toy_packs: Path) -> tuple[Path, Result]:
    """A search that has finished and left nothing but its runs, run again to leave everything; it trains nothing."""
    folder, before = finished
    client = MlflowClient(before.tracking_uri)
    assert {item.path for item in client.list_artifacts(parent_of(before))}.isdisjoint({"report.html", "recipe.yaml"})
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model("titrate-toy")
    assert not (folder / "results/toy/best").exists()
    path = toy_search(toy_packs, folder, PRUNED | DELIVER)
    return folder, run(load(path), path.read_text(), results=folder / "results", console=Console(quiet=True))


def parent_of(result: Result) -> str:
    assert result.conclusion is not None
    return result.conclusion.table.run_id


def test_the_registered_model_predicts_what_the_exported_one_does(
    delivered: tuple[Path, Result], toy_packs: Path, tmp_path: Path
) -> None:
    folder, result = delivered
    pack = Pack.open(toy_packs / "val")
    pictures = np.stack([pack.sample(k, ["image"])["image"] for k in range(2)])
    np.save(tmp_path / "in.npy", pictures)
    done = subprocess.run(
        [sys.executable, "-c", SERVED, result.tracking_uri, str(tmp_path / "in.npy"), str(tmp_path / "out.npy")],
        cwd=tmp_path,  # our folders are not here: the model brings its own
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = Predictor.load(folder / "results/toy/best", "cpu")(list(pictures))
    assert np.array_equal(np.load(tmp_path / "out.npy"), np.stack(expected))


def test_the_registry_names_the_run_and_the_recipe(delivered: tuple[Path, Result]) -> None:
    folder, result = delivered
    client = MlflowClient(result.tracking_uri)
    version = client.get_model_version_by_alias("titrate-toy", "best")
    assert result.conclusion is not None
    winner = result.conclusion.decision.winner
    assert winner is not None
    assert version.run_id in {row.run_id for row in winner.rows}
    assert version.tags["titrate.recipe"] == winner.recipe.key
    assert str(winner.recipe) in (version.description or "")
    (output,) = client.get_run(parent_of(result)).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert version.source == f"models:/{model.model_id}"
    assert Path(model.artifact_location.removeprefix("file://")).is_relative_to(folder / "results/mlartifacts")
    assert [line for line in result.left if line.startswith("model ")] == [
        "model models:/titrate-toy@best is version 1"
    ]


def test_its_requirements_are_pinned_as_they_are_here() -> None:
    assert all("==" in line and "+" not in line for line in requirements())
    assert {"torch", "numpy"} <= {line.partition("==")[0] for line in requirements()}


def test_pictures_of_the_best_trial_are_artifacts_of_its_run(delivered: tuple[Path, Result], tmp_path: Path) -> None:
    folder, result = delivered
    client = MlflowClient(result.tracking_uri)
    run_id = json.loads((folder / "results/toy/best/model.json").read_text())["trained"]["run"]
    place = Path(client.download_artifacts(run_id, "predictions", str(tmp_path)))
    listed: list[dict[str, Any]] = json.loads((place / "index.json").read_text())
    assert {(one["metric"], one["place"]) for one in listed} == {
        (f"{name}/miou", place) for name in ("val", "test/same") for place in ("worst", "median", "best")
    }
    worst, median, best = (one["score"] for one in listed if one["metric"] == "val/miou")
    assert worst <= median <= best
    for one in listed:
        assert cv2.imread(str(place / one["file"])).shape == (32, 96, 3)


def test_the_search_has_its_report_its_answer_and_its_recipe(
    finished: tuple[Path, Result], delivered: tuple[Path, Result]
) -> None:
    (_, before), (_, result) = finished, delivered
    client, parent = MlflowClient(result.tracking_uri), parent_of(result)
    names = {item.path for item in client.list_artifacts(parent)}
    assert {"report.html", "report.md", "recipe.yaml", "figures", "curve.png"} <= names
    page = Path(client.download_artifacts(parent, "report.html")).read_text()
    assert "could not be made" not in page
    assert page.count("data:image/jpeg") == 6
    assert "python -m search export toy" in page
    run = client.get_run(parent)
    assert "Train `" in run.data.tags["mlflow.note.content"]
    assert "torch" in json.loads(run.data.tags["titrate.versions"])
    assert {"best/val/miou", "steps/trained", "steps/alone", "saving", "recipes/ended"} <= set(run.data.metrics)
    assert run.data.metrics["steps/trained"] == before.steps_trained
    assert run.data.metrics["steps/alone"] == before.steps_alone


def request_of(delivered: tuple[Path, Result], **fields: Any) -> Request:
    """What was registered, with some fields replaced."""
    folder, result = delivered
    version = MlflowClient(result.tracking_uri).get_model_version_by_alias("titrate-toy", "best")
    request = Request(
        folder=str(folder / "results/toy/best"),
        name="titrate-toy",
        run_id=version.run_id or "",
        search_run_id=parent_of(result),
        tags=version.tags,
        description="",
    )
    return replace(request, **fields)


def answered(uri: str, request: Request) -> str:
    with Registrar(uri) as registrar:
        registrar.ask(request)
        return registrar.answer() or ""


def test_what_is_registered_is_not_registered_again(delivered: tuple[Path, Result]) -> None:
    uri = delivered[1].tracking_uri
    assert answered(uri, request_of(delivered)) == "model models:/titrate-toy@best is version 1, as before"
    assert len(MlflowClient(uri).search_model_versions("name='titrate-toy'")) == 1


def test_what_the_registry_refuses_is_one_line(delivered: tuple[Path, Result]) -> None:
    uri = delivered[1].tracking_uri
    line = answered(uri, request_of(delivered, run_id="0" * 32, name="titrate-other"))
    assert line.startswith(f"the model was not registered at {uri}: ")
    assert f"Run with id={'0' * 32} not found" in line
    assert "\n" not in line


def test_a_registrar_that_is_asked_for_nothing_says_nothing_and_is_gone() -> None:
    with Registrar("sqlite:///none.db") as registrar:
        assert registrar.answer() is None
        process = registrar._process
        assert process is not None
        assert process.poll() is None
    assert process.poll() is not None
    assert not (ROOT / "none.db").exists()


def test_a_registrar_that_was_killed_is_one_line() -> None:
    with Registrar("sqlite:///none.db") as registrar:
        assert registrar._process is not None
        registrar._process.kill()
        registrar._process.wait()
        registrar.ask(Request("", "", "", "", {}, ""))
        assert registrar.answer() == "the model was not registered at sqlite:///none.db: exit status -9"
