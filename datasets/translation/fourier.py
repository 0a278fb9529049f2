"""FourierAdaptation: the low frequencies of an image get the amplitudes of another's and keep their phases.

Large-scale colour and light live there, and little of what a picture shows. `A.FDA` is not used: docs/decisions.md.
"""

import numpy as np
from scipy import fft

from datasets.translation.reference import ReferenceTransform

ABSENT = 1e-6  # amplitudes of 0..255 images below this are rounding errors of a transform in float64


class FourierAdaptation(ReferenceTransform):
    """Yang and Soatto 2020, equation 3: the frequencies within floor(beta H) rows and floor(beta W) columns of zero.

    A frequency that the image does not have has no phase and stays absent, so that a flat image takes the mean colour.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def translate(self, image: np.ndarray, reference: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        rows, columns = int(self.beta * height), int(self.beta * width)
        near = np.abs(fft.fftfreq(height, 1 / height)) <= rows  # a half spectrum has the columns from 0 up
        spectrum = fft.rfft2(image.astype(np.float64), axes=(0, 1))
        low = spectrum[near, : columns + 1]
        wanted = np.abs(fft.rfft2(reference.astype(np.float64), axes=(0, 1))[near, : columns + 1])
        amplitude = np.abs(low)
        factor = np.divide(wanted, amplitude, out=np.ones_like(wanted), where=amplitude > ABSENT)
        spectrum[near, : columns + 1] = low * factor
        translated: np.ndarray = fft.irfft2(spectrum, (height, width), axes=(0, 1))
        return translated
