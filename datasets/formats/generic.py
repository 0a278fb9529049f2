"""Data of one's own, in whatever layout: `dataset.yaml` in its folder says where things are. Most often by patterns:

    image: "photos/{id}.jpg"             all but the image may be left out; put patterns in quotes
    segmentation: "masks/{id}.png"
    alpha: "mattes/{id}.png"
    landmarks: "points/{id}.txt"
    labels: mine.yaml                    what the masks' values mean, see datasets/labels
    splits: {train: train.txt, val: val.txt}

Samples are the images that are there. `{id}` is any text, with slashes too: photos/ann/3.jpg is sample `ann/3`. It may
stand twice, as in "{id}/{id}_rgb.png". With "{split}/images/{id}.jpg" the folders are the splits, and their names begin
the ids: `train/7`. A file is no image where it is another file of an image that is there: "{id}.png" does not find the
masks of "{id}_mask.png". What begins with a dot is passed over. `splits` are text files of one id a line.

Instead of patterns and splits, `table: samples.csv` names a table, comma-separated, with a header. Its columns are
`image` and as wanted `segmentation`, `alpha`, `landmarks` (paths from the folder, or absolute), `split`, `id` (the
image's path without its ending unless given) and, instead of `landmarks`, the points themselves: x0,y0,x1,y1 ...

    image          any image, 8 bits a channel or 16; upright by its EXIF orientation, as everything else must be
    segmentation   one channel or a palette, as wide and high as its image. Values are the ids of the label table: the
                   nine common classes 0 to 8 (labels/generic.yaml) unless `labels` names a file beside this one or a
                   ready table. 255 is ignored, unless a label has that id, as in masks of 0 and 255:
                       classes: [background, person]
                       labels: {background: background, person: {id: 255, is: person}}
    alpha          one channel of 1, 8 or 16 bits or three equal ones, as wide and high as its image, or the last
                   channel of an image with transparency, which may be the image itself; unless that is 255 throughout
    landmarks      one `x y` a line, pixels, as points.py reads them; the same number for every sample. `origin` says
                   what the centre of the first pixel is called: 0 for (0, 0), 1 for (1, 1), corner for (0.5, 0.5). It
                   is 1 for .pts files and 0 for all else unless given.
                   Points of what the image's edge cuts may lie beyond it, by a quarter of their box

A sample without a file that a pattern or the table promises is a bad sample, as any with a bad file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.formats.generic_samples import Patterns, Table
from datasets.formats.generic_settings import FILE, Origin, Settings, load_settings
from datasets.formats.points import read_points
from datasets.formats.pts import check_near
from datasets.formats.reading import decode, decode_alpha, decode_labels
from datasets.formats.record import Record
from datasets.labels import LIBRARY, LabelTable

VERSION = 2
FIRST_PIXEL = {0: 0.0, 1: 1.0, "corner": 0.5}  # both coordinates of its centre


@dataclass(frozen=True)
class Generic:
    """A folder with its dataset.yaml. Records have the image and, as far as the settings name them, labels,
    pictures["alpha"] uint8 [H, W] and points["landmarks"] float64 [n, 2]."""

    samples: Patterns | Table
    origin: Origin | None
    table: LabelTable | None
    names: tuple[str, ...]
    options: Mapping[str, Any]

    def files(self, name: str) -> tuple[Path, ...]:
        return tuple(self.samples.files(name).values())

    def record(self, name: str) -> Record:
        files = self.samples.files(name)
        absent = [kind for kind in self.samples.kinds if kind not in files]
        if absent:
            raise ValueError(f"{self.samples.where(name)}: {absent[0]} must be given, but is empty")
        image = decode(files["image"], "RGB")
        shape = image.shape[:2]
        labels = None if self.table is None else decode_labels(files["segmentation"], self.table, shape)
        pictures = {"alpha": decode_alpha(files["alpha"], shape)} if "alpha" in files else {}
        points = self._landmarks(name, files, shape)
        return Record(image, labels=labels, pictures=pictures, points={} if points is None else {"landmarks": points})

    def _landmarks(self, name: str, files: Mapping[str, Path], shape: tuple[int, ...]) -> np.ndarray | None:
        if "landmarks" in files:
            points, where = read_points(files["landmarks"]), str(files["landmarks"])
        elif self.samples.num_points:
            points, where = self.samples.points(name), self.samples.where(name)
        else:
            return None
        height, width = shape
        if min(height, width) > 2 and points.min() >= 0 and points.max() <= 1:
            raise ValueError(
                f"{where}: landmarks must be pixels, but all are between 0 and 1; "
                f"multiply x by {width} and y by {height} and give `origin: corner`"
            )
        origin = self.origin if self.origin is not None else int(where.lower().endswith(".pts"))
        points = points - FIRST_PIXEL[origin]
        check_near(points, shape, Path(where))
        return points


def own_labels(source: Path) -> Path | None:
    """The file of the label table that a folder's dataset.yaml asks for; None where it has no segmentation.

    Raises ValueError, one line that names dataset.yaml, where that is not as it must be.
    """
    settings = load_settings(source)
    if "segmentation" not in _samples(source, settings).kinds:
        if settings.labels is not None:
            raise ValueError(
                f"{source / FILE}: labels must be left out where there is no segmentation, but got {settings.labels!r}"
            )
        return None
    try:
        return LIBRARY.find(settings.labels or "generic", source)
    except ValueError as error:
        raise ValueError(f"{source / FILE}: labels: {error}") from None


def open_folder(source: Path, *, split: str | None, table: LabelTable | None) -> Generic:
    """Opens a folder as its dataset.yaml says.

    split  one of `splits`, of the folders at {split}, or of the table's column split
    table  of the segmentation; None where there is none, see own_labels

    Raises ValueError, one line that names the file, for settings, lists or a table that are not right, and where there
    is no sample.
    """
    settings = load_settings(source)
    samples = _samples(source, settings)
    options = settings.model_dump(mode="json", exclude_defaults=True, exclude={"labels"})
    return Generic(samples, settings.origin, table, tuple(sorted(samples.names(split))), options)


def _samples(source: Path, settings: Settings) -> Patterns | Table:
    if settings.table is not None:
        return Table.load(source, settings.table)
    return Patterns(source, settings.patterns, settings.splits)
