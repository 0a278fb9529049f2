"""Named facial expressions as weights of ARKit's expression units (Apple, ARFaceAnchor.BlendShapeLocation).

The six basic emotions follow the action units that Ekman and Friesen (1978, FACS; EMFACS combinations) give for them;
the rest (speech, grimaces, winks) are ours. A unit that ends in `*` stands for its left and right one. Weights are
those of intensity 1; people differ, and so does a person from one smile to the next: `perform` varies every unit.
"""

import math

import numpy as np
from scipy.special import ndtri

# fmt: off
EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile*": 0.85, "cheekSquint*": 0.40, "eyeSquint*": 0.25, "mouthDimple*": 0.20},
    "broad_smile": {"mouthSmile*": 1.00, "mouthUpperUp*": 0.65, "mouthLowerDown*": 0.70, "cheekSquint*": 0.60,
                    "eyeSquint*": 0.35, "mouthStretch*": 0.20, "jawOpen": 0.07},
    "laugh": {"mouthSmile*": 1.00, "jawOpen": 0.38, "mouthUpperUp*": 0.70, "mouthLowerDown*": 0.50,
              "cheekSquint*": 0.70, "eyeSquint*": 0.50, "noseSneer*": 0.15},
    "surprise": {"jawOpen": 0.45, "browInnerUp": 1.00, "browOuterUp*": 1.00, "eyeWide*": 0.90},
    "anger": {"browDown*": 0.90, "eyeSquint*": 0.35, "mouthPress*": 0.50, "noseSneer*": 0.35, "mouthShrugLower": 0.25},
    "shout": {"jawOpen": 0.60, "browDown*": 0.70, "mouthStretch*": 0.35, "mouthLowerDown*": 0.45, "noseSneer*": 0.45,
              "mouthUpperUp*": 0.30},
    "disgust": {"noseSneer*": 1.00, "mouthUpperUp*": 0.70, "browDown*": 0.45, "mouthFrown*": 0.30,
                "mouthShrugLower": 0.35, "cheekSquint*": 0.35},
    "fear": {"browInnerUp": 1.00, "browOuterUp*": 0.45, "eyeWide*": 0.80, "mouthStretch*": 0.80, "jawOpen": 0.22},
    "sadness": {"browInnerUp": 1.00, "mouthFrown*": 0.70, "mouthShrugLower": 0.40, "eyeBlink*": 0.15},
    "contempt_left": {"mouthDimpleLeft": 0.80, "mouthSmileLeft": 0.25, "mouthPressLeft": 0.30, "browOuterUpLeft": 0.25},
    "contempt_right": {"mouthDimpleRight": 0.80, "mouthSmileRight": 0.25, "mouthPressRight": 0.30,
                       "browOuterUpRight": 0.25},
    "smirk_left": {"mouthSmileLeft": 0.85, "cheekSquintLeft": 0.40, "mouthLeft": 0.15},
    "smirk_right": {"mouthSmileRight": 0.85, "cheekSquintRight": 0.40, "mouthRight": 0.15},
    "kiss": {"mouthPucker": 0.90, "mouthFunnel": 0.15},
    "pout": {"mouthShrugLower": 0.60, "mouthPucker": 0.35, "mouthFrown*": 0.35, "browDown*": 0.25},
    "blow": {"cheekPuff": 0.80, "mouthPucker": 0.50, "mouthFunnel": 0.20},
    "snarl": {"noseSneer*": 1.00, "mouthUpperUp*": 1.00, "mouthLowerDown*": 0.35, "browDown*": 0.60,
              "eyeSquint*": 0.30},
    "lips_pressed": {"mouthPress*": 0.70, "mouthRollUpper": 0.45, "mouthRollLower": 0.50},
    "mouth_open": {"jawOpen": 0.75},
    "jaw_left": {"jawLeft": 0.90, "mouthLeft": 0.30, "jawOpen": 0.10},
    "jaw_right": {"jawRight": 0.90, "mouthRight": 0.30, "jawOpen": 0.10},
    "mouth_left": {"mouthLeft": 0.80, "mouthPress*": 0.20},
    "mouth_right": {"mouthRight": 0.80, "mouthPress*": 0.20},
    "wink_left": {"eyeBlinkLeft": 1.00, "cheekSquintLeft": 0.55, "mouthSmileLeft": 0.35, "browDownLeft": 0.25},
    "wink_right": {"eyeBlinkRight": 1.00, "cheekSquintRight": 0.55, "mouthSmileRight": 0.35, "browDownRight": 0.25},
    "squint": {"eyeSquint*": 0.90, "cheekSquint*": 0.50, "browDown*": 0.45},
    "eyes_closed": {"eyeBlink*": 1.00},
    "brows_up": {"browInnerUp": 1.00, "browOuterUp*": 1.00, "eyeWide*": 0.25},
    "frown": {"browDown*": 1.00, "eyeSquint*": 0.20},
    "doubt_left": {"browOuterUpLeft": 1.00, "browDownRight": 0.80, "mouthShrugLower": 0.25},
    "doubt_right": {"browOuterUpRight": 1.00, "browDownLeft": 0.80, "mouthShrugLower": 0.25},
    "talk_a": {"jawOpen": 0.42, "mouthLowerDown*": 0.20, "mouthUpperUp*": 0.12},
    "talk_e": {"jawOpen": 0.16, "mouthStretch*": 0.45, "mouthLowerDown*": 0.55, "mouthUpperUp*": 0.35},
    "talk_o": {"jawOpen": 0.34, "mouthFunnel": 0.65, "mouthPucker": 0.20},
    "talk_m": {"mouthPress*": 0.35, "mouthRollLower": 0.25, "mouthRollUpper": 0.15},
}
# What a face that shows nothing does all the same, each a little at its own time.
IDLE = ("mouthSmile*", "mouthFrown*", "mouthPress*", "mouthStretch*", "mouthPucker", "mouthShrugLower", "browDown*",
        "browInnerUp", "browOuterUp*", "eyeSquint*", "cheekSquint*", "jawOpen", "jawForward", "mouthLeft", "mouthRight")
# fmt: on
LIDS_FOLLOW = 30.0  # degrees of gaze at which the lids have followed the eye as far as its unit goes


def sided(units: dict[str, float]) -> dict[str, float]:
    """The weights with every `*` written out as Left and Right."""
    out: dict[str, float] = {}
    for unit, weight in units.items():
        sides = [unit[:-1] + side for side in ("Left", "Right")] if unit.endswith("*") else [unit]
        out.update(dict.fromkeys(sides, weight))
    return out


SIDED = {"neutral": dict[str, float](), **{name: sided(units) for name, units in EXPRESSIONS.items()}}
IDLE_UNITS = tuple(sided(dict.fromkeys(IDLE, 1.0)))
VARIED = tuple(sorted({unit for units in SIDED.values() for unit in units} | set(IDLE_UNITS)))
PLACE = {unit: i for i, unit in enumerate(VARIED)}
LEFT = np.array([unit.endswith("Left") for unit in VARIED], float)
RIGHT = np.array([unit.endswith("Right") for unit in VARIED], float)
WEIGHTS = {name: np.array([units.get(unit, 0.0) for unit in VARIED]) for name, units in SIDED.items()}
IDLING = np.array([unit in IDLE_UNITS for unit in VARIED], float)


def perform(
    name: str,
    intensity: float,
    generator: np.random.Generator,
    *,
    variation: float,
    asymmetry: float,
    idle: float,
    lids: float,
    gaze: tuple[float, float],
) -> dict[str, float]:
    """Units of one performance of a named expression, 0 to 1 each, those that are 0 left out.

    variation  standard deviation of each unit's own factor
    asymmetry  standard deviation of the factor by which left and right differ
    idle       standard deviation of what every idle unit does besides
    lids       0 as they rest; above 0 closed by so much (eyeBlink), below 0 opened (eyeWide)
    gaze       degrees to the subject's left and up: the lids follow (eyeLookUp, Down, In, Out)
    """
    u = np.clip(generator.random(2 * len(VARIED) + 1), 0.014, 0.986)  # normals are truncated at 2.2 sd
    z = ndtri(u)
    factor = np.maximum(1 + variation * z[: len(VARIED)], 0) * (1 + asymmetry * z[-1] * (LEFT - RIGHT))
    weights = WEIGHTS[name] * intensity * factor + IDLING * idle * np.maximum(z[len(VARIED) : -1], 0)
    for side in ("Left", "Right"):
        blink, wide = PLACE[f"eyeBlink{side}"], PLACE[f"eyeWide{side}"]
        weights[blink] = 1 - (1 - weights[blink]) * (1 - max(lids, 0.0))
        weights[wide] += max(-lids, 0.0) * (1 - weights[blink])
    weights = np.clip(weights, 0, 1)
    out = {unit: round(weight, 4) for unit, weight in zip(VARIED, weights.tolist(), strict=True) if weight > 1e-3}
    horizontal, vertical = (math.copysign(min(abs(angle) / LIDS_FOLLOW, 1), angle) for angle in gaze)
    follow = {
        "eyeLookInRight": horizontal,
        "eyeLookOutLeft": horizontal,
        "eyeLookInLeft": -horizontal,
        "eyeLookOutRight": -horizontal,
        "eyeLookUpLeft": vertical,
        "eyeLookUpRight": vertical,
        "eyeLookDownLeft": -vertical,
        "eyeLookDownRight": -vertical,
    }
    return out | {unit: round(weight, 4) for unit, weight in follow.items() if weight > 1e-3}
