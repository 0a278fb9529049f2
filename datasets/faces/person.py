"""Who stands in front of the camera: identity, expression, pose, hair and light, drawn from a domain's population.

Two domains are known, and they really differ:

`studio` is the clean render: smooth skin, soft light from near the camera, calm backgrounds, sharp,
nearly noiseless.

`street` is a **stand-in for photographs**, not photographs: it lets a demo and the tests study a domain gap whose size
is known by construction. It has another population (longer, narrower heads, larger noses, more open poses, darker and
redder skins, more beards), mottled skin, coloured and harsh light with cast shadows, cluttered backgrounds, and a
camera (blur, white balance, sensor noise, JPEG). Its annotators have habits of their own, as real data sets do:
lips are outlined generously, the nose is drawn wider and starts higher, an eye includes its lids, and the hairline is
drawn further down, into the forehead. Each habit is a number in `Habits`; the picture does not change with them.

Canonical units: the head is scaled to about a unit sphere; x to the image's right, y down, z towards the viewer for a
frontal head. Eyes sit near (+-0.41, -0.09), the mouth near (0, 0.58), the chin near (0, 0.95).
"""

from dataclasses import dataclass

import numpy as np

DOMAINS: tuple[str, ...] = ("studio", "street")

# Albedo stops (sRGB, 0..1) from the lightest to the darkest skin.
_SKIN_STOPS = np.array(
    [
        [0.96, 0.80, 0.71],
        [0.92, 0.73, 0.61],
        [0.85, 0.63, 0.49],
        [0.70, 0.48, 0.35],
        [0.50, 0.32, 0.22],
        [0.34, 0.21, 0.15],
    ]
)
_HAIR_STOPS = np.array(
    [
        [0.10, 0.09, 0.09],  # black
        [0.24, 0.16, 0.12],  # dark brown
        [0.40, 0.27, 0.18],  # brown
        [0.78, 0.62, 0.40],  # blond
        [0.55, 0.26, 0.14],  # red
        [0.66, 0.65, 0.63],  # grey
    ]
)
_IRIS_STOPS = np.array([[0.22, 0.13, 0.08], [0.36, 0.24, 0.13], [0.38, 0.42, 0.28], [0.40, 0.52, 0.62]])


@dataclass(frozen=True)
class Habits:
    """How far labels depart from what is drawn, in canonical units (about 0.26 of the frame's width each)."""

    lips: float = 0.0  # outline moved outward
    nose: float = 0.0  # outline moved outward
    eyes: float = 0.0  # outline moved outward, over the lids
    hairline: float = 0.0  # hair's border moved down, into the skin


@dataclass(frozen=True)
class Hair:
    """A cap on the scalp and, for longer hair, a curtain around head and neck (canonical units)."""

    bald: bool
    front: float  # y of the hairline in the middle of the forehead
    recede: float  # how far it climbs above the temples
    side: float  # y of the sideburn's end
    ear: float  # y of the border over the ear
    fringe: float  # y of the fringe's end, above `front` where there is none
    part: float  # x where the hair parts; tilts the hairline and the fringe
    thickness: float  # of the cap
    jag: float  # raggedness of borders
    wave: float  # how far strands swing sideways
    curl: float  # 0 straight .. 1 frizzy: relief of the surface and of the silhouette
    length: float  # y of the curtain's end; no curtain below 0.3
    opening: tuple[float, float]  # cosine of the azimuth where the curtain starts, image left and right
    volume: float  # how far the curtain stands off the cap
    flare: float  # how much the curtain widens below the ears
    color: tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """One directional key light with its ambient term; colours are linear RGB."""

    direction: tuple[float, float, float]
    key: tuple[float, float, float]
    ambient: tuple[float, float, float]
    shadow: float  # 0 none .. 1 black cast shadows


@dataclass(frozen=True)
class Person:
    """Everything that a rendering needs to know, independent of the image's size."""

    # Shape (canonical), and the three semi-axes in units of the frame's width.
    axes: tuple[float, float, float]
    jaw: float
    chin: float
    cheek: float
    nose_width: float
    nose_height: float
    nose_end: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    brow_y: float
    brow_thick: float
    brow_arch: float
    brow_dark: float
    ear: float
    mouth_y: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    # Expression.
    gap: float
    smile: float
    gaze: tuple[float, float]
    # Pose in radians (yaw, pitch, roll), framing in frames.
    pose: tuple[float, float, float]
    offset: tuple[float, float]
    scale: float
    # Surface.
    skin: tuple[float, float, float]
    lip_color: tuple[float, float, float]
    iris: tuple[float, float, float]
    blush: float
    mottle: float
    beard: float
    gloss: float
    cloth: tuple[float, float, float]
    collar: float
    hair: Hair
    light: Light
    habits: Habits


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _blend(stops: np.ndarray, at: float) -> np.ndarray:
    """Linear interpolation along rows of colour stops; `at` in [0, 1]."""
    where = np.linspace(0.0, 1.0, len(stops))
    return np.array([np.interp(at, where, stops[:, k]) for k in range(3)])


def draw_person(rng: np.random.Generator, domain: str) -> Person:
    """One person of the domain's population. Draws depend on the generator and the domain only."""
    street = domain == "street"

    def around(mean: float, deviation: float, limit: float = 2.0) -> float:
        return mean + deviation * float(np.clip(rng.normal(), -limit, limit))

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    woman = rng.random() < (0.55 if street else 0.65)
    smile = max(0.0, around(0.35, 0.4))
    opened = rng.random() < 0.55
    skin = _blend(_SKIN_STOPS, float(rng.beta(1.6, 2.4) if street else rng.beta(1.5, 3.0)))
    skin = np.clip(skin * rng.normal([1.0, 1.0, 1.0], 0.03), 0.05, 1.0)
    lip = skin * ([0.86, 0.62, 0.62] if woman else [0.88, 0.72, 0.70])
    if woman and rng.random() < 0.4:
        lip = 0.5 * lip + 0.5 * np.array([0.75, 0.14, 0.20]) * rng.uniform(0.6, 1.1)
    return Person(
        axes=(
            around(0.268 if street else 0.284, 0.012),
            around(0.432 if street else 0.420, 0.012),
            around(0.335, 0.012),
        ),
        jaw=around(-0.04 if woman else 0.03, 0.05),
        chin=around(-0.02 if woman else 0.02, 0.03),
        cheek=around(0.03, 0.02) + 0.03 * smile,
        nose_width=around(0.225 if woman else 0.245, 0.025) * (1.08 if street else 1.0),
        nose_height=around(0.23, 0.035) * (1.12 if street else 1.0),
        nose_end=around(0.350, 0.025),
        eye_x=around(0.39, 0.018),
        eye_y=around(-0.09, 0.015),
        eye_width=around(0.200, 0.012) * (0.93 if street else 1.0),
        eye_open=between(0.05, 0.15) if rng.random() < 0.04 else max(0.45, around(1.0 - 0.25 * min(smile, 1.0), 0.18)),
        eye_tilt=around(0.008, 0.012),
        brow_y=around(-0.265, 0.02),
        brow_thick=around(0.030 if woman else 0.042, 0.008),
        brow_arch=around(0.045 if woman else 0.02, 0.012),
        brow_dark=between(0.35, 0.85),
        ear=between(0.10, 0.22),
        mouth_y=around(0.550, 0.02),
        mouth_width=around(0.335, 0.025) + 0.08 * min(smile, 1.0),
        lip_upper=around(0.078 if woman else 0.064, 0.012),
        lip_lower=around(0.132 if woman else 0.108, 0.015),
        gap=between(0.02, 0.17) * (0.8 + 0.4 * min(smile, 1.0)) if opened else 0.0,
        smile=smile,
        gaze=(around(0.0, 0.02), around(0.0, 0.008)),
        pose=(
            np.deg2rad(around(0.0, 20.0 if street else 15.0)),
            np.deg2rad(around(-1.0 if street else 1.0, 8.0 if street else 6.0)),
            np.deg2rad(around(0.0, 7.0 if street else 4.0)),
        ),
        offset=(around(0.0, 0.022 if street else 0.012), around(0.0, 0.022 if street else 0.012)),
        scale=between(0.86, 1.06) if street else between(0.95, 1.07),
        skin=_triple(skin),
        lip_color=_triple(np.clip(lip, 0.03, 1.0)),
        iris=_triple(_blend(_IRIS_STOPS, float(rng.random()))),
        blush=between(0.0, 0.12),
        mottle=between(0.03, 0.09) if street else between(0.0, 0.02),
        beard=0.0 if woman or rng.random() < (0.45 if street else 0.6) else between(0.15, 0.85),
        gloss=between(0.05, 0.22),
        cloth=_triple(rng.uniform(0.03, 0.9, 3) ** 1.5),
        collar=between(-0.15, 0.35),
        hair=_draw_hair(rng, woman),
        light=_draw_light(rng, street),
        habits=Habits(lips=0.025, nose=0.03, eyes=0.022, hairline=0.05) if street else Habits(),
    )


def _draw_hair(rng: np.random.Generator, woman: bool) -> Hair:
    """A hair style: mostly long for women; short, receding or none for men."""
    odds = (0.0, 0.10, 0.24, 0.66) if woman else (0.06, 0.70, 0.17, 0.07)  # bald, short, medium, long
    kind = int(rng.choice(4, p=odds))
    curl = float(rng.beta(0.8, 2.5))
    thickness = rng.uniform(0.06, 0.18) if kind == 1 else rng.uniform(0.10, 0.24)
    thickness += 0.22 * max(0.0, curl - 0.35)
    front = rng.uniform(-0.78, -0.62) if woman else rng.uniform(-0.85, -0.60)
    fringed = rng.random() < (0.3 if woman else 0.2)
    color = _blend(_HAIR_STOPS[:4], float(rng.beta(1.2, 1.5)))
    odd = rng.random()
    if odd < 0.06:
        color = _HAIR_STOPS[4].copy()
    elif odd < (0.10 if woman else 0.18):
        color = _HAIR_STOPS[5] * rng.uniform(0.6, 1.1)
    tucked = rng.random(2) < 0.25
    opening = np.where(tucked, rng.uniform(-0.45, -0.25, 2), rng.uniform(0.0, 0.48, 2))
    covered = kind >= 2 or (kind == 1 and rng.random() < 0.15)
    return Hair(
        bald=kind == 0,
        front=float(front),
        recede=float(rng.uniform(0.0, 0.06 if woman else 0.16)),
        side=float(rng.uniform(-0.05, 0.22)),
        ear=0.35 if covered else -0.2,
        fringe=float(rng.uniform(-0.42, -0.24)) if fringed and kind else -2.0,
        part=float(rng.uniform(-0.45, 0.45)),
        thickness=float(thickness),
        jag=float(rng.uniform(0.02, 0.06) if fringed else rng.uniform(0.008, 0.03)),
        wave=float(rng.uniform(0.0, 0.12)),
        curl=curl,
        length=float({0: 0.0, 1: 0.0, 2: rng.uniform(0.5, 1.05), 3: rng.uniform(1.1, 2.4)}[kind]),
        opening=(float(opening[0]), float(opening[1])),
        volume=float(rng.uniform(0.02, 0.40)),
        flare=float(rng.uniform(0.05, 0.60)),
        color=_triple(np.clip(color * rng.normal(1.0, 0.08), 0.03, 1.0)),
    )


def _draw_light(rng: np.random.Generator, street: bool) -> Light:
    """Near-frontal and nearly white in the studio; from anywhere, coloured and shadow-casting in the street."""
    spread, lift = (0.9, 0.5) if street else (0.45, 0.35)
    toward = np.array([rng.normal(0, spread), -abs(rng.normal(lift, 0.35)), 1.0])
    toward /= np.linalg.norm(toward)
    tint = rng.normal(0.0, 0.09 if street else 0.015, 2)
    warm = np.array([1.0 + tint[0], 1.0 + 0.3 * tint[1], 1.0 - tint[0]])
    key = warm * (rng.uniform(0.55, 1.15) if street else rng.uniform(0.72, 1.0))
    ambient = (2.0 - warm) * (rng.uniform(0.12, 0.34) if street else rng.uniform(0.16, 0.30))
    return Light(_triple(toward), _triple(key), _triple(ambient), float(rng.uniform(0.4, 0.85)) if street else 0.25)
