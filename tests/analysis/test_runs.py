"""load and conclude against a real MLflow database that the real tracker wrote."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis import conclude, load
from analysis.__main__ import main
from search.tracking import Tracker, default_uri
from trainables.recipe import Pretrain, Recipe

ROOT = Path(__file__).resolve().parents[2]
CURVE = {f"curve.{kind}" for kind in ("png", "svg", "html", "csv", "parquet")}
RECIPES = [
    Recipe(schedule="real_only", real_fraction=0.1, lr=0.012345678901234567),
    Recipe(schedule="synthetic_only", synthetic_fraction=0.25, lr=1e-05),
    Recipe(
        schedule="mixed",
        adaptation="none",
        real_fraction=0.1,
        synthetic_fraction=1.0,
        synthetic_share="natural",
        lr=0.01,
    ),
    Recipe(
        schedule="mixed", adaptation="real_bn", real_fraction=1.0, synthetic_fraction=1.0, synthetic_share=0.75, lr=0.01
    ),
    Recipe(
        schedule="finetune",
        adaptation="none",
        real_fraction=1.0,
        synthetic_fraction=1.0,
        pretrain=Pretrain(steps=500, lr=0.03),
        real_source="original+refined",
        lr=0.01,
    ),
]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the searches `faces` (5 recipes, 2 seeds, one failed), `it's` and `broken` (all failed)."""
    folder = tmp_path_factory.mktemp("results")

    def tracker(search: str) -> Tracker:
        made = Tracker(default_uri(folder), "titrate", search, folder / f"{search}.jsonl")
        made.connect()
        made.start(
            search.ljust(32, "0"),
            {"seeds": 2},
            {"titrate.metric": "val/miou", "titrate.mode": "max"},
            "",
            "search.yaml",
        )
        return made

    faces = tracker("faces")
    for number, recipe in enumerate(RECIPES):
        for seed in range(2):
            faces.trial_started(recipe, seed, number, {"num_real_labels": 12, "num_synthetic": 400, "another": 1})
            for step in (250, 500):
                score = 0.1 * number + 0.0001 * step + 0.01 * seed
                faces.evaluation(recipe.key, seed, step, {"val/miou": score}, 1_700_000_000_000 + step)
            if (number, seed) == (4, 1):
                faces.trial_ended(recipe.key, seed, "failed", traceback="Traceback\nValueError: boom")
            else:
                faces.trial_ended(recipe.key, seed, "finished", facts={"steps_alone": 1000, "steps_trained": 500})
    assert faces.finish("finished")
    quoted = tracker("it's")
    assert quoted.finish("finished")
    broken = tracker("broken")
    broken.trial_started(RECIPES[0], 0, 0, {})
    broken.trial_ended(RECIPES[0].key, 0, "failed", traceback="Traceback\nValueError: boom")
    assert broken.finish("finished")
    return folder


def test_rows_are_typed_and_in_the_order_of_the_study(results: Path) -> None:
    table = load("faces", tracking_uri=default_uri(results))
    assert (table.search, table.metric, table.mode, table.seeds) == ("faces", "val/miou", "max", 2)
    assert [(row.recipe, row.seed) for row in table.rows] == [(recipe, seed) for recipe in RECIPES for seed in (0, 1)]
    row = table.rows[3]
    assert row.recipe.key == RECIPES[1].key
    assert (row.number, row.status, row.step, row.num_real_labels, row.num_synthetic) == (1, "finished", 500, 12, 400)
    assert (row.steps_alone, row.steps_trained, row.num_real_unlabelled, row.error) == (1000, 500, None, None)
    assert row.metrics == {"val/miou": pytest.approx(0.1 + 0.05 + 0.01)}
    assert MlflowClient(default_uri(results)).get_run(row.run_id).data.tags["titrate.seed"] == "1"


def test_a_failed_replicate_has_its_error_and_no_value(results: Path) -> None:
    row = load("faces", tracking_uri=default_uri(results)).rows[-1]
    assert (row.status, row.error, row.value("val/miou")) == ("failed", "ValueError: boom", None)


def test_pages_are_followed_to_the_end(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MlflowClient.search_runs

    def small(self: MlflowClient, *args: object, **kwargs: object) -> object:
        return whole(self, *args, **(kwargs | {"max_results": 3}))  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowClient, "search_runs", small)
    assert len(load("faces", tracking_uri=default_uri(results)).rows) == 10


def test_an_unknown_search_lists_those_that_exist(results: Path) -> None:
    with pytest.raises(ValueError, match=r"^no search 'face' in experiment 'titrate'.*there are: broken, faces, it's$"):
        load("face", tracking_uri=default_uri(results))
    with pytest.raises(ValueError, match=r"no MLflow experiment 'other'.*there are: Default, titrate"):
        load("faces", tracking_uri=default_uri(results), experiment="other")


def test_a_database_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no MLflow database at"):
        load("faces", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert not list(tmp_path.iterdir())


def test_of_searches_with_one_name_the_one_that_began_last_is_read_alone(tmp_path: Path) -> None:
    for study, number in (("b" * 32, 4), ("a" * 32, 1)):
        tracker = Tracker(default_uri(tmp_path), "titrate", "faces", tmp_path / f"{study}.jsonl")
        tracker.connect()
        tracker.start(study, {"seeds": 1}, {"titrate.metric": f"val/{study[0]}", "titrate.mode": "max"}, "", "a.yaml")
        for recipe in RECIPES[:number]:
            tracker.trial_started(recipe, 0, 0, {})
            tracker.evaluation(recipe.key, 0, 500, {"val/a": 0.1 * number}, 1_700_000_000_000)
            tracker.trial_ended(recipe.key, 0, "finished")
        assert tracker.finish("finished")
    tracker = Tracker(default_uri(tmp_path), "titrate", "faces", tmp_path / "again.jsonl")
    tracker.connect()
    tracker.start("b" * 32, {}, {"titrate.metric": "val/b", "titrate.mode": "max"}, "", "a.yaml")
    assert tracker.finish("finished")

    table = load("faces", tracking_uri=default_uri(tmp_path))
    assert table.metric == "val/a", "the order is that of their first starts"
    assert [(row.recipe, row.metrics) for row in table.rows] == [(RECIPES[0], {"val/a": 0.1})]


def test_names_with_quotes_are_found(results: Path) -> None:
    assert load("it's", tracking_uri=default_uri(results)).rows == ()


def test_a_search_is_concluded_by_its_means_in_files_that_name_its_runs(results: Path, tmp_path: Path) -> None:
    done = conclude("faces", default_uri(results), out=tmp_path / "out")
    # Recipe 4 has the best score, but one replicate of two; of the others recipe 3 is best: 0.35 and 0.36.
    assert done.decision.winner is not None
    assert done.decision.winner.recipe == RECIPES[3]
    assert done.decision.winner.mean == pytest.approx(0.355)
    assert done.recommendation.startswith("Train `mixed` on 100% of the real images (12 labels)")
    assert {file.name for file in done.files} == CURVE
    written = (tmp_path / "out/curve.csv").read_text()
    assert all(row.run_id in written for row in done.decision.winner.rows)


def test_a_search_in_which_all_failed_writes_no_picture(results: Path, tmp_path: Path) -> None:
    done = conclude("broken", default_uri(results), out=tmp_path / "out")
    assert done.recommendation.startswith("Nothing can be recommended")
    assert done.files == ()
    assert not (tmp_path / "out").exists()


def command(results: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    shutil.copy(results / "mlflow.db", (cwd / "results").resolve() / "mlflow.db")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from analysis.__main__ import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd)


def test_an_empty_database_is_one_line_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from analysis.__main__ import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_LOGGING_LEVEL"}
    arguments = ["table", "faces", "--tracking-uri", default_uri(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no MLflow experiment 'titrate'")
    assert done.stderr.count("\n") == 1


def test_the_command_line_reads_results_by_default_and_fails_in_one_line(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "results").mkdir()
    done = command(results, "curve", "faces", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Train `mixed` on 100% of the real images" in done.stdout
    assert {file.name for file in (tmp_path / "results/faces").iterdir()} == CURVE
    table = command(results, "table", "faces", cwd=tmp_path)
    assert table.stdout.count("finished") == 9
    bad = command(results, "curve", "nothing", cwd=tmp_path)
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: no search 'nothing'")
    assert bad.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("curve", "faces", "--metric", "val/miou", "--metric", "test/x/miou"), "has metric 'test/x/miou'"),
        (("importance", "faces", "--metric", "val/mae"), "with metric 'val/mae'"),
        (("pareto", "broken"), "must have a finished trial"),
        (("pareto", "faces", "--out", "a-file/below"), "--out must be a folder that can be made"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_leaves_no_folder(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    reason: str,
) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["analysis", *arguments, "--tracking-uri", default_uri(results)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1), said
    assert said.startswith("error: ")
    assert reason in said
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_importance_and_pareto_say_on_the_terminal_what_their_files_show(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for name in ("importance", "pareto"):
        options = ["--tracking-uri", default_uri(results), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["analysis", name, "faces", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        said[name] = capsys.readouterr().out
    assert "all recipes: 5 recipes: too few recipes: 10 or more can tell" in said["importance"]
    # Of two replicates each; what cost no label scored 0.155, and what has labels 0.355 at most.
    assert f"  0: 0.155  {RECIPES[1]}" in said["pareto"]
    assert f"  12: 0.355  {RECIPES[3]}" in said["pareto"]
    assert str(RECIPES[2]) not in said["pareto"], "it costs as much and is worse"
    kinds = ("png", "svg", "html", "csv", "parquet")
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert written == {f"{name}.{kind}" for name in ("importance", "pareto") for kind in kinds}


def test_gap_and_next_are_answered_on_the_command_line(results: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from analysis.__main__ import app

    def invoke(*told: str) -> str:
        done = CliRunner().invoke(app, [*told, "--tracking-uri", default_uri(results)])
        assert done.exit_code == 0, done.output
        return done.output

    shown = invoke("gap", "faces", "--out", str(tmp_path / "gap.csv"))
    assert "10% real" in shown
    assert "- val/miou: nobody says of which domain it is" in shown, "there are two sources of real images"
    assert (tmp_path / "gap.csv").read_text().startswith("trained_on,real_source,real_fraction,tested_on,mean")
    assert "Run next " in invoke("next", "faces")
