"""Who stands in front of the camera, and how: everything that a rendering needs to know, independent of its size.

Frozen values in SI units and degrees, drawn by `population.py` from named distributions and written into every
sample's metadata as they are (`describe`). Left and right are the subject's own. In head space x is the subject's
left, y up and z forward; in camera space x is the image's right, y up and z towards the camera.
"""

from dataclasses import asdict, dataclass
from typing import Any

Vector = tuple[float, float, float]  # also linear RGB, where a field says so


@dataclass(frozen=True)
class Identity:
    """Shape and colours of a head. `shape` holds weights of the head model's local targets by name, about -1 to 1."""

    age: float  # years, 18 to 80
    masculinity: float  # 0 female .. 1 male
    ethnicity: Vector  # weights of the head model's african, asian and caucasian shapes; they sum to 1
    weight: float  # 0 thin .. 0.5 average .. 1 heavy
    muscle: float  # 0 to 1
    shape: dict[str, float]
    skin: Vector  # CIELAB L*, a*, b* of the cheek
    redness: float  # 0 to 1, of cheeks, nose and ears
    freckles: float  # 0 to 1
    blemish: float  # 0 to 1, unevenness of the skin
    wrinkles: float  # 0 to 1
    lip_tint: float  # 0 natural .. 1 painted
    iris: Vector  # linear RGB
    texture: int  # seed of everything that noise paints


@dataclass(frozen=True)
class Expression:
    """Weights 0 to 1 of ARKit's expression units (Apple, ARFaceAnchor.BlendShapeLocation), already times intensity."""

    name: str
    intensity: float
    units: dict[str, float]
    gaze: tuple[float, float]  # degrees: horizontally (positive to the subject's left), vertically (positive up)
    vergence: float  # degrees by which each eye turns inward


@dataclass(frozen=True)
class Pose:
    """Head against the camera, and how much of it the body follows. Degrees."""

    yaw: float  # positive: the subject turns to its own left (to the image's right)
    pitch: float  # positive: chin up
    roll: float  # positive: the head tilts to the image's right (clockwise as seen)
    body: float  # 0 the torso faces the camera .. 1 it turns with the head


@dataclass(frozen=True)
class Hair:
    """Hair of the head. Lengths in metres."""

    style: str  # bald, buzz, short, back, parted, fringe, bob, long, curly, afro, bun, ponytail
    length: float
    volume: float  # how far the outermost strands stand off the scalp
    curl: float  # 0 straight .. 1 tight curls
    part: float  # -1 the subject's right .. 1 left
    hairline: float  # metres by which it climbs above the average hairline (negative: lower)
    recession: float  # 0 none .. 1 deep at the temples
    density: float  # 0 thin .. 1 full
    color: Vector  # linear RGB
    grey: float  # share of grey strands
    seed: int


@dataclass(frozen=True)
class FacialHair:
    """Beard, moustache and brows. `length` in metres; 0 is stubble painted on the skin."""

    style: str  # none, stubble, moustache, goatee, full
    length: float
    density: float  # 0 to 1
    color: Vector  # linear RGB
    brow_density: float  # 0 to 1
    brow_thickness: float  # factor, about 0.6 to 1.5
    brow_color: Vector  # linear RGB
    lashes: float  # 0 short and pale .. 1 long and dark


@dataclass(frozen=True)
class Accessories:
    """What is worn on the head; "none" where nothing is. Colours are linear RGB."""

    glasses: str  # none, clear, sunglasses
    glasses_shape: str  # round, oval, square, aviator
    glasses_size: float  # factor, about 0.85 to 1.2
    frame_color: Vector
    frame_width: float  # metres, of the rim
    lens_color: Vector  # transmittance of the lenses
    hat: str  # none, beanie, cap, brim
    hat_color: Vector
    mask: str  # none, surgical, cloth
    mask_color: Vector
    headphones: str  # none, over_ear
    headphones_color: Vector
    seed: int


@dataclass(frozen=True)
class Clothes:
    """What covers the shoulders."""

    neckline: str  # crew, v_neck, collar, turtleneck, off
    color: Vector  # linear RGB
    second_color: Vector
    pattern: str  # plain, stripes, checks, heather
    scale: float  # metres, of the pattern
    seed: int


@dataclass(frozen=True)
class Light:
    """An environment (a panorama or a procedural sky) and one directional light with a shadow."""

    environment: str  # procedural, or the name of a panorama file of the folder given
    exposure: float  # stops, applied to the light that reaches the camera
    turn: float  # degrees by which the environment is turned about the vertical
    ambient: float  # factor of the environment's light
    direction: Vector  # unit, camera space, towards the light; of a panorama its brightest place is taken instead
    key: Vector  # linear RGB irradiance of the directional light
    shadow: float  # 0 no cast shadow .. 1 black
    softness: float  # degrees, half the light's angular size
    seed: int


@dataclass(frozen=True)
class Camera:
    """Lens, framing and the camera's effects."""

    focal: float  # millimetres, of a 36 mm wide sensor
    face_height: float  # of the frame: distance from brow to chin over the frame's height
    center: tuple[float, float]  # of the frame: where the middle of the face lies, (0.5, 0.5) is the centre
    roll: float  # degrees
    white_balance: Vector  # gains of linear RGB
    contrast: float  # 0 none .. 1 strong S-curve
    saturation: float  # factor
    blur: float  # standard deviation, in thousandths of the frame's width
    noise: float  # standard deviation at mid-grey, 0 to 0.1 of full scale
    jpeg: int  # quality 1 to 100; 0 is not compressed
    seed: int


@dataclass(frozen=True)
class Background:
    """What is behind: a crop of the light's panorama where there is one, else procedural."""

    kind: str  # panorama, plain, gradient, blurred, clutter
    blur: float  # standard deviation, in thousandths of the frame's width
    colors: tuple[Vector, ...]  # linear RGB
    pitch: float  # degrees, of a panorama's crop
    seed: int


@dataclass(frozen=True)
class Person:
    """One picture's subject and conditions."""

    identity: Identity
    expression: Expression
    pose: Pose
    hair: Hair
    facial_hair: FacialHair
    accessories: Accessories
    clothes: Clothes
    light: Light
    camera: Camera
    background: Background

    def describe(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)
