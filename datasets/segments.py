"""The finer names under the nine face-parsing classes: the segments of Synthesis AI's Face API in 2021.

The id of a name in a pack's column `segments` is its index in `SEGMENTS`. A Face API image has ids of its own, which
differ from image to image, so that formats/face_api.py maps by name.

`_left` and `_right` are the SUBJECT's sides, while the classes `eye_left` and `eye_right` are the IMAGE's: hence the
swap. Measured on real renders: `eyes` and `mouth` are rings of skin around the eyes and the lips (the eyeballs are
`eye_*`, the inside of the mouth is `mouthbag`, `teeth` and `tongue`), `brow` is the forehead at and between the
eyebrows, `head` the scalp, `body` bare skin below the neck, and `nose_outer` a halo on the sides of the nose.
"""

from collections.abc import Mapping

import numpy as np

from datasets.classes import FACE_CLASSES

IGNORE = 255


def _sided(names: str) -> str:
    return " ".join(f"{name}_{side}" for name in names.split() for side in ("left", "right"))


# Class by class. An id is a position in this table, and packs hold ids: append new names at the end.
_NAMES: tuple[tuple[str, str], ...] = (
    ("background", "background clothing body neck shoulders headwear headphones mask"),
    ("background", "glasses glasses_frame glasses_lens"),  # or ignore; version 1 has one name, 1.2 two
    ("skin", "forehead brow eyebrow_left eyebrow_right temples cheek_left cheek_right chin jaw jowl smile_line mouth"),
    ("skin", "eyes eyelid eyelid_left eyelid_right eyelashes eyelash_left eyelash_right"),
    ("skin", "undereye undereye_left undereye_right ear_left ear_right head beard mustache"),
    ("skin", "nose_outer"),  # or nose
    ("eye_left", "eye_right sclera_right cornea_right pupil_right"),
    ("eye_right", "eye_left sclera_left cornea_left pupil_left"),
    ("nose", "nose nostrils"),
    ("upper_lip", "lip_upper"),
    ("inner_mouth", "mouthbag teeth tongue"),
    ("lower_lip", "lip_lower"),
    ("hair", "hair"),
    ("background", _sided("torso_upper torso_mid torso_lower arm_upper arm_lower hand nails leg_upper leg_lower foot")),
    ("background", _sided(" ".join(f"finger{k}_mid_bottom finger{k}_mid finger{k}_mid_top" for k in range(1, 6)))),
)
_CLASSES: dict[str, str] = {name: common for common, names in _NAMES for name in names.split()}

SEGMENTS: tuple[str, ...] = tuple(_CLASSES)


def class_table(*, nose_outer: str = "skin", glasses: str = "background") -> np.ndarray:
    """Segment id to common class, uint8 [256]: `class_table()[segments]` is the segmentation.

    nose_outer  "skin", as its place on real renders says, or "nose"
    glasses     "background" as in LaPa, or "ignore" (255), since lenses hide the eyes behind them

    Ids that no segment has, 255 among them, become ignore (255). Raises ValueError for another option.
    """
    if nose_outer not in ("skin", "nose"):
        raise ValueError(f"nose_outer must be skin or nose, but got {nose_outer!r}")
    if glasses not in ("background", "ignore"):
        raise ValueError(f"glasses must be background or ignore, but got {glasses!r}")
    table = np.full(256, IGNORE, np.uint8)
    for index, (name, common) in enumerate(_CLASSES.items()):
        table[index] = FACE_CLASSES.index(common)
        if name == "nose_outer":
            table[index] = FACE_CLASSES.index(nose_outer)
        if name.startswith("glasses") and glasses == "ignore":
            table[index] = IGNORE
    return table


def from_named(ids: np.ndarray, mapping: Mapping[str, int]) -> np.ndarray:
    """Indices in SEGMENTS, uint8 of the shape of `ids`, which are those that `mapping` gives to names.

    Raises ValueError for an id that `mapping` names not at all or twice, and for a name in use that is not in SEGMENTS.
    """
    names = {number: name for name, number in mapping.items()}
    if len(names) < len(mapping):
        twice = next(name for name, number in mapping.items() if names[number] != name)
        raise ValueError(f"ids of segments_mapping must differ, but {twice} and {names[mapping[twice]]} share one")
    present, inverse = np.unique(ids, return_inverse=True)
    for number in present.tolist():
        if number not in names:
            raise ValueError(f"ids must be in segments_mapping, but {number} is not")
        if names[number] not in _CLASSES:
            raise ValueError(f"segments must be those of datasets.segments, but id {number} is {names[number]!r}")
    known = np.array([SEGMENTS.index(names[number]) for number in present.tolist()], np.uint8)
    return known[inverse].reshape(ids.shape)
