"""A folder is there whole or not at all, whatever happens while it is written."""

from pathlib import Path

import pytest

from datasets.whole import whole_folder


def never(target: Path) -> None:
    if target.exists():
        raise ValueError(f"{target}: exists")


def always(target: Path) -> None:
    pass


def test_nothing_is_there_before_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a"
    with whole_folder(target, never) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "x").write_text("1")
        assert not target.exists()
    assert (target / "inner" / "x").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a"
    target.mkdir()
    (target / "old").write_text("0")

    def write_in_part() -> None:
        with whole_folder(target, always) as folder:
            (folder / "new").write_text("1")
            raise error

    with pytest.raises(error):
        write_in_part()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["a", "a/old"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.mkdir()
    (target / "old").write_text("0")
    with whole_folder(target, always) as folder:
        (folder / "new").write_text("1")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["a", "a/new"]


def test_what_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with pytest.raises(ValueError, match="exists"), whole_folder(target, never):
        target.mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["a"]
