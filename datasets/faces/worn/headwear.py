"""The meshes of hats, in the shape and place that hats.py gives them."""

import numpy as np

from datasets.faces.geometry import Mesh
from datasets.faces.person import Person
from datasets.faces.worn.hats import Hat, direction
from datasets.faces.worn.surfaces import dome, joined, mesh, sheet, unit

COLUMNS = 48
THICKNESS = 0.0022  # metres, of the cloth


def make_hat(hat: Hat, person: Person) -> list[Mesh]:
    """The meshes of a hat that sits as `fit_hat` says; about 1,000 to 1,900 triangles."""
    rng = np.random.Generator(np.random.Philox(key=[person.accessories.seed, 2]))
    return {"beanie": _beanie, "cap": _cap, "brim": _brim}[person.accessories.hat](hat, person, rng)


def _turns() -> np.ndarray:
    return np.arange(COLUMNS) * (2 * np.pi / COLUMNS)


def _shell(
    hat: Hat, shares: np.ndarray, extra: np.ndarray, cloth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The crown with its turned-in edge: vertices, triangles, color, and the polar share of each vertex.

    shares  [rows] of the way from the top (0) to the rim (1), the topmost ring first
    extra   [rows] metres outside the cloth's radius
    cloth   [rows, COLUMNS, 3] color
    """
    azimuth = _turns()
    rim = hat.rim_angles(azimuth)
    polar = shares[:, None] * rim[None]
    rings = hat.point(direction(polar, np.broadcast_to(azimuth, polar.shape)), extra[:, None])
    inside = [hat.point(direction(rim * share, azimuth), -THICKNESS) for share in (1.0, 0.88)]
    rings = np.concatenate([rings, inside])
    color = np.concatenate([cloth, np.broadcast_to(0.5 * cloth[-1:], (2, COLUMNS, 3))])
    summit = hat.point(np.array([[0.0, 1.0, 0.0]]), float(extra[0]))[0]
    vertices, triangles = dome(rings, summit)
    color = np.concatenate([color.reshape(-1, 3), cloth[0].mean(0)[None]])
    return vertices, triangles, color, np.concatenate([shares, [1.0, 0.88]])


def _beanie(hat: Hat, person: Person, rng: np.random.Generator) -> list[Mesh]:
    base = np.array(person.accessories.hat_color)
    cuff = rng.random() < 0.6
    edge = float(rng.uniform(0.62, 0.72))
    if cuff:
        shares = np.array([0.06, 0.16, 0.27, 0.38, 0.49, 0.58, edge - 0.02, edge, edge + 0.03, 0.8, 0.9, 0.97, 1.0])
        extra = np.where(shares < edge, 0.0, np.where(shares > 0.99, 0.001, 0.0045))
        extra[7] = 0.002
    else:
        shares = np.array([0.06, 0.16, 0.27, 0.38, 0.49, 0.58, 0.66, 0.74, 0.82, 0.89, 0.95, 0.99, 1.0])
        extra = np.where(shares > 0.995, 0.0, 0.0012)
    ribs = 1.0 - 0.22 * (np.arange(COLUMNS) % 2)
    rows = 1.0 - 0.10 * rng.random((len(shares), 1))
    cloth = base * (ribs * rows)[..., None]
    if rng.random() < 0.3:
        band = (shares > 0.40) & (shares < 0.55)
        cloth[band] = (0.75 - 0.6 * base) * (ribs * rows[band])[..., None]
    vertices, triangles, color, _ = _shell(hat, shares, extra, cloth)
    # The ribs stand out a little, and the knitting is uneven.
    grain = np.append(np.tile(0.0007 * (np.arange(COLUMNS) % 2 == 0), len(shares) + 2), 0.0)
    grain = grain + 0.0005 * rng.random(len(grain))
    vertices = vertices + grain[:, None] * unit(vertices - hat.skull.center)
    parts = [mesh(vertices, triangles, color, "headwear", gloss=0.0)]
    if rng.random() < 0.25:
        ball = _ball(vertices[-1] + np.array([0, 0.014, 0]), 0.022, rng)
        parts.append(mesh(*ball, base * 0.9 + 0.08, "headwear", gloss=0.0))
    return parts


def _cap(hat: Hat, person: Person, rng: np.random.Generator) -> list[Mesh]:
    base = np.array(person.accessories.hat_color)
    shares = np.array([0.07, 0.18, 0.30, 0.43, 0.56, 0.68, 0.80, 0.90, 0.97, 1.0])
    azimuth = _turns()
    backwards = rng.random() < 0.15
    forward = np.pi if backwards else 0.0
    cloth = np.broadcast_to(base, (len(shares), COLUMNS, 3)).copy()
    seam = np.abs((azimuth / (np.pi / 3)) % 1 - 0.5) > 0.46
    cloth[:, seam] *= 0.72
    cloth[shares > 0.95] *= 0.85
    ahead = np.abs((azimuth - forward + np.pi) % (2 * np.pi) - np.pi)
    if rng.random() < 0.6:  # a badge on the front panel
        badge = (ahead[None] / 0.30) ** 2 + ((shares[:, None] - 0.68) / 0.17) ** 2
        tint = 0.85 * rng.random(3) if rng.random() < 0.5 else 0.8 - 0.7 * base
        cloth += np.clip(1.5 - 1.5 * badge, 0, 1)[..., None] * (tint - cloth)
    vertices, triangles, color, _ = _shell(hat, shares, np.zeros(len(shares)), cloth)
    button = _ball(vertices[-1], 0.0065, None, flat=0.5)
    parts = [
        mesh(vertices, triangles, color, "headwear", gloss=0.05),
        mesh(*button, 0.8 * base, "headwear", gloss=0.05),
    ]
    # The visor: a tongue from the rim, straight ahead and a little down, bent to the sides.
    half, length, drop, bend = 1.12, *rng.uniform((0.058, 0.12, 1.5), (0.074, 0.34, 3.5))
    turn = np.linspace(-half, half, 23)
    out = np.linspace(0.0, 1.0, 6)
    root = hat.point(direction(hat.rim_angles(turn + forward) - 0.02, turn + forward), -0.001)
    reach = length * np.sqrt(np.maximum(1 - (turn / half) ** 2, 0.0)) + 0.002
    ahead_x, ahead_z = np.sin(forward), np.cos(forward)
    upper = root[None] + (out[:, None] * reach[None])[..., None] * np.array([ahead_x, -np.sin(drop), ahead_z])
    across = (root[:, 0] - hat.skull.center[0])[None] * ahead_z
    upper[..., 1] += -bend * across**2 * out[:, None] + 0.006 * np.sqrt(out)[:, None]
    upper[..., 0] += ahead_z * 0.10 * across * out[:, None]
    visor = sheet(upper, upper - np.array([0, 0.0028, 0]))
    tone = np.full((len(visor[0]), 1), 0.92)
    tone[len(tone) // 2 :] = 0.6
    parts.append(mesh(visor[0], visor[1], base * tone, "headwear", gloss=0.08))
    return parts


def _brim(hat: Hat, person: Person, rng: np.random.Generator) -> list[Mesh]:
    base = np.array(person.accessories.hat_color)
    shares = np.array([0.16, 0.32, 0.43, 0.51, 0.60, 0.735, 0.76, 0.90, 1.0])
    extra = np.where(shares > 0.75, 0.0012, 0.0)
    weave = 1.0 - float(rng.uniform(0.03, 0.16)) * rng.random((len(shares), COLUMNS, 1))
    cloth = base * weave
    ribbon = np.clip(base * float(rng.choice([0.25, 0.4, 1.8])), 0.01, 0.8)
    if rng.random() < 0.8:
        cloth[shares > 0.75] = ribbon
    vertices, triangles, color, _ = _shell(hat, shares, extra, cloth)
    azimuth = _turns()
    polar = hat.rim_angles(azimuth)
    root = hat.point(direction(polar, azimuth), -0.001)
    width, curl, dip = rng.uniform((0.042, -0.10, 0.0), (0.078, 0.45, 0.25))
    out = np.linspace(0.0, 1.0, 4)
    away = direction(np.full(COLUMNS, np.pi / 2), azimuth)
    upper = root[None] + (width * out)[:, None, None] * away[None]
    upper[..., 1] += width * (out**2)[:, None] * (-curl * np.cos(2 * azimuth) - dip)[None]
    plate = sheet(upper, upper - np.array([0, THICKNESS, 0]), closed=True)
    tone = np.tile((1.0 - 0.12 * rng.random(4 * COLUMNS))[:, None], (2, 1))
    tone[len(tone) // 2 :] *= 0.7
    everything = joined([(vertices, triangles), plate])
    return [mesh(*everything, np.concatenate([color, base * tone]), "headwear", gloss=0.03)]


def _ball(
    center: np.ndarray, radius: float, rng: np.random.Generator | None, flat: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    polar = np.linspace(0.25, np.pi - 0.25, 6)[:, None]
    units = direction(np.broadcast_to(polar, (6, 12)), np.broadcast_to(np.arange(12) * (np.pi / 6), (6, 12)))
    size = radius * (1.0 if rng is None else rng.uniform(0.88, 1.1, (6, 12, 1)))
    vertices, triangles = dome(center + size * units * np.array([1, flat, 1]), center + np.array([0, radius * flat, 0]))
    return vertices, triangles
