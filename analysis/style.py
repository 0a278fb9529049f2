"""How lines look, in every picture: which line has which colour, marker and dashes.

Colours: Okabe and Ito's palette (Color Universal Design, 2008), told apart by readers with any colour vision; no two
lines differ in hue alone. Where lines of all schedules share a panel, the schedule has the colour and the marker and
the adaptation the dashes; where each schedule has a panel of its own, the adaptation has all three. Sources differ in
how light the colour is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.curves import Line

COLOURS = {
    "real_only": "#000000",
    "synthetic_only": "#CC79A7",
    "mixed": "#0072B2",
    "gradual": "#009E73",
    "finetune": "#D55E00",
    "mixed_finetune": "#E69F00",
}
MARKERS = {
    "real_only": "s",
    "synthetic_only": "D",
    "mixed": "o",
    "gradual": "v",
    "finetune": "^",
    "mixed_finetune": "P",
}
ADAPTED = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # in panels of one schedule
SHAPES = ("o", "^", "v", "D", "P", "X", "s", "<", ">", "*")
DASHES: tuple[tuple[float, ...], ...] = (  # on and off, in widths of the line; none is a solid line
    (),
    (4.5, 1.6),
    (1.2, 1.4),
    (6, 1.5, 1.2, 1.5),
    (2.5, 1.2),
    (6, 1.2, 1.2, 1.2, 1.2, 1.2),
    (9, 2),
)
LIGHTEST = 0.55  # how far towards white the last source of a schedule is drawn


@dataclass(frozen=True)
class Look:
    """colour  RGB in [0, 1]; marker as matplotlib names them; dashes empty where the line is solid"""

    colour: tuple[float, float, float]
    marker: str
    filled: bool
    dashes: tuple[float, ...]

    @property
    def css(self) -> str:
        return f"rgb({', '.join(str(round(255 * channel)) for channel in self.colour)})"


def looks(lines: Sequence[Line], *, apart: bool = False) -> dict[str, Look]:
    """The look of each line, by its label; `apart` where each schedule has a panel of its own, but for the lines that
    all panels share."""
    adaptations = ["none", *sorted({line.adaptation for line in lines} - {"none"})]
    found = {}
    for line in lines:
        sources = list(dict.fromkeys(other.source for other in lines if other.schedule == line.schedule))
        light = LIGHTEST * sources.index(line.source) / max(1, len(sources) - 1)
        place = adaptations.index(line.adaptation)
        colour, marker = COLOURS[line.schedule], MARKERS[line.schedule]
        if apart and is_shared(line):
            place = 0
        elif apart:
            colour, marker = ADAPTED[place % len(ADAPTED)], SHAPES[place % len(SHAPES)]
        rgb = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        red, green, blue = (channel + light * (1 - channel) for channel in rgb)
        found[line.label] = Look((red, green, blue), marker, place == 0, DASHES[place % len(DASHES)])
    return found


def is_shared(line: Line) -> bool:
    """Whether a line stands in every panel, to compare with, where schedules have panels of their own."""
    return line.schedule in ("real_only", "synthetic_only") and line.adaptation == "none"
