"""What worn things are made of: grids, tubes, sheets with two sides, and the surface of a head below a point.

Everything is built from rectangular grids of points, whose triangles are made once a process for each size.
"""

from functools import cache

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.geometry import Mesh
from datasets.segments import SEGMENTS


def mesh(
    vertices: np.ndarray,
    triangles: np.ndarray,
    color: np.ndarray | tuple[float, float, float],
    segment: str,
    *,
    gloss: float | np.ndarray = 0.1,
    opacity: float | np.ndarray = 1.0,
    follows: float | np.ndarray = 1.0,
) -> Mesh:
    """A Mesh of one segment; what is given for the whole (color [3] or [V, 3], gloss, ...) is repeated."""
    points, faces = len(vertices), len(triangles)
    return Mesh(
        np.ascontiguousarray(vertices, np.float32),
        np.ascontiguousarray(triangles, np.int32),
        np.ascontiguousarray(np.broadcast_to(np.asarray(color, np.float32), (points, 3))),
        np.full(faces, SEGMENTS.index(segment), np.uint8),
        np.ascontiguousarray(np.broadcast_to(np.asarray(gloss, np.float32), (faces,))),
        np.ascontiguousarray(np.broadcast_to(np.asarray(opacity, np.float32), (faces,))),
        np.ascontiguousarray(np.broadcast_to(np.asarray(follows, np.float32), (points,))),
    )


def joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Several (vertices, triangles) as one."""
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in parts[:-1]])
    triangles = [part[1] + start for part, start in zip(parts, starts, strict=True)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(triangles)


@cache
def grid(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Triangles int32 of vertices in `rows` x `columns` order; seen with rows running down and columns to the right
    they are counter-clockwise. `closed` joins the last column to the first."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    right = (c + 1) % columns
    corners = [r * columns + c, (r + 1) * columns + c, (r + 1) * columns + right, r * columns + right]
    a, b, d, e = (corner.ravel() for corner in corners)
    out = np.stack([a, b, d, a, d, e], 1).reshape(-1, 3).astype(np.int32)
    out.setflags(write=False)
    return out


@cache
def fan(columns: int, first: int, center: int, flip: bool = False) -> np.ndarray:
    """Triangles from a ring of vertices (`first` onward) to `center`: the cap above the first row of a closed grid, or
    below its last one with `flip`."""
    a = first + np.arange(columns)
    b = first + (np.arange(columns) + 1) % columns
    out = np.stack([a, b, np.full(columns, center)][:: -1 if flip else 1], 1).astype(np.int32)
    out.setflags(write=False)
    return out


def dome(rings: np.ndarray, top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A surface of closed rings float [rows, columns, 3], the topmost first, under a point `top` [3]."""
    rows, columns = rings.shape[:2]
    vertices = np.concatenate([rings.reshape(-1, 3), top[None]])
    return vertices, np.concatenate([grid(rows, columns, True), fan(columns, 0, rows * columns)])


def tube(
    path: np.ndarray,
    side: np.ndarray,
    other: np.ndarray,
    half: np.ndarray,
    *,
    sides: int = 6,
    closed: bool = False,
    square: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A rod along `path` [n, 3] with an elliptic section.

    side, other  [n, 3] or [3] unit: the section's axes; side x other points along the path
    half         [n, 2], [n, 1] or [2] metres: half widths along them
    closed       joins the last section to the first; otherwise both ends are capped
    square       1 an ellipse, less is closer to a rectangle
    """
    count = len(path)
    turn = (np.arange(sides) + 0.5) * (2 * np.pi / sides)
    shape = np.stack([np.cos(turn), np.sin(turn)], 1)
    shape = np.sign(shape) * np.abs(shape) ** square
    half = np.broadcast_to(half, (count, 2))
    side, other = np.broadcast_to(side, (count, 3)), np.broadcast_to(other, (count, 3))
    ring = half[:, None, :1] * shape[None, :, :1] * side[:, None]
    ring = ring + half[:, None, 1:] * shape[None, :, 1:] * other[:, None]
    vertices = (path[:, None] + ring).reshape(-1, 3)
    if closed:
        return vertices, _wrapped(count, sides)
    ends = [fan(sides, 0, count * sides, True), fan(sides, (count - 1) * sides, count * sides + 1)]
    triangles = np.concatenate([grid(count, sides, True)[:, ::-1], *ends])
    return np.concatenate([vertices, path[:1], path[-1:]]), triangles


@cache
def _wrapped(rows: int, columns: int) -> np.ndarray:
    out = (grid(rows + 1, columns, True) % (rows * columns))[:, ::-1]
    out.setflags(write=False)
    return out


def sheet(upper: np.ndarray, lower: np.ndarray, closed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A body between two grids of points [rows, columns, 3], the outer one and the inner one, with its edges."""
    rows, columns = upper.shape[:2]
    vertices = np.concatenate([upper.reshape(-1, 3), lower.reshape(-1, 3)])
    return vertices, _sheet(rows, columns, closed)


@cache
def _sheet(rows: int, columns: int, closed: bool) -> np.ndarray:
    faces = grid(rows, columns, closed)
    number = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        borders = [np.append(number[0], 0)[::-1], np.append(number[-1], number[-1, 0])]
    else:
        borders = [np.concatenate([number[:, 0], number[-1, 1:], number[-2::-1, -1], number[0, -2::-1]])]
    parts = [faces, faces[:, ::-1] + rows * columns]
    for line in borders:
        a, b = line[:-1], line[1:]
        inner = rows * columns
        parts += [np.stack([a, a + inner, b + inner], 1), np.stack([a, b + inner, b], 1)]
    out = np.concatenate(parts).astype(np.int32)
    out.setflags(write=False)
    return out


def smooth_path(points: np.ndarray, count: int) -> np.ndarray:
    """`count` points along a Catmull-Rom spline through points [n, 3], evenly by parameter."""
    n = len(points)
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, n - 1, count)
    i = np.minimum(t.astype(int), n - 2)
    f = (t - i)[:, None]
    a, b, c, d = (padded[i + k] for k in range(4))
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - 3 * c + d - a) * f**3)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] at length 1."""
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(-1, keepdims=True)), 1e-12)


@kernel
def surface_height(
    points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, u: int, v: int, w: int, sign: float
) -> np.ndarray:
    """The highest `sign` * axis w of a surface at each (axis u, axis v) of points [n, 2], float32 [n]; -1 where none.

    (0, 1, 2, 1) is the front of a head at x and y; (2, 1, 0, -1) how far its right side reaches at z and y.
    """
    out = np.full(len(points), -1.0, np.float32)
    low_u, high_u = points[:, 0].min(), points[:, 0].max()
    low_v, high_v = points[:, 1].min(), points[:, 1].max()
    for t in range(len(triangles)):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        au, bu, cu = vertices[i, u], vertices[j, u], vertices[k, u]
        least_u, most_u = min(au, bu, cu), max(au, bu, cu)
        if most_u < low_u or least_u > high_u:
            continue
        av, bv, cv = vertices[i, v], vertices[j, v], vertices[k, v]
        least_v, most_v = min(av, bv, cv), max(av, bv, cv)
        if most_v < low_v or least_v > high_v:
            continue
        area = (bu - au) * (cv - av) - (cu - au) * (bv - av)
        if area == 0.0:
            continue
        for n in range(len(points)):
            pu, pv = points[n, 0], points[n, 1]
            if pu < least_u or pu > most_u or pv < least_v or pv > most_v:
                continue
            wb = ((pu - au) * (cv - av) - (cu - au) * (pv - av)) / area
            wc = ((bu - au) * (pv - av) - (pu - au) * (bv - av)) / area
            if wb >= -1e-5 and wc >= -1e-5 and wb + wc <= 1.00001:
                height = sign * (vertices[i, w] * (1.0 - wb - wc) + vertices[j, w] * wb + vertices[k, w] * wc)
                out[n] = max(out[n], height)
    return out
