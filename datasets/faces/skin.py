"""What colour the skin is at a canonical position: complexion, freckles, lips, brows and the line of the lashes.

Paint follows the outlines of regions.py, so it lies where the labels and landmarks say. Colours are linear RGB albedo.
"""

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.grain import noise_at
from datasets.faces.person import Person
from datasets.faces.regions import (
    BROWS,
    CORNERS,
    EYES,
    FOLDS,
    HEIGHT,
    LEFT,
    LIPS,
    NOSTRILS,
    SCALE,
    SEAM,
    TOP,
    UNDER,
    WIDTH,
)

# Places in the parameter vector that `pack_skin` makes.
BASE, REDNESS, FRECKLES, BLEMISH, WRINKLES = 0, 3, 4, 5, 6
LIP, BROW, BROW_DENSITY, BROW_THICKNESS, LASHES = 7, 10, 13, 14, 15
OFFSET, IRIS, PUPIL, GLOSS, SIZE = 16, 19, 22, 23, 24


def pack_skin(person: Person) -> np.ndarray:
    """float32 [SIZE]: what the compiled functions need of a person."""
    identity, facial = person.identity, person.facial_hair
    draw = np.random.Generator(np.random.Philox(key=[identity.texture, 1]))
    out = np.zeros(SIZE, np.float32)
    base = linear_from_lab(identity.skin)
    out[BASE : BASE + 3] = base
    out[REDNESS], out[FRECKLES] = identity.redness, identity.freckles
    out[BLEMISH], out[WRINKLES] = identity.blemish, identity.wrinkles
    natural = base * draw.uniform([0.72, 0.42, 0.45], [0.98, 0.62, 0.66]) + [0.03, 0.0, 0.004]
    painted = np.array([[0.32, 0.03, 0.05], [0.40, 0.08, 0.14], [0.20, 0.03, 0.06], [0.45, 0.16, 0.15]])[
        draw.integers(4)
    ]
    out[LIP : LIP + 3] = natural + identity.lip_tint * 0.85 * (painted - natural)
    out[BROW : BROW + 3] = facial.brow_color
    out[BROW_DENSITY], out[BROW_THICKNESS], out[LASHES] = facial.brow_density, facial.brow_thickness, facial.lashes
    out[OFFSET : OFFSET + 3] = draw.uniform(0, 64, 3)
    out[IRIS : IRIS + 3] = identity.iris
    out[PUPIL] = draw.uniform(0.26, 0.48)  # of the iris
    out[GLOSS] = draw.uniform(0.5, 1.3)
    return out


def linear_from_lab(lab: tuple[float, float, float]) -> np.ndarray:
    """CIELAB (D65) to linear sRGB, clipped to what exists: float64 [3] (CIE 15:2004; IEC 61966-2-1)."""
    y = (lab[0] + 16) / 116
    f = np.array([y + lab[1] / 500, y, y - lab[2] / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.95047, 1.0, 1.08883]
    to_rgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    return np.clip(to_rgb @ xyz, 0.003, 1.0)


@kernel
def step(low: float, high: float, value: float) -> float:
    """Cubic step from 0 at `low` to 1 at `high`."""
    t = (value - low) / (high - low)
    t = 0.0 if t < 0.0 else (1.0 if t > 1.0 else t)
    return t * t * (3.0 - 2.0 * t)


@kernel
def field_at(fields: np.ndarray, index: int, x: float, y: float) -> float:
    """A field of the atlas at canonical x and y, bilinear; far outside where the map ends."""
    column, row = (x - LEFT) * SCALE - 0.5, (TOP - y) * SCALE - 0.5
    if column < 0.0 or row < 0.0 or column >= WIDTH - 1 or row >= HEIGHT - 1:
        return -1.0
    c, r = int(column), int(row)
    u, v = column - c, row - r
    f = fields[index]
    return (f[r, c] * (1 - u) + f[r, c + 1] * u) * (1 - v) + (f[r + 1, c] * (1 - u) + f[r + 1, c + 1] * u) * v


@kernel
def _absorbed(density: float) -> float:
    """About exp(-density) for the small densities of blood and melanin."""
    return 1.0 / (1.0 + density + 0.5 * density * density)


@kernel
def skin_color(  # type: ignore[no-untyped-def]
    p: np.ndarray, fields: np.ndarray, table: np.ndarray, x: float, y: float, z: float, ears: float, footprint: float
):
    """Albedo (3 floats) and gloss at a canonical position; `footprint` is a pixel's size there in metres."""
    ox, oy, oz = p[OFFSET], p[OFFSET + 1], p[OFFSET + 2]
    red, green, blue = p[BASE], p[BASE + 1], p[BASE + 2]
    gloss = 0.28 * p[GLOSS]
    front = step(0.060, 0.095, z)
    ax = abs(x)
    # Blotches of melanin and of blood, as large as a coin and as a grain.
    coarse = noise_at(table, x * 75.0 + ox, y * 75.0 + oy, z * 75.0 + oz)
    fine = noise_at(table, x * 420.0 + oy, y * 420.0 + oz, z * 420.0 + ox)
    melanin = p[BLEMISH] * (0.10 * coarse + 0.09 * fine) + 0.025 * coarse
    flush = 0.55 * ears
    if front > 0.0 and 0.58 < y < 0.74:
        cheek = ((ax - 0.040) / 0.017) ** 2 + ((y - 0.692) / 0.016) ** 2
        nose = (x / 0.013) ** 2 + ((y - 0.692) / 0.013) ** 2
        chin = (x / 0.022) ** 2 + ((y - 0.625) / 0.014) ** 2
        flush += (0.75 * np.exp(-cheek) + 0.65 * np.exp(-nose) + 0.25 * np.exp(-chin)) * front
    blood = p[REDNESS] * (flush + 0.18 * coarse + 0.08) + 0.04 * fine
    if p[FRECKLES] > 0.0 and front > 0.0:
        where = np.exp(-(((ax - 0.028) / 0.030) ** 2) - ((y - 0.703) / 0.022) ** 2)
        spots = noise_at(table, x * 560.0 + oz, y * 560.0 + ox, z * 560.0 + oy)
        melanin += 0.45 * p[FRECKLES] * where * step(0.9, 1.7, spots)
    eye = -1.0
    if front > 0.0 and 0.69 < y < 0.77:
        eye = field_at(fields, EYES, x, y)
        melanin += 0.16 * step(-0.016, -0.002, eye) * front  # sockets
        melanin += 0.10 * max(field_at(fields, UNDER, x, y), 0.0) * front * (0.4 + p[WRINKLES])
    red *= _absorbed(0.55 * melanin + 0.02 * blood)
    green *= _absorbed(0.95 * melanin + 0.42 * blood)
    blue *= _absorbed(1.25 * melanin + 0.34 * blood)
    if front <= 0.0:
        return red, green, blue, gloss

    soft = max(footprint, 0.0007)
    dark = 1.0
    if 0.64 < y < 0.68:
        lips = field_at(fields, LIPS, x, y)
        amount = step(-soft, soft, lips) * 0.95
        if amount > 0.0:
            across = 1.0 + 0.06 * noise_at(table, x * 900.0 + ox, y * 120.0 + oy, oz)
            red += (p[LIP] * across - red) * amount
            green += (p[LIP + 1] * across - green) * amount
            blue += (p[LIP + 2] * across - blue) * amount
            gloss += (0.5 - gloss) * amount
            above = field_at(fields, SEAM, x, y)
            seam = np.exp(-((above / max(0.0009, 0.6 * footprint)) ** 2)) * step(-0.001, 0.001, lips)
            dark -= 0.55 * seam
            green, blue = green * (1.0 - 0.12 * seam), blue * (1.0 - 0.12 * seam)
        dark -= 0.25 * max(field_at(fields, CORNERS, x, y), 0.0)
    elif y < 0.70:
        dark -= 0.82 * step(-0.0009, 0.0009, field_at(fields, NOSTRILS, x, y))
    if p[WRINKLES] > 0.0:
        if y < 0.70:
            dark *= 1.0 - 0.22 * p[WRINKLES] * max(field_at(fields, FOLDS, x, y), 0.0)
        elif y > 0.752:  # lines of the forehead
            wave = np.sin((y + 0.004 * np.cos(x * 60.0 + ox)) * 900.0 + 2.0 * coarse)
            dark *= 1.0 - 0.10 * p[WRINKLES] * step(0.55, 1.0, wave) * step(0.05, 0.02, ax)
    red, green, blue = red * dark, green * dark, blue * dark
    if y < 0.70:
        return red, green, blue, gloss

    # The brow's hairs: streaks that run outward and, near the middle, up.
    brow = field_at(fields, BROWS, x, y) + (p[BROW_THICKNESS] - 1.0) * 0.0024
    if brow > -0.004:
        lean = 0.55 - 14.0 * (ax - 0.012)
        streak = noise_at(table, (ax * 260.0 - y * 90.0) + ox, (y - lean * (ax - 0.03)) * 1500.0 + oy, oz)
        reach = 0.0011 + soft
        hair = step(-reach, reach, brow + 0.0006 * streak) * p[BROW_DENSITY]
        hair *= 0.86 + 0.22 * streak
        hair = 0.0 if hair < 0.0 else (0.97 if hair > 0.97 else hair)
        red += (p[BROW] - red) * hair
        green += (p[BROW + 1] - green) * hair
        blue += (p[BROW + 2] - blue) * hair
        gloss *= 1.0 - hair
    # The line of the lashes on the edge of the lids, and the crease above.
    if eye > -0.006:
        upper = step(0.7265, 0.7285, y)
        line = step(-0.0014 - soft, -0.0002, eye) * (0.35 + 0.65 * p[LASHES]) * (0.30 + 0.70 * upper)
        line = 0.94 if line > 0.94 else line
        crease = np.exp(-(((eye + 0.0042) / max(0.0008, 0.6 * footprint)) ** 2)) * upper * 0.30
        keep = (1.0 - line) * (1.0 - crease)
        red, green, blue = red * keep + 0.006 * line, green * keep + 0.004 * line, blue * keep + 0.004 * line
        gloss *= 1.0 - line
    return red, green, blue, gloss
