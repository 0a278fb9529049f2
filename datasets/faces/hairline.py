"""Where hair grows on the scalp, as a function of a place on the base head, and how much of it is painted on the skin.

The hairline is a height for each azimuth around the vertical axis through the ears: it starts above the forehead,
falls over the temples into the sideburns, passes over and behind the ears and ends at the nape. `pack_hair` writes a
person's own line into a small vector, from which the shading kernel (`scalp`) and the roots of the strands
(`above_hairline`) both read, so that paint and strands have one border.
"""

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.person import Person
from datasets.faces.skin import step

STEP = 3  # degrees of azimuth between two heights of the line
HEADER = 5  # what stands before the heights: see pack_hair
# Azimuth in degrees (0 is the face, 90 an ear, 180 the nape) and height in metres on the base head.
LINE = (
    *((0, 0.799), (12, 0.799), (25, 0.797), (34, 0.791), (42, 0.780), (48, 0.767), (54, 0.751), (60, 0.736)),
    *((63, 0.722), (66, 0.706), (70, 0.701), (73, 0.712), (76, 0.737), (84, 0.741), (94, 0.739), (101, 0.728)),
    *((105, 0.704), (110, 0.677), (116, 0.662), (126, 0.656), (160, 0.653), (180, 0.651)),
)
PAINT = {"bald": 0.10, "buzz": 0.62, "afro": 0.92}  # of full hair colour; any other style 0.85
PARTED = ("parted", "bob", "long")  # styles whose parting shows the scalp


def pack_hair(person: Person) -> np.ndarray:
    """What `scalp` needs of a person, float32 [HEADER + 360 / STEP + 1].

    0 paint, 1 softness of the border in metres, 2 how far the sides fade out in metres, 3 and 4 place and strength of
    the parting; then the line's heights from -180 degrees (the subject's right) to 180.
    """
    hair = person.hair
    rng = np.random.Generator(np.random.Philox(key=[hair.seed, 9]))  # see hair.py
    azimuth = np.arange(-180, 181, STEP, dtype=np.float64)
    flat = np.abs(azimuth)
    line = np.interp(flat, *np.array(LINE, np.float64).T)
    front = np.clip((58 - flat) / 12, 0, 1)
    temples = np.exp(-(((flat - 36) / 13) ** 2))
    line += front * hair.hairline + (0.9 * temples + 0.15 * front) * 0.036 * hair.recession
    if rng.random() < 0.25:
        line -= rng.uniform(0.003, 0.008) * np.exp(-((azimuth / 9) ** 2))  # a widow's peak
    sideburns = rng.uniform(-0.012, 0.008) + 0.012 * (1 - person.identity.masculinity)
    line += sideburns * np.clip(1 - np.abs(flat - 68) / 7, 0, 1)
    line += rng.uniform(-0.006, 0.010) * np.clip((flat - 120) / 25, 0, 1)
    for wave in (2, 5, 11, 19):
        line += rng.normal(0, 0.0035 / wave**0.5) * np.sin(np.radians(wave * azimuth) + rng.uniform(0, 6.28))
    fade = rng.uniform(0.02, 0.06) if hair.style in ("buzz", "short") and rng.random() < 0.6 else 0.0
    full = PAINT.get(hair.style, 0.85) * (0.55 + 0.45 * hair.density)
    if hair.style == "bald":
        fade = 0.03
        line = np.where(flat < 60, np.maximum(line, 0.83), line)
    parting = 0.35 if hair.style in PARTED else 0.0
    header = (full, 0.004, fade, hair.part, parting)
    return np.array([*header, *line], np.float32)


@kernel
def above_hairline(x: float, y: float, z: float, hair: np.ndarray) -> float:
    """Height in metres of a place on the base head above the hairline; negative is bare skin."""
    turn = (np.arctan2(x, z - 0.045) + np.pi) * (180.0 / np.pi / 3.0)
    i = min(int(turn), len(hair) - HEADER - 2)
    share = turn - i
    return y - (hair[HEADER + i] * (1.0 - share) + hair[HEADER + i + 1] * share)


@kernel
def scalp(x: float, y: float, z: float, hair: np.ndarray) -> float:
    """Share of the hair's colour on the skin at a place on the base head, 0 to 1; `hair` is pack_hair's."""
    if y < 0.62 or hair[0] <= 0.0:
        return 0.0
    above = above_hairline(x, y, z, hair)
    soft = hair[1]
    if above <= -soft:
        return 0.0
    out = hair[0] * step(-soft, 2.0 * soft, above)
    if hair[2] > 0.0 and y < 0.80:
        out *= min(0.25 + 0.75 * max(above, 0.0) / hair[2], 1.0)
    if hair[4] > 0.0 and y > 0.79:
        off = (x - parting_at(hair[3], z)) * 450.0
        if z > -0.02:
            out *= 1.0 - hair[4] * np.exp(-off * off)
    return out


@kernel
def parting_at(part: float, z: float) -> float:
    """Where the parting runs at a depth z of the base head: x in metres, for Hair.part -1 to 1."""
    return part * (0.030 + 0.06 * max(min(z, 0.12), 0.0))
