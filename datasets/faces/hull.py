"""The space around the base head: how far a place lies from its skin, and how it moves when the head is sculpted.

Hair and beards grow around the base head, where the crown, the brows, the jaw and the shoulders are always in the same
place, and are carried over to a person's own head afterwards. Both need a look-up at any point of space, many thousand
times a picture: `distance` reads a signed distance from a grid, `carry` the displacement from a coarser one. The ears
are shrunk to the head first, since hair lies over them.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from datasets.faces.compiled import kernel
from datasets.faces.geometry import vertex_normals
from datasets.faces.head import Head, load_head

ORIGIN = (-0.264, 0.336, -0.168)  # metres: the lowest corner of both grids
SPACING = 0.008  # of the distances
SHAPE = (67, 77, 55)
COARSE = 0.024  # of the displacements
COARSE_SHAPE = (23, 27, 19)
NEIGHBOURS = 10


@dataclass(frozen=True)
class Hull:
    """Look-up tables of the base head; the grids' first index is x.

    distance   float32 [SHAPE] metres, negative inside
    triangle   int32 [m], bary float32 [m, 3]: places spread evenly over the skin without ears
    node       int32 [n] flat places in the coarse grid that lie near the head; nearest int32 [n, NEIGHBOURS] places
               on the skin and weight float32 [n, NEIGHBOURS], which sum to 1
    """

    distance: np.ndarray
    triangle: np.ndarray
    bary: np.ndarray
    node: np.ndarray
    nearest: np.ndarray
    weight: np.ndarray

    def displacement(self, head: Head, neutral: np.ndarray) -> np.ndarray:
        """How places of the coarse grid move with a person's neutral vertices [V, 3]: float32 [COARSE_SHAPE, 3]."""
        moved = neutral - head.canonical
        out = np.zeros((int(np.prod(COARSE_SHAPE)), 3), np.float32)
        _spread(moved, head.triangles, self.triangle, self.bary, self.node, self.nearest, self.weight, out)
        return out.reshape(*COARSE_SHAPE, 3)


@cache
def load_hull() -> Hull:
    """Builds the tables, once a process (about a third of a second)."""
    head = load_head()
    smooth = _without_ears(head)
    skin = head.triangles[head.part == 0]
    triangle, bary = spread_evenly(smooth, skin, 60_000, seed=1)
    places = on_surface(smooth, skin, triangle, bary)
    normals = on_surface(vertex_normals(smooth, skin), skin, triangle, bary)
    # The base head is symmetric: half of the grid is enough.
    middle = SHAPE[0] // 2
    half = _grid((middle + 1, *SHAPE[1:]), SPACING, (0.0, *ORIGIN[1:]))
    far, nearest = _query(places, half, 1)
    far, nearest = far[:, 0], nearest[:, 0]
    sign = np.sign(((half - places[nearest]) * normals[nearest]).sum(1))
    right = (far * sign).reshape(middle + 1, *SHAPE[1:])
    distances = np.concatenate([right[:0:-1], right]).astype(np.float32)

    shown = np.flatnonzero(~(head.masks["ears"][skin].max(1) > 0.3) & ~(head.masks["inside-mouth"][skin].max(1) > 0.3))
    triangle, bary = spread_evenly(head.canonical, skin[shown], 5_000, seed=2)
    nodes = _grid(COARSE_SHAPE, COARSE, ORIGIN)
    far, nearest = _query(on_surface(head.canonical, skin[shown], triangle, bary), nodes, NEIGHBOURS)
    near = np.flatnonzero(far[:, 0] < 0.15)
    far, nearest = far[near], nearest[near]
    width = 0.010 + 0.4 * far[:, :1]
    weight = np.exp((far[:, :1] ** 2 - far**2) / (2 * width**2))
    return Hull(
        distance=np.ascontiguousarray(distances),
        triangle=np.flatnonzero(head.part == 0)[shown][triangle].astype(np.int32),
        bary=bary,
        node=near.astype(np.int32),
        nearest=nearest.astype(np.int32),
        weight=(weight / weight.sum(1, keepdims=True)).astype(np.float32),
    )


def spread_evenly(vertices: np.ndarray, triangles: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random places, uniform by area, in random order: triangle int32 [count] and barycentrics float32 [count, 3]."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    triangle = np.searchsorted(np.cumsum(area) / area.sum(), rng.random(count)).astype(np.int32)
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return np.minimum(triangle, len(triangles) - 1), np.stack([1 - u - v, u, v], 1).astype(np.float32)


def on_surface(values: np.ndarray, triangles: np.ndarray, triangle: np.ndarray, bary: np.ndarray) -> np.ndarray:
    """Values [V, c] of vertices at places on triangles: float32 [n, c]."""
    return np.einsum("nk,nkc->nc", bary, values[triangles[triangle]]).astype(np.float32)


@kernel
def distance(grid: np.ndarray, x: float, y: float, z: float) -> tuple[float, float, float, float]:
    """Signed distance from the base head's skin in metres, and its unit gradient, which points outwards."""
    u = min(max((x + 0.264) * 125.0, 0.0), 65.99)
    v = min(max((y - 0.336) * 125.0, 0.0), 75.99)
    w = min(max((z + 0.168) * 125.0, 0.0), 53.99)
    i, j, k = int(u), int(v), int(w)
    u -= i
    v -= j
    w -= k
    a000, a001 = grid[i, j, k], grid[i, j, k + 1]
    a010, a011 = grid[i, j + 1, k], grid[i, j + 1, k + 1]
    a100, a101 = grid[i + 1, j, k], grid[i + 1, j, k + 1]
    a110, a111 = grid[i + 1, j + 1, k], grid[i + 1, j + 1, k + 1]
    b00, b01 = a000 + (a001 - a000) * w, a010 + (a011 - a010) * w
    b10, b11 = a100 + (a101 - a100) * w, a110 + (a111 - a110) * w
    c0, c1 = b00 + (b01 - b00) * v, b10 + (b11 - b10) * v
    gx = c1 - c0
    gy = (b01 - b00) * (1.0 - u) + (b11 - b10) * u
    gz = ((a001 - a000) * (1.0 - v) + (a011 - a010) * v) * (1.0 - u)
    gz += ((a101 - a100) * (1.0 - v) + (a111 - a110) * v) * u
    scale = 1.0 / np.sqrt(gx * gx + gy * gy + gz * gz + 1e-20)
    return c0 + (c1 - c0) * u, gx * scale, gy * scale, gz * scale


@kernel
def carry(moved: np.ndarray, x: float, y: float, z: float) -> tuple[float, float, float]:
    """How a place around the base head moves with `Hull.displacement`, metres."""
    u = min(max((x + 0.264) * (1.0 / 0.024), 0.0), 21.99)
    v = min(max((y - 0.336) * (1.0 / 0.024), 0.0), 25.99)
    w = min(max((z + 0.168) * (1.0 / 0.024), 0.0), 17.99)
    i, j, k = int(u), int(v), int(w)
    u -= i
    v -= j
    w -= k
    ox, oy, oz = 0.0, 0.0, 0.0
    for di in range(2):
        wu = u if di else 1.0 - u
        for dj in range(2):
            wv = wu * (v if dj else 1.0 - v)
            for dk in range(2):
                a = wv * (w if dk else 1.0 - w)
                ox += a * moved[i + di, j + dj, k + dk, 0]
                oy += a * moved[i + di, j + dj, k + dk, 1]
                oz += a * moved[i + di, j + dj, k + dk, 2]
    return ox, oy, oz


@kernel
def _spread(
    moved: np.ndarray,
    triangles: np.ndarray,
    triangle: np.ndarray,
    bary: np.ndarray,
    node: np.ndarray,
    nearest: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
) -> None:
    place = np.zeros((len(triangle), 3), np.float32)
    for i in range(len(triangle)):
        for corner in range(3):
            vertex = triangles[triangle[i], corner]
            for axis in range(3):
                place[i, axis] += bary[i, corner] * moved[vertex, axis]
    for n in range(len(node)):
        for k in range(nearest.shape[1]):
            for axis in range(3):
                out[node[n], axis] += weight[n, k] * place[nearest[n, k], axis]


def _query(places: np.ndarray, points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and numbers [n, count] of the places nearest to points [n, 3]."""
    far, nearest = cKDTree(places).query(points, list(range(1, count + 1)))
    return np.asarray(far), np.asarray(nearest)


def _grid(shape: tuple[int, ...], spacing: float, origin: tuple[float, ...]) -> np.ndarray:
    axes = [start + spacing * np.arange(count) for start, count in zip(origin, shape, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _without_ears(head: Head) -> np.ndarray:
    """The base vertices with the ears' relaxed into the surface that their rims span, float32 [V, 3]."""
    vertices = head.canonical.copy()
    skin = head.triangles[head.part == 0]
    loose = np.zeros(len(vertices), bool)
    loose[np.flatnonzero(head.masks["ears"] > 0.1)] = True
    edges = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    edges = edges[loose[edges[:, 0]]]
    valence = np.bincount(edges[:, 0], minlength=len(vertices)).clip(1)[:, None]
    for _ in range(400):
        mean = np.stack([np.bincount(edges[:, 0], vertices[edges[:, 1], a], len(vertices)) for a in range(3)], 1)
        vertices = np.where(loose[:, None], mean / valence, vertices)
    return vertices.astype(np.float32)
