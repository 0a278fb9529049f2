"""The light that falls on a face: an environment, and one directional light that can cast a shadow.

`illuminate` turns the `Light` of a person into what a shading kernel needs, from a panorama or from a procedural
environment of the light's seed, and sets the exposure as a camera's meter would. The functions at the end are
compiled, to be called per pixel. Camera space throughout: x the picture's right, y up, z towards the camera.

A matte surface of albedo a and unit normal n sends to the camera, in the picture's linear RGB,

    a / pi * (occlusion * sh_irradiance(sh, n) + visible * key * max(0, n . direction)),

visible being 1 in the light and 1 - shadow in its shadow. The key is in neither `sh` nor `environment`: what is
glossy mirrors `environment`, and shows the key as a highlight of its own, a disc of half-angle `softness` and
radiance key / (pi sin^2 softness).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from datasets.faces.compiled import kernel
from datasets.faces.harmonics import directions, evaluate, project
from datasets.faces.panorama import light_of
from datasets.faces.person import Light
from datasets.panorama import LUMINANCE, Panoramas

ALBEDO = 0.35  # luminance of lightish skin, which the meter brings to
MID_TONE = 0.22  # this linear value at exposure 0 (0.51 in sRGB)
_FACE_SHARE = 0.75  # of the meter's reading; the rest is the surroundings, so that a backlit face stays darker
_BALANCE = 0.6  # share of the light's colour that an automatic white balance takes out
_FACE_NORMALS = np.array([[x, y, 1.0] for y in (-0.5, 0.1, 0.7) for x in (-1.1, 0, 1.1)])
_FACE_NORMALS /= np.linalg.norm(_FACE_NORMALS, axis=1, keepdims=True)
_Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Illumination:
    """All in the picture's exposure, arrays read-only."""

    sh: _Floats  # [9, 3] irradiance of the environment, `harmonics.project`
    direction: _Floats  # [3] unit, towards the key
    key: _Floats  # [3] linear RGB irradiance of a surface that faces it
    shadow: float  # 0 none .. 1 black
    softness: float  # degrees, half the key's angular size
    environment: _Floats  # [16, 32, 3] radiance: rows from +y to -y, centre column at -z, +x to its right
    gain: _Floats  # [3] takes a panorama's radiance to the picture's

    def surroundings(self) -> NDArray[np.float64]:
        """Linear RGB [3] irradiance averaged over all directions: what a thing behind the person gets."""
        average: NDArray[np.float64] = self.sh[0] * 0.282095 + self.key / 4
        return average


@lru_cache(maxsize=4)  # the face and its backdrop ask for the same
def illuminate(light: Light, panoramas: Panoramas | None) -> Illumination:
    """The light of `light`, exposed so that skin of albedo 0.35 turned to the camera comes out at a mid tone.

    The meter reads the luminance on the nine normals of a face, to the power 0.75, and that of the surroundings, to
    the power 0.25; then come `light.exposure` stops. The white balance takes 0.6 (as an exponent) of the colour of
    the light on the face out of all light, and leaves to `camera.white_balance` what is off on purpose. Of a panorama
    the key is its brightest place, and `light.direction`, `.key` and `.softness` are not used. A procedural
    environment has a mean irradiance of luminance 1 before `light.ambient`, so `light.key` is the key's strength
    relative to it. Raises ValueError if a panorama is named and no folder is given, if there is no light at all, or
    as `Panoramas.load` does.
    """
    if light.environment == "procedural":
        environment = procedural(light)
        sh, direction = project(environment), np.array(light.direction, np.float32)
        direction /= np.linalg.norm(direction)
        key, softness = np.array(light.key, np.float32), light.softness
    elif panoramas is None:
        raise ValueError(f"light from {light.environment!r} needs a folder of panoramas, but none is given: name one")
    else:
        of_panorama = light_of(panoramas.load(light.environment))
        environment, sh = of_panorama.environment(light.turn), of_panorama.irradiance(light.turn)
        direction, key, softness = of_panorama.key(light.turn)
    ambient = np.float32(light.ambient)
    around = float((sh[0] * 0.282095 * ambient + key / 4) @ LUMINANCE)
    facing = evaluate(sh * ambient, _FACE_NORMALS) + np.maximum(_FACE_NORMALS @ direction, 0)[:, None] * key
    face = float((facing @ LUMINANCE).mean())
    if not around > 0:
        raise ValueError(f"a light must give light, but ambient is {light.ambient} and the key is {tuple(key)}")
    metered = max(face, 0.02 * around) ** _FACE_SHARE * around ** (1 - _FACE_SHARE)
    color = np.maximum(facing.mean(0) / max(face, 1e-9), 0.1)
    balance = color**-_BALANCE / (color ** (1 - _BALANCE) @ LUMINANCE)
    gain = (balance * MID_TONE * np.pi / ALBEDO / metered * 2.0**light.exposure).astype(np.float32)
    lit = [sh * ambient * gain, direction, key * gain, environment * ambient * gain, ambient * gain]
    for part in lit:
        part.setflags(write=False)
    return Illumination(lit[0], lit[1], lit[2], light.shadow, float(softness), lit[3], lit[4])


def procedural(light: Light) -> _Floats:
    """A room, a studio, a sky or coloured lamps, from light.seed: radiance float32 [16, 32, 3] in camera space.

    What belongs to the place (windows, walls, horizon) turns with `light.turn`. What was put up for the picture (soft
    box, fill, rim) and the glow about the sun stay with `light.direction`, whose own light, the key, is not included.
    """
    rng = np.random.Generator(np.random.Philox(key=light.seed))
    kind = rng.choice(["studio", "room", "sky", "lamps"], p=[0.35, 0.3, 0.27, 0.08])
    paint = {"studio": _studio, "room": _room, "sky": _sky, "lamps": _lamps}[str(kind)]
    towards = np.array(light.direction) / np.linalg.norm(light.direction)
    environment = paint(rng, towards, light.turn)
    mean = np.pi * (environment.reshape(-1, 3) * _PIXELS[:, None]).sum(0) @ LUMINANCE
    return (environment / mean).astype(np.float32)


_VIEWS = directions(16, 32)
_HEIGHT = _VIEWS[..., 1]
_AROUND = np.degrees(np.arctan2(_VIEWS[..., 0], -_VIEWS[..., 2]))
_PIXELS = np.cos(np.arcsin(_HEIGHT)).ravel() / np.cos(np.arcsin(_HEIGHT)).sum()


def _step(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A soft step from 0 to 1 about 0; x in units of the edge's width."""
    return 1 / (1 + np.exp(-4 * np.clip(x, -8, 8)))


def _disc(centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """1 inside `radius` degrees of the unit vector `centre`, with an edge as soft as the pixels are coarse."""
    angle = np.degrees(np.arccos(np.clip(_VIEWS @ centre, -1, 1)))
    return _step((radius - angle) / max(8.0, 0.3 * radius))[..., None]


def _box(around: float, height: float, width: float, tall: float) -> NDArray[np.float64]:
    """1 inside a box of degrees about the longitude `around` and the latitude `height`."""
    across = 0.5 * width - np.abs((_AROUND - around + 180) % 360 - 180)
    along = 0.5 * tall - np.abs(np.degrees(np.arcsin(_HEIGHT)) - height)
    return (_step(across / 8) * _step(along / 8))[..., None]


def _white(rng: np.random.Generator, low: float, high: float) -> NDArray[np.float64]:
    """Linear RGB of luminance about 1 between warm (`low`) and cool (`high`), -1 to 1."""
    warmth = rng.uniform(low, high)
    return np.array([1 - 0.35 * warmth, 1.0, 1 + 0.55 * warmth])


def _layers(ground: NDArray[np.float64], middle: NDArray[np.float64], top: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours of straight down, the horizon and straight up, blended by height."""
    above = np.clip(_HEIGHT, 0, 1)[..., None] ** 0.6
    return np.where(_HEIGHT[..., None] > 0, middle + above * (top - middle), 0) + np.where(
        _HEIGHT[..., None] <= 0, middle + _step((-_HEIGHT[..., None] - 0.1) / 0.3) * (ground - middle), 0
    )


def _studio(rng: np.random.Generator, towards: NDArray[np.float64], _turn: float) -> NDArray[np.float64]:
    grey = rng.uniform(0.05, 0.5)
    image = _layers(grey * np.array([0.8, 0.75, 0.7]), np.full(3, grey), np.full(3, grey * 1.2))
    tint = _white(rng, -0.25, 0.25)
    image = image + rng.uniform(3, 9) * _disc(towards, rng.uniform(14, 34)) * tint
    fill = towards * [-1, 0.4, 1] + np.array([0, 0.1, 0.3])
    image = image + rng.uniform(0.2, 1.6) * _disc(fill / np.linalg.norm(fill), rng.uniform(30, 50)) * tint
    if rng.random() < 0.6:
        side = rng.choice([-1, 1])
        rim = np.array([side * rng.uniform(0.6, 1), rng.uniform(0.2, 0.8), -rng.uniform(0.3, 0.9)])
        image = image + rng.uniform(2, 12) * _disc(rim / np.linalg.norm(rim), rng.uniform(8, 18)) * _white(rng, -0.6, 1)
    return image


def _room(rng: np.random.Generator, _towards: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    walls = rng.uniform(0.25, 0.6) * (1 + rng.uniform(-0.25, 0.25, 3) * rng.uniform(0, 1))
    floor = rng.uniform(0.08, 0.3) * np.array([1, 0.8, 0.6])
    image = _layers(floor, walls, rng.uniform(0.5, 0.9) * np.ones(3))
    daylight, start = _white(rng, 0, 0.7), rng.uniform(-180, 180)
    for n in range(rng.integers(1, 4)):
        place = start + n * rng.uniform(35, 70) - turn
        window = _box(place, rng.uniform(0, 22), rng.uniform(18, 45), rng.uniform(30, 60))
        image = image + rng.uniform(3, 9) * window * daylight
    for _ in range(rng.integers(0, 3)):
        lamp = np.array([rng.uniform(-0.7, 0.7), 1, rng.uniform(-0.7, 0.7)])
        image = image + rng.uniform(4, 14) * _disc(lamp / np.linalg.norm(lamp), rng.uniform(6, 14)) * _white(rng, -1, 0)
    return image


def _sky(rng: np.random.Generator, towards: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    ground = rng.uniform(0.12, 0.35) * np.array([1, rng.uniform(0.85, 1.05), rng.uniform(0.6, 0.95)])
    weather = rng.random()
    if weather < 0.35:  # overcast: Moon & Spencer 1942, three times brighter on top than at the horizon
        image = _layers(ground, np.full(3, 0.5), np.array([1.4, 1.5, 1.6]))
        glow, tint = rng.uniform(0, 1), np.ones(3)
    elif weather < 0.8:  # clear
        image = _layers(ground, np.array([0.85, 0.95, 1.1]), rng.uniform(0.6, 1) * np.array([0.3, 0.5, 1]))
        glow, tint = rng.uniform(1, 5), np.array([1.15, 1, 0.8])
    else:  # low sun
        image = _layers(0.5 * ground, np.array([0.75, 0.55, 0.5]), np.array([0.22, 0.28, 0.5]))
        image = image + rng.uniform(1, 3) * _box(rng.uniform(-180, 180) - turn, 5, 90, 24) * np.array([1.5, 0.8, 0.35])
        glow, tint = rng.uniform(1, 6), np.array([1.5, 0.9, 0.45])
    image = image + glow * _disc(towards, rng.uniform(12, 25)) * tint
    for _ in range(rng.integers(0, 4)):  # houses and trees in front of the sky
        thing = _box(rng.uniform(-180, 180) - turn, 0, rng.uniform(30, 110), rng.uniform(30, 90))
        color = rng.uniform(0.08, 0.4) * (1 + rng.uniform(-0.3, 0.3, 3))
        image = image + 0.9 * thing * (color - image)
    return image


def _lamps(rng: np.random.Generator, _towards: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    image = _layers(np.full(3, 0.08), np.full(3, 0.2), np.full(3, 0.12))
    for _ in range(rng.integers(2, 5)):
        color = np.array([1, 1, 1]) + rng.uniform(0.3, 0.8) * rng.uniform(-1, 1, 3)
        lamp = _box(rng.uniform(-180, 180) - turn, rng.uniform(-15, 40), rng.uniform(18, 60), rng.uniform(15, 50))
        image = image + rng.uniform(1, 5) * lamp * color
    return image


@kernel
def sh_irradiance(sh, nx, ny, nz):  # type: ignore[no-untyped-def]
    """Irradiance (3 floats, linear RGB, not below 0) of a surface with the unit normal (nx, ny, nz); `sh` [9, 3]."""
    h1, h2, h3 = 0.488603 * ny, 0.488603 * nz, 0.488603 * nx
    h4, h5, h7 = 1.092548 * nx * ny, 1.092548 * ny * nz, 1.092548 * nx * nz
    h6, h8 = 0.315392 * (3.0 * nz * nz - 1.0), 0.546274 * (nx * nx - ny * ny)
    red = 0.282095 * sh[0, 0] + h1 * sh[1, 0] + h2 * sh[2, 0] + h3 * sh[3, 0] + h4 * sh[4, 0]
    green = 0.282095 * sh[0, 1] + h1 * sh[1, 1] + h2 * sh[2, 1] + h3 * sh[3, 1] + h4 * sh[4, 1]
    blue = 0.282095 * sh[0, 2] + h1 * sh[1, 2] + h2 * sh[2, 2] + h3 * sh[3, 2] + h4 * sh[4, 2]
    red += h5 * sh[5, 0] + h6 * sh[6, 0] + h7 * sh[7, 0] + h8 * sh[8, 0]
    green += h5 * sh[5, 1] + h6 * sh[6, 1] + h7 * sh[7, 1] + h8 * sh[8, 1]
    blue += h5 * sh[5, 2] + h6 * sh[6, 2] + h7 * sh[7, 2] + h8 * sh[8, 2]
    return max(red, 0.0), max(green, 0.0), max(blue, 0.0)


@kernel
def environment_at(environment, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Radiance (3 floats, linear RGB) that arrives from the direction (dx, dy, dz), of any length; bilinear."""
    height, width = environment.shape[:2]
    u = (np.arctan2(dx, -dz) / (2 * np.pi) + 0.5) * width - 0.5
    v = (0.5 - np.arctan2(dy, np.sqrt(dx * dx + dz * dz)) / np.pi) * height - 0.5
    v = min(max(v, 0.0), height - 1.0)
    u0, v0 = int(np.floor(u)), int(v)
    a, b = u - u0, v - v0
    u1, v1 = (u0 + 1) % width, min(v0 + 1, height - 1)
    u0 %= width
    w00, w01, w10, w11 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
    low, high = environment[v0], environment[v1]
    return (
        w00 * low[u0, 0] + w01 * low[u1, 0] + w10 * high[u0, 0] + w11 * high[u1, 0],
        w00 * low[u0, 1] + w01 * low[u1, 1] + w10 * high[u0, 1] + w11 * high[u1, 1],
        w00 * low[u0, 2] + w01 * low[u1, 2] + w10 * high[u0, 2] + w11 * high[u1, 2],
    )
