"""CelebAMask-HQ (Lee et al. 2020): 30,000 photographs of celebrities with masks of 19 classes.

Two layouts are read. The official release has an image and one mask file for each part that is present:

    CelebA-HQ-img/{k}.jpg                                          1024 x 1024
    CelebAMask-HQ-mask-anno/{k // 2000}/{k:05d}_{part}.png         512 x 512, not zero where the part is
    CelebA-HQ-to-CelebA-mapping.txt                                for the split

(its own scripts say CelebAMaskHQ-mask-anno; both names are taken). Other copies have one label map per image, a PNG
whose pixel values or palette indices are the classes in the official order:

    images/{id}.jpg   masks/{id}.png
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from datasets.classes import FACE_CLASSES
from datasets.formats.reading import Reading, decode, resize_image, resize_labels, select_rows
from datasets.pack import Value

VERSION = 1
IGNORE = 255
SPLITS = ("train", "val", "test")
MASK_FOLDERS = ("CelebAMask-HQ-mask-anno", "CelebAMaskHQ-mask-anno")

# The official order: a later part is drawn over an earlier one, and its number is its class (0 is the background).
# `l_` and `r_` are the subject's sides, the common classes' the image's: hence the swap. `mouth` is its inside,
# `l_lip` the lower lip, `ear_r` an earring, `neck_l` a necklace, `eye_g` glasses.
COMMON = {
    "background": "background",
    "skin": "skin",
    "nose": "nose",
    "eye_g": "background",  # or ignore, see `read`
    "l_eye": "eye_right",
    "r_eye": "eye_left",
    "l_brow": "skin",
    "r_brow": "skin",
    "l_ear": "skin",
    "r_ear": "skin",
    "mouth": "inner_mouth",
    "u_lip": "upper_lip",
    "l_lip": "lower_lip",
    "hair": "hair",
    "hat": "background",
    "ear_r": "background",
    "neck_l": "background",
    "neck": "background",
    "cloth": "background",
}
PARTS = tuple(COMMON)[1:]


def read(
    source: Path,
    *,
    size: int,
    split: str | None = None,
    rows: str | None = None,
    shuffle_seed: int = 0,
    glasses: str = "background",
) -> Reading:
    """Opens a folder of CelebAMask-HQ in either layout.

    Samples have image uint8 [size, size, 3] RGB, segmentation uint8 [size, size] of the nine common classes, and id.

    split    "train", "val" or "test" by the CelebA number of each image, as the reference's g_partition.py does it:
             below 162,771, below 182,638, the rest; needs CelebA-HQ-to-CelebA-mapping.txt
    rows     START:STOP of the ids (of the split) in an order shuffled by `shuffle_seed`
    glasses  "background" as in LaPa, or "ignore" (255), since a mask of glasses hides the eyes behind them

    Raises ValueError, one line that names the file, for a folder in neither layout, at once, and for an image or mask
    that is missing, unreadable, not square or of a wrong size or class, when the samples come to it.
    """
    if size < 1:
        raise ValueError(f"`size >= 1` must hold, but got {size}")
    if split not in (None, *SPLITS):
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, but got {split!r}")
    if glasses not in ("background", "ignore"):
        raise ValueError(f"glasses must be background or ignore, but got {glasses!r}")
    source = Path(source)
    anno = next((source / name for name in MASK_FOLDERS if (source / name).is_dir()), None)
    if anno is not None and (source / "CelebA-HQ-img").is_dir():
        layout, images, labels = "parts", source / "CelebA-HQ-img", partial(_parts, anno)
    elif (source / "images").is_dir() and (source / "masks").is_dir():
        layout, images, labels = "maps", source / "images", partial(_map, source / "masks")
    else:
        raise ValueError(
            f"{source}: must have CelebA-HQ-img/ and {MASK_FOLDERS[0]}/, or images/ and masks/, but has neither pair"
        )
    ids = sorted((path.stem for path in images.glob("*.jpg")), key=lambda name: (len(name), name))
    if not ids:
        raise ValueError(f"{images}: must hold .jpg images, but has none")
    if layout == "parts" and not all(name.isdecimal() for name in ids):
        name = next(name for name in ids if not name.isdecimal())
        raise ValueError(f"{images / name}.jpg: the name must be the image's number in the official layout")
    if split is not None:
        ids = _split(source / "CelebA-HQ-to-CelebA-mapping.txt", ids, split)
    ids = select_rows(ids, rows, shuffle_seed)
    options = {"layout": layout, "size": size, "glasses": glasses, "split": split, "rows": rows}
    if rows is not None:
        options["shuffle_seed"] = shuffle_seed
    return Reading(
        count=len(ids),
        samples=_samples(images, ids, labels, size, _table(glasses)),
        classes=FACE_CLASSES,
        source={"format": "celebamask_hq", "version": VERSION, **options},
    )


def _table(glasses: str) -> np.ndarray:
    """Official class to common class, uint8 [19]."""
    table = np.array([FACE_CLASSES.index(common) for common in COMMON.values()], np.uint8)
    if glasses == "ignore":
        table[1 + PARTS.index("eye_g")] = IGNORE
    return table


def _samples(
    images: Path, ids: Sequence[str], labels: partial, size: int, table: np.ndarray
) -> Iterator[dict[str, Value]]:
    for name in ids:
        path = images / f"{name}.jpg"
        image = decode(path, "RGB")
        if image.shape[0] != image.shape[1]:
            raise ValueError(f"{path}: must be square, but is {image.shape[1]}x{image.shape[0]}")
        official, where = labels(name)
        if image.shape[0] not in (official.shape[0], 2 * official.shape[0]) or official.shape[0] != official.shape[1]:
            raise ValueError(
                f"{where}: a mask must have its image's size or half of it, but got "
                f"{official.shape[1]}x{official.shape[0]} for {image.shape[1]}x{image.shape[0]}"
            )
        yield {
            "image": resize_image(image, size),
            "segmentation": table[resize_labels(official, size)],
            "id": name,
        }


def _parts(anno: Path, name: str) -> tuple[np.ndarray, Path]:
    """The official label map uint8 [H, W] of an image from its part files, and the path to name in an error."""
    k = int(name)
    folder = anno / str(k // 2000)
    labels: np.ndarray | None = None
    for number, part in enumerate(PARTS, start=1):
        path = folder / f"{k:05d}_{part}.png"
        if not path.is_file():
            continue
        present = decode(path, "RGB")[..., 0] != 0
        if labels is None:
            labels = np.zeros(present.shape, np.uint8)
        if present.shape != labels.shape:
            raise ValueError(
                f"{path}: must be {labels.shape[1]}x{labels.shape[0]} as the image's other masks, "
                f"but is {present.shape[1]}x{present.shape[0]}"
            )
        labels[present] = number
    if labels is None:
        raise ValueError(f"{folder}: image {k} must have masks {k:05d}_*.png, but there is none")
    return labels, folder / f"{k:05d}_*.png"


def _map(masks: Path, name: str) -> tuple[np.ndarray, Path]:
    """The official label map uint8 [H, W] of an image from its one file, and that file's path."""
    path = masks / f"{name}.png"
    labels = decode(path)
    if labels.ndim != 2:
        raise ValueError(f"{path}: must have one channel or a palette, but has {labels.shape[2]} channels")
    if labels.max() > len(PARTS):
        raise ValueError(f"{path}: classes must be 0 to {len(PARTS)}, but got {labels.max()}")
    return labels.astype(np.uint8), path


def _split(mapping: Path, ids: Sequence[str], split: str) -> list[str]:
    """The ids of a split, by the mapping file's columns idx, orig_idx, orig_file after a header line."""
    try:
        lines = mapping.read_text(encoding="utf-8").splitlines()[1:]
    except FileNotFoundError:
        raise ValueError(f"{mapping}: a split needs this file; add it, or choose images by rows") from None
    chosen = {}
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        if not re.match(r"\s*\d+\s+\d+\s", line):
            raise ValueError(f"{mapping}:{number}: must read `idx orig_idx orig_file`, but got {line.strip()!r}")
        idx, original = map(int, line.split()[:2])
        chosen[idx] = "train" if original < 162771 else "val" if original < 182638 else "test"
    unknown = [name for name in ids if not name.isdecimal() or int(name) not in chosen]
    if unknown:
        raise ValueError(f"{mapping}: must list image {unknown[0]}, but does not; choose images by rows instead")
    kept = [name for name in ids if chosen[int(name)] == split]
    if not kept:
        raise ValueError(f"{mapping}: split {split!r} must hold some of the {len(ids)} images here, but holds none")
    return kept
