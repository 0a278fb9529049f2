"""Writing samples in the Face API's layout of early 2021, so that the tools that read that one read ours.

A folder has scenes 0, 1, 2 ... of rgb.png, segments.png, info.json and, where samples have them, alpha.tif, depth.tif
and normals.tif (formats/face_api.py tells what is in them), in the compressions of the real files. It is there whole or
not at all (datasets/whole.py).

info.json says version 1.2, whose gaze is in world space and whose depth is in metres, and differs from a real one in:

- `sample` holds the id and the metadata as they were, the gaze in camera space, since the world's loses bits, and the
  segmentation as a PNG in base64, since segments tell neither a labeller's habits nor, at edges, the class of a pixel;
- a landmark has `visible` where the sample knows, and no position in space, which no sample has;
- `contour_landmarks` are numbered from 0 and in iBUG order throughout;
- what was drawn of a person is in the sections that face_api_person.py tells, under the renderer's own field names.
"""

import base64
import json
import math
import os
from collections.abc import Iterable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.formats.face_api import list_scenes, tifffile
from datasets.formats.face_api_info import EYES
from datasets.formats.face_api_person import sections
from datasets.pack import Value
from datasets.segments import SEGMENTS
from datasets.whole import whole_folder

# What is written, with dtype and shape, S being the image's side. A sample has the first two and any of the others.
COLUMNS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "image": ("uint8", ("S", "S", 3)),
    "segments": ("uint8", ("S", "S")),
    "segmentation": ("uint8", ("S", "S")),
    "alpha": ("uint8", ("S", "S")),
    "depth": ("float16", ("S", "S")),
    "normals": ("float16", ("S", "S", 3)),
    "landmarks": ("float32", (68, 2)),
    "landmarks_contour": ("float32", (68, 2)),
    "landmarks_visible": ("uint8", (68,)),
    "pupils": ("float32", (2, 2)),
    "gaze": ("float32", (2, 3)),
    "intrinsics": ("float32", (3, 3)),
    "world_to_camera": ("float32", (4, 4)),
}
NEEDS = {"landmarks_contour": "landmarks", "landmarks_visible": "landmarks", "gaze": "world_to_camera"} | {
    "intrinsics": "world_to_camera",
    "world_to_camera": "intrinsics",
}
HELD = (*COLUMNS, "id", "metadata")


def write_face_api(folder: Path, samples: Iterable[Mapping[str, Value]], *, overwrite: bool = False) -> int:
    """Writes samples as a folder of the Face API, one at a time, and returns how many.

    samples    of one image size and the same columns: image and segments, and any others of HELD
    overwrite  replaces a Face API folder; a folder of anything else is never replaced

    `face_api.read(folder, size=S)` gives these columns back bit for bit. The layout has no place for `foreground`,
    `background` and columns of other names, which are NOT written.

    Raises ValueError for a sample that does not fit, for none, and for a folder that is there; nothing is left on disk
    then. Whatever `samples` raises passes through likewise.
    """
    target = Path(os.path.abspath(folder))
    tifffile()
    count = 0
    first: dict[str, tuple[int, ...]] = {}
    with whole_folder(target, partial(_check_target, overwrite=overwrite)) as new:
        for sample in samples:
            held = _held(sample, f"sample {count}")
            first = first or held
            if held != first:
                raise ValueError(f"sample {count}: columns must be those of sample 0, {first}, but are {held}")
            _write_pixels(new, count, sample)
            info = _info(sample, f"sample {count}")
            (new / f"{count}.info.json").write_text(json.dumps(info, indent=1, allow_nan=False), encoding="utf-8")
            count += 1
        if not count:
            raise ValueError(f"{target}: must be given a sample, but got none")
    return count


def _held(sample: Mapping[str, Value], where: str) -> dict[str, tuple[int, ...]]:
    """The columns of a sample that the layout holds, with their shapes. Raises ValueError where one does not fit."""
    missing = [name for name in ("image", "segments") if name not in sample]
    if missing:
        raise ValueError(f"{where}: must have {missing[0]}, but has {', '.join(sample)}")
    held: dict[str, tuple[int, ...]] = {}
    for name, (dtype, axes) in COLUMNS.items():
        if name not in sample:
            continue
        if NEEDS.get(name, name) not in sample:
            raise ValueError(f"{where}: {name} needs {NEEDS[name]}, but the sample has none")
        shape = tuple(len(sample["image"]) if axis == "S" else axis for axis in axes)
        value = sample[name]
        if not isinstance(value, np.ndarray) or value.dtype.name != dtype or value.shape != shape:
            got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise ValueError(f"{where}: {name} must be {dtype} {shape}, but is {got}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{where}: {name} must be finite, but is not everywhere")
        held[name] = value.shape
    if np.max(sample["segments"]) >= len(SEGMENTS):
        raise ValueError(f"{where}: segments must be below {len(SEGMENTS)}, but are up to {np.max(sample['segments'])}")
    for name in ("id", "metadata"):
        if name in sample:
            if not isinstance(sample[name], str):
                raise ValueError(f"{where}: {name} must be a str, but is {type(sample[name]).__name__}")
            held[name] = ()
    return held


def _write_pixels(folder: Path, scene: int, sample: Mapping[str, Any]) -> None:
    Image.fromarray(sample["image"]).save(folder / f"{scene}.rgb.png")
    Image.fromarray(sample["segments"].astype(np.uint16)).save(folder / f"{scene}.segments.png")
    deflate = {"compression": "adobe_deflate", "predictor": True}
    for name, options in (
        ("alpha", {"compression": "lzw", "predictor": True, "photometric": "minisblack", "metadata": None}),
        ("depth", {**deflate, "photometric": "minisblack"}),
        ("normals", {**deflate, "photometric": "rgb", "planarconfig": "contig"}),
    ):
        if name in sample:
            tifffile().imwrite(folder / f"{scene}.{name}.tif", sample[name], **options)


def _info(sample: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What info.json says of a sample."""
    side = len(sample["image"])

    def screen(pixels: np.ndarray) -> list[list[float]]:
        return ((pixels.astype(np.float64) + 0.5) / side).tolist()

    present = np.unique(sample["segments"]).tolist()
    own = {name: sample[name] for name in ("id", "metadata") if name in sample}
    info: dict[str, Any] = {"version": "1.2", "sample": own, "segments_mapping": {SEGMENTS[k]: k for k in present}}
    if "segmentation" in sample:
        png = BytesIO()
        Image.fromarray(sample["segmentation"]).save(png, "PNG")
        own["segmentation"] = base64.b64encode(png.getvalue()).decode()
    if "landmarks" in sample:
        info["landmarks"] = [{"ptnum": k, "screen_space_pos": p} for k, p in enumerate(screen(sample["landmarks"]))]
        for point, visible in zip(info["landmarks"], sample.get("landmarks_visible", ()), strict=False):
            point["visible"] = bool(visible)
    if "landmarks_contour" in sample:
        points = screen(sample["landmarks_contour"])
        info["contour_landmarks"] = [{"ptnum": k, "screen_space_pos": p} for k, p in enumerate(points)]
    if "pupils" in sample:
        pupils = zip(EYES, screen(sample["pupils"]), strict=True)
        info["pupil_coordinates"] = {f"pupil_{eye}": {"screen_space_pos": p} for eye, p in pupils}
    if "intrinsics" in sample:
        world_to_camera = sample["world_to_camera"].astype(np.float64)
        x, y = (2 * math.atan2(side / 2, sample["intrinsics"][k, k]) for k in (0, 1))
        info["camera"] = {
            "intrinsics": sample["intrinsics"].tolist(),
            "field_of_view": {"x_axis_rads": x, "y_axis_rads": y},
            "transform_world2cam": {"mat_4x4": world_to_camera.tolist()},
            "transform_cam2world": {"mat_4x4": np.linalg.inv(world_to_camera).tolist()},
        }
    if "gaze" in sample:
        own["gaze"] = sample["gaze"].tolist()
        world = np.linalg.solve(world_to_camera[:3, :3], sample["gaze"].T.astype(np.float64)).T.tolist()
        info["gaze_values"] = {f"eye_{eye}": {"gaze_vector": g} for eye, g in zip(EYES, world, strict=True)}
    metadata = _metadata(sample.get("metadata", "{}"), where)
    try:
        return info | sections(metadata, sample.get("world_to_camera"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _metadata(text: str, where: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: metadata must be JSON, but is not: {error}") from None
    if not isinstance(metadata, dict):
        raise ValueError(f"{where}: metadata must be a JSON object, but is {text!r:.60}")
    return metadata


def _check_target(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    try:
        list_scenes(target)
    except ValueError as error:
        raise ValueError(f"{target}: exists and is not a Face API folder ({error}); choose another path") from None
    if not overwrite:
        raise ValueError(f"{target}: exists; choose another path or pass overwrite (--overwrite)")
