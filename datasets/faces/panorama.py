"""Panoramas of a user's folder as light and as background of the embedded faces.

An equirectangular picture holds the light of every direction. Three things are taken from it, and they must agree:
the crop that the camera sees behind the person, the irradiance of a surface by its normal (spherical harmonics), and
the one directional light that can cast a shadow: the brightest place, which is taken out of the harmonics.

Directions are in camera space: x the picture's right, y up, z towards the camera, so the camera looks along -z. A
`turn` of t degrees makes the camera look at the longitude t (0 the panorama's centre column, growing to its right):
longitude atan2(x, -z) and latitude asin(y) of a direction, plus the turn, are a place of the panorama.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets.faces.camera import linear_from_srgb
from datasets.faces.compiled import kernel
from datasets.faces.harmonics import directions, project, rotate, solid_angles

WIDTH = 1024  # pixels to which a panorama is reduced: 0.35 degrees each
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB
SUFFIXES = (".exr", ".hdr", ".jpeg", ".jpg", ".png")
_KEY_RADIUS = 20.0  # degrees about the brightest place that may belong to the directional light
_Floats = NDArray[np.float32]


class Key(NamedTuple):
    """The one directional light: float32 [3] unit vector towards it, in camera space; float32 [3] linear RGB
    irradiance of a surface that faces it; half its angular size in degrees."""

    direction: _Floats
    irradiance: _Floats
    softness: float


@dataclass(frozen=True, eq=False)
class Panorama:
    """`pixels` float32 [H, W, 3], linear RGB radiance in the file's units, W at most 1024; all arrays read-only.

    `exposure` is the factor that brings the logarithmic average of the luminance to 0.18 (Reinhard et al. 2002,
    eq. 1 and 2, pixels weighted by their solid angle).
    """

    pixels: _Floats
    exposure: float
    _key: Key
    _irradiance: _Floats  # [9, 3], without the key
    _environment: _Floats  # [16, 128, 3], without the key

    def crop(self, yaw: float, pitch: float, fov: float, size: int) -> _Floats:
        """What a camera sees that looks at longitude `yaw`, `pitch` degrees up: float32 [size, size, 3], linear.

        `fov` is the horizontal field of view in degrees. Bilinear; pixel centres at half-integers; the panorama's
        sides join.
        """
        focal = 0.5 * size / np.tan(np.radians(fov) / 2)
        return _crop(self.pixels, np.radians(yaw), np.radians(pitch), focal, size)

    def irradiance(self, turn: float = 0.0) -> _Floats:
        """Spherical harmonics of the irradiance without the key, float32 [9, 3]; see `harmonics.project`."""
        return rotate(self._irradiance, turn)

    def key(self, turn: float = 0.0) -> Key:
        """The brightest place: the light within 20 degrees of it that exceeds the surroundings' mean."""
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        x, y, z = self._key.direction
        return self._key._replace(direction=np.array([c * x + s * z, y, c * z - s * x], np.float32))

    def environment(self, turn: float = 0.0) -> _Floats:
        """Radiance without the key, float32 [16, 32, 3]: rows from +y to -y, centre column at -z, +x to its right."""
        turned = np.roll(self._environment, -round(turn / 360 * 128), axis=1)
        return np.ascontiguousarray(turned.reshape(16, 32, 4, 3).mean(2))


@dataclass(frozen=True)
class Panoramas:
    """The panoramas of `folder`: `names` sorted, their headers checked. Cheap to pickle; pixels stay in the process."""

    folder: Path
    names: tuple[str, ...]

    def __init__(self, folder: str | Path) -> None:
        """ValueError, one line, if the folder is missing or holds no panorama, or if a file cannot be one."""
        folder = Path(folder)
        if not folder.is_dir():
            raise ValueError(f"the folder of panoramas must exist, but {folder} is none: give another with --panoramas")
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
        if not files:
            raise ValueError(f"a folder of panoramas must hold {', '.join(SUFFIXES)} files, but {folder} has none")
        for file in files:
            width, height = _header(file)
            if width != 2 * height:
                raise ValueError(f"a panorama must be twice as wide as high, but {file} is {width}x{height}: remove it")
        object.__setattr__(self, "folder", folder)
        object.__setattr__(self, "names", tuple(f.name for f in files))

    def load(self, name: str) -> Panorama:
        """The panorama `name`; the sixteen last used ones are kept. ValueError if unknown, unreadable or black."""
        if name not in self.names:
            raise ValueError(f"a panorama must be one of {', '.join(self.names)} in {self.folder}, but got {name!r}")
        return _load(self.folder / name, (self.folder / name).stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _load(path: Path, _changed: int) -> Panorama:
    pixels = _read(path)
    if pixels.shape[1] > WIDTH:
        pixels = _reduce(pixels, WIDTH)
    return prepare(pixels, str(path))


def prepare(pixels: _Floats, name: str = "the panorama") -> Panorama:
    """A panorama of linear pixels float32 [H, 2H, 3] in memory. ValueError if it is black."""
    luminance = pixels @ LUMINANCE
    height = pixels.shape[0]
    weight = np.cos((np.arange(height) + 0.5) / height * np.pi - np.pi / 2)[:, None] * np.ones(luminance.shape)
    mean = float(np.average(luminance, weights=weight))
    if not mean > 0:
        raise ValueError(f"a panorama must hold light, but {name} is black: remove it from the folder")
    average = np.exp(np.average(np.log(luminance + 1e-4 * mean), weights=weight))
    key, rest = _split(_reduce(pixels, 256))
    environment = _reduce(rest, 128, 16)
    parts = np.ascontiguousarray(pixels), project(rest), environment, key.direction, key.irradiance
    for part in parts:
        part.setflags(write=False)
    return Panorama(parts[0], float(0.18 / average), key, parts[1], parts[2])


def _reduce(pixels: _Floats, width: int, height: int = 0) -> _Floats:
    """Averaged over areas; twice as wide as high where no height is given."""
    return cv2.resize(pixels, (width, height or width // 2), interpolation=cv2.INTER_AREA).astype(np.float32)


def _split(pixels: _Floats) -> tuple[Key, _Floats]:
    """The key at turn 0 and what is left of [h, w, 3] without it."""
    height, width = pixels.shape[:2]
    luminance, vectors, sizes = pixels @ LUMINANCE, directions(height, width), solid_angles(height, width)
    places = luminance.reshape(32, height // 32, 64, width // 64).mean((1, 3))
    towards = directions(32, 64).reshape(-1, 3)[places.argmax()]
    for _ in range(2):  # the second time about the light's own centre
        angle = np.degrees(np.arccos(np.clip(vectors @ towards, -1, 1)))
        inside, ring = angle < _KEY_RADIUS, (angle >= _KEY_RADIUS) & (angle < 1.75 * _KEY_RADIUS)
        around = np.average(luminance[ring], weights=sizes[ring])
        share = np.where(inside, np.maximum(0, 1 - around / np.maximum(luminance, 1e-12)), 0)
        flux = share * luminance * sizes
        mean = (flux[..., None] * vectors).sum((0, 1)) / max(flux.sum(), 1e-12)
        length = np.linalg.norm(mean)
        towards = mean / length if length > 0 else towards
    cosines = share * sizes * (vectors @ towards)
    irradiance = (cosines[..., None] * pixels).sum((0, 1))
    spread = np.degrees(np.arccos(np.clip(2 * length - 1, -1, 1)))  # of an even disc with that mean vector
    key = Key(towards.astype(np.float32), irradiance.astype(np.float32), float(min(spread, _KEY_RADIUS)))
    return key, (pixels * (1 - share[..., None])).astype(np.float32)


@kernel
def _crop(pixels, yaw, pitch, focal, size):  # type: ignore[no-untyped-def]
    height, width = pixels.shape[:2]
    out = np.empty((size, size, 3), np.float32)
    cos_yaw, sin_yaw, cos_pitch, sin_pitch = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    for i in range(size):
        up = 0.5 * size - (i + 0.5)
        y = up * cos_pitch + focal * sin_pitch
        forward = focal * cos_pitch - up * sin_pitch
        for j in range(size):
            right = j + 0.5 - 0.5 * size
            x = right * cos_yaw + forward * sin_yaw
            z = forward * cos_yaw - right * sin_yaw
            u = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * width - 0.5
            v = (0.5 - np.arctan2(y, np.sqrt(x * x + z * z)) / np.pi) * height - 0.5
            v = min(max(v, 0.0), height - 1.0)
            u0, v0 = int(np.floor(u)), int(v)
            a, b = np.float32(u - u0), np.float32(v - v0)
            v1, u1 = min(v0 + 1, height - 1), (u0 + 1) % width
            u0 %= width
            for c in range(3):
                top = pixels[v0, u0, c] + a * (pixels[v0, u1, c] - pixels[v0, u0, c])
                low = pixels[v1, u0, c] + a * (pixels[v1, u1, c] - pixels[v1, u0, c])
                out[i, j, c] = top + b * (low - top)
    return out


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


def _read(path: Path) -> _Floats:
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
