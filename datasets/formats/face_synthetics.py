"""Microsoft FaceSynthetics (Wood et al. 2021): 100,000 rendered faces with masks of 19 classes and 70 landmarks.

One flat folder:

    {id}.png          512 x 512, RGB
    {id}_seg.png      512 x 512, one channel: the classes, 255 where none is meant
    {id}_ldmks.txt    70 lines `x y`, pixels: 68 in iBUG's order, then the two pupils

The landmarks are projections of points of the 3-D face, given even where something hides them. What the files do not
say was measured on 14 of the official samples:

- Pupils: the first is the subject's right eye, the image's left. In all 14 it is nearer to the middle of landmarks 36
  to 41 than to that of 42 to 47, and it lies on that eye's class in all 11 where it lies on an eye.
- Classes: RIGHT_EYE, RIGHT_BROW and RIGHT_EAR are on the image's RIGHT, unlike the landmarks' sides, in all of the 14
  that show them.
- Origin: coordinates count from the image's CORNER; the centre of the first pixel is (0.5, 0.5). To lie on the eyes'
  classes best, the polygons of landmarks 36 to 41 and 42 to 47 must move by (-1.25, -0.6) and (0.15, -0.7) pixels, as
  counted from the first pixel's centre (means of 10 eyes each). The middle of both is (-0.55, -0.65); what remains
  between them is how the two eyes' corners mirror each other. 18 of 20 eyes fit better moved by (-0.5, -0.5) than not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets.formats.points import read_points
from datasets.formats.pts import NUM_POINTS, check_near
from datasets.formats.reading import decode, decode_labels
from datasets.formats.record import Record
from datasets.labels import LabelTable

VERSION = 1
SUFFIXES = (".png", "_seg.png", "_ldmks.txt")


@dataclass(frozen=True)
class FaceSynthetics:
    """A folder of FaceSynthetics. Records have labels uint8 [H, W] and the points

    landmarks  float64 [68, 2], in iBUG's order
    pupils     float64 [2, 2], of the subject's right and left eye
    """

    source: Path
    table: LabelTable
    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def files(self, name: str) -> tuple[Path, ...]:
        return tuple(self.source / f"{name}{suffix}" for suffix in SUFFIXES)

    def record(self, name: str) -> Record:
        picture, mask, text = self.files(name)
        image = decode(picture, "RGB")
        labels = decode_labels(mask, self.table, image.shape[:2])
        return Record(image, labels=labels, points=_points(text, image.shape))


def _points(path: Path, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    points = read_points(path, NUM_POINTS + 2) - 0.5
    check_near(points, shape, path)
    return {"landmarks": points[:NUM_POINTS], "pupils": points[NUM_POINTS:]}


def open_folder(source: Path, *, split: str | None, table: LabelTable) -> FaceSynthetics:
    """Opens a folder of FaceSynthetics, which has no splits. Files of other names are passed over, as its licence is.

    Its samples are those of which there is any file; one that lacks a file is a bad sample. Raises ValueError, one line
    that names the folder, where there is none.
    """
    if split is not None:
        raise ValueError(f"split must be left out, as FaceSynthetics has none, but got {split!r}; use rows")
    found = [path.name for path in source.iterdir() if path.name[0] != "."] if source.is_dir() else []
    names = {name.removesuffix(suffix) for name in found for suffix in SUFFIXES[1:] if name.endswith(suffix)}
    names |= {name.removesuffix(".png") for name in found if name.endswith(".png") and not name.endswith("_seg.png")}
    if not names:
        raise ValueError(f"{source}: must be a folder of ID{{{','.join(SUFFIXES)}}}, but holds none")
    return FaceSynthetics(source, table, tuple(sorted(names)))
