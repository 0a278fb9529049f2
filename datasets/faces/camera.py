"""What is behind the person, and what the camera does to the light: the larger half of the domain gap."""

import cv2
import numpy as np

from datasets.faces import noise


def backdrop(rng: np.random.Generator, size: int, domain: str) -> np.ndarray:
    """Background, linear RGB float32 [size, size, 3]: a gradient with out-of-focus shapes, or clutter in the street."""
    line = np.linspace(0.0, 1.0, size, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    street = domain == "street"
    tint = rng.normal(0.0, 0.10 if street else 0.07, (2, 3)) + np.array([0.03, 0.0, -0.03])
    colors = rng.beta(0.9, 0.9, (2, 1)) + tint - tint.mean(1, keepdims=True) * 0.5
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)[..., None]
    out = (colors[0] + (colors[1] - colors[0]) * ramp * rng.uniform(0.2, 1.0)).astype(np.float32)
    count = int(rng.integers(12, 40)) if street else int(rng.integers(0, 9))
    for _ in range(count):
        shade = tuple(
            float(v) for v in np.clip(colors[rng.integers(2)] + rng.normal(0, 0.3) + rng.normal(0, 0.10, 3), 0, 1)
        )
        at = rng.uniform(-0.1, 1.1, 2) * size
        extent = rng.uniform(0.03, 0.35, 2) * size
        first, last = (int(at[0]), int(at[1])), (int(at[0] + extent[0]), int(at[1] + extent[1]))
        kind = rng.random()
        if kind < 0.45:
            cv2.rectangle(out, first, last, shade, -1)
        elif kind < 0.75:
            cv2.circle(out, first, max(1, int(extent[0] * 0.5)), shade, -1)
        else:
            cv2.line(out, first, last, shade, max(1, int(0.02 * size)))
    blur = rng.uniform(0.002, 0.012) if street else rng.uniform(0.02, 0.06)
    out = cv2.GaussianBlur(out, (0, 0), blur * size + 0.3)
    du, dv = (float(v) for v in rng.uniform(0, 1, 2))
    cloud = noise.sample("clouds", x.ravel() * 0.4 + du, y.ravel() * 0.4 + dv).reshape(size, size, 1)
    out *= 1.0 + (0.10 if street else 0.05) * cloud
    if street:
        grit = noise.sample("spots", x.ravel() * 1.3 + dv, y.ravel() * 1.3 + du).reshape(size, size, 1)
        out *= 1.0 + 0.06 * grit
    return np.square(np.clip(out, 0.0, 1.0))


def develop(radiance: np.ndarray, rng: np.random.Generator, domain: str) -> np.ndarray:
    """Linear float32 [H, W, 3] at the final size to uint8 RGB; the street's camera degrades it on the way."""
    if domain == "studio":
        out = np.sqrt(np.clip(radiance, 0.0, 1.0)) * 255.0
        out = out + rng.normal(0.0, 0.8, out.shape).astype(np.float32)
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)
    size = radiance.shape[0]
    cast = np.array([1.0 + rng.normal(0, 0.12), 1.0, 1.0 + rng.normal(0, 0.14)], np.float32)
    out = np.sqrt(np.clip(radiance * cast * np.float32(rng.uniform(0.75, 1.35)), 0.0, 1.0))
    contrast = np.float32(rng.uniform(0.0, 0.6))
    out = out + contrast * (out * out * (3.0 - 2.0 * out) - out)
    if rng.random() < 0.6:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 0.9)) * max(size / 96.0, 0.8))
    noisy = rng.uniform(0.01, 0.05)
    grain = rng.standard_normal(out.shape, dtype=np.float32) * np.float32(noisy * 0.7)
    grain += rng.standard_normal(out.shape[:2], dtype=np.float32)[..., None] * np.float32(noisy * 0.7)
    out = np.clip(np.rint((out + grain) * 255.0), 0, 255).astype(np.uint8)
    quality = int(rng.integers(45, 90))
    done, code = cv2.imencode(".jpg", cv2.cvtColor(out, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV could not encode a JPEG"
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert decoded is not None, "OpenCV could not decode its own JPEG"
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
