"""Over-ear headphones: two cups that enclose the ears, and a band over hair and hat."""

import numpy as np

from datasets.faces.geometry import Mesh
from datasets.faces.person import Person
from datasets.faces.worn.hats import Hat
from datasets.faces.worn.skull import Skull, fit_skull, places
from datasets.faces.worn.surfaces import dome, joined, mesh, smooth_path, tube, unit

CUP_COLUMNS = 28


def make_headphones(neutral: np.ndarray, person: Person, hat: Hat | None = None) -> list[Mesh]:
    """Cushions, shells and band, [] for none; about 1,200 triangles. The band goes over `hat` where one is worn.

    neutral  float32 [V, 3] vertices without expression. Raises ValueError for a kind that is not known.
    """
    worn = person.accessories
    if worn.headphones == "none":
        return []
    if worn.headphones != "over_ear":
        raise ValueError(f"accessories.headphones must be none or over_ear, but got {worn.headphones!r}")
    rng = np.random.Generator(np.random.Philox(key=[worn.seed, 6]))
    base = np.array(worn.headphones_color)
    skull = fit_skull(neutral)
    ears = [neutral[ear] for ear in places().ears]
    size = np.array([float(rng.uniform(0.040, 0.046)), float(rng.uniform(0.033, 0.039))])  # half, up and along
    cushion = np.clip(0.3 * base + 0.01, 0.01, 0.3) if rng.random() < 0.7 else base * 0.7
    inner, outer, tops = [], [], []
    for sign, ear in zip((-1.0, 1.0), ears, strict=True):
        low, high = ear.min(0), ear.max(0)
        middle = (low + high) / 2
        fit = np.maximum(size, (high - low)[1:] / 2 + 0.009)
        near, far = (low[0], high[0]) if sign > 0 else (high[0], low[0])
        rest, end = float(near) - sign * 0.004, float(far) + sign * float(rng.uniform(0.004, 0.009))
        edge = rest + float(rng.uniform(0.45, 0.6)) * (end - rest)
        lean = np.array([0.0, 0.0, float(rng.uniform(-0.002, 0.002))])
        center = np.array([0.0, middle[1], middle[2]]) + lean
        inner.append(_cup(center, fit, sign, [(rest, 0.80), (rest, 0.94), ((rest + edge) / 2, 1.03), (edge, 0.99)]))
        profile = [(edge, 0.92), (edge + sign * 0.003, 0.97), (end - sign * 0.005, 0.93), (end, 0.74), (end, 0.3)]
        outer.append(_cup(center, fit, sign, profile))
        tops.append(center + np.array([edge + 0.4 * (end - edge), 0.86 * fit[0], 0.0]))
    path = _band(skull, tops, person, hat)
    width, thick = float(rng.uniform(0.010, 0.016)), float(rng.uniform(0.0022, 0.0038))
    taper = np.interp(np.arange(len(path)), [0, 5, len(path) - 6, len(path) - 1], [0.55, 1, 1, 0.55])[:, None]
    tangent = unit(np.gradient(path, axis=0))
    forward = unit(np.array([0.0, 0.0, 1.0]) - tangent * tangent[:, 2:])
    hoop = tube(path, forward, np.cross(tangent, forward), taper * np.array([width, thick]), sides=8, square=0.6)
    shell_gloss = float(rng.uniform(0.15, 0.6))
    return [
        mesh(*joined(inner), cushion, "headphones", gloss=0.08),
        mesh(*joined([*outer, hoop]), base, "headphones", gloss=shell_gloss),
    ]


def _cup(
    center: np.ndarray, half: np.ndarray, sign: float, profile: list[tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """A turned body about the x axis: profile of (x, share of the half sizes), from the head outwards, closed there."""
    turn = np.arange(CUP_COLUMNS) * (2 * np.pi / CUP_COLUMNS)
    circle = np.stack([np.zeros(CUP_COLUMNS), half[0] * np.cos(turn), half[1] * np.sin(turn)], 1)
    rings = np.stack([np.array([x, 0, 0]) + center + share * circle for x, share in reversed(profile)])
    vertices, triangles = dome(rings, np.array([profile[-1][0], center[1], center[2]]))
    return vertices, triangles if sign > 0 else triangles[:, ::-1]


def _band(skull: Skull, tops: list[np.ndarray], person: Person, hat: Hat | None) -> np.ndarray:
    """The middle line [n, 3] of the band, from the right cup over the head to the left one.

    Two quarters of a superellipse, pushed out to where they clear the head, its hair pressed down, and the hat.
    """
    hair = 0.0 if person.hair.style == "bald" else min(0.6 * person.hair.volume, 0.020)
    turn = np.linspace(-np.pi / 2, np.pi / 2, 31)
    above = np.array([[0.0, 1.0, 0.0]])
    clear = 0.007 + (hair if hat is None else 0.0)
    top = skull.center + above[0] * (float((skull if hat is None else hat).radius(above)[0]) + clear)
    sides = np.where((turn < 0)[:, None], tops[0], tops[1])
    out, up = np.abs(np.sin(turn))[:, None] ** 0.8, np.cos(turn)[:, None].clip(0) ** 0.8
    arc = np.concatenate([top[:1] + out * (sides - top)[:, :1], sides[:, 1:2] + up * (top - sides)[:, 1:2]], 1)
    arc = np.concatenate([arc, sides[:, 2:] + up * 0.3 * (top - sides)[:, 2:]], 1)
    offset = arc - skull.center
    length = np.sqrt((offset * offset).sum(1))
    units = offset / length[:, None]
    need = skull.radius(units) + clear
    if hat is not None:
        need = np.maximum(need, np.where(hat.covers(arc), hat.radius(units) + clear, 0.0))
    push = np.where(up[:, 0] > 0.3, np.maximum(need - length, 0.0), 0.0)
    for _ in range(2):
        padded = np.pad(push, 1, mode="edge")
        push = np.maximum(push, (padded[:-2] + padded[1:-1] + padded[2:]) / 3)
    return smooth_path(arc + units * push[:, None], 40)
