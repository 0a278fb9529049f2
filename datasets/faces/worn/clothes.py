"""Clothes: a garment over the body below a neckline, with folds, a hem, a pattern, and a shirt's collar.

The surface is a cut of the body (cutting.py) pushed outward: at least by the cloth's distance from the skin, more where
folds, which radiate from the neck and the armpits, stand off. Nothing of the skin below the neckline shows.
"""

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.geometry import Mesh
from datasets.faces.head import Head
from datasets.faces.person import Clothes, Person
from datasets.faces.pose import follow_weights
from datasets.faces.worn.cutting import COLLAR, RING, Cut, cut_garment, neck_ring
from datasets.faces.worn.surfaces import mesh, sheet, unit

LEAST_SCALE = 0.026  # metres: a finer pattern than the garment's mesh carries is drawn at this scale
SOFT_EDGE = 0.0065  # metres from one colour to the other, about an edge of the mesh
PATTERNS = ("plain", "stripes", "checks", "heather")
BAND = {"crew": 0.019, "v_neck": 0.017, "collar": 0.004, "turtleneck": 0.030, "off": 0.014}  # metres, of the hem


def make_clothes(head: Head, posed: np.ndarray, person: Person) -> list[Mesh]:
    """A garment, about 4,500 to 11,900 triangles. posed float32 [V, 3].

    Raises ValueError for a neckline or a pattern that is not known.
    """
    worn = person.clothes
    if worn.pattern not in PATTERNS:
        raise ValueError(f"clothes.pattern must be one of {', '.join(PATTERNS)}, but got {worn.pattern!r}")
    rng = np.random.Generator(np.random.Philox(key=[worn.seed, 7]))
    deep = bool(rng.random() < 0.5)
    cut = cut_garment(worn.neckline, deep)
    band = BAND[worn.neckline]
    at_hem = np.clip(0.5 - (cut.below - band) / 0.008, 0, 1)
    folds = _folds(cut, rng)
    away = 0.0028 + np.minimum(0.05 * cut.below, 0.0032) + 0.0014 * at_hem + folds
    if worn.neckline == "turtleneck":
        away += 0.0030 * at_hem + 0.0007 * at_hem * np.sin(_azimuth(cut) * 40)
    skin, cloth = cut.body @ posed, cut.cloth @ posed
    vertices = _offset(skin, cloth, cut.triangles, away.astype(np.float32))
    color = _color(cut, worn, rng)
    shade = 0.93 if rng.random() < 0.6 else float(rng.uniform(0.5, 1.3))
    color *= (1 + (shade - 1) * at_hem)[:, None]
    color *= (1 - 0.12 * np.exp(-folds / 0.0012) * (cut.below > band))[:, None]
    parts = [_with_hem(cut, vertices, skin, np.clip(color, 0.0, 1.0))]
    if worn.neckline == "collar":
        parts.append(_collar(posed, head, worn, deep, rng))
    return parts


def _with_hem(cut: Cut, vertices: np.ndarray, skin: np.ndarray, color: np.ndarray) -> Mesh:
    """The garment, its upper edge turned in to the skin."""
    rim, number = np.unique(cut.hem, return_inverse=True)
    number = number.reshape(-1, 2) + len(vertices)
    a, b = cut.hem.T
    c, d = number.T
    strip = np.concatenate([np.stack([b, a, c], 1), np.stack([b, c, d], 1)])
    inner = skin[rim] + 0.1 * (vertices[rim] - skin[rim])
    return mesh(
        np.concatenate([vertices, inner]),
        np.concatenate([cut.triangles, strip]),
        np.concatenate([color, 0.55 * color[rim]]),
        "clothing",
        gloss=0.02,
        follows=np.concatenate([cut.follows, cut.follows[rim]]),
    )


def _azimuth(cut: Cut) -> np.ndarray:
    return np.arctan2(cut.canonical[:, 0], cut.canonical[:, 2] - 0.02)


def _folds(cut: Cut, rng: np.random.Generator) -> np.ndarray:
    """Metres by which folds stand off, float32 [n]: ridges of noise along lines from the neck and the armpits."""
    x, y, z = cut.canonical.T
    free = np.clip((cut.below - 0.025) / 0.08, 0, 1)
    out = np.zeros(len(x), np.float32)
    for _ in range(4):
        side = rng.choice([-1.0, 1.0])
        start = np.array([side * rng.uniform(0.02, 0.17), rng.uniform(0.42, 0.60), rng.uniform(-0.02, 0.1)])
        angle = np.arctan2(x - start[0], start[1] - y + 1e-6)
        wave = np.sin(angle * rng.uniform(5, 10) + 14 * z * rng.uniform(-1, 1) + rng.uniform(0, 6.3))
        distance = np.sqrt((x - start[0]) ** 2 + (y - start[1]) ** 2 + (z - start[2]) ** 2)
        out += rng.uniform(0.0015, 0.0045) * np.maximum(wave, 0) ** 2 * np.exp(-((distance / 0.16) ** 2)) * free
    soft = np.sin(x * rng.uniform(15, 30) + rng.uniform(0, 6)) * np.sin(y * rng.uniform(20, 35) + rng.uniform(0, 6))
    return out + (0.0022 * free * (1 + soft)).astype(np.float32)


def _color(cut: Cut, worn: Clothes, rng: np.random.Generator) -> np.ndarray:
    """Linear RGB [n, 3] of the cloth."""
    first, second = np.array(worn.color, np.float32), np.array(worn.second_color, np.float32)
    x, y, z = cut.canonical.T
    scale = max(worn.scale, LEAST_SCALE)
    gain = 0.5 / np.sin(min(np.pi / 2, np.pi * SOFT_EDGE / scale))
    # Down the body, and down the sleeves where they leave it.
    down = y - 0.55 * np.maximum(np.abs(x) - 0.17, 0) + 0.08 * np.abs(z)
    if worn.pattern == "plain":
        share = np.zeros(len(x))
    elif worn.pattern == "stripes":
        along = x if rng.random() < 0.3 else down
        share = np.clip(0.5 + gain * (np.sin(along * (2 * np.pi / scale)) - rng.uniform(-0.3, 0.5)), 0, 1)
    elif worn.pattern == "checks":
        bars = [np.clip(0.5 + gain * np.sin(a * (2 * np.pi / scale)), 0, 1) for a in (x, down)]
        share = (bars[0] + bars[1]) / 2
    else:
        share = 0.45 * rng.random(len(x)) ** 2
    return first + share[:, None] * (second - first)


def _collar(posed: np.ndarray, head: Head, worn: Clothes, is_open: bool, rng: np.random.Generator) -> Mesh:
    """A shirt's collar: a band up the neck, folded over into a leaf with two points in front."""
    index = np.arange(4 if is_open else 0, RING + (-3 if is_open else 1)) % RING
    left = np.where(np.arange(len(index)) < len(index) / 2, 1.0, -1.0)[:, None]
    rings = [neck_ring(*COLLAR), neck_ring(None, 0.612), neck_ring(COLLAR[0] + 0.034, COLLAR[1] - 0.026)]
    base, top, outer = ((ring @ posed)[index] for ring in rings)
    axis = np.array([base[:, 0].mean(), 0.0, base[:, 2].mean()])
    away = unit((base - axis) * [1, 0, 1])
    up = np.array([0.0, 1.0, 0.0])
    turn = np.minimum(index, RING - index) / (RING / 2)  # 0 in front .. 1 behind
    # In front the leaf ends in points, which hang lower; an open one lies wider.
    point = np.exp(-(((turn - turn.min()) / 0.13) ** 2))[:, None]
    spread, drop = rng.uniform((0.022, 0.004), (0.040, 0.020))
    tip = outer + point * (spread * left * [1, 0, 0] - drop * up)
    high = top if not is_open else top - (0.010 * point) * up + 0.006 * point * away
    rows = np.stack(
        [
            base + 0.0030 * away,
            high + 0.0045 * away,
            high + 0.0070 * away + 0.0015 * up,
            high + 0.0105 * away - 0.003 * up,
            0.5 * (high + tip) + 0.012 * away + 0.004 * up,
            tip + 0.004 * away + 0.0105 * up,
        ]
    )
    inward = np.array([-1, -1, 1, 1, 1, 1])[:, None, None]  # the band's face is to the neck, the leaf's is outside
    vertices, triangles = sheet(rows, rows - 0.0008 * inward * away)
    color = np.full((len(vertices), 1), 1.0) * np.array(worn.color)
    color[: len(index)] *= 0.7
    lift = np.stack([follow_weights(ring @ head.canonical)[index] for ring in rings])
    follows = np.stack([lift[0], lift[1], lift[1], lift[1], (lift[1] + lift[2]) / 2, lift[2]])
    return mesh(vertices, triangles, color, "clothing", gloss=0.03, follows=np.tile(follows.ravel(), 2))


@kernel
def _offset(skin: np.ndarray, cloth: np.ndarray, triangles: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Cloth moved along its normals until it is `away` [n] metres above the skin: float32 [n, 3]."""
    normals = np.zeros(cloth.shape, np.float64)
    for t in range(len(triangles)):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = cloth[j, 0] - cloth[i, 0], cloth[j, 1] - cloth[i, 1], cloth[j, 2] - cloth[i, 2]
        bx, by, bz = cloth[k, 0] - cloth[i, 0], cloth[k, 1] - cloth[i, 1], cloth[k, 2] - cloth[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    out = np.empty(cloth.shape, np.float32)
    for v in range(len(cloth)):
        nx, ny, nz = normals[v, 0], normals[v, 1], normals[v, 2]
        length = max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-20)
        nx, ny, nz = nx / length, ny / length, nz / length
        dx, dy, dz = cloth[v, 0] - skin[v, 0], cloth[v, 1] - skin[v, 1], cloth[v, 2] - skin[v, 2]
        push = max(away[v] - (dx * nx + dy * ny + dz * nz), 0.0)
        out[v, 0] = cloth[v, 0] + push * nx
        out[v, 1] = cloth[v, 1] + push * ny
        out[v, 2] = cloth[v, 2] + push * nz
    return out
