"""Whatever has happened to a file: it is read, or refused by one line that names it, and nothing else happens.

Nothing crashes, hangs, runs what is in the file, writes elsewhere, or takes more memory than the largest file that is
allowed. `make test` reads a few broken files a reader, the same ones each time. To look for more:

    TITRATE_FUZZ=2000 python -m pytest tests/fuzz            # files a reader, others each time
"""

import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.damage import broken
from tests.fuzz.guarded import ROOT, Guarded
from tests.fuzz.hostile import MARK, PLACES, hostile
from tests.fuzz.readers import READERS

EXAMPLES = int(os.environ.get("TITRATE_FUZZ", "0"))
LONGEST = 1000  # characters of an error
fuzz = settings(
    max_examples=EXAMPLES or 12,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    made = Guarded()
    yield made
    made.close()


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The folder of a reader's valid input, made once."""
    top, made = tmp_path_factory.mktemp("valid"), dict[str, Path]()

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = top / str(len(made))
            made[name].mkdir()
            READERS[name].make(made[name])
        return made[name]

    return folder


def fault(answer: dict[str, Any], folder: Path) -> str | None:
    """What is wrong with an answer; None where a file was read, or refused in one line that names a file."""
    kind, message = answer["error"], answer["message"]
    if answer["acts"]:
        return f"acts: {answer['acts'][0]}"
    if kind is None:
        return None
    where = f"{kind[0]} at {answer['at']}"
    if not {"ValueError", "OSError"} & set(kind):
        return f"{where}: a class that no command shows as a line"
    if str(folder) not in message and "/dev/zero" not in message:  # what a link leads to
        return f"{where}: names no file"
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in message):
        return f"{where}: more than a line, or control characters"
    if len(message) > LONGEST:
        return f"{where}: more than {LONGEST} characters"
    return None


class Faults:
    """What went wrong with the files that a reader was given: of each kind the shortest file."""

    def __init__(self, name: str, source: Path, place: Path, guarded: Guarded) -> None:
        self._name, self._source, self._place, self._guarded = name, source, place, guarded
        self._count = 0
        self._found: dict[str, tuple[str | None, bytes | str]] = {}

    def read(self, breaks: Callable[[Path], object], shown: bytes | str) -> None:
        """Reads a copy of the valid input, whose file `breaks` changed; `shown` is bytes where it is one still."""
        reader = READERS[self._name]
        self._count += 1
        folder = self._place / str(self._count)
        shutil.copytree(self._source, folder)
        breaks(folder / reader.file)
        if isinstance(shown, bytes):
            reader.sealed(folder)
        answer = self._guarded.read(self._name, folder)
        found = fault(answer, folder)
        if found is not None and (found not in self._found or len(shown) < len(self._found[found][1])):
            self._found[found] = (answer["message"], shown)
        shutil.rmtree(folder)

    def tell(self) -> None:
        """Fails with what was found."""
        lines = (
            f"{kind}\n    {message!s:.1000}\n    {shown[:1000]!r}" for kind, (message, shown) in self._found.items()
        )
        if self._found:
            pytest.fail("\n".join([self._name, *lines]), pytrace=False)


@pytest.fixture
def faults(guarded: Guarded, valid: Folders, tmp_path: Path) -> Callable[[str], Faults]:
    return lambda name: Faults(name, valid(name), tmp_path, guarded)


@pytest.mark.parametrize("name", READERS)
def test_a_broken_file_is_read_or_refused_in_one_line(
    name: str, valid: Folders, faults: Callable[[str], Faults]
) -> None:
    found, file = faults(name), valid(name) / READERS[name].file

    @fuzz
    @given(broken(file.read_bytes(), READERS[name].form))
    def read(data: bytes) -> None:
        found.read(lambda path: path.write_bytes(data), data)

    read()
    found.tell()


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_was_made_to_do_harm_does_none(name: str, faults: Callable[[str], Faults]) -> None:
    found, reader = faults(name), READERS[name]
    for kind, data in hostile(name, reader.file, reader.form).items():
        found.read(lambda path, data=data: path.write_bytes(data), kind.encode())
    found.tell()
    assert not (ROOT / MARK).exists()


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_no_file_that_a_reader_waits_for(name: str, faults: Callable[[str], Faults]) -> None:
    found = faults(name)
    for kind, put in PLACES.items():
        reader = READERS[name]
        if not (kind == "4 GB" and reader.large) and (reader.mounted or kind not in ("a pipe", "a link to a device")):
            found.read(put, kind)
    found.tell()
