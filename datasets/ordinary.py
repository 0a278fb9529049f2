"""Ordinary files: what people and other programs wrote, read without waiting for what never comes or never ends."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

TEXT_BYTES = 256 << 20


def ordinary(path: Path, at_most: int | None = None) -> Path:
    """The same path, where a file is, of at most so many bytes. Raises OSError for anything else: FileNotFoundError
    where there is nothing.

    Who opens a pipe waits for somebody to write into it, and a device may never end.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "must be a file, and is a folder, a pipe or a device", str(path))
    if at_most is not None and found.st_size > at_most:
        raise OSError(errno.EFBIG, f"must have at most {at_most:,} bytes, and has {found.st_size:,}", str(path))
    return path


def read_bytes(path: Path, at_most: int = TEXT_BYTES) -> bytes:
    """The whole of a file that is read into memory. Raises OSError as `ordinary` does."""
    return ordinary(path, at_most).read_bytes()


def read_text(path: Path, at_most: int = TEXT_BYTES) -> str:
    """The same of UTF-8, with or without a byte order mark. Raises UnicodeDecodeError, too."""
    return read_bytes(path, at_most).decode("utf-8-sig")


def parse_json(raw: str | bytes) -> Any:
    """What a text of JSON says. Raises ValueError for any other, and for one that is nested beyond all measure."""
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
