"""Writing a pack: samples in, one folder out, whole or not there (datasets/whole.py)."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from datasets.checksum import checksum
from datasets.manifest import CHECKSUMS, FORMAT, Column, File, Manifest, PackError
from datasets.pack import Digest, Pack, Value, schema
from datasets.whole import whole_folder

BATCH_BYTES = 8 << 20  # an Arrow record batch: what is buffered while writing
SHARD_BYTES = 512 << 20  # a file


def write_pack(
    out: str | Path,
    samples: Iterable[Mapping[str, Value]],
    *,
    source: dict[str, Any],
    classes: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Pack:
    """Writes samples as a pack, in one pass and about 8 MB at a time, and opens it.

    samples   mappings with the same columns, dtypes and shapes; arrays are copied, so a buffer may be reused
    source    what made them (JSON values): format name, options, adapter version
    classes   names of the class ids of a segmentation
    overwrite replaces a pack at `out`; a folder that is no pack is never replaced

    Raises PackError (nothing is left on disk); whatever `samples` raises passes through likewise.
    """
    target = Path(os.path.abspath(out))
    try:
        json.dumps(source, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PackError(f"{target}: source must hold JSON values: {error}") from None
    with whole_folder(target, partial(check_target, overwrite=overwrite)) as folder:
        manifest = _write_files(folder, samples, source, None if classes is None else tuple(classes))
        (folder / "manifest.json").write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return Pack.open(target)


def _write_files(
    folder: Path, samples: Iterable[Mapping[str, Value]], source: dict[str, Any], classes: tuple[str, ...] | None
) -> Manifest:
    columns: tuple[Column, ...] = ()
    writer: _Writer | None = None
    count = 0
    try:
        for sample in samples:
            given = _columns(sample, count, columns)
            if writer is None:
                columns = given
                writer = _Writer(folder, columns, Digest(columns, classes))
            writer.add(sample)
            count += 1
        rows = writer.close() if writer else []
    finally:
        if writer is not None and writer.stream is not None:
            writer.stream.close()
    if writer is None:
        raise PackError(f"{folder.parent / folder.name[1:].split('.writing-')[0]}: a pack needs a sample, but got none")
    digest = writer.digest.hexdigest(count)
    files = []
    for number, (path, file_rows) in enumerate(rows):
        # The name holds the digest: a process that opened a pack before it was replaced cannot map the other's rows.
        path = path.rename(folder / f"{digest[:12]}-{number:05d}.arrow")
        files.append(File(name=path.name, rows=file_rows, bytes=path.stat().st_size))
    return Manifest(
        format=FORMAT,
        source=source,
        columns=columns,
        count=count,
        classes=classes,
        digest=digest,
        files=tuple(files),
    )


def _columns(sample: Mapping[str, Value], index: int, expected: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns of a sample, in the order of the first one's; raises PackError where they differ."""
    names = [column.name for column in expected] or list(sample)
    if not names or set(names) != set(sample):
        raise PackError(f"sample {index}: columns must be {sorted(names) or 'not empty'}, but got {sorted(sample)}")
    if CHECKSUMS in names:
        raise PackError(f"sample {index}: a column must not be named {CHECKSUMS!r}, which packs keep for themselves")
    columns = []
    for number, name in enumerate(names):
        try:
            column = Column.of(name, sample[name])
        except TypeError as error:
            raise PackError(f"sample {index}, column {name!r}: {error}") from None
        if expected and column != expected[number]:
            raise PackError(f"sample {index}, column {name!r}: must be {expected[number]} as before, but got {column}")
        columns.append(column)
    return tuple(columns)


class _Writer:
    """Rows into record batches into files. Buffers one batch."""

    def __init__(self, folder: Path, columns: tuple[Column, ...], digest: Digest) -> None:
        self.folder, self.columns, self.digest = folder, columns, digest
        row_bytes = sum(column.row_bytes for column in columns)
        self.rows_per_batch = max(1, BATCH_BYTES // row_bytes)
        self.rows_per_file = max(1, SHARD_BYTES // (row_bytes * self.rows_per_batch)) * self.rows_per_batch
        self.buffers: dict[str, Any] = {
            column.name: [""] * self.rows_per_batch
            if column.dtype == "string"
            else np.empty((self.rows_per_batch, *column.shape), np.dtype(column.dtype).newbyteorder("<"))
            for column in columns
        }
        self.filled = 0
        self.files: list[tuple[Path, int]] = []
        self.stream: BinaryIO | None = None
        self.writer: Any = None

    def add(self, sample: Mapping[str, Value]) -> None:
        for column in self.columns:
            self.buffers[column.name][self.filled] = sample[column.name]
        self.filled += 1
        if self.filled == self.rows_per_batch:
            self._flush()

    def close(self) -> list[tuple[Path, int]]:
        self._flush()
        self._end_file()
        return self.files

    def _flush(self) -> None:
        if not self.filled:
            return
        if self.writer is None:
            path = self.folder / f"{len(self.files)}.arrow"
            self.stream = open(path, "xb")  # noqa: SIM115  (_end_file closes it)
            self.writer = pa.ipc.new_file(self.stream, schema(self.columns))
            self.files.append((path, 0))
        rows = {name: buffer[: self.filled] for name, buffer in self.buffers.items()}
        self.digest.update(rows)
        arrays = [_arrow(rows[column.name], column) for column in self.columns]
        sums = [checksum(values[j]) for j in range(self.filled) for values in rows.values()]
        arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(sums, pa.uint32()), len(self.columns)))
        self.writer.write_batch(pa.record_batch(arrays, schema=schema(self.columns)))
        path, before = self.files[-1]
        self.files[-1] = (path, before + self.filled)
        if before + self.filled == self.rows_per_file:
            self._end_file()
        self.filled = 0

    def _end_file(self) -> None:
        if self.stream is not None:
            self.writer.close()
            self.stream.close()
            self.writer = self.stream = None


def _arrow(rows: Any, column: Column) -> pa.Array:
    if column.dtype == "string":
        return pa.array(rows, pa.string())
    storage = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), int(np.prod(column.shape)))
    return pa.ExtensionArray.from_storage(column.arrow, storage)


def check_target(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not (target / "manifest.json").is_file():
        raise PackError(f"{target}: exists and is not a pack; choose another path")
    if not overwrite:
        raise PackError(f"{target}: exists; choose another path or pass overwrite (--overwrite)")
