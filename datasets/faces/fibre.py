"""Light on hair: a strand is a cylinder that scatters across its length, with two highlights (Kajiya and Kay 1989)."""

from typing import NamedTuple

import numpy as np

from datasets.faces.compiled import inlined
from datasets.faces.light import sh_irradiance
from datasets.faces.surface import Lamp, arriving

BIAS = 0.012  # metres: strands next to each other do not cast shadows, their depth in the hair tells how dark they are


class Locks(NamedTuple):
    """All strands of a picture, camera space."""

    points: np.ndarray  # float32 [n, k, 3] metres, root first
    outward: np.ndarray  # float32 [n, k, 3] unit, normal of the hair's volume
    depth: np.ndarray  # float32 [n, k], 0 innermost .. 1 outermost
    width: np.ndarray  # float32 [n] metres
    color: np.ndarray  # float32 [n, 3] linear RGB
    segment: np.ndarray  # uint8 [n]


@inlined
def fibre(locks: Locks, s: int, k: int, t: float, across: float, place, view, lamp: Lamp):  # type: ignore[no-untyped-def]
    """Radiance and normal (6 floats) of segment k of strand s; t along it, `across` -1 to 1 across it."""
    tx = locks.points[s, k + 1, 0] - locks.points[s, k, 0]
    ty = locks.points[s, k + 1, 1] - locks.points[s, k, 1]
    tz = locks.points[s, k + 1, 2] - locks.points[s, k, 2]
    length = np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9
    tx, ty, tz = tx / length, ty / length, tz / length
    ox, oy, oz = locks.outward[s, k, 0], locks.outward[s, k, 1], locks.outward[s, k, 2]
    # The normal: outward and towards the eye, across the strand, and round as a cylinder's.
    along = ox * tx + oy * ty + oz * tz
    sx, sy, sz = ty * view[2] - tz * view[1], tz * view[0] - tx * view[2], tx * view[1] - ty * view[0]
    side = 0.6 * across / (np.sqrt(sx * sx + sy * sy + sz * sz) + 1e-9)
    nx = ox - along * tx + side * sx + 0.45 * view[0]
    ny = oy - along * ty + side * sy + 0.45 * view[1]
    nz = oz - along * tz + side * sz + 0.45 * view[2]
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
    nx, ny, nz = nx / length, ny / length, nz / length

    deep = locks.depth[s, k] * (1 - t) + locks.depth[s, k + 1] * t
    open_share = 0.30 + 0.70 * deep
    lit = 1.0 - lamp.shadow * (1.0 - arriving(lamp, place, BIAS) * (0.45 + 0.55 * deep))
    er, eg, eb = sh_irradiance(lamp.sh, nx, ny, nz)
    light, key = lamp.direction, lamp.key
    cosine = tx * light[0] + ty * light[1] + tz * light[2]
    facing = max((nx * light[0] + ny * light[1] + nz * light[2] + 0.35) / 1.35, 0.0)
    diffuse = np.sqrt(max(1.0 - cosine * cosine, 0.0)) * facing * lit
    hx, hy, hz = light[0] + view[0], light[1] + view[1], light[2] + view[2]
    tilt = (tx * hx + ty * hy + tz * hz) / (np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9)
    first = max(1.0 - (tilt + 0.08) ** 2, 0.0) ** 45  # off the surface, white
    second = max(1.0 - (tilt - 0.10) ** 2, 0.0) ** 14  # through the strand, of its colour
    gleam = facing * lit * deep
    red = _sent(locks.color[s, 0], er, key[0], open_share, diffuse, gleam, first, second)
    green = _sent(locks.color[s, 1], eg, key[1], open_share, diffuse, gleam, first, second)
    blue = _sent(locks.color[s, 2], eb, key[2], open_share, diffuse, gleam, first, second)
    return red, green, blue, nx, ny, nz


@inlined
def _sent(
    color: float,
    around: float,
    key: float,
    open_share: float,
    diffuse: float,
    gleam: float,
    first: float,
    second: float,
) -> float:
    body = color * (around * open_share * open_share + key * diffuse)
    return (body + key * gleam * (0.055 * first + 0.35 * color * second) + around * 0.02 * open_share) / np.pi
