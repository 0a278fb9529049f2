"""Hair that is gathered in one place: combed tight to a point, and from there a ponytail or a bun."""

import numpy as np

from datasets.faces.comb import Comb
from datasets.faces.wearer import Style, Wearer


def bun(w: Wearer) -> Style:
    """A knot between the nape and the top of the head."""
    high = w.chance[6]
    return Style(
        _tight(w, 0.72 + 0.14 * high, -0.045 + 0.09 * high**2), 3000, 12, 1.4e-3, bun=0.024 + 0.016 * w.chance[7]
    )


def ponytail(w: Wearer) -> Style:
    """A tail from the back of the head."""
    high = w.chance[6]
    tail = Comb(
        w.hair.length * 0.8,
        volume=0.03,
        ramp=0.06,
        lift=2.5,
        lift_reach=0.03,
        bend=0.02,
        back=0.1,
        gravity=1.0,
        close=0.25,
        clump=0.3,
        wander=0.3,
        finer=1.1,
        fall_left=-0.8,
        fall_right=-0.8,
        **w.waves,
    )
    return Style(_tight(w, 0.775 + 0.055 * high, -0.045 + 0.04 * high**2), 2700, 12, 1.4e-3, tail=tail)


def _tight(w: Wearer, tie_y: float, tie_z: float) -> Comb:
    return Comb(
        0.26,
        volume=min(w.hair.volume, 0.012),
        ragged=0.0,
        lift=0.6,
        lift_reach=0.006,
        bend=0.010,
        gravity=0.0,
        stick=0.6,
        tie=1.0,
        tie_y=tie_y,
        tie_z=tie_z,
        clump=0.1,
        wander=0.10,
        part=w.hair.part,
    )


def tail_roots(comb: Comb, count: int, rng: np.random.Generator) -> np.ndarray:
    """Where the strands of a tail leave the tie, float32 [count, 3] on the base head; some lie inside it."""
    return (np.array([0.0, comb.tie_y, comb.tie_z]) + rng.normal(0, 0.006, (count, 3))).astype(np.float32)


def wind_bun(style: Style, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strands wound around an axis that leaves the base head at the tie, a knot with ridges.

    Gives points and outward float32 [count, k, 3] and depth float32 [count, k], of geometry.Strands.
    """
    k, radius = style.points, style.bun
    base = np.array([0.0, style.comb.tie_y, style.comb.tie_z])
    axis = base - np.array([0.0, 0.765, 0.045])
    axis /= np.linalg.norm(axis)
    aside = np.array([1.0, 0.0, 0.0])
    up = np.cross(axis, aside)
    layer = rng.uniform(0.72, 1.0, count)[:, None]
    t = np.linspace(0, 1, k)[None]
    angle = rng.uniform(0, 2 * np.pi, count)[:, None] + rng.uniform(1.2, 2.6, count)[:, None] * t
    latitude = np.arcsin(rng.uniform(-0.45, 0.97, count))[:, None] + rng.uniform(-0.5, 0.5, count)[:, None] * (t - 0.5)
    latitude = np.clip(latitude, -0.6, 1.45)[..., None]
    around = np.cos(angle)[..., None] * aside + np.sin(angle)[..., None] * up
    normal = np.cos(latitude) * around + np.sin(latitude) * axis
    ridge = 1 + 0.05 * np.sin(3 * angle + 9 * latitude[..., 0])  # as of hair that is twisted before it is wound
    reach = radius * layer * ridge * (1 - 0.25 * np.abs(normal @ axis))
    points = base + axis * (0.62 * radius) + reach[..., None] * normal
    depth = np.broadcast_to(0.2 + 0.8 * (layer - 0.72) / 0.28, (count, k))
    return points.astype(np.float32), normal.astype(np.float32), depth.astype(np.float32)
