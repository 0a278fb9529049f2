"""LabStatistics: mean and deviation of lightness and opponent colours, taken from another image."""

import cv2
import numpy as np

from datasets.translation.pixel_distribution import ratio, statistics
from datasets.translation.reference import ReferenceTransform

FLAT = 0.1  # the deviation of a grey image's a and b is rounding, at most this, and must not be enlarged


class LabStatistics(ReferenceTransform):
    """Colour transfer (Reinhard et al. 2001, equations 10 and 11) in CIE Lab under D65, as OpenCV's tables
    have it (within 0.35 of the formula).

    strength  the weight of the reference's statistics. A channel without deviation is shifted only
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def translate(self, image: np.ndarray, reference: np.ndarray) -> np.ndarray:
        lab, other = (cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2Lab) for x in (image, reference))
        (mean, std), (wanted_mean, wanted_std) = (statistics(x) for x in (lab, other))
        scale = 1 + self.strength * (ratio(wanted_std, std, FLAT) - 1)
        shift = (1 - scale) * mean + self.strength * (wanted_mean - mean)
        matched = cv2.transform(lab, np.column_stack([np.diag(scale), shift]))
        return 255 * np.asarray(cv2.cvtColor(matched, cv2.COLOR_Lab2RGB))
