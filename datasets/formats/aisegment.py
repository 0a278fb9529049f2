"""AISegment's human matting set (2018): 34,427 half-length portraits, 600 x 800, with mattes of varying care.

    clip_img/{group}/clip_{part}/{name}.jpg              the photograph
    matting/{group}/matting_{part}/{name}.png            RGBA: alpha is the matte

Colour is taken from the photograph and alpha from the matte's fourth channel: the colours of the .png are the
photograph's with the background cut out, no estimated foreground. Files and folders whose names begin with a dot are
what another system left in the archive, and are passed over, as everything in __MACOSX. The set has no splits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.formats.reading import check_size, decode, decode_cutout
from datasets.formats.record import Record
from datasets.labels import LabelTable

VERSION = 1
IMAGES, MATTES = ("clip_img", "clip_", ".jpg"), ("matting", "matting_", ".png")


@dataclass(frozen=True)
class AISegment:
    """A folder of AISegment. Records have the image and pictures["alpha"] uint8 [H, W]; names are `group/part/name`."""

    source: Path
    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def files(self, name: str) -> tuple[Path, ...]:
        group, part, stem = name.split("/")
        return tuple(
            self.source / top / group / f"{prefix}{part}" / f"{stem}{suffix}"
            for top, prefix, suffix in (IMAGES, MATTES)
        )

    def record(self, name: str) -> Record:
        picture, matte = self.files(name)
        image = decode(picture, "RGB")
        _, alpha = decode_cutout(matte)
        check_size(matte, alpha.shape, image.shape)
        return Record(image, pictures={"alpha": alpha})


def open_folder(source: Path, *, split: str | None, table: LabelTable | None) -> AISegment:
    """Opens a folder of AISegment.

    The samples are those of which there is a photograph or a matte; one that lacks the other is a bad sample. Raises
    ValueError, one line that names the folder, for another layout, and for a split.
    """
    if split is not None:
        raise ValueError(f"split must be left out, as AISegment has none of its own, but got {split!r}; use rows")
    for top, _, _ in (IMAGES, MATTES):
        if not (source / top).is_dir():
            raise ValueError(f"{source / top}: the folder is missing; AISegment has {IMAGES[0]}/ and {MATTES[0]}/")
    names = sorted({name for kind in (IMAGES, MATTES) for name in _names(source, *kind)})
    if not names:
        raise ValueError(f"{source / IMAGES[0]}: must hold GROUP/clip_PART/NAME.jpg, but holds none")
    return AISegment(source, tuple(names))


def _names(source: Path, top: str, prefix: str, suffix: str) -> Iterator[str]:
    for path in (source / top).glob(f"*/{prefix}*/*{suffix}"):
        group, part, file = path.relative_to(source / top).parts
        if not any(name.startswith((".", "__MACOSX")) for name in (group, part, file)):
            yield f"{group}/{part.removeprefix(prefix)}/{path.stem}"
