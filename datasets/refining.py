"""Refinement: the samples of a pack again, each with a finer matte and the foreground that it cuts out.

People's mattes are rough: AISegment's have lost the hair, and have no foreground without which nothing can be put
before another background. A pack is refined once, before training (mattes.py says how), and what comes of it is a pack
like any other, so that a search can compare the two as sources.
"""

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from datasets.manifest import Column, PackError
from datasets.mattes import INNER, OUTER, SIDE, check_options, estimate_foreground, refine_alpha, require_pymatting
from datasets.pack import Pack, Value

VERSION = 1  # raised whenever the same pack gives other samples
PART = 8  # samples that one process refines before it keeps them: some seconds of work


@dataclass(frozen=True)
class Refinement:
    """The samples of `pack`, in its order and with its ids, refined when they are asked for. It can be pickled.

    Each has the columns of the pack's, but alpha uint8 [H, W] is `refine_alpha`'s and foreground uint8 [H, W, 3] is
    estimated from it, whether the pack has one or not. inner, outer and side are those of `refine_alpha`. With
    `keep_mattes` alpha stays as it is, and the foreground alone is estimated: what refined mattes are compared with.
    """

    pack: Pack
    keep_mattes: bool
    inner: float
    outer: float
    side: int
    names: tuple[str, ...]
    source: dict[str, Any]
    _rows: dict[str, int] = field(repr=False)

    @classmethod
    def of(
        cls, pack: Pack, *, keep_mattes: bool = False, inner: float = INNER, outer: float = OUTER, side: int = SIDE
    ) -> "Refinement":
        """Checks everything but the samples: all bytes of the pack, its columns, the options, and pymatting.

        Raises PackError, one line that names the pack, where it is damaged, where it has no id, image uint8 [H, W, 3]
        and alpha uint8 [H, W], and where two ids are the same; ValueError for options that cannot be, and where
        pymatting is not installed.
        """
        check_options(inner, outer, side)
        require_pymatting()
        _check_columns(pack)
        pack.verify()
        names = tuple(str(pack.sample(i, ["id"])["id"]) for i in range(len(pack)))
        rows = {name: row for row, name in enumerate(names)}
        if len(rows) < len(names):
            twice = next(name for row, name in enumerate(names) if rows[name] != row)
            raise PackError(f"{pack.path}: ids must differ for a pack to be refined, but two samples are {twice!r}")
        source = {
            "format": "refined",
            "version": VERSION,
            "digest": pack.digest,
            **({"keep_mattes": True} if keep_mattes else {"inner": inner, "outer": outer, "side": side}),
            "pymatting": version("pymatting"),
            "of": pack.manifest.source,
        }
        return cls(pack, keep_mattes, inner, outer, side, names, source, rows)

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self.pack.manifest.classes

    def files(self, name: str) -> tuple[Path, ...]:
        """The pack's folder: `source` has the digest of what is in it."""
        return (Path(self.pack.folder),)

    def sample(self, name: str) -> dict[str, Value]:
        """One sample. Raises ValueError, one line that names pack and sample, where its matte cannot be refined."""
        sample = self.pack.sample(self._rows[name])
        image, rough = np.asarray(sample["image"]), np.asarray(sample["alpha"])
        if self.keep_mattes:
            return sample | {"foreground": estimate_foreground(image, rough)}
        try:
            alpha = refine_alpha(image, rough, inner=self.inner, outer=self.outer, side=self.side)
        except ValueError as error:
            raise ValueError(f"{self.pack.path}: sample {name}: {error}") from None
        return sample | {"alpha": alpha, "foreground": estimate_foreground(image, alpha)}


def _check_columns(pack: Pack) -> None:
    columns = {column.name: column for column in pack.manifest.columns}
    image = columns.get("image")
    shape = (*image.shape[:2], 3) if image else ()
    wanted = [Column("id", "string", ()), Column("image", "uint8", shape), Column("alpha", "uint8", shape[:2])]
    if any(columns.get(column.name) != column for column in wanted):
        got = ", ".join(f"{column.name} {column}" for column in pack.manifest.columns)
        raise PackError(
            f"{pack.path}: must have id, image uint8[H, W, 3] and alpha uint8[H, W] to be refined, but has {got}"
        )
