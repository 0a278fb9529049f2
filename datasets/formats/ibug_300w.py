"""300-W (Sagonas et al. 2013, 2016): photographs with 68 landmarks, gathered from five sources by the iBUG group.

    afw/                        337          ibug/         135
    helen/{trainset,testset}/   2000, 330    01_Indoor/    300
    lfpw/{trainset,testset}/    811, 224     02_Outdoor/   300

each with NAME.jpg or NAME.png and NAME.pts (see pts.py; 1-based). 01_Indoor and 02_Outdoor are a download of their own,
with a folder 300W above them, which may be there or not. Mirrored images, NAME_mirror, are passed over.

    train        afw, helen/trainset, lfpw/trainset            3148
    test         01_Indoor, 02_Outdoor                         600, the test set of the challenge
    full         helen/testset, lfpw/testset, ibug             689
    common       helen/testset, lfpw/testset                   554
    challenging  ibug                                          135
    indoor       01_Indoor, and outdoor: 02_Outdoor            300 each
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.formats.pts import check_near, read_pts
from datasets.formats.reading import decode
from datasets.formats.record import Record

VERSION = 1
SPLITS = {
    "train": ("afw", "helen/trainset", "lfpw/trainset"),
    "test": ("01_Indoor", "02_Outdoor"),
    "full": ("helen/testset", "lfpw/testset", "ibug"),
    "common": ("helen/testset", "lfpw/testset"),
    "challenging": ("ibug",),
    "indoor": ("01_Indoor",),
    "outdoor": ("02_Outdoor",),
}
FOLDERS = tuple(dict.fromkeys(folder for folders in SPLITS.values() for folder in folders))
SUFFIXES = (".jpg", ".png")


@dataclass(frozen=True)
class Ibug300W:
    """Folders of 300-W: the image file of each name. Records have points["landmarks"] float64 [68, 2].

    The landmarks of a face that the image's edge cuts may be outside of the image, by at most pts.MARGIN.
    """

    images: Mapping[str, Path]
    names: tuple[str, ...]
    options: Mapping[str, Any]

    def files(self, name: str) -> tuple[Path, ...]:
        return self.images[name], self.images[name].with_suffix(".pts")

    def record(self, name: str) -> Record:
        picture, path = self.files(name)
        image = decode(picture, "RGB")
        landmarks = read_pts(path)
        check_near(landmarks, image.shape, path)
        return Record(image, points={"landmarks": landmarks})


def open_folder(source: Path, *, split: str | None, table: None) -> Ibug300W:
    """Opens the release, or one of its folders: afw, helen, helen/trainset and so on, known by their names.

    split  one of SPLITS; None is all folders that are there. Ids are `helen/trainset/NAME`, whatever is opened

    Raises ValueError, one line that names the file or folder, for a folder in another layout, a release without a
    folder of the split, and an image without its .pts or a .pts without its image.
    """
    if split not in (None, *SPLITS):
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, but got {split!r}")
    found, whole = _folders(source)
    if not found:
        raise ValueError(f"{source}: must have, or be, one of {', '.join(FOLDERS)}, but has and is none")
    wanted = FOLDERS if split is None else SPLITS[split]
    folders = [folder for folder in wanted if folder in found]
    absent = [folder for folder in wanted if folder not in found]
    if split is not None and absent and (whole or not folders):
        raise ValueError(
            f"{source}: split {split} must have {', '.join(wanted)}, but {', '.join(absent)} is missing; "
            "add it, or open the folders one by one"
        )
    images = {f"{folder}/{path.stem}": path for folder in folders for path in _images(found[folder])}
    return Ibug300W(images, tuple(sorted(images)), {"folders": folders})


def _folders(source: Path) -> tuple[dict[str, Path], bool]:
    """Where each of FOLDERS is, and whether `source` is the release, rather than one of them or helen or lfpw."""
    places = ((folder, top / folder) for folder in FOLDERS for top in (source, source / "300W"))
    inside = {folder: path for folder, path in places if path.is_dir()}
    if inside:
        return inside, True
    place = Path(os.path.abspath(source))
    for folder in FOLDERS:
        if place.parts[-folder.count("/") - 1 :] == Path(folder).parts and place.is_dir():
            return {folder: source}, False
    under = ((f"{place.name}/{name}", source / name) for name in ("trainset", "testset"))
    return {folder: path for folder, path in under if folder in FOLDERS and path.is_dir()}, False


def _images(folder: Path) -> Iterator[Path]:
    """The images of a folder, each of which has its .pts."""
    files = [path for path in folder.iterdir() if path.name[0] != "." and not path.stem.endswith("_mirror")]
    images: dict[str, Path] = {}
    for path in sorted(path for path in files if path.suffix in SUFFIXES):
        if path.stem in images:
            raise ValueError(f"{path}: a .pts must have one image, but {images[path.stem].name} is there, too")
        images[path.stem] = path
    points = {path.stem: path for path in files if path.suffix == ".pts"}
    for stem in sorted(images.keys() - points.keys()):
        raise ValueError(f"{images[stem]}: an image must have its {stem}.pts beside it, but there is none")
    for stem in sorted(points.keys() - images.keys()):
        raise ValueError(f"{points[stem]}: must have its image {stem}.jpg or .png beside it, but there is none")
    if not images:
        raise ValueError(f"{folder}: must hold images with .pts, but has none")
    yield from images.values()
