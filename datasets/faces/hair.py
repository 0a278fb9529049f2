"""Hair of the head: thousands of strands on a person's own scalp, combed as its style says.

Roots come from one table of candidates, spread evenly over the scalp of the base head; a person has those of them that
lie above its hairline (hairline.py). They are grown around the base head (strands.py) and carried to the person's.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from datasets.faces.comb import Comb
from datasets.faces.compiled import kernel
from datasets.faces.geometry import Strands
from datasets.faces.hairline import above_hairline, pack_hair
from datasets.faces.head import Head, load_head
from datasets.faces.hull import carry, load_hull, on_surface, spread_evenly
from datasets.faces.locks import Grown
from datasets.faces.person import Person
from datasets.faces.strands import CHANCES, grow_strands
from datasets.faces.styles import style_of
from datasets.faces.tied import tail_roots, wind_bun
from datasets.faces.wearer import Style
from datasets.segments import SEGMENTS

CANDIDATES = 16_000
LOCKS = 420
GREY = (0.52, 0.51, 0.49)  # linear RGB of a strand without pigment
SEGMENT = SEGMENTS.index("hair")


@dataclass(frozen=True)
class Roots:
    """Candidates in random order: triangle int32 [n], bary float32 [n, 3], place float32 [n, 3] on the base head, and
    lock int32 [n], the nearest of the locks' places lock_place float32 [LOCKS, 3]."""

    triangle: np.ndarray
    bary: np.ndarray
    place: np.ndarray
    lock: np.ndarray
    lock_place: np.ndarray


@cache
def scalp_roots() -> Roots:
    """Candidates for roots, uniform by area on all skin where anybody's hair grows; once a process."""
    head = load_head()
    middle = head.canonical[head.triangles].mean(1)
    side = (middle[:, 2] < 0.095) & (middle[:, 1] > 0.635) & (middle[:, 1] > 0.52 + 3 * middle[:, 2])
    skull = (middle[:, 1] > 0.775) | side
    ears = head.masks["ears"][head.triangles].max(1) > 0.2
    region = np.flatnonzero((head.part == 0) & skull & ~ears)
    triangle, bary = spread_evenly(head.canonical, head.triangles[region], CANDIDATES + LOCKS, seed=3)
    place = on_surface(head.canonical, head.triangles[region], triangle, bary)
    locks = place[CANDIDATES:]
    lock = _nearest(locks, place[:CANDIDATES])
    triangle = region[triangle[:CANDIDATES]].astype(np.int32)
    return Roots(
        triangle, bary[:CANDIDATES], np.ascontiguousarray(place[:CANDIDATES]), lock, np.ascontiguousarray(locks)
    )


def grow(head: Head, neutral: np.ndarray, person: Person, fineness: float) -> Strands | None:
    """The hair of a head, or None for a bald one.

    neutral   float32 [V, 3], Head.sculpt of the person
    fineness  the picture's side over 128 pixels: larger pictures get more and thinner strands
    Raises ValueError for an unknown style.
    """
    style = style_of(person)
    if style is None:
        return None
    hair = person.hair
    finer = float(np.clip(fineness, 0.5, 3.0)) ** 0.6
    table, hull = scalp_roots(), load_hull()
    count = int(0.5 * style.count * finer * (0.6 + 0.4 * hair.density))
    rng = np.random.Generator(np.random.Philox(key=[hair.seed, 8]))  # 9 is hairline.py's, 10 styles.py's
    chosen, edge = _choose(table.place, pack_hair(person), count)
    moved = hull.displacement(head, neutral)
    roots = table.place[chosen]
    skin = on_surface(neutral, head.triangles, table.triangle[chosen], table.bary[chosen])
    shift = skin - roots - _offsets(roots, moved)
    grown = _grown(roots, shift, edge, table.lock[chosen], table.lock_place, style.comb, style.points, moved, rng)
    parts, locks = [grown], [np.repeat(table.lock[chosen], 2)]
    if style.tail is not None:
        parts.append(_tail(style.tail, style, moved, int(350 * finer), rng))
    if style.bun > 0:
        parts.append(_bun(style, moved, int(520 * finer), rng))
    locks += [np.arange(len(part[0]), dtype=np.int32) % LOCKS for part in parts[1:]]
    points, outward, depth, follows = (np.concatenate([part[i] for part in parts]) for i in range(4))
    lock = np.concatenate(locks)
    width = style.width / finer * rng.uniform(0.7, 1.3, len(points))
    return Strands(
        points=points,
        width=width.astype(np.float32),
        color=colors(np.array(hair.color), hair.grey, lock, rng),
        outward=outward,
        depth=depth,
        segment=SEGMENT,
        follows=follows,
    )


def colors(base: np.ndarray, grey: float, lock: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear RGB of strands, float32 [n, 3]: lighter, darker, warmer, cooler and greyer ones, by lock and by strand."""
    tone = np.exp(rng.normal(0, 0.16, lock.max() + 1)[lock] + rng.normal(0, 0.14, len(lock)))
    warm = rng.normal(0, 0.05, lock.max() + 1)[lock]
    out = base * tone[:, None] * (1 + warm[:, None] * [1.0, 0.0, -1.0])
    # A strand stands for many hairs: it is mixed of pigmented and white ones, unevenly from lock to lock.
    uneven = 0.45 * min(grey, 1 - grey) * (rng.normal(0, 1, lock.max() + 1)[lock] + rng.normal(0, 1, len(lock)))
    white = np.clip(grey + uneven, 0, 1)[:, None]
    out = out * (1 - white) + np.array(GREY) * np.sqrt(tone)[:, None] * white
    return np.clip(out, 0.002, 0.9).astype(np.float32)


def mean_color(person: Person) -> np.ndarray:
    """Linear RGB float32 [3] of the hair as a whole, grey strands included: what `scalp` paints."""
    hair = person.hair
    return ((1 - hair.grey) * np.array(hair.color) + hair.grey * np.array(GREY)).astype(np.float32)


def _grown(
    roots: np.ndarray,
    shift: np.ndarray,
    edge: np.ndarray,
    lock: np.ndarray,
    lock_place: np.ndarray,
    comb: Comb,
    points: int,
    moved: np.ndarray,
    rng: np.random.Generator,
) -> Grown:
    n = 2 * len(roots)
    out = Grown(
        np.empty((n, points, 3), np.float32),
        np.empty((n, points, 3), np.float32),
        np.empty((n, points), np.float32),
        np.empty((n, points), np.float32),
    )
    chance = rng.random((len(roots), CHANCES), np.float32)
    lock_chance = rng.random((len(lock_place), CHANCES), np.float32)
    exact = Comb(*(float(value) for value in comb))
    grow_strands(roots, shift, edge, lock, lock_place, chance, lock_chance, exact, load_hull().distance, moved, out)
    return out


def _tail(tail: Comb, style: Style, moved: np.ndarray, count: int, rng: np.random.Generator) -> Grown:
    """A ponytail, from its tie on."""
    roots = tail_roots(style.comb, count, rng)
    lock_place = roots[:40].copy()
    lock = _nearest(lock_place, roots)
    edge = np.full(count, 0.1, np.float32)
    return _grown(roots, np.zeros_like(roots), edge, lock, lock_place, tail, style.points, moved, rng)


def _bun(style: Style, moved: np.ndarray, count: int, rng: np.random.Generator) -> Grown:
    """A bun on the person's head."""
    points, outward, depth = wind_bun(style, count, rng)
    flat = points.reshape(-1, 3)
    carried = (flat + _offsets(flat, moved)).reshape(points.shape)
    return Grown(carried, outward, depth, np.ones(depth.shape, np.float32))


def _nearest(places: np.ndarray, points: np.ndarray) -> np.ndarray:
    """int32 [n], of points [n, 3] the nearest places."""
    return np.asarray(cKDTree(places).query(points)[1], np.int32)


@kernel
def _offsets(places: np.ndarray, moved: np.ndarray) -> np.ndarray:
    out = np.empty_like(places)
    for i in range(len(places)):
        out[i, 0], out[i, 1], out[i, 2] = carry(moved, places[i, 0], places[i, 1], places[i, 2])
    return out


@kernel
def _choose(places: np.ndarray, hair: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` places inside the hairline, int64 [n], and their heights above it, float32 [n]."""
    chosen = np.empty(count, np.int64)
    edge = np.empty(count, np.float32)
    n = 0
    for i in range(len(places)):
        above = above_hairline(places[i, 0], places[i, 1], places[i, 2], hair)
        # Sparse at the very edge, by the candidate's own number.
        if above > 0.006 * ((i * 0.6180339887) % 1.0):
            chosen[n] = i
            edge[n] = above
            n += 1
            if n == count:
                break
    return chosen[:n], edge[:n]
