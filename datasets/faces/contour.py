"""The jaw's landmarks as annotators mark them: on the visible outline, not on the jaw bone.

Where a face is turned away, the outline is the cheek's. Along a line on the skin from the face's middle to each jaw
landmark lie candidates; the one that reaches furthest outward in the picture is the outline (as the Face API's
`contour` landmarks and other 3-D to 2-D fitting do it, e.g. Zhu et al. 2015).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from datasets.faces.head import load_head
from datasets.faces.raster import NOTHING, Buffer, draw_triangles

JAW = 17
STEPS = 28
INNER = 0.45  # of the way from the middle to the jaw, where candidates begin
MIDDLE = np.array([0.0, 0.695])  # canonical x, y
SCALE = 6000.0  # pixels a metre of the table's own rasterisation


@dataclass(frozen=True)
class Candidates:
    """Points on the skin: vertices int32 [17, STEPS, 3], their weights float32 [17, STEPS, 3], outward [17, 2]."""

    vertices: np.ndarray
    weights: np.ndarray
    outward: np.ndarray


@cache
def load_candidates() -> Candidates:
    """Finds the candidates on the neutral head, once a process."""
    head = load_head()
    side = int(0.2 * SCALE)
    screen = np.empty_like(head.canonical)
    screen[:, 0] = side / 2 + head.canonical[:, 0] * SCALE
    screen[:, 1] = side / 2 - (head.canonical[:, 1] - MIDDLE[1]) * SCALE
    screen[:, 2] = head.canonical[:, 2] + 10.0
    code, u, v, _ = buffer = Buffer.empty(side)
    skin = head.triangles[head.part == 0]
    draw_triangles(screen, skin, 0, True, *buffer)
    jaw = head.landmarks[:JAW]
    arms = head.canonical[jaw, :2] - MIDDLE
    vertices = np.empty((JAW, STEPS, 3), np.int32)
    weights = np.empty((JAW, STEPS, 3), np.float32)
    for i in range(JAW):
        for k, reach in enumerate(np.linspace(INNER, 1.0, STEPS)):
            x, y = arms[i] * reach
            row, column = int(side / 2 - y * SCALE), int(side / 2 + x * SCALE)
            if k == STEPS - 1 or code[row, column] == NOTHING:
                vertices[i, k], weights[i, k] = jaw[i], (1, 0, 0)
                continue
            b, c = u[row, column], v[row, column]
            # The table is orthographic, but its depths are not all equal: undo the perspective of the weights.
            corner = skin[code[row, column]]
            depth = screen[corner, 2]
            flat = np.array([(1 - b - c) / depth[0], b / depth[1], c / depth[2]])
            vertices[i, k], weights[i, k] = corner, flat / flat.sum()
    return Candidates(vertices, weights, arms / np.linalg.norm(arms, axis=1, keepdims=True))


def visible_outline(screen: np.ndarray, head_turn: np.ndarray) -> np.ndarray:
    """The jaw's landmarks on the outline, (column, row, 1/depth) float32 [17, 3].

    screen     float32 [V, 3] projected vertices (column, row, 1/depth)
    head_turn  float32 [3, 3] the head's rotation
    """
    table = load_candidates()
    points = (screen[table.vertices] * table.weights[..., None]).sum(2)
    outward = table.outward @ head_turn[:2, :2].T
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    reach = points[..., 0] * outward[:, None, 0] - points[..., 1] * outward[:, None, 1]
    best = reach.argmax(1)
    return points[np.arange(JAW), best].astype(np.float32)
