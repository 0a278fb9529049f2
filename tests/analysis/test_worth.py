"""`analysis law`: what it says of a search whose law is known, and that it says in a line what it cannot say.

The search is that of tests/analysis/scored.py: a synthetic image is worth 0.08 real ones by `finetune`, 0.05 by
`mixed`.
"""

import csv
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import Row, Table, __main__, rates
from analysis.bands import with_laws
from analysis.curves import curves_of
from analysis.exchange import exchange_rate, savings
from analysis.prices import Prices
from analysis.worth import HEADER, Worth, rows, worth
from tests.analysis.scored import NUM_REAL, NUM_SYNTHETIC, recipes, table

BOTH = ("mixed", "finetune")
SEARCH = table(recipes(("real_only", *BOTH), ("none",)))


@pytest.fixture(scope="module")
def found() -> Worth:
    return worth(SEARCH, prices=Prices(real_label=1.0, synthetic_image=0.01))


def changed(values: Callable[[Row], float], searched: Table = SEARCH) -> Table:
    """Other scores of the same recipes."""
    return replace(searched, rows=tuple(replace(row, metrics={"val/miou": values(row)}) for row in searched.rows))


def called(search: Table, monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> int:
    """The command as on a terminal, in a folder; its exit status."""
    monkeypatch.setattr(__main__, "load", lambda *_, **__: search)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["analysis", "law", "faces", *options])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    return int(ended.value.code or 0)


def test_the_labels_that_are_saved_are_those_of_the_law(found: Worth) -> None:
    assert found.place.group == "finetune"
    assert (found.place.synthetic, found.place.total) == (NUM_SYNTHETIC, NUM_REAL)
    # How often intervals hold the truth is for test_known_answers.py: this is one search.
    assert all(saving.saved == pytest.approx(0.08 * NUM_SYNTHETIC, rel=0.35) for saving in found.savings)
    assert [saving.beyond for saving in found.savings] == [False] * 4 + [True], "all real images and more"
    assert found.headline.real == 0.5 * NUM_REAL
    mixed = worth(SEARCH, method="mixed", law=found.law)
    assert mixed.savings[1].equivalent < found.savings[1].equivalent


def test_each_sentence_says_what_it_is_about(found: Worth) -> None:
    law, headline, *spending = found.lines
    assert "fitted to 15 cells" in law
    assert "no change, which takes the nearest other cell, by" in law
    assert headline.startswith("finetune: 50% real + 10,000 synthetic reaches what ")
    assert "% real alone would (90% interval " in headline
    assert len(spending) == 3
    assert spending[0].startswith("At 2,000 real and 10,000 synthetic images ")
    without = worth(SEARCH, law=found.law).lines
    assert "What to buy next takes your prices: give --real-label and --synthetic-image." in without
    assert spending[-1] in without, "at which price it turns needs no prices"


def test_the_table_has_a_row_for_each_real_count_and_no_more_than_are_read(found: Worth) -> None:
    shown = rows(found)
    assert [row[0] for row in shown] == ["100 (5%)", "200 (10%)", "500 (25%)", "1,000 (50%)", "2,000 (100%)"]
    assert all(len(row) == len(HEADER) for row in shown)
    assert shown[-1][1].endswith(" *")
    counts = np.geomspace(100, 2000, 25)
    many = {"rates": exchange_rate(found.law, counts, 10000, "finetune")}
    assert len(rows(replace(found, savings=savings(found.law, counts, 10000, "finetune"), **many))) == 10


def test_the_picture_shows_the_numbers_that_are_written(found: Worth) -> None:
    drawn = rates.rates(found)
    written = rates.points(found, drawn).to_pylist()
    (line,) = [one for one in written if one["rate"] == "average" and one["num_real_labels"] == NUM_REAL]
    low, high = found.rates.average.bounds
    assert (line["low"], line["high"]) == pytest.approx((low[-1], high[-1]))
    assert line["beyond"]
    averages, next_ones = rates.draw(found, drawn).axes
    assert averages.get_ylim() == next_ones.get_ylim()
    assert averages.get_xscale() == "log"
    page = rates.figure(found, drawn)
    assert [trace.name for trace in page.data if trace.showlegend] == ["10,000 synthetic images"]


def test_the_command_says_it_and_writes_the_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert called(SEARCH, monkeypatch, tmp_path, "--real-label", "1", "--synthetic-image", "0.01") == 0
    said = capsys.readouterr().out.splitlines()
    assert "- The law of val/miou is fitted to 15 cells" in "\n".join(said)
    assert [line for line in said if line.startswith("- The best split of such money ") or "cannot be told" in line]
    files = {path.name for path in (tmp_path / "results/faces").iterdir()}
    assert files == {f"exchange.{kind}" for kind in ("png", "svg", "html", "csv", "parquet")}
    with (tmp_path / "results/faces/exchange.csv").open(newline="") as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"finetune"}


FEW = table(recipes(("real_only", "mixed"), ("none",), (0.1, 1.0)))
ALONE = table(recipes(("real_only",), fractions=(0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)))
PRICED = ("--real-label", "1", "--synthetic-image", "0.1")


@pytest.mark.parametrize(
    ("search", "options", "reason"),
    [
        (FEW, (), "no law of val/miou: a law needs 6 different cells (real count, synthetic count, method) or more"),
        (ALONE, (), "needs recipes on real and synthetic images, but no finished recipe trains on both"),
        (changed(lambda row: math.nan), (), "no law of val/miou: no finished trial has it"),
        (changed(lambda row: 1.0), (), "no law of val/miou: an error of 0 has no logarithm"),
        (
            SEARCH,
            ("--metric", "test/same/loss"),
            "no law of test/same/loss: which way of it is better is known neither",
        ),
        (SEARCH, ("--metric", "test/none/miou"), "no law of test/none/miou: no finished trial has it"),
        (SEARCH, ("--method", "fintune"), "but got 'fintune'; there are: 'finetune', 'mixed'"),
        (SEARCH, ("--real-label", "1"), "--real-label and --synthetic-image must be given together"),
        (SEARCH, ("--budget", "10"), "--budget must come with --real-label and --synthetic-image"),
        (SEARCH, ("--validation-label", "1"), "--validation-label must come with --real-label and --synthetic-image"),
        (SEARCH, (*PRICED, "--budget", "nan"), "budget must be finite and positive, but got nan"),
        (SEARCH, ("--real-label", "1", "--synthetic-image", "0"), "prices.synthetic_image must be finite and positive"),
    ],
)
def test_what_cannot_be_said_at_all_is_one_line_and_leaves_no_folder(
    search: Table,
    options: Sequence[str],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert called(search, monkeypatch, tmp_path, *options) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert reason in said
    assert not list(tmp_path.iterdir())


def test_one_seed_is_said_and_a_trial_without_a_number_is_in_no_cell() -> None:
    once = replace(SEARCH, seeds=1, rows=tuple(row for row in SEARCH.rows if row.seed == 0))
    lost = changed(lambda row: math.nan if row.number == 0 else row.metrics["val/miou"], once)
    said = worth(lost).lines
    assert "fitted to 14 cells" in said[0]
    assert "Every cell has one seed alone: how much of its error is chance is the law's guess." in said


def test_where_the_error_hardly_moves_nothing_is_told_and_no_picture_drawn(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(key=5))
    flat = worth(changed(lambda row: 0.7 + 0.004 * rng.standard_normal()), prices=Prices(1.0, 0.1))
    said = "\n".join(flat.lines)
    assert "is worth in real images cannot be told: the error hardly depends on their number" in said
    assert "neither more labels nor more or better renders can be told to lower the error" in said
    assert "it cannot be told whether another image rendered is worth anything" in said
    assert {row[1] for row in rows(flat)} == {"cannot be told"}
    assert rates.save(flat, tmp_path) == ()


def test_without_recipes_on_real_images_alone_it_is_the_laws_word() -> None:
    found = worth(table(recipes(BOTH, ("none",))))
    assert all(saving.beyond for saving in found.savings)
    assert "No recipe trained on real images alone: what they would reach is the law's word." in found.lines


def test_a_conclusion_says_which_law_its_bands_are_of_or_why_it_has_none() -> None:
    drawn, said = with_laws(SEARCH, curves_of(SEARCH, "real_fraction", ["val/miou"]))
    assert [line.band is not None for line in drawn[0].lines] == [True] * 3
    assert said[0].startswith("The law of val/miou is fitted to 15 cells")
    (bare,), (reason,) = with_laws(FEW, curves_of(FEW, "real_fraction", ["val/miou"]))
    assert all(line.band is None for line in bare.lines)
    assert reason.startswith("The curve has no band: no law of val/miou: a law needs 6 different cells")
    assert with_laws(SEARCH, curves_of(SEARCH, "synthetic_share", ["val/miou"]))[1] == ()
