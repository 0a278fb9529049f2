"""Beards: where they grow as a function of a place on the base head, what of them is painted, and their strands.

One signed distance, `inside_beard`, bounds both the paint (stubble, and the shadow under longer hair) and the roots of
the strands: below a line from the sideburns to the nose, above one on the neck, and off the lips.
"""

from functools import cache

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.geometry import Strands
from datasets.faces.hair import colors
from datasets.faces.head import Head, load_head
from datasets.faces.hull import distance, load_hull, on_surface, spread_evenly
from datasets.faces.locks import follow
from datasets.faces.person import Person
from datasets.faces.skin import step
from datasets.segments import SEGMENTS

STYLES = ("none", "moustache", "goatee", "full")
MOUSTACHE, GOATEE, FULL = range(1, 4)
PAINT = {"none": 0.07, "stubble": 0.42, "moustache": 0.75, "goatee": 0.75, "full": 0.75}  # of full colour
CANDIDATES = 9_000
POINTS = 7
COUNTS = {"moustache": 420, "goatee": 1000, "full": 2600}  # strands in a picture of 128 pixels
WIDTH = 0.9e-3  # metres
STUBBLE = 0.002  # metres: shorter hair is painted only
SHAPE_STREAM, STRANDS_STREAM = 3, 4  # random streams of Identity.texture; 1 is skin.py's, 2 lashes.py's
# Half the width of the face and the height below which a full beard grows there, metres on the base head.
# fmt: off
TOP = (
    (0.000, 0.6785), (0.012, 0.681), (0.020, 0.680), (0.027, 0.676), (0.034, 0.672), (0.046, 0.673),
    (0.055, 0.681), (0.062, 0.693), (0.0665, 0.706), (0.072, 0.714),
)
# fmt: on
TOP_X = np.array([x for x, _ in TOP], np.float32)
TOP_Y = np.array([y for _, y in TOP], np.float32)
UPPER_LIP = np.array([0.6695, 0.6715, 0.6700, 0.6685, 0.6660, 0.6610], np.float32)  # every 5.5 mm from the middle
LOWER_LIP = np.array([0.6475, 0.6480, 0.6495, 0.6525, 0.6560, 0.6610], np.float32)


def pack_beard(person: Person) -> np.ndarray:
    """What `stubble` needs of a person, float32 [6].

    0 paint, 1 where it grows (a place in STYLES), 2 softness of the border, 3 to 5 by how much the cheek line, the neck
    line and a goatee's sides are moved, metres. Raises ValueError for an unknown style.
    """
    beard = person.facial_hair
    if beard.style not in PAINT:
        raise ValueError(f"facial_hair.style must be one of {', '.join(PAINT)}, but got {beard.style!r}")
    rng = np.random.Generator(np.random.Philox(key=[person.identity.texture, SHAPE_STREAM]))
    where = {"none": FULL, "stubble": FULL}.get(beard.style) or STYLES.index(beard.style)
    paint = PAINT[beard.style] * beard.density
    if beard.style == "none" and person.identity.masculinity < 0.5:
        paint = 0.0
    soft = 0.006 if beard.style in ("none", "stubble") else 0.003
    cheek, neck, side = rng.uniform(-0.006, 0.003), rng.uniform(-0.004, 0.008), rng.uniform(-0.004, 0.006)
    return np.array([paint, where, soft, cheek, neck, side], np.float32)


@kernel
def inside_beard(x: float, y: float, z: float, beard: np.ndarray) -> float:
    """Metres, roughly, by which a place on the base head lies inside the beard's region; `beard` is pack_beard's."""
    half = abs(x)
    if y > 0.725 or y < 0.585 or z < 0.045:
        return -1.0
    i = 0
    while i < len(TOP_X) - 2 and half > TOP_X[i + 1]:
        i += 1
    share = min((half - TOP_X[i]) / (TOP_X[i + 1] - TOP_X[i]), 1.0)
    top = TOP_Y[i] + (TOP_Y[i + 1] - TOP_Y[i]) * share
    if half > 0.034:
        top += beard[3]
    out = min(top - y, y - (0.600 + beard[4] + 9.0 * half * half))
    # Behind: before the ear, then along the jaw.
    behind = 0.068 if y > 0.69 else 0.058 + (y - 0.60) * 0.11
    out = min(out, z - behind)
    if half > 0.055 and y > 0.69:
        out = min(out, 0.088 - z)
    if beard[1] == GOATEE:
        out = min(out, 0.030 + beard[5] - half, y - 0.606)
    elif beard[1] == MOUSTACHE:
        out = min(out, 0.033 + beard[5] - half, y - 0.661 + 0.2 * half)
    if half < 0.0275 and z > 0.10:
        place = half * (1.0 / 0.0055)
        j = min(int(place), 4)
        share = place - j
        upper = UPPER_LIP[j] * (1.0 - share) + UPPER_LIP[j + 1] * share
        lower = LOWER_LIP[j] * (1.0 - share) + LOWER_LIP[j + 1] * share
        out = min(out, max(y - upper, lower - y) - 0.001)
        if y < 0.6615:
            # Hair is thin beside the tuft below the lower lip.
            out = min(out, max(max(abs(half - 0.013) - 0.008, 0.640 - y), -0.002))
    return out


@kernel
def stubble(x: float, y: float, z: float, beard: np.ndarray) -> float:
    """Share of the beard's colour on the skin at a place on the base head, 0 to 1; `beard` is pack_beard's."""
    if beard[0] <= 0.0:
        return 0.0
    soft = beard[2]
    return beard[0] * step(-0.3 * soft, 1.2 * soft, inside_beard(x, y, z, beard))


@cache
def _roots() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates for roots, once a process: triangle int32 [n], bary float32 [n, 3], place float32 [n, 3]."""
    head = load_head()
    middle = head.canonical[head.triangles].mean(1)
    inside = head.masks["inside-mouth"][head.triangles].max(1) > 0.3
    region = np.flatnonzero((head.part == 0) & (middle[:, 2] > 0.04) & (np.abs(middle[:, 1] - 0.655) < 0.07) & ~inside)
    triangle, bary = spread_evenly(head.canonical, head.triangles[region], CANDIDATES, seed=4)
    place = on_surface(head.canonical, head.triangles[region], triangle, bary)
    return region[triangle].astype(np.int32), bary, np.ascontiguousarray(place)


def grow_beard(head: Head, posed: np.ndarray, person: Person, fineness: float) -> Strands | None:
    """A beard or moustache longer than stubble, or None.

    posed     float32 [V, 3], the person's vertices with the expression: hair goes where jaw and lips go
    fineness  the picture's side over 128 pixels: larger pictures get more and thinner strands
    """
    beard = person.facial_hair
    if beard.style not in COUNTS or beard.length < STUBBLE:
        return None
    finer = float(np.clip(fineness, 0.5, 3.0)) ** 0.6
    triangle, bary, place = _roots()
    count = int(COUNTS[beard.style] * finer * (0.5 + 0.5 * beard.density))
    chosen = _choose(place, pack_beard(person), count)
    n = len(chosen)
    rng = np.random.Generator(np.random.Philox(key=[person.identity.texture, STRANDS_STREAM]))
    shift = on_surface(posed, head.triangles, triangle[chosen], bary[chosen]) - place[chosen]
    out = tuple(np.empty(shape, np.float32) for shape in ((n, POINTS, 3), (n, POINTS, 3), (n, POINTS), (n, POINTS)))
    chance = rng.random((n, 6), np.float32)
    wave = 0.0012 * person.hair.curl + 0.0004
    _grow(place[chosen], shift, chance, beard.length, wave, load_hull().distance, *out)
    return Strands(
        points=out[0],
        width=(WIDTH / finer * rng.uniform(0.7, 1.3, n)).astype(np.float32),
        color=colors(np.array(beard.color), 0.0, chosen % 200, rng),
        outward=out[1],
        depth=out[2],
        segment=SEGMENTS.index("mustache" if beard.style == "moustache" else "beard"),
        follows=out[3],
    )


@kernel
def _choose(places: np.ndarray, beard: np.ndarray, count: int) -> np.ndarray:
    chosen = np.empty(count, np.int64)
    n = 0
    for i in range(len(places)):
        inside = inside_beard(places[i, 0], places[i, 1], places[i, 2], beard)
        # Sparse towards the border.
        if inside > 0.008 * ((i * 0.6180339887) % 1.0) ** 2:
            chosen[n] = i
            n += 1
            if n == count:
                break
    return chosen[:n]


@kernel
def _grow(
    roots: np.ndarray,
    shift: np.ndarray,
    chance: np.ndarray,
    longest: float,
    wave: float,
    grid: np.ndarray,
    points: np.ndarray,
    outward: np.ndarray,
    depth: np.ndarray,
    follows: np.ndarray,
) -> None:
    k = points.shape[1]
    for i in range(len(roots)):
        x, y, z = roots[i, 0], roots[i, 1], roots[i, 2]
        own = chance[i]
        half = abs(x)
        lip = y > 0.6615 and half < 0.034
        # Short on the cheeks, longest at the chin; a moustache ends at the mouth.
        low = min(max((0.668 - y) * 40.0, 0.0), 1.0)
        length = longest * (0.35 + 0.65 * low * min(max((z - 0.06) * 25.0, 0.3), 1.0)) * (0.6 + 0.4 * own[0])
        if lip:
            length = min(longest, 0.016) * (0.6 + 0.4 * own[0])
        layer = own[1]
        side = 1.0 if x + 0.002 * (own[2] - 0.5) > 0.0 else -1.0
        if lip:
            cx, cy, cz = 0.75 * side, -0.75 - 12.0 * half, -0.1
        else:
            cx, cy, cz = 4.0 * x * (1.0 - low), -1.0, 0.35 * low - 0.35 * (1.0 - low)
        cx += 0.5 * (own[3] - 0.5)
        cz += 0.5 * (own[4] - 0.5)
        d, gx, gy, gz = distance(grid, x, y, z)
        dx, dy, dz = 0.9 * gx + 0.5 * cx, 0.9 * gy + 0.5 * cy, 0.9 * gz + 0.5 * cz
        start = 0.0003 - d
        x, y, z = x + start * gx, y + start * gy, z + start * gz
        angle, stopped = 6.2832 * own[5], False
        ds = length / (k - 1)
        for j in range(k):
            t = j / (k - 1)
            swing = wave * min(t * 3.0, 1.0)
            points[i, j, 0] = x + shift[i, 0] + swing * np.cos(angle + 700.0 * ds * j)
            points[i, j, 1] = y + shift[i, 1]
            points[i, j, 2] = z + shift[i, 2] + swing * np.sin(angle + 700.0 * ds * j) * 0.5
            outward[i, j, 0], outward[i, j, 1], outward[i, j, 2] = gx, gy, gz
            depth[i, j] = (0.35 + 0.65 * layer) * (0.65 + 0.35 * t)
            follows[i, j] = follow(y, z)
            if stopped:
                continue
            keep = np.exp(-ds / 0.006)
            dx = dx * keep + (cx + 0.25 * gx) * (1.0 - keep)
            dy = dy * keep + (cy + 0.25 * gy) * (1.0 - keep)
            dz = dz * keep + (cz + 0.25 * gz) * (1.0 - keep)
            scale = ds / np.sqrt(dx * dx + dy * dy + dz * dz + 1e-12)
            x, y, z = x + dx * scale, y + dy * scale, z + dz * scale
            d, gx, gy, gz = distance(grid, x, y, z)
            goal = min(0.001 + 0.5 * layer * length * min(t * 3.0, 1.0), 0.004 if lip else 0.03)
            if d < goal:
                x, y, z = x + (goal - d) * gx, y + (goal - d) * gy, z + (goal - d) * gz
            if lip and abs(x) < 0.024 and y < 0.667:
                stopped = True
