"""HistogramMatching: each channel of an image gets the distribution of another's.

`A.HistogramMatching` is not used: it rounds every value down (docs/decisions.md).
"""

import cv2
import numpy as np

from datasets.translation.reference import ReferenceTransform


class HistogramMatching(ReferenceTransform):
    """A value that is at least as large as a part q of its channel becomes the value of which the same is true in the
    reference, interpolated between the values there are (Gonzalez and Woods, "Digital Image Processing", section 3.3).

    strength  the weight of the matched image; the rest is the image as it was
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def translate(self, image: np.ndarray, reference: np.ndarray) -> np.ndarray:
        tables = [matching(*pair) for pair in zip(cv2.split(image), cv2.split(reference), strict=True)]
        table = self.strength * np.stack(tables, 1) + (1 - self.strength) * np.arange(256)[:, None]
        return np.asarray(cv2.LUT(image, table[None]))


def matching(channel: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """What becomes of each value of a channel uint8 [H, W]: float64 [256]."""
    ours, theirs = (np.bincount(x.ravel(), minlength=256).cumsum() / x.size for x in (channel, reference))
    values = np.flatnonzero(np.diff(theirs, prepend=0))
    return np.interp(ours, theirs[values], values)
