"""A folder that is there whole or not at all.

It is written under a temporary sibling name, flushed to disk and renamed. An error or an interrupt removes it; a writer
that is killed outright (SIGKILL, power) leaves only that hidden sibling, `.NAME.writing-*`, safe to delete.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(target: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """A new, empty folder to write into, which is `target` once the block has ended.

    check  raises where `target` must not be written or replaced; called before anything is made, and before the rename

    Whatever the block raises passes through, and what stood at `target` stands there still.
    """
    check(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.writing-{os.getpid()}-{secrets.token_hex(4)}")
    folder.mkdir()
    try:
        yield folder
        for path in (*folder.rglob("*"), folder):
            _flush(path)
        check(target)
        _replace(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _replace(folder: Path, target: Path) -> None:
    """Renames a finished folder into place; one that is replaced is set aside first and removed after."""
    aside = folder.with_name(folder.name.replace(".writing-", ".replaced-"))
    replaced = target.exists()
    if replaced:
        os.rename(target, aside)
    try:
        os.rename(folder, target)
    except BaseException:
        if replaced:
            os.rename(aside, target)
        raise
    _flush(target.parent)
    if replaced:
        shutil.rmtree(aside)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
