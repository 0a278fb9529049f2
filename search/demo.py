"""demo: the embedded faces as packs, and the search over them that the README shows."""

import os
from pathlib import Path
from typing import Any

from rich.console import Console

from datasets import Pack, PackError, write_pack
from datasets.classes import FACE_CLASSES
from datasets.generate import FaceSet, generate_faces
from search.cluster import ROOT
from search.config import DataConfig, SearchConfig, load

SIZE = 64
EXAMPLE = ROOT / "search" / "examples" / "demo.yaml"

# name: (domain, images, seed). "street" stands in for photographs, which cost money to label: there are few of them.
PACKS = {
    "real-train": ("street", 160, 1),
    "real-val": ("street", 96, 2),
    "real-test": ("street", 128, 3),
    "syn-train": ("studio", 600, 4),
}


def make_packs(folder: Path, console: Console) -> None:
    """Writes the demo's packs into a folder, leaving whole ones that are there as they are."""
    for name, (domain, count, seed) in PACKS.items():
        faces = FaceSet(count, SIZE, domain, seed, columns=("id", "image", "segmentation"))
        if _is_whole(folder / name, faces.source):
            continue
        line = f"rendering {count} faces of domain {domain} into {folder / name}"
        console.print(line, highlight=False, soft_wrap=True)
        rows = generate_faces(faces, workers=os.cpu_count() or 1)
        write_pack(folder / name, rows, source=faces.source, classes=FACE_CLASSES, overwrite=True)


def _is_whole(path: Path, source: dict[str, Any]) -> bool:
    """Whether a pack is there, undamaged, and was made as it would be made now."""
    try:
        pack = Pack.open(path)
        pack.verify()
    except PackError:
        return False
    return pack.manifest.source == source


def read(packs: Path) -> SearchConfig:
    """The demo's search over packs in a folder (the example names the default one)."""
    config = load(EXAMPLE)
    where = {name: str((packs / name).resolve()) for name in PACKS}
    data = DataConfig(
        real={"street": where["real-train"]},
        synthetic={"studio": where["syn-train"]},
        val=where["real-val"],
        test={"street": where["real-test"]},
    )
    return config.model_copy(update={"data": data})
