"""Synthesis AI's Face API as it was in 2021 (versions 1, 1.2, 1.4, 1.5): rendered faces with all that is known of them.

One flat folder, one file a scene and modality; alpha, depth and normals may be absent, in every scene alike:

    {scene}.rgb.png        8 bits, over its background     {scene}.depth.tif     float16 [H, W]
    {scene}.segments.png   16 bits, see below              {scene}.normals.tif   float16 [H, W, 3]
    {scene}.alpha.tif      uint8 [H, W]                    {scene}.info.json

Since September 2021 the scene is `{scene}.cam_{name}.f_{frame}`. metadata.jsonl and .exr files are passed over.
What the files mean was measured on 13 real renders: six of version 1, six of 1.2, one of 1.5. What info.json means is
told in face_api_info.py.

- Segments: ids differ from image to image; `segments_mapping` of the same image names them.
- Depth: metres along the camera's axis (as distance along the ray it fits the normals worse in every render) and 0 for
  the background; version 1 has fifths of a metre and 0.0025. Up to 7 pixels of 512 x 512 that segments call background
  have a depth, which becomes 0; in 1.5 the fringe of the foreground has none.
- Normals: camera space, x right, y up, z towards the camera, 1 to 2 degrees (median) from the depth map's slope on the
  face's skin. Beyond the foreground they are (0, 0, 1) or, where hair has alpha 0, a surface's: 0 wherever depth is 0.
  At edges they are means and shorter than 1, which is left so.
- Alpha: inside cloth and headwear it is often 254. It is passed on as stored, so that a written folder reads back the
  same; who composites should take 250 and more as 255.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from datasets.formats.face_api_info import annotations, by, classes_of, load_info
from datasets.formats.reading import decode
from datasets.formats.record import Record
from datasets.labels import LabelTable
from datasets.ordinary import ordinary
from datasets.segments import SEGMENTS, from_named
from datasets.settings import line

VERSION = 2
MODALITIES = ("rgb.png", "segments.png", "info.json", "alpha.tif", "depth.tif", "normals.tif")
REQUIRED = MODALITIES[:3]
_FILE = re.compile(f"(.+)\\.({'|'.join(map(re.escape, MODALITIES))})")


@dataclass(frozen=True)
class FaceApi:
    """A folder of the Face API. Records have, as far as the folder does:

    labels and maps["segments"]  ids of SEGMENTS          pictures["alpha"]  uint8
    maps["depth"]                float16 metres, 0 none   maps["normals"]    float16, 0 none
    points                       landmarks and landmarks_contour [68, 2] (the jaw on the visible outline), pupils [2, 2]
                                 of the subject's right and left eye
    intrinsics                   and in others: world_to_camera float32 [4, 4] (camera: x right, y up, z backward), gaze
                                 float32 [2, 3] in camera space, landmarks_visible uint8 [68] (of write_face_api),
                                 metadata: JSON, sorted keys, info.json without what else became columns
    """

    source: Path
    modalities: tuple[str, ...]
    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def files(self, name: str) -> tuple[Path, ...]:
        return tuple(self.source / f"{name}.{modality}" for modality in self.modalities)

    def record(self, name: str) -> Record:
        files = dict(zip(self.modalities, self.files(name), strict=True))
        image = decode(files["rgb.png"], "RGB")
        side = image.shape[0]
        if image.shape[1] != side:
            raise ValueError(f"{files['rgb.png']}: must be square, but is {image.shape[1]}x{side}")
        info = load_info(files["info.json"])
        segments = _segments(files["segments.png"], side, info.get("segments_mapping"))
        points, intrinsics, others = annotations(files["info.json"], info, side)
        return Record(
            image,
            labels=segments,
            drawn=classes_of(files["info.json"], info, side),
            pictures=_alpha(files, side),
            maps={"segments": segments, **_maps(files, info, side, segments == SEGMENTS.index("background"))},
            points=points,
            intrinsics=intrinsics,
            others=others,
        )


def open_folder(source: Path, *, split: str | None, table: LabelTable) -> FaceApi:
    """Opens a folder of the Face API, which has no splits.

    Raises ValueError, one line that names the file, for a folder with foreign or missing files.
    """
    if split is not None:
        raise ValueError(f"split must be left out, as the Face API has none of its own, but got {split!r}; use rows")
    if table.names[: len(SEGMENTS)] != SEGMENTS:
        raise ValueError("labels of face_api must begin with those of the table face_api: use `base: face_api`")
    scenes, modalities = list_scenes(source)
    if any(modality.endswith(".tif") for modality in modalities):
        tifffile()
    return FaceApi(source, modalities, tuple(scenes))


def list_scenes(source: Path) -> tuple[list[str], tuple[str, ...]]:
    """The scenes of a folder, 2 before 10, and the modalities that all of them have.

    Raises ValueError for a folder that has none, a file of another layout, or a scene without a file that it needs.
    """
    found: dict[str, set[str]] = {}
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        if path.name == "metadata.jsonl" or path.suffix == ".exr":
            continue
        match = _FILE.fullmatch(path.name)
        if match is None or not path.is_file():
            raise ValueError(
                f"{path}: must be SCENE.{{{','.join(MODALITIES)}}}, metadata.jsonl or .exr; move it elsewhere"
            )
        found.setdefault(match[1], set()).add(match[2])
    if not found:
        raise ValueError(f"{source}: must be a folder of SCENE.{{{','.join(MODALITIES)}}}, but holds none")
    modalities = tuple(m for m in MODALITIES if m in REQUIRED or any(m in has for has in found.values()))
    for scene, has in found.items():
        for modality in modalities:
            if modality not in has:
                why = "every scene" if modality in REQUIRED else "every scene of a folder where one has it"
                raise ValueError(f"{source / scene}.{modality}: the file is missing, and {why} must have it")
    natural = {scene: [int(t) if t.isdecimal() else t for t in re.split(r"(\d+)", scene)] for scene in found}
    return sorted(found, key=natural.__getitem__), modalities


def tifffile() -> Any:
    """The module tifffile, with imagecodecs there for its compressions; ValueError says how to install them."""
    try:
        import_module("imagecodecs")
        return import_module("tifffile")
    except ModuleNotFoundError as error:
        install = "pip install -c constraints.txt tifffile imagecodecs"
        raise ValueError(f"Face API TIFFs need {error.name}, which is not installed: {install}") from None


def _alpha(files: dict[str, Path], side: int) -> dict[str, np.ndarray]:
    return {"alpha": _tiff(files["alpha.tif"], "uint8", (side, side))} if "alpha.tif" in files else {}


def _maps(files: dict[str, Path], info: dict[str, Any], side: int, background: np.ndarray) -> dict[str, np.ndarray]:
    """Depth and normals, 0 in the background, which is bool [side, side]."""
    maps: dict[str, np.ndarray] = {}
    rendered_here = "sample" in info  # by write_face_api, with 0 for the background
    if "depth.tif" in files:
        depth = _tiff(files["depth.tif"], "float16", (side, side))
        if depth.min() < 0:
            raise ValueError(f"{files['depth.tif']}: `depth >= 0` must hold, but got {depth.min()}")
        if not rendered_here:
            metres = depth / np.float16(5) if str(info["version"]) == "1" else depth
            depth = np.where(background | (depth < 0.01), np.float16(0), metres)
        background = depth == 0
        maps["depth"] = depth
    if "normals.tif" in files:
        normals = _tiff(files["normals.tif"], "float16", (side, side, 3))
        maps["normals"] = normals if rendered_here else np.where(background[..., None], np.float16(0), normals)
    return maps


def _segments(path: Path, side: int, mapping: Any) -> np.ndarray:
    ids = decode(path)
    if ids.shape != (side, side):
        raise ValueError(f"{path}: must be {side}x{side} as the scene's rgb.png, but is {by(ids.shape)}")
    if not isinstance(mapping, dict) or not all(type(number) is int for number in mapping.values()):
        raise ValueError(f"{path}: info.json must have segments_mapping, names to ids, but has {mapping!r:.40}")
    try:
        return from_named(ids, mapping)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _tiff(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with tifffile().TiffFile(ordinary(path)) as file:
            held = file.series[0]
            fits = held.shape == shape and held.dtype is not None and held.dtype.name == dtype
            got = f"{held.dtype} {by(held.shape)}"
            array: np.ndarray = held.asarray() if fits else np.empty(0)  # no more memory than such a picture takes
    except Exception as error:  # noqa: BLE001  (of a broken file tifffile and its codecs raise whatever it leads to)
        reason = line(str(error)) or type(error).__name__
        raise ValueError(f"{path}: not a readable TIFF ({reason}); replace the file") from None
    if not fits:
        raise ValueError(f"{path}: must be {dtype} {by(shape)} as the scene's rgb.png, but is {got}")
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: values must be finite, but {np.count_nonzero(~np.isfinite(array))} are not")
    return array
