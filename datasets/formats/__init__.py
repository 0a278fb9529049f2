"""Data sets in their own layouts on disk, read to samples of a pack: one file a format.

A format is a module with `VERSION`, raised whenever the same files give other samples, and
`open_folder(source, *, split, table) -> DataSet`. To add one, write the file, name it here, and, where it has classes,
write its label table, under the same name (datasets/labels). A format whose folders say themselves which table they
need has `own_labels(source)`, too: its name or file, or None for a folder without classes. One that cuts several
samples from a file has `open_folder(..., crops, crops_seed)`.
"""

from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

from datasets.formats import (
    aisegment,
    celebamask_hq,
    face_api,
    face_api_v2,
    face_synthetics,
    fgr_pha,
    generic,
    ibug_300w,
    lapa,
    panoramas,
    photomatte85,
)
from datasets.formats.reading import Reading, select_rows
from datasets.formats.record import CROPS
from datasets.labels import LIBRARY, LabelTable, load_labels
from datasets.settings import unknown

FORMATS: dict[str, ModuleType] = {
    "aisegment": aisegment,
    "celebamask_hq": celebamask_hq,
    "face_api": face_api,
    "face_api_v2": face_api_v2,
    "face_synthetics": face_synthetics,
    "fgr_pha": fgr_pha,
    "generic": generic,
    "ibug_300w": ibug_300w,
    "lapa": lapa,
    "panoramas": panoramas,
    "photomatte85": photomatte85,
}

__all__ = ["FORMATS", "Reading", "read"]


def read(
    format: str,
    source: Path,
    *,
    size: int,
    crop: str = "none",
    split: str | None = None,
    rows: str | None = None,
    shuffle_seed: int = 0,
    labels: str | Path | None = None,
    choices: dict[str, str] | None = None,
    crops: int | None = None,
    crops_seed: int | None = None,
) -> Reading:
    """Opens a folder in the layout of `format`, one of FORMATS.

    size     of the samples' pixels, square
    crop     none: the whole image, which must be square; center: the largest square in its middle; pad: the smallest
             square around it; face: the square in which CelebA-HQ shows a face (record.Window.of_face)
    split    the data set's own: "train", "val", "test", as far as the layout has them; None is all
    rows     START:STOP of the samples in an order shuffled by `shuffle_seed`
    labels   a label table's name or file; the format's own unless given
    choices  what the label table leaves open, as {"glasses": "ignore"}
    crops    samples of each file, and crops_seed what they are drawn by, for formats that cut several from a file

    Raises ValueError, one line that names the file, for a folder that is not in that layout, at once, and for a bad
    file when its sample is read.
    """
    if format not in FORMATS:
        raise ValueError(unknown("format", format, FORMATS))
    if size < 1:
        raise ValueError(f"`size >= 1` must hold, but got {size}")
    if crop not in CROPS:
        raise ValueError(f"crop must be one of {', '.join(CROPS)}, but got {crop!r}")
    source = Path(source)
    table = _table(format, source, labels, choices)
    own = {name: value for name, value in (("crops", crops), ("crops_seed", crops_seed)) if value is not None}
    for name, value in own.items():
        if name not in signature(FORMATS[format].open_folder).parameters:
            raise ValueError(f"{name} must be left out, since nothing is cut from a file of {format}, but got {value}")
    data = FORMATS[format].open_folder(source, split=split, table=table, **own)
    names = select_rows(data.names, rows, shuffle_seed)
    options: dict[str, Any] = {**data.options, "size": size, "crop": crop, "split": split, "rows": rows}
    if rows is not None:
        options["shuffle_seed"] = shuffle_seed
    if table is not None:
        options["labels"] = table.digest
    source_facts = {"format": format, "version": FORMATS[format].VERSION, **options}
    return Reading(data, tuple(names), size, crop, table, source_facts)


def _table(format: str, source: Path, labels: str | Path | None, choices: dict[str, str] | None) -> LabelTable | None:
    """The label table that a user asks for, or the folder's own; None for data without classes."""
    if hasattr(FORMATS[format], "own_labels"):
        own = FORMATS[format].own_labels(source)
    else:
        own = format if format in LIBRARY.names else None
    if own is not None:
        return load_labels(labels or own, choices)
    if labels is not None or choices:
        raise ValueError(f"{source}: labels must be left out, since this data has no classes")
    return None
