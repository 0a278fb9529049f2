"""Mapped: an Arrow file of a pack in memory; whether it was touched, and which of its values are known to be right."""

import os
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datasets.manifest import File

SETTLED_NS = 2_000_000_000  # no filesystem's clock of changes is coarser: what was touched later may be touched unseen


@dataclass
class Mapped:
    """A file of a pack; `rows` are those of a batch: all but the last have the same number.

    What is mapped stays what it is when another file takes its name.
    """

    file: pa.MemoryMappedFile
    reader: pa.RecordBatchFileReader
    rows: int
    bytes: int
    changed: int = -1  # ns; -1 until it is settled

    @classmethod
    def open(cls, folder: str, file: File, wanted: pa.Schema) -> "Mapped":
        """Raises ArrowException, OSError or ValueError where it is not the file."""
        stream = pa.memory_map(os.path.join(folder, file.name))
        reader = pa.ipc.open_file(stream)
        if not reader.schema.equals(wanted):
            raise ValueError("the schema is not the manifest's")
        rows = reader.get_batch(0).num_rows
        batches = -(-file.rows // rows) if rows else 0
        if batches != reader.num_record_batches:
            raise ValueError(f"must have {batches} record batches, but has {reader.num_record_batches}")
        return cls(stream, reader, rows, file.bytes)

    def touched(self) -> bool:
        """Whether anybody wrote into the file, or might have, since this was last asked. ValueError where it has become
        shorter: who reads what is gone of a mapped file is killed (SIGBUS)."""
        found = os.fstat(self.file.fileno())
        changed = found.st_ctime_ns
        if changed == self.changed:
            return False
        if found.st_size < self.bytes:
            raise ValueError(f"must have {self.bytes} bytes, but has {found.st_size}")
        self.changed = changed if abs(time.time_ns() - changed) > SETTLED_NS else -1
        return True


@dataclass(frozen=True)
class Checksums:
    """Of a batch: those that its values must have, and whether this process has seen that they do [rows, columns]."""

    wanted: np.ndarray
    seen: np.ndarray
