"""Pack: an immutable folder of samples at training resolution, read without decoding or copying.

A training loop that decodes JPEGs spends its processor on JPEGs. A pack is decoded once: one sample a row, raw
arrays in Arrow IPC *files* that are mapped into memory, so that reading a sample is pointer arithmetic and every
process of a node shares one page cache. The files can also be opened by anything that reads Arrow. Beside them
`manifest.json` holds the columns, the class names, where the data came from, and a digest of the content, which is
what keys of training stages and evaluations refer to. A file that changes under a search ends it before a number
comes of that: each value is compared with its checksum when a process first reads it, and again after its file was
touched.

A pack is whole or not there, and never changes: writer.py writes one and renames it into place. In a folder that this
machine mounts (NFS too) it is mapped where it is; named by a URI, it is mapped from the node's cache (cache.py).
"""

import bisect
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datasets.checksum import checksum
from datasets.manifest import CHECKSUMS, Column, Manifest, PackError, replaced, wrong_size
from datasets.mapped import Checksums, Mapped
from datasets.ordinary import read_bytes
from datasets.uri import is_uri, redacted

Value = np.ndarray | str


class Pack:
    """An open pack: row i is `sample(i)`, 0 <= i < len(pack). Files are mapped on first use, once per process.

    place   what opens it again: an absolute path, or a URI with all that is secret in it
    path    the same as it is shown to people
    folder  where its files are: at `place`, or in the node's cache
    remedy  what to do when it is damaged, for the messages

    Pickling carries place and digest; unpickling opens the place again, and refuses another content.
    """

    def __init__(self, folder: str, manifest: Manifest, place: str) -> None:
        self.place = place
        self.path = redacted(place)
        self.folder = folder
        self.manifest = manifest
        self.remedy = "copy or write it again"
        self.digest: str = manifest.digest
        self.columns: tuple[str, ...] = tuple(column.name for column in manifest.columns)
        self._ends = list(accumulate(file.rows for file in manifest.files))
        self._files: dict[int, Mapped] = {}
        self._batches: dict[tuple[int, int], dict[str, Any]] = {}

    @classmethod
    def open(cls, place: str | Path, digest: str | None = None) -> "Pack":
        """Opens the pack in a folder, or the one that a URI of pyarrow.fs names, through the node's cache.

        digest  the content that it must have; a copy of it in the cache is then opened without asking the URI

        Raises PackError where the manifest is absent or wrong, a file absent or of another size, the content another.
        """
        place = os.fspath(place)
        if is_uri(place):
            from datasets.cache import fetch

            return fetch(place, digest)
        place = os.path.abspath(place)
        pack = cls.in_folder(place, place)
        if digest is not None and pack.digest != digest:
            raise replaced(place, digest, pack.digest)
        return pack

    @classmethod
    def in_folder(cls, folder: str | Path, place: str) -> "Pack":
        """Opens the files in `folder` as the pack at `place`. Raises PackError as `open` does."""
        folder, path = os.fspath(folder), redacted(place)
        try:
            text = read_bytes(Path(folder, "manifest.json"))
        except (FileNotFoundError, NotADirectoryError):
            raise PackError(f"{path}: no pack here (no manifest.json); write one with `python -m datasets`") from None
        except OSError as error:
            raise PackError(f"{path}/manifest.json: must be readable, but: {error}") from None
        manifest = Manifest.parse(text, path)
        for file in manifest.files:
            try:
                size = os.stat(os.path.join(folder, file.name)).st_size
            except FileNotFoundError:
                raise PackError(f"{path}/{file.name}: the file is missing; write the pack again") from None
            if size != file.bytes:
                raise wrong_size(f"{path}/{file.name}", file.bytes, size)
        return cls(folder, manifest, place)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.partition("?")[0].rstrip("/").rpartition("/")[2]

    def __reduce__(self) -> tuple[Any, ...]:
        return Pack.open, (self.place, self.digest)

    def __len__(self) -> int:
        return self.manifest.count

    def __repr__(self) -> str:
        return f"Pack({self.path!r}, {len(self)} samples, {self.digest[:12]})"

    def sample(self, i: int, columns: Sequence[str] | None = None) -> dict[str, Value]:
        """Row i: read-only views of the mapped file, and str for string columns; all columns, or those named.

        Raises IndexError when i is out of range, KeyError when the pack has no such column, PackError when a value is
        not the one that was written.
        """
        if not 0 <= i < self.manifest.count:
            raise IndexError(f"{self.path}: `0 <= i < {self.manifest.count}` must hold, but got i={i}")
        file = bisect.bisect_right(self._ends, i)
        row = i - (self._ends[file - 1] if file else 0)
        mapped = self._files.get(file) or self._map(file)
        try:
            touched = mapped.touched()
        except (OSError, ValueError) as error:
            raise self._damaged(file, error) from None
        if touched:
            self._distrust(file)
        k, j = divmod(row, mapped.rows)
        batch = self._batches.get((file, k)) or self._load(file, k)
        sample: dict[str, Value] = {}
        for name in self.columns if columns is None else columns:
            if name not in self.columns:
                raise KeyError(f"{self.path}: no column {name!r}; this pack has {', '.join(self.columns)}")
            sample[name] = self._value(batch, name, j, file, i)
        return sample

    def verify(self) -> None:
        """Recomputes the digest and the checksums from the bytes. Raises PackError when one differs, or when a file
        cannot be read."""
        digest = Digest(self.manifest.columns, self.manifest.classes)
        first = 0  # of the batch
        for number, file in enumerate(self.manifest.files):
            mapped = self._map(number)
            for k in range(-(-file.rows // mapped.rows)):
                try:
                    batch = mapped.reader.get_batch(k)
                    batch.validate(full=True)
                    arrays = self._arrays(batch)
                except (pa.ArrowException, OSError, ValueError) as error:
                    raise self._damaged(number, error) from None
                for j in range(batch.num_rows):
                    for name in self.columns:
                        self._value(arrays, name, j, number, first + j)
                digest.update(arrays)
                first += batch.num_rows
        if digest.hexdigest(self.manifest.count) != self.digest:
            raise PackError(
                f"{self.path}: the content's digest must be {self.digest[:12]}, but is "
                f"{digest.hexdigest(self.manifest.count)[:12]}; the pack is damaged, {self.remedy}"
            )

    def _map(self, number: int) -> Mapped:
        if number not in self._files:
            try:
                self._files[number] = Mapped.open(
                    self.folder, self.manifest.files[number], schema(self.manifest.columns)
                )
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._damaged(number, error) from None
        return self._files[number]

    def _load(self, number: int, k: int) -> dict[str, Any]:
        try:
            batch = self._files[number].reader.get_batch(k)
            arrays = self._arrays(batch)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(number, error) from None
        self._batches[number, k] = arrays
        return arrays

    def _distrust(self, file: int) -> None:
        """All values of a file are compared again when they are read."""
        for (number, _), batch in self._batches.items():
            if number == file:
                batch[CHECKSUMS].seen[:] = False

    def _value(self, batch: dict[str, Any], name: str, j: int, file: int, i: int) -> Value:
        """A column of row j of a batch, which is sample i, as it was written."""
        values, sums, column = batch[name], batch[CHECKSUMS], self.columns.index(name)
        value: Value = values[j] if isinstance(values, np.ndarray) else values[j].as_py()
        if not sums.seen[j, column]:
            if checksum(value) != sums.wanted[j, column]:
                raise self._damaged(file, f"{name} of sample {i} is not what was written")
            sums.seen[j, column] = True
        return value

    def _arrays(self, batch: pa.RecordBatch) -> dict[str, Any]:
        """The columns of a record batch, and its checksums."""
        wanted = batch.column(CHECKSUMS).flatten().to_numpy().reshape(-1, len(self.columns))
        sums = Checksums(wanted, np.zeros(wanted.shape, np.bool_))
        return {column.name: _values(batch, column) for column in self.manifest.columns} | {CHECKSUMS: sums}

    def _damaged(self, number: int, error: Exception | str) -> PackError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        name = self.manifest.files[number].name
        return PackError(f"{self.path}/{name}: the file is damaged ({reason}); {self.remedy}")


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
    fields = [pa.field(column.name, column.arrow, nullable=False) for column in columns]
    checksums = pa.list_(pa.field("item", pa.uint32(), nullable=False), len(columns))
    return pa.schema([*fields, pa.field(CHECKSUMS, checksums, nullable=False)])


def _values(batch: pa.RecordBatch, column: Column) -> Any:
    """A column of a record batch: a read-only array [rows, *shape] on the mapped bytes, or Arrow strings."""
    values = batch.column(column.name)
    if column.dtype == "string":
        values.validate(full=True)  # its offsets are what is read next, wherever they lead
        return values
    array = np.frombuffer(values.storage.values.buffers()[1], np.dtype(column.dtype).newbyteorder("<"))
    array = array[: batch.num_rows * int(np.prod(column.shape))].reshape(batch.num_rows, *column.shape)
    array.flags.writeable = False
    return array
