"""The reporter: a running search's report is kept up to date, by another process, and never stops the search."""

import logging
import time
from pathlib import Path

import pytest

from search import reporter
from search.reporter import Reporter, answer_of
from search.tracking import NOTE_CHARS, Tracker, default_uri
from trainables.recipe import Recipe

RECIPE = Recipe(schedule="real_only", real_fraction=0.25, lr=0.01)


class Shelf:
    """Takes what a tracker would send."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.answers: list[str] = []

    def artifact(self, path: Path, folder: str | None = None) -> None:
        self.files[f"{folder or ''}/{path.name}"] = path.read_text()

    def describe(self, text: str) -> None:
        self.answers.append(text)


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EVERY_S": 0.0, "LOOK_EVERY_S": 0.05, "SHARE": 1.0, "TRIALS": 1}.items():
        monkeypatch.setattr(reporter, name, value)


def test_a_running_search_has_a_report_of_what_ended_so_far(tmp_path: Path) -> None:
    tracker = Tracker(default_uri(tmp_path), "titrate", "faces", tmp_path / "spool")
    tracker.connect()
    tracker.start("1" * 32, {}, {"titrate.metric": "val/miou", "titrate.mode": "max", "titrate.seeds": 1}, "", "f.yaml")
    for number, recipe in enumerate((RECIPE, RECIPE.model_copy(update={"lr": 0.02}))):
        tracker.trial_started(recipe, 0, number, {"num_real_labels": 30})
        tracker.evaluation(recipe.key, 0, 250, {"val/miou": 0.5}, 1_700_000_000_000)
        if not number:
            tracker.trial_ended(recipe.key, 0, "finished")
    assert tracker.flush()
    shelf, ended = Shelf(), iter([0])
    with Reporter(
        lambda: next(ended, 1),
        tmp_path / "faces",
        shelf,
        search="faces",
        uri=default_uri(tmp_path),
        experiment="titrate",
    ):
        deadline = time.monotonic() + 120
        while not shelf.answers and time.monotonic() < deadline:
            time.sleep(0.05)
    assert tracker.finish("interrupted")
    assert {"/report.html", "/report.md", "figures/curve.svg"} <= set(shelf.files)
    assert "preliminary" in shelf.answers[0]
    assert "Train `real_only` on 25% of the real images" in shelf.answers[0]


def test_a_report_that_fails_is_said_once_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf, count = Shelf(), iter(range(10_000))
    uri = default_uri(tmp_path / "missing")
    with (
        caplog.at_level(logging.WARNING, reporter.__name__),
        Reporter(lambda: next(count), tmp_path, shelf, search="faces", uri=uri, experiment="titrate"),
    ):
        deadline = time.monotonic() + 120
        while "no MLflow database" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
    assert caplog.text.count("the report is not up to date: error: no MLflow database") == 1
    assert not shelf.files


def test_a_search_that_ends_does_not_wait_for_its_report(tmp_path: Path) -> None:
    count = iter(range(10_000))
    began = Reporter(lambda: next(count), tmp_path, Shelf(), search="f", uri=default_uri(tmp_path), experiment="t")
    began._command = ["sleep", "600"]
    with began:
        while not (tmp_path / reporter.FOLDER / reporter.LOG).exists():
            time.sleep(0.01)
    assert not began._thread.is_alive()


def test_the_answer_fits_into_a_description() -> None:
    text = "# Title\n\nsubtitle\n\n## The answer\n\n**Train** it.\n\n- a\n\n## The curve\n\nno more\n"
    assert answer_of(text) == "**Train** it.\n\n- a\n\nThe whole report is the artifact `report.html`."
    assert len(answer_of("# T\n\n## The answer\n\n" + "x" * 10_000 + "\n\n## B\n")) <= NOTE_CHARS
