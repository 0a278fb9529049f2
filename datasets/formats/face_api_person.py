"""A rendered person in the words of the Face API: what faces/person.py describes as sections of info.json.

Sections whose meaning is the same go as they are; angles and names of fields are those that the readers of real files
know. The metadata itself stays whole beside them (face_api_writer.py), so that nothing is lost here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def sections(person: Mapping[str, Any], world_to_camera: np.ndarray | None) -> dict[str, Any]:
    """The sections of info.json for `Person.describe()`, as far as it is there (a sample may have other metadata).

        identity                  identity_metadata
        expression                facial_attributes.expression {name, intensity, units} and .gaze, degrees to the
                                  subject's left and up as in real files, and vergence, which those do not know
        hair, facial_hair         facial_attributes.hair, .facial_hair
        pose, camera.roll         facial_attributes.head_turn {pitch, roll, yaw}, see `head_turn`
        accessories, clothes      accessories, clothing
        light.environment         hdri.name

    world_to_camera  float32 [4, 4] of the sample; without a camera there is no head_turn

    Raises ValueError where a part is there, but is not as person.py has it.
    """
    found: dict[str, Any] = {}
    attributes: dict[str, Any] = {name: person[name] for name in ("hair", "facial_hair") if name in person}
    try:
        if "expression" in person:
            expression = dict(person["expression"])
            horizontal, vertical = expression.pop("gaze")
            gaze = {"horizontal_angle": horizontal, "vertical_angle": vertical, "vergence": expression.pop("vergence")}
            attributes |= {"expression": expression, "gaze": gaze}
        if "pose" in person and world_to_camera is not None:
            pose = person["pose"]
            roll = pose["roll"] + person["camera"]["roll"]
            attributes["head_turn"] = head_turn(pose["yaw"], pose["pitch"], roll, world_to_camera[:3, :3])
        if "light" in person:
            found["hdri"] = {"name": person["light"]["environment"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"metadata must be as Person.describe gives it, but is not: {error!r}") from None
    for ours, theirs in (("identity", "identity_metadata"), ("accessories", "accessories"), ("clothes", "clothing")):
        if ours in person:
            found[theirs] = person[ours]
    return found | ({"facial_attributes": attributes} if attributes else {})


def head_turn(yaw: float, pitch: float, roll: float, world_to_camera: np.ndarray) -> dict[str, float]:
    """The Face API's angles, degrees, of a head whose pose against the camera is (yaw, pitch, roll) of person.py.

    world_to_camera  [3, 3] rotation

    Ours turn head space to camera space by Rz(-roll) Ry(yaw) Rx(-pitch). The Face API's turn head space to world space
    by Rx(pitch) Rz(roll) Ry(-yaw) (face_api_info.py), whose first row is (cos roll cos yaw, -sin roll, -cos roll sin
    yaw) and whose second column is (-sin roll, cos pitch cos roll, sin pitch cos roll).
    """
    a, b, c = np.radians([yaw, -pitch, -roll])
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    nod = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    tilt = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    head = np.linalg.multi_dot([world_to_camera.astype(np.float64).T, tilt, turn, nod])  # to world space
    angles = {
        "pitch": np.arctan2(head[2, 1], head[1, 1]),
        "roll": np.arcsin(np.clip(-head[0, 1], -1, 1)),
        "yaw": np.arctan2(-head[0, 2], head[0, 0]),
    }
    return {name: round(float(np.degrees(angle)), 4) for name, angle in angles.items()}
