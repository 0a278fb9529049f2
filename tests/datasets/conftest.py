"""Small packs with contents that a test can compute again."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import Pack, write_pack

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
NINE = ("background", "skin", "eye_left", "eye_right", "nose", "upper_lip", "inner_mouth", "lower_lip", "hair")


def faces(count: int, size: int = 16, seed: int = 0) -> list[dict[str, np.ndarray | str]]:
    """Random images and labels of the nine classes; the id is the row."""
    rng = np.random.Generator(np.random.Philox(seed))
    return [
        {
            "image": rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
            "segmentation": rng.integers(0, 9, (size, size), dtype=np.uint8),
            "id": str(i),
        }
        for i in range(count)
    ]


@pytest.fixture
def face_pack(tmp_path: Path) -> Callable[..., Pack]:
    """face_pack(name, count, size=16, seed=0): a pack of `faces`."""

    def make(name: str, count: int, size: int = 16, seed: int = 0) -> Pack:
        return write_pack(tmp_path / name, faces(count, size, seed), source={"format": "test"}, classes=NINE)

    return make


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """command_line(*arguments): what `python -m datasets` does, in this process: exit status, stdout, stderr."""
    from datasets.__main__ import main

    def call(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["datasets", *map(str, arguments)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return int(ended.value.code or 0), *capsys.readouterr()

    return call
