"""Translation: a synthetic sample made to look like a real one, as a function of the sample and its seed alone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from datasets.mix import Domain, DomainRows, Source
from datasets.pack import Value
from datasets.translation.spec import AdainImage, Fda, Histogram, PixelDistribution, TranslationSpec

if TYPE_CHECKING:
    import albumentations as A

REFERENCE = b"translation/reference"  # keys the choice of references, so that no other draw of the seed is like it


def translated_column(columns: Sequence[str]) -> str:
    """The column that is translated where a task reads these: `image`, or `foreground` where it composes its images.

    A composite is made later and before a real photograph, so that of it the person alone is synthetic. Raises
    ValueError where there is neither.
    """
    for column in ("image", "foreground"):
        if column in columns:
            return column
    raise ValueError(f"a translation needs the column image or foreground, but the task reads {', '.join(columns)}")


@dataclass(frozen=True, eq=False)
class Translation:
    """`translation(sample, seed)` is the sample with `column` translated, and the rest as it was.

    spec        the method; one with files of weights is loaded here, once a process
    references  the source of real images
    rows        its rows that may serve as references: the real training subset of a recipe
    column      the column that is translated, uint8 [H, W, 3], and in which the references lie; a reference of another
                size is resized (area)

    Picklable, without a state. Raises ValueError, one line, when the rows are not of the source, the source has no
    such column, or the weights do not fit.
    """

    spec: TranslationSpec
    references: Source
    rows: DomainRows
    column: str = "image"

    def __post_init__(self) -> None:
        if self.rows.domain is not Domain.REAL:
            raise ValueError(f"references must be real rows, but got {self.rows.domain.name.lower()} ones")
        if self.references.digest != self.rows.digest or self.rows.rows.max() >= len(self.references):
            raise ValueError(
                f"the rows of references must be of source {self.references.digest[:12]} with"
                f" {len(self.references)} rows, but are of {self.rows.digest[:12]} up to row {self.rows.rows.max()}"
            )
        if self.column not in self.references.columns:
            paths = ", ".join(pack.path for pack in self.references.packs)
            raise ValueError(
                f"{paths}: references must have column {self.column!r}, but have {', '.join(self.references.columns)}"
            )
        _transform(self.spec)

    def __call__(self, sample: Mapping[str, Value], seed: int) -> dict[str, Value]:
        """The translated sample; `sample` is left as it is. Raises ValueError for an image of another type or shape."""
        image = _checked(sample.get(self.column), f"sample {sample.get('id', '')}".rstrip(), self.column)
        row = self.reference_row(seed)
        read = self.references.sample(row, (self.column,))[self.column]
        reference = _checked(read, f"reference row {row}", self.column)
        if reference.shape != image.shape:
            reference = cv2.resize(reference, image.shape[1::-1], interpolation=cv2.INTER_AREA)
        return {**sample, self.column: _transform(self.spec)(image=image, reference=reference)["image"]}

    def reference_row(self, seed: int) -> int:
        """The row of `references` that a sample of this seed (0 <= seed < 2**64) is translated by: uniform in `rows`,
        and independent of what the augmentation draws from the same seed."""
        digest = hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=8, key=REFERENCE).digest()
        return int(self.rows.rows[int.from_bytes(digest, "little") * self.rows.rows.size >> 64])


@lru_cache(maxsize=4)
def _transform(spec: TranslationSpec) -> "A.ImageOnlyTransform":
    """The albumentations transform of a spec: call it with `image=` and `reference=`; it draws nothing."""
    match spec:
        case Fda():
            from datasets.translation.fourier import FourierAdaptation

            return FourierAdaptation(spec.beta)
        case Histogram():
            from datasets.translation.histogram import HistogramMatching

            return HistogramMatching(spec.strength)
        case PixelDistribution():
            from datasets.translation.pixel_distribution import PixelDistributionAdaptation

            return PixelDistributionAdaptation(spec.transform, spec.strength)
        case AdainImage(encoder=None) | AdainImage(decoder=None):
            from datasets.translation.lab import LabStatistics

            return LabStatistics(spec.strength)
        case AdainImage():
            from datasets.translation import style
            from datasets.translation.encoded import EncodedStatistics

            assert spec.encoder is not None
            assert spec.decoder is not None
            return EncodedStatistics(style.loaded(spec.strength, spec.encoder, spec.decoder))


def _checked(value: Value | None, where: str, column: str) -> np.ndarray:
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3:
        return value
    given = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
    raise ValueError(f"{where}: {column} must be uint8 [H, W, 3] to be translated, but is {given}")
