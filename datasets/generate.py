"""Embedded faces by several processes, in order: the same samples for any number of them.

Apart from `__main__`, because a spawned process finds its work by importing the module that names it.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from datasets.pack import Value
from datasets.processes import spread

VERSION = 3  # of the renderer: raised whenever the same seed gives other bytes
COLUMNS = (
    *("id", "image", "segmentation", "segments", "alpha", "foreground", "background", "depth", "normals"),
    *("landmarks", "landmarks_contour", "landmarks_visible", "pupils", "gaze"),
    *("intrinsics", "world_to_camera", "metadata"),
)


@dataclass(frozen=True)
class FaceSet:
    """A set of embedded faces. Face i is a function of everything here but `count` and `columns`.

    domain     a ready population (studio, street, landmark_study) or a population file
    panoramas  folder of equirectangular panoramas that give light and background, or None
    columns    which of COLUMNS a sample has; `id` always
    """

    count: int
    size: int
    domain: str = "studio"
    seed: int = 0
    panoramas: Path | None = None
    columns: tuple[str, ...] = COLUMNS

    def __post_init__(self) -> None:
        _check_installed()
        from datasets.faces.render import SIZES

        if self.count < 1:
            raise ValueError(f"`count >= 1` must hold, but got {self.count}")
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise ValueError(f"`size` must be {SIZES[0]} to {SIZES[1]} pixels, but got {self.size}")
        if self.seed < 0:
            raise ValueError(f"`seed >= 0` must hold, but got {self.seed}")
        unknown = [name for name in self.columns if name not in COLUMNS]
        if unknown or not self.columns:
            got = repr(unknown[0]) if unknown else "none"
            raise ValueError(f"columns must be of {', '.join(COLUMNS)}, but got {got}")
        # A wrong population or panorama is told of here, before processes start.
        _ = self.population, self.environments

    @cached_property
    def population(self) -> Any:
        from datasets.faces import load_population

        return load_population(self.domain)

    @cached_property
    def environments(self) -> Any:
        from datasets.faces import Panoramas

        return None if self.panoramas is None else Panoramas(self.panoramas)

    @property
    def source(self) -> dict[str, Any]:
        """What a pack's manifest says of it."""
        out = {"format": "faces", "version": VERSION, "count": self.count, "size": self.size, "seed": self.seed}
        names = () if self.environments is None else self.environments.names
        return {**out, "domain": self.domain, "population": self.population.digest, "panoramas": list(names)}

    def face(self, i: int) -> dict[str, Value]:
        """Sample i, see datasets.faces.render."""
        from datasets.faces import render

        names = () if self.environments is None else self.environments.names
        words = np.random.SeedSequence((self.seed, i)).generate_state(1, np.uint64)
        person = self.population.draw(int(words[0]), names)
        with _threadpools().limit(limits=1):  # the order of a sum, and so its last bit, may hang on their number
            sample = render(person, self.size, self.environments, self.population.labels)
        stem = Path(self.domain).stem
        kept = {name: sample[name] for name in COLUMNS if name in self.columns and name != "id"}
        return {"id": f"{stem}-{self.seed}-{i:06d}", **kept}


def generate_faces(faces: FaceSet, *, workers: int = 1) -> Generator[dict[str, Value]]:
    """The samples of a set in order, made by `workers` processes; closing the generator ends them at once.

    Raises ValueError at the call, and WorkerError when a process ends early.
    """
    return spread(faces.face, faces.count, workers, "face")


@cache
def _threadpools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _check_installed() -> None:
    """Raises ValueError where the extra `faces` is not installed."""
    absent = [name for name in ("anny", "numba", "threadpoolctl") if find_spec(name) is None]
    if absent:
        from datasets.faces.compiled import INSTALL  # says the same itself where numba is what is absent

        raise ValueError(f"the embedded faces need {absent[0]}, which is not installed: {INSTALL}")


def parse_columns(text: str | None) -> tuple[str, ...]:
    """A comma-separated list of columns; all of them for None."""
    return COLUMNS if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
