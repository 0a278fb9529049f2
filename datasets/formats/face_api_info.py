"""What info.json of the Face API says of a scene: landmarks, pupils, gaze, camera and all the rest as metadata.

Its versions differ in more than names. What they mean was measured on 13 real renders (face_api.py):

- Pixels: screen_space_pos * W counts from the image's corner, so the centre of the first pixel is 0.5. In version 1.5
  pupils lie within 0.2 px of their segment's centroid so; camera_space_pos projects onto it within 0.03 px.
- Intrinsics count from the corner too (cx = W / 2): K @ (x, -y, -z) gives a landmark column plus 0.5.
- Gaze: version 1.2 has world space (2.6 degrees from the head's pose with the angles; as camera space 9.7). Version 1
  has the head's space, pointing inwards, and one vector for both eyes (1.1 degrees from the angles).
- head_turn (degrees) turns by Rx(pitch) Rz(roll) Ry(-yaw); head_transform of 1.2 has another order and sign, and is
  34 to 58 degrees from the landmarks' pose in five of six renders. It is not used.
- Contour landmarks: 1.2 counts from 1 and walks the jaw from one ear to the chin, then from the other ear to the chin,
  from either side of the image; points other than the jaw's may be left out, and are those of `landmarks`.
- Pupils: camera_space_pos of version 1 is the left one's for both; screen_space_pos is right and is what is read.
"""

import base64
import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from datasets.ordinary import parse_json, read_bytes
from datasets.pack import Value

VERSIONS = ("1", "1.2", "1.4", "1.5")
EYES = ("right", "left")  # the subject's, in the order of iBUG's: 36 to 41, 42 to 47
_COLUMNS = ("segments_mapping", "landmarks", "contour_landmarks", "pupil_coordinates", "gaze_values", "sample")
_WORLD_TO_CAMERA = ("camera", "transform_world2cam", "mat_4x4")


def load_info(path: Path) -> dict[str, Any]:
    """Reads an info.json. Raises ValueError where it is not one of a version that is known here."""
    try:
        info = parse_json(read_bytes(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable JSON ({error}); replace the file") from None
    version = info.get("version") if isinstance(info, dict) else None
    if str(version) not in VERSIONS or not isinstance(info.get("sample", {}), dict):
        raise ValueError(f"{path}: version must be one of {', '.join(VERSIONS)}, but got {version!r:.40}")
    return info


def annotations(
    path: Path, info: dict[str, Any], side: int
) -> tuple[dict[str, np.ndarray], np.ndarray | None, dict[str, Value]]:
    """What info.json gives for files of `side` pixels: points, intrinsics and others of a Record, see face_api.FaceApi.

    Raises ValueError, one line that names the file and the key, for what is not there or not as it must be.
    """

    def pixels(positions: Iterable[np.ndarray]) -> np.ndarray:
        return np.stack([*positions]) * side - 0.5

    points: dict[str, np.ndarray] = {}
    intrinsics: np.ndarray | None = None
    others: dict[str, Value] = {}
    rest = {name: value for name, value in info.items() if name not in _COLUMNS}
    landmarks, contour = info.get("landmarks"), info.get("contour_landmarks")
    if isinstance(landmarks, dict):  # version 1.5 has several sets of points
        sets = dict(landmarks)
        landmarks, contour = sets.pop("ibug68", None), sets.pop("ibug68_contour", None)
        rest["landmarks"] = sets
    if landmarks is not None:
        given, visible = _points(path, "landmarks", landmarks)
        if set(given) != set(range(68)):
            raise ValueError(f"{path}: landmarks must be 68 points, 0 to 67, but are {len(given)}: {[*given]!s:.60}")
        points["landmarks"] = pixels(given[k] for k in range(68))
        if contour is not None:
            points["landmarks_contour"] = pixels(_contour(path, _points(path, "contour landmarks", contour)[0], given))
        if len(visible) == 68:
            others["landmarks_visible"] = np.array([visible[k] for k in range(68)], np.uint8)
    if "pupil_coordinates" in info:
        keys = [("pupil_coordinates", f"pupil_{eye}", "screen_space_pos") for eye in EYES]
        points["pupils"] = pixels(_numbers(path, info, *key, shape=(2,)) for key in keys)
    if "gaze_values" in info:
        others["gaze"] = _gaze(path, info)
    if "camera" in info:
        intrinsics = _numbers(path, info, "camera", "intrinsics", shape=(3, 3))
        others["world_to_camera"] = _numbers(path, info, *_WORLD_TO_CAMERA, shape=(4, 4)).astype(np.float32)
        taken = ("intrinsics", "transform_world2cam")
        rest["camera"] = {name: value for name, value in info["camera"].items() if name not in taken}
    own = info.get("sample", {"metadata": json.dumps(rest, sort_keys=True)})  # "sample" is of write_face_api
    return points, intrinsics, others | {name: str(own[name]) for name in ("id", "metadata") if name in own}


def classes_of(path: Path, info: dict[str, Any], side: int) -> np.ndarray | None:
    """The segmentation that write_face_api keeps in info.json, uint8 [side, side]; None where there is none.

    Raises ValueError where it is not a PNG of that size in base64.
    """
    text = info.get("sample", {}).get("segmentation")
    if text is None:
        return None
    try:
        with Image.open(BytesIO(base64.b64decode(text, validate=True))) as image:
            labels = np.asarray(image)
    except (TypeError, ValueError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: sample.segmentation must be a PNG in base64, but is not: {error}") from None
    if labels.dtype != np.uint8 or labels.shape != (side, side):
        got = f"{labels.dtype} {by(labels.shape)}"
        raise ValueError(
            f"{path}: sample.segmentation must be uint8 {side}x{side} as the scene's rgb.png, but is {got}"
        )
    return labels


def _points(path: Path, what: str, entries: Any) -> tuple[dict[int, np.ndarray], dict[int, bool]]:
    """The places on the screen by number (`ptnum`, since 1.5 `id`), and whether each is visible, where that is said."""
    points: dict[int, np.ndarray] = {}
    visible: dict[int, bool] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        number = entry.get("ptnum", entry.get("id")) if isinstance(entry, dict) else None
        if type(number) is not int or number in points:
            raise ValueError(f"{path}: {what} must be a list of points, each with its ptnum, but got {entry!r:.60}")
        points[number] = _numbers(path, {what: {number: entry}}, what, number, "screen_space_pos", shape=(2,))
        if "visible" in entry:
            visible[number] = bool(entry["visible"])
    return points, visible


def _contour(path: Path, given: dict[int, np.ndarray], landmarks: dict[int, np.ndarray]) -> list[np.ndarray]:
    """The contour landmarks in iBUG order, after undoing what version 1.2 does to them (see above)."""
    one_based = 0 not in given
    points = {number - one_based: place for number, place in given.items()}
    needed = range(17) if one_based else range(68)
    if not set(needed) <= set(points) <= set(range(68)):
        must = f"{needed[0] + one_based} to {needed[-1] + one_based}"
        raise ValueError(f"{path}: contour landmarks must be 68 points, {must} among them, but are {[*given]!s:.60}")
    if one_based:
        first, second = [points[k] for k in range(9)], [points[k] for k in range(9, 17)]
        ears = np.stack([landmarks[0], landmarks[16]])
        kept, swapped = (np.linalg.norm(ears - [first[0], second[0]][::way], axis=1).sum() for way in (1, -1))
        points = landmarks | points | dict(enumerate(first + second[::-1] if kept <= swapped else second + first[::-1]))
    return [points[k] for k in range(68)]


def _gaze(path: Path, info: dict[str, Any]) -> np.ndarray:
    """Gaze in camera space, float32 [2, 3], from the spaces that the module's docstring tells."""
    if "gaze" in info.get("sample", ()):  # of write_face_api: there and back by the camera's rotation is not exact
        return _numbers(path, info, "sample", "gaze", shape=(2, 3)).astype(np.float32)
    gaze = np.stack([_numbers(path, info, "gaze_values", f"eye_{eye}", "gaze_vector", shape=(3,)) for eye in EYES])
    if str(info["version"]) == "1":
        turn = ("facial_attributes", "head_turn")
        pitch, roll, yaw = (np.radians(_numbers(path, info, *turn, k, shape=())) for k in ("pitch", "roll", "yaw"))
        axes = ((pitch, 0.0, 0.0), (0.0, 0.0, roll), (0.0, -yaw, 0.0))
        head = np.linalg.multi_dot([cv2.Rodrigues(np.array(axis))[0] for axis in axes])
        gaze = -gaze @ head.T
    return (gaze @ _numbers(path, info, *_WORLD_TO_CAMERA, shape=(4, 4))[:3, :3].T).astype(np.float32)


def _numbers(path: Path, info: Any, *keys: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers float64 `shape` at info[keys[0]][keys[1]]...; ValueError where there are none."""
    for key in keys:
        info = info.get(key) if isinstance(info, dict) else None
    try:
        numbers = np.array(info, np.float64)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        must = f"{by(shape)} finite numbers" if shape else "a finite number"
        raise ValueError(f"{path}: {'.'.join(map(str, keys))} must be {must}, but is {info!r:.60}")
    return numbers


def by(shape: tuple[int, ...]) -> str:
    """A shape as messages give it: 68x2."""
    return "x".join(map(str, shape))
