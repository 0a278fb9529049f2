"""Where the features lie: signed fields over the canonical face, which texture, labels and relief all read.

A field is float32, positive inside its region, zero on the outline and roughly a distance in canonical units, so that
`field > -margin` is the region grown by `margin`. Fields take canonical x and y of the neutral, frontal head and
concern its front half; callers mask with z > 0.
"""

import numpy as np

from datasets.faces.person import Person

EYE_SIDES = (-1.0, 1.0)  # image left, image right


def smooth(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Cubic step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) * (1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(x: np.ndarray, y: np.ndarray, x0: float, y0: float, sx: float, sy: float) -> np.ndarray:
    """Gaussian of height one at (x0, y0)."""
    return np.exp(-0.5 * (((x - x0) * (1.0 / sx)) ** 2 + ((y - y0) * (1.0 / sy)) ** 2))


def eye(x: np.ndarray, y: np.ndarray, person: Person, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The opening between the lids, and the height of the point above the upper lid's edge (for lid and lash)."""
    s = (x * side - person.eye_x) * (1.0 / person.eye_width)  # -1 inner corner, +1 outer corner
    arch = 1.0 - s * s
    middle = person.eye_y - person.eye_tilt * s
    upper = middle - 0.066 * person.eye_open * arch * (1.08 - 0.16 * s)
    lower = middle + (0.014 + 0.020 * person.eye_open) * arch * (1.0 + 0.15 * s)
    return np.minimum(y - upper, lower - y), upper - y


def nose(x: np.ndarray, y: np.ndarray, person: Person) -> np.ndarray:
    """From between the eyes down to the base, as wide as the wings at its end."""
    end = person.nose_end
    half = 0.085 + (person.nose_width - 0.085) * smooth(-0.1, end - 0.08, y)
    half = half - 0.05 * smooth(end - 0.07, end + 0.02, y)
    return np.minimum(np.minimum(half - np.abs(x), y + 0.15), end + 0.02 - 0.5 * x * x - y)


def mouth_line(x: np.ndarray, person: Person) -> np.ndarray:
    """y of the line where closed lips meet."""
    s = x * (1.0 / person.mouth_width)
    return person.mouth_y + 0.045 * person.smile * (0.6 - 1.7 * s * s)


def mouth(x: np.ndarray, y: np.ndarray, person: Person) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper lip, the opening between the lips, lower lip."""
    s = x * (1.0 / person.mouth_width)
    arch = np.maximum(1.0 - s * s, 0.0)
    line = mouth_line(x, person)
    above = line - 0.25 * person.gap * arch
    below = line + 0.75 * person.gap * arch
    bow = 1.0 - 0.22 * np.exp(-((x * 14.0) ** 2))
    top = above - person.lip_upper * np.sqrt(arch) * (0.45 + 0.55 * arch) * bow
    bottom = below + person.lip_lower * arch * (1.2 - 0.2 * arch)
    ends = person.mouth_width - np.abs(x)
    upper = np.minimum(np.minimum(y - top, above - y), ends)
    inner = np.minimum(np.minimum(y - above, below - y), ends)
    lower = np.minimum(np.minimum(y - below, bottom - y), ends)
    return upper, inner, lower


def brow(x: np.ndarray, y: np.ndarray, person: Person) -> np.ndarray:
    """Both brows, thinning outward."""
    s = (np.abs(x) - person.eye_x) * (1.0 / 0.25)
    middle = person.brow_y - person.brow_arch * (0.4 - (s - 0.15) ** 2)
    thick = person.brow_thick * (1.0 - 0.45 * np.clip(s, 0.0, 1.0))
    return np.minimum(thick - np.abs(y - middle), (1.0 - np.abs(s)) * 0.25)


def relief(x: np.ndarray, y: np.ndarray, person: Person) -> np.ndarray:
    """How far the features stand out of the skull, in canonical units."""
    ax = np.abs(x)
    end = person.nose_end
    along = smooth(-0.40, end - 0.06, y)
    rise = 0.015 + person.nose_height * along * np.sqrt(along)
    fall = 1.0 - smooth(end - 0.06, end + 0.05, y)
    width = 0.070 + 0.060 * smooth(0.0, end - 0.08, y)
    out = rise * fall * smooth(-0.32, -0.10, y) * np.exp(-0.5 * (x / width) ** 2)
    out = out + 0.085 * bump(ax, y, person.nose_width * 0.72, end - 0.055, 0.055, 0.06)  # wings
    out = out - 0.085 * bump(ax, y, person.eye_x - 0.03, person.eye_y, 0.17, 0.10)  # sockets
    out = out + 0.06 * bump(ax, y, person.eye_x, person.eye_y, 0.11, 0.065)  # balls
    out = out + 0.035 * bump(ax, y, 0.36, person.brow_y + 0.01, 0.24, 0.05)
    out = out + person.cheek * bump(ax, y, 0.50, 0.20, 0.17, 0.15)
    out = out + person.chin * bump(x, y, 0.0, 0.86, 0.20, 0.10) + 0.02 * bump(x, y, 0.0, 0.88, 0.16, 0.07)
    upper, inner, lower = mouth(x, y, person)
    out = out + 0.045 * smooth(-0.03, 0.05, upper) + 0.06 * smooth(-0.03, 0.07, lower)
    out = out - 0.10 * smooth(0.0, 0.05, inner)
    out = out - 0.02 * bump(x, y, 0.0, person.mouth_y + 0.17, 0.18, 0.03)
    fold = ax - (person.nose_width + 0.05 + 0.55 * (y - end + 0.06))  # from the wings to beside the mouth
    deep = 0.012 + 0.03 * min(person.smile, 1.0)
    return out - deep * np.exp(-((fold * 18.0) ** 2)) * smooth(end - 0.12, end, y) * (1.0 - smooth(0.55, 0.72, y))
