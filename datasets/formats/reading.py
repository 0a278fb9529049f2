"""What every format's `read` gives, and the few steps that formats share: selecting rows, decoding, resizing."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from datasets.pack import Value


@dataclass(frozen=True)
class Reading:
    """A source that was opened: `samples` decodes lazily; `classes` and `source` go into the pack's manifest."""

    count: int
    samples: Iterator[dict[str, Value]]
    classes: tuple[str, ...]
    source: dict[str, Any]


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
    palette and alpha are converted), the stored values [H, W] or [H, W, C] for None (a palette image's indices).

    Raises ValueError that names the file when it is missing, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright if mode is None else upright.convert(mode))
    except FileNotFoundError:
        raise ValueError(f"{path}: the file is missing") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error}); replace or remove the file") from None


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """A square uint8 image [S, S, 3] or [S, S] to `size`: by area to a smaller size, bilinear to a larger one."""
    smaller = size < image.shape[0]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def resize_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """A square map [S, S] or [S, S, C] to `size`: each pixel takes the label (or the value) under its centre."""
    centres = ((2 * np.arange(size) + 1) * labels.shape[0]) // (2 * size)
    return np.ascontiguousarray(labels[np.ix_(centres, centres)])
