"""Colours that people are born with: skin, eyes and hair by ethnicity, age and sex.

Skin is CIELAB (D65) of the cheek. Sources, by group:
  asian           mean of the Chinese and Thai cheeks of Xiao et al. 2017, "Characterising the variations in ethnic
                  skin colours: a new calibrated data base for human skin", Skin Research and Technology 23(1), 21-29
                  (means and standard deviations as darktable's color_vocabulary.c quotes them)
  caucasian       the same study's Caucasian cheek; middle_eastern its Kurdish cheek
  african         between the African-American cheek of de Rigal et al. 2010, "The effect of age on skin color and color
                  heterogeneity in four ethnic groups" (L* 48, a* 15, b* 20, read from its graph), and darker skin from
                  memory: brown and dark of the individual typology angle (Chardon et al. 1991)
  hispanic        from memory, between Xiao's groups and de Rigal's Mexican cheek (63, 16, 21, read from its graph)
  indian          from memory, tan and brown of the individual typology angle
That light skin gets more chromatic as it gets darker, and dark skin less, is in "Comparing skin colours between
different skin groups" (47 subjects, abstract); the size of the correlations is a guess. Women are lighter than men and
the young lighter than the old (CIE x050-OP065, 2023, abstract); by how much is a guess. Shares of eye and hair colours
are guesses after general knowledge; the age of greying follows Panhard et al. 2012 (worldwide survey), from memory.
"""

import math
from dataclasses import dataclass

import numpy as np

from datasets.faces.distribution import Shares, Stream, read_shares
from datasets.faces.person import Vector
from datasets.srgb import linear_from_srgb

# Means of the head model's three shapes (african, asian, caucasian); "mixed" is any mixture.
ETHNICITIES: dict[str, Vector] = {
    "african": (0.88, 0.05, 0.07),
    "asian": (0.04, 0.90, 0.06),
    "caucasian": (0.03, 0.05, 0.92),
    "hispanic": (0.14, 0.32, 0.54),
    "indian": (0.27, 0.20, 0.53),
    "middle_eastern": (0.14, 0.10, 0.76),
}


@dataclass(frozen=True)
class Complexion:
    """A group's cheek: means and standard deviations of L*, a*, b*, and correlations of a* and of b* with L*."""

    mean: Vector
    sd: Vector
    a_with_l: float
    b_with_l: float
    curl: tuple[float, float]  # mean and standard deviation of the hair's curl, 0 to 1


COMPLEXIONS = {
    "african": Complexion((42.0, 12.5, 15.5), (7.0, 2.0, 3.2), 0.2, 0.65, (0.90, 0.12)),
    "asian": Complexion((59.8, 11.0, 15.7), (3.6, 2.2, 2.3), -0.5, -0.3, (0.06, 0.08)),
    "caucasian": Complexion((59.6, 11.8, 14.6), (5.5, 3.1, 2.6), -0.55, -0.45, (0.25, 0.20)),
    "hispanic": Complexion((56.0, 12.3, 17.0), (5.0, 2.3, 2.2), -0.5, -0.1, (0.25, 0.20)),
    "indian": Complexion((50.0, 12.5, 17.3), (5.5, 2.0, 2.4), -0.2, 0.3, (0.25, 0.18)),
    "middle_eastern": Complexion((58.0, 11.7, 15.8), (4.4, 2.3, 2.1), -0.5, -0.3, (0.32, 0.20)),
}
IRISES = {"brown": "4a2c17", "hazel": "7d5c36", "green": "6f7f54", "blue": "6d8fb4", "grey": "87939c"}
IRIS_NAMES = ("brown", "hazel", "green", "blue", "grey")
IRIS_SHARES = {
    "caucasian": {"brown": 38, "hazel": 16, "green": 12, "blue": 26, "grey": 8},
    "middle_eastern": {"brown": 80, "hazel": 12, "green": 6, "blue": 2},
    "hispanic": {"brown": 86, "hazel": 9, "green": 4, "blue": 1},
    "indian": {"brown": 96, "hazel": 3, "green": 1},
    "african": {"brown": 99, "hazel": 1},
    "asian": {"brown": 99, "hazel": 1},
}
HAIRS = {
    "black": "14110f",
    "dark_brown": "2c1e16",
    "brown": "4a3222",
    "light_brown": "71543a",
    "blond": "ac8a58",
    "light_blond": "cdb184",
    "red": "84401f",
}
HAIR_NAMES = ("black", "dark_brown", "brown", "light_brown", "blond", "light_blond", "red")
HAIR_SHARES = {
    "caucasian": {
        "black": 6,
        "dark_brown": 26,
        "brown": 30,
        "light_brown": 16,
        "blond": 13,
        "light_blond": 4,
        "red": 5,
    },
    "middle_eastern": {"black": 42, "dark_brown": 43, "brown": 12, "light_brown": 3},
    "hispanic": {"black": 42, "dark_brown": 42, "brown": 13, "light_brown": 3},
    "indian": {"black": 74, "dark_brown": 24, "brown": 2},
    "african": {"black": 82, "dark_brown": 17, "brown": 1},
    "asian": {"black": 76, "dark_brown": 22, "brown": 2},
}
GREY = "c9c6c0"


def _shares(table: dict[str, dict[str, int]], names: tuple[str, ...]) -> dict[str, Shares]:
    return {group: read_shares(dict(shares), names) for group, shares in table.items()}


_IRIS = _shares(IRIS_SHARES, IRIS_NAMES)
_HAIR = _shares(HAIR_SHARES, HAIR_NAMES)


def linear(color: str) -> Vector:
    """Linear RGB of an sRGB colour rrggbb (IEC 61966-2-1)."""
    red, green, blue = linear_from_srgb([int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]).tolist()
    return red, green, blue


IRIS_COLORS = {name: linear(color) for name, color in IRISES.items()}
HAIR_COLORS = {name: linear(color) for name, color in HAIRS.items()}
GREY_COLOR = linear(GREY)


def shade(color: Vector, factor: float) -> Vector:
    """A colour times a factor, within 0 to 1."""
    red, green, blue = (round(min(max(value * factor, 0.0), 1.0), 5) for value in color)
    return red, green, blue


def mixed(one: Vector, other: Vector, share: float) -> Vector:
    """`share` 0 is `one`, 1 is `other`."""
    red, green, blue = (a + share * (b - a) for a, b in zip(one, other, strict=True))
    return red, green, blue


def ancestry(group: str, stream: Stream) -> tuple[Vector, str]:
    """Weights of the head model's three shapes for a person of a group, and the group that colours come from."""
    logs = [stream.normal() for _ in range(3)]
    u = next(stream)
    if group == "mixed":  # any mixture of the three, a flat Dirichlet distribution; colours as the largest share's
        weights = [-math.log(max(1 - _phi(z), 1e-6)) for z in logs]
        most = max(range(3), key=weights.__getitem__)
        colours = ("african", "asian", "caucasian" if u < 0.4 else "hispanic" if u < 0.7 else "middle_eastern")[most]
    else:
        weights = [w * math.exp(0.55 * z) for w, z in zip(ETHNICITIES[group], logs, strict=True)]
        colours = group
    first, second = (round(weight / sum(weights), 4) for weight in weights[:2])
    return (first, second, round(1 - first - second, 4)), colours


def _phi(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def skin(group: str, age: float, masculinity: float, lightness: float, chroma: float, stream: Stream) -> Vector:
    """CIELAB of the cheek: the group's, plus `lightness` in L*, chroma times `chroma`."""
    c = COMPLEXIONS[group]
    z_l, z_a, z_b = (stream.normal() for _ in range(3))
    z_a = c.a_with_l * z_l + math.sqrt(1 - c.a_with_l**2) * z_a
    z_b = c.b_with_l * z_l + math.sqrt(1 - c.b_with_l**2) * z_b
    values = [mean + sd * z for mean, sd, z in zip(c.mean, c.sd, (z_l, z_a, z_b), strict=True)]
    bright = values[0] + lightness + 1.2 * (0.5 - masculinity) * 2 - 0.04 * max(age - 40, 0)
    out = (min(max(bright, 22), 80), min(max(values[1] * chroma, 3), 26), min(max(values[2] * chroma, 4), 32))
    return round(out[0], 2), round(out[1], 2), round(out[2], 2)


def typology_angle(lab: Vector) -> float:
    """Individual typology angle in degrees (Chardon et al. 1991): above 55 very light, below -30 dark."""
    return math.degrees(math.atan2(lab[0] - 50, lab[2]))


def iris(name: str, group: str, stream: Stream) -> Vector:
    """Linear RGB of the iris; `natural` is drawn by group. Darker and lighter ones of each name."""
    drawn = _IRIS[group].at(next(stream))
    name = drawn if name == "natural" else name
    depth = stream.between(0.55, 1.35)
    other = stream.between(0, 0.35)
    color = mixed(IRIS_COLORS[name], IRIS_COLORS[IRIS_NAMES[min(IRIS_NAMES.index(name) + 1, 4)]], other * 0.6)
    dark = 0.55 if name == "brown" and group in ("african", "asian", "indian") else 1.0
    return shade(color, depth * dark)


def hair_color(name: str, group: str, stream: Stream) -> Vector:
    """Linear RGB of hair without grey; `natural` is drawn by group."""
    drawn = _HAIR[group].at(next(stream))
    name = drawn if name == "natural" else name
    depth, warmth = stream.between(0.65, 1.35), stream.between(-0.12, 0.12)
    red, green, blue = HAIR_COLORS[name]
    return shade((red * (1 + warmth), green, blue * (1 - warmth)), depth)


def greyness(age: float, group: str, factor: float, stream: Stream) -> float:
    """Share of grey strands, 0 to 1: it begins at about 40 and is half done at about 60."""
    onset = {"caucasian": 39, "middle_eastern": 40, "hispanic": 42, "indian": 42, "asian": 43, "african": 45}[group]
    onset_of_person = onset + 7 * stream.normal()
    span = stream.between(22, 48)
    return round(float(np.clip((age - onset_of_person) / span * factor, 0, 1)), 3)
