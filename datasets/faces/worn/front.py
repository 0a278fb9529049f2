"""Where glasses stand: the outlines of their lenses and the curved sheet that carries them, fitted to a face.

The sheet is z = middle - x^2 / (2 wrap) - y^2 / (2 base) + y tan(tilt). It stands as close to the eyes as spectacles do
(about 13 mm before the cornea; ISO 13666 calls it the vertex distance) but nowhere touches brow, nose or cheek of the
face as it is posed.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from datasets.faces.head import Head, load_head
from datasets.faces.person import Accessories
from datasets.faces.worn.surfaces import surface_height

VERTEX_DISTANCE = 0.0125  # metres, cornea to lens
CLEARANCE = 0.0010  # metres, rim to skin
POINTS = 36  # of a lens outline
EYE_DISTANCE = 0.0615  # metres, of the base mesh
SHAPES = ("round", "oval", "square", "aviator")


def outline(shape: str) -> np.ndarray:
    """A left lens's outline [POINTS, 2] in metres about its middle: x away from the nose, y up. Counter-clockwise."""
    t = np.arange(POINTS) * (2 * np.pi / POINTS)
    c, s = np.cos(t), np.sin(t)

    def superellipse(half_x: float, half_y: float, power: float) -> np.ndarray:
        return np.stack(
            [half_x * np.sign(c) * np.abs(c) ** (2 / power), half_y * np.sign(s) * np.abs(s) ** (2 / power)], 1
        )

    if shape == "round":
        return superellipse(0.0225, 0.0215, 2.0)
    if shape == "oval":
        return superellipse(0.0255, 0.0185, 2.2)
    if shape == "square":
        out = superellipse(0.0260, 0.0195, 4.2)
        out[:, 0] *= 1 + 2.6 * out[:, 1]  # narrower below
        return out
    if shape == "aviator":
        out = superellipse(0.0270, 0.0225, 2.5)
        low = np.clip(-out[:, 1] / 0.0225, 0, 1)
        out[:, 0] += 0.0035 * low**1.5  # the drop hangs outwards
        out[:, 0] = np.where(out[:, 0] < 0, out[:, 0] * (1 - 0.32 * low), out[:, 0])
        out[:, 1] = np.where(out[:, 1] < 0, out[:, 1] * 1.12, out[:, 1] * 0.86)
        return out
    raise ValueError(f"accessories.glasses_shape must be one of {', '.join(SHAPES)}, but got {shape!r}")


@dataclass(frozen=True)
class Front:
    """Where the lenses stand, in head space.

    middle       x of the nose and y of the lenses' middle
    wrap, base   metres, radii of the sheet's curvature across and along
    tilt         tangent of the angle by which the top stands further forward
    z            metres, of the sheet at its middle
    sides        outlines [POINTS, 2] of the right and of the left lens
    outward      their normals
    """

    middle: tuple[float, float]
    wrap: float
    base: float
    tilt: float
    z: float
    sides: tuple[np.ndarray, np.ndarray]
    outward: tuple[np.ndarray, np.ndarray]

    def place(self, flat: np.ndarray) -> np.ndarray:
        """Points [n, 3] of the sheet at x and y [n, 2 or 3]."""
        x, y = flat[:, 0] - self.middle[0], flat[:, 1] - self.middle[1]
        z = self.z - x**2 / (2 * self.wrap) - y**2 / (2 * self.base) + y * self.tilt
        return np.stack([flat[:, 0], flat[:, 1], z], 1)

    def edge(self, number: int, by: float) -> np.ndarray:
        """A lens's outline [POINTS, 3], `by` metres outside it."""
        return self.place(self.sides[number] + by * self.outward[number])


def fit_front(
    head: Head, neutral: np.ndarray, posed: np.ndarray, worn: Accessories, lift: float, rng: np.random.Generator
) -> Front:
    """The lenses before the eyes of a neutral face float32 [V, 3], clear of the posed one by `lift` metres more."""
    eyes = head.eyes(neutral)
    scale = worn.glasses_size * float(np.sqrt(np.linalg.norm(eyes.centers[1] - eyes.centers[0]) / EYE_DISTANCE))
    shape = outline(worn.glasses_shape) * scale * (1.06 if worn.glasses == "sunglasses" else 1.0)
    away = _normals(shape)
    width = worn.frame_width
    bridge = float(rng.uniform(0.0085, 0.0100)) * scale + width / 2
    middle_x = float(neutral[head.landmarks[27:30], 0].mean())
    eye_x = float(np.abs(eyes.centers[:, 0] - middle_x).mean())
    lens_y = float(eyes.centers[:, 1].mean()) - float(rng.uniform(0.001, 0.0035)) * scale
    wrap, base = (0.11, 0.16) if worn.glasses == "sunglasses" else (0.19, 0.20)
    tilt = float(np.tan(np.radians(rng.uniform(4, 9))))
    cornea = eyes.centers[:, 2] + eyes.radii
    clear = CLEARANCE + lift + rim_depth(width)
    for _ in range(5):
        lens_x = max(bridge - float(shape[:, 0].min()), eye_x - 0.002)
        right, left = (np.array([middle_x, lens_y]) + [s, 1] * (shape + np.array([lens_x, 0.0])) for s in (-1, 1))
        front = Front((middle_x, lens_y), wrap, base, tilt, 0.0, (right, left), (away * [-1, 1], away))
        ring = np.concatenate([front.edge(number, k * width)[::2] for number in (0, 1) for k in (0.0, 0.9)])
        skin = surface_height(ring[:, :2].astype(np.float32), posed, face_front(), 0, 1, 2, 1.0)
        need = float((skin + clear - ring[:, 2]).max())
        close = float((cornea + VERTEX_DISTANCE - front.place(eyes.centers)[:, 2]).max())
        if need < close + 0.005:
            break
        # The nose is broad for this frame: with a wider bridge it sits further back, and higher.
        bridge, lens_y = bridge + 0.0015, lens_y + 0.0008
    return replace(front, z=max(need, close))


def rim_depth(width: float) -> float:
    """Half of a rim's depth from front to back, metres, for its width."""
    return max(0.0011, min(0.42 * width, 0.0018))


@cache
def face_front() -> np.ndarray:
    """Triangles of the face around the eyes, int32."""
    head = load_head()
    middle = head.canonical[head.triangles].mean(1)
    x, y, z = np.abs(middle[:, 0]), middle[:, 1], middle[:, 2]
    eye = ((x - 0.031) / 0.018) ** 2 + ((y - 0.728) / 0.008) ** 2 < 1  # lids lie behind brows, nose and cheeks
    inside = (z > 0.085) & (y > 0.68) & (y < 0.77) & ~eye
    return np.ascontiguousarray(head.triangles[inside & (head.part == 0)])


def _normals(flat: np.ndarray) -> np.ndarray:
    """Outward unit normals [n, 2] of a closed counter-clockwise outline [n, 2]."""
    index = np.arange(len(flat))
    tangent = flat[(index + 1) % len(flat)] - flat[index - 1]
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], 1)
    return normal / np.sqrt((normal * normal).sum(1, keepdims=True))
