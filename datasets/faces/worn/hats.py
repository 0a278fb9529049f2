"""How hats sit: a beanie, a cap with a visor, a hat with a brim (headwear.py makes them).

A hat is a radius about the skull's centre in every direction above its rim: the person's own smooth skull with a gap,
raised to the crown's shape where that stands higher, so that nothing of the head pokes through. The rim is a tilted and
bent curve around the head, its height a function of azimuth; `Hat.covers` tells what lies under the hat, so that hair
can be cut there.
"""

from dataclasses import dataclass

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.head import Head
from datasets.faces.person import Person
from datasets.faces.worn.skull import Skull, fit_skull, places
from datasets.faces.worn.surfaces import unit

EAR_SPREAD = 0.30  # radians by which a beanie bulges around an ear


@dataclass(frozen=True)
class Hat:
    """Where a hat sits on one head: its rim and its surface, in head space.

    rim      [3] metres: height of the rim is rim[0] + rim[1] cos(azimuth) + rim[2] cos(2 azimuth), azimuth 0 in front
    gap      metres between the smooth skull and the cloth
    crown    [3] metres and power: half width added at the rim, height of the top over the centre, and how square the
             crown is; height 0 follows the skull alone
    ears     [2, 4] direction of each ear and the metres by which the cloth bulges there
    """

    skull: Skull
    rim: np.ndarray
    gap: float
    crown: tuple[float, float, float]
    ears: np.ndarray

    def rim_height(self, azimuth: np.ndarray) -> np.ndarray:
        """Metres of y in head space, for azimuths in radians (0 in front, positive to the subject's left)."""
        return self.rim[0] + self.rim[1] * np.cos(azimuth) + self.rim[2] * np.cos(2 * azimuth)

    def covers(self, points: np.ndarray) -> np.ndarray:
        """Whether points [n, 3] in head space lie above the rim, and so under (or in, or through) the hat: bool [n]."""
        return _above_rim(points, self.skull.center, self.rim)

    def radius(self, directions: np.ndarray) -> np.ndarray:
        """Metres from the skull's centre to the cloth, [...] for unit directions [..., 3]."""
        out = self.skull.radius(directions) + self.gap
        for ear in self.ears:
            if ear[3] > 0:
                away = np.arccos(np.clip(directions @ ear[:3], -1, 1))
                out = out + ear[3] * np.exp(-((away / EAR_SPREAD) ** 2))
        widening, top, power = self.crown
        if top > 0:
            flat = np.sqrt(np.maximum(1 - directions[..., 1] ** 2, 1e-6))
            level = directions.copy()
            level[..., 1] = 0.0
            wall = (self.skull.radius(unit(level)) + self.gap + widening) / flat
            lid = top / np.maximum(directions[..., 1], 1e-3)
            out = np.maximum(out, (wall**-power + lid**-power) ** (-1 / power))
        return out

    def point(self, directions: np.ndarray, extra: float | np.ndarray = 0.0) -> np.ndarray:
        """Points [..., 3] of the cloth, `extra` metres outside it."""
        return self.skull.center + directions * (self.radius(directions) + extra)[..., None]

    def rim_angles(self, azimuth: np.ndarray) -> np.ndarray:
        """Polar angles (0 upward, radians) at which the cloth meets the rim."""
        height = self.rim_height(azimuth) - self.skull.center[1]
        angle = np.full(azimuth.shape, np.pi / 2)
        for _ in range(3):
            reach = self.radius(direction(angle, azimuth))
            angle = np.arccos(np.clip(height / reach, -0.95, 0.95))
        return angle


def direction(polar: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Unit directions [..., 3]."""
    sine = np.sin(polar)
    return np.stack([sine * np.sin(azimuth), np.broadcast_to(np.cos(polar), sine.shape), sine * np.cos(azimuth)], -1)


def fit_hat(head: Head, neutral: np.ndarray, person: Person) -> Hat | None:
    """How the person's hat sits; None where none is worn. Raises ValueError for a hat that is not known."""
    worn = person.accessories
    if worn.hat == "none":
        return None
    if worn.hat not in ("beanie", "cap", "brim"):
        raise ValueError(f"accessories.hat must be none, beanie, cap or brim, but got {worn.hat!r}")
    rng = np.random.Generator(np.random.Philox(key=[worn.seed, 1]))
    skull = fit_skull(neutral)
    where = places()
    brows = float(neutral[head.landmarks[17:27], 1].mean())
    top = float(neutral[where.scalp, 1].max())
    ears = [neutral[ear] for ear in where.ears]
    ear_top = float(np.mean([ear[:, 1].max() for ear in ears]))
    ear_middle = float(np.mean([ear[:, 1].mean() for ear in ears]))
    low, high = {"beanie": (0.20, 0.42), "cap": (0.30, 0.44), "brim": (0.28, 0.44)}[worn.hat]
    front = brows + 0.003 + float(rng.uniform(low, high)) * (top - brows)
    over_ears = worn.hat == "beanie" and rng.random() < 0.5
    side = min(ear_middle + 0.008 if over_ears else ear_top + 0.004, front)
    lean = {"beanie": ear_middle, "cap": ear_middle + 0.007, "brim": ear_top - 0.006}[worn.hat]
    back = lean + float(rng.uniform(-0.008, 0.012))
    rim = np.array([(front + back) / 4 + side / 2, (front - back) / 2, (front + back) / 4 - side / 2])
    hair = 0.0 if person.hair.style == "bald" else min(0.2 * person.hair.volume, 0.004)
    rise = top - float(skull.center[1])
    if not over_ears:
        _lift(rim, skull, ears)
    shape = {
        "beanie": (0.0, rise + float(rng.uniform(0.010, 0.035)), 2.6),
        "cap": (0.001, rise + float(rng.uniform(0.008, 0.016)), 3.2),
        "brim": (-0.003, rise + float(rng.uniform(0.014, 0.032)), 5.5),
    }[worn.hat]
    hat = Hat(skull, rim, 0.0, shape, np.zeros((2, 4)))
    poke, bulge = _protrusion(hat, neutral[where.coverable]), np.zeros((2, 4))
    if over_ears:
        for number, ear in enumerate(ears):
            bulge[number] = _bulge(hat, ear, poke + 0.002)
    return Hat(skull, rim, poke + 0.0015 + hair, shape, bulge)


def _lift(rim: np.ndarray, skull: Skull, ears: list[np.ndarray]) -> None:
    """Raises a rim at the sides until it clears the tops of the ears."""
    for ear in ears:
        azimuth = np.arctan2(ear[:, 0] - skull.center[0], ear[:, 2] - skull.center[2])
        height = rim[0] + rim[1] * np.cos(azimuth) + rim[2] * np.cos(2 * azimuth)
        share = (1 - np.cos(2 * azimuth)) / 2
        lift = float(np.where(share > 0.3, (ear[:, 1] + 0.004 - height) / np.maximum(share, 0.3), 0.0).max())
        if lift > 0:
            rim += np.array([0.5, 0.0, -0.5]) * lift


def _protrusion(hat: Hat, points: np.ndarray) -> float:
    """By how much the skin above the rim stands out of the smooth skull at most, metres."""
    offset = points[hat.covers(points)] - hat.skull.center
    length = np.sqrt((offset * offset).sum(1))
    return max(float((length - hat.skull.radius(offset / length[:, None])).max()), 0.0)


def _bulge(hat: Hat, ear: np.ndarray, gap: float) -> np.ndarray:
    """Direction of an ear and the metres by which cloth must rise there to go over what lies above the rim."""
    offset = ear[hat.covers(ear - np.array([0, -0.004, 0]))] - hat.skull.center
    if not len(offset):
        return np.zeros(4)
    length = np.sqrt((offset * offset).sum(1))
    units = offset / length[:, None]
    middle = unit(units.mean(0))
    fall = np.exp(-((np.arccos(np.clip(units @ middle, -1, 1)) / EAR_SPREAD) ** 2))
    need = (length - hat.skull.radius(units) - gap + 0.001) / fall
    return np.append(middle, max(float(need.max()), 0.0))


@kernel
def _above_rim(points: np.ndarray, center: np.ndarray, rim: np.ndarray) -> np.ndarray:
    out = np.empty(len(points), np.bool_)
    for i in range(len(points)):
        x, z = points[i, 0] - center[0], points[i, 2] - center[2]
        cosine = z / max(np.sqrt(x * x + z * z), 1e-9)
        out[i] = points[i, 1] > rim[0] + rim[1] * cosine + rim[2] * (2 * cosine * cosine - 1)
    return out
