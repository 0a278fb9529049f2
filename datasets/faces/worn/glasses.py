"""Glasses: rims, bridge, temples and lenses, fitted to a person's eyes, nose, face and ears.

The front stands as front.py fits it. The temples run from the rims' outer corners outside the head to where the ears
are attached, and down behind them.
"""

from functools import cache

import numpy as np

from datasets.faces.geometry import Mesh
from datasets.faces.head import Head, load_head
from datasets.faces.person import Person
from datasets.faces.worn.front import CLEARANCE, POINTS, Front, face_front, fit_front, rim_depth
from datasets.faces.worn.surfaces import fan, grid, joined, mesh, smooth_path, surface_height, tube, unit

RINGS = np.array([0.35, 0.7, 0.94, 1.02])  # of a lens, as shares of its outline; the last lies within the rim
METAL = 0.0022  # metres: a thinner frame is of metal


def make_glasses(head: Head, neutral: np.ndarray, posed: np.ndarray, person: Person, lift: float = 0.0) -> list[Mesh]:
    """Frame and lenses, [] for none; about 2,000 triangles.

    neutral, posed  float32 [V, 3] vertices without and with the expression
    lift            metres of more clearance, where a mask lies under the glasses

    Raises ValueError for a kind or a shape that is not known.
    """
    worn = person.accessories
    if worn.glasses == "none":
        return []
    if worn.glasses not in ("clear", "sunglasses"):
        raise ValueError(f"accessories.glasses must be none, clear or sunglasses, but got {worn.glasses!r}")
    rng = np.random.Generator(np.random.Philox(key=[worn.seed, 3]))
    front = fit_front(head, neutral, posed, worn, lift, rng)
    width, shape = worn.frame_width, worn.glasses_shape
    heavy = 1.0 + float(rng.uniform(0, 0.35)) * (np.sin(np.arange(POINTS) * 2 * np.pi / POINTS) > 0.1)
    parts = [_rim(front, number, width, heavy, shape) for number in (0, 1)]
    parts += _bridges(front, posed, width, shape, lift)
    parts += [_temple(neutral, front.edge(number, width), number, width, shape) for number in (0, 1)]
    frame = mesh(*joined(parts), worn.frame_color, "glasses_frame", gloss=0.75 if width < METAL else 0.5)
    tint = np.array(worn.lens_color)
    glass, faces = joined([_lens(front, number) for number in (0, 1)])
    if worn.glasses == "clear":
        return [frame, mesh(glass, faces, 0.15 * tint, "glasses_lens", gloss=0.95, opacity=0.08)]
    opacity = np.full(len(faces), float(rng.uniform(0.75, 0.97)))
    if rng.random() < 0.4:  # a gradient, lighter below
        height = (glass[faces].mean(1)[:, 1] - front.middle[1]) / float(np.ptp(front.sides[1][:, 1]) / 2)
        opacity *= np.clip(0.92 + 0.16 * height, 0.7, 1.0)
    return [frame, mesh(glass, faces, 0.04 * tint + 0.002, "glasses_lens", gloss=0.95, opacity=opacity)]


@cache
def _flank() -> np.ndarray:
    """Triangles of both sides of the head between eye and ear, int32, without the ears."""
    head = load_head()
    middle = head.canonical[head.triangles].mean(1)
    ear = (head.masks["ears"] > 0.3)[head.triangles].any(1)
    inside = (np.abs(middle[:, 0]) > 0.045) & (middle[:, 1] > 0.69) & (middle[:, 1] < 0.79) & (middle[:, 2] < 0.14)
    return np.ascontiguousarray(head.triangles[inside & ~ear & (head.part == 0)])


@cache
def _hooks() -> np.ndarray:
    """Vertices [2 sides, 3]: over the ear where it is attached, behind it, and at its back lower down."""
    head = load_head()
    spots = np.array([[0.0745, 0.7352, 0.054], [0.0737, 0.7300, 0.0430], [0.0700, 0.7080, 0.0330]])
    skin = np.unique(head.triangles[head.part == 0])
    skin = skin[head.masks["ears"][skin] < 0.3]
    out = []
    for sign in (-1, 1):
        away = head.canonical[skin][None] - (spots * [sign, 1, 1])[:, None]
        out.append(skin[(away * away).sum(2).argmin(1)])
    return np.array(out)


def _rim(front: Front, number: int, width: float, heavy: np.ndarray, shape: str) -> tuple[np.ndarray, np.ndarray]:
    outward = np.concatenate([front.outward[number], np.zeros((POINTS, 1))], 1)
    half = np.stack([heavy * width / 2, np.full(POINTS, rim_depth(width))], 1)
    # The outline runs counter-clockwise on the left and, mirrored, clockwise on the right.
    forward = np.array([0.0, 0.0, (1.0, -1.0)[number]])
    square = 0.6 if shape == "square" else 0.8
    return tube(front.edge(number, width / 2), outward, forward, half, sides=6, closed=True, square=square)


def _lens(front: Front, number: int) -> tuple[np.ndarray, np.ndarray]:
    side = front.sides[number]
    middle = side.mean(0)
    rings = middle + RINGS[:, None, None] * (side - middle)[None]
    flat = np.concatenate([rings.reshape(-1, 2), middle[None]])
    count = len(RINGS)
    triangles = np.concatenate([fan(POINTS, 0, count * POINTS), grid(count, POINTS, True)])
    return front.place(flat), triangles if number else triangles[:, ::-1]


def _bridges(
    front: Front, posed: np.ndarray, width: float, shape: str, lift: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The bar over the nose, and an aviator's second one at the brows."""
    left = front.sides[1]
    low, high = float(left[:, 1].min()), float(left[:, 1].max())
    depth = rim_depth(width)
    t = np.linspace(0, 1, 9)[:, None]
    bow = 4 * t * (1 - t)
    out = []
    for share, rise in ((0.66, 0.0025), (0.94, 0.0)) if shape == "aviator" else ((0.70, 0.0030),):
        # The place of an inner edge at that height; both outlines have their points in the same order.
        inner = np.where(left[:, 0] < left[:, 0].mean(), np.abs(left[:, 1] - low - share * (high - low)), 1.0).argmin()
        ends = [side[inner] + width / 2 * away[inner] for side, away in zip(front.sides, front.outward, strict=True)]
        path = front.place(ends[0] + t * (ends[1] - ends[0]) + rise * bow * np.array([0.0, 1.0]))
        skin = surface_height(path[:, :2].astype(np.float32), posed, face_front(), 0, 1, 2, 1.0)
        over = np.maximum(skin + CLEARANCE + lift + depth - path[:, 2], 0.0)
        path[:, 2] += float(over.max()) * bow[:, 0] ** 0.5
        half = np.array([width / 2 * (0.8 if share > 0.8 else 1.0), depth])
        tangent = unit(np.gradient(path, axis=0))
        forward = unit(np.array([0.0, 0.0, 1.0]) - tangent * tangent[:, 2:])
        out.append(tube(path, np.cross(forward, tangent), forward, half, sides=6))
    return out


def _temple(
    neutral: np.ndarray, rim: np.ndarray, number: int, width: float, shape: str
) -> tuple[np.ndarray, np.ndarray]:
    """The arm of one side, from the rim's outer upper corner over the ear."""
    sign = (-1.0, 1.0)[number]
    away = np.radians({"round": 18.0, "oval": 24.0, "square": 38.0, "aviator": 36.0}[shape])
    middle = rim.mean(0)
    reach = (rim[:, 0] - middle[0]) * sign * np.cos(away) + (rim[:, 1] - middle[1]) * np.sin(away)
    start = rim[reach.argmax()]
    over, behind, low = neutral[_hooks()[number]]
    corner = start + np.array([sign * 0.0030, 0.0, -0.0035])
    rest = over + np.array([sign * 0.002, 0.0012 + width / 3, 0.0])
    knots = np.stack(
        [
            start + np.array([-sign * 0.001, 0, 0]),
            corner,
            corner + 0.5 * (rest - corner),
            rest + np.array([0.0, 0.0, 0.008]),
            behind + np.array([sign * 0.0015, 0.0, -0.001]),
            low + np.array([sign * 0.0015, 0.0, -0.001]),
        ]
    )
    path = smooth_path(knots, 20)
    skin = surface_height(path[:, [2, 1]].astype(np.float32), neutral, _flank(), 2, 1, 0, sign)
    outside = np.maximum(skin + 0.0016, path[:, 0] * sign)
    padded = np.concatenate([outside[:1], outside, outside[-1:]])
    outside = np.maximum(outside, (padded[:-2] + padded[1:-1] + padded[2:]) / 3)
    path[:, 0] = np.where(np.arange(20) > 1, outside * sign, path[:, 0])
    tangent = unit(np.gradient(path, axis=0))
    sideways = unit(np.array([sign, 0.0, 0.0]) - tangent * (tangent[:, :1] * sign))
    tall = np.cross(tangent, sideways)
    thick = np.clip(width * 0.75, 0.0012, 0.0032)
    taper = np.interp(np.arange(20), [0, 3, 12, 19], [1.0, 1.0, 0.8, 0.9])[:, None]
    half = taper * np.array([0.0009 if width < METAL else 0.0013, thick])
    return tube(path, sideways, tall, half, sides=6, square=0.8)
