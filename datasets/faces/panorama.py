"""Panoramas of a user's folder as light of the embedded faces; datasets/panorama.py reads them and cuts crops.

An equirectangular picture holds the light of every direction. Besides the crop that the camera sees behind the person,
two things are taken from it, and they must agree: the irradiance of a surface by its normal (spherical harmonics), and
the one directional light that can cast a shadow: the brightest place, which is taken out of the harmonics.

Directions are in camera space: x the picture's right, y up, z towards the camera, so the camera looks along -z. A
`turn` of t degrees makes the camera look at the longitude t (0 the panorama's centre column, growing to its right):
longitude atan2(x, -z) and latitude asin(y) of a direction, plus the turn, are a place of the panorama.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from datasets.faces.harmonics import directions, project, rotate, solid_angles
from datasets.panorama import LUMINANCE, Panorama
from datasets.panorama_files import Floats, reduce

_KEY_RADIUS = 20.0  # degrees about the brightest place that may belong to the directional light


class Key(NamedTuple):
    """The one directional light: float32 [3] unit vector towards it, in camera space; float32 [3] linear RGB
    irradiance of a surface that faces it; half its angular size in degrees."""

    direction: Floats
    irradiance: Floats
    softness: float


@dataclass(frozen=True, eq=False)
class PanoramaLight:
    """The light of a panorama, in its units; all arrays read-only."""

    _key: Key
    _irradiance: Floats  # [9, 3], without the key
    _environment: Floats  # [16, 128, 3], without the key

    def irradiance(self, turn: float = 0.0) -> Floats:
        """Spherical harmonics of the irradiance without the key, float32 [9, 3]; see `harmonics.project`."""
        return rotate(self._irradiance, turn)

    def key(self, turn: float = 0.0) -> Key:
        """The brightest place: the light within 20 degrees of it that exceeds the surroundings' mean."""
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        x, y, z = self._key.direction
        return self._key._replace(direction=np.array([c * x + s * z, y, c * z - s * x], np.float32))

    def environment(self, turn: float = 0.0) -> Floats:
        """Radiance without the key, float32 [16, 32, 3]: rows from +y to -y, centre column at -z, +x to its right."""
        turned = np.roll(self._environment, -round(turn / 360 * 128), axis=1)
        return np.ascontiguousarray(turned.reshape(16, 32, 4, 3).mean(2))


@lru_cache(maxsize=16)
def light_of(panorama: Panorama) -> PanoramaLight:
    """The light of a panorama; that of the sixteen last used ones is kept."""
    key, rest = _split(reduce(panorama.pixels, 256))
    parts = project(rest), reduce(rest, 128, 16), key.direction, key.irradiance
    for part in parts:
        part.setflags(write=False)
    return PanoramaLight(key, parts[0], parts[1])


def _split(pixels: Floats) -> tuple[Key, Floats]:
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
