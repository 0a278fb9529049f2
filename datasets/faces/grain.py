"""Smooth noise in three dimensions, read from a table: cheap enough to be asked several times a pixel."""

from functools import cache

import numpy as np

from datasets.faces.compiled import kernel

SIDE = 64  # of the table, which repeats; a power of 2
LAST = SIDE - 1


@cache
def noise_table() -> np.ndarray:
    """Independent standard normal values float32 [SIDE, SIDE, SIDE], always the same."""
    return np.random.Generator(np.random.Philox(key=20)).standard_normal((SIDE, SIDE, SIDE), np.float32)


@kernel
def noise_at(table: np.ndarray, x: float, y: float, z: float) -> float:
    """Noise of about unit deviation at a place, one lattice cell a unit; trilinear, zero mean."""
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    tx, ty, tz = x - fx, y - fy, z - fz
    ix, iy, iz = int(fx) & LAST, int(fy) & LAST, int(fz) & LAST
    jx, jy, jz = (ix + 1) & LAST, (iy + 1) & LAST, (iz + 1) & LAST
    a = table[ix, iy, iz] * (1 - tz) + table[ix, iy, jz] * tz
    b = table[ix, jy, iz] * (1 - tz) + table[ix, jy, jz] * tz
    c = table[jx, iy, iz] * (1 - tz) + table[jx, iy, jz] * tz
    d = table[jx, jy, iz] * (1 - tz) + table[jx, jy, jz] * tz
    low = a * (1 - ty) + b * ty
    high = c * (1 - ty) + d * ty
    return (low * (1 - tx) + high * tx) * 1.45
