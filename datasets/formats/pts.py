"""A .pts file: the landmarks of one face, as the 300-W release and the tools that follow it write them.

    version: 1
    n_points: 68
    {
    96.8282 153.8552
    ...
    }

One line a point, x then y, in Matlab's coordinates: the centre of the first pixel is (1, 1).
"""

from pathlib import Path

import numpy as np

from datasets.formats.points import read_points

NUM_POINTS = 68
NUM_JAW = 17  # the first points, along the jaw
MARGIN = 0.25  # of the longer side of the landmarks' box


def read_pts(path: str | Path) -> np.ndarray:
    """The landmarks of a .pts file: float64 [68, 2], (x, y) in pixels, the CENTRE of the first pixel at (0, 0).

    Raises ValueError as `read_points` does, also for another number of points than 68.
    """
    return read_points(path, NUM_POINTS) - 1


def write_pts(path: str | Path, landmarks: np.ndarray) -> None:
    """Writes landmarks [n, 2] as `read_pts` returns them, to a ten-thousandth of a pixel."""
    lines = [f"{x:.4f} {y:.4f}" for x, y in landmarks.astype(np.float64) + 1]
    Path(path).write_text("\n".join(["version: 1", f"n_points: {len(lines)}", "{", *lines, "}", ""]), encoding="ascii")


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
