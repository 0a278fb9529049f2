"""Compositing: people with an alpha, put before other backgrounds; what background matting trains and is tested on.

A model of background matting sees a picture and the background photographed without the person. Few data sets have
both, so pictures are made: C = alpha F + (1 - alpha) B in sRGB, the space in which the model sees them (Lin et al.
2021), of a foreground F that is not premultiplied. B is drawn anew for each draw of a sample, from panoramas or from
packs of pictures, and the model is given B as another photograph of it would be (relighting.py).

Everything is a function of the sample, the sources and a seed, so that a batch can be made in any process.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.formats.record import resize_image
from datasets.pack import Pack, Value
from datasets.panorama import FOV, PITCH, STOPS, Panoramas
from datasets.relighting import capture, relight

VERSION = 1  # raised whenever the same sample, sources and seed give another composite
COLUMNS = ("foreground", "alpha")  # that a sample must have
SHOWN = (0.5, 1.0)  # share of the side of a pack's picture that is shown


@dataclass(frozen=True)
class Backgrounds:
    """A named source of backgrounds: a pack with the column `background`, or else `image`, or a folder of panoramas.

    Of a pack with both (people and what is behind them) it is `background`. Raises ValueError, one line that names the
    pack, where it has neither, or not as uint8 [S, S, 3].
    """

    name: str
    source: Pack | Panoramas

    def __post_init__(self) -> None:
        if isinstance(self.source, Panoramas):
            return
        column = next((c for c in self.source.manifest.columns if c.name == self.column), None)
        if column is None or column.dtype != "uint8" or len(column.shape) != 3 or column.shape != _square(column.shape):
            got = f"{column.name} {column}" if column else f"has {', '.join(self.source.columns)}"
            raise ValueError(
                f"{self.source.path}: backgrounds must be a column background or image uint8[S, S, 3], but got {got}"
            )

    @property
    def column(self) -> str:
        """Of a pack."""
        assert isinstance(self.source, Pack)
        return "background" if "background" in self.source.columns else "image"

    @property
    def facts(self) -> dict[str, Any]:
        """What of the source the backgrounds hang on, as JSON values: a pack's digest and column, or the panoramas'
        names and sizes in bytes, and their width."""
        if isinstance(self.source, Pack):
            return {"digest": self.source.digest, "column": self.column}
        sizes = {name: (self.source.folder / name).stat().st_size for name in self.source.names}
        return {"panoramas": sizes, "width": self.source.width}

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """A background uint8 [size, size, 3], sRGB, before it is relit.

        Of a pack a row, a square window of it and perhaps its mirror image. Of panoramas a file, a yaw of the whole
        circle, and pitch, field of view and exposure in PITCH, FOV and STOPS.
        """
        if isinstance(self.source, Panoramas):
            name = self.source.names[int(rng.integers(len(self.source.names)))]
            yaw, pitch, fov = rng.uniform(0, 360), rng.uniform(*PITCH), rng.uniform(*FOV)
            return self.source.load(name).picture(yaw, pitch, fov, rng.uniform(*STOPS), size)
        picture = np.asarray(self.source.sample(int(rng.integers(len(self.source))), [self.column])[self.column])
        whole = picture.shape[0]
        side = max(1, round(whole * rng.uniform(*SHOWN)))
        x, y = (int(rng.integers(whole - side + 1)) for _ in range(2))
        window = picture[y : y + side, x : x + side]
        if rng.integers(2):
            window = window[:, ::-1]
        return resize_image(np.ascontiguousarray(window), size)


@dataclass(frozen=True)
class Compositor:
    """Makes composites of samples with COLUMNS, uint8 [S, S, 3] and [S, S]. It can be pickled.

    Each of the `backgrounds` is as likely as another, whatever its size; so is each picture or panorama of one. Raises
    ValueError without backgrounds, or if two have the same name.
    """

    backgrounds: tuple[Backgrounds, ...]

    def __post_init__(self) -> None:
        names = [source.name for source in self.backgrounds]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"backgrounds must have distinct names and not be none, but got {names}")

    @classmethod
    def over(cls, packs: Sequence[Pack]) -> "Compositor":
        """One that draws from each of these packs. Raises ValueError for a pack without pictures or named twice."""
        return cls(tuple(Backgrounds(pack.path, pack) for pack in packs))

    @property
    def digest(self) -> str:
        """64 hex digits of what composites hang on beside sample and seed; what the sources are called is not in it."""
        facts = [source.facts for source in self.backgrounds]
        text = json.dumps({"version": VERSION, "backgrounds": facts}, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()

    def __call__(self, sample: Mapping[str, Value], seed: int) -> dict[str, np.ndarray]:
        """A composite of a sample; another seed (0 <= seed < 2**64) gives another background.

        src         uint8 [S, S, 3], the foreground before a relit background
        bgr         uint8 [S, S, 3], that background as it was captured without the person, `relighting.capture`
        alpha       uint8 [S, S], the sample's
        foreground  uint8 [S, S, 3], the sample's

        Raises ValueError, one line that names the sample, where it is not so; and as Panoramas.load does.
        """
        if not 0 <= seed < 2**64:
            raise ValueError(f"`0 <= seed < 2**64` must hold, but got {seed}")
        foreground, alpha = checked(sample)
        background = self.background(alpha.shape[0], _generator("background", seed))
        return {
            "src": composite(foreground, alpha, background),
            "bgr": capture(background, _generator("capture", seed)),
            "alpha": alpha,
            "foreground": foreground,
        }

    def background(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """A background uint8 [size, size, 3] of one of the sources, relit."""
        source = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        return relight(source.draw(size, rng), rng)

    def fixed(self, sample: Mapping[str, Value], seed: int) -> dict[str, np.ndarray]:
        """The composite of a test's sample: a function of its COLUMNS' bytes and seed >= 0, so that all models are
        tested on the same ones, wherever the sample stands. Its seeds are others than those of training."""
        if seed < 0:
            raise ValueError(f"`seed >= 0` must hold, but got {seed}")
        content = hashlib.blake2b(digest_size=16)
        for array in checked(sample):
            content.update(np.ascontiguousarray(array).data)
        return self(sample, int.from_bytes(_digest("fixed", seed, content.hexdigest())[:8], "little"))


@dataclass(frozen=True)
class Scenes:
    """What people are put before in training, and what in evaluation: others, so that no place was seen before."""

    training: Compositor
    evaluation: Compositor

    @property
    def packs(self) -> dict[str, tuple[Pack, ...]]:
        """The packs among their sources, by "train" and "evaluation"."""
        both = {"train": self.training, "evaluation": self.evaluation}
        return {
            use: tuple(one.source for one in compositor.backgrounds if isinstance(one.source, Pack))
            for use, compositor in both.items()
        }


def composite(foreground: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """alpha F + (1 - alpha) B, rounded: uint8 [H, W, 3] of uint8 [H, W, 3], [H, W] and [H, W, 3], 255 being 1.

    Exactly the background where alpha is 0, and the foreground where it is 255.
    """
    a = alpha[..., None].astype(np.uint16)
    return ((a * foreground + (255 - a) * background + 127) // 255).astype(np.uint8)  # at most 65152


def checked(sample: Mapping[str, Value]) -> tuple[np.ndarray, np.ndarray]:
    """A sample's foreground uint8 [S, S, 3] and alpha uint8 [S, S]; ValueError, one line that names it, if not so."""
    name = sample.get("id", "a sample")
    absent = [column for column in COLUMNS if column not in sample]
    if absent:
        raise ValueError(f"{name}: must have {' and '.join(COLUMNS)}, but has {', '.join(sample) or 'nothing'}")
    foreground, alpha = (np.asarray(sample[column]) for column in COLUMNS)
    side = alpha.shape[0] if alpha.ndim else 0
    for column, array, shape in (("alpha", alpha, (side, side)), ("foreground", foreground, (side, side, 3))):
        if array.dtype != np.uint8 or array.shape != shape or not side:
            raise ValueError(
                f"{name}: {column} must be uint8 and square, {list(shape)}, but is {array.dtype} {list(array.shape)}"
            )
    return foreground, alpha


def _square(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0], shape[0], 3


def _generator(purpose: str, seed: int) -> np.random.Generator:
    key = np.frombuffer(_digest(purpose, seed), "<u8")
    return np.random.Generator(np.random.Philox(key=key))


def _digest(*parts: str | int) -> bytes:
    """16 bytes that hang on the parts; no other module draws with them."""
    return hashlib.blake2b("/".join(map(str, ("compositing", *parts))).encode(), digest_size=16).digest()
