"""Backgrounds under another light and before another camera, drawn from a generator.

`relight` makes one background many. `capture` makes of the background behind the person the one that was photographed
without the person: later, with other settings of an automatic camera that was moved a little. Its jitter and motion are
BackgroundMattingV2's (Lin et al. 2021); the ranges of `relight` are ours, since no source states any.
"""

import cv2
import numpy as np

GAIN = (-0.4, 0.4)  # stops
GAMMA = (0.8, 1.25)
BALANCE = (-0.15, 0.15)  # stops of red and of blue
GRADIENT = (0.0, 0.5)  # stops from the middle to where the light comes from
CAPTURED = 0.25  # of these ranges (in stops) is what changes between two photographs from one place
JITTER, HUE = 0.18, 0.1  # brightness, contrast and saturation are multiplied by 1 -+ JITTER; turns of the hue
JITTER_PERCENT, MOTION_PERCENT = 80, 30  # of captures
DEGREES, SHIFT = 1.0, 0.01  # a turn and, as a share of the width, a shift to either side

Image = np.ndarray  # uint8 [S, S, 3], sRGB


def relight(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Gain, gamma, white balance and a smooth gradient of the light: uint8 [S, S, 3] of the same shape.

    Works on sRGB values, as the composite does: 255 (image / 255)^gamma times gains, clipped. `strength` scales all
    ranges about no change.
    """
    gain = 2 ** (strength * rng.uniform(*GAIN))
    gamma = 2 ** (strength * rng.uniform(*np.log2(GAMMA)))
    red, blue = 2 ** (strength * rng.uniform(*BALANCE, 2))
    angle, slope = rng.uniform(0, 2 * np.pi), strength * rng.uniform(*GRADIENT)
    height, width = image.shape[:2]
    x, y = (np.arange(width) + 0.5) / width * 2 - 1, (np.arange(height) + 0.5) / height * 2 - 1
    across = np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]
    light = (2.0 ** (slope * across))[..., None].astype(np.float32)
    table = (255 * (np.arange(256) / 255) ** gamma)[:, None] * (gain * np.array([red, 1, blue]))
    lit = np.stack([table[:, c].astype(np.float32)[image[..., c]] for c in range(3)], axis=-1)
    return _bytes(lit * light)


def capture(image: Image, rng: np.random.Generator) -> Image:
    """The background as captured without the person: uint8 [S, S, 3].

    A weak `relight`; in JITTER_PERCENT of captures jitter of brightness, contrast, saturation and hue; in
    MOTION_PERCENT a turn and a shift of the camera.
    """
    image = relight(image, rng, CAPTURED)
    jittered, moved = rng.uniform(0, 100, 2)
    factors, turns = rng.uniform(1 - JITTER, 1 + JITTER, 3), rng.uniform(-HUE, HUE)
    degrees, right, down = rng.uniform(-1, 1, 3) * (DEGREES, SHIFT, SHIFT)
    if jittered < JITTER_PERCENT:
        image = jitter(image, factors[0], factors[1], factors[2], turns)
    return move(image, degrees, right, down) if moved < MOTION_PERCENT else image


def jitter(image: Image, brightness: float, contrast: float, saturation: float, turns: float) -> Image:
    """Values times `brightness`; times `contrast` about the mean of the luma; colours times `saturation` about their
    luma; and hues turned by `turns` of the colour circle. In this order, clipped after each."""
    x = np.clip(image.astype(np.float32) * np.float32(brightness / 255), 0, 1)
    mean = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).mean(dtype=np.float64)
    x = np.clip(np.float32(mean) + (x - np.float32(mean)) * np.float32(contrast), 0, 1)
    luma = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    x = np.clip(luma + (x - luma) * np.float32(saturation), 0, 1)
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * turns)) % 360
    return _bytes(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def move(image: Image, degrees: float, right: float, down: float) -> Image:
    """Turned counterclockwise about its centre, then shifted by shares of its width; bilinear. Beyond its edge it is
    mirrored: a photograph has no black margin."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += (right * width, down * width)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _bytes(values: np.ndarray) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
