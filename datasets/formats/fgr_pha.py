"""Foregrounds and alphas in folders of their own, as BackgroundMattingV2 keeps its data sets (Lin et al. 2021).

    fgr/{name}.{jpg,png}         the foreground's colour, not multiplied by alpha
    pha/{name}.{jpg,png}         alpha: one channel, or three equal ones
    src/{name}.{jpg,png}         the composite, and bgr/ its clean background, in sets for testing: both or none

below `train/` and `valid/`, where a set has these, or `test/`. `name` may hold folders, as a video's frames do. Without
src the image of a sample is its foreground; compositing gives it a background.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.formats.reading import decode, decode_alpha
from datasets.formats.record import Record
from datasets.labels import LabelTable

VERSION = 1
SPLITS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class FgrPha:
    """Folders fgr and pha. Records have the image, and pictures: alpha uint8 [H, W], foreground and, if there are src
    and bgr, background. `paths` has the file of each name in each folder, as far as it is there."""

    root: Path
    kinds: tuple[str, ...]
    paths: Mapping[str, Mapping[str, Path]]
    names: tuple[str, ...]
    options: Mapping[str, Any]

    def files(self, name: str) -> tuple[Path, ...]:
        return tuple(self._path(kind, name) for kind in self.kinds)

    def record(self, name: str) -> Record:
        files = dict(zip(self.kinds, self.files(name), strict=True))
        foreground = decode(files["fgr"], "RGB")
        pictures = {"alpha": decode_alpha(files["pha"], foreground.shape[:2]), "foreground": foreground}
        others = {kind: decode(files[kind], "RGB") for kind in ("src", "bgr") if kind in files}
        for kind, picture in others.items():
            if picture.shape != foreground.shape:
                raise ValueError(
                    f"{files[kind]}: must be {foreground.shape[1]}x{foreground.shape[0]} as its foreground, "
                    f"but is {picture.shape[1]}x{picture.shape[0]}"
                )
        if "bgr" in others:
            pictures["background"] = others["bgr"]
        return Record(others.get("src", foreground), pictures=pictures)

    def _path(self, kind: str, name: str) -> Path:
        """The file, or where it should be."""
        return self.paths[kind].get(name, self.root / kind / f"{name}.png")


def open_folder(source: Path, *, split: str | None, table: LabelTable | None) -> FgrPha:
    """Opens a folder with fgr/ and pha/, or one of its splits.

    split  train, val (the folder valid or val) or test, where the set has such folders

    The samples are those of which there is any file; one that lacks a file is a bad sample. Raises ValueError, one line
    that names the folder, for another layout, for src without bgr, and for two files of one name.
    """
    root = source if split is None else _split(source, split)
    for kind in ("fgr", "pha"):
        if not (root / kind).is_dir():
            has = [name for name, folders in SPLITS.items() if any((source / f / kind).is_dir() for f in folders)]
            hint = f"; give the split {' or '.join(has)}" if has and split is None else ""
            raise ValueError(f"{root / kind}: the folder is missing, since {root} must have fgr/ and pha/{hint}")
    both = [kind for kind in ("src", "bgr") if (root / kind).is_dir()]
    if len(both) == 1:
        raise ValueError(f"{root}: must have src/ and bgr/ or neither, but has {both[0]}/ alone")
    kinds = (*both, "fgr", "pha")
    paths = {kind: dict(_files(root / kind)) for kind in kinds}
    names = sorted({name for of_kind in paths.values() for name in of_kind})
    if not names:
        raise ValueError(f"{root / 'fgr'}: must hold {', '.join(SUFFIXES)} files, but holds none")
    return FgrPha(root, kinds, paths, tuple(names), {"folders": list(kinds)})


def _split(source: Path, split: str) -> Path:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, but got {split!r}")
    found = [source / folder for folder in SPLITS[split] if (source / folder).is_dir()]
    if not found:
        raise ValueError(f"{source}: split {split} must have the folder {' or '.join(SPLITS[split])}, but has none")
    return found[0]


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    seen: dict[str, Path] = {}
    found = (Path(inner) / file for inner, _, files in os.walk(folder, followlinks=True) for file in files)
    for path in sorted(found):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in inside.parts):
            continue
        name = inside.with_suffix("").as_posix()
        if name in seen:
            raise ValueError(f"{path}: must be the only file of its name, but {seen[name].name} is there too")
        seen[name] = path
        yield name, path
