"""The report: whole, the same for the same runs, safe with any name, and honest about what the runs cannot say."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis import Row, Table
from analysis import report as module
from analysis.__main__ import app
from analysis.report import Report, report
from analysis.report_answer import answer, contenders, optimum
from analysis.report_blocks import Bullets, Code, Gallery, Grid, Section, Text, markdown, spans
from analysis.report_context import Context
from analysis.report_figures import quality_and_cost
from analysis.report_record import recipe, unsaid
from analysis.report_worth import worth
from search.tracking import DatasetFact, Tracker, default_uri
from trainables.recipe import Recipe

FRACTIONS = (0.1, 0.3, 1.0)
CLASSES = {"hair": 0.05, "nose": -0.05}


def real(fraction: float, **fields: object) -> Recipe:
    return Recipe.model_validate({"schedule": "real_only", "real_fraction": fraction, "lr": 0.01, **fields})


def mixed(fraction: float, share: float = 0.5) -> Recipe:
    return Recipe.model_validate(
        {
            "schedule": "mixed",
            "adaptation": "none",
            "real_fraction": fraction,
            "synthetic_fraction": 1.0,
            "synthetic_share": share,
            "lr": 0.01,
        }
    )


def row(recipe: Recipe, seed: int, number: int, value: float | None, *, status: str = "finished") -> Row:
    """None is a failed replicate."""
    metrics = {}
    if value is not None:
        for one, shift in {"val": 0.0, "test/other": -0.1}.items():
            metrics[f"{one}/miou"] = value + shift
            metrics |= {f"{one}/iou/{name}": value + shift + by for name, by in CLASSES.items()}
    return Row(
        run_id=f"{number}-{seed}",
        recipe=recipe,
        seed=seed,
        number=number,
        status="failed" if value is None else status,
        step=1000,
        metrics=metrics,
        num_real_labels=None if recipe.real_fraction is None else round(1000 * recipe.real_fraction),
        num_synthetic=None if recipe.synthetic_fraction is None else 400,
        steps_alone=2000,
        steps_trained=1500,
        error="RuntimeError: out of memory" if value is None else None,
    )


def table(scores: dict[Recipe, list[float | None]], seeds: int = 3) -> Table:
    rows = [
        row(recipe, seed, number, value)
        for number, (recipe, values) in enumerate(scores.items())
        for seed, value in enumerate(values)
    ]
    return Table("faces", "val/miou", "max", seeds, tuple(rows))


def good() -> Table:
    """Synthetic images help at each fraction, by less the more real images there are."""
    scores: dict[Recipe, list[float | None]] = {}
    for k, fraction in enumerate(FRACTIONS):
        scores[real(fraction)] = [0.60 + 0.05 * k + 0.002 * seed for seed in range(3)]
        scores[mixed(fraction)] = [0.66 + 0.035 * k + 0.002 * seed for seed in range(3)]
    return table(scores)


def made(table: Table) -> Report:
    return report(Context(table))


@pytest.fixture(scope="module")
def whole() -> Report:
    return made(good())


def section(found: Report, key: str) -> str:
    """A section in Markdown."""
    (one,) = [one for one in found.sections if one.key == key]
    return "\n".join(map(markdown, one.blocks))


def told(table: Table, make: Callable[[Context], Section | None]) -> str:
    """One section of a report in Markdown, without the others."""
    found = make(Context(table))
    assert found is not None
    return "\n".join(map(markdown, found.blocks))


class Links(HTMLParser):
    """What a page asks for, and its text and tags."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(page: str) -> Links:
    links = Links()
    links.feed(page)
    return links


def test_a_report_answers_first_and_every_part_of_it_was_made(whole: Report) -> None:
    found = whole
    assert next(one.key for one in found.sections) == "answer"
    assert "Train `mixed`" in section(found, "answer")
    assert "could not be made" not in found.markdown()
    keys = {one.key for one in found.sections}
    assert {"answer", "curve", "contenders", "optimum", "shrinkage", "classes", "cost", "notes", "recipe"} <= keys


def test_a_page_needs_nothing_but_itself(whole: Report) -> None:
    page = whole.html()
    links = parsed(page)
    assert links.links
    assert all(link.startswith(("data:image/", "#")) for link in links.links)
    ours = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)  # plotly's fetches maps where a figure has one
    assert not re.search(r"@import|url\(", ours)
    assert page.count("plotly.js v") == 1
    assert len(page) < 6e6
    anchors = {link[1:] for link in links.links if link.startswith("#")}
    assert all(f'id="{anchor}"' in page for anchor in anchors)


def test_the_same_runs_give_the_same_bytes(whole: Report, tmp_path: Path) -> None:
    whole.write(tmp_path / "a")
    made(good()).write(tmp_path / "b")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert Path("report.html") in files
    assert Path("figures/curve.svg") in files
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_markdown_names_pictures_that_are_there(whole: Report, tmp_path: Path) -> None:
    whole.write(tmp_path)
    named = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", (tmp_path / "report.md").read_text())
    assert named
    assert all((tmp_path / name).is_file() for name in named)


def test_names_that_are_markup_are_shown_and_not_obeyed() -> None:
    hostile = '<script>alert(1)</script><img src=x onerror="alert(2)">'
    scores: dict[Recipe, list[float | None]] = {
        real(1.0, real_source=f"a|b {hostile}"): [0.7, 0.71],
        real(0.5, real_source="`tick` **bold**\n# no"): [0.6, 0.61],
    }
    bad = replace(table(scores, 2), search=hostile)
    failed = replace(bad.rows[0], seed=7, status="failed", metrics={}, error=f"ValueError: {hostile}")
    found = made(replace(bad, rows=(*bad.rows, failed)))
    page = found.html()
    links = parsed(page)
    assert "b" not in links.tags
    ours = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert links.tags.count("img") == len(re.findall(r'<img (class="plot" )?src="data:image/', ours))
    assert hostile in "".join(links.words)
    assert hostile not in page
    text = found.markdown()
    prose = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in re.sub(r"`[^`\n]*`", "", prose.replace(r"\<", ""))
    assert "\n# no" not in prose


def test_cells_never_end_their_row() -> None:
    grid = Grid(("name", "value"), (("a|b", "`x|y`"), ("c", "1")), best=1, caption="of *both*")
    lines = markdown(grid).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]] == [3] * 4
    assert lines[3] == "| **c** | **1** |"
    assert lines[5] == r"of \*both\*"


def test_code_stands_between_backticks_and_a_lone_one_is_itself() -> None:
    assert spans("run `a b` now") == [("run ", False), ("a b", True), (" now", False)]
    assert spans("5` wide") == [("5` wide", False)]
    assert markdown(Code("a ``` b", "sh")) == "````sh\na ``` b\n````"
    assert markdown(Bullets(("one", "two # three"))) == "- one\n- two \\# three"


def test_a_part_that_fails_says_so_and_the_others_are_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(context: Context) -> Section:
        raise ZeroDivisionError("no <b>runs</b>")

    parts = (("The answer", answer), ("The law", fails), ("The recipe", recipe))
    monkeypatch.setattr(module, "SECTIONS", parts)
    found = made(good())
    assert section(found, "the-law") == r"This part could not be made: no \<b\>runs\</b\>"
    assert [one.key for one in found.sections] == ["answer", "the-law", "recipe"]
    assert "ZeroDivisionError" in caplog.text


def test_when_all_failed_it_says_why_and_offers_no_recipe() -> None:
    found = made(table({real(1.0): [None, None, None], mixed(1.0): [None, None, None]}))
    said = section(found, "answer")
    assert "Nothing can be recommended: none of 6 trials finished" in said
    assert "out of memory" in said
    assert {one.key for one in found.sections} <= {"answer", "cost", "reproduce"}


def test_an_empty_search_has_a_report() -> None:
    found = made(Table("faces", "val/miou", "max", 3, ()))
    assert "Nothing can be recommended" in section(found, "answer")
    parsed(found.html())


def test_a_single_recipe_is_no_choice() -> None:
    found = made(table({real(1.0): [0.7, 0.71, 0.72]}))
    assert "contenders" not in {one.key for one in found.sections}
    assert "nothing to choose from" in section(found, "notes")


def test_one_seed_is_no_certainty() -> None:
    once = table({real(f): [0.6 + 0.1 * f] for f in FRACTIONS} | {mixed(f): [0.62 + 0.1 * f] for f in FRACTIONS}, 1)
    assert "one seed" in told(once, answer)
    assert "no difference can be told from chance" in told(once, unsaid)


def test_a_flat_curve_has_no_optimum_that_is_one() -> None:
    scores: dict[Recipe, list[float | None]] = {
        mixed(1.0, share): [0.7 + 0.01 * ((7 * seed + 3 * k) % 5 - 2) for seed in range(3)]
        for k, share in enumerate((0.1, 0.3, 0.5, 0.7, 0.9))
    }
    assert "flat as far as these runs tell" in told(table(scores), optimum)


def test_of_failed_trials_and_missing_numbers_it_says_how_many() -> None:
    whole = good()
    lost = table({mixed(f, 0.25): [None, None, None] for f in FRACTIONS})
    absent = [row(real(0.5), seed, 20, float("nan")) for seed in range(3)]
    failed = [replace(one, number=one.number + 10) for one in lost.rows]
    partial = replace(whole, rows=(*whole.rows, *failed, *absent))
    notes = told(partial, unsaid)
    assert "9 of 30 trials failed" in notes
    assert "3 of 30 trials finished without a finite val/miou" in notes
    assert "nan" not in told(partial, contenders).lower()


def test_a_search_that_runs_is_preliminary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECTIONS", (("The answer", answer), ("Contenders", contenders)))
    whole = good()
    running = row(mixed(0.3, 0.75), 0, 9, 0.99, status="running")
    found = made(replace(whole, rows=(*whole.rows, running)))
    assert "preliminary" in found.subtitle
    assert "preliminary" in section(found, "answer")
    assert "0.99" not in section(found, "contenders")


def test_the_classes_are_those_of_the_winner_beside_real_images_alone(whole: Report) -> None:
    """The winner, mixed at 1.0, has 0.732 and real images alone 0.702 on val, both 0.1 less on the other test set."""
    text = section(whole, "classes")
    assert "| hair | 0.782 | +0.030 | 0.682 | +0.030 |" in text
    assert "| nose | 0.682 | +0.030 | 0.582 | +0.030 |" in text


PACK = DatasetFact("photos", "val", "ab" * 32, "/packs/val", 40)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search in a real MLflow, with pictures of its best trial."""
    folder = tmp_path_factory.mktemp("results")
    tracker = Tracker(default_uri(folder), "titrate", "faces", folder / "spool")
    tracker.connect()
    tags = {"titrate.metric": "val/miou", "titrate.mode": "max", "titrate.seeds": 2}
    versions = json.dumps({"torch": "2.13.0"})
    tracker.start(
        "1" * 32, {}, tags | {"titrate.versions": versions}, "name: faces\nsampler: grid\n", "faces.yaml", [PACK]
    )
    for number, one in enumerate((real(1.0), mixed(1.0))):
        for seed in range(2):
            tracker.trial_started(one, seed, number, {"num_real_labels": 1000}, [PACK])
            score = 0.6 + 0.1 * number + 0.01 * seed
            tracker.evaluation(one.key, seed, 500, {"val/miou": score}, 1_700_000_000_000)
            tracker.trial_ended(one.key, seed, "finished", facts={"steps_alone": 1000, "steps_trained": 500})
    pictures = folder / "pictures"
    pictures.mkdir()
    (pictures / "val-worst.jpg").write_bytes(b"\xff\xd8 a picture")
    listed = [{"place": "worst", "metric": "val/miou", "score": 0.25, "file": "val-worst.jpg"}]
    (pictures / "index.json").write_text(json.dumps(listed))
    for file in sorted(pictures.iterdir()):
        tracker.artifact(file, "predictions", (mixed(1.0).key, 1))
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(f"name: faces-{mixed(1.0).key[:8]}\nsampler: grid\n")
    tracker.artifact(recipe_file)
    tracker.progress({"accelerator_hours": 1.5}, 2)
    assert tracker.finish("finished")
    return folder


def test_a_report_from_mlflow_shows_how_to_get_it_again(results: Path) -> None:
    context = Context.load("faces", default_uri(results))
    found = report(context)
    assert "could not be made" not in found.markdown()
    again = section(found, "reproduce")
    assert context.table.run_id in again
    assert "python -m search run faces.yaml" in again
    assert "| photos | val | 40 | abababababababab |" in again
    assert "torch 2.13.0" in again
    assert "sampler: grid" in again
    assert "1.5" in section(found, "cost")
    assert "50% " in section(found, "cost").replace("**50%**", "50% ")
    assert f"name: faces-{mixed(1.0).key[:8]}" in section(found, "recipe")


def test_pictures_of_predictions_are_in_the_page(results: Path) -> None:
    found = report(Context.load("faces", default_uri(results)))
    (one,) = [one for one in found.sections if one.key == "predictions"]
    (gallery,) = [block for block in one.blocks if isinstance(block, Gallery)]
    (picture,) = gallery.pictures
    assert (picture.data, picture.form) == (b"\xff\xd8 a picture", "jpg")
    assert "worst by val/miou: 0.250" in picture.caption
    assert "data:image/jpeg;base64," in found.html()


def test_the_command_writes_the_page_and_its_markdown(results: Path, tmp_path: Path) -> None:
    uri = default_uri(results)
    done = CliRunner().invoke(app, ["report", "faces", "--tracking-uri", uri, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"wrote {tmp_path / 'out' / 'report.html'}" in done.output.replace("\n", "")
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")


def test_texts_are_of_one_line() -> None:
    assert markdown(Text("a\n\n# b")) == r"a \# b"


def test_what_the_runs_cannot_tell_is_said_in_its_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    same = table({real(1.0): [0.7, 0.71, 0.72], real(1.0, lr=0.1): [0.6, 0.61, 0.62]})
    parts = (("Quality against cost", quality_and_cost), ("Worth", worth))
    monkeypatch.setattr(module, "SECTIONS", parts)
    found = made(same)
    assert section(found, "quality-against-cost").startswith("Not told: the recipes of search 'faces' must differ in")
    assert "no law of val/miou" in section(found, "worth")
    assert not caplog.records
