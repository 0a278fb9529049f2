"""What a population says of each noun of person.py: the distribution of every field, checked when it is read.

What the fields mean is said where they are drawn (draw.py, setting.py); a unit or a reference stands beside them here.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from datasets.classes import FACE_CLASSES
from datasets.faces.complexion import ETHNICITIES, HAIR_NAMES, IRIS_NAMES
from datasets.faces.distribution import Shares, Spread, choice, number, read_real, real
from datasets.faces.expressions import EXPRESSIONS
from datasets.faces.shapes import FAMILIES, NAMES
from datasets.settings import unknown

STYLES = ("bald", "buzz", "short", "back", "parted", "fringe", "bob", "long", "curly", "afro", "bun", "ponytail")

Percent = Annotated[float, real(0, 100)]
Unit = Annotated[Spread, number(0, 1)]
Factor = Annotated[Spread, number(0, 4)]
Palette = Annotated[Shares, choice("muted", "neutral", "vivid")]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _numbers(kind: str, names: Sequence[str], low: float, high: float) -> BeforeValidator:
    """Reads {name: number of low..high}."""

    def read(value: Any) -> dict[str, float]:
        if not isinstance(value, dict):
            raise ValueError(f"must be a mapping {{{kind}: number}}, but got {value!r}")
        for name in value:
            if name not in names:
                raise ValueError(unknown(kind, name, names))
        return {name: read_real(item, low, high, name) for name, item in value.items()}

    return BeforeValidator(read)


class BySex(Frozen):
    """A choice of hair styles for each sex; `short` takes what is missing from 100."""

    female: Annotated[Shares, choice("short", *STYLES[:2], *STYLES[3:])]
    male: Annotated[Shares, choice("short", *STYLES[:2], *STYLES[3:])]


class Identities(Frozen):
    age: Annotated[Spread, number(18, 80)]
    sex: Annotated[Shares, choice("androgynous", "female", "male")]
    ethnicity: Annotated[Shares, choice("mixed", *ETHNICITIES)]
    weight: Unit
    muscle: Unit
    shape: Annotated[dict[str, float], _numbers("family", list(FAMILIES), 0, 1)]
    shape_mean: Annotated[dict[str, float], _numbers("shape", NAMES, -1, 1)]
    skin_lightness: Annotated[Spread, number(-30, 30)]  # added to L*
    skin_chroma: Annotated[Spread, number(0.3, 2)]  # times a* and b*
    redness: Factor
    freckles_percent: Percent  # of those with light skin
    blemish: Unit
    wrinkles: Factor  # times those of the age
    makeup_percent: Percent  # of women
    iris: Annotated[Shares, choice("natural", *IRIS_NAMES)]


class ExpressionGroup(Frozen):
    percent: Percent
    intensity: Unit
    names: tuple[str, ...] = tuple(EXPRESSIONS)


def _names(value: Any) -> Any:
    """Groups of a file, each with names that there are."""
    for group in value if isinstance(value, list) else []:
        names = group.get("names") if isinstance(group, dict) else None
        if names is not None and (not isinstance(names, list) or not names):
            raise ValueError(f"names must be a list of expressions, but got {names!r}")
        for name in names or []:
            if name not in EXPRESSIONS:
                raise ValueError(unknown("expression", name, EXPRESSIONS))
    return value


def _at_most_all(groups: tuple[ExpressionGroup, ...]) -> tuple[ExpressionGroup, ...]:
    if (total := sum(group.percent for group in groups)) > 100 + 1e-6:
        raise ValueError(f"percentages must sum to at most 100, but sum to {total:g}")
    return groups


class Expressions(Frozen):
    groups: Annotated[tuple[ExpressionGroup, ...], BeforeValidator(_names), AfterValidator(_at_most_all)]
    variation: Unit  # standard deviation of each unit's factor
    asymmetry: Unit
    idle: Unit
    lids: Annotated[Spread, number(-1, 1)]  # resting lids: above 0 closed by so much, below 0 opened
    blink_percent: Percent  # caught while blinking
    gaze_away_percent: Percent  # the others look into the camera
    gaze_away: Annotated[Spread, number(0, 40)]  # degrees off the head's axis
    gaze_jitter: Annotated[Spread, number(0, 10)]  # degrees
    gaze_distance: Annotated[Spread, number(0.2, 100)]  # metres, at which both eyes meet


class Poses(Frozen):
    yaw: Annotated[Spread, number(-90, 90)]
    pitch: Annotated[Spread, number(-60, 60)]
    roll: Annotated[Spread, number(-60, 60)]
    max_angle: Annotated[float, real(0, 90)]  # degrees between face and camera; larger ones are scaled down to it
    body: Unit


class Hairs(Frozen):
    style: BySex
    length: Factor  # times the style's own
    volume: Factor
    curl: Annotated[Spread, number(-1, 1)]  # added to the ethnicity's own
    part: Annotated[Spread, number(-1, 1)]
    hairline: Annotated[Spread, number(-0.02, 0.03)]  # metres
    recession: Factor  # times that of the age, of men
    density: Unit
    color: Annotated[Shares, choice("natural", *HAIR_NAMES)]
    grey: Factor  # times that of the age


class FacialHairs(Frozen):
    style: Annotated[Shares, choice("none", "stubble", "moustache", "goatee", "full")]  # of men
    length: Annotated[Spread, number(0, 0.2)]  # metres
    density: Unit
    brow_density: Unit
    brow_thickness: Annotated[Spread, number(0.3, 2.5)]
    brow_darkness: Unit  # 0 as the hair, 1 black
    lashes: Unit


class Worn(Frozen):
    glasses: Annotated[Shares, choice("none", "clear", "sunglasses")]
    glasses_shape: Annotated[Shares, choice("oval", "round", "square", "aviator")]
    glasses_size: Annotated[Spread, number(0.7, 1.4)]
    frame_width: Annotated[Spread, number(0.0005, 0.01)]  # metres
    hat: Annotated[Shares, choice("none", "beanie", "cap", "brim")]
    mask: Annotated[Shares, choice("none", "surgical", "cloth")]
    headphones: Annotated[Shares, choice("none", "over_ear")]  # of those without a hat
    palette: Palette


class Clothing(Frozen):
    neckline: Annotated[Shares, choice("crew", "v_neck", "collar", "turtleneck", "off")]
    palette: Palette
    pattern: Annotated[Shares, choice("plain", "stripes", "checks", "heather")]
    scale: Annotated[Spread, number(0.001, 0.3)]  # metres


class Lights(Frozen):
    panorama_percent: Percent  # where panoramas are given
    exposure: Annotated[Spread, number(-6, 6)]  # stops
    ambient: Factor
    azimuth: Annotated[Spread, number(-180, 180)]  # degrees from the camera, positive: from the image's right
    elevation: Annotated[Spread, number(-90, 90)]
    strength: Annotated[Spread, number(0, 20)]  # irradiance of the directional light
    temperature: Annotated[Spread, number(1700, 25000)]  # kelvin, of the directional light; 6500 is white
    shadow: Unit
    softness: Annotated[Spread, number(0, 45)]  # degrees


class Cameras(Frozen):
    focal: Annotated[Spread, number(12, 400)]  # millimetres, 36 mm wide sensor
    face_height: Annotated[Spread, number(0.05, 1)]  # brow to chin over the frame
    center_x: Unit
    center_y: Unit
    roll: Annotated[Spread, number(-45, 45)]
    warmth: Annotated[Spread, number(-1, 1)]  # white balance: 1 is red up by half a stop and blue down by as much
    tint: Annotated[Spread, number(-1, 1)]  # white balance: 1 is green up by a quarter of a stop
    contrast: Unit
    saturation: Annotated[Spread, number(0, 2)]
    blur: Annotated[Spread, number(0, 30)]  # thousandths of the frame's width
    noise: Annotated[Spread, number(0, 0.1)]
    jpeg: Annotated[Spread, number(0, 100)]  # quality, rounded; 0 is none


class Backgrounds(Frozen):
    panorama_percent: Percent  # of those lit by a panorama
    kind: Annotated[Shares, choice("blurred", "plain", "gradient", "clutter")]
    blur: Annotated[Spread, number(0, 60)]  # thousandths of the frame's width
    palette: Palette
    pitch: Annotated[Spread, number(-60, 60)]


class Labels(Frozen):
    nose_outer: Literal["skin", "nose"] = "skin"
    glasses: Literal["background", "ignore"] = "background"
    grow: Annotated[dict[str, float], _numbers("class", FACE_CLASSES[1:], -30, 30)] = Field(default_factory=dict)
