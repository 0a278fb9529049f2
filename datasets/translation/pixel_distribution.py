"""PixelDistribution: an image's colours moved to where another's lie, each colour by the same affine map.

`A.PixelDistributionAdaptation` is not used: it makes uint8 images black (docs/decisions.md).
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from datasets.translation.reference import ReferenceTransform

Affine = tuple[np.ndarray, np.ndarray, np.ndarray]  # float64 [3], [3, 3], [3]: x -> second @ (x - first) + third


class PixelDistributionAdaptation(ReferenceTransform):
    """The map that fits the reference's distribution, blended with the image by `strength`.

    What has no spread (a flat channel) is shifted only.
    """

    def __init__(self, transform: str, strength: float) -> None:
        super().__init__()
        self.transform, self.strength = transform, strength

    def translate(self, image: np.ndarray, reference: np.ndarray) -> np.ndarray:
        pixels = image.astype(np.float32)
        start, matrix, end = FITS[self.transform](pixels, reference.astype(np.float32))
        matrix = self.strength * matrix + (1 - self.strength) * np.eye(3)
        shift = self.strength * end + (1 - self.strength) * start - matrix @ start
        return np.asarray(cv2.transform(pixels, np.column_stack([matrix, shift])))


def standard(image: np.ndarray, reference: np.ndarray) -> Affine:
    """Mean and standard deviation of each channel."""
    (mean, std), (wanted_mean, wanted_std) = (statistics(pixels) for pixels in (image, reference))
    return mean, np.diag(ratio(wanted_std, std)), wanted_mean


def minmax(image: np.ndarray, reference: np.ndarray) -> Affine:
    """Least and largest value of each channel."""
    (least, largest), (wanted_least, wanted_largest) = (_extremes(pixels) for pixels in (image, reference))
    return least, np.diag(ratio(wanted_largest - wanted_least, largest - least)), wanted_least


def pca(image: np.ndarray, reference: np.ndarray) -> Affine:
    """Mean and principal axes, ordered by variance. Of the two directions of an axis the one is taken that makes an
    acute angle with the axis it stands for, so that no colour turns into its negative."""
    (mean, axes), (wanted_mean, wanted_axes) = (_axes(pixels) for pixels in (image, reference))
    signs = np.where((axes * wanted_axes).sum(0) < 0, -1.0, 1.0)
    return mean, (wanted_axes * signs) @ axes.T, wanted_mean


FITS: Mapping[str, Callable[[np.ndarray, np.ndarray], Affine]] = {"pca": pca, "standard": standard, "minmax": minmax}


def statistics(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (over n) of each channel of an image [H, W, 3], float64 [3] each."""
    mean, std = cv2.meanStdDev(image)
    return mean[:, 0], std[:, 0]


def ratio(wanted: np.ndarray, given: np.ndarray, least: float = 0.0) -> np.ndarray:
    """wanted / given, and 1 where `given` is not above `least`."""
    return np.divide(wanted, given, out=np.ones_like(given), where=given > least)


def _extremes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array([cv2.minMaxLoc(channel)[:2] for channel in cv2.split(image)])
    return pairs[:, 0], pairs[:, 1]


def _axes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and the principal axes as columns of float64 [3, 3], the one of the largest variance first."""
    mean, _ = statistics(image)
    centred = image.reshape(-1, 3) - mean
    return mean, np.linalg.eigh(cv2.mulTransposed(centred, aTa=True)).eigenvectors[:, ::-1]
