"""show and best_table: what a person reads at the end of a search, at the width of a terminal and through a pipe."""

import io
from pathlib import Path

from rich.console import Console

from analysis import Conclusion, Row, Table, best_table, decide, show
from trainables.recipe import Recipe

STEADY = Recipe(schedule="real_only", real_fraction=1.0, lr=0.01)
LOWER = Recipe(schedule="real_only", real_fraction=0.5, lr=0.01)
LUCKY = Recipe(schedule="real_only", real_fraction=0.1, lr=0.01)


def conclusion(scores: dict[Recipe, list[float]], *files: Path, search: str = "faces") -> Conclusion:
    rows = tuple(
        Row(f"{number}-{seed}", recipe, seed, number, "finished", 1000, {"val/miou": value}, num_real_labels=30)
        for number, (recipe, values) in enumerate(scores.items())
        for seed, value in enumerate(values)
    )
    table = Table(search, "val/miou", "max", 3, rows)
    return Conclusion(table, decide(table), (), files)


SCORES = {LUCKY: [0.9], LOWER: [0.4, 0.5, 0.6], STEADY: [0.6, 0.6, 0.6]}


def printed(done: Conclusion, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    show(console, done)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_best_come_first_and_one_without_all_its_replicates_has_no_rank() -> None:
    shown = best_table(conclusion(SCORES))
    cells = {str(column.header): list(column.cells) for column in shown.columns}
    assert cells["rank"] == ["1", "2", "–"]
    assert cells["recipe"] == [str(STEADY), str(LOWER), str(LUCKY)]
    assert cells["mean ± std"] == ["0.600 ± 0.000", "0.500 ± 0.100", "0.900"]
    assert cells["seeds"] == ["3/3", "3/3", "1/3"]
    assert best_table(conclusion(SCORES), count=1).row_count == 1


def test_the_recommendation_every_note_and_every_file_are_a_line_each_however_narrow(tmp_path: Path) -> None:
    file = tmp_path / ("a long folder of results " * 4) / "curve.png"
    done = conclusion(SCORES, file)
    assert done.decision.notes
    lines = printed(done, width=60)
    for line in (done.recommendation, *(f"- {note}" for note in done.decision.notes), f"wrote {file}"):
        assert lines.count(line) == 1


def test_brackets_are_text_and_no_markup() -> None:
    assert any(
        "[bold]faces[/x]: the best of 3 recipes" in line
        for line in printed(conclusion(SCORES, search="[bold]faces[/x]"), 120)
    )


def test_where_nothing_finished_only_the_reason_is_printed() -> None:
    done = conclusion({})
    assert printed(done, 60) == [done.recommendation]
    assert best_table(done).row_count == 0
