"""Laying strands along a way that strands.py has walked: evenly spaced, gathered into locks, waved, and on the person.

Strands of one lock share its waves and gather towards its tip.
"""

from typing import NamedTuple

import numpy as np

from datasets.faces.comb import Comb
from datasets.faces.compiled import kernel
from datasets.faces.hull import carry
from datasets.faces.skin import step


class Grown(NamedTuple):
    """What is written of strands, named as in geometry.Strands: points and outward float32 [n, k, 3], depth and follows
    float32 [n, k]; or of one strand, without n."""

    points: np.ndarray
    outward: np.ndarray
    depth: np.ndarray
    follows: np.ndarray


@kernel
def lay(
    way: np.ndarray,
    ends: float,
    root: np.ndarray,
    lock_root: np.ndarray,
    off: tuple[float, float, float],
    shift: np.ndarray,
    own: np.ndarray,
    mine: np.ndarray,
    comb: Comb,
    moved: np.ndarray,
    out: Grown,
) -> None:
    """Spreads a strand's points evenly over its way, waves and gathers it, and carries it to the person's head."""
    points, outward, depth, follows = out
    k = len(way)
    last = int(ends)
    total = way[last, 6] + (ends - last) * (way[min(last + 1, k - 1), 6] - way[last, 6]) + 1e-6
    ox, oy, oz = root[0] - lock_root[0] + off[0], root[1] - lock_root[1] + off[1], root[2] - lock_root[2] + off[2]
    layer = 0.06 + 0.94 * own[1] ** 1.4
    turn = 6.2832 * (mine[7] + comb.frizz * own[7]) + 300.0 * comb.frizz * off[0]
    radius = comb.wave * (0.7 + 0.6 * mine[0])
    lean = 0.0 if comb.globe > 0.0 else 1.0  # waves rise from the head, never into it
    # The displacement is smooth: it is looked up every few centimetres.
    spans = min(int(total * 35.0) + 1, k - 1)
    span, bx, by, bz = -1, 0.0, 0.0, 0.0
    ax, ay, az = 0.0, 0.0, 0.0
    for j in range(k):
        a, w = _place(ends, j / (k - 1), k)
        v = 1.0 - w
        x, y, z = (
            v * way[a, 0] + w * way[a + 1, 0],
            v * way[a, 1] + w * way[a + 1, 1],
            v * way[a, 2] + w * way[a + 1, 2],
        )
        gx, gy, gz = (
            v * way[a, 3] + w * way[a + 1, 3],
            v * way[a, 4] + w * way[a + 1, 4],
            v * way[a, 5] + w * way[a + 1, 5],
        )
        along = v * way[a, 6] + w * way[a + 1, 6]
        while span < 0 or (j * spans > (span + 1) * (k - 1)):
            span += 1
            if span == 0:
                bx, by, bz = carry(moved, way[0, 0], way[0, 1], way[0, 2])
            ax, ay, az = bx, by, bz
            c, t = _place(ends, (span + 1) / spans, k)
            q = 1.0 - t
            bx, by, bz = carry(
                moved,
                q * way[c, 0] + t * way[c + 1, 0],
                q * way[c, 1] + t * way[c + 1, 1],
                q * way[c, 2] + t * way[c + 1, 2],
            )
        t = j * spans / (k - 1) - span
        near = max(1.0 - along * 16.0, 0.0)
        mx = ax + (bx - ax) * t + near * shift[0]
        my = ay + (by - ay) * t + near * shift[1]
        mz = az + (bz - az) * t + near * shift[2]
        follows[j] = follow(y, z)
        gather = comb.clump * step(0.0, total, along)
        x += off[0] - gather * ox
        y += off[1] - gather * oy
        z += off[2] - gather * oz
        nx, ny, nz = gx + 35.0 * ox, gy + 35.0 * oy, gz + 35.0 * oz
        if radius > 0.0:
            tx, ty, tz = way[a + 1, 0] - way[a, 0], way[a + 1, 1] - way[a, 1], way[a + 1, 2] - way[a, 2]
            scale = 1.0 / np.sqrt(tx * tx + ty * ty + tz * tz + 1e-12)
            if comb.globe > 0.0:
                # Radial hair runs along the normal: it coils around its own way, about any two axes across it.
                ux, uy, uz = tx * scale, ty * scale, tz * scale
                ex, ey, ez = 0.8 * uz - 0.6 * uy, 0.6 * ux, -0.8 * ux
                fx, fy, fz = ey * uz - ez * uy, ez * ux - ex * uz, ex * uy - ey * ux
            else:
                ex, ey, ez = ty * gz - tz * gy, tz * gx - tx * gz, tx * gy - ty * gx
                fx, fy, fz = gx, gy, gz
            angle = turn + 6.2832 * along / comb.pitch
            cosine, sine = np.cos(angle), np.sin(angle)
            cosine /= np.sqrt(ex * ex + ey * ey + ez * ez + 1e-12)
            grown = radius * min(along * 40.0, 1.0)
            aside, away = grown * cosine, grown * (lean + sine)
            x += aside * ex + away * fx
            y += aside * ey + away * fy
            z += aside * ez + away * fz
            nx += 0.5 * (cosine * ex + sine * fx)
            ny += 0.5 * (cosine * ey + sine * fy)
            nz += 0.5 * (cosine * ez + sine * fz)
        scale = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
        outward[j, 0], outward[j, 1], outward[j, 2] = nx * scale, ny * scale, nz * scale
        depth[j] = (0.25 + 0.75 * layer) * (0.6 + 0.4 * min(along * 40.0, 1.0))
        points[j, 0], points[j, 1], points[j, 2] = x + mx, y + my, z + mz


@kernel
def _place(ends: float, share: float, k: int) -> tuple[int, float]:
    """A share of a strand's way as the index of a place on it and the rest towards the next."""
    place = ends * share
    a = min(int(place), k - 2)
    return a, place - a


@kernel
def follow(y: float, z: float) -> float:
    """What the neck's skin does at this height: pose.follow_weights."""
    return step(0.515, 0.625, y + 0.35 * (z - 0.03))
