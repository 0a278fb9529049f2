"""How garments are cut: the part of the body model below a neckline, as a finer mesh that any body moves.

A neckline is a function of the canonical position, metres below the line, so that one cut fits everybody: its vertices
are mixtures of the body's, `Cut.body @ vertices`. The surface is cut along the line exactly, refined where faces are
framed, and smoothed, so that cloth does not follow every muscle.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.sparse import csr_matrix, diags_array, vstack
from scipy.sparse.csgraph import dijkstra

from datasets.faces.head import load_head
from datasets.faces.pose import follow_weights

AXIS = (0.0, 0.022)  # x and z of the neck
COLLAR = (0.060, 0.588)  # of a shirt: half width and height of its neckline
SMOOTHINGS = 5
FINEST = 0.0076  # metres, of an edge
LEAST_WEIGHT = 0.006  # of a vertex in a mixture
RING = 44  # points around the neck


@dataclass(frozen=True)
class Cut:
    """A garment's surface.

    body       sparse [n, V]: places on the skin as mixtures of the head model's vertices
    cloth      sparse [n, V]: the same, smoothed
    triangles  int32 [T, 3]
    canonical  float32 [n, 3]: the places on the base mesh
    below      float32 [n] metres from the neckline along the cloth
    hem        int32 [m, 2] edges of the neckline, in the order of their triangles
    follows    float32 [n]
    """

    body: csr_matrix
    cloth: csr_matrix
    triangles: np.ndarray
    canonical: np.ndarray
    below: np.ndarray
    hem: np.ndarray
    follows: np.ndarray


def below_neckline(neckline: str, deep: bool, c: np.ndarray) -> np.ndarray:
    """Metres below a garment's upper edge, [n] for canonical positions [n, 3]; positive is covered."""
    x, y, z = np.asarray(c, np.float64).T
    if neckline == "turtleneck":
        return 0.619 - 0.32 * z - y
    if neckline == "off":
        return (0.490 if deep else 0.505) - 0.10 * np.abs(z - 0.03) - y
    wide, height = {"crew": (0.074, 0.583) if deep else (0.066, 0.588), "v_neck": (0.072, 0.586), "collar": COLLAR}[
        neckline
    ]
    out = _around(wide, height, c)
    if neckline == "v_neck" or (neckline == "collar" and deep):
        apex, spread = (0.478, 0.75) if neckline == "v_neck" and deep else (0.505, 0.72)
        front = np.abs(x) - spread * np.maximum(y - apex, 0.0)
        out = np.where((z > 0.03) & (y > apex), np.minimum(out, 0.8 * front), out)
    return out


@cache
def cut_garment(neckline: str, deep: bool) -> Cut:
    """The cut for a neckline, once a process. Raises ValueError for one that is not known."""
    if neckline not in ("crew", "v_neck", "collar", "turtleneck", "off"):
        raise ValueError(f"clothes.neckline must be crew, v_neck, collar, turtleneck or off, but got {neckline!r}")
    head = load_head()
    canonical = head.canonical.astype(np.float64)
    below = below_neckline(neckline, deep, canonical)
    torso = head.triangles[head.part == 0]
    torso = torso[(canonical[torso][:, :, 1] < 0.66).all(1) & (canonical[torso][:, :, 2] < 0.2).all(1)]
    body, triangles = _clip(torso, below, len(canonical))
    body, triangles = _refine(body, triangles, canonical)
    places = body @ canonical
    border = _border(triangles)
    under = below_neckline(neckline, deep, places)
    hem = border[(under[border] < 0.004).all(1)]
    cloth = body
    operator = _smoothing(len(places), triangles, border)
    for _ in range(SMOOTHINGS):
        cloth = operator @ cloth
    cloth.data[cloth.data < LEAST_WEIGHT] = 0.0
    cloth.eliminate_zeros()
    cloth = diags_array(1 / np.asarray(cloth.sum(1)).ravel()) @ cloth
    return Cut(
        body.astype(np.float32).tocsr(),
        cloth.astype(np.float32).tocsr(),
        triangles.astype(np.int32),
        places.astype(np.float32),
        _distance(places, triangles, hem).astype(np.float32),
        hem.astype(np.int32),
        follow_weights(places.astype(np.float32)),
    )


@cache
def neck_ring(half: float | None, height: float) -> csr_matrix:
    """Places on the skin around the neck, sparse [RING, V], by azimuth from the front to the subject's left and around.

    They lie on a neckline of that half width and height; with None for the width, on the neck at that height.
    """
    head = load_head()
    canonical = head.canonical.astype(np.float64)
    on_neck = height - 0.32 * canonical[:, 2] - canonical[:, 1]
    value = on_neck if half is None else _around(half, height, canonical)
    torso = head.triangles[head.part == 0]
    torso = torso[(canonical[torso][:, :, 1] < 0.66).all(1)]
    body, triangles = _clip(torso, value, len(canonical))
    places = body @ canonical
    border = np.unique(_border(triangles))
    border = border[places[border, 1] > 0.45]
    azimuth = np.arctan2(places[border, 0] - AXIS[0], places[border, 2] - AXIS[1]) % (2 * np.pi)
    order = np.argsort(azimuth)
    border, azimuth = border[order], azimuth[order]
    turn = np.arange(RING) * (2 * np.pi / RING)
    after = np.searchsorted(azimuth, turn)
    before, after = (after - 1) % len(border), after % len(border)
    span = (azimuth[after] - azimuth[before]) % (2 * np.pi)
    share = ((turn - azimuth[before]) % (2 * np.pi)) / np.maximum(span, 1e-9)
    mix = diags_array(1 - share) @ body[border[before]] + diags_array(share) @ body[border[after]]
    return csr_matrix(mix).astype(np.float32)


def _around(half: float, height: float, c: np.ndarray) -> np.ndarray:
    """Metres outside an upright elliptic cylinder about the neck, or below a tilted plane, whichever covers more."""
    x, y, z = np.asarray(c, np.float64).T
    across, along = (x - AXIS[0]) / half, (z - AXIS[1]) / (half - 0.008)
    cylinder = (np.sqrt(across**2 + along**2) - 1) * half
    return np.minimum(np.maximum(cylinder, height - 0.38 * z - y), 0.604 - y)


def _distance(places: np.ndarray, triangles: np.ndarray, hem: np.ndarray) -> np.ndarray:
    """Metres [n] along edges to the nearest vertex of the hem."""
    edges = np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2)
    edges = np.unique(np.sort(edges, 1), axis=0)
    length = np.linalg.norm(places[edges[:, 0]] - places[edges[:, 1]], axis=1)
    graph = csr_matrix((length, (edges[:, 0], edges[:, 1])), (len(places), len(places)))
    out = dijkstra(graph, directed=False, indices=np.unique(hem), min_only=True)
    return np.where(np.isfinite(out), out, 1.0)


def _clip(triangles: np.ndarray, value: np.ndarray, count: int) -> tuple[csr_matrix, np.ndarray]:
    """What of triangles has a positive value: its vertices as mixtures sparse [n, count], and its triangles."""
    inside = value[triangles] > 0
    whole = triangles[inside.all(1)]
    rows: list[tuple[int, int, float]] = []
    cuts: dict[tuple[int, int], int] = {}
    extra: list[tuple[int, int, int]] = []

    def crossing(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in cuts:
            cuts[key] = count + len(rows)
            share = float(np.clip(value[key[0]] / (value[key[0]] - value[key[1]]), 0.02, 0.98))
            rows.append((*key, share))
        return cuts[key]

    mixed = inside.any(1) & ~inside.all(1)
    for corners, within in zip(triangles[mixed].tolist(), inside[mixed].tolist(), strict=True):
        first = within.index(True) if sum(within) == 1 else (within.index(False) + 1) % 3
        a, b, c = (corners[(first + k) % 3] for k in range(3))
        if sum(within) == 1:
            extra.append((a, crossing(a, b), crossing(a, c)))
        else:
            extra += [(a, b, crossing(b, c)), (a, crossing(b, c), crossing(a, c))]
    faces = np.concatenate([whole, np.array(extra, np.int64).reshape(-1, 3)])
    eye = diags_array(np.ones(count), format="csr")
    pairs = np.array([(i, j) for i, j, _ in rows], np.int64).reshape(-1, 2)
    share = np.array([s for _, _, s in rows])
    between = diags_array(1 - share) @ eye[pairs[:, 0]] + diags_array(share) @ eye[pairs[:, 1]]
    used, faces = np.unique(faces, return_inverse=True)
    return csr_matrix(vstack([eye, between]).tocsr()[used]), faces.reshape(-1, 3)


def _wanted_edge(places: np.ndarray) -> np.ndarray:
    """Metres that an edge may be long: fine at the neck and the shoulders, coarse where no picture reaches."""
    x, y, z = places.T
    limits = [
        np.interp(y, [0.40, 0.46, 0.49], [0.060, 0.020, 0.0]),
        np.interp(np.abs(x), [0.17, 0.22], [0.0, 0.030]),
        np.interp(z, [-0.01, 0.02], [0.020, 0.0]),
    ]
    return np.maximum(FINEST, np.max(limits, axis=0))


def _refine(body: csr_matrix, triangles: np.ndarray, canonical: np.ndarray) -> tuple[csr_matrix, np.ndarray]:
    """Splits long edges in the middle until none is too long (at most thrice)."""
    for _ in range(3):
        places = body @ canonical
        sides = np.sort(np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2), 1)
        edges, number = np.unique(sides, axis=0, return_inverse=True)
        ends = places[edges]
        long = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) > _wanted_edge(ends.mean(1))
        if not long.any():
            break
        middle = np.where(long, len(places) + np.cumsum(long) - 1, -1)
        split = middle[number.reshape(-1, 3)]
        body = csr_matrix(vstack([body, 0.5 * (body[edges[long, 0]] + body[edges[long, 1]])]))
        triangles = _split(triangles, split)
    return body, triangles


def _split(triangles: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Triangles with new vertices in the middle of edges (0-1, 1-2, 2-0); -1 where an edge stays whole."""
    count = (middle >= 0).sum(1)
    # Turned so that the one split edge, or the one whole edge, comes first.
    odd = np.where(count == 1, (middle >= 0).argmax(1), np.where(count == 2, (middle < 0).argmax(1), 0))
    turn = (odd[:, None] + np.arange(3)) % 3
    t, m = np.take_along_axis(triangles, turn, 1), np.take_along_axis(middle, turn, 1)
    a, b, c, ab, bc, ca = (*t.T, *m.T)
    out = [triangles[count == 0]]
    for number, faces in (
        (1, ((a, ab, c), (ab, b, c))),
        (2, ((a, b, bc), (a, bc, ca), (ca, bc, c))),
        (3, ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))),
    ):
        out += [np.stack(face, 1)[count == number] for face in faces]
    return np.concatenate(out)


def _border(triangles: np.ndarray) -> np.ndarray:
    """Edges [m, 2] that only one triangle has, in its order."""
    edges = np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2)
    _, first, count = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
    return edges[first[count == 1]]


def _smoothing(count: int, triangles: np.ndarray, border: np.ndarray) -> csr_matrix:
    """Half a vertex and half the mean of its neighbours, sparse [count, count]; along the border only along it."""
    edges = np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2)
    on_border = np.zeros(count, bool)
    on_border[border] = True
    edges = np.concatenate([edges, edges[:, ::-1]])
    edges = np.concatenate([edges[~on_border[edges[:, 0]]], border, border[:, ::-1]])
    matrix = csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    matrix.data[:] = 1.0
    total = np.asarray(matrix.sum(1)).ravel()
    return csr_matrix(0.5 * diags_array(1 / total) @ matrix + 0.5 * diags_array(np.ones(count)))
