"""The training augmentation of background matting: BackgroundMattingV2's steps in its order, on one sample.

Lin et al. 2021 and its training script: person and alpha are moved, flipped, blurred and sharpened together and the
person's colours jittered; a background is drawn and changed by itself; then the person's shadow falls on it, the
picture is composed, picture and background get noise of their own, and the background is captured as another
photograph, jittered and shifted. Where the script draws once for a batch, here each sample draws for itself, so that a
sample is a function of its row and seed. docs/decisions.md has the other differences.
"""

import hashlib
from collections.abc import Mapping

import cv2
import numpy as np

from datasets.augment import GaussianNoise
from datasets.compositing import Compositor, checked, composite
from datasets.pack import Value
from datasets.relighting import capture, jitter

DEGREES, TRANSLATE, SHEAR = 5.0, 0.1, 5.0  # to either side: degrees, share of the side, degrees
SCALE = {"base": (0.4, 1.0), "refine": (0.3, 1.0)}  # of the person, by phase
FILTERED = 0.1  # probability of a box blur, and of sharpening
BLUR = 5 / 512  # largest radius of the blur, as a share of the side
COLOURS, HUE = 0.15, 0.05  # the person's: brightness, contrast and saturation 1 -+ COLOURS; turns of the hue
SHADOW, DARKNESS = 0.3, 0.3  # probability; the largest share of white that it takes away
SHADOW_TRANSLATE, SHADOW_SCALE, SHADOW_BLUR = 0.2, (0.5, 1.5), (20 / 512, 39 / 512)  # the blur's side over the image's
NOISE, DEVIATION = 0.4, 0.03  # probability; the largest standard deviation, of values in [0, 1]
SHARPER = np.array([[-2, -2, -2], [-2, 32, -2], [-2, -2, -2]], np.float32) / 16

NORMAL = GaussianNoise(std_range=(0.0, 255 * DEVIATION), p=1.0)  # its draws come from a table, four times as fast

Image = np.ndarray  # uint8 [S, S, C]


def training_sample(sample: Mapping[str, Value], seed: int, phase: str, compositor: Compositor) -> dict[str, Image]:
    """A training sample of a row with the columns foreground uint8 [S, S, 3] and alpha uint8 [S, S].

    src, bgr    uint8 [S, S, 3], the picture, and the background photographed without the person
    alpha       uint8 [S, S]; foreground uint8 [S, S, 3], not premultiplied: the truth of that picture

    A function of sample, phase, the compositor's sources and seed (0 <= seed < 2**64). Raises ValueError, one line that
    names the sample, where it is not so.
    """
    foreground, alpha = checked(sample)
    size = alpha.shape[0]
    person, scene, shade, noise, camera = (
        _generator(seed, what) for what in ("person", "scene", "shade", "noise", "camera")
    )
    foreground, alpha = moved_person(foreground, alpha, SCALE[phase], person)
    background = moved_background(compositor.background(size, scene), scene)
    shadowed = cast_shadow(background, alpha, shade) if shade.random() < SHADOW else background
    src, bgr = composite(foreground, alpha, shadowed), background
    if noise.random() < NOISE:
        src, bgr = (noisy(image, noise) for image in (src, bgr))
    return {"src": src, "bgr": capture(bgr, camera), "alpha": alpha, "foreground": foreground}


def moved_person(
    foreground: Image, alpha: np.ndarray, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[Image, np.ndarray]:
    """Both of them moved, perhaps mirrored, blurred and sharpened; then other colours of the foreground alone. What
    comes in from outside is black and clear."""
    both = np.dstack([foreground, alpha])
    matrix = affine(both.shape[0], DEGREES, TRANSLATE, scale, SHEAR, rng)
    both = cv2.warpAffine(both, matrix, both.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    if rng.random() < 0.5:
        both = both[:, ::-1]
    both = filtered(np.ascontiguousarray(both), rng)
    brightness, contrast, saturation = rng.uniform(1 - COLOURS, 1 + COLOURS, 3)
    turns = rng.uniform(-HUE, HUE)
    colours = jitter(np.ascontiguousarray(both[..., :3]), brightness, contrast, saturation, turns)
    return colours, np.ascontiguousarray(both[..., 3])


def moved_background(background: Image, rng: np.random.Generator) -> Image:
    """A background turned, sheared and shifted, mirrored beyond its edge, perhaps blurred and sharpened. Its window,
    mirror image and light are drawn where it is (compositing.py)."""
    matrix = affine(background.shape[0], DEGREES, TRANSLATE, (1.0, 1.0), SHEAR, rng)
    size = background.shape[1::-1]
    background = cv2.warpAffine(background, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return filtered(background, rng)


def filtered(image: Image, rng: np.random.Generator) -> Image:
    """Perhaps a box blur of an integer radius up to BLUR of the side, perhaps sharpened."""
    blurred, sharpened = rng.random(2) < FILTERED
    radius = int(rng.integers(round(BLUR * image.shape[0]) + 1))
    if blurred and radius:
        image = cv2.blur(image, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REPLICATE)
    return cv2.filter2D(image, -1, SHARPER, borderType=cv2.BORDER_REPLICATE) if sharpened else image


def cast_shadow(background: Image, alpha: np.ndarray, rng: np.random.Generator) -> Image:
    """The background less a moved, blurred and faint image of alpha."""
    size = alpha.shape[0]
    shadow: Image = alpha.astype(np.float32) * np.float32(DARKNESS * rng.random())
    matrix = affine(size, DEGREES, SHADOW_TRANSLATE, SHADOW_SCALE, SHEAR, rng)
    shadow = cv2.warpAffine(shadow, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    side = max(1, round(size * rng.uniform(*SHADOW_BLUR)))
    shadow = cv2.blur(shadow, (side, side), borderType=cv2.BORDER_REFLECT_101)
    return np.clip(np.rint(background - shadow[..., None]), 0, 255).astype(np.uint8)


def noisy(image: Image, rng: np.random.Generator) -> Image:
    """With independent normal noise of one deviation, up to DEVIATION of white."""
    deviation = 255 * DEVIATION * rng.random()
    return NORMAL.apply(image, deviation, int(rng.integers(2**32)))


def affine(
    size: int, degrees: float, translate: float, scale: tuple[float, float], shear: float, rng: np.random.Generator
) -> np.ndarray:
    """A random affine map float64 [2, 3] of a square image about its centre, from source to target pixels: turned and
    sheared (both axes) by up to so many degrees, scaled, and shifted by up to a share of its size."""
    turn = np.deg2rad(rng.uniform(-degrees, degrees))
    sx, sy = np.tan(np.deg2rad(rng.uniform(-shear, shear, 2)))
    shift = np.rint(rng.uniform(-translate, translate, 2) * size)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = rng.uniform(*scale) * rotation @ np.array([[1, sx], [sy, 1]])
    centre = np.full(2, (size - 1) / 2)
    return np.column_stack([linear, centre - linear @ centre + shift])


def _generator(seed: int, what: str) -> np.random.Generator:
    key = hashlib.blake2b(f"matting/{what}/{seed}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key, "<u8")))
