"""The head's surface: a star-shaped solid carved from profiles, stored as a radius over the sphere, met by rays.

The radius lives on a grid in the Lambert azimuthal equal-area projection centred on the face (x / sqrt(2 n (n + z)),
n the length), which needs one square root per look-up and has no seam in front. A pixel's ray (orthographic) is
marched to the first crossing and refined; there the grid gives the normal and the *canonical* position, the point of
the neutral, featureless skull, that regions and textures are functions of. All arrays are float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from datasets.faces import features, hair, noise
from datasets.faces.person import Person

_GRID = 176
_SPAN = 0.97  # the projection's unit disc is the whole sphere
_STEPS = 16

# Elevations of the direction in degrees (downwards is positive) and the radius there: the outline in the middle of the
# face, as seen from the side, and the outline at the sides, as seen from the front; the back repeats the latter.
_SAGITTAL = np.array(
    [
        [-90, -70, -47, -26, -6, 21, 33, 49, 58, 68, 78, 90],
        [1.0, 1.03, 1.03, 1.02, 0.985, 1.02, 1.09, 1.20, 1.15, 1.03, 0.93, 0.88],
    ]
)
_LATERAL = np.array(
    [
        [-90, -47, -17, 0, 17, 36, 54, 72, 90],
        [1.0, 1.03, 1.01, 1.0, 0.99, 0.985, 0.985, 0.96, 0.88],
    ]
)


@dataclass(frozen=True)
class Grid:
    """Directions of the grid's cells and the profiles there; the same for every head."""

    direction: np.ndarray  # [3, G, G]
    sagittal: np.ndarray
    lateral: np.ndarray
    front: np.ndarray  # squared cosine of the azimuth in front, 0 behind
    jaw: np.ndarray  # where the jaw's width acts, 0..1


@lru_cache(maxsize=1)
def _grid() -> Grid:
    line = np.linspace(-_SPAN, _SPAN, _GRID)
    s, t = np.meshgrid(line, line)
    w = np.sqrt(s * s + t * t)
    shrink = np.minimum(1.0, 0.995 / np.maximum(w, 1e-9))
    s, t, w = s * shrink, t * shrink, w * shrink
    factor = 2.0 * np.sqrt(1.0 - w * w)
    dx, dy, dz = s * factor, t * factor, 1.0 - 2.0 * w * w
    elevation = np.rad2deg(np.arcsin(np.clip(dy, -1, 1)))
    across = dx * dx / np.maximum(dx * dx + dz * dz, 1e-9)
    front = np.where(dz > 0, 1.0 - across, 0.0)
    jaw = across * np.exp(-(((elevation - 42.0) / 20.0) ** 2))
    arrays = (
        np.stack([dx, dy, dz]),
        np.interp(elevation, *_SAGITTAL),
        np.interp(elevation, *_LATERAL),
        front,
        jaw,
    )
    soft = [
        cv2.GaussianBlur(a.astype(np.float32), (0, 0), 3.0) if a.ndim == 2 else a.astype(np.float32) for a in arrays
    ]
    return Grid(*soft)


@dataclass(frozen=True)
class Hits:
    """What rays met, for the n rays that met something; `index` says which of the rays they are."""

    index: np.ndarray  # int64 [n]
    depth: np.ndarray  # [n], frames, towards the viewer
    canonical: np.ndarray  # [3, n]
    normal: np.ndarray  # [3, n], unit, in the camera's axes
    relief: np.ndarray  # [n]: > 0 on bumps, < 0 in hollows, canonical units

    def __getitem__(self, keep: np.ndarray) -> "Hits":
        """The hits that `keep`, bool [n], picks."""
        parts = (self.canonical[:, keep], self.normal[:, keep], self.relief[keep])
        return Hits(self.index[keep], self.depth[keep], *parts)


def rotation(pose: tuple[float, float, float]) -> np.ndarray:
    """Head to camera, float32 [3, 3]: yaw (+ turns to the image's right), then pitch (+ nods), then roll."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(pose), np.sin(pose)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (roll @ pitch @ yaw).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """[3, n] scaled to length one."""
    return vectors * (1.0 / np.sqrt(np.einsum("kn,kn->n", vectors, vectors) + 1e-12))


def _march(
    gap: Callable[[np.ndarray], np.ndarray], start: np.ndarray, stop: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays first enter a solid between depths `start` and `stop` [n]: hit bool [n], depth [n].

    `gap` maps depths [n] to signed clearances [n], negative inside. Even steps find the crossing, regula falsi
    (kept off the ends, so that neither stalls) refines it.
    """
    step = (stop - start) * np.float32(1.0 / steps)
    hit = np.zeros(start.shape, bool)
    near, f_near, f_far = start.copy(), np.ones_like(start), np.full_like(start, -1.0)
    depth, previous = start, np.ones_like(start)
    for _ in range(steps):
        depth = depth + step
        value = gap(depth)
        new = (value < 0) & ~hit
        np.copyto(near, depth - step, where=new)
        np.copyto(f_near, previous, where=new)
        np.copyto(f_far, value, where=new)
        hit |= new
        previous = value
    far = near + step
    for _ in range(3):
        middle = near + (far - near) * np.clip(f_near / (f_near - f_far), 0.1, 0.9)
        value = gap(middle)
        outside = value > 0
        near, f_near = np.where(outside, middle, near), np.where(outside, value, f_near)
        far, f_far = np.where(outside, far, middle), np.where(outside, f_far, value)
    return hit, near + (far - near) * np.clip(f_near / (f_near - f_far + 1e-9), 0.0, 1.0)


class Head:
    """One person's head, ready to be met by rays."""

    def __init__(self, person: Person) -> None:
        grid = _grid()
        skull = grid.lateral + (grid.sagittal - grid.lateral) * grid.front + person.jaw * grid.jaw
        x, y, z = (grid.direction[k] * skull for k in range(3))
        radius = skull.copy()
        box = np.s_[_GRID // 8 : -_GRID // 8, _GRID // 8 : -_GRID // 8]  # holds the front half of the sphere
        radius[box] += features.relief(x[box], y[box], person) * features.smooth(0.0, 0.3, z[box])
        radius += person.ear * np.exp(-(((y - 0.06 + 0.25 * z) / 0.24) ** 4) - ((z + 0.10) / 0.10) ** 2)
        if not person.hair.bald:
            fx, fy, fz = x.ravel(), y.ravel(), z.ravel()
            strand = hair.strands(fx, fy, fz, person.hair)
            height = hair.cap(fx, fy, fz, strand, person.hair)
            radius += hair.thickness(height, fy, strand, person.hair).reshape(radius.shape)
        self.radius = np.ascontiguousarray(radius, dtype=np.float32)
        self.axes = np.array(person.axes, np.float32) * np.float32(person.scale)
        px, py, pz = (grid.direction[k] * self.radius * self.axes[k] for k in range(3))
        (xs, xt), (ys, yt), (zs, zt) = (
            (cv2.Scharr(v, cv2.CV_32F, 1, 0), cv2.Scharr(v, cv2.CV_32F, 0, 1)) for v in (px, py, pz)
        )
        normal = np.stack([ys * zt - zs * yt, zs * xt - xs * zt, xs * yt - ys * xt])
        normal *= 1.0 / np.sqrt((normal * normal).sum(0) + 1e-16)
        bumps = self.radius - cv2.GaussianBlur(self.radius, (0, 0), _GRID / 37.0)
        self._sheet = np.dstack([normal[0], normal[1], normal[2], skull]).astype(np.float32)
        self._bumps = bumps
        self._reach = float(self.radius.max())

    def _at(self, q: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Length of scaled head positions and their place on the grid."""
        x, y, z = q
        n = np.sqrt(x * x + y * y + z * z)
        stretch = np.float32((_GRID - 1) / (2.0 * _SPAN)) / np.sqrt(np.maximum(2.0 * n * (n + z), 1e-6))
        centre = np.float32((_GRID - 1) / 2.0)
        return n, x * stretch + centre, y * stretch + centre

    def meet(self, px: np.ndarray, py: np.ndarray, turn: np.ndarray) -> Hits:
        """Rays along the camera's z through frame positions [n] relative to the head's centre."""
        a, b = _rays(px, py, turn, self.axes)
        bb = sum(v * v for v in b)
        ab = (a[0] * b[0] + a[1] * b[1] + a[2] * b[2]) * (1.0 / bb)
        square = (self._reach**2 - a[0] * a[0] - a[1] * a[1] - a[2] * a[2]) * (1.0 / bb) + ab * ab
        index = np.flatnonzero(square > 0)
        a, ab, square = [v[index] for v in a], ab[index], square[index]

        def gap(depth: np.ndarray) -> np.ndarray:
            n, u, v = self._at([a[k] + b[k] * depth for k in range(3)])
            return n - noise.lookup(self.radius, u, v)

        hit, depth = _march(gap, np.sqrt(square) - ab, -ab - 0.25 * float(bb) ** -0.5, _STEPS)
        index, depth = index[hit], depth[hit]
        q = [a[k][hit] + b[k] * depth for k in range(3)]
        n, u, v = self._at(q)
        sheet = noise.lookup(self._sheet, u, v).T
        normal = _unit(turn @ sheet[:3])
        return Hits(index, depth, np.stack(q) * (sheet[3] / n), normal, noise.lookup(self._bumps, u, v))


def _rays(px: np.ndarray, py: np.ndarray, turn: np.ndarray, axes: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """The rays in scaled head coordinates: position at depth t is a + b t."""
    inverse = turn.T / axes[:, None]
    a = [inverse[k, 0] * px + inverse[k, 1] * py for k in range(3)]
    return a, [float(inverse[k, 2]) for k in range(3)]


def meet_curtain(curtain: hair.Curtain, axes: np.ndarray, px: np.ndarray, py: np.ndarray, turn: np.ndarray) -> Hits:
    """Rays against the curtain of hair; `relief` is minus the depth below its outer surface, at the opening's edge."""
    a, b = _rays(px, py, turn, axes)
    # Across the vertical axis the solid lies in a disc: start where the ray enters that cylinder.
    bb = b[0] * b[0] + b[2] * b[2]
    ab = (a[0] * b[0] + a[2] * b[2]) * (1.0 / bb)
    square = (curtain.reach**2 - a[0] * a[0] - a[2] * a[2]) * (1.0 / bb) + ab * ab
    index = np.flatnonzero(square > 0)
    a, ab, half = [v[index] for v in a], ab[index], np.sqrt(square[index])

    def gap(depth: np.ndarray) -> np.ndarray:
        return curtain.clearance(*(a[k] + b[k] * depth for k in range(3)))

    hit, depth = _march(gap, half - ab, -0.7 * half - ab, 14)
    index, depth = index[hit], depth[hit]
    x, y, z = (a[k][hit] + b[k] * depth for k in range(3))
    rho = np.sqrt(x * x + z * z)
    normal = _unit(turn @ np.stack([x / (rho * axes[0]), np.full_like(x, -0.6), z / (rho * axes[2])]))
    deep = rho - curtain.outer_at(y)
    # On the opening's wall the azimuth is constant: let strands go on with the depth instead.
    return Hits(index, depth, np.stack([x + 0.3 * np.sign(x) * np.minimum(deep + 0.1, 0.0), y, z]), normal, deep)
