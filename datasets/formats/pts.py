"""A .pts file: the landmarks of one face, as the 300-W release and the tools that follow it write them.

    version: 1
    n_points: 68
    {
    96.8282 153.8552
    ...
    }

One line a point, x then y, in Matlab's coordinates: the centre of the first pixel is (1, 1).
"""

import math
import re
from pathlib import Path

import numpy as np

NUM_POINTS = 68
NUM_JAW = 17  # the first points, along the jaw
MARGIN = 0.25  # of the longer side of the landmarks' box
_HEADER = re.compile(r"(version|n_points)\s*:\s*(\S+)", re.IGNORECASE)


def read_pts(path: str | Path) -> np.ndarray:
    """The landmarks of a .pts file: float64 [68, 2], (x, y) in pixels, the CENTRE of the first pixel at (0, 0).

    The header and the braces may be absent, and spaces and empty lines are free. Raises ValueError, one line that names
    the file, where it is missing, not text, or holds anything but 68 points of two finite numbers.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{path}: the file is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable .pts file ({error}); replace or remove it") from None
    points: list[tuple[float, float]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.replace("{", " ").replace("}", " ").split()
        if not words:
            continue
        header = None if points else _HEADER.fullmatch(" ".join(words))
        if header is None:
            points.append(_point(words, f"{path}:{number}"))
        elif header[1].lower() == "n_points" and header[2] != str(NUM_POINTS):
            raise ValueError(f"{path}:{number}: n_points must be {NUM_POINTS}, but is {header[2]}")
    if len(points) != NUM_POINTS:
        raise ValueError(f"{path}: must hold {NUM_POINTS} points, but has {len(points)}")
    return np.array(points, np.float64) - 1


def without_jaw(landmarks: np.ndarray) -> np.ndarray:
    """The 51 inner points [..., 51, 2] of 68 in iBUG's order [..., 68, 2]: brows, nose, eyes and mouth.

    Point i of the 68 becomes i - 17, the outer corners of the eyes 19 and 28. The official 300-W measure has both
    counts (Sagonas et al. 2016); the jaw is left out where its points mean other things: rendered faces have points of
    the bone or the skin, people mark the visible outline. Raises ValueError for another shape.
    """
    if landmarks.shape[-2:] != (NUM_POINTS, 2):
        raise ValueError(f"landmarks must be [..., {NUM_POINTS}, 2], but are {list(landmarks.shape)}")
    return landmarks[..., NUM_JAW:, :]


def check_near(landmarks: np.ndarray, shape: tuple[int, ...], path: Path) -> None:
    """Raises ValueError that names the file where a point [n, 2] is far outside of its image of `shape` (H, W, ...).

    Releases have faces that the image's edge cuts, with points beyond it where the annotator took them to be, so that
    MARGIN of the longer side of the points' box is let pass. What is beyond that belongs to another image or is in
    another unit.
    """
    height, width = shape[:2]
    margin = MARGIN * np.ptp(landmarks, axis=0).max()
    beyond = np.maximum(-0.5 - landmarks, landmarks - (width - 0.5, height - 0.5)).max(axis=1)
    worst = int(beyond.argmax())
    if beyond[worst] > margin:
        x, y = landmarks[worst]
        raise ValueError(
            f"{path}: landmarks must be at most {margin:.1f} pixels ({MARGIN} of the face) outside of the image of "
            f"{width}x{height}, but point {worst} is at ({x:g}, {y:g})"
        )


def _point(words: list[str], where: str) -> tuple[float, float]:
    try:
        x, y = map(float, words)
    except ValueError:
        raise ValueError(f"{where}: must be a point `x y`, but reads {' '.join(words)[:40]!r}") from None
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"{where}: a point must be finite, but reads {' '.join(words)[:40]!r}")
    return x, y
