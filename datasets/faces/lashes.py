"""Lashes as strands, along the lash strips of the head model, so that they move with the lids."""

from functools import cache

import numpy as np

from datasets.faces.geometry import Strands
from datasets.faces.head import load_head
from datasets.faces.person import Person
from datasets.segments import SEGMENTS

POINTS = 4


@cache
def _roots() -> tuple[np.ndarray, np.ndarray]:
    """Vertices (root, tip) int32 [n, 2] of all four strips, and whether a strip is an upper one, bool [n]."""
    lines = load_head().lashes
    upper = np.concatenate([np.full(len(pairs), name.endswith("2")) for name, pairs in lines.items()])
    return np.concatenate(list(lines.values())), upper


def grow_lashes(posed: np.ndarray, person: Person) -> Strands:
    """Lashes on expressive vertices float32 [V, 3]."""
    pairs, upper = _roots()
    rng = np.random.Generator(np.random.Philox(key=[person.identity.texture, 2]))
    root, tip = posed[pairs[:, 0]], posed[pairs[:, 1]]
    way = tip - root
    length = (0.55 + 0.45 * person.facial_hair.lashes) * np.where(upper, 1.0, 0.6) * rng.uniform(0.7, 1.1, len(pairs))
    t = np.linspace(0, 1, POINTS)[None, :, None]
    lift = np.where(upper, 1.0, -1.0)[:, None, None] * 0.0012 * t**2  # they curl away from the eye
    points = root[:, None] + way[:, None] * t * length[:, None, None] + lift * np.array([0.0, 1.0, 0.0])
    shape = points.shape[:2]
    return Strands(
        points=np.ascontiguousarray(points, np.float32),
        width=np.where(upper, 0.00035, 0.00022).astype(np.float32) * np.float32(0.5 + person.facial_hair.lashes),
        color=np.full((len(pairs), 3), 0.008, np.float32),
        outward=np.broadcast_to(np.array([0, 0, 1], np.float32), points.shape).copy(),
        depth=np.full(shape, 0.5, np.float32),
        segment=SEGMENTS.index("eyelashes"),
        follows=np.ones(shape, np.float32),
    )
