"""What the camera does to linear light: first per pixel (`tone`), then to the whole picture (`develop`).

The two are apart because of compositing. `tone` is pointwise and treats foreground and background alike, so that the
clean picture is alpha F + (1 - alpha) B in sRGB, the space in which trained models see it; `develop` adds what only
the finished photograph has: blur, noise, quantisation and JPEG. Exposure belongs to the light.
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.faces.compiled import kernel
from datasets.faces.person import Camera
from datasets.srgb import srgb_from_linear

KNEE = 0.7  # linear value from which highlights are compressed towards 1
_STEPS = 8192  # of the tone curve's table
_BRIGHTEST = 16.0  # linear value that the table ends with; the shoulder has reached 1 long before
_READ_NOISE = 0.15  # share of the noise's variance at mid-grey that does not depend on the light
_CHROMA = 0.6  # standard deviation of the coloured noise as a share of that of the brightness


def tone(linear: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
    """Linear RGB [..., 3], 0 and more, to sRGB [..., 3], 0..1, float32, each pixel by itself.

    In this order: gains of the white balance; highlights above `KNEE` bent exponentially towards 1 (continuous in
    value and slope, nothing below is touched); the sRGB curve; contrast, a blend of the identity with the smoothstep
    3y^2 - 2y^3 about mid-grey; saturation about the luma of ITU-R BT.709. What is not above 0 (NaN too) is black.
    """
    assert linear.shape[-1] == 3, "tone wants colours in the last axis"
    flat = np.ascontiguousarray(linear, np.float32).reshape(-1, 3)
    gains = np.array(camera.white_balance, np.float32)
    out = _tone(flat, gains, _curve(camera.contrast), np.float32(camera.saturation))
    return out.reshape(linear.shape)


def develop(srgb: NDArray[np.float32], camera: Camera) -> NDArray[np.uint8]:
    """sRGB 0..1 float32 [H, W, 3] to the finished photograph, uint8 [H, W, 3].

    Gaussian blur, noise, rounding, JPEG (4:2:0, as OpenCV writes it). With blur, noise and jpeg 0 it is exactly
    rint(255 srgb). The noise is a pure function of camera.seed and the size: shot noise that grows with the light
    over a floor of read noise, seen through the tone curve (so strongest in the darks of the picture, `camera.noise`
    at mid-grey), correlated over neighbouring pixels as demosaicing leaves it, with coarser, weaker chroma.
    """
    height, width = srgb.shape[:2]
    image: NDArray[Any] = np.ascontiguousarray(srgb, np.float32)
    if camera.blur > 0:
        sigma = camera.blur * width / 1000
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    if camera.noise > 0:
        rng = np.random.Generator(np.random.Philox(key=camera.seed))
        grain = cv2.GaussianBlur(rng.standard_normal((height, width), np.float32), (3, 3), 0.5)
        coarse = rng.standard_normal((-(-height // 2), -(-width // 2), 3), np.float32)
        chroma = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        image = _add_noise(image, grain / np.float32(_gain()), chroma, np.float32(camera.noise))
    out: NDArray[Any] = _quantise(image)
    if camera.jpeg > 0:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(camera.jpeg)]
        written, data = cv2.imencode(".jpg", cv2.cvtColor(out, cv2.COLOR_RGB2BGR), quality)
        assert written, "OpenCV could not write a JPEG"
        out = cv2.cvtColor(_decode(data), cv2.COLOR_BGR2RGB)
    return out


def _decode(data: NDArray[Any]) -> NDArray[Any]:
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None, "OpenCV could not read back its JPEG"
    return image


@lru_cache(maxsize=64)
def _curve(contrast: float) -> NDArray[np.float32]:
    """Shoulder, sRGB curve and contrast over the square root of the linear value, which spreads out the darks."""
    x = np.linspace(0, np.sqrt(_BRIGHTEST), _STEPS + 1) ** 2
    x = np.where(x > KNEE, 1 - (1 - KNEE) * np.exp(-(np.maximum(x, KNEE) - KNEE) / (1 - KNEE)), x)
    y = srgb_from_linear(x)
    return (y + contrast * (y * y * (3 - 2 * y) - y)).astype(np.float32)


@lru_cache(maxsize=1)
def _gain() -> float:
    """Standard deviation that white noise keeps under the grain's 3x3 kernel."""
    kernel = cv2.getGaussianKernel(3, 0.5)
    return float((kernel**2).sum())


@kernel
def _tone(flat, gains, curve, saturation):  # type: ignore[no-untyped-def]
    out = np.empty_like(flat)
    scale = np.float32((curve.size - 1) / np.sqrt(_BRIGHTEST))
    last = curve.size - 2
    y = np.empty(3, np.float32)
    for n in range(flat.shape[0]):
        for c in range(3):
            x = flat[n, c] * gains[c]
            if not x > 0:
                x = np.float32(0)
            at = min(np.sqrt(x) * scale, np.float32(last + 1))
            i = min(int(at), last)
            y[c] = curve[i] + (at - i) * (curve[i + 1] - curve[i])
        luma = np.float32(0.2126) * y[0] + np.float32(0.7152) * y[1] + np.float32(0.0722) * y[2]
        for c in range(3):
            value = y[c] if saturation == 1 else luma + saturation * (y[c] - luma)
            out[n, c] = min(max(value, np.float32(0)), np.float32(1))
    return out


@kernel
def _add_noise(image, grain, chroma, noise):  # type: ignore[no-untyped-def]
    out = np.empty_like(image)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            y = (image[i, j, 0] + 2 * image[i, j, 1] + image[i, j, 2]) * np.float32(0.25)
            # Light goes as y^2 here (the curve taken as a square root), and the curve's slope as 1 / y.
            variance = np.float32(_READ_NOISE) + np.float32(1 - _READ_NOISE) * y * y * np.float32(4)
            sd = noise * np.sqrt(variance) * np.float32(0.5) / max(y, np.float32(0.15))
            for c in range(3):
                out[i, j, c] = image[i, j, c] + sd * (grain[i, j] + np.float32(_CHROMA) * chroma[i, j, c])
    return out


@kernel
def _quantise(image):  # type: ignore[no-untyped-def]
    out = np.empty(image.shape, np.uint8)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            for c in range(3):
                value = np.rint(image[i, j, c] * np.float32(255))
                out[i, j, c] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))
    return out
