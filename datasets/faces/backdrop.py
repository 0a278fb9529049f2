"""What is behind the person: the light's panorama, or a scene drawn from the background's seed.

A detector trained on faces before smooth backdrops takes every edge for a face, so the drawn scenes are rich in
structure at several scales: the places of `scenery`, with shadows and textures over them. Colours are reflectances;
the light makes them radiance, so that a backdrop follows its colour and exposure as the face does.
"""

from collections.abc import Sequence
from math import cos, sin
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.faces.canvas import Canvas, Color
from datasets.faces.light import illuminate
from datasets.faces.person import Background, Light
from datasets.faces.scenery import place
from datasets.panorama import WIDTH, Panoramas

_Floats = NDArray[np.float32]


def backdrop(background: Background, light: Light, panoramas: Panoramas | None, size: int, fov: float) -> _Floats:
    """The clean plate, linear RGB float32 [size, size, 3], in the exposure of `illuminate(light, panoramas)`.

    Kind `panorama` is the crop of `fov` degrees (the camera's horizontal field of view) behind the person, turned
    with the light and tilted up by `background.pitch`; where the light is procedural it is `blurred`. The others are
    drawn: `plain` and `gradient` studio backgrounds, `blurred` out-of-focus shapes with discs of light, `clutter`.
    `background.blur` (thousandths of the frame's width, standard deviation) comes on top. Raises ValueError if the
    kind is unknown, or as `illuminate` does.
    """
    lit = illuminate(light, panoramas)
    sigma = background.blur * size / 1000
    if background.kind == "panorama" and light.environment != "procedural" and panoramas is not None:
        image = panoramas.load(light.environment).crop(light.turn, background.pitch, fov, size) * lit.gain
        enlarged = size / (fov / 360 * WIDTH)  # its pixels' edges would show without some blur
        return _blur(image, float(np.hypot(sigma, 0.4 * max(0.0, enlarged - 1))))
    paint = {"plain": _plain, "gradient": _gradient, "clutter": _clutter}.get(background.kind, _blurred)
    if paint is _blurred and background.kind not in ("blurred", "panorama"):
        kinds = "panorama, plain, gradient, blurred or clutter"
        raise ValueError(f"a background's kind must be {kinds}, but got {background.kind!r}: choose one of them")
    rng = np.random.Generator(np.random.Philox(key=background.seed))
    reflectance = paint(rng, _palette(rng, background.colors), size)
    level = (lit.surroundings() / np.pi * rng.uniform(0.9, 2.3)).astype(np.float32)
    return _blur(np.maximum(reflectance, 0) * level, sigma)


def _palette(rng: np.random.Generator, colors: Sequence[Color]) -> NDArray[np.float64]:
    """Twelve reflectances [12, 3]: the colours given, then lighter, darker and greyer relatives of them."""
    base = np.array(colors, np.float64).reshape(-1, 3) if colors else rng.uniform(0.05, 0.7, (2, 3))
    more = base[rng.integers(0, len(base), 12)] * 2.0 ** rng.uniform(-1.5, 1, (12, 1))
    grey = more.mean(1, keepdims=True)
    more = grey + (more - grey) * rng.uniform(0.2, 1.2, (12, 1)) + rng.normal(0, 0.04, (12, 3))
    return np.clip(np.concatenate([base, more])[:12], 0.01, 0.9)


def _blur(image: NDArray[Any], sigma: float) -> _Floats:
    """Gaussian blur; a wide one at a lower resolution."""
    image = np.ascontiguousarray(image, np.float32)
    if sigma < 0.3:  # pixels: nothing to see
        return image
    size, step = image.shape[0], max(1, int(sigma / 2))
    if step > 1:
        small = (max(8, size // step),) * 2
        sigma = sigma * small[0] / size
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    if step > 1:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.maximum(image, 0).astype(np.float32, copy=False)


def _noise(rng: np.random.Generator, cells: int, size: int, channels: int = 1) -> _Floats:
    """Smooth noise [size, size, channels], deviation about 1, with features of 1 / cells of the frame."""
    grid = rng.standard_normal((cells, cells, channels), np.float32)
    fine = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(size, size, channels).astype(np.float32, copy=False)


def _ramp(rng: np.random.Generator, size: int) -> _Floats:
    """Light that falls off towards one side and to the corners, [size, size, 1], about 0.5 to 1.3."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    angle, centre = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3, 2)
    slope = rng.uniform(0, 0.6) * (cos(angle) * line + sin(angle) * line[:, None])
    far = (line - centre[0]) ** 2 + (line[:, None] - centre[1]) ** 2
    return (1 + slope - rng.uniform(0, 0.9) * far)[..., None].astype(np.float32)


def _plain(rng: np.random.Generator, palette: NDArray[np.float64], size: int) -> _Floats:
    mottled = 1 + rng.uniform(0, 0.05) * _noise(rng, 6, size) + rng.uniform(0, 0.04) * _noise(rng, 24, size)
    return (palette[0].astype(np.float32) * _ramp(rng, size) * mottled).astype(np.float32)


def _gradient(rng: np.random.Generator, palette: NDArray[np.float64], size: int) -> _Floats:
    line = (np.arange(size) + 0.5) / size - 0.5
    x, y = line[None, :], line[:, None]
    if rng.random() < 0.5:  # across
        angle = rng.choice([-np.pi / 2, np.pi / 2, rng.uniform(0, 2 * np.pi)])
        at = 0.5 + np.cos(angle) * x + np.sin(angle) * y
    else:  # a spot behind the head
        at = np.hypot(x - rng.uniform(-0.2, 0.2), y - rng.uniform(-0.2, 0.2)) * rng.uniform(1, 1.8)
    at = at[..., None] + rng.uniform(0, 0.08) * _noise(rng, 4, size) + rng.uniform(0, 0.03) * _noise(rng, 14, size)
    stops = np.array([0, rng.uniform(0.35, 0.65), 1])
    colors = np.stack([palette[0], palette[1], palette[rng.integers(2)] * rng.uniform(0.3, 1.2)])
    if rng.random() < 0.6:  # one colour that darkens
        colors = palette[0] * np.array([1, rng.uniform(0.5, 0.8), rng.uniform(0.15, 0.5)])[:, None]
    colors = colors[np.argsort(-colors.mean(1))]  # the spot is the brightest
    image = np.stack([np.interp(at[..., 0], stops, colors[:, c]) for c in range(3)], -1)
    return (image * (1 + rng.uniform(0, 0.04) * _noise(rng, 40, size))).astype(np.float32)


def _blurred(rng: np.random.Generator, palette: NDArray[np.float64], size: int) -> _Floats:
    """A scene far out of focus: drawn small, smeared over a disc as a round aperture does, with lights as discs."""
    small = 96
    radius = rng.uniform(0.02, 0.08)
    scene: NDArray[Any] = _clutter(rng, palette, small)
    reach = max(2, round(radius * small))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)).astype(np.float32)
    scene = cv2.filter2D(scene, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    scene = cv2.resize(cv2.GaussianBlur(scene, (0, 0), 1.2), (size, size), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.6:
        lights = Canvas()
        band, spread, count = rng.uniform(0.2, 0.7), rng.uniform(0.15, 1), rng.integers(4, 40)
        for x, y, share, tint, power in rng.random((count, 5)).tolist():
            color = np.array([1, 0.75 + 0.25 * tint, 0.4 + 0.6 * tint]) * (0.1 + 2 * power**3)
            disc_radius = (0.6 + 0.4 * share) * radius
            lights.oval(x, band + spread * (y - 0.5), disc_radius, disc_radius, 0, color)
        scene = scene + cv2.GaussianBlur(lights.paint(size), (0, 0), 0.004 * size)
    return np.maximum(scene, 0).astype(np.float32)


def _clutter(rng: np.random.Generator, palette: NDArray[np.float64], size: int) -> _Floats:
    """One of five scenes, slightly tilted, under uneven light, with texture at three scales and a shadow."""
    canvas = place(rng, palette)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    seen = np.abs(corners - rng.uniform(0, 0.14, (4, 2)).astype(np.float32))  # each corner is drawn inwards
    matrix = cv2.getPerspectiveTransform(seen * size, corners * size)
    image = cv2.warpPerspective(canvas.paint(size), matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
    return (image * _unevenness(rng, size)).astype(np.float32)


def _unevenness(rng: np.random.Generator, size: int) -> _Floats:
    """Texture at three scales, a soft shadow and a fall-off of the light: a factor [size, size, 1], about 1."""
    texture = rng.uniform(0.01, 0.08) * _noise(rng, 12, 40) + rng.uniform(0.01, 0.05) * _noise(rng, 40, 40)
    texture = cv2.resize(texture, (128, 128), interpolation=cv2.INTER_LINEAR)[..., None]
    texture = texture + rng.uniform(0, 0.05) * _noise(rng, 128, 128)
    cast = 1 - rng.uniform(0, 0.6) / (1 + np.exp(-6 * (_noise(rng, 4, 128) - 0.4)))
    factor = ((1 + texture) * cast * _ramp(rng, 128)).astype(np.float32)
    return cv2.resize(factor, (size, size), interpolation=cv2.INTER_LINEAR)[..., None].astype(np.float32, copy=False)
