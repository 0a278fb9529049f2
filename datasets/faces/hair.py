"""Hair as two surfaces: a cap that thickens the scalp, and a curtain around the head and the neck.

Strands are a noise that is long downwards and indexed by the azimuth around the vertical axis, so they run from the
crown to the tips on both surfaces; the same noise frays the borders, which keeps outline, relief and texture agreed.
"""

import numpy as np

from datasets.faces import noise
from datasets.faces.features import smooth
from datasets.faces.person import Hair


def strands(x: np.ndarray, y: np.ndarray, z: np.ndarray, hair: Hair) -> np.ndarray:
    """Strand noise at canonical positions: float32, zero mean, unit deviation; the positions' shape."""
    radius = np.sqrt(x * x + z * z)
    turn = x / (radius + np.maximum(z, -0.9 * radius) + 1e-4)  # tan of half the azimuth
    swing = hair.wave * np.sin(7.0 * y + 3.0 * turn)
    straight = noise.sample("strands", turn * 0.55 + swing * 0.35, y * 0.22 + 0.3)
    if hair.curl < 0.3:
        return straight
    frizz = noise.sample("spots", turn * 1.1, y * 0.9)
    return straight * (1.0 - hair.curl) + frizz * hair.curl


def cap(x: np.ndarray, y: np.ndarray, z: np.ndarray, strand: np.ndarray, hair: Hair) -> np.ndarray:
    """Signed height above the hairline at canonical positions: positive is hair, in canonical units."""
    if hair.bald:
        return np.full_like(x, -1.0)
    facing = z / np.sqrt(x * x + z * z + 1e-6)  # cosine of the azimuth
    stops = np.array([-1.0, -0.45, -0.20, -0.05, 0.10, 0.24, 0.42, 0.62, 0.80, 1.0])
    front, climb = hair.front, hair.front - hair.recede
    side = max(hair.side, hair.ear)
    lines = np.array([0.75, 0.55, 0.30, hair.ear, side, side, -0.22, front + 0.14 - 0.6 * hair.recede, climb, front])
    line = np.interp(facing, stops, lines).astype(np.float32)
    if hair.fringe > -2.0:
        edge = hair.fringe + 0.16 * np.abs(x - hair.part) - 0.05
        line = np.where(facing > 0.3, np.maximum(line, np.minimum(edge, hair.fringe + 0.08)), line)
    else:
        line = line + 0.10 * np.abs(hair.part) * np.abs(x - hair.part) * smooth(0.3, 0.7, facing)
    return line + hair.jag * strand - y


def thickness(height: np.ndarray, y: np.ndarray, strand: np.ndarray, hair: Hair) -> np.ndarray:
    """How far the cap stands out of the scalp, from the height above the hairline."""
    full = 0.35 * smooth(0.0, 0.05, height) + 0.65 * smooth(0.0, 0.35, height)
    rough = 1.0 + (0.04 + 0.16 * hair.curl) * strand
    return hair.thickness * full * rough * (0.75 + 0.35 * smooth(0.1, -0.8, y))


class Curtain:
    """The solid that long hair fills: inside a radius, behind an opening for the face, above its tips.

    The radius is tabulated over (tangent of half the azimuth, y) and zero where there is no hair.
    """

    _TURNS, _TOP, _BOTTOM = 2.4, -0.8, 2.8

    def __init__(self, hair: Hair, radius: float) -> None:
        turn, y = np.meshgrid(
            np.linspace(-self._TURNS, self._TURNS, 160, dtype=np.float32),
            np.linspace(self._TOP, self._BOTTOM, 128, dtype=np.float32),
        )
        facing = (1.0 - turn * turn) / (1.0 + turn * turn)  # cosine of the azimuth
        side = 2.0 * turn / (1.0 + turn * turn)
        strand = strands(side.ravel(), y.ravel(), facing.ravel(), hair).reshape(y.shape)
        tip = strands(side[0], np.full_like(side[0], hair.length), facing[0], hair)  # one length for each azimuth
        dome = np.sqrt(np.maximum(1.0 - np.minimum(y, 0.0) ** 2 * 0.9, 0.05))
        outer = 1.0 + (radius - 1.0) * smooth(-0.75, -0.1, y)
        outer = outer * dome + hair.flare * smooth(-0.1, 1.3, y) + (0.012 + 0.06 * hair.curl) * strand
        outer = outer - 0.35 * smooth(hair.length - 0.35, hair.length + 0.05, y) * (1.0 - hair.curl)
        low = np.where(turn < 0, np.float32(hair.opening[0]), np.float32(hair.opening[1]))
        start = low + (0.75 - low) * (1.0 - smooth(-0.75, -0.05, y)) + 0.22 * smooth(0.7, 1.5, y)
        there = (facing < start) & (y < hair.length + 0.06 * tip) & (y > -0.75)
        self._whole = outer.max(axis=1).astype(np.float32)  # of each row, as if there were no opening
        self.outer = np.where(there, outer, 0.0).astype(np.float32)
        self.reach = float(self.outer.max())

    def clearance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Distance [n] from the vertical axis less the hair's radius there: negative inside, canonical units."""
        rho = np.sqrt(x * x + z * z)
        turn = x / (rho + np.maximum(z, -0.9 * rho) + 1e-4)
        rows, columns = self.outer.shape
        u = (turn + self._TURNS) * ((columns - 1) / (2.0 * self._TURNS))
        v = (y - self._TOP) * ((rows - 1) / (self._BOTTOM - self._TOP))
        return rho - noise.lookup(self.outer, u, v)

    def outer_at(self, y: np.ndarray) -> np.ndarray:
        """The widest radius at heights y [n]."""
        return np.interp(y, np.linspace(self._TOP, self._BOTTOM, len(self._whole)), self._whole).astype(np.float32)
