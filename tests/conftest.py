"""What the tests share: tiny packs that a tiny model learns in seconds, and one Ray for the whole session."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it: a test says its own width

from datasets import Pack, write_pack
from datasets.classes import FACE_CLASSES

_ON_RAY = ("run", "pruned_run", "export", "delivery", "methods", "sources", "slots")
ON_RAY = tuple(f"tests/search/test_{what}.py" for what in _ON_RAY)

SIZE = 32
COLOURS = np.random.Generator(np.random.Philox(key=99)).integers(30, 226, (len(FACE_CLASSES), 3))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests on Ray take longest, and begin."""
    items.sort(key=lambda item: not item.nodeid.startswith(ON_RAY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of two processes one has all tests on Ray, so that there is one Ray; of the other files each has one process,
    since its tests share what is slow to make."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ray" if nodeid.startswith(ON_RAY) else nodeid.partition("::")[0]

    return ByFile(config, log)


def toy_face(seed: int, *, synthetic: bool) -> dict[str, np.ndarray | str]:
    """A 32 px diagram of a face with all nine classes: coloured by class, noisier and tinted where it is synthetic."""
    rng = np.random.Generator(np.random.Philox(key=[seed, int(synthetic)]))
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    cx, cy = 15.5 + rng.uniform(-3, 3, 2)
    r = rng.uniform(9, 12)

    def disc(dx: float, dy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - cx - dx * r) / (rx * r)) ** 2 + ((y - cy - dy * r) / (ry * r)) ** 2 < 1

    labels = np.zeros((SIZE, SIZE), np.uint8)
    shapes = [
        (8, disc(0, -0.3, 1.15, 1.2)),
        (1, disc(0, 0.15, 0.9, 1.0)),
        (2, disc(-0.4, -0.1, 0.2, 0.15)),
        (3, disc(0.4, -0.1, 0.2, 0.15)),
        (4, disc(0, 0.2, 0.15, 0.25)),
        (5, disc(0, 0.55, 0.4, 0.13)),
        (7, disc(0, 0.75, 0.4, 0.13)),
        (6, disc(0, 0.65, 0.35, 0.09)),
    ]
    for label, where in shapes:
        labels[where] = label
    tint = rng.uniform(-50, 50, 3) if synthetic else 0
    noise = rng.normal(0, 30 if synthetic else 12, (SIZE, SIZE, 3))
    image = np.clip(COLOURS[labels] + tint + noise, 0, 255).astype(np.uint8)
    return {"id": f"toy-{int(synthetic)}-{seed:05d}", "image": image, "segmentation": labels}


def write_toy_pack(path: Path, seeds: range, *, synthetic: bool) -> Pack:
    rows = (toy_face(seed, synthetic=synthetic) for seed in seeds)
    return write_pack(path, rows, source={"format": "toy"}, classes=FACE_CLASSES)


@pytest.fixture(scope="session", autouse=True)
def session_pack_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's own cache of packs, and no process of a Ray that a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TITRATE_PACK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def toy_packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packs: real (24), synthetic (40), val (12), test (10)."""
    folder = tmp_path_factory.mktemp("packs")
    write_toy_pack(folder / "real", range(0, 24), synthetic=False)
    write_toy_pack(folder / "val", range(100, 112), synthetic=False)
    write_toy_pack(folder / "test", range(200, 210), synthetic=False)
    write_toy_pack(folder / "synthetic", range(300, 340), synthetic=True)
    return folder


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Ray on two CPUs, started once for all tests that need it."""
    import ray

    from search.cluster import connect

    connect(num_cpus=2)
    yield
    ray.shutdown()
