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
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from datasets.classes import FACE_CLASSES
from datasets.formats.face_api_info import annotations, by, classes_of, load_info
from datasets.formats.reading import Reading, decode, resize_image, resize_labels, select_rows
from datasets.pack import Value
from datasets.segments import IGNORE, SEGMENTS, class_table, from_named

VERSION = 1
MODALITIES = ("rgb.png", "segments.png", "info.json", "alpha.tif", "depth.tif", "normals.tif")
REQUIRED = MODALITIES[:3]
_FILE = re.compile(f"(.+)\\.({'|'.join(map(re.escape, MODALITIES))})")


def read(
    source: Path,
    *,
    size: int,
    split: str | None = None,
    rows: str | None = None,
    shuffle_seed: int = 0,
    glasses: str = "background",
) -> Reading:
    """Opens a folder of the Face API.

    Samples have, S being `size` and (x, y) pixels with the centre of the first pixel at (0, 0):

        id                 the scene
        image              uint8 [S, S, 3] RGB              segmentation    uint8 [S, S] nine common classes
        segments           uint8 [S, S] index in SEGMENTS   alpha           uint8 [S, S]
        depth              float16 [S, S] metres, 0 none    normals         float16 [S, S, 3], 0 none
        landmarks          float32 [68, 2]                  landmarks_contour, the jaw on the visible outline
        landmarks_visible  uint8 [68], of write_face_api    pupils          float32 [2, 2] subject's right, left
        gaze               float32 [2, 3] camera space      intrinsics      float32 [3, 3] for `size`
        world_to_camera    float32 [4, 4] (camera: x right, y up, z backward)
        metadata           JSON, sorted keys: info.json without landmarks and what else became columns

    as far as the folder has them. Pixels of images of this size are passed on unchanged. To another size image and
    alpha go by area, the others take the value under each pixel's centre: a mean over an edge is on neither side of it.

    split    None: the layout has no splits
    rows     START:STOP of the scenes in an order shuffled by `shuffle_seed`
    glasses  "background" as in LaPa, or "ignore" (255), see datasets.segments.class_table

    Raises ValueError, one line that names the file, for a folder with foreign or missing files at once, and for a bad
    file, or a scene with other columns than the first, when the samples come to it.
    """
    if size < 1:
        raise ValueError(f"`size >= 1` must hold, but got {size}")
    if split is not None:
        raise ValueError(f"split must be left out, as the Face API has none of its own, but got {split!r}; use rows")
    table = class_table(glasses=glasses)
    source = Path(source)
    scenes, modalities = list_scenes(source)
    if any(modality.endswith(".tif") for modality in modalities):
        tifffile()
    scenes = select_rows(scenes, rows, shuffle_seed)
    options = {"size": size, "glasses": glasses, "rows": rows}
    if rows is not None:
        options["shuffle_seed"] = shuffle_seed
    return Reading(
        count=len(scenes),
        samples=_samples(source, scenes, modalities, size, table),
        classes=FACE_CLASSES,
        source={"format": "face_api", "version": VERSION, **options},
    )


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


def _samples(
    source: Path, scenes: Sequence[str], modalities: tuple[str, ...], size: int, table: np.ndarray
) -> Iterator[dict[str, Value]]:
    columns: set[str] = set()
    for scene in scenes:
        files = {modality: source / f"{scene}.{modality}" for modality in modalities}
        image = decode(files["rgb.png"], "RGB")
        side = image.shape[0]
        if image.shape[1] != side:
            raise ValueError(f"{files['rgb.png']}: must be square, but is {image.shape[1]}x{side}")
        info = load_info(files["info.json"])
        sample: dict[str, Value] = {"id": scene, "image": resize_image(image, size)}
        sample |= _pixels(files, info, side, size, table) | annotations(files["info.json"], info, side, size)
        columns = columns or set(sample)
        if set(sample) != columns:
            raise ValueError(
                f"{files['info.json']}: must give the columns that scene {scenes[0]} gives, but "
                f"{', '.join(sorted(columns ^ set(sample)))} is in one of the two only; read them as two folders"
            )
        yield sample


def _pixels(files: dict[str, Path], info: dict[str, Any], side: int, size: int, table: np.ndarray) -> dict[str, Value]:
    segments = _segments(files["segments.png"], side, info.get("segments_mapping"))
    resized = resize_labels(segments, size)
    classes = table[resized]
    drawn = classes_of(files["info.json"], info, side)  # of write_face_api: as that sample's labeller drew them
    if drawn is not None:
        classes = np.where(classes == IGNORE, classes, resize_labels(drawn, size))
    columns: dict[str, Value] = {"segmentation": classes, "segments": resized}
    background = segments == SEGMENTS.index("background")
    rendered_here = "sample" in info  # by write_face_api, with 0 for the background
    if "alpha.tif" in files:
        columns["alpha"] = resize_image(_tiff(files["alpha.tif"], "uint8", (side, side)), size)
    if "depth.tif" in files:
        depth = _tiff(files["depth.tif"], "float16", (side, side))
        if depth.min() < 0:
            raise ValueError(f"{files['depth.tif']}: `depth >= 0` must hold, but got {depth.min()}")
        if not rendered_here:
            metres = depth / np.float16(5) if str(info["version"]) == "1" else depth
            depth = np.where(background | (depth < 0.01), np.float16(0), metres)
        background = depth == 0
        columns["depth"] = resize_labels(depth, size)
    if "normals.tif" in files:
        normals = _tiff(files["normals.tif"], "float16", (side, side, 3))
        if not rendered_here:
            normals = np.where(background[..., None], np.float16(0), normals)
        columns["normals"] = resize_labels(normals, size)
    return columns


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
        array: np.ndarray = tifffile().imread(path)
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        reason = "; ".join(str(error).splitlines()) or type(error).__name__
        raise ValueError(f"{path}: not a readable TIFF ({reason}); replace the file") from None
    if array.shape != shape or array.dtype.name != dtype:
        got = f"{array.dtype.name} {by(array.shape)}"
        raise ValueError(f"{path}: must be {dtype} {by(shape)} as the scene's rgb.png, but is {got}")
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: values must be finite, but {np.count_nonzero(~np.isfinite(array))} are not")
    return array
