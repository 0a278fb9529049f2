"""CelebAMask-HQ (Lee et al. 2020): 30,000 photographs of celebrities with masks of 19 classes.

Two layouts are read. The official release has an image and one mask file for each part that is present:

    CelebA-HQ-img/{k}.jpg                                          1024 x 1024
    CelebAMask-HQ-mask-anno/{k // 2000}/{k:05d}_{part}.png         512 x 512, not zero where the part is
    CelebA-HQ-to-CelebA-mapping.txt                                for the split

(its own scripts say CelebAMaskHQ-mask-anno; both names are taken). Other copies have one label map per image, a PNG
whose pixel values or palette indices are the classes in the official order:

    images/{id}.jpg   masks/{id}.png
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.formats.reading import decode, decode_labels
from datasets.formats.record import Record
from datasets.labels import LabelTable
from datasets.ordinary import read_text

VERSION = 2
SPLITS = ("train", "val", "test")
MASK_FOLDERS = ("CelebAMask-HQ-mask-anno", "CelebAMaskHQ-mask-anno")


@dataclass(frozen=True)
class CelebAMaskHQ:
    """A folder of CelebAMask-HQ. `masks` is that of the part files if `parts`, else that of the label maps."""

    images: Path
    masks: Path
    parts: bool
    table: LabelTable
    names: tuple[str, ...]
    options: Mapping[str, Any]

    def files(self, name: str) -> tuple[Path, ...]:
        if not self.parts:
            return self.images / f"{name}.jpg", self.masks / f"{name}.png"
        present = (path for _, path in self._parts(name) if path.is_file())
        return self.images / f"{name}.jpg", *present

    def record(self, name: str) -> Record:
        path = self.images / f"{name}.jpg"
        image = decode(path, "RGB")
        labels, where = self._drawn(name) if self.parts else self._map(name)
        side = labels.shape[0]
        if labels.shape[1] != side or image.shape[:2] not in ((side, side), (2 * side, 2 * side)):
            raise ValueError(
                f"{where}: a mask must have its image's size or half of it, but got "
                f"{labels.shape[1]}x{side} for {image.shape[1]}x{image.shape[0]}"
            )
        scale = image.shape[0] // side
        return Record(image, labels=labels.repeat(scale, 0).repeat(scale, 1))

    def _parts(self, name: str) -> list[tuple[int, Path]]:
        """The part files that an image may have, with their classes."""
        folder, k = self.masks / str(int(name) // 2000), int(name)
        names = zip(self.table.ids, self.table.names, strict=True)
        return [(number, folder / f"{k:05d}_{part}.png") for number, part in names if number]

    def _drawn(self, name: str) -> tuple[np.ndarray, Path]:
        """The label map uint8 [H, W] of an image from its part files, and the path to name in an error."""
        labels: np.ndarray | None = None
        for number, path in self._parts(name):
            if not path.is_file():
                continue
            present = decode(path, "RGB")[..., 0] != 0
            if labels is None:
                labels = np.zeros(present.shape, np.uint8)
            if present.shape != labels.shape:
                raise ValueError(
                    f"{path}: must be {labels.shape[1]}x{labels.shape[0]} as the image's other masks, "
                    f"but is {present.shape[1]}x{present.shape[0]}"
                )
            labels[present] = number
        folder = self.masks / str(int(name) // 2000)
        if labels is None:
            raise ValueError(f"{folder}: image {name} must have masks {int(name):05d}_*.png, but there is none")
        return labels, folder / f"{int(name):05d}_*.png"

    def _map(self, name: str) -> tuple[np.ndarray, Path]:
        path = self.masks / f"{name}.png"
        return decode_labels(path, self.table), path


def open_folder(source: Path, *, split: str | None, table: LabelTable) -> CelebAMaskHQ:
    """Opens a folder of CelebAMask-HQ in either layout.

    split  "train", "val" or "test" by the CelebA number of each image, as the reference's g_partition.py does it: below
           162,771, below 182,638, the rest; needs CelebA-HQ-to-CelebA-mapping.txt

    Raises ValueError, one line that names the file, for a folder in neither layout.
    """
    if split not in (None, *SPLITS):
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, but got {split!r}")
    anno = next((source / name for name in MASK_FOLDERS if (source / name).is_dir()), None)
    if anno is not None and (source / "CelebA-HQ-img").is_dir():
        layout, images, masks = "parts", source / "CelebA-HQ-img", anno
    elif (source / "images").is_dir() and (source / "masks").is_dir():
        layout, images, masks = "maps", source / "images", source / "masks"
    else:
        raise ValueError(
            f"{source}: must have CelebA-HQ-img/ and {MASK_FOLDERS[0]}/, or images/ and masks/, but has neither pair"
        )
    ids = sorted((path.stem for path in images.glob("*.jpg")), key=lambda name: (len(name), name))
    if not ids:
        raise ValueError(f"{images}: must hold .jpg images, but has none")
    if layout == "parts" and not all(name.isdecimal() for name in ids):
        name = next(name for name in ids if not name.isdecimal())
        raise ValueError(f"{images / name}.jpg: the name must be the image's number in the official layout")
    if split is not None:
        ids = _split(source / "CelebA-HQ-to-CelebA-mapping.txt", ids, split)
    return CelebAMaskHQ(images, masks, layout == "parts", table, tuple(ids), {"layout": layout})


def _split(mapping: Path, ids: Sequence[str], split: str) -> list[str]:
    """The ids of a split, by the mapping file's columns idx, orig_idx, orig_file after a header line."""
    try:
        lines = read_text(mapping).splitlines()[1:]
    except FileNotFoundError:
        raise ValueError(f"{mapping}: a split needs this file; add it, or choose images by rows") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{mapping}: must be readable text, but: {error}") from None
    chosen = {}
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        if not re.match(r"\s*\d+\s+\d+\s", line):
            raise ValueError(f"{mapping}:{number}: must read `idx orig_idx orig_file`, but got {line.strip()[:40]!r}")
        idx, original = map(int, line.split()[:2])
        chosen[idx] = "train" if original < 162771 else "val" if original < 182638 else "test"
    unknown = [name for name in ids if not name.isdecimal() or int(name) not in chosen]
    if unknown:
        raise ValueError(f"{mapping}: must list image {unknown[0]}, but does not; choose images by rows instead")
    kept = [name for name in ids if chosen[int(name)] == split]
    if not kept:
        raise ValueError(f"{mapping}: split {split!r} must hold some of the {len(ids)} images here, but holds none")
    return kept
