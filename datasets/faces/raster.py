"""Triangles, spheres and strands into one z-buffer, at sub-pixel resolution.

Camera space: x the image's right, y up, z towards the camera, which sits at the origin and looks along -z. A buffer
holds for each fine pixel what is nearest there: `code` says which thing it is, `u`, `v` where on it, `near` is 1/depth
(0 where there is nothing). Pixel (row, column) is sampled at its centre.

    code                          u, v
    0 .. T-1: a triangle          perspective-correct barycentric weights of its second and third corner
    EYE + e: the e-th sphere      unused (the ray is intersected again where it is shaded)
    STRAND + s * K + k: segment k of strand s    place along the segment, place across it (-1 .. 1)
"""

from typing import NamedTuple

import numpy as np

from datasets.faces.compiled import kernel

NOTHING = -1
NEAREST = 1 / 0.05  # 1/depth: what reaches nearer to the camera than 5 cm is not drawn
EYE = 1 << 24
STRAND = 1 << 25


class Buffer(NamedTuple):
    """A z-buffer, all [N, N]: code int32; u, v and near float32."""

    code: np.ndarray
    u: np.ndarray
    v: np.ndarray
    near: np.ndarray

    @classmethod
    def empty(cls, side: int) -> "Buffer":
        u, v, near = (np.zeros((side, side), np.float32) for _ in range(3))
        return cls(np.full((side, side), NOTHING, np.int32), u, v, near)


@kernel
def project(points: np.ndarray, focal: float, center: float) -> np.ndarray:
    """Camera space [n, 3] to (column, row, 1/depth) float32 [n, 3]; the first pixel's centre is (0.5, 0.5)."""
    out = np.empty((len(points), 3), np.float32)
    for i in range(len(points)):
        near = 1.0 / -points[i, 2]
        out[i, 0] = center + focal * points[i, 0] * near
        out[i, 1] = center - focal * points[i, 1] * near
        out[i, 2] = near
    return out


@kernel
def draw_triangles(
    screen: np.ndarray,
    triangles: np.ndarray,
    first: int,
    cull: bool,
    code: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    near: np.ndarray,
) -> None:
    """Draws triangles int32 [T, 3] of projected vertices [V, 3] as codes from `first` on; `cull` leaves out backs.

    Triangles with a corner behind the camera, or nearer than NEAREST, are left out.
    """
    height, width = near.shape
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, an = screen[a, 0], screen[a, 1], screen[a, 2]
        bx, by, bn = screen[b, 0], screen[b, 1], screen[b, 2]
        cx, cy, cn = screen[c, 0], screen[c, 1], screen[c, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if min(an, bn, cn) <= 0.0 or max(an, bn, cn) > NEAREST:
            continue
        # Rows run downwards: a triangle that is counter-clockwise to the eye has a negative area here.
        if area == 0.0 or (cull and area > 0.0):
            continue
        low_x = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
        high_x = min(int(np.floor(max(ax, bx, cx) - 0.5)), width - 1)
        low_y = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
        high_y = min(int(np.floor(max(ay, by, cy) - 0.5)), height - 1)
        if low_x > high_x or low_y > high_y:
            continue
        scale = 1.0 / area
        for row in range(low_y, high_y + 1):
            py = row + 0.5
            for column in range(low_x, high_x + 1):
                px = column + 0.5
                wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) * scale
                wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) * scale
                wa = 1.0 - wb - wc
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                n = wa * an + wb * bn + wc * cn
                if n > near[row, column]:
                    near[row, column] = n
                    code[row, column] = first + t
                    u[row, column] = wb * bn / n
                    v[row, column] = wc * cn / n


@kernel
def draw_spheres(
    centers: np.ndarray,
    radii: np.ndarray,
    focal: float,
    center: float,
    code: np.ndarray,
    near: np.ndarray,
) -> None:
    """Draws spheres in camera space, exactly, as codes EYE, EYE + 1, ..."""
    height, width = near.shape
    for e in range(len(radii)):
        depth = -centers[e, 2]
        reach = focal * radii[e] / (depth - radii[e]) + 1.0
        x = center + focal * centers[e, 0] / depth
        y = center - focal * centers[e, 1] / depth
        for row in range(max(int(y - reach), 0), min(int(y + reach) + 1, height - 1) + 1):
            for column in range(max(int(x - reach), 0), min(int(x + reach) + 1, width - 1) + 1):
                dx = (column + 0.5 - center) / focal
                dy = (center - row - 0.5) / focal
                # The ray is depth * (dx, dy, -1).
                square = dx * dx + dy * dy + 1.0
                along = dx * centers[e, 0] + dy * centers[e, 1] - centers[e, 2]
                far = centers[e, 0] ** 2 + centers[e, 1] ** 2 + centers[e, 2] ** 2 - radii[e] ** 2
                inside = along * along - square * far
                if inside <= 0.0:
                    continue
                n = square / (along - np.sqrt(inside))
                if n > near[row, column]:
                    near[row, column] = n
                    code[row, column] = EYE + e


@kernel
def scatter(a: int, b: int, c: int) -> float:
    """A number in [0, 1) that looks random, of three integers below 2**31 (a hash of 32 bits)."""
    h = (a * 0x9E3779B1 ^ b * 0x85EBCA77 ^ c * 0xC2B2AE3D) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return (h ^ (h >> 15)) / 4294967296.0


@kernel
def draw_strands(
    screen: np.ndarray,
    width_m: np.ndarray,
    focal: float,
    first: int,
    code: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    near: np.ndarray,
) -> None:
    """Draws strands of projected points [n, k, 3] as codes first + s * k + i, without segments that end in 1/depth 0.

    A strand is as wide as `width_m` [n] metres at its root, tapers to a fifth at its tip, and covers a fine pixel that
    it does not fill with the probability of its width there, by a hash of strand and pixel: so hair has partial
    coverage once fine pixels are averaged.
    """
    height, width = near.shape
    strands, points = screen.shape[:2]
    for s in range(strands):
        for k in range(points - 1):
            x0, y0, n0 = screen[s, k, 0], screen[s, k, 1], screen[s, k, 2]
            x1, y1, n1 = screen[s, k + 1, 0], screen[s, k + 1, 1], screen[s, k + 1, 2]
            if n0 <= 0.0 or n1 <= 0.0:
                continue
            taper = 1.0 - 0.8 * ((k + 0.5) / (points - 1)) ** 2
            wide = width_m[s] * taper * focal * 0.5 * (n0 + n1)
            dx, dy = x1 - x0, y1 - y0
            steep = abs(dy) > abs(dx)
            if steep:
                start, end, across = y0, y1, x0
                slope = dx / dy if dy != 0.0 else 0.0
                limit, side = height, width
            else:
                start, end, across = x0, x1, y0
                slope = dy / dx if dx != 0.0 else 0.0
                limit, side = width, height
            if start == end:
                continue
            # The span across the major axis that a line of this width covers.
            span = max(wide * np.sqrt(1.0 + slope * slope), 1e-6)
            low = max(int(np.ceil(min(start, end) - 0.5)), 0)
            high = min(int(np.ceil(max(start, end) - 0.5)) - 1, limit - 1)
            for i in range(low, high + 1):
                t = (i + 0.5 - start) / (end - start)
                middle = across + slope * (i + 0.5 - start)
                n = n0 + (n1 - n0) * t
                if span < 1.0:
                    if scatter(s, i, k) > span:
                        continue
                    left = int(np.floor(middle))
                    right = left
                else:
                    left = int(np.ceil(middle - 0.5 * span - 0.5))
                    right = int(np.ceil(middle + 0.5 * span - 0.5)) - 1
                for j in range(max(left, 0), min(right, side - 1) + 1):
                    row, column = (i, j) if steep else (j, i)
                    if n > near[row, column]:
                        near[row, column] = n
                        code[row, column] = first + s * points + k
                        u[row, column] = t
                        v[row, column] = max(-1.0, min(1.0, 2.0 * (j + 0.5 - middle) / span)) if span >= 1.0 else 0.0
