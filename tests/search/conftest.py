"""A whole search that tests look at, and make things from, run once for all of them."""

from pathlib import Path

import pytest
from rich.console import Console

from search.config import load
from search.run import Result, run
from tests.toy import PRUNED, toy_search


@pytest.fixture(scope="session")
def finished(ray_session: None, toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a toy search with rungs and methods (`PRUNED`), which has finished, and what it came to."""
    folder = tmp_path_factory.mktemp("finished")
    path = toy_search(toy_packs, folder, PRUNED)
    return folder, run(load(path), path.read_text(), results=folder / "results", console=Console(quiet=True))
