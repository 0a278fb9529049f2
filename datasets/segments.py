"""The finer names under the nine face-parsing classes: the segments of Synthesis AI's Face API in 2021.

The id of a name in a pack's column `segments` is its index in `SEGMENTS`, that is its place in labels/face_api.yaml,
which also tells what the names mean. A Face API image has ids of its own, which differ from image to image, so that
formats/face_api.py maps by name.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np

from datasets.labels import load_labels

SEGMENTS: tuple[str, ...] = load_labels("face_api").names


@cache
def class_table(**choices: str) -> np.ndarray:
    """Segment id to common class, uint8 [256]: `class_table()[segments]` is the segmentation.

    choices  nose_outer: "skin", as its place on real renders says, or "nose"; glasses: "background" as in LaPa, or
             "ignore" (255), since lenses hide the eyes behind them

    Ids that no segment has, 255 among them, become ignore (255). Raises ValueError for another option.
    """
    return load_labels("face_api", choices).lookup


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
        if names[number] not in SEGMENTS:
            raise ValueError(f"segments must be those of datasets.segments, but id {number} is {names[number]!r}")
    known = np.array([SEGMENTS.index(names[number]) for number in present.tolist()], np.uint8)
    return known[inverse].reshape(ids.shape)
