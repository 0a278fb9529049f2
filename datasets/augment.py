"""Augmentation: albumentations pipelines that are a function of the sample and one seed.

Two things of albumentations 2.0.8 are worked around here, and tests hold them:

- `Compose.set_random_seed(seed)` gives **every** transform a generator of the same seed, so that all of them draw the
  same numbers: with p = 0.5 everywhere, either all transforms apply or none. `seeded` gives them one shared generator
  that they draw from in turn.
- `A.GaussNoise` reseeds and draws from OpenCV's global generator, with 16 bits of seed. `GaussianNoise` draws from the
  pipeline's own.
"""

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import albumentations as A
import cv2
import numpy as np
from scipy.special import ndtri

from datasets.classes import IGNORE


def seeded(transform: A.Compose, seed: int) -> A.Compose:
    """Sets every random generator of a pipeline from `seed` (0 <= seed < 2**64) and returns the pipeline.

    The next call then depends on its input and `seed` alone, not on earlier calls, and touches no global generator
    (numpy's, Python's, OpenCV's) with the transforms used here. About 40 microseconds.
    """
    key = np.array([seed, 0], np.uint64)
    transform.set_random_state(np.random.Generator(np.random.Philox(key=key)), random.Random(seed))
    return transform


def face_parsing_transform(resolution: int, pairs: Sequence[tuple[int, int]]) -> A.Compose:
    """The training augmentation of face parsing: call it with `image=` and `segmentation=`, after `seeded`.

    In:  image uint8 [R, R, 3] RGB, segmentation uint8 [R, R] class ids or 255. Out: the same names, types and shapes.

    In the spirit of the reference's (jfzhang95's horizontal flip, scale and crop, Gaussian blur), with the rotation,
    colour and noise that faces under other cameras need. Scales are narrower than its [0.5, 2], because aligned faces
    fill the image. What an affine map brings in from outside the image is black and labelled ignore (255): nothing is
    known about it, and background would teach that background is black.

    resolution   R: blur is measured in pixels of a 256-pixel image and scaled to R
    pairs        labels of the image's two sides (eye_left and eye_right), which a flip exchanges
    """
    scale = resolution / 256
    return A.Compose(
        [
            LabelFlip(pairs, p=0.5),
            A.Affine(
                scale=(0.75, 1.25),
                keep_ratio=True,
                rotate=(-20, 20),
                translate_percent=(-0.08, 0.08),
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                fill=0,
                fill_mask=IGNORE,
                p=0.8,
            ),
            A.ColorJitter(brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.7, 1.3), hue=(-0.03, 0.03), p=0.8),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.2 * scale, 1.5 * scale), p=0.3),
            GaussianNoise(std_range=(1.0, 10.0), p=0.3),
        ],
        additional_targets={"segmentation": "mask"},
    )


class LabelFlip(A.HorizontalFlip):
    """A horizontal flip after which the left eye is still the one on the left: the labels of `pairs` change places."""

    def __init__(self, pairs: Sequence[tuple[int, int]], p: float) -> None:
        super().__init__(p=p)
        self.pairs = tuple(pairs)
        self.table = np.arange(256, dtype=np.uint8)
        for one, other in self.pairs:
            self.table[[one, other]] = other, one

    def apply_to_mask(self, mask: np.ndarray, **params: Any) -> np.ndarray:
        return cv2.LUT(self.apply(mask, **params), self.table)


class GaussianNoise(A.ImageOnlyTransform):
    """Adds independent normal noise to every channel of a uint8 image; its standard deviation, in grey levels of
    0..255, is uniform in `std_range`.

    The normal numbers are the middles of 65536 equally likely intervals, so none is beyond 4.3 deviations: what is
    rounded to grey levels needs no finer ones, and they come from a table four times as fast.
    """

    def __init__(self, std_range: tuple[float, float], p: float) -> None:
        super().__init__(p=p)
        self.std_range = std_range

    def get_params(self) -> dict[str, Any]:
        return {
            "std": self.py_random.uniform(*self.std_range),
            "noise_seed": int(self.random_generator.integers(2**32)),
        }

    def apply(self, img: np.ndarray, std: float, noise_seed: int, **params: Any) -> np.ndarray:
        words = np.random.Philox(key=np.array([noise_seed, 1], np.uint64)).random_raw(-(-img.size // 4))
        ranks = words.view(np.uint16)[: img.size].reshape(img.shape)
        noise = np.take(_normal_quantiles() * np.float32(std), ranks)
        return cv2.add(img, noise, dtype=cv2.CV_8U)  # rounds and saturates


@cache
def _normal_quantiles() -> np.ndarray:
    """Float32 [65536]: the standard normal quantiles of (k + 1/2) / 65536."""
    return ndtri((np.arange(65536) + 0.5) / 65536).astype(np.float32)
