"""Foregrounds and alphas in folders of their own, as BackgroundMattingV2 keeps its data sets (Lin et al. 2021).

    fgr/{name}.{jpg,png}         the foreground's colour, not multiplied by alpha
    pha/{name}.{jpg,png}         alpha: one channel, or three equal ones
    src/{name}.{jpg,png}         the composite, and bgr/ its clean background, in sets for testing: both or none

in the folder itself, or below `train/`, `valid/` (or `val/`) and `test/`, as far as a set has these; ids then begin
with the split's folder. `name` may hold folders, as a video's frames do. Without src the image of a sample is its
foreground; compositing gives it a background.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.formats.reading import check_size, decode, decode_alpha
from datasets.formats.record import Record
from datasets.labels import LabelTable

VERSION = 2
SPLITS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class FgrPha:
    """Folders fgr and pha. Records have the image, and pictures: alpha uint8 [H, W], foreground and, if there are src
    and bgr, background. `paths` has the file of each name in each folder, as far as it is there."""

    roots: Mapping[str, Path]  # by the folder that a name begins with, or ""
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
            check_size(files[kind], picture.shape, foreground.shape, "foreground")
        if "bgr" in others:
            pictures["background"] = others["bgr"]
        return Record(others.get("src", foreground), pictures=pictures)

    def _path(self, kind: str, name: str) -> Path:
        """The file, or where it should be."""
        first, _, rest = name.partition("/")
        root, inside = (self.roots[""], name) if "" in self.roots else (self.roots[first], rest)
        return self.paths[kind].get(name, root / kind / f"{inside}.png")


def open_folder(source: Path, *, split: str | None, table: LabelTable | None) -> FgrPha:
    """Opens a folder with fgr/ and pha/, or one with splits.

    split  train, val (the folder valid or val) or test; None is all that are there. Ids are `train/NAME` either way

    The samples are those of which there is any file; one that lacks a file is a bad sample. Raises ValueError, one line
    that names the folder, for another layout, for src without bgr or in some of the splits only, and for two files of
    one name.
    """
    roots = _roots(source, split)
    kinds = _kinds(roots)
    paths: dict[str, dict[str, Path]] = {kind: {} for kind in kinds}
    for kind in kinds:
        for first, root in roots.items():
            paths[kind] |= {f"{first}/{name}".lstrip("/"): path for name, path in _files(root / kind)}
    names = sorted({name for of_kind in paths.values() for name in of_kind})
    if not names:
        root = next(iter(roots.values()))
        raise ValueError(f"{root / 'fgr'}: must hold {', '.join(SUFFIXES)} files, but holds none")
    return FgrPha(
        roots, kinds, paths, tuple(names), {"folders": list(kinds), "splits": [first for first in roots if first]}
    )


def _roots(source: Path, split: str | None) -> dict[str, Path]:
    """The folders that have fgr/ and pha/, by what the names of their samples begin with."""
    if split not in (None, *SPLITS):
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, but got {split!r}")
    wanted = [folder for name in SPLITS for folder in SPLITS[name] if split in (None, name)]
    found = {folder: source / folder for folder in wanted if (source / folder).is_dir()}
    whole = any((source / kind).is_dir() for kind in ("fgr", "pha"))
    if "valid" in found and "val" in found:
        raise ValueError(f"{source}: must have valid/ or val/, but has both; remove one")
    if split is not None and not found:
        raise ValueError(f"{source}: split {split} must have the folder {' or '.join(wanted)}, but has none")
    if split is None and whole and found:
        raise ValueError(f"{source}: must have fgr/ and pha/ or splits, but has {', '.join(found)} too; give one split")
    return found or {"": source}


def _kinds(roots: Mapping[str, Path]) -> tuple[str, ...]:
    """The folders that each root must have, and src and bgr where they are."""
    for root in roots.values():
        for kind in ("fgr", "pha"):
            if not (root / kind).is_dir():
                raise ValueError(f"{root / kind}: the folder is missing, since {root} must have fgr/ and pha/")
        both = [kind for kind in ("src", "bgr") if (root / kind).is_dir()]
        if len(both) == 1:
            raise ValueError(f"{root}: must have src/ and bgr/ or neither, but has {both[0]}/ alone")
    tested = [root for root in roots.values() if (root / "src").is_dir()]
    if tested and len(tested) < len(roots):
        lacking = next(root for root in roots.values() if root not in tested)
        raise ValueError(f"{lacking}: must have src/ and bgr/, as {tested[0]} has; read the splits one by one")
    return ("src", "bgr", "fgr", "pha") if tested else ("fgr", "pha")


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
