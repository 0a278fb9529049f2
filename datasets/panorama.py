"""Panoramas: equirectangular pictures of a user's folder, and what a camera that stands in one sees.

They are backgrounds of composites here, and light and background of the embedded faces (datasets/faces/panorama.py).
Nothing but OpenCV, Pillow and numpy is needed (but for .exr), so that a training node can read them.

A camera that looks at the longitude `yaw` (0 the panorama's centre column, growing to its right) and `pitch` degrees up
has the rays (x, y, f), x to the picture's right, y up, f forward, turned by Ry(yaw) Rx(pitch): longitude atan2(x, f)
and latitude asin(y) of a unit ray are a place of the panorama. Pixel centres are at half-integers in both pictures.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

from datasets.panorama_files import Floats, check_header, list_panoramas, read_panorama
from datasets.srgb import srgb_from_linear

WIDTH = 1024  # pixels to which a panorama is reduced unless asked otherwise: 0.35 degrees each
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB
PITCH, FOV, STOPS = (-15.0, 15.0), (40.0, 90.0), (-1.0, 1.0)  # of backgrounds: degrees, degrees, exposure
WHITE = 4.0  # exposed linear value that becomes white: 4.5 stops above the mid-grey 0.18


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

    def natural_size(self, fov: float) -> int:
        """Pixels of a crop that is in its middle as fine as the panorama is."""
        return max(1, round(self.pixels.shape[1] * np.tan(np.radians(fov) / 2) / np.pi))

    def picture(self, yaw: float, pitch: float, fov: float, stops: float, size: int) -> np.ndarray:
        """A photograph of `crop`, exposed by `stops` more than `exposure`: uint8 [size, size, 3], sRGB."""
        return tone_map(self.crop(yaw, pitch, fov, size), self.exposure * 2**stops)


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
        files = list_panoramas(folder)
        for file in files:
            check_header(file)
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
    return Panorama.of(read_panorama(path, width), str(path))


def tone_map(linear: Floats, exposure: float) -> np.ndarray:
    """Linear RGB [H, W, 3], 0 and more, times `exposure`, as an 8-bit sRGB picture: uint8 [H, W, 3].

    Each channel x becomes x (1 + x / WHITE^2) / (1 + x), at most 1 (Reinhard et al. 2002, eq. 4), and then sRGB.
    """
    x = np.minimum(linear * np.float32(exposure), np.float32(WHITE))
    y = x * (1 + x / np.float32(WHITE**2)) / (1 + x)
    return _encoded()[np.rint(np.minimum(y, 1) * 65535).astype(np.uint16)]


@cache
def _encoded() -> np.ndarray:
    """The sRGB bytes of linear values in steps of 1 / 65535, finer than any byte's."""
    table = np.rint(255 * srgb_from_linear(np.arange(65536) / 65535)).astype(np.uint8)
    table.setflags(write=False)
    return table
