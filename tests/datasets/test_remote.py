"""What is asked of a pyarrow filesystem, whatever it is."""

from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from datasets.remote import listing


class MadeMeanwhile:
    """Arrow's local filesystem, where somebody makes the folder after it was not found, and before it is looked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get_file_info(self, selector: fs.FileSelector) -> Any:
        if not self.folder.exists():
            self.folder.mkdir()
            (self.folder / "one").touch()
            raise FileNotFoundError(f"Cannot list directory {str(self.folder)!r}")
        return fs.LocalFileSystem().get_file_info(selector)


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert listing(fs.LocalFileSystem(), str(tmp_path / "absent")) == []


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_that_is_made_meanwhile_is_listed(tmp_path: Path, recursive: bool) -> None:
    folder = tmp_path / "claims"
    found = listing(MadeMeanwhile(folder), str(folder), recursive=recursive)  # type: ignore[arg-type]
    assert [info.path for info in found] == [f"{folder}/one"]


def test_a_folder_is_listed_with_what_is_below_it_where_asked(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "one").touch()
    for recursive, names in ((False, ["below"]), (True, ["below", "one"])):
        found = listing(fs.LocalFileSystem(), str(tmp_path), recursive=recursive)
        assert sorted(info.base_name for info in found) == names
