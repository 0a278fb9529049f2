"""ReferenceTransform: an albumentations transform that goes by another image, given at the call."""

from abc import abstractmethod
from typing import Any

import albumentations as A
import numpy as np


class ReferenceTransform(A.ImageOnlyTransform):
    """Call it with `image=` uint8 [H, W, 3] and `reference=` uint8 [H, W, 3]; draws nothing.

    Subclasses give `translate`: (image, reference) -> float [H, W, 3] on the scale 0 to 255, which is rounded and
    clipped to uint8 here.
    """

    def __init__(self) -> None:
        super().__init__(p=1.0)

    @property
    def targets_as_params(self) -> list[str]:
        return ["reference"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"reference": data["reference"]}

    def apply(self, img: np.ndarray, reference: np.ndarray, **params: Any) -> np.ndarray:
        return np.clip(np.rint(self.translate(img, reference)), 0, 255).astype(np.uint8)

    @abstractmethod
    def translate(self, image: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """float [H, W, 3] on the scale 0 to 255, of two uint8 [H, W, 3]."""
