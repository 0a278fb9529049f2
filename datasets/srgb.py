"""The transfer curve of sRGB (IEC 61966-2-1): between the light that adds up and the values that pictures hold."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def srgb_from_linear(linear: ArrayLike) -> NDArray[np.float64]:
    """The curve of values 0 and more, element by element; 0..1 maps to 0..1."""
    x = np.asarray(linear, np.float64)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055)


def linear_from_srgb(srgb: ArrayLike) -> NDArray[np.float64]:
    """The inverse of `srgb_from_linear`."""
    y = np.asarray(srgb, np.float64)
    return np.where(y <= 0.04045, y / 12.92, ((np.maximum(y, 0.04045) + 0.055) / 1.055) ** 2.4)
