"""EncodedStatistics: an image decoded from features that have the statistics of another image's."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch

from datasets.translation.reference import ReferenceTransform
from datasets.translation.style import STRIDE, StyleTransfer


class EncodedStatistics(ReferenceTransform):
    """A `StyleTransfer` on the CPU, in one thread whoever calls it, so that its bits are the same in every process.

    Images are mirrored beyond their right and lower edges to multiples of 8, at least 16, and the result is cropped.
    """

    def __init__(self, model: StyleTransfer) -> None:
        super().__init__()
        self.model = model

    def translate(self, image: np.ndarray, reference: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        content, style = (_tensor(x) for x in (image, reference))
        with _one_thread(), torch.inference_mode(), torch.autocast("cpu", enabled=False):
            translated = self.model(content, style)
        return 255 * translated[0, :, :height, :width].permute(1, 2, 0).numpy()


def _tensor(image: np.ndarray) -> torch.Tensor:
    """Float32 [1, 3, H', W'] in [0, 1]."""
    height, width = (max(2 * STRIDE, -(-side // STRIDE) * STRIDE) - side for side in image.shape[:2])
    padded = cv2.copyMakeBorder(image, 0, height, 0, width, cv2.BORDER_REFLECT_101)
    return torch.from_numpy(padded).permute(2, 0, 1)[None].float().div(255).contiguous()


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
