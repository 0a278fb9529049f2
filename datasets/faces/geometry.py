"""The two kinds of geometry that a picture is rasterised from: triangles and strands.

Both are given in head space (metres; x the subject's left, y up, z forward), fitted to a person's own head, and are
turned with it afterwards.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """Triangles of one thing that is worn.

    vertices   float32 [V, 3] metres
    triangles  int32 [T, 3], counter-clockwise seen from outside
    color      float32 [V, 3] linear RGB albedo
    segment    uint8 [T] id in `datasets.segments.SEGMENTS`
    gloss      float32 [T], 0 matte .. 1 mirror-like
    opacity    float32 [T], 1 opaque; a lens has less
    follows    float32 [V], 1 turns with the head .. 0 stays with the torso
    """

    vertices: np.ndarray
    triangles: np.ndarray
    color: np.ndarray
    segment: np.ndarray
    gloss: np.ndarray
    opacity: np.ndarray
    follows: np.ndarray


@dataclass(frozen=True)
class Strands:
    """Hairs, or locks of hairs too fine to be told apart.

    points   float32 [n, k, 3] metres, root first
    width    float32 [n] metres at the root; a strand tapers to its tip
    color    float32 [n, 3] linear RGB
    outward  float32 [n, k, 3] unit, roughly the outward normal of the hair's volume
    depth    float32 [n, k], 0 innermost and dark .. 1 outermost
    segment  id in `datasets.segments.SEGMENTS`
    follows  float32 [n, k], 1 turns with the head .. 0 stays with the torso
    """

    points: np.ndarray
    width: np.ndarray
    color: np.ndarray
    outward: np.ndarray
    depth: np.ndarray
    segment: int
    follows: np.ndarray


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals float32 [V, 3], the area-weighted mean of the adjacent triangles'."""
    corners = vertices[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.empty(vertices.shape, np.float32)
    flat = triangles.ravel()
    for axis in range(3):
        normals[:, axis] = np.bincount(flat, np.repeat(faces[:, axis], 3), minlength=len(vertices))
    length = np.sqrt((normals * normals).sum(1, keepdims=True))
    return normals / np.maximum(length, 1e-20)
