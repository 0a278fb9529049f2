"""A data set in its own layout, opened: which samples there are, and what a pack gets of each."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from datasets.formats.record import Record
from datasets.labels import LabelTable
from datasets.ordinary import ordinary
from datasets.pack import Value

PICTURE_BYTES = 1 << 30  # some of Pillow's readers begin with the whole file
# Whatever a file's name says: Pillow's reader of PostScript would run a program on what is in it.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")


class DataSet(Protocol):
    """What a format makes of a folder. It can be pickled, and reads nothing but what it is asked for.

    names    of the samples, which become their ids, in an order that hangs on the names alone
    options  what of the layout decided (JSON values), for the manifest
    """

    names: Sequence[str]
    options: Mapping[str, Any]

    def files(self, name: str) -> tuple[Path, ...]:
        """The files that a sample is read from, its image first; those that may be absent only where they are there."""
        ...

    def record(self, name: str) -> Record:
        """Reads a sample. Raises ValueError, one line that names the file, for one that is absent, or not right."""
        ...


@dataclass(frozen=True)
class Reading:
    """The samples of a data set that a pack is to have, in order. It can be pickled.

    table   what the labels mean, or None for a data set without labels
    source  what the pack's manifest says of it
    """

    data: DataSet
    names: tuple[str, ...]
    size: int
    crop: str
    table: LabelTable | None
    source: dict[str, Any]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> tuple[str, ...] | None:
        return None if self.table is None else self.table.classes

    @property
    def samples(self) -> Iterator[dict[str, Value]]:
        """All samples, each read when it is asked for."""
        return (self.sample(name) for name in self.names)

    def files(self, name: str) -> tuple[Path, ...]:
        return self.data.files(name)

    def sample(self, name: str) -> dict[str, Value]:
        """One sample. Raises ValueError, one line that names the file, where it cannot be read, or not be cut so."""
        record = self.data.record(name)
        try:
            return {"id": name, **record.sample(self.size, self.crop, self.table)}
        except ValueError as error:
            raise ValueError(f"{self.data.files(name)[0]}: {error}") from None


def select_rows(ids: Sequence[str], rows: str | None, shuffle_seed: int) -> list[str]:
    """All ids in their order, or `rows` "START:STOP" of them in a shuffled order.

    The order is that of a digest of (shuffle_seed, id), so that disjoint ranges are disjoint random subsets, the
    same on every machine. Raises ValueError unless 0 <= START < STOP <= len(ids).
    """
    if rows is None:
        return list(ids)
    start, colon, stop = rows.partition(":")
    if not (colon and start.isdigit() and stop.isdigit() and int(start) < int(stop) <= len(ids)):
        raise ValueError(f"rows must be START:STOP with `0 <= START < STOP <= {len(ids)}`, but got {rows!r}")
    shuffled = sorted(ids, key=lambda name: hashlib.blake2b(f"{shuffle_seed}/{name}".encode()).digest())
    return shuffled[int(start) : int(stop)]


def decode(path: Path, mode: str | None = None) -> np.ndarray:
    """The pixels of an image file, upright by its EXIF orientation: uint8 [H, W, 3] for mode "RGB" (greyscale,
    palette, CMYK and 16-bit images are converted, alpha is dropped), the stored values [H, W] or [H, W, C] for None (a
    palette image's indices).

    Raises ValueError that names the file when it is missing, truncated or not an image.
    """
    image = _open(path)
    if mode == "RGB" and image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(image if mode is None else image.convert(mode))


def decode_labels(path: Path, table: LabelTable, shape: tuple[int, int] | None = None) -> np.ndarray:
    """The label map uint8 [H, W] of a file with one channel or a palette, whose values are ids of `table`, or 255.

    Raises ValueError that names the file for another image, for one that is not `shape` (H, W) as its image is, and for
    an id that no label has.
    """
    labels = decode(path)
    if labels.ndim != 2:
        raise ValueError(f"{path}: must have one channel or a palette, but has {labels.shape[2]} channels")
    if shape is not None:
        check_size(path, labels.shape, shape)
    known = {*table.ids, 255}
    wrong = [int(k) for k in np.unique(labels) if int(k) not in known]
    if wrong:
        raise ValueError(f"{path}: classes must be {_ranges(table.ids)}, but got {wrong[-1]}")
    return labels.astype(np.uint8)


def decode_alpha(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The alpha uint8 [H, W] of a file: its transparency, unless that is 255 throughout, else its one channel of 1, 8
    or 16 bits, or what three equal channels hold.

    Raises ValueError that names the file for another image, and for one that is not `shape` (H, W) as its image is.
    """
    image = _open(path)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    mode, alpha = image.mode, np.asarray(image)
    if mode in ("RGBA", "LA"):
        opaque = bool((alpha[..., -1] == 255).all())
        alpha = alpha[..., :-1] if opaque else alpha[..., -1]
    if alpha.ndim == 3 and mode in ("RGB", "RGBA", "LA") and (alpha == alpha[..., :1]).all():
        alpha = alpha[..., 0]
    if alpha.ndim == 3 or not (mode in ("RGB", "RGBA", "LA", "L", "1") or mode.startswith("I;16")):
        raise ValueError(f"{path}: must have one channel or transparency, but is a picture of mode {mode} without any")
    if mode == "1":
        alpha = alpha * np.uint8(255)
    check_size(path, alpha.shape, shape)
    return np.ascontiguousarray(alpha >> 8 if mode.startswith("I;16") else alpha, np.uint8)


def decode_cutout(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The colour uint8 [H, W, 3] and the alpha uint8 [H, W] of a file with transparency, of 8 or 16 bits.

    Raises ValueError that names the file for another image.
    """
    image = _open(path)
    if not image.has_transparency_data:
        raise ValueError(f"{path}: must be RGBA, whose alpha is the matte, but is a picture of mode {image.mode}")
    stored = np.asarray(image.convert("RGBA"))
    return np.ascontiguousarray(stored[..., :3]), np.ascontiguousarray(stored[..., 3])


def check_size(path: Path, shape: tuple[int, ...], wanted: tuple[int, ...], of: str = "image") -> None:
    """Raises ValueError that names the file where its `shape` (H, W, ...) is not that of what it belongs to.

    Every file is turned upright by its own EXIF orientation. A mask that was drawn on a photograph as it is stored,
    and carries no orientation, is told by its size after a quarter turn; after half a turn or a mirror image nothing
    tells it.
    """
    (height, width), (high, wide) = shape[:2], wanted[:2]
    if (height, width) == (high, wide):
        return
    turned = (
        "; one of the two is turned: give both the same EXIF orientation, or none" if height == wide != high else ""
    )
    raise ValueError(f"{path}: must be {wide}x{high} as its {of}, but is {width}x{height}{turned}")


def _open(path: Path) -> Image.Image:
    """The image of a file, decoded, and upright by its EXIF orientation."""
    try:
        with Image.open(ordinary(path, PICTURE_BYTES), formats=FORMATS) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise ValueError(f"{path}: the file is missing") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error}); replace or remove the file") from None


def _ranges(ids: Sequence[int]) -> str:
    """`0 to 18` or `0, 2, 5`."""
    ordered = sorted(ids)
    whole = ordered == list(range(ordered[0], ordered[-1] + 1))
    return f"{ordered[0]} to {ordered[-1]}" if whole else ", ".join(map(str, ordered))
