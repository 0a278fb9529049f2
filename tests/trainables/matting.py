"""What the tests of background matting share: small people and the rooms they stand in."""

from pathlib import Path

import numpy as np

from datasets import Pack, write_pack
from datasets.compositing import Backgrounds, Compositor, Scenes

SIZE = 48


def person(seed: int = 0, size: int = SIZE) -> dict[str, np.ndarray]:
    """A disc with a soft edge, of random colours."""
    rng = np.random.Generator(np.random.Philox(seed))
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    alpha = np.clip((size / 3 - np.hypot(x, y)) / 4 + 0.5, 0, 1)
    foreground = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((size // 8, size // 8, 1)))
    return {"foreground": foreground.astype(np.uint8), "alpha": np.rint(255 * alpha).astype(np.uint8)}


def scenes(folder: Path) -> Scenes:
    """Rooms to train in and to be evaluated in."""
    return Scenes(rooms(folder), rooms(folder, 78))


def rooms(folder: Path, seed: int = 77) -> Compositor:
    """Backgrounds of large patches."""
    rng = np.random.Generator(np.random.Philox(seed))
    pictures = np.kron(rng.integers(20, 236, (3, 8, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    write_pack(folder / f"rooms-{seed}", ({"image": picture} for picture in pictures), source={"format": "test"})
    return Compositor((Backgrounds("rooms", Pack.open(folder / f"rooms-{seed}")),))
