"""LaPa (Liu et al. 2020): 22,000 photographs with masks of 11 classes and 106 landmarks, in folders by split.

    {train,val,test}/images/{name}.jpg
    {train,val,test}/labels/{name}.png       one channel or a palette: the classes, as large as the image
    {train,val,test}/landmarks/{name}.txt    the line `106`, then 106 lines `x y`, pixels

The sides of its classes are the image's. The 106 landmarks are in an order of their own, not iBUG's, so that they do
not become `landmarks`. Whether they count from the centre or the corner of the first pixel is not documented and not
measured: they are taken from its centre, as they are stored. The folder landmarks may be absent, in every split alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.formats.points import read_points
from datasets.formats.pts import check_near
from datasets.formats.reading import decode, decode_labels
from datasets.formats.record import Record
from datasets.labels import LabelTable

VERSION = 1
SPLITS = ("train", "val", "test")
NUM_POINTS = 106
IMAGES, LABELS, LANDMARKS = KINDS = (("images", ".jpg"), ("labels", ".png"), ("landmarks", ".txt"))


@dataclass(frozen=True)
class LaPa:
    """A folder of LaPa. Records have labels uint8 [H, W] and, if it has `landmarks`, points["landmarks106"] float64
    [106, 2]."""

    source: Path
    landmarks: bool
    table: LabelTable
    names: tuple[str, ...]
    options: Mapping[str, Any]

    def files(self, name: str) -> tuple[Path, ...]:
        split, _, stem = name.partition("/")
        kinds = KINDS if self.landmarks else (IMAGES, LABELS)
        return tuple(self.source / split / folder / f"{stem}{suffix}" for folder, suffix in kinds)

    def record(self, name: str) -> Record:
        picture, mask, *texts = self.files(name)
        image = decode(picture, "RGB")
        labels = decode_labels(mask, self.table, image.shape[:2])
        points = {"landmarks106": _points(texts[0], image.shape)} if texts else {}
        return Record(image, labels=labels, points=points)


def _points(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    points = read_points(path, NUM_POINTS)
    check_near(points, shape, path)
    return points


def open_folder(source: Path, *, split: str | None, table: LabelTable) -> LaPa:
    """Opens a folder of LaPa.

    split  "train", "val" or "test"; None is all that are there. Ids are `train/NAME` either way

    The samples are those of which there is any file; one that lacks a file is a bad sample. Raises ValueError, one line
    that names the folder, for a folder in another layout and where only some of the splits have landmarks.
    """
    if split not in (None, *SPLITS):
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, but got {split!r}")
    splits = [name for name in SPLITS if (source / name).is_dir()] if split is None else [split]
    if not splits:
        raise ValueError(f"{source}: must have {{{','.join(SPLITS)}}}/{{images,labels,landmarks}}, but has no split")
    for folder in (source / name / kind for name in splits for kind, _ in (IMAGES, LABELS)):
        if not folder.is_dir():
            raise ValueError(f"{folder}: the folder is missing; {source} must be LaPa's, with {', '.join(SPLITS)}")
    with_landmarks = [name for name in splits if (source / name / LANDMARKS[0]).is_dir()]
    if with_landmarks and with_landmarks != splits:
        lacking = next(name for name in splits if name not in with_landmarks)
        raise ValueError(
            f"{source / lacking / LANDMARKS[0]}: the folder is missing, and every split must have it where one has; "
            "read the splits one by one"
        )
    names = {
        f"{name}/{path.stem}"
        for name in splits
        for folder, suffix in KINDS
        for path in (source / name / folder).glob(f"*{suffix}")
        if path.name[0] != "."
    }
    if not names:
        raise ValueError(f"{source / splits[0] / IMAGES[0]}: must hold .jpg images, but has none")
    options = {"splits": splits, "landmarks106": bool(with_landmarks)}
    return LaPa(source, bool(with_landmarks), table, tuple(sorted(names)), options)
