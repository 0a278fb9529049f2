"""Cast shadows: the depth of everything as the directional light sees it, and how much of the light reaches a point."""

from dataclasses import dataclass

import numpy as np

from datasets.faces.compiled import inlined, kernel

SIDE = 208  # pixels of the map
REACH = 0.26  # metres around the head's middle that the map covers
TEXEL = 2 * REACH / SIDE


@dataclass(frozen=True)
class ShadowMap:
    """frame float32 [3, 3] (rows: right, up, towards the light), middle [3], depth [SIDE, SIDE] (larger is nearer)."""

    frame: np.ndarray
    middle: np.ndarray
    depth: np.ndarray


def cast(
    direction: np.ndarray, middle: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, strands: np.ndarray
) -> ShadowMap:
    """The map for a light from `direction` [3], of triangles int32 [T, 3] of vertices [V, 3] and strands [n, k, 3]."""
    helper = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = np.cross(helper, direction)
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(direction, right), direction]).astype(np.float32)
    depth = np.full((SIDE, SIDE), -10.0, np.float32)
    _triangles(_seen(vertices, frame, middle), triangles, depth)
    _lines(_seen(strands.reshape(-1, 3), frame, middle).reshape(strands.shape), depth)
    return ShadowMap(frame, middle.astype(np.float32), depth)


@kernel
def _seen(points: np.ndarray, frame: np.ndarray, middle: np.ndarray) -> np.ndarray:
    out = np.empty_like(points)
    for i in range(len(points)):
        x, y, z = points[i, 0] - middle[0], points[i, 1] - middle[1], points[i, 2] - middle[2]
        out[i, 0] = SIDE / 2 + (frame[0, 0] * x + frame[0, 1] * y + frame[0, 2] * z) / TEXEL
        out[i, 1] = SIDE / 2 + (frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z) / TEXEL
        out[i, 2] = frame[2, 0] * x + frame[2, 1] * y + frame[2, 2] * z
    return out


@kernel
def _triangles(seen: np.ndarray, triangles: np.ndarray, depth: np.ndarray) -> None:
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = seen[a, 0], seen[a, 1], seen[b, 0], seen[b, 1], seen[c, 0], seen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        for row in range(
            max(int(np.ceil(min(ay, by, cy) - 0.5)), 0), min(int(np.floor(max(ay, by, cy) - 0.5)), SIDE - 1) + 1
        ):
            for column in range(
                max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0), min(int(np.floor(max(ax, bx, cx) - 0.5)), SIDE - 1) + 1
            ):
                px, py = column + 0.5, row + 0.5
                wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
                wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
                if wb >= 0.0 and wc >= 0.0 and wb + wc <= 1.0:
                    d = seen[a, 2] + wb * (seen[b, 2] - seen[a, 2]) + wc * (seen[c, 2] - seen[a, 2])
                    if d > depth[row, column]:
                        depth[row, column] = d


@kernel
def _lines(seen: np.ndarray, depth: np.ndarray) -> None:
    for s in range(seen.shape[0]):
        for k in range(seen.shape[1] - 1):
            dx, dy = seen[s, k + 1, 0] - seen[s, k, 0], seen[s, k + 1, 1] - seen[s, k, 1]
            steps = int(max(abs(dx), abs(dy))) + 1
            for i in range(steps):
                t = (i + 0.5) / steps
                column, row = int(seen[s, k, 0] + t * dx), int(seen[s, k, 1] + t * dy)
                if 0 <= row < SIDE and 0 <= column < SIDE:
                    d = seen[s, k, 2] + t * (seen[s, k + 1, 2] - seen[s, k, 2])
                    if d > depth[row, column]:
                        depth[row, column] = d


@inlined
def lit_share(
    depth: np.ndarray, frame: np.ndarray, middle: np.ndarray, x: float, y: float, z: float, spread: float, bias: float
) -> float:
    """The share of the light that reaches a point in camera space, 0 to 1; `spread` in metres softens the edge."""
    px, py, pz = x - middle[0], y - middle[1], z - middle[2]
    column = SIDE / 2 + (frame[0, 0] * px + frame[0, 1] * py + frame[0, 2] * pz) / TEXEL
    row = SIDE / 2 + (frame[1, 0] * px + frame[1, 1] * py + frame[1, 2] * pz) / TEXEL
    own = frame[2, 0] * px + frame[2, 1] * py + frame[2, 2] * pz + bias
    step = max(spread / TEXEL, 0.7)
    reached = 0.0
    for i in range(5):
        # Bilinear comparison (percentage closer filtering) in the middle and at four corners.
        dr = 0.0 if i == 4 else (step if i < 2 else -step)
        dc = 0.0 if i == 4 else (step if i % 2 == 0 else -step)
        r, c = row + dr - 0.5, column + dc - 0.5
        r0, c0 = int(np.floor(r)), int(np.floor(c))
        if r0 < 0 or c0 < 0 or r0 >= SIDE - 1 or c0 >= SIDE - 1:
            reached += 1.0
            continue
        fr, fc = r - r0, c - c0
        a = 1.0 if depth[r0, c0] <= own else 0.0
        b = 1.0 if depth[r0, c0 + 1] <= own else 0.0
        e = 1.0 if depth[r0 + 1, c0] <= own else 0.0
        f = 1.0 if depth[r0 + 1, c0 + 1] <= own else 0.0
        reached += (a * (1 - fc) + b * fc) * (1 - fr) + (e * (1 - fc) + f * fc) * fr
    return reached / 5.0
