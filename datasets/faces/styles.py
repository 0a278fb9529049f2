"""The hairdos: what a comb's weights and lengths are for each of `Hair.style`, and how many strands it takes.

The values were set by looking at pictures of each style from the front, from 45 degrees and from the side. tied.py has
the two styles whose hair is gathered in one place.
"""

from dataclasses import replace

import numpy as np

from datasets.faces.comb import Comb
from datasets.faces.person import Person
from datasets.faces.tied import bun, ponytail
from datasets.faces.wearer import Style, Wearer


def style_of(person: Person) -> Style | None:
    """The style of a person's hair, or None where there is nothing to grow. Raises ValueError for an unknown one."""
    makers = {
        **{"buzz": _buzz, "short": _short, "back": _back, "parted": _parted, "fringe": _fringe, "bob": _bob},
        **{"long": _long, "curly": _curly, "afro": _afro, "bun": bun, "ponytail": ponytail},
    }
    hair = person.hair
    if hair.style == "bald":
        return None
    if hair.style not in makers:
        raise ValueError(f"hair.style must be bald, {', '.join(makers)}, but got {hair.style!r}")
    if person.accessories.hat != "none":
        # Pressed; what stands off the head by itself would come out below the brim like wings.
        shown = {"afro": "short", "curly": "short" if hair.length < 0.18 else "bob", "bun": "back"}
        style = shown.get(hair.style, hair.style)
        length = min(hair.length, 0.05) if style == "short" else hair.length
        hair = replace(hair, style=style, length=length, volume=min(hair.volume, 0.012))
    chance = np.random.Generator(np.random.Philox(key=[hair.seed, 10])).random(12)  # see hair.py
    return makers[hair.style](Wearer(hair, chance, person.identity.masculinity > 0.5))


def _buzz(w: Wearer) -> Style:
    comb = Comb(
        w.hair.length, volume=w.hair.volume, side_length=0.8, ramp=w.hair.length, bend=0.03, whorl=0.6, gravity=0.1
    )
    return Style(comb, 3200, 4, 1.0e-3)


def _short(w: Wearer) -> Style:
    length = w.hair.length
    comb = Comb(
        length,
        volume=w.hair.volume,
        ragged=0.35,
        side_length=0.22 + 0.35 * w.chance[6],
        ramp=0.6 * length,
        lift=0.8 + 0.8 * w.chance[8],
        lift_reach=0.25 * length,
        bend=0.007,
        whorl=0.9,
        swirl=0.25 if w.chance[9] < 0.8 else -0.25,
        aside=0.35 + 0.7 * w.chance[7],
        forward=0.5 * (w.chance[8] < 0.5),
        gravity=0.25,
        droop=0.7,
        stick=0.25,
        part=-w.hair.part,
        cut_front=0.705,
        cut_ear=0.731,
        cut_nape=0.640,
        wander=0.9,
        **w.waves,
    )
    return Style(comb, 3600, 7, 1.3e-3)


def _back(w: Wearer) -> Style:
    comb = Comb(
        w.hair.length,
        volume=w.hair.volume,
        side_length=0.75,
        ramp=0.025,
        lift=1.6,
        lift_reach=0.012,
        bend=0.012,
        back=1.0,
        gravity=0.28,
        stick=0.5,
        close=1.0,
        cut_front=0.72,
        cut_ear=0.733,
        cut_nape=0.640 - 0.03 * w.chance[6],
        cut_spread=0.016,
        wander=0.25,
        **w.waves,
    )
    return Style(comb, 3400, 10, 1.3e-3)


def _parted(w: Wearer) -> Style:
    part = w.hair.part
    comb = Comb(
        w.hair.length * 1.15,
        volume=w.hair.volume,
        ragged=0.2,
        side_length=0.5,
        ramp=0.035,
        lift=1.2,
        lift_reach=0.010,
        bend=0.012,
        aside=1.0,
        back=0.35 + 0.35 * w.chance[6],
        gravity=0.55,
        stick=0.45,
        close=1.0,
        part=part if abs(part) > 0.35 else (0.35 if part >= 0 else -0.35),  # seen to be at one side
        cut_front=0.715,
        cut_ear=0.731,
        cut_nape=0.645,
        cut_spread=0.014,
        window=0.9,
        wander=0.35,
        **w.waves,
    )
    return Style(comb, 3400, 10, 1.3e-3)


def _fringe(w: Wearer) -> Style:
    length = w.hair.length
    hem = max(0.800 - 0.85 * length, 0.560)
    short = length < 0.13
    comb = Comb(
        length,
        volume=w.hair.volume,
        ragged=0.2,
        side_length=0.8,
        ramp=0.04,
        lift=0.7,
        lift_reach=0.010,
        bend=0.014,
        whorl=0.8,
        swirl=0.15,
        gravity=0.6,
        close=0.5,
        stick=0.3,
        part=0.5 * w.hair.part,
        fringe=0.97,
        fringe_cut=0.739 + 0.018 * w.chance[6],
        cut_front=0.715 if short else hem,
        cut_ear=0.731 if short else hem,
        cut_nape=max(hem, 0.60),
        cut_spread=0.012,
        window=w.opening,
        over_ears=0.0 if short else 0.014,
        clump=0.55,
        wander=0.25,
        finer=1.1,
        **w.shoulders,
        **w.waves,
    )
    return Style(comb, 3600, 12, 1.3e-3)


def _bob(w: Wearer) -> Style:
    hem = 0.665 - 0.5 * (w.hair.length - 0.17)
    comb = Comb(
        w.hair.length + 0.06,
        volume=w.hair.volume,
        ragged=0.12,
        side_length=0.8,
        ramp=0.05,
        lift=0.8,
        lift_reach=0.010,
        bend=0.016,
        aside=1.1,
        back=0.15,
        gravity=0.9,
        stick=0.15,
        close=0.35,
        part=w.hair.part,
        fringe=0.97 * (w.chance[7] < 0.25),
        fringe_cut=0.739 + 0.018 * w.chance[6],
        cut_front=0.715 if w.chance[7] < 0.12 else hem - 0.01 * w.chance[8],
        cut_ear=hem,
        cut_nape=hem + 0.006,
        window=w.opening,
        over_ears=0.015,
        wander=0.2,
        finer=1.1,
        **w.waves,
        **(w.tucks if w.chance[9] < 0.5 else {}),
    )
    return Style(comb, 3600, 13, 1.7e-3)


def _long(w: Wearer) -> Style:
    comb = Comb(
        w.hair.length,
        volume=w.hair.volume,
        ragged=0.16,
        side_length=0.85,
        ramp=0.05,
        lift=0.8,
        lift_reach=0.010,
        bend=0.018,
        aside=1.1,
        back=0.2,
        gravity=1.0,
        stick=0.1,
        close=0.22,
        part=w.hair.part,
        window=w.opening,
        over_ears=0.013,
        wander=0.2,
        clump=0.5,
        finer=1.25,
        **w.shoulders,
        **w.tucks,
        **w.waves,
    )
    return Style(comb, 3000, 14, 1.6e-3)


def _curly(w: Wearer) -> Style:
    length, curl, points = w.hair.length, w.hair.curl, 22
    comb = _long(w).comb._replace(
        length=1.1 * length,
        volume=0.75 * w.hair.volume,
        side_length=0.75,
        edge_length=0.7,
        ragged=0.3,
        lift=1.6,
        lift_reach=0.03,
        bend=0.02,
        gravity=0.7,
        droop=0.8,
        close=0.15,
        stick=0.0,
        aside=0.5,
        whorl=0.5,
        wander=0.7,
        clump=0.7,
        finer=1.0,
        window=0.95 * w.opening,
        wave=0.006 + 0.005 * curl,
        pitch=max(0.060 - 0.025 * curl, 4.5 * length / (points - 1)),  # a turn needs four points
        frizz=0.08,
    )
    if w.male and length < 0.16:
        comb = comb._replace(cut_front=0.70, cut_ear=0.728, cut_nape=0.63)
    return Style(comb, 2300, points, 2.0e-3)


def _afro(w: Wearer) -> Style:
    ball = min(w.hair.volume, 0.085)
    comb = Comb(
        max(min(w.hair.length, 1.1 * ball + 0.012), 0.02),
        volume=0.3 * ball,
        ragged=0.5,
        side_length=0.62 + 0.3 * w.chance[7],
        edge_length=0.45,
        globe=0.088 + 1.1 * ball,
        lift_reach=9.0,
        bend=0.03,
        gravity=0.05,
        droop=0.0,
        cut_front=0.70,
        cut_nape=0.63,
        clump=0.25,
        wave=0.004 + 0.003 * w.chance[6],
        pitch=0.024 + 0.010 * w.chance[8],
        frizz=1.0,
        wander=0.0,
    )
    return Style(comb, 3200, 14, 1.7e-3 + 0.012 * ball)
