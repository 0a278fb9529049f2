"""Eyes: spheres with an iris that looks where the gaze says, shaded by the lids, wet."""

from typing import NamedTuple

import numpy as np

from datasets.faces.compiled import inlined
from datasets.faces.grain import noise_at
from datasets.faces.skin import IRIS, OFFSET, PUPIL, step
from datasets.faces.surface import Lamp, arriving, reflected

IRIS_RADIUS = 0.0059  # metres (visible iris diameter 11.7 mm: Ruefer et al. 2005)
BIAS = 0.006  # metres


class Balls(NamedTuple):
    """Both eyes in camera space, the subject's right one first."""

    centers: np.ndarray  # float32 [2, 3] metres
    radii: np.ndarray  # float32 [2] metres
    frames: np.ndarray  # float32 [2, 3, 3]: rows are an eye's own x, y and axis
    head: np.ndarray  # float32 [3, 3], the head's rotation
    lids: np.ndarray  # float32 [2]: sine of the elevation of the upper lid's edge on the ball


@inlined
def eyeball(balls: Balls, e: int, place, view, footprint: float, skin, table, lamp: Lamp):  # type: ignore[no-untyped-def]
    """Radiance and normal (6 floats) of eye e at a place on it; `footprint` is a pixel's size there in metres."""
    radius = balls.radii[e]
    nx = (place[0] - balls.centers[e, 0]) / radius
    ny = (place[1] - balls.centers[e, 1]) / radius
    nz = (place[2] - balls.centers[e, 2]) / radius
    f, head = balls.frames, balls.head
    lx = f[e, 0, 0] * nx + f[e, 0, 1] * ny + f[e, 0, 2] * nz
    ly = f[e, 1, 0] * nx + f[e, 1, 1] * ny + f[e, 1, 2] * nz
    lz = f[e, 2, 0] * nx + f[e, 2, 1] * ny + f[e, 2, 2] * nz
    off = np.sqrt(lx * lx + ly * ly) * radius / IRIS_RADIUS if lz > 0 else 9.0  # from the axis, in radii of the iris
    soft = max(footprint / IRIS_RADIUS, 0.05)
    across = head[0, 0] * nx + head[1, 0] * ny + head[2, 0] * nz
    up = head[0, 1] * nx + head[1, 1] * ny + head[2, 1] * nz
    vein = noise_at(table, lx * 9.0 + skin[OFFSET], ly * 16.0, lz * 9.0)
    corner = step(0.35, 0.95, abs(across))
    red, green, blue = 0.66, 0.60 - 0.10 * corner - 0.02 * vein, 0.57 - 0.12 * corner - 0.02 * vein
    inner = 1.0 - step(1.0 - soft, 1.0 + soft, off)
    if inner > 0.0:
        ray = noise_at(table, np.arctan2(ly, lx) * 6.0 + skin[OFFSET + 1], off * 3.0, 0.5) * 0.22
        tone = (1.0 + ray) * (1.0 - 0.65 * step(0.72, 1.0, off)) * (0.8 + 0.5 * step(0.9, 0.45, off))
        pupil = 1.0 - step(skin[PUPIL] - soft, skin[PUPIL] + soft, off)
        red += (skin[IRIS] * tone * (1 - pupil) + 0.004 * pupil - red) * inner
        green += (skin[IRIS + 1] * tone * (1 - pupil) + 0.004 * pupil - green) * inner
        blue += (skin[IRIS + 2] * tone * (1 - pupil) + 0.004 * pupil - blue) * inner
    # The lids shade the ball: most below the upper one and in the corners.
    hidden = 0.75 * step(balls.lids[e] - 0.30, balls.lids[e] + 0.02, up) + 0.25 * step(-0.10, -0.40, up)
    share = (1.0 - min(hidden, 0.85)) * (1.0 - 0.5 * corner)
    lit = (1.0 - lamp.shadow * (1.0 - arriving(lamp, place, BIAS))) * (0.35 + 0.65 * share)
    cr, cg, cb = reflected((red, green, blue), (nx, ny, nz), view, 0.0, 0.5, share, 0.3, lamp, lit)
    # Wet: the highlight is sharp, and the cornea bulges.
    bulge = 0.35 * inner
    gx, gy, gz = nx + bulge * (nx - f[e, 2, 0]), ny + bulge * (ny - f[e, 2, 1]), nz + bulge * (nz - f[e, 2, 2])
    length = np.sqrt(gx * gx + gy * gy + gz * gz)
    wet = (gx / length, gy / length, gz / length)
    sr, sg, sb = reflected((0.0, 0.0, 0.0), wet, view, 1.0, 0.16, share, 0.0, lamp, lit)
    return cr + min(sr, 3.0), cg + min(sg, 3.0), cb + min(sb, 3.0), nx, ny, nz
