"""Which part of a face a canonical position is: outlines drawn once on the neutral head, seen from the front.

The outlines of lips and eyes go through the landmarks' own vertices, so that segments, paint and landmarks agree
for any identity, expression and pose. They are baked into maps over canonical x and y, which the shading kernel reads;
what lies behind the front, such as ears, neck and scalp, is told apart by position alone (`segment_at`).
Names are the Face API's (datasets/segments.py); `_left` is the subject's left, x > 0.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from datasets.faces.compiled import inlined
from datasets.faces.head import load_head
from datasets.segments import SEGMENTS

LEFT, TOP = -0.090, 0.850  # metres, canonical position of the maps' corner
SCALE = 3000.0  # map pixels per metre
WIDTH, HEIGHT = 540, 840
FIELDS = LIPS, SEAM, BROWS, EYES, NOSTRILS, CORNERS, UNDER, FOLDS = tuple(range(8))  # of Atlas.fields

_ID = {name: np.uint8(i) for i, name in enumerate(SEGMENTS)}
HEAD, NECK, SHOULDERS, BODY, EAR_LEFT, EAR_RIGHT, MOUTHBAG = (
    _ID[name] for name in ("head", "neck", "shoulders", "body", "ear_left", "ear_right", "mouthbag")
)

# Half outlines of the neutral face in millimetres, x >= 0, from top to bottom; the other half mirrors them.
# fmt: off
# The brow's middle; its landmarks lie on the upper edge.
BROW = ((10.6, 740.4), (20.5, 741.6), (34.0, 745.8), (47.7, 741.3), (55.0, 734.6))
NOSE = (
    (0, 734), (5.0, 732), (6.5, 724), (8.5, 712), (12.0, 703.5), (16.6, 697.5),
    (18.3, 691), (16.8, 685), (12.0, 681.5), (6.0, 679.3), (0, 678.8),
)
NOSTRIL = ((9.0, 687.0), (11.0, 685.5), (10.5, 683.2), (7.5, 682.6), (5.2, 684.0), (6.0, 686.2))
UNDEREYE = ((13, 724), (20, 721), (33, 720), (45, 723), (46, 716), (36, 710), (22, 710.5), (14, 716))
CHEEK = ((24, 708), (45, 716), (66, 722), (72, 700), (64, 672), (52, 655), (34, 664), (27, 680))
SMILE_LINE = ((17.5, 690), (21, 684), (29, 668), (31, 655), (27, 655), (25, 668), (18, 682), (16.5, 686))
CHIN = ((0, 646), (12, 645), (21, 640), (24, 626), (18, 612), (0, 600))
JOWL = ((30, 664), (52, 668), (50, 640), (36, 628), (26, 636), (28, 655))
# fmt: on


@dataclass(frozen=True)
class Atlas:
    """The baked maps, row 0 at canonical y = TOP, column 0 at x = LEFT, SCALE pixels a metre.

    ids     uint8 [HEIGHT, WIDTH], segment of the front
    fields  float32 [len(FIELDS), HEIGHT, WIDTH]: signed distance in metres, positive inside, of LIPS, BROWS,
            EYES and NOSTRILS; SEAM: metres above the line where the lips meet; the others: weights, 0 to 1
    """

    ids: np.ndarray
    fields: np.ndarray


@cache
def load_atlas() -> Atlas:
    """Bakes the maps, once a process."""
    head = load_head()
    points = head.canonical[head.landmarks].astype(np.float64) * 1000
    lips = _closed(points[48:60, :2])
    eye = _closed(points[42:48, :2])
    brow = _brow(np.array(BROW, np.float64))
    ids = np.full((HEIGHT, WIDTH), SEGMENTS.index("jaw"), np.uint8)
    x, y = _grid()
    for name, where in {
        "forehead": y > 747,
        "temples": (np.abs(x) > 56) & (y > 716),
    }.items():
        ids[where] = SEGMENTS.index(name)
    _paint(ids, "jowl", JOWL)
    _paint(ids, "cheek", CHEEK, sided=True)
    _fill(ids, "chin", _whole(CHIN))
    _paint(ids, "smile_line", SMILE_LINE)
    nose = _whole(NOSE)
    ids[(_signed(nose) > -3.2e-3) & (y < 722)] = SEGMENTS.index("nose_outer")
    eye_field = np.maximum(_signed(eye), _signed(_mirrored(eye)))
    brow_field = np.maximum(_signed(brow), _signed(_mirrored(brow)))
    ids[((y > 739) & (y <= 752) & (np.abs(x) < 58)) | (brow_field > -1.5e-3)] = SEGMENTS.index("brow")
    ids[(y <= 739) & (y > 728) & (np.abs(x) < 12)] = SEGMENTS.index("brow")
    ids[eye_field > -8.0e-3] = SEGMENTS.index("eyes")
    _paint(ids, "undereye", UNDEREYE)
    ids[eye_field > -4.5e-3] = SEGMENTS.index("eyelid")
    _fill(ids, "nose", nose)
    _paint(ids, "nostrils", NOSTRIL)
    lip_field = _signed(lips)
    seam = _seam(points)
    ids[(lip_field > -4.0e-3) & (lip_field <= 0)] = SEGMENTS.index("mouth")
    above = (y - np.interp(np.abs(x), seam[:, 0], seam[:, 1])) * 1e-3
    ids[(lip_field > 0) & (above >= 0)] = SEGMENTS.index("lip_upper")
    ids[(lip_field > 0) & (above < 0)] = SEGMENTS.index("lip_lower")
    nostrils = np.maximum(_signed(np.array(NOSTRIL)), _signed(_mirrored(np.array(NOSTRIL))))
    corner = np.exp(-(((np.abs(x) - 26.5) / 4) ** 2) - (((y - 661.5) / 3) ** 2))
    under = _soft(_signed(np.array(UNDEREYE))) + _soft(_signed(_mirrored(np.array(UNDEREYE))))
    fold = _soft(_signed(np.array(SMILE_LINE)), 2e-3) + _soft(_signed(_mirrored(np.array(SMILE_LINE))), 2e-3)
    layers = [lip_field, above, brow_field, eye_field, nostrils, corner, under, fold]
    return Atlas(ids, np.ascontiguousarray(np.stack(layers), np.float32))


@inlined
def segment_at(ids: np.ndarray, x: float, y: float, z: float, ears: float, inside: float) -> np.uint8:
    """The segment of a canonical position on the body; `ears` and `inside` are weights of the model's masks there."""
    if inside > 0.5:
        return MOUTHBAG
    if ears > 0.5:
        return EAR_LEFT if x > 0 else EAR_RIGHT
    if y < 0.545 - 0.25 * abs(x):
        return BODY if y < 0.47 else SHOULDERS
    jaw = 0.600 + 0.10 * max(0.11 - z, 0.0) / 0.11 + 0.10 * max(abs(x) - 0.02, 0.0)
    if (y < jaw and z < 0.128 - 0.35 * abs(x)) or (z < 0.035 and y < 0.665) or y < 0.598:
        return NECK
    if (z > 0.045 and y < 0.80) or (z > 0.09 and y < 0.815):
        column, row = int((x - LEFT) * SCALE), int((TOP - y) * SCALE)
        return ids[row, min(max(column, 0), WIDTH - 1)]
    return HEAD


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Canonical x and y of the map's pixel centres, millimetres."""
    x = (LEFT + (np.arange(WIDTH) + 0.5) / SCALE) * 1000
    y = (TOP - (np.arange(HEIGHT) + 0.5) / SCALE) * 1000
    return np.meshgrid(x, y)


def _closed(points: np.ndarray) -> np.ndarray:
    """A smooth closed outline [n, 2] through points [k, 2]; corners (first and middle point) stay sharp."""
    half = len(points) // 2
    parts = []
    for start in (0, half):
        arc = np.take(points, range(start, start + half + 1), axis=0, mode="wrap")
        t = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(arc, axis=0), axis=1))])
        parts.append(CubicSpline(t, arc)(np.linspace(0, t[-1], 40)[:-1]))
    return np.concatenate(parts)


def _brow(points: np.ndarray) -> np.ndarray:
    """The subject's left brow around its line [5, 2]: thick inside, thinning to the tail."""
    t = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    fine = np.linspace(0, t[-1], 40)
    line = CubicSpline(t, points)(fine)
    tangent = np.gradient(line, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / np.linalg.norm(tangent, axis=1, keepdims=True)
    half = np.interp(fine / t[-1], [0, 0.12, 0.45, 0.8, 1], [1.8, 3.4, 3.1, 1.9, 0.7])[:, None]
    return np.concatenate([line + half * normal, (line - half * normal)[::-1]])


def _seam(points: np.ndarray) -> np.ndarray:
    """Where closed lips meet, [n, 2] of x >= 0 and y, from the inner lips' landmarks."""
    upper, lower = points[[62, 63, 64], :2], points[[66, 65, 64], :2]
    return (upper + lower) / 2


def _whole(half: tuple[tuple[float, float], ...]) -> np.ndarray:
    right = np.array(half, np.float64)
    return np.concatenate([right, _mirrored(right)[::-1]])


def _mirrored(outline: np.ndarray) -> np.ndarray:
    return np.asarray(outline, np.float64) * [-1, 1]


def _mask(outline: np.ndarray) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH], 255 inside an outline [n, 2] in millimetres."""
    column = (outline[:, 0] / 1000 - LEFT) * SCALE - 0.5
    row = (TOP - outline[:, 1] / 1000) * SCALE - 0.5
    pixels = np.rint(np.stack([column, row], 1) * 16).astype(np.int32)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [pixels], 255, shift=4)
    return mask


def _signed(outline: np.ndarray) -> np.ndarray:
    """Signed distance to an outline in metres, positive inside."""
    mask = _mask(outline)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(255 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return (np.maximum(inside - 0.5, 0) - np.maximum(outside - 0.5, 0)) / SCALE


def _soft(field: np.ndarray, width: float = 4e-3) -> np.ndarray:
    return np.clip(field / width + 0.5, 0, 1)


def _fill(ids: np.ndarray, name: str, outline: np.ndarray) -> None:
    ids[_mask(outline) > 0] = SEGMENTS.index(name)


def _paint(ids: np.ndarray, name: str, outline: tuple[tuple[float, float], ...], *, sided: bool = False) -> None:
    """Fills an outline of x >= 0 and its mirror image; `sided` names get _left and _right."""
    left = np.array(outline, np.float64)
    _fill(ids, f"{name}_left" if sided else name, left)
    _fill(ids, f"{name}_right" if sided else name, _mirrored(left))
