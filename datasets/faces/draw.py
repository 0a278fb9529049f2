"""One person of a population: who it is and what the face does. What it wears and how it is pictured is in setting.py.

Every noun is drawn from its own stream, each field from the next number of it in a fixed order. So that the rest of a
picture stays as it is when one distribution changes, a number is taken whether it is needed or not.
"""

import math
from typing import TYPE_CHECKING

from datasets.faces.complexion import (
    COMPLEXIONS,
    GREY_COLOR,
    ancestry,
    greyness,
    hair_color,
    iris,
    mixed,
    shade,
    skin,
    typology_angle,
)
from datasets.faces.distribution import Stream
from datasets.faces.expressions import perform
from datasets.faces.person import Expression, FacialHair, Hair, Identity, Person, Pose, Vector
from datasets.faces.setting import draw_accessories, draw_background, draw_camera, draw_clothes, draw_light

if TYPE_CHECKING:
    from datasets.faces.population import Population

# Of each style: shortest and longest, metres, and how far it stands off the scalp.
HAIRDOS: dict[str, tuple[float, float, float, float]] = {
    "bald": (0.0, 0.0, 0.0, 0.0),
    "buzz": (0.003, 0.010, 0.003, 0.008),
    "short": (0.020, 0.060, 0.010, 0.028),
    "back": (0.060, 0.140, 0.012, 0.030),
    "parted": (0.050, 0.140, 0.012, 0.032),
    "fringe": (0.090, 0.330, 0.012, 0.030),
    "bob": (0.170, 0.280, 0.015, 0.036),
    "long": (0.300, 0.550, 0.012, 0.036),
    "curly": (0.090, 0.350, 0.025, 0.060),
    "afro": (0.050, 0.140, 0.045, 0.110),
    "bun": (0.250, 0.400, 0.006, 0.014),
    "ponytail": (0.300, 0.500, 0.006, 0.014),
}
BEARDS = {"none": 0.0, "stubble": 0.0, "moustache": 0.6, "goatee": 1.0, "full": 1.0}  # factor of the beard's length
EYES_TO_CAMERA = (32.0, 20.0)  # degrees off the head's axis that eyes will go to meet the camera
HALF_PUPILS = 0.0315  # metres, half the distance between the pupils


def draw(population: "Population", seed: int, panoramas: tuple[str, ...]) -> Person:
    """See `Population.draw`."""

    def stream(noun: str) -> Stream:
        return Stream(population.series, noun, seed)

    identity, group = draw_identity(population, seed)
    pose = _pose(population, stream("pose"))
    natural, hair = _hair(population, identity, group, stream("hair"))
    light = draw_light(population.light, panoramas, stream("light"))
    return Person(
        identity=identity,
        expression=_expression(population, pose, stream("expression")),
        pose=pose,
        hair=hair,
        facial_hair=_facial_hair(population, identity, hair, natural, stream("facial_hair")),
        accessories=draw_accessories(population.accessories, stream("accessories")),
        clothes=draw_clothes(population.clothes, stream("clothes")),
        light=light,
        camera=draw_camera(population.camera, stream("camera")),
        background=draw_background(population.background, light.environment, stream("background")),
    )


def draw_identity(population: "Population", seed: int) -> tuple[Identity, str]:
    """A person, and the ethnic group whose colours it has."""
    p = population.identity
    stream, shapes = (Stream(population.series, noun, seed) for noun in ("identity", "shape"))
    age = p.age.at(next(stream))
    sex, degree = p.sex.at(next(stream)), next(stream)
    low, high = {"female": (0.0, 0.28), "male": (0.72, 1.0), "androgynous": (0.3, 0.7)}[sex]
    masculinity = low + degree * (high - low)
    weights, group = ancestry(p.ethnicity.at(next(stream)), stream)
    lightness, chroma = p.skin_lightness.at(next(stream)), p.skin_chroma.at(next(stream))
    lab = skin(group, age, masculinity, lightness, chroma, stream)
    angle = typology_angle(lab)
    fair = min(max((angle - 20) / 30, 0.0), 1.0)  # 0 for tan skin and darker .. 1 for light and very light
    flush = (0.12 + 0.30 * fair) * (1 + 0.45 * stream.normal()) * p.redness.at(next(stream))
    freckled, freckles = next(stream) * 100 < p.freckles_percent, stream.between(0.25, 1.0)
    wrinkled = min(max((age - 26) / 50, 0.0), 1.0) ** 1.2 * (1 + 0.3 * stream.normal()) * p.wrinkles.at(next(stream))
    painted, tint = next(stream) * 100 < p.makeup_percent, stream.between(0.25, 1.0)
    identity = Identity(
        age=round(age, 1),
        masculinity=round(masculinity, 3),
        ethnicity=weights,
        weight=round(p.weight.at(next(stream)), 3),
        muscle=round(p.muscle.at(next(stream)), 3),
        shape=population.shapes.draw(shapes.generator),
        skin=lab,
        redness=_unit(flush),
        freckles=_unit(freckles * fair) if freckled else 0.0,
        blemish=_unit(p.blemish.at(next(stream))),
        wrinkles=_unit(wrinkled),
        lip_tint=_unit(tint) if painted and masculinity < 0.5 else 0.0,
        iris=iris(p.iris.at(next(stream)), group, stream),
        texture=stream.seed(),
    )
    return identity, group


def _pose(population: "Population", stream: Stream) -> Pose:
    p = population.pose
    yaw, pitch, roll = (spread.at(next(stream)) for spread in (p.yaw, p.pitch, p.roll))
    yaw, pitch = _within(yaw, pitch, p.max_angle)
    return Pose(round(yaw, 3), round(pitch, 3), round(roll, 3), _unit(p.body.at(next(stream))))


def _within(yaw: float, pitch: float, most: float) -> tuple[float, float]:
    """The face's direction (degrees), moved on its great circle to at most `most` degrees from the camera."""
    turn, nod = math.radians(yaw), math.radians(pitch)
    sideways, up, towards = math.sin(turn) * math.cos(nod), math.sin(nod), math.cos(turn) * math.cos(nod)
    if math.degrees(math.acos(min(towards, 1.0))) <= most:
        return yaw, pitch
    scale = math.sin(math.radians(most)) / math.hypot(sideways, up)
    sideways, up, towards = sideways * scale, up * scale, math.cos(math.radians(most))
    return math.degrees(math.atan2(sideways, towards)), math.degrees(math.asin(up))


def _expression(population: "Population", pose: Pose, stream: Stream) -> Expression:
    """A named expression or neutral, the lids, and where the eyes look: into the camera, or away."""
    p = population.expression
    name, intensity = "neutral", 0.0
    share, degree, which = next(stream) * 100, next(stream), next(stream)
    for group in p.groups:
        if 0 <= share < group.percent:
            name = group.names[min(int(which * len(group.names)), len(group.names) - 1)]
            intensity = round(group.intensity.at(degree), 4)
        share -= group.percent
    lids, blinks, blink = p.lids.at(next(stream)), next(stream) * 100 < p.blink_percent, stream.between(0.25, 1.0)
    away, off, around = next(stream) * 100 < p.gaze_away_percent, p.gaze_away.at(next(stream)), next(stream)
    jitter, jitter_around = p.gaze_jitter.at(next(stream)), next(stream)
    if away:  # eyes wander further sideways than up and down
        aim = (off * math.cos(math.tau * around), 0.6 * off * math.sin(math.tau * around))
    else:
        most = EYES_TO_CAMERA
        aim = (min(max(-pose.yaw, -most[0]), most[0]), min(max(-pose.pitch, -most[1]), most[1]))
    gaze = (
        round(aim[0] + jitter * math.cos(math.tau * jitter_around), 3),
        round(aim[1] + jitter * math.sin(math.tau * jitter_around), 3),
    )
    vergence = math.degrees(math.atan(HALF_PUPILS / p.gaze_distance.at(next(stream))))
    units = perform(
        name,
        intensity,
        stream.generator,
        variation=p.variation.at(next(stream)),
        asymmetry=p.asymmetry.at(next(stream)),
        idle=p.idle.at(next(stream)),
        lids=max(lids, blink) if blinks else lids,
        gaze=gaze,
    )
    return Expression(name, intensity, units, gaze, round(vergence, 3))


def _hair(population: "Population", identity: Identity, group: str, stream: Stream) -> tuple[Vector, Hair]:
    """The colour that the hair grew in, and the hair as it is worn."""
    p = population.hair
    man = identity.masculinity >= 0.5
    style = (p.style.male if man else p.style.female).at(next(stream))
    shortest, longest, flat, full = HAIRDOS[style]
    length = stream.between(shortest, longest) * p.length.at(next(stream))
    volume = stream.between(flat, full) * p.volume.at(next(stream))
    mean, sd = COMPLEXIONS[group].curl
    curl = mean + sd * stream.normal() + p.curl.at(next(stream))
    curl = max(curl, {"curly": 0.5, "afro": 0.8}.get(style, 0.0))
    receding = next(stream) * (0.06 + 0.016 * max(identity.age - 22, 0) if man else 0.12)
    grown = hair_color("natural", group, stream)
    chosen = p.color.at(next(stream))
    worn = hair_color(chosen, group, stream)
    grey = greyness(identity.age, group, p.grey.at(next(stream)), stream)
    hair = Hair(
        style=style,
        length=round(length, 4),
        volume=round(volume, 4),
        curl=_unit(curl),
        part=round(p.part.at(next(stream)), 3),
        hairline=round(p.hairline.at(next(stream)), 4),
        recession=_unit(receding * p.recession.at(next(stream))),
        density=_unit(p.density.at(next(stream))),
        color=grown if chosen == "natural" else worn,
        grey=grey if chosen == "natural" else 0.0,
        seed=stream.seed(),
    )
    return grown, hair


def _facial_hair(
    population: "Population", identity: Identity, hair: Hair, natural: Vector, stream: Stream
) -> FacialHair:
    p = population.facial_hair
    man = identity.masculinity >= 0.5
    style = p.style.at(next(stream))
    length, density = p.length.at(next(stream)), p.density.at(next(stream))
    beard_grey, brow_grey = stream.between(0.5, 1.2), stream.between(0.1, 0.6)
    brow_density, thickness = p.brow_density.at(next(stream)), p.brow_thickness.at(next(stream))
    darkness = p.brow_darkness.at(next(stream))
    style = style if man else "none"
    return FacialHair(
        style=style,
        length=round(length * BEARDS[style], 4),
        density=_unit(density),
        color=shade(mixed(natural, GREY_COLOR, min(hair.grey * beard_grey, 0.95)), stream.between(0.7, 1.1)),
        brow_density=_unit(brow_density),
        brow_thickness=round(thickness * (1.08 if man else 0.92), 3),
        brow_color=shade(mixed(natural, GREY_COLOR, hair.grey * brow_grey * 0.6), 1 - darkness),
        lashes=_unit(p.lashes.at(next(stream)) * (0.75 if man else 1.0) + (0.0 if man else 0.15)),
    )


def _unit(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 3)
