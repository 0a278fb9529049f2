"""Neck, shoulders and clothes: background to the labels, but a head without them would float."""

from dataclasses import dataclass

import numpy as np

from datasets.faces.features import smooth
from datasets.faces.person import Person


@dataclass(frozen=True)
class Body:
    """For n rays: whether they meet it, whether it is clothed there, its depth (-9 where missed), its normal [3, n]."""

    mask: np.ndarray
    cloth: np.ndarray
    depth: np.ndarray
    normal: np.ndarray


def meet(person: Person, px: np.ndarray, py: np.ndarray, turn: np.ndarray) -> Body:
    """Rays at frame positions [n] relative to the head's centre. The body faces the camera whatever the head does."""
    ax, ay, _ = (v * person.scale for v in person.axes)
    base = turn @ np.array([0.0, 0.55 * ay, -0.30 * ax], np.float32)  # where the neck enters the skull
    x, y = px - base[0], (py - base[1]) * (1.0 / ay)  # y in head heights below that point
    spread = smooth(0.30, 1.0, y)
    half = ax * (0.68 + 0.25 * spread)
    slope = np.abs(x) * (1.0 / ax)
    shoulder = 0.62 + 0.16 * np.minimum(slope, 2.0) ** 1.5
    across = np.minimum(slope * ax / half, 1.0)
    neck = (slope * ax < half) & (y > -0.3)
    torso = y > shoulder
    round_neck = np.sqrt(np.maximum(1.0 - across * across, 0.0))
    round_torso = np.sqrt(np.maximum(1.0 - np.minimum(slope / 2.6, 1.0) ** 2, 0.0))
    depth_neck = base[2] + ax * (-0.1 + 0.66 * round_neck)
    depth_torso = base[2] + ax * (-0.55 + 0.85 * round_torso + 0.35 * smooth(0.6, 1.4, y))
    depth = np.where(torso, np.where(neck, np.maximum(depth_neck, depth_torso), depth_torso), depth_neck)
    depth = np.where(neck | torso, depth, np.float32(-9.0)).astype(np.float32)
    nx = np.where(neck & (depth_neck >= depth_torso), np.sign(x) * across, np.sign(x) * np.minimum(slope / 2.6, 0.9))
    ny = np.where(torso & ~neck, np.float32(-0.35), np.float32(0.05))
    normal = np.stack([nx, ny, np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.02))])
    normal *= 1.0 / np.sqrt((normal * normal).sum(0))
    collar = 0.72 + person.collar * 0.6 - 0.5 * np.maximum(person.collar, 0.0) * slope
    cloth = (y > collar) & (torso | neck)
    return Body(neck | torso, cloth, depth, normal.astype(np.float32))
