"""How much of the sky a vertex of the neutral head sees: ambient occlusion, computed once a process.

Sockets, nostrils, the folds beside the nose, behind the ears and below the chin are dark in every photograph; a head
that is lit without this looks like plastic. The mesh is drawn from many directions, and a vertex counts those from
which nothing covers it, weighted by the cosine to its normal (Langer and Buelthoff 2000, "dark means deep").
"""

import numpy as np

from datasets.faces.raster import Buffer, draw_triangles

DIRECTIONS = 128
SIDE = 320  # pixels of a view
REACH = 0.34  # metres: half the side of a view


def ambient_occlusion(vertices: np.ndarray, triangles: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """The visible share of the hemisphere, cosine-weighted, float32 [V], 0 to 1."""
    middle = (vertices.min(0) + vertices.max(0)) / 2
    seen = np.zeros(len(vertices))
    total = np.zeros(len(vertices))
    for direction in _sphere(DIRECTIONS):
        frame = _frame(direction)
        turned = (vertices - middle) @ frame.T
        screen = np.empty_like(turned)
        screen[:, 0] = SIDE / 2 + turned[:, 0] * (SIDE / 2 / REACH)
        screen[:, 1] = SIDE / 2 - turned[:, 1] * (SIDE / 2 / REACH)
        screen[:, 2] = turned[:, 2] + 10.0  # orthographic: larger is nearer
        buffer = Buffer.empty(SIDE)
        draw_triangles(screen.astype(np.float32), triangles, 0, True, *buffer)
        column = np.clip(screen[:, 0].astype(int), 0, SIDE - 1)
        row = np.clip(screen[:, 1].astype(int), 0, SIDE - 1)
        facing = np.maximum(normals @ direction, 0.0)
        open_there = screen[:, 2] > buffer.near[row, column] - 0.004
        seen += facing * open_there
        total += facing
    return (seen / np.maximum(total, 1e-9)).astype(np.float32)


def _sphere(count: int) -> np.ndarray:
    """Directions spread evenly over the sphere (Fibonacci's spiral), float32 [count, 3]."""
    i = np.arange(count) + 0.5
    z = 1 - 2 * i / count
    angle = np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - z * z)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], 1).astype(np.float32)


def _frame(direction: np.ndarray) -> np.ndarray:
    """A rotation whose third row is the direction."""
    helper = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    x = np.cross(helper, direction)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(direction, x), direction]).astype(np.float32)
