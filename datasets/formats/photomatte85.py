"""PhotoMatte85 (Lin et al. 2021): 85 photographs of people before a green screen, keyed by hand, and its likes.

    {name}.png      RGBA, all in one folder

The colour is the foreground's and not multiplied by alpha: where alpha is low it stays bright (measured on two
photographs of this layout: more than half of the pixels in between have a channel above their alpha). There is no
background, so that the image of a sample is its foreground; compositing gives it one. Where alpha is 0 the colour may
be anything: one of the two is black there, the other is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.formats.reading import decode_cutout
from datasets.formats.record import Record
from datasets.labels import LabelTable

VERSION = 1


@dataclass(frozen=True)
class PhotoMatte85:
    """A folder of RGBA files. Records have the image and pictures: the same as foreground, and alpha uint8 [H, W]."""

    source: Path
    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def files(self, name: str) -> tuple[Path, ...]:
        return (self.source / f"{name}.png",)

    def record(self, name: str) -> Record:
        (path,) = self.files(name)
        colour, alpha = decode_cutout(path)
        return Record(colour, pictures={"alpha": alpha, "foreground": colour})


def open_folder(source: Path, *, split: str | None, table: LabelTable | None) -> PhotoMatte85:
    """Opens a folder of RGBA files, which has no splits and no classes. Raises ValueError where it holds no .png."""
    if split is not None:
        raise ValueError(f"split must be left out, as PhotoMatte85 has none of its own, but got {split!r}; use rows")
    names = sorted(path.stem for path in source.glob("*.png") if path.name[0] != ".")
    if not names:
        raise ValueError(f"{source}: must be a folder of RGBA .png files, but holds none")
    return PhotoMatte85(source, tuple(names))
