"""A folder of panoramas, from each of which several pictures are cut: backgrounds for compositing.

    {name}.hdr, .exr, .jpg, .jpeg or .png      equirectangular: twice as wide as high

A crop is what a camera sees that stands in the panorama (Panorama.picture), as fine in its middle as the panorama
itself. Crop k of a file is a function of the file's name, k and a seed, so that neither another panorama nor a higher
number of crops changes it: yaws go round the circle in steps of the golden ratio, which are spread evenly for any
number of them, from where the name says; pitch, field of view and exposure are drawn from PITCH, FOV and STOPS.

Ids are `FILE/0000`. `rows` chooses among crops, so that pictures of one place may be on both sides of a division; for
disjoint places, keep the panoramas in two folders.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from datasets.formats.record import Record
from datasets.labels import LabelTable
from datasets.panorama import FOV, PITCH, STOPS, Panorama
from datasets.panorama_files import list_panoramas, read_panorama

VERSION = 1
CROPS = 8  # of a panorama, unless asked otherwise
MOST = 10_000
WIDTH = 4096  # pixels to which a panorama is reduced: 240 to 650 for a crop of 20 to 55 degrees, and 100 MB
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class PanoramaCrops:
    """A folder of panoramas. Records have the image alone, square, of a size that goes with its field of view."""

    source: Path
    seed: int
    names: tuple[str, ...]
    options: Mapping[str, Any]

    def files(self, name: str) -> tuple[Path, ...]:
        return (self.source / name.rpartition("/")[0],)

    def record(self, name: str) -> Record:
        (path,) = self.files(name)
        panorama = _load(path, path.stat().st_mtime_ns)
        yaw, pitch, fov, stops = view(path.name, int(name.rpartition("/")[2]), self.seed)
        return Record(panorama.picture(yaw, pitch, fov, stops, panorama.natural_size(fov)))


def view(file: str, k: int, seed: int) -> tuple[float, float, float, float]:
    """Yaw, pitch and horizontal field of view in degrees, and exposure in stops, of crop k >= 0 of a panorama."""
    yaw = 360 * ((_generator(seed, file).random() + k * GOLDEN) % 1)
    rng = _generator(seed, file, k)
    return yaw, rng.uniform(*PITCH), rng.uniform(*FOV), rng.uniform(*STOPS)


def open_folder(
    source: Path, *, split: str | None, table: LabelTable | None, crops: int = CROPS, crops_seed: int = 0
) -> PanoramaCrops:
    """Opens a folder of panoramas, which has no splits and no classes.

    crops       of each panorama, 1 to MOST
    crops_seed  0 or more; another seed gives other crops

    A file that cannot be a panorama makes bad samples. Raises ValueError, one line, without the folder or any file, for
    a split, and for numbers that cannot be.
    """
    if split is not None:
        raise ValueError(f"split must be left out, as a folder of panoramas has none, but got {split!r}; use folders")
    if not 1 <= crops <= MOST:
        raise ValueError(f"`1 <= crops <= {MOST}` must hold, but got {crops}")
    if crops_seed < 0:
        raise ValueError(f"`crops_seed >= 0` must hold, but got {crops_seed}")
    files = [path.name for path in list_panoramas(source)]
    names = sorted(f"{file}/{k:04d}" for file in files for k in range(crops))
    return PanoramaCrops(source, crops_seed, tuple(names), {"crops": crops, "crops_seed": crops_seed, "width": WIDTH})


@lru_cache(maxsize=2)
def _load(path: Path, _changed: int) -> Panorama:
    return Panorama.of(read_panorama(path, WIDTH), str(path))


def _generator(*key: str | int) -> np.random.Generator:
    digest = hashlib.blake2b("/".join(map(str, ("panoramas", *key))).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, "<u8")))
