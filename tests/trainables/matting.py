"""What the tests of background matting share: the reference's files, small people and the rooms they stand in."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import Pack, write_pack
from datasets.compositing import Backgrounds, Compositor, Scenes

SHARED = Path(__file__).parents[3] / "shared"
SIZE = 48


def reference(path: str) -> Path:
    """A file of the references, or a visible skip."""
    if not (SHARED / "reference" / path).exists():
        pytest.skip(f"no reference file {path} beside the repository")
    return SHARED / "reference" / path


def fill() -> Any:
    """The references' rules for weights, inputs and comparisons."""
    spec = importlib.util.spec_from_file_location("fill", reference("parity/fill.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
