"""Augmentation of pictures with landmarks: the points move as the pixels do, and a flip exchanges left and right."""

from typing import Any

import albumentations as A
import cv2
import numpy as np

from datasets.augment import GaussianNoise
from datasets.landmarks import flip_order


def landmarks_transform(resolution: int, num_points: int) -> A.Compose:
    """The training augmentation of facial landmarks, for `batched.Batched`: call it through `Batched.augment`.

    In and out: image uint8 [R, R, 3] RGB, landmarks float32 [num_points, 2] in pixels, the centre of the first pixel at
    (0, 0). Points that leave the image keep their places outside of it, and NaN stays NaN.

    Rotation, scale and flip are the reference's (princeton-vl/pytorch_stacked_hourglass), and a small
    shift is added, since crops by landmarks centre a face better than any detector does. Colour is milder than there
    (its hue turns skin blue); blur, noise and up to two filled rectangles stand for cameras and what covers a face.

    resolution  R: blur is measured in pixels of a 256-pixel image and scaled to R
    num_points  51 or 68
    """
    scale = resolution / 256
    return A.Compose(
        [
            LandmarkFlip(num_points, p=0.5),
            A.Affine(
                scale=(0.75, 1.25),
                keep_ratio=True,
                rotate=(-30, 30),
                translate_percent=(-0.05, 0.05),
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                fill=0,
                fill_mask=0,
                p=1.0,
            ),
            A.ColorJitter(brightness=(0.7, 1.3), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.05, 0.05), p=0.8),
            A.CoarseDropout(
                num_holes_range=(1, 2),
                hole_height_range=(0.1, 0.35),
                hole_width_range=(0.1, 0.35),
                fill="random_uniform",
                p=0.3,
            ),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.2 * scale, 1.5 * scale), p=0.3),
            GaussianNoise(std_range=(1.0, 10.0), p=0.3),
        ],
        additional_targets={"landmarks": "keypoints"},
    )


class LandmarkFlip(A.HorizontalFlip):
    """A horizontal flip after which each landmark is again the one of its name: x' = W - 1 - x, then `flip_order`."""

    def __init__(self, num_points: int, p: float) -> None:
        super().__init__(p=p)
        self.num_points = num_points
        self._order = list(flip_order(num_points))

    def apply_to_keypoints(self, keypoints: np.ndarray, **params: Any) -> np.ndarray:
        return super().apply_to_keypoints(keypoints, **params)[self._order]
