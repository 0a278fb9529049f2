"""`Wearer`, what a hairdo is made from, and `Style`, what is made: both loose and tied hairdos know them."""

from dataclasses import dataclass

import numpy as np

from datasets.faces.comb import Comb
from datasets.faces.person import Hair


@dataclass(frozen=True)
class Style:
    """`count` strands of `points` points and `width` metres in a picture of 128 pixels, and the hair beyond a tie."""

    comb: Comb
    count: int
    points: int
    width: float
    tail: Comb | None = None  # of a ponytail
    bun: float = 0.0  # radius in metres, 0 is none


@dataclass(frozen=True)
class Wearer:
    """What the styles are made from: the hair, seeded chances float64 [12] in 0 to 1, and what several styles share."""

    hair: Hair
    chance: np.ndarray
    male: bool

    @property
    def waves(self) -> dict[str, float]:
        """Straight hair, or waves of some millimetres."""
        curl = self.hair.curl
        return {"wave": 0.0045 * max(curl - 0.12, 0.0), "pitch": 0.085 - 0.055 * curl, "frizz": 0.10 + 0.15 * curl}

    @property
    def shoulders(self) -> dict[str, float]:
        """Hair falls before or behind each shoulder, mostly alike."""
        right = self.chance[0]
        left = right if self.chance[1] < 0.6 else self.chance[2]
        return {"fall_right": 0.9 if right < 0.5 else -0.9, "fall_left": 0.9 if left < 0.5 else -0.9}

    @property
    def tucks(self) -> dict[str, float]:
        """Now and then it is tucked behind an ear or both."""
        both = self.chance[3] < 0.25
        return {"tuck_right": 2.0 * both, "tuck_left": 2.0 * (both or self.chance[4] < 0.2)}

    @property
    def opening(self) -> float:
        """How far the hair opens for the face."""
        return 0.86 + 0.24 * self.chance[5]
