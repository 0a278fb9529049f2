"""Colour and light: what each canonical position looks like.

Albedos are linear RGB (the square of the sRGB values that `person` holds: a gamma of 2 is near enough and cheap);
`light` adds a wrapped Lambert term, a hemispherical ambient term dimmed in hollows, and a highlight.
"""

import cv2
import numpy as np

from datasets.faces import features, noise
from datasets.faces.features import bump, smooth
from datasets.faces.person import Light, Person


def _mix(base: np.ndarray, color: np.ndarray | tuple[float, ...], amount: np.ndarray) -> np.ndarray:
    paint = np.asarray(color, np.float32)
    return base + ((paint[:, None] if paint.ndim == 1 else paint) - base) * amount


def linear(color: tuple[float, float, float]) -> np.ndarray:
    """sRGB 0..1 to linear, float32 [3]."""
    return np.square(np.asarray(color, np.float32))


def face(canonical: np.ndarray, person: Person, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Albedo [3, n] and glossiness [n] of the bare head; `edge` softens outlines by so many canonical units."""
    x, y, z = canonical
    front = smooth(0.0, 0.2, z)
    ax = np.abs(x)
    end = person.nose_end
    skin = linear(person.skin)
    dark = linear(person.hair.color) * 0.5 + 0.004

    def inside(field: np.ndarray) -> np.ndarray:
        return np.clip(field * (1.0 / edge) + 0.5, 0.0, 1.0) * front

    albedo = np.repeat(skin[:, None], len(x), axis=1)
    flush = bump(ax, y, 0.52, 0.22, 0.18, 0.15) + 0.7 * bump(x, y, 0.0, end - 0.08, 0.12, 0.08)
    flush = flush + 0.6 * smooth(0.93, 1.05, ax)
    albedo *= 1.0 + (person.blush * 1.6) * (flush * front) * np.array([[0.5], [-1.0], [-0.8]], np.float32)
    if person.mottle > 0.0:
        pores = noise.sample("grain", x * 0.45 + 0.2, y * 0.6) * 0.6 + noise.sample("spots", x * 0.5, y * 0.7)
        albedo *= np.maximum(1.0 + person.mottle * pores, 0.3)
    if person.beard > 0.0:
        chops = smooth(0.30, 0.52, y + 0.35 * smooth(0.45, 0.85, ax)) - 0.9 * bump(x, y, 0.0, 0.3, 0.6, 0.08)
        hide = bump(ax, y, 0.48, 0.33, 0.16, 0.15) + 0.5 * bump(
            x, y, 0.0, person.mouth_y, 0.9 * person.mouth_width, 0.05
        )
        whisker = 0.85 + 0.15 * noise.sample("grain", x * 0.8, y * 0.8)
        albedo = _mix(albedo, dark, np.clip(chops - hide, 0, 1) * np.clip(whisker, 0, 1) * person.beard)
    albedo = _mix(albedo, dark, inside(features.brow(x, y, person)) * person.brow_dark)
    shell = np.exp(-(((y - 0.02) * 7.0) ** 2) - ((z + 0.05) * 14.0) ** 2) * smooth(0.9, 0.97, ax)
    albedo = albedo * (1.0 - 0.6 * shell)
    nostril = bump(ax, y, 0.095, end + 0.0, 0.042, 0.018)
    albedo = _mix(albedo, skin * 0.12, np.minimum(nostril * 1.2, 1.0) * front * 0.85)
    gloss = person.gloss * (1.0 - 0.7 * person.beard * smooth(0.35, 0.5, y))

    upper, inner, lower = features.mouth(x, y, person)
    lip = linear(person.lip_color)
    lips = np.maximum(inside(upper), inside(lower))
    albedo = _mix(albedo, lip, lips * 0.92)
    gloss = gloss + 0.15 * lips
    opened = inside(inner) if person.gap > 0 else inside(inner) * 0.0
    # Teeth hang from the upper lip; what is below them is the tongue's dark red.
    tooth = smooth(0.0, 0.02, inner) * (
        1.0 - smooth(0.55, 0.75, (y - features.mouth_line(x, person)) * (1.0 / max(person.gap, 0.06)))
    )
    dim = np.clip(1.0 - (x / person.mouth_width) ** 2, 0.25, 1.0)
    cavity = _mix(np.array([[0.05], [0.012], [0.012]], np.float32), (0.72, 0.67, 0.60), tooth * dim)
    albedo = albedo + (cavity - albedo) * opened
    if person.gap == 0.0:  # the line where closed lips meet
        seam = np.exp(-((np.minimum(np.abs(upper), np.abs(lower)) * 60.0) ** 2)) * np.minimum(
            inside(upper + 0.02), inside(lower + 0.02)
        )
        albedo *= 1.0 - 0.6 * seam

    for side in features.EYE_SIDES:
        _eye(albedo, x, y, front, person, side, edge)
    return albedo, gloss * front


def _eye(
    albedo: np.ndarray, x: np.ndarray, y: np.ndarray, front: np.ndarray, person: Person, side: float, edge: float
) -> None:
    """Paint one eye with its lashes and lid onto the albedo, in place."""
    near = np.flatnonzero((np.abs(x * side - person.eye_x) < 0.3) & (np.abs(y - person.eye_y) < 0.2) & (front > 0))
    x, y, front, patch = x[near], y[near], front[near], albedo[:, near]
    field, above = features.eye(x, y, person, side)
    inside = np.clip(field * (1.0 / edge) + 0.5, 0.0, 1.0) * front
    span = np.clip(1.0 - ((x * side - person.eye_x) / (person.eye_width * 1.1)) ** 2, 0.0, 1.0)
    soft = max(edge, 0.012)
    crease = np.exp(-(((above - 0.045) / (0.8 * soft + 0.006)) ** 2)) * span
    socket = bump(x * side, y, person.eye_x - 0.06, person.eye_y - 0.02, 0.16, 0.07)
    patch = patch * (1.0 - 0.35 * crease - 0.18 * socket)
    squeeze = person.axes[1] / person.axes[0]
    dx = x - side * (person.eye_x + 0.005) - person.gaze[0]
    dy = (y - person.eye_y + 0.012 - person.gaze[1]) * squeeze
    r = np.sqrt(dx * dx + dy * dy)
    ball = np.repeat(np.array([[0.62], [0.58], [0.55]], np.float32), len(x), axis=1)
    ball = _mix(ball, linear(person.iris) * (0.6 + 3.0 * person.gloss), np.clip((0.082 - r) / soft + 0.5, 0, 1))
    ball = _mix(ball, (0.006, 0.005, 0.005), np.clip((0.036 - r) / soft + 0.5, 0, 1))
    ball *= 0.45 + 0.55 * smooth(0.0, 0.05, -above)  # the lid's shade
    glint = np.clip((0.018 - np.hypot(dx + 0.025, dy + 0.03)) / soft + 0.5, 0, 1)
    ball = _mix(ball, (1.0, 1.0, 1.0), glint * 0.8)
    patch = patch + (ball - patch) * inside
    lash = np.exp(-(((above - 0.004) / (0.5 * soft + 0.006)) ** 2)) * np.sqrt(span) * (np.abs(field) < 0.06)
    albedo[:, near] = _mix(patch, (0.01, 0.008, 0.008), lash * front * 0.75)


def light(
    albedo: np.ndarray, normal: np.ndarray, gloss: np.ndarray, occlusion: np.ndarray, shadow: np.ndarray, lamp: Light
) -> np.ndarray:
    """Radiance, linear [3, n], of a diffuse surface with a highlight. `shadow` is 1 where the key light arrives."""
    toward = np.asarray(lamp.direction, np.float32)
    facing = toward @ normal
    diffuse = np.maximum((facing + 0.15) * (1.0 / 1.15), 0.0) * shadow
    half = toward + np.array([0.0, 0.0, 1.0], np.float32)
    half /= np.linalg.norm(half)
    shine = gloss * shadow * np.maximum(half @ normal, 0.0) ** 24
    sky = occlusion * (0.8 - 0.25 * normal[1])
    key, ambient = (np.array(v, np.float32)[:, None] for v in (lamp.key, lamp.ambient))
    return albedo * (sky * ambient + diffuse * key) + shine * key


def tresses(
    strand: np.ndarray, normal: np.ndarray, turn: np.ndarray, occlusion: np.ndarray, shadow: np.ndarray, person: Person
) -> np.ndarray:
    """Radiance of hair, linear [3, n]: strands run down the surface and shine across (Kajiya and Kay, 1989)."""
    lamp = person.light
    toward = np.asarray(lamp.direction, np.float32)
    down = turn @ np.array([0.0, 1.0, 0.0], np.float32)
    along = down[:, None] - normal * (down @ normal)
    along *= 1.0 / np.sqrt((along * along).sum(0) + 1e-6)
    half = toward + np.array([0.0, 0.0, 1.0], np.float32)
    half /= np.linalg.norm(half)
    tilt = half @ along + 0.10 * strand
    shine = np.maximum(1.0 - tilt * tilt, 0.0) ** 20
    facing = np.maximum((toward @ normal + 0.35) * (1.0 / 1.35), 0.0) * shadow
    tone = linear(person.hair.color)[:, None]
    base = tone * np.clip(1.0 + 0.36 * strand, 0.2, 2.0)
    key, ambient = (np.array(v, np.float32)[:, None] for v in (lamp.key, lamp.ambient))
    sky = occlusion * (0.8 - 0.25 * normal[1])
    gleam = shine * facing * (0.25 + 0.75 * np.clip(0.5 + 0.5 * strand, 0, 1)) * (1.0 - 0.6 * person.hair.curl)
    glow = 0.35 * np.sqrt(tone * tone.mean()) + 0.015
    return base * (sky * ambient + facing * key) + gleam * key * glow


def cast_shadow(depth: np.ndarray, lamp: Light, size: int) -> np.ndarray:
    """How much of the key light reaches each pixel, 1 - shadow .. 1, by walking the depth map towards the lamp."""
    lx, ly, lz = lamp.direction
    blocked = np.zeros(depth.shape, np.float32)
    for reach in (0.02, 0.04, 0.06, 0.085, 0.11, 0.15, 0.19, 0.24, 0.3):
        dx, dy = round(lx * reach * size), round(ly * reach * size)
        if dx == 0 and dy == 0:
            continue
        move = np.array([[1.0, 0.0, -dx], [0.0, 1.0, -dy]], np.float32)
        ahead = cv2.warpAffine(depth, move, depth.shape[::-1], flags=cv2.INTER_NEAREST, borderValue=-9.0)
        rise = ahead - depth - (lz * reach + 0.004)
        np.maximum(blocked, np.clip(rise * 60.0, 0.0, 1.0), out=blocked)
    soft = cv2.GaussianBlur(blocked, (0, 0), 0.006 * size + 0.3)
    return 1.0 - lamp.shadow * soft
