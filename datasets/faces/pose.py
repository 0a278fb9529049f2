"""Where the person stands and how the head is turned: head space to camera space.

The torso and the head have rotations of their own; what lies between them, the neck, turns by a share of the difference
(`follows`). Angles as person.py gives them.
"""

from dataclasses import dataclass

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.person import Camera, Pose
from datasets.faces.raster import project

PIVOT = np.array([0.0, 0.600, 0.020], np.float32)  # head space: the middle of the neck
SENSOR = 36.0  # millimetres, width
NEAREST = 0.30  # metres: nobody holds a camera nearer to a face
MARGIN = 0.03  # of the frame, that the landmarks stay inside of


@dataclass(frozen=True)
class Placement:
    """Head space to camera space, and the focal length in widths of the frame.

    torso, head    float32 [3, 3] rotations
    between        float32 [3], rotation vector from torso to head
    translation    float32 [3] metres, of the pivot
    """

    torso: np.ndarray
    head: np.ndarray
    between: np.ndarray
    translation: np.ndarray
    focal: float

    def place(self, points: np.ndarray, follows: np.ndarray) -> np.ndarray:
        """Points float32 [n, 3] in head space to camera space; `follows` float32 [n], 0 torso .. 1 head."""
        return _turn(points, follows, self.between, self.torso, PIVOT, self.translation)

    @property
    def world_to_camera(self) -> np.ndarray:
        """float32 [4, 4], of the torso's space."""
        out = np.eye(4, dtype=np.float32)
        out[:3, :3] = self.torso
        out[:3, 3] = self.translation - self.torso @ PIVOT
        return out


def follow_weights(canonical: np.ndarray) -> np.ndarray:
    """How much positions on the body float32 [n, 3] follow the head: 0 below the neck, 1 from chin and nape upward."""
    along = (canonical[:, 1] + 0.35 * (canonical[:, 2] - 0.03) - 0.515) / (0.625 - 0.515)
    t = np.clip(along, 0.0, 1.0)
    return (t * t * (3.0 - 2.0 * t)).astype(np.float32)


def stand(pose: Pose, camera: Camera, landmarks: np.ndarray) -> Placement:
    """Places a head so that its face is as large and as central as the camera says, and wholly in the frame.

    landmarks float32 [68, 3] in head space, of the expression. A face that would reach over the frame's edge is moved
    in, and away from the camera, until it does not; nor does a camera come nearer to it than NEAREST.
    """
    head = _rotation(pose.yaw, pose.pitch, pose.roll + camera.roll)
    torso = _rotation(pose.body * pose.yaw, 0.35 * pose.body * pose.pitch, 0.5 * pose.body * pose.roll + camera.roll)
    between = _rotation_vector(head @ torso.T)
    focal = camera.focal / SENSOR
    turned = (landmarks - PIVOT) @ head.T
    brows, chin = landmarks[17:27].mean(0), landmarks[8]
    asked = focal * float(np.linalg.norm(brows - chin)) / camera.face_height
    distance = max(asked, NEAREST)
    middle = (turned[17:27].mean(0) + turned[8]) / 2
    center = np.array(camera.center, np.float64)
    while True:
        ray = np.array([(center[0] - 0.5) / focal, (0.5 - center[1]) / focal, -1.0])
        translation = distance * ray - middle
        screen = project((turned + translation).astype(np.float32), focal, 0.5)[:, :2]
        low, high = screen.min(0), screen.max(0)
        shift = np.maximum(MARGIN - low, 0.0) - np.maximum(high - (1 - MARGIN), 0.0)
        if not shift.any():
            break
        center += shift
        # A face too large for the frame, or one that is seen too obliquely for a shift to end, goes further away.
        distance *= 1.03
    return Placement(torso, head, between, translation.astype(np.float32), focal)


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation for degrees: the subject to its own left, chin up, the head towards the image's right."""
    a, b, c = np.radians([yaw, -pitch, -roll])
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    nod = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    tilt = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return (tilt @ turn @ nod).astype(np.float32)


def _rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle in radians, float32 [3], of a rotation by less than half a turn."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine, cosine = float(np.linalg.norm(axis)) / 2, (float(np.trace(rotation)) - 1) / 2
    if sine < 1e-7:
        return np.zeros(3, np.float32)
    return (axis / (2 * sine) * np.arctan2(sine, cosine)).astype(np.float32)


@kernel
def _turn(
    points: np.ndarray,
    follows: np.ndarray,
    between: np.ndarray,
    torso: np.ndarray,
    pivot: np.ndarray,
    translation: np.ndarray,
) -> np.ndarray:
    out = np.empty_like(points)
    angle = np.sqrt(between[0] ** 2 + between[1] ** 2 + between[2] ** 2)
    ax, ay, az = (between[0] / angle, between[1] / angle, between[2] / angle) if angle > 0 else (0.0, 1.0, 0.0)
    for i in range(len(points)):
        px, py, pz = points[i, 0] - pivot[0], points[i, 1] - pivot[1], points[i, 2] - pivot[2]
        x = torso[0, 0] * px + torso[0, 1] * py + torso[0, 2] * pz
        y = torso[1, 0] * px + torso[1, 1] * py + torso[1, 2] * pz
        z = torso[2, 0] * px + torso[2, 1] * py + torso[2, 2] * pz
        # Rodrigues' formula for a share of the angle.
        c, s = np.cos(angle * follows[i]), np.sin(angle * follows[i])
        d = (ax * x + ay * y + az * z) * (1 - c)
        out[i, 0] = x * c + (ay * z - az * y) * s + ax * d + translation[0]
        out[i, 1] = y * c + (az * x - ax * z) * s + ay * d + translation[1]
        out[i, 2] = z * c + (ax * y - ay * x) * s + az * d + translation[2]
    return out
