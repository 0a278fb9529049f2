"""Panoramas: equirectangular pictures of a user's folder, and what a camera that stands in one sees.

They are backgrounds of composites here, and light and background of the embedded faces (datasets/faces/panorama.py).
Nothing but OpenCV, Pillow and numpy is needed, so that a training node can read them.

A camera that looks at the longitude `yaw` (0 the panorama's centre column, growing to its right) and `pitch` degrees up
has the rays (x, y, f), x to the picture's right, y up, f forward, turned by Ry(yaw) Rx(pitch): longitude atan2(x, f)
and latitude asin(y) of a unit ray are a place of the panorama. Pixel centres are at half-integers in both pictures.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets.srgb import linear_from_srgb

WIDTH = 1024  # pixels to which a panorama is reduced unless asked otherwise: 0.35 degrees each
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB
SUFFIXES = (".exr", ".hdr", ".jpeg", ".jpg", ".png")
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Panorama:
    """`pixels` float32 [H, 2H, 3], linear RGB radiance in the file's units, 0 and more, read-only.

    `exposure` is the factor that brings the logarithmic average of the luminance to 0.18 (Reinhard et al. 2002,
    eq. 1 and 2, pixels weighted by their solid angle).
    """

    pixels: Floats
    exposure: float

    @classmethod
    def of(cls, pixels: Floats, name: str = "the panorama") -> "Panorama":
        """A panorama of linear pixels float32 [H, 2H, 3] in memory. ValueError if it is black."""
        luminance = pixels @ LUMINANCE
        height = pixels.shape[0]
        weight = np.cos((np.arange(height) + 0.5) / height * np.pi - np.pi / 2)[:, None] * np.ones(luminance.shape)
        mean = float(np.average(luminance, weights=weight))
        if not mean > 0:
            raise ValueError(f"a panorama must hold light, but {name} is black: remove it from the folder")
        average = np.exp(np.average(np.log(luminance + 1e-4 * mean), weights=weight))
        pixels = np.ascontiguousarray(pixels, np.float32)
        pixels.setflags(write=False)
        return cls(pixels, float(0.18 / average))

    def crop(self, yaw: float, pitch: float, fov: float, size: int) -> Floats:
        """What a camera sees that looks at longitude `yaw`, `pitch` degrees up: float32 [size, size, 3], linear.

        `fov` is the horizontal field of view in degrees, less than 180. Bilinear; the panorama's sides join.
        """
        height, width = self.pixels.shape[:2]
        focal = 0.5 * size / np.tan(np.radians(fov) / 2)
        right = np.arange(size) + 0.5 - 0.5 * size
        up = -right[:, None]
        sin, cos = np.sin(np.radians(pitch)), np.cos(np.radians(pitch))
        y, forward = up * cos + focal * sin, focal * cos - up * sin
        # The yaw is added to the longitude, which is the turn about the vertical axis.
        longitude = np.arctan2(right, forward) + np.radians(yaw)
        latitude = np.arctan2(y, np.hypot(right, forward))
        column = ((longitude / (2 * np.pi) + 0.5) * width - 0.5) % width
        row = np.clip((0.5 - latitude / np.pi) * height - 0.5, 0, height - 1)
        to = column.astype(np.float32), row.astype(np.float32)
        return cv2.remap(self.pixels, *to, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Panoramas:
    """The panoramas of `folder`: `names` sorted, their headers checked. Cheap to pickle; pixels stay in the process.

    `width` is that to which larger ones are reduced, in pixels.
    """

    folder: Path
    names: tuple[str, ...]
    width: int

    def __init__(self, folder: str | Path, width: int = WIDTH) -> None:
        """ValueError, one line, if the folder is missing or holds no panorama, or if a file cannot be one."""
        folder = Path(folder)
        if width < 2 or width % 2:
            raise ValueError(f"the width of panoramas must be even and at least 2, but got {width}")
        if not folder.is_dir():
            raise ValueError(f"the folder of panoramas must exist, but {folder} is none: give another with --panoramas")
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
        if not files:
            raise ValueError(f"a folder of panoramas must hold {', '.join(SUFFIXES)} files, but {folder} has none")
        for file in files:
            wide, high = _header(file)
            if wide != 2 * high:
                raise ValueError(f"a panorama must be twice as wide as high, but {file} is {wide}x{high}: remove it")
        object.__setattr__(self, "folder", folder)
        object.__setattr__(self, "names", tuple(f.name for f in files))
        object.__setattr__(self, "width", width)

    def load(self, name: str) -> Panorama:
        """The panorama `name`; the sixteen last used ones are kept. ValueError if unknown, unreadable or black."""
        if name not in self.names:
            raise ValueError(f"a panorama must be one of {', '.join(self.names)} in {self.folder}, but got {name!r}")
        return _load(self.folder / name, self.width, (self.folder / name).stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _load(path: Path, width: int, _changed: int) -> Panorama:
    pixels = _read(path)
    if pixels.shape[1] > width:
        pixels = reduce(pixels, width)
    return Panorama.of(pixels, str(path))


def reduce(pixels: Floats, width: int, height: int = 0) -> Floats:
    """Averaged over areas; twice as wide as high where no height is given."""
    return cv2.resize(pixels, (width, height or width // 2), interpolation=cv2.INTER_AREA).astype(np.float32)


def _header(path: Path) -> tuple[int, int]:
    """Width and height as the file's first bytes say."""
    reader = {".hdr": _radiance_header, ".exr": _exr_header}.get(path.suffix.lower(), _picture_header)
    try:
        return reader(path)
    except (OSError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"a panorama must be readable, but {path} is not ({reason}): replace or remove it") from None


def _picture_header(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _radiance_header(path: Path) -> tuple[int, int]:
    """Of Radiance's picture format (Ward, `ray/doc/filefmts`): magic, variables, an empty line, the resolution."""
    with path.open("rb") as file:
        head = file.read(8192)
    text, empty, rest = head.partition(b"\n\n")
    words = rest.split(b"\n", 1)[0].split()
    if not text.startswith(b"#?") or not empty or len(words) != 4 or (words[0], words[2]) != (b"-Y", b"+X"):
        raise ValueError("its header is not that of a Radiance picture with its first row on top")
    return int(words[3]), int(words[1])


def _exr_header(path: Path) -> tuple[int, int]:
    """Of OpenEXR's file layout: magic number, version, attributes; the data window is four int32."""
    with path.open("rb") as file:
        head = file.read(65536)
    if head[:4] != b"\x76\x2f\x31\x01":
        raise ValueError("its header is not OpenEXR's")
    if "OpenEXR:                     NO" in cv2.getBuildInformation():
        raise ValueError("this OpenCV was built without OpenEXR, so convert it to .hdr")
    at = head.index(b"dataWindow\0box2i\0") + 21
    left, top, right, bottom = np.frombuffer(head[at : at + 16], "<i4").tolist()
    return right - left + 1, bottom - top + 1


def _read(path: Path) -> Floats:
    """Linear RGB float32 [H, W, 3], 0 and more; 8-bit files are taken as sRGB."""
    os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
    try:
        image = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f"a panorama must be readable, but OpenCV cannot decode {path}: replace or remove it")
    pixels: NDArray[Any] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if pixels.dtype.kind == "u":
        levels = 256 if pixels.dtype == np.uint8 else 65536
        pixels = linear_from_srgb(np.arange(levels) / (levels - 1)).astype(np.float32)[pixels]
    return np.clip(np.nan_to_num(pixels, nan=0.0, posinf=65504.0), 0, None).astype(np.float32)
