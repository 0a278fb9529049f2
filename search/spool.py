"""Spool: the records that MLflow does not have yet, in a file, so that an outage or a kill loses none of them.

One thread appends; another reads, sends and marks what was sent.
"""

import json
import logging
import threading
from pathlib import Path
from typing import Any

from datasets.ordinary import parse_json

log = logging.getLogger("titrate.tracking")

Record = dict[str, Any]

CHUNK_BYTES = 1 << 20  # of the spool, sent at once


class Spool:
    """An append-only file of JSON lines with a mark up to which it was sent; emptied whenever all was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._changed = threading.Condition()
        self._emptied = 0  # bytes of all that was sent and cut off before
        self._sent = 0
        self._file.seek(0)
        whole = self._file.read()
        kept = whole.rfind(b"\n") + 1
        if kept < len(whole):  # a kill in the middle of a line: its caller never returned, so nothing was promised
            self._file.truncate(kept)
        self._size = kept

    def append(self, record: Record) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._changed:
            self._file.write(line)
            self._file.flush()  # to the kernel: survives a kill -9 of this process
            self._size += len(line)
            self._changed.notify_all()

    def read(self) -> tuple[list[Record], int]:
        """The next unsent records, about CHUNK_BYTES of them, and the mark after them."""
        with self._changed:
            with self.path.open("rb") as file:
                file.seek(self._sent)
                lines = file.readlines(CHUNK_BYTES)
            mark = self._sent + sum(map(len, lines))
        records = []
        for line in lines:
            try:
                records.append(parse_json(line))
            except ValueError:  # a power cut; it must not hold back the lines after it
                log.warning("%s: dropped a line that is not JSON: %.100r", self.path, line)
        return records, mark

    def sent(self, mark: int) -> None:
        with self._changed:
            self._sent = mark
            if mark == self._size:
                self._file.truncate(0)
                self._emptied += mark
                self._sent = self._size = 0
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Waits until something is unsent, or for `wake`, or so many seconds; returns whether something is."""
        with self._changed:
            if self._sent == self._size:
                self._changed.wait(timeout)
            return self._sent < self._size

    def flush(self, timeout: float) -> bool:
        """Waits until all that was appended before this call was sent; returns whether it was within `timeout`."""
        with self._changed:
            end = self._emptied + self._size
            return self._changed.wait_for(lambda: self._emptied + self._sent >= end, timeout)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def close(self) -> bool:
        """Removes the file if everything was sent; returns whether it was."""
        with self._changed:
            done = self._size == 0
            if done:
                self.path.unlink(missing_ok=True)
            return done
