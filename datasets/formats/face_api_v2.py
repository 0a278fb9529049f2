"""Synthesis AI's Face API in its newer layout ("v2"): one compressed NumPy file an image, depth map or mask.

    rgb.npz                  image         uint8 [H, W, 3]
    body_segmentation.npz    segmentation  ids [H, W], which differ from image to image
    image_metadata.json      humans, a list, and segments_mapping, names to ids of this image
    depth.npz                float [H, W]      may be absent, in every scene alike
    surface_normals.npz      float [H, W, 3]   may be absent, in every scene alike

File names, the names `image` and `segmentation` of arrays, and `humans` are certain. No real render was at hand, so the
rest is chosen here, and what fits it not is refused:

- A scene is a folder of these files, at any depth below SOURCE, or what stands before a dot: SCENE.rgb.npz.
- segments_mapping, which versions 1 to 1.5 have, is taken from image_metadata.json or from the one human in it. Its
  names are those of datasets.segments: another one, if pixels have it, is refused.
- Depth and normals are the only array of their file, whatever its name. Their units and axes are taken to be those of
  face_api.py (metres, camera space), unchecked. They become float16, and 0 where segments say background, whatever
  stands there; elsewhere they must be finite, and depth not below 0.
- An image has one human, whose segments these are. Images with several, or none, are refused.
- Landmarks, pupils, gaze and the camera are not read, since where and in which units they stand is not known. All of
  image_metadata.json but the mapping is passed on as `metadata`.

instance_segmentation.npz, clothing_segmentation.npz and other files are passed over.
"""

import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets.formats.face_api_info import by
from datasets.formats.record import Record
from datasets.labels import LabelTable
from datasets.ordinary import ordinary, parse_json, read_bytes
from datasets.segments import SEGMENTS, from_named
from datasets.settings import line

VERSION = 1
MOST = 1 << 30  # bytes of an array
MODALITIES = ("rgb.npz", "body_segmentation.npz", "image_metadata.json", "depth.npz", "surface_normals.npz")
REQUIRED = MODALITIES[:3]
BACKGROUND = SEGMENTS.index("background")
_FILE = re.compile(f"(?:(?P<scene>.+)[./])?(?P<modality>{'|'.join(map(re.escape, MODALITIES))})")


@dataclass(frozen=True)
class FaceApiV2:
    """A folder of the Face API's newer layout. Records have, as far as the folder does:

    labels and maps["segments"]  ids of SEGMENTS, uint8 [H, W]
    maps["depth"]                float16 [H, W], 0 none         maps["normals"]  float16 [H, W, 3], 0 none
    others                       metadata: JSON, sorted keys
    """

    source: Path
    scenes: Mapping[str, str]  # to what stands before the modality in the path of its files
    modalities: tuple[str, ...]
    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def files(self, name: str) -> tuple[Path, ...]:
        return tuple(self.source / f"{self.scenes[name]}{modality}" for modality in self.modalities)

    def record(self, name: str) -> Record:
        files = dict(zip(self.modalities, self.files(name), strict=True))
        image = _array(files["rgb.npz"], "image")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"{files['rgb.npz']}: image must be uint8 HxWx3, but is {image.dtype} {by(image.shape)}")
        mapping, metadata = _metadata(files["image_metadata.json"])
        segments = _segments(files["body_segmentation.npz"], image.shape[:2], mapping)
        maps = {"segments": segments}
        if "depth.npz" in files:
            maps["depth"] = _measured(files["depth.npz"], segments, ())
            if maps["depth"].min() < 0:
                raise ValueError(f"{files['depth.npz']}: `depth >= 0` must hold, but got {maps['depth'].min()}")
        if "surface_normals.npz" in files:
            maps["normals"] = _measured(files["surface_normals.npz"], segments, (3,))
        return Record(image, labels=segments, maps=maps, others={"metadata": metadata})


def open_folder(source: Path, *, split: str | None, table: LabelTable) -> FaceApiV2:
    """Opens a folder of the Face API's newer layout, which has no splits.

    Raises ValueError, one line that names the file, for a folder without scenes, or with two of one name.
    """
    if split is not None:
        raise ValueError(f"split must be left out, as the Face API has none of its own, but got {split!r}; use rows")
    if table.names[: len(SEGMENTS)] != SEGMENTS:
        raise ValueError("labels of face_api_v2 must begin with those of the table face_api: use `base: face_api`")
    scenes: dict[str, str] = {}
    found: set[str] = set()
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source).as_posix()
        match = _FILE.fullmatch(relative)
        if match is None or path.name.startswith("._"):
            continue
        scene, before = match["scene"], relative.removesuffix(match["modality"])
        if scene is None:
            raise ValueError(f"{path}: must be in a folder of its scene, or SCENE.{path.name}; read the folder above")
        if scenes.setdefault(scene, before) != before:
            raise ValueError(f"{path}: scenes must differ in name, but {scene} is a folder and begins names of files")
        found.add(match["modality"])
    if not scenes:
        raise ValueError(f"{source}: must have scenes of {', '.join(REQUIRED)}, but has none")
    modalities = tuple(modality for modality in MODALITIES if modality in REQUIRED or modality in found)
    return FaceApiV2(source, scenes, modalities, tuple(sorted(scenes)))


def _array(path: Path, name: str | None) -> np.ndarray:
    """The array of that name, or, for None, the only one, of an .npz file."""
    try:
        loaded = np.load(ordinary(path), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("one array, no archive of arrays")
        with loaded as arrays:
            names = list(arrays)
            if name in names or (name is None and len(names) == 1):
                _check_whole(arrays.zip, f"{name or names[0]}.npy")
                array: np.ndarray = arrays[name or names[0]]
                return array
    except FileNotFoundError:
        raise ValueError(f"{path}: the file is missing") from None
    except Exception as error:  # noqa: BLE001  (of a broken archive zipfile and numpy raise whatever it leads to)
        reason = line(str(error), 200) or type(error).__name__
        raise ValueError(f"{path}: not a readable .npz file ({reason}); replace the file") from None
    must = f"an array {name!r}" if name else "one array"
    raise ValueError(f"{path}: must hold {must}, but holds {line(', '.join(names), 200) or 'nothing'}")


def _check_whole(archive: zipfile.ZipFile, entry: str) -> None:
    """Raises ValueError, before memory is taken, for an array that says it is larger than its file, or than MOST."""
    info = archive.getinfo(entry)
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    if not math.prod(shape) * dtype.itemsize <= info.file_size <= MOST:
        raise ValueError(f"{entry} must be whole and have at most {MOST:,} bytes, but says {by(shape)} of {dtype}")


def _metadata(path: Path) -> tuple[dict[str, int], str]:
    """The segments_mapping of an image_metadata.json, and all else that it says as JSON."""
    try:
        metadata = parse_json(read_bytes(path))
    except FileNotFoundError:
        raise ValueError(f"{path}: the file is missing") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable JSON ({error}); replace the file") from None
    humans = metadata.get("humans") if isinstance(metadata, dict) else None
    if not isinstance(humans, list) or len(humans) != 1 or not isinstance(humans[0], dict):
        got = f"{len(humans)} of them" if isinstance(humans, list) else repr(humans)[:40]
        raise ValueError(f"{path}: humans must be a list of one human, but got {got}")
    holders = [holder for holder in (metadata, humans[0]) if "segments_mapping" in holder]
    mapping = holders[0].pop("segments_mapping") if len(holders) == 1 else None
    if not isinstance(mapping, dict) or not mapping or not all(type(number) is int for number in mapping.values()):
        raise ValueError(
            f"{path}: must have segments_mapping, names to ids, once, at the top or in the human, but has "
            f"{repr(mapping)[:40] if holders else ', '.join(metadata)}"
        )
    return mapping, json.dumps(metadata, sort_keys=True)


def _segments(path: Path, shape: tuple[int, ...], mapping: Mapping[str, int]) -> np.ndarray:
    ids = _array(path, "segmentation")
    if ids.shape != shape or ids.dtype.kind not in "ui":
        got = f"{ids.dtype} {by(ids.shape)}"
        raise ValueError(f"{path}: segmentation must be whole numbers {by(shape)} as the image, but is {got}")
    try:
        return from_named(ids, mapping)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _measured(path: Path, segments: np.ndarray, channels: tuple[int, ...]) -> np.ndarray:
    """Depth or normals, float16 [H, W, *channels], 0 in the background."""
    values, shape = _array(path, None), segments.shape + channels
    if values.shape != shape or values.dtype.kind != "f":
        got = f"{values.dtype} {by(values.shape)}"
        raise ValueError(f"{path}: must be floats {by(shape)} as the image, but is {got}")
    background = (segments == BACKGROUND).reshape(segments.shape + (1,) * len(channels))
    with np.errstate(over="ignore"):  # what float16 cannot hold is not finite, and told below
        kept = np.where(background, 0, values).astype(np.float16)
    if not np.isfinite(kept).all():
        wrong = np.count_nonzero(~np.isfinite(kept))
        raise ValueError(f"{path}: values must be finite in float16 but for the background, but {wrong} are not")
    return kept
