"""A canvas to draw places on: a list of marks in units of the frame, painted in one compiled pass."""

from collections.abc import Sequence
from math import cos, radians, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.faces.compiled import kernel

Color = Any  # three numbers, linear RGB reflectance
_Floats = NDArray[np.float32]


def _numbers(color: Color) -> Sequence[float]:
    values: Sequence[float] = color.tolist() if isinstance(color, np.ndarray) else color
    return values


@kernel
def _draw(marks, size):  # type: ignore[no-untyped-def]
    """Paints `marks` [n, 12] (kind, eight numbers, colour) over each other, antialiased, lit a little from above."""
    image = np.zeros((size, size, 3), np.float32)
    ax, ay = np.zeros(4, np.float32), np.zeros(4, np.float32)
    nx, ny = np.zeros(4, np.float32), np.zeros(4, np.float32)
    half, one = np.float32(0.5), np.float32(1)
    for n in range(marks.shape[0]):
        kind, p = marks[n, 0], marks[n, 1:9] * size
        if kind == 0:  # a convex quadrangle: its corners
            low_x, high_x = min(p[0], p[2], p[4], p[6]), max(p[0], p[2], p[4], p[6])
            low_y, high_y = min(p[1], p[3], p[5], p[7]), max(p[1], p[3], p[5], p[7])
            area = (p[4] - p[0]) * (p[7] - p[3]) - (p[6] - p[2]) * (p[5] - p[1])
            sign = one if area > 0 else -one
            for k in range(4):
                m = (2 * k + 2) % 8
                dx, dy = p[m] - p[2 * k], p[m + 1] - p[2 * k + 1]
                length = max(np.sqrt(dx * dx + dy * dy), np.float32(1e-6))
                ax[k], ay[k], nx[k], ny[k] = p[2 * k], p[2 * k + 1], -dy / length * sign, dx / length * sign
        elif kind == 1:  # an oval: centre, half axes, cosine and sine of its angle
            reach = max(p[2], p[3])
            low_x, high_x, low_y, high_y = p[0] - reach, p[0] + reach, p[1] - reach, p[1] + reach
        elif kind == 2:  # a line: ends, width
            reach = half * p[4]
            low_x, high_x = min(p[0], p[2]) - reach, max(p[0], p[2]) + reach
            low_y, high_y = min(p[1], p[3]) - reach, max(p[1], p[3]) + reach
            dx, dy = p[2] - p[0], p[3] - p[1]
            length = max(np.sqrt(dx * dx + dy * dy), np.float32(1e-6))
            dx, dy = dx / length, dy / length
        if kind == 3:  # an upright box: two corners
            low_x, high_x, low_y, high_y = min(p[0], p[2]), max(p[0], p[2]), min(p[1], p[3]), max(p[1], p[3])
        tall = max(high_y - low_y, one)
        for i in range(max(0, int(low_y - 1)), min(size, int(high_y) + 2)):
            y = i + half
            shade = one - np.float32(0.3) * ((y - low_y) / tall - half)
            left, right = low_x, high_x
            if kind == 2 and abs(dy) > np.float32(0.01):  # the line alone, not the box about it
                middle, wide = p[0] + (y - p[1]) * dx / dy, (reach + one) / abs(dy)
                left, right = max(left, middle - wide), min(right, middle + wide)
            for j in range(max(0, int(left - 1)), min(size, int(right) + 2)):
                x = j + half
                if kind == 0:
                    inside = np.float32(1e6)
                    for k in range(4):
                        if nx[k] != 0 or ny[k] != 0:
                            inside = min(inside, (x - ax[k]) * nx[k] + (y - ay[k]) * ny[k])
                    cover = min(max(inside + half, np.float32(0)), one)
                elif kind == 1:
                    u = ((x - p[0]) * marks[n, 5] + (y - p[1]) * marks[n, 6]) / p[2]
                    v = ((y - p[1]) * marks[n, 5] - (x - p[0]) * marks[n, 6]) / p[3]
                    cover = min(max((one - np.sqrt(u * u + v * v)) * min(p[2], p[3]) + half, np.float32(0)), one)
                elif kind == 3:
                    cover = min(max(min(x + half, high_x) - max(x - half, low_x), np.float32(0)), one)
                    cover *= min(max(min(y + half, high_y) - max(y - half, low_y), np.float32(0)), one)
                else:
                    along = (x - p[0]) * dx + (y - p[1]) * dy
                    across = abs((y - p[1]) * dx - (x - p[0]) * dy)
                    cover = min(max(reach - across + half, np.float32(0)), one, p[4])
                    cover *= min(max(min(along, length - along) + half, np.float32(0)), one)
                if cover > 0:
                    for c in range(3):
                        image[i, j, c] += cover * (marks[n, 9 + c] * shade - image[i, j, c])
    return image


class Canvas:
    """A list of marks; coordinates 0..1 from the upper left, widths in frames, colours as linear reflectances."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, ...]] = []

    def paint(self, size: int) -> _Floats:
        """The marks over each other on black, linear RGB reflectance float32 [size, size, 3]."""
        return _draw(np.array(self.marks, np.float32), size)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color) -> None:
        self.marks.append((3, x0, y0, x1, y1, 0, 0, 0, 0, *_numbers(color)))

    def shape(self, points: Any, color: Color) -> None:
        a, b, c, *more = points
        self.marks.append((0, *a, *b, *c, *(more[0] if more else c), *_numbers(color)))

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, color: Color) -> None:
        self.marks.append((2, x0, y0, x1, y1, width, 0, 0, 0, *_numbers(color)))

    def oval(self, x: float, y: float, rx: float, ry: float, angle: float, color: Color) -> None:
        turn = radians(angle)
        self.marks.append((1, x, y, rx, ry, cos(turn), sin(turn), 0, 0, *_numbers(color)))

    def words(self, rng: np.random.Generator, x: float, y: float, width: float, height: float, color: Color) -> None:
        """Marks like a line of capital letters: stems with bars."""
        pitch, at = 0.75 * height, x
        for kind, gap in rng.random((max(1, min(14, int(width / pitch))), 2)).tolist():
            right = at + 0.5 * height
            if gap > 0.15:
                self.line(at, y, at, y + height, 0.15 * height, color)
                level = y + height * (0 if kind < 0.35 else 0.5 if kind < 0.7 else 1)
                self.line(at, level, right, level, 0.15 * height, color)
                if kind > 0.5:
                    self.line(right, y, right if kind < 0.75 else at, y + height, 0.15 * height, color)
            at += pitch
