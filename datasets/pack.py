"""Pack: an immutable folder of samples at training resolution, read without decoding or copying.

A training loop that decodes JPEGs spends its processor on JPEGs. A pack is decoded once: one sample a row, raw
arrays in Arrow IPC *files* that are mapped into memory, so that reading a sample is pointer arithmetic and every
process of a node shares one page cache. The files can also be opened by anything that reads Arrow. Beside them
`manifest.json` holds the columns, the class names, where the data came from, and a digest of the content, which is
what keys of training stages and evaluations refer to.

A pack is whole or not there, and never changes: writer.py writes one and renames it into place.
"""

import bisect
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT = 1
DTYPES = frozenset(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)) | {
    f"float{bits}" for bits in (16, 32, 64)
}

Value = np.ndarray | str
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PackError(ValueError):
    """A pack that cannot be read or written; one line that names the path and what to do."""


@dataclass(frozen=True)
class Column:
    """A column: `dtype` is a numpy name ("uint8") with the shape of one sample, or "string" with shape ()."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str, value: Any) -> "Column":
        """The column that holds `value`. Raises TypeError when no column can."""
        if isinstance(value, str):
            return cls(name, "string", ())
        if not isinstance(value, np.ndarray):
            raise TypeError(f"a value must be a numpy array or a str, but got {type(value).__name__}")
        if value.dtype.name not in DTYPES:
            raise TypeError(f"dtype must be one of {', '.join(sorted(DTYPES))}, but got {value.dtype}")
        if value.ndim == 0 or value.size == 0:
            raise TypeError(f"an array must have at least one axis and one element, but got shape {value.shape}")
        return cls(name, value.dtype.name, value.shape)

    @property
    def arrow(self) -> pa.DataType:
        if self.dtype == "string":
            return pa.string()
        return pa.fixed_shape_tensor(pa.from_numpy_dtype(np.dtype(self.dtype)), self.shape)

    @property
    def row_bytes(self) -> int:
        return 16 if self.dtype == "string" else np.dtype(self.dtype).itemsize * int(np.prod(self.shape))

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}" if self.shape else self.dtype


class File(BaseModel):
    """One Arrow IPC file of a pack, beside its manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+\.arrow$")
    rows: int = Field(gt=0)
    bytes: int = Field(gt=0)


class Manifest(BaseModel):
    """What `manifest.json` says of a pack. `source` (format name, options, adapter version) is not in the digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    source: dict[str, Any]
    columns: tuple[Column, ...] = Field(min_length=1)
    count: int = Field(gt=0)
    classes: tuple[str, ...] | None
    digest: Hex
    files: tuple[File, ...] = Field(min_length=1)


class Pack:
    """An open pack: row i is `sample(i)`, 0 <= i < len(pack). Files are mapped on first use, once per process.

    Pickling carries the path and the digest; unpickling opens the path again and refuses another content.
    """

    def __init__(self, path: str, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.digest: str = manifest.digest
        self.columns: tuple[str, ...] = tuple(column.name for column in manifest.columns)
        self._ends = list(accumulate(file.rows for file in manifest.files))
        self._readers: dict[int, tuple[pa.RecordBatchFileReader, int]] = {}
        self._batches: dict[tuple[int, int], dict[str, Any]] = {}

    @classmethod
    def open(cls, path: str | Path) -> "Pack":
        """Opens a pack; raises PackError where the manifest is absent or wrong, or a file absent or of another size."""
        path = os.path.abspath(path)
        try:
            text = Path(path, "manifest.json").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise PackError(f"{path}: no pack here (no manifest.json); write one with `python -m datasets`") from None
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise PackError(f"{path}/manifest.json: {where}: {first['msg']}; write the pack again") from None
        if manifest.format != FORMAT:
            raise PackError(f"{path}: pack format must be {FORMAT}, but got {manifest.format}; write the pack again")
        if sum(file.rows for file in manifest.files) != manifest.count:
            raise PackError(
                f"{path}/manifest.json: the files' rows must add up to {manifest.count}; write the pack again"
            )
        for file in manifest.files:
            try:
                size = os.stat(os.path.join(path, file.name)).st_size
            except FileNotFoundError:
                raise PackError(f"{path}/{file.name}: the file is missing; write the pack again") from None
            if size != file.bytes:
                raise PackError(
                    f"{path}/{file.name}: must have {file.bytes} bytes, but has {size}; copy or write the pack again"
                )
        return cls(path, manifest)

    @classmethod
    def _reopen(cls, path: str, digest: str) -> "Pack":
        pack = cls.open(path)
        if pack.digest != digest:
            raise PackError(f"{path}: digest must be {digest[:12]}, but is {pack.digest[:12]}; the pack was replaced")
        return pack

    def __reduce__(self) -> tuple[Any, ...]:
        return Pack._reopen, (self.path, self.digest)

    def __len__(self) -> int:
        return self.manifest.count

    def __repr__(self) -> str:
        return f"Pack({self.path!r}, {len(self)} samples, {self.digest[:12]})"

    def sample(self, i: int, columns: Sequence[str] | None = None) -> dict[str, Value]:
        """Row i: read-only views of the mapped file, and str for string columns; all columns, or those named.

        Raises IndexError when i is out of range, KeyError when the pack has no such column.
        """
        if not 0 <= i < self.manifest.count:
            raise IndexError(f"{self.path}: `0 <= i < {self.manifest.count}` must hold, but got i={i}")
        file = bisect.bisect_right(self._ends, i)
        row = i - (self._ends[file - 1] if file else 0)
        reader_and_rows = self._readers.get(file)
        rows_per_batch = reader_and_rows[1] if reader_and_rows else self._map(file)
        batch = self._batches.get((file, row // rows_per_batch))
        if batch is None:
            batch = self._load(file, row // rows_per_batch)
        j = row % rows_per_batch
        sample: dict[str, Value] = {}
        for name in self.columns if columns is None else columns:
            if name not in batch:
                raise KeyError(f"{self.path}: no column {name!r}; this pack has {', '.join(self.columns)}")
            values = batch[name]
            sample[name] = values[j] if isinstance(values, np.ndarray) else values[j].as_py()
        return sample

    def verify(self) -> None:
        """Recomputes the digest from the bytes. Raises PackError when it differs, or when a file cannot be read."""
        digest = Digest(self.manifest.columns, self.manifest.classes)
        for number, file in enumerate(self.manifest.files):
            rows_per_batch = self._map(number)
            for k in range(-(-file.rows // rows_per_batch)):
                try:
                    batch = self._readers[number][0].get_batch(k)
                    batch.validate(full=True)
                    arrays = {column.name: _values(batch, column) for column in self.manifest.columns}
                except (pa.ArrowException, OSError, ValueError) as error:
                    raise self._damaged(number, error) from None
                digest.update(arrays)
        if digest.hexdigest(self.manifest.count) != self.digest:
            raise PackError(
                f"{self.path}: the content's digest must be {self.digest[:12]}, but is "
                f"{digest.hexdigest(self.manifest.count)[:12]}; the pack is damaged, copy or write it again"
            )

    def _map(self, number: int) -> int:
        """Maps a file and returns the rows of its batches (all but the last have the same number)."""
        if number not in self._readers:
            try:
                reader = pa.ipc.open_file(pa.memory_map(os.path.join(self.path, self.manifest.files[number].name)))
                wanted = schema(self.manifest.columns)
                if not reader.schema.equals(wanted):
                    raise ValueError("the schema is not the manifest's")
                rows = reader.get_batch(0).num_rows
                batches = -(-self.manifest.files[number].rows // rows) if rows else 0
                if batches != reader.num_record_batches:
                    raise ValueError(f"must have {batches} record batches, but has {reader.num_record_batches}")
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._damaged(number, error) from None
            self._readers[number] = (reader, rows)
        return self._readers[number][1]

    def _load(self, number: int, k: int) -> dict[str, Any]:
        try:
            batch = self._readers[number][0].get_batch(k)
            arrays = {column.name: _values(batch, column) for column in self.manifest.columns}
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(number, error) from None
        self._batches[number, k] = arrays
        return arrays

    def _damaged(self, number: int, error: Exception) -> PackError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        name = self.manifest.files[number].name
        return PackError(f"{self.path}/{name}: the file is damaged ({reason}); copy or write the pack again")


class Digest:
    """blake2b of columns, classes and content. One hasher a column, so that batch sizes do not show.

    An array is hashed as its little-endian bytes, a string as its length (8 bytes) and UTF-8.
    """

    def __init__(self, columns: tuple[Column, ...], classes: tuple[str, ...] | None) -> None:
        self.columns, self.classes = columns, classes
        self.hashers = [hashlib.blake2b(digest_size=32) for _ in columns]

    def update(self, rows: Mapping[str, Any]) -> None:
        for column, hasher in zip(self.columns, self.hashers, strict=True):
            values = rows[column.name]
            if isinstance(values, np.ndarray):
                hasher.update(values.reshape(-1).view(np.uint8).data)
                continue
            for text in values if isinstance(values, list) else values.to_pylist():
                data = text.encode()
                hasher.update(len(data).to_bytes(8, "little") + data)

    def hexdigest(self, count: int) -> str:
        head = {
            "columns": [[column.name, column.dtype, column.shape] for column in self.columns],
            "classes": self.classes,
            "count": count,
            "content": [hasher.hexdigest() for hasher in self.hashers],
        }
        return hashlib.blake2b(json.dumps(head, separators=(",", ":")).encode(), digest_size=32).hexdigest()


def schema(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema([pa.field(column.name, column.arrow, nullable=False) for column in columns])


def _values(batch: pa.RecordBatch, column: Column) -> Any:
    """A column of a record batch: a read-only array [rows, *shape] on the mapped bytes, or Arrow strings."""
    values = batch.column(column.name)
    if column.dtype == "string":
        return values
    array = np.frombuffer(values.storage.values.buffers()[1], np.dtype(column.dtype).newbyteorder("<"))
    array = array[: batch.num_rows * int(np.prod(column.shape))].reshape(batch.num_rows, *column.shape)
    array.flags.writeable = False
    return array
