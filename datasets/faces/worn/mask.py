"""Face masks, surgical and of cloth: a membrane stretched over the lower face as it is posed.

The face is seen as a radius in each direction from a point inside the mouth. On a grid of azimuth and elevation the
greatest radius of the vertices around a node is an obstacle, and the cloth the smoothest surface that stays outside it
(a discrete obstacle problem, solved by projected relaxation), so that no nostril or lip shows through, whatever the
mouth does.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.geometry import Mesh
from datasets.faces.head import Head, load_head
from datasets.faces.person import Person
from datasets.faces.worn.surfaces import joined, mesh, sheet, smooth_path, tube, unit

NODES = (27, 29)  # of the membrane: elevation, azimuth
ROWS, COLUMNS = 19, 27  # of the cloth
REACH = 1.30  # radians of azimuth to either side that the membrane covers
RELAXATIONS = 60
AHEAD = 0.03  # metres before the cloth to which hair there is cut
GAP = 0.0022  # metres, skin to cloth


@dataclass(frozen=True)
class Membrane:
    """A radius about a center [3] on a regular grid: radii float64 [NODES] from elevation `low` to `high` (radians) and
    azimuth -REACH to REACH."""

    center: np.ndarray
    low: float
    high: float
    radii: np.ndarray

    def points(self, azimuth: np.ndarray, elevation: np.ndarray, extra: float | np.ndarray = 0.0) -> np.ndarray:
        """Points [..., 3] on the cloth, `extra` metres outside."""
        reach = (self.radius(azimuth, elevation) + extra)[..., None]
        flat = np.cos(elevation)
        return self.center + reach * np.stack([flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth)], -1)

    def radius(self, azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
        """Metres [...], bilinear."""
        rows, columns = self.radii.shape
        v = np.clip((elevation - self.low) / (self.high - self.low), 0, 1) * (rows - 1)
        u = np.clip((azimuth + REACH) / (2 * REACH), 0, 1) * (columns - 1)
        i, j = np.minimum(v.astype(int), rows - 2), np.minimum(u.astype(int), columns - 2)
        v, u = v - i, u - j
        low = self.radii[i, j] * (1 - u) + self.radii[i, j + 1] * u
        high = self.radii[i + 1, j] * (1 - u) + self.radii[i + 1, j + 1] * u
        return low * (1 - v) + high * v


@dataclass(frozen=True)
class Fit:
    """How a mask lies on one face: a membrane, and elevations of the upper and lower edge at azimuths [COLUMNS]."""

    membrane: Membrane
    azimuth: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    def covers(self, points: np.ndarray) -> np.ndarray:
        """Whether points [n, 3] in head space lie behind the mask (or in it, or up to 3 cm before it): bool [n]."""
        m = self.membrane
        return _behind(points, m.center, m.radii, m.low, m.high, float(self.azimuth[-1]), self.upper, self.lower)


def fit_mask(head: Head, posed: np.ndarray, person: Person) -> Fit | None:
    """Where the person's mask lies on the face as posed; None where none is. Raises ValueError for another kind."""
    worn = person.accessories
    if worn.mask == "none":
        return None
    if worn.mask not in ("surgical", "cloth"):
        raise ValueError(f"accessories.mask must be none, surgical or cloth, but got {worn.mask!r}")
    rng = np.random.Generator(np.random.Philox(key=[worn.seed, 4]))
    mark = posed[head.landmarks].astype(np.float64)
    sides, chin, bridge = mark[[3, 13]], mark[8], mark[28]
    center = np.array([(sides[0, 0] + sides[1, 0]) / 2, (mark[33, 1] + mark[51, 1]) / 2, sides[:, 2].mean() - 0.022])

    def elevation(point: np.ndarray) -> float:
        offset = point - center
        return float(np.arctan2(offset[1], np.hypot(offset[0], offset[2])))

    high = elevation(bridge + np.array([0, 0.018, 0.0]))
    low = elevation(chin + np.array([0, -0.012, -0.034]))
    membrane = _stretch(posed[_face()], center, low, high)
    # The upper edge: over the bridge of the nose, below the lower lids, to the cheek before the ear.
    half = 1.17 if worn.mask == "surgical" else 1.22
    azimuth = np.linspace(-half, half, COLUMNS)
    lids = float(posed[head.landmarks[[40, 41, 46, 47]], 1].min())
    nose_y = min(float(mark[28, 1]) + float(rng.uniform(-0.005, 0.002)), lids - 0.002)
    cheek_y = min(float(mark[[2, 14], 1].mean()) + 0.002, lids - 0.012)
    away = np.clip(np.abs(azimuth) / half, 0, 1)
    upper_y = cheek_y + (nose_y - cheek_y) * np.exp(-((away / 0.30) ** 2))
    under = chin + np.array([0, -0.006, -0.020])
    jaw_y = float(mark[[4, 12], 1].mean()) + (0.006 if worn.mask == "surgical" else 0.0)
    lower = np.interp(away, [0, 0.35, 0.75, 1.0], [0, 0.10, 0.72, 1.0])
    lower_low, lower_side = elevation(under), elevation(np.array([sides[1, 0], jaw_y, sides[1, 2]]))
    lower = lower_low + (lower_side - lower_low) * lower
    upper = np.full(COLUMNS, 0.2)
    for _ in range(4):
        reach = membrane.radius(azimuth, upper)
        upper = np.arcsin(np.clip((upper_y - center[1]) / reach, -0.9, 0.9))
    return Fit(membrane, azimuth, upper, lower)


def make_mask(neutral: np.ndarray, fit: Fit, person: Person) -> list[Mesh]:
    """The meshes of a mask that lies as `fit_mask` says: cloth and ear loops, about 2,500 triangles."""
    worn = person.accessories
    rng = np.random.Generator(np.random.Philox(key=[worn.seed, 5]))
    base = np.array(worn.mask_color)
    down = np.linspace(0, 1, ROWS)[:, None]
    elevation = fit.upper + down * (fit.lower - fit.upper)
    azimuth = np.broadcast_to(fit.azimuth, elevation.shape)
    middle = np.cos(np.clip(fit.azimuth / fit.azimuth[-1], -1, 1) * np.pi / 2)[None]
    color = np.broadcast_to(base, (ROWS, COLUMNS, 3)).copy()
    extra = np.zeros((ROWS, COLUMNS))
    inner = (down > 0.02) & (down < 0.98)
    if worn.mask == "surgical":
        for fold in (0.30, 0.47, 0.64):  # pleats: each hangs over the next one
            step = np.clip((down - fold + 0.10) / 0.10, 0, 1) * (down <= fold)
            extra += 0.0030 * step * middle**0.3
            color *= (1 - 0.22 * ((down > fold) & (down < fold + 0.07)))[..., None]
        color[[0, -1]] = color[[0, -1]] * 0.6 + 0.35  # the bound edges
        color[1] *= 0.93
    else:
        seam = np.abs(fit.azimuth) < 0.03
        extra += 0.004 * middle**3 * inner * float(rng.uniform(0, 1))
        color[:, seam] *= 0.75
        color[[0, 1, -1]] *= 0.82
        if rng.random() < 0.3:
            color *= 1 - 0.35 * (rng.random((ROWS, COLUMNS, 1)) < 0.3)
    # It sits loose at the sides and is soft.
    wave = np.sin(azimuth * float(rng.uniform(4, 9)) + float(rng.uniform(0, 6)) + 5 * down)
    extra += 0.0008 * wave * inner
    upper = fit.membrane.points(azimuth, elevation, GAP + np.maximum(extra, 0.0))
    lower = fit.membrane.points(azimuth, elevation, GAP - 0.0012)
    vertices, triangles = sheet(upper, lower)
    cloth = mesh(vertices, triangles, np.tile(color.reshape(-1, 3), (2, 1)), "mask", gloss=0.04)
    loops = [
        _loop(neutral, upper[[1, -2], edge], sign, side) for side, (edge, sign) in enumerate(((0, -1.0), (-1, 1.0)))
    ]
    return [cloth, mesh(*joined(loops), base * 0.3 + 0.55 if worn.mask == "surgical" else base, "mask", gloss=0.02)]


def _loop(neutral: np.ndarray, ends: np.ndarray, sign: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An elastic band from both corners of a mask around the back of an ear."""
    over, behind, low = neutral[_behind_ears()[side]]
    out = np.array([sign * 0.0022, 0.0, 0.0])
    first, last = ends
    leave, arrive = (first + over) / 2 + 2 * out, (last + low) / 2 + 2 * out
    knots = np.stack([first, leave, over + out, behind + out, low + out, arrive, last])
    path = smooth_path(knots, 22)
    tangent = unit(np.gradient(path, axis=0))
    sideways = unit(np.array([sign, 0.0, 0.0]) - tangent * (tangent[:, :1] * sign))
    return tube(path, sideways, np.cross(tangent, sideways), np.array([0.0009, 0.0013]), sides=5)


@cache
def _face() -> np.ndarray:
    """Vertices of the lower face's skin, without ears, eyes and the inside of the mouth."""
    head = load_head()
    x, y, z = head.canonical.T
    skin = np.zeros(len(y), bool)
    skin[head.triangles[head.part == 0]] = True
    front = (z > 0.045 + 0.15 * np.clip(0.69 - y, 0, 0.09)) & (y > 0.555) & (y < 0.752) & (head.masks["ears"] < 0.3)
    inside = (z < 0.105) & (np.abs(x) < 0.035) & (y > 0.635)
    return np.flatnonzero(skin & front & ~inside)


@cache
def _behind_ears() -> np.ndarray:
    """Vertices [2 sides, 3] where a band lies: over the ear where it is attached, behind it, below it."""
    head = load_head()
    spots = np.array([[0.0745, 0.7340, 0.052], [0.0700, 0.7080, 0.0330], [0.0640, 0.6830, 0.0470]])
    skin = np.unique(head.triangles[head.part == 0])
    skin = skin[head.masks["ears"][skin] < 0.3]
    near = [((head.canonical[skin][None] - (spots * [s, 1, 1])[:, None]) ** 2).sum(2).argmin(1) for s in (-1, 1)]
    return skin[np.array(near)]


def _stretch(points: np.ndarray, center: np.ndarray, low: float, high: float) -> Membrane:
    offset = points - center
    radii = np.sqrt((offset * offset).sum(1))
    azimuth = np.arctan2(offset[:, 0], offset[:, 2])
    elevation = np.arctan2(offset[:, 1], np.hypot(offset[:, 0], offset[:, 2]))
    rows, columns = NODES
    u = (azimuth + REACH) / (2 * REACH) * (columns - 1)
    v = (elevation - low) / (high - low) * (rows - 1)
    return Membrane(center, low, high, _relax(u, v, radii, rows, columns, RELAXATIONS))


@kernel
def _relax(u: np.ndarray, v: np.ndarray, radii: np.ndarray, rows: int, columns: int, steps: int) -> np.ndarray:
    obstacle = np.zeros((rows, columns))
    for n in range(len(u)):
        i, j = int(np.floor(v[n])), int(np.floor(u[n]))
        for a in range(i, i + 2):
            for b in range(j, j + 2):
                if 0 <= a < rows and 0 <= b < columns:
                    obstacle[a, b] = max(obstacle[a, b], radii[n])
    mean = radii.mean()
    out = np.where(obstacle > 0, obstacle, mean * 0.9)
    for _ in range(steps):
        for i in range(rows):
            for j in range(columns):
                total, weight = 0.0, 0.0
                if 0 < i < rows - 1:
                    total += out[i - 1, j] + out[i + 1, j]
                    weight += 2
                if 0 < j < columns - 1:
                    total += out[i, j - 1] + out[i, j + 1]
                    weight += 2
                if weight > 0:
                    out[i, j] = max(obstacle[i, j], total / weight)
    return out


@kernel
def _behind(
    points: np.ndarray,
    center: np.ndarray,
    radii: np.ndarray,
    low: float,
    high: float,
    half: float,
    upper: np.ndarray,
    lower: np.ndarray,
) -> np.ndarray:
    rows, columns = radii.shape
    farthest = (radii.max() + AHEAD) ** 2
    out = np.zeros(len(points), np.bool_)
    for n in range(len(points)):
        x, y, z = points[n, 0] - center[0], points[n, 1] - center[1], points[n, 2] - center[2]
        squared = x * x + y * y + z * z
        if z <= 0.0 or squared > farthest:
            continue
        azimuth, elevation = np.arctan2(x, z), np.arctan2(y, np.sqrt(x * x + z * z))
        if abs(azimuth) >= half:
            continue
        place = (azimuth + half) / (2 * half) * (len(upper) - 1)
        k = min(int(place), len(upper) - 2)
        share = place - k
        if elevation >= upper[k] + share * (upper[k + 1] - upper[k]):
            continue
        if elevation <= lower[k] + share * (lower[k + 1] - lower[k]):
            continue
        v = min(max((elevation - low) / (high - low), 0.0), 1.0) * (rows - 1)
        u = (azimuth + REACH) / (2 * REACH) * (columns - 1)
        i, j = min(int(v), rows - 2), min(int(u), columns - 2)
        v, u = v - i, u - j
        radius = (1 - v) * ((1 - u) * radii[i, j] + u * radii[i, j + 1])
        radius += v * ((1 - u) * radii[i + 1, j] + u * radii[i + 1, j + 1])
        out[n] = squared < (radius + AHEAD) ** 2
    return out
