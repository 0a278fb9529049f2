"""Drawing: predictions and truths as people look at them, in the picture's own size."""

import cv2
import numpy as np

from datasets.classes import IGNORE
from datasets.contact import POINT, colour
from datasets.landmarks import REGIONS, first_of
from trainables.specs import TaskSpec

SQUARE = 16  # pixels of the checkerboard, and a 32nd of larger pictures
LIGHT, DARK = 204, 153  # its greys
OUTLINE = (20, 20, 20)
OPEN = ("jaw", "brows", "nose")  # regions whose points are no closed line


def draw(spec: TaskSpec, image: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """A prediction (or a truth of the same form) drawn on its picture, uint8 [H, W, 3] RGB like that.

    segmentation  classes uint8 [H, W], in colour at 60% but for the first, the background; 255 stays as it is
    matting       foreground and alpha uint8 [H, W, 4], over a checkerboard
    landmarks     points [51 or 68, 2]; a point that is NaN is left out
    """
    if spec.kind == "segmentation":
        return _coloured(image, prediction)
    if spec.kind == "matting":
        return _over_checkerboard(prediction)
    return _with_points(image, prediction)


def beside(spec: TaskSpec, image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None = None) -> np.ndarray:
    """The picture, the prediction and, where it is given, the truth, side by side: uint8 [H, 2 or 3 W, 3]."""
    drawn = [draw(spec, image, one) for one in (prediction, truth) if one is not None]
    return np.hstack([image, *drawn])


def palette(classes: int) -> list[int]:
    """The colours of classes 0 and up, and white for 255, as Pillow's `putpalette` takes them: 768 numbers."""
    shown = [colour(k) if k < classes or k == IGNORE else (0, 0, 0) for k in range(256)]
    return [value for rgb in shown for value in rgb]


def _coloured(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    table = np.array([colour(k) for k in range(256)], np.float32)
    mixed = np.rint(0.4 * image.astype(np.float32) + 0.6 * table[labels]).astype(np.uint8)
    return np.where(((labels == 0) | (labels == IGNORE))[..., None], image, mixed)


def _over_checkerboard(matte: np.ndarray) -> np.ndarray:
    height, width = matte.shape[:2]
    square = max(SQUARE, max(height, width) // 32)
    y, x = np.mgrid[:height, :width] // square
    board = np.where((x + y) % 2 == 0, LIGHT, DARK)[..., None]
    alpha = matte[..., 3:] / np.float32(255)
    return np.rint(alpha * matte[..., :3] + (1 - alpha) * board).astype(np.uint8)


def _with_points(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Dots as large as the face asks for, joined region by region."""
    picture = np.ascontiguousarray(image).copy()
    known = np.isfinite(points).all(1)
    if not known.any():
        return picture
    face = float(np.ptp(points[known], axis=0).max())
    radius = max(1.0, face / 120)
    thin = max(1, round(radius / 2))
    first = first_of(len(points))

    def at(point: np.ndarray) -> tuple[int, int]:
        x, y = np.clip(np.rint(point * 16), -(2**20), 2**20)  # OpenCV counts sixteenths of a pixel here
        return int(x), int(y)

    for name, (begin, end) in REGIONS.items():
        for line in _lines(name, begin, end):
            inside = [k - first for k in line if k >= first]
            if len(inside) > 1 and known[inside].all():
                chain = np.array([at(points[k]) for k in inside], np.int32)
                cv2.polylines(picture, [chain], name not in OPEN, OUTLINE, thin, cv2.LINE_AA, 4)
    for point in points[known]:
        cv2.circle(picture, at(point), round(16 * radius), POINT, -1, cv2.LINE_AA, 4)
    return picture


def _lines(name: str, begin: int, end: int) -> list[range]:
    """The chains of points of a region."""
    if name == "brows":
        return [range(17, 22), range(22, 27)]
    if name == "nose":
        return [range(27, 31), range(31, 36)]
    if name == "eyes":
        return [range(36, 42), range(42, 48)]
    if name == "mouth":
        return [range(48, 60), range(60, 68)]
    return [range(begin, end)]
