"""Manifest: what a pack says of itself, in `manifest.json` beside its files, and the errors of packs.

It names the columns, the class names, where the data came from, the files, and the digest of the content.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datasets.settings import line

FORMAT = 2
CHECKSUMS = "checksums"  # what Arrow files hold beside the columns: each value's (datasets/checksum.py)
DTYPES = frozenset(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)) | {
    f"float{bits}" for bits in (16, 32, 64)
}

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

    def possible(self, num_bytes: int) -> bool:
        """Whether files of so many bytes can hold a value of such a column."""
        if self.dtype == "string":
            return not self.shape
        return self.dtype in DTYPES and bool(self.shape) and min(self.shape) > 0 and math.prod(self.shape) <= num_bytes

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

    @classmethod
    def parse(cls, text: bytes, path: str) -> "Manifest":
        """The manifest that `text` is; PackError, with the pack's `path`, where it is none."""
        try:
            manifest = cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise PackError(f"{path}/manifest.json: {line(where)}: {first['msg']}; write the pack again") from None
        if manifest.format != FORMAT:
            raise PackError(f"{path}: pack format must be {FORMAT}, but got {manifest.format}; write the pack again")
        for column in manifest.columns:
            if not column.possible(manifest.bytes):
                raise PackError(
                    f"{path}/manifest.json: column {line(repr(column.name), 60)} cannot be {line(str(column), 100)} in"
                    f" {manifest.bytes:,} bytes; write the pack again"
                )
        if sum(file.rows for file in manifest.files) != manifest.count:
            raise PackError(
                f"{path}/manifest.json: the files' rows must add up to {manifest.count}; write the pack again"
            )
        return manifest

    @property
    def bytes(self) -> int:
        """Of the files, without the manifest."""
        return sum(file.bytes for file in self.files)


def replaced(path: str, wanted: str, found: str) -> PackError:
    return PackError(
        f"{path}: digest must be {wanted[:12]}, but is {found[:12]}; the pack was replaced; put the old one"
        " back, or begin again with this one"
    )


def wrong_size(path: str, wanted: int, found: int) -> PackError:
    return PackError(f"{path}: must have {wanted} bytes, but has {found}; copy or write the pack again")
