"""A text file of points, as people and tools write them: one `x y` a line.

Between the two may be spaces, tabs, a comma or a semicolon. What .pts, .csv and other files have around the points is
read, too: a first line `x,y`, a first line that is the number of points (LaPa), `version: 1`, `n_points: 68`, braces.
"""

import math
import re
from pathlib import Path

import numpy as np

from datasets.ordinary import read_text

_HEADER = re.compile(r"(version|n_points)\s*:\s*(\S+)", re.IGNORECASE)


def read_points(path: str | Path, num: int | None = None) -> np.ndarray:
    """The points of a file in its order and its own coordinates: float64 [n, 2], (x, y).

    num  how many there must be; any number unless given

    Raises ValueError, one line that names the file, where it is missing, not text, holds anything but points of two
    finite numbers, none of them, or another number of them than it says or must hold.
    """
    path = Path(path)
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: the file is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable file of points ({error}); replace or remove it") from None
    points: list[tuple[float, float]] = []
    count = None if num is None else str(num)
    lines = ((number, re.sub(r"[{},;\s]+", " ", line).strip()) for number, line in enumerate(text.splitlines(), 1))
    for place, (number, line) in enumerate((number, line) for number, line in lines if line):
        header = None if points else _HEADER.fullmatch(line)
        if header is not None and header[1].lower() == "n_points":
            if num is not None and header[2] != count:
                raise ValueError(f"{path}:{number}: n_points must be {num}, but is {header[2]}")
            count = header[2]
        elif place == 0 and line.isdecimal() and (num is None or line == count):
            count = line
        elif header is None and (place > 0 or line.lower() != "x y"):
            points.append(_point(line, f"{path}:{number}"))
    if not points or count not in (None, str(len(points))):
        raise ValueError(f"{path}: must hold {count or 'at least 1'} points, but has {len(points)}")
    return np.array(points, np.float64)


def _point(line: str, where: str) -> tuple[float, float]:
    try:
        x, y = map(float, line.split())
    except ValueError:
        raise ValueError(f"{where}: must be a point `x y`, but reads {line[:40]!r}") from None
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"{where}: a point must be finite, but reads {line[:40]!r}")
    return x, y
