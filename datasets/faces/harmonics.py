"""Spherical harmonics of order 2: the irradiance of a surface by its normal, under the light of every direction.

An environment is an equirectangular picture of radiance, rows from +y to -y, the centre column at -z, +x to its right.
What a matte surface gets of it varies so slowly with the normal that nine coefficients per channel hold it within a
few percent (Ramamoorthi & Hanrahan 2001). Directions are in camera space: x the picture's right, y up, z towards the
camera.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]


def directions(height: int, width: int) -> NDArray[np.float64]:
    """Unit vectors [height, width, 3] in camera space through the pixel centres of an environment at turn 0."""
    latitude = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    longitude = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    around = np.cos(latitude)[:, None]
    rows = np.sin(latitude)[:, None] * np.ones(width)
    return np.stack([around * np.sin(longitude), rows, -around * np.cos(longitude)], -1)


def solid_angles(height: int, width: int) -> NDArray[np.float64]:
    """Steradians [height, width] of the pixels of an environment; they sum to 4 pi."""
    edges = np.sin((0.5 - np.arange(height + 1) / height) * np.pi)
    return ((edges[:-1] - edges[1:]) * 2 * np.pi / width)[:, None] * np.ones(width)


def harmonics(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Real spherical harmonics to order 2 of unit vectors [..., 3]: [..., 9], as Ramamoorthi & Hanrahan 2001, eq. 3."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float64), -1, 0)
    constant, linear, square = 0.282095 * np.ones_like(x), 0.488603, 1.092548
    zonal, sectoral = 0.315392 * (3 * z * z - 1), 0.546274 * (x * x - y * y)
    first = [constant, linear * y, linear * z, linear * x]
    return np.stack([*first, square * x * y, square * y * z, zonal, square * x * z, sectoral], -1)


def project(environment: _Floats) -> _Floats:
    """Irradiance of an environment [h, 2h, 3] as spherical harmonics, float32 [9, 3] (Ramamoorthi & Hanrahan 2001).

    `evaluate` of it is irradiance E, without a division by pi: pi L for the constant radiance L. A matte surface of
    albedo a sends a / pi * E to the camera.
    """
    height, width = environment.shape[:2]
    return (_projection(height, width) @ environment.reshape(-1, 3)).astype(np.float32)


def evaluate(sh: _Floats, normals: NDArray[np.floating]) -> NDArray[np.float64]:
    """Irradiance [..., 3] of surfaces with unit normals [..., 3], not below 0."""
    return np.maximum(harmonics(normals) @ sh, 0)


def rotate(sh: _Floats, turn: float) -> _Floats:
    """The harmonics of an environment turned by `turn` degrees, float32 [9, 3]; exact, as order 2 is closed."""
    if turn == 0:
        return sh
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    probes, inverse = _probes()
    return (inverse @ (harmonics(probes @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])) @ sh)).astype(np.float32)


@lru_cache(maxsize=1)
def _probes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """32 directions, and the matrix from values at them to coefficients."""
    probes = directions(4, 8).reshape(-1, 3)
    return probes, np.asarray(np.linalg.pinv(harmonics(probes)), np.float64)


@lru_cache(maxsize=4)
def _projection(height: int, width: int) -> _Floats:
    """[9, height * width]: the harmonics times the cosine lobe's factors (eq. 8), integrated over each pixel."""
    fine = harmonics(directions(4 * height, 4 * width)) * solid_angles(4 * height, 4 * width)[..., None]
    pixels = fine.reshape(height, 4, width, 4, 9).sum((1, 3)).reshape(-1, 9)
    lobe = np.array([np.pi] + [2 * np.pi / 3] * 3 + [np.pi / 4] * 5)
    return np.ascontiguousarray((pixels * lobe).T.astype(np.float32))
