"""How far each local shape of the head model may go: the spread of heads, family by family.

The head model (MakeHuman's targets, see targets.py) offers 160 signed local shapes. Drawn independently, they give
heads that differ as people do, as long as those that break faces are held back: every shape has factors (below, above
zero) by which its drawn weight is multiplied, and which also bound it. Millimetres are the largest displacement of any
vertex at weight 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

TRUNCATED = 2.2  # standard deviations

# Left out:
#   head-trans-*, measure-neck-height, neck-scale-vert  move the whole head by 20 to 54 mm: no shape of a head
#   head-angle                                          tilts the whole face by up to 25 mm: a pose that no label tells
#   asymm-*                                             breast and trunk
# Given to the wanted spread as factors (below, above); 1 unless said, 0 means never.
# fmt: off
FAMILIES: dict[str, dict[str, tuple[float, float]]] = {
    "head": {
        "head-age": (0.5, 0.8), "head-fat": (0.8, 0.6), "head-scale-horiz": (0.6, 0.6), "head-scale-vert": (0.5, 0.5),
        "head-scale-depth": (0.8, 0.8), "head-back-scale-depth": (0.35, 0.35),
        # One-sided: a head is some of these and none of most.
        "head-oval": (0, 1), "head-round": (0, 1), "head-rectangular": (0, 0.9), "head-square": (0, 1),
        "head-triangular": (0, 0.9), "head-invertedtriangular": (0, 1), "head-diamond": (0, 0.9),
    },
    "forehead": {
        # 45 to 59 mm and 22 to 38 mm at the back of the skull: a hint of them is all that a hat or hair survives.
        "forehead-nubian": (0.1, 0.1), "forehead-scale-vert": (0.2, 0.15), "forehead-temple": (1, 1),
        "forehead-trans": (0.5, 0.5),
    },
    "eyebrows": {
        # The ridge forward by 16 mm hides the eyes.
        "eyebrows-angle": (0.8, 0.8), "eyebrows-trans-depth": (1, 0.35), "eyebrows-trans-vertical": (1, 1),
    },
    "eyes": {
        # Lids must keep touching the eyeball: heights, pushes and corners in full, the size less.
        "eye-scale": (0.7, 1), "eye-trans-sideways": (1, 0.9), "eye-trans-vertical": (1, 0.5), "eye-height1": (1, 0.8),
        "eye-height2": (1, 0.8), "eye-height3": (1, 0.6), "eye-push1": (0.8, 0.8), "eye-push2": (0.8, 0.8),
        "eye-corner1": (1, 1), "eye-corner2": (1, 1), "eye-eyefold-angle": (1, 1), "eye-eyefold-curve": (0.4, 1),
        "eye-eyefold-vertical": (0.6, 1), "eye-epicanthus": (0.6, 0.5), "eye-bag-size": (1, 1),
        "eye-bag-height": (0.5, 0.5), "eye-bag-sideways": (0.6, 0.8),
    },
    "nose": {
        # The tip down by 15 mm covers the lip; widths add up to what the african shape has already; sideways is
        # asymmetry and small.
        "nose-base": (0.7, 0.8), "nose-compression": (0.7, 1), "nose-curve": (0.9, 0.7), "nose-flaring": (1, 1),
        "nose-greek": (1, 1), "nose-hump": (1, 1), "nose-nostrils-angle": (0.8, 0.8), "nose-nostrils-width": (1, 1),
        "nose-point": (0.35, 1), "nose-point-width": (1, 1), "nose-scale-depth": (0.6, 0.9),
        "nose-scale-horiz": (1, 0.8), "nose-scale-vert": (1, 1), "nose-septumangle": (0.8, 0.8),
        "nose-trans-depth": (0.7, 0.7), "nose-trans-sideways": (0.2, 0.2), "nose-trans-vertical": (1, 1),
        "nose-volume": (0.7, 1), "nose-width1": (1, 1), "nose-width2": (1, 1), "nose-width3": (1, 0.7),
    },
    "mouth": {
        # Lips must still close: no thinner than a line, and the mouth no further forward than the nose.
        "mouth-angles": (0.7, 0.7), "mouth-cupidsbow": (1, 1), "mouth-cupidsbow-width": (1, 1),
        "mouth-dimples": (0.8, 0.8), "mouth-laugh-lines": (1, 0.8), "mouth-lowerlip-ext": (0.8, 0.8),
        "mouth-lowerlip-height": (0.8, 0.7), "mouth-lowerlip-middle": (0.9, 0.6), "mouth-lowerlip-volume": (1, 0.9),
        "mouth-lowerlip-width": (0.7, 0.8), "mouth-philtrum-volume": (1, 1), "mouth-scale-depth": (0.7, 0.9),
        "mouth-scale-horiz": (0.9, 1), "mouth-scale-vert": (0.8, 0.8), "mouth-trans-depth": (0.5, 0.35),
        "mouth-trans-sideways": (0.12, 0.12), "mouth-trans-vertical": (0.5, 0.55), "mouth-upperlip-ext": (0.9, 0.8),
        "mouth-upperlip-height": (0.8, 1), "mouth-upperlip-middle": (0.9, 0.8), "mouth-upperlip-volume": (1, 1),
        "mouth-upperlip-width": (0.9, 0.7),
    },
    "cheek": {
        "cheek-bones": (1, 0.8), "cheek-inner": (1, 0.6), "cheek-trans": (0.8, 0.8), "cheek-volume": (0.9, 0.8),
    },
    "chin": {
        # 20 mm of a longer and 14 mm of a bonier chin are a caricature at half of that.
        "chin-bones": (0.9, 0.4), "chin-cleft": (1, 1), "chin-height": (0.7, 0.45), "chin-jaw-drop": (1, 1),
        "chin-prognathism": (0.7, 0.7), "chin-prominent": (0.8, 0.6), "chin-triangle": (0, 0.8),
        "chin-width": (1, 0.8),
    },
    "ears": {
        # Pointed and triangular ears are an elf's; up and down by 20 mm leaves the skull.
        "ear-flap": (1, 0.5), "ear-lobe": (1, 1), "ear-rot": (0.7, 0.7), "ear-scale": (0.6, 0.7),
        "ear-scale-depth": (0.9, 0.9), "ear-scale-vert": (0.9, 0.9), "ear-shape-pointed": (0, 0.25),
        "ear-shape-round": (0, 1), "ear-shape-square": (0, 1), "ear-shape-triangle": (0, 0.35),
        "ear-trans-depth": (0.35, 0.35), "ear-trans-vertical": (0.25, 0.25), "ear-wing": (0.9, 1),
    },
    "neck": {
        "measure-neck-circ": (0.8, 0.9), "neck-back-scale-depth": (0.6, 0.6), "neck-double": (0.3, 0.6),
        "neck-scale-depth": (0.6, 0.6), "neck-scale-horiz": (0.8, 0.9), "neck-trans-depth": (0.25, 0.25),
        "neck-trans-sideways": (0.1, 0.1), "neck-trans-vertical": (0.5, 0.5),
    },
    # Each is one side's, from 0; jaw-3 and top-* displace 10 mm.
    "asym": {
        f"asym-{place}-{i}-{side}": (0, 0.6 if place == "top" or (place, i) == ("jaw", 3) else 1)
        for place, count in (("brown", 2), ("cheek", 2), ("ear", 4), ("eye", 8), ("jaw", 3), ("mouth", 2), ("nose", 4),
                             ("temple", 2), ("top", 2))
        for i in range(1, count + 1)
        for side in ("l", "r")
    },
}
# fmt: on
NAMES: tuple[str, ...] = tuple(name for family in FAMILIES.values() for name in family)
BELOW = np.array([limits[0] for family in FAMILIES.values() for limits in family.values()])
ABOVE = np.array([limits[1] for family in FAMILIES.values() for limits in family.values()])
_EDGE = 0.5 * (1 - 0.9721931)  # probability of a standard normal below -TRUNCATED


@dataclass(frozen=True)
class ShapeSpread:
    """Standard deviations and means of every shape's weight, float64 [len(NAMES)]."""

    sd: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, spread: Mapping[str, float], mean: Mapping[str, float]) -> "ShapeSpread":
        """From standard deviations by family and means by shape; what is not named is 0."""
        sd = [spread.get(family, 0.0) for family, shapes in FAMILIES.items() for _ in shapes]
        return cls(np.array(sd), np.array([mean.get(name, 0.0) for name in NAMES]))

    def draw(self, generator: np.random.Generator) -> dict[str, float]:
        """Weights by name, those that are 0 left out."""
        z = ndtri(_EDGE + generator.random(len(NAMES)) * (1 - 2 * _EDGE))
        weights = self.mean + z * self.sd * np.where(z < 0, BELOW, ABOVE)
        weights = np.clip(weights, -BELOW, ABOVE).round(3)
        return {name: weight for name, weight in zip(NAMES, weights.tolist(), strict=True) if weight}
