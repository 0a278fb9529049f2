"""From a person to everything that can be drawn: posed vertices, eyes, hair and what is worn, in camera space."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from datasets.faces.eyeball import Balls
from datasets.faces.geometry import Mesh, Strands, vertex_normals
from datasets.faces.head import Head, load_head
from datasets.faces.occlusion import ambient_occlusion
from datasets.faces.person import Person
from datasets.faces.pose import Placement, follow_weights, stand
from datasets.faces.shade import (
    ATTRIBUTES,
    CANONICAL,
    COLOR,
    EARS,
    INSIDE,
    NORMAL,
    OCCLUSION,
    SKIN,
    TEETH,
    TONGUE,
    WORN,
    Solids,
)
from datasets.faces.worn import wear


@dataclass(frozen=True)
class Body:
    """What of the head model is the same for everybody: per vertex float32 [V], materials uint8 [T]."""

    head: Head
    occlusion: np.ndarray
    follows: np.ndarray
    material: np.ndarray


@cache
def load_body() -> Body:
    """The head model with what is computed from it, once a process."""
    head = load_head()
    material = np.array([SKIN, TONGUE, TEETH, TEETH], np.uint8)[head.part]
    follows = follow_weights(head.canonical)
    # Darker than its share of the sky: of what lies in a fold, the camera sees the deep part.
    occlusion = ambient_occlusion(head.canonical, head.triangles, head.normals(head.canonical)) ** 1.3
    return Body(head, occlusion.astype(np.float32), follows, material)


@dataclass(frozen=True)
class Scene:
    """All in camera space, metres. Vertices of the head model come first, those of worn things after them."""

    head: Head
    placement: Placement
    vertices: np.ndarray  # float32 [V, 3]
    solids: Solids  # the head model's triangles, then what is worn, translucent things last
    opacity: np.ndarray  # float32 [T]
    body_triangles: int  # how many are the head model's
    opaque_triangles: int  # how many are opaque
    balls: Balls
    landmarks: np.ndarray  # float32 [68, 3]


def build(person: Person) -> tuple[Scene, np.ndarray, np.ndarray]:
    """The scene without its strands, and the person's neutral and expressive vertices in head space [V, 3]."""
    body = load_body()
    head = body.head
    neutral = head.sculpt(person.identity)
    posed = head.express(neutral, person.expression.units)
    placement = stand(person.pose, person.camera, posed[head.landmarks])
    worn = sorted(wear(head, neutral, posed, person), key=lambda mesh: bool((mesh.opacity < 1).any()))
    vertices = [placement.place(posed, body.follows)]
    attributes = [np.zeros((len(posed), ATTRIBUTES), np.float32)]
    attributes[0][:, NORMAL : NORMAL + 3] = vertex_normals(vertices[0], head.triangles)
    attributes[0][:, CANONICAL : CANONICAL + 3] = head.canonical
    attributes[0][:, OCCLUSION] = body.occlusion
    attributes[0][:, EARS], attributes[0][:, INSIDE] = head.masks["ears"], head.masks["inside-mouth"]
    triangles, first = [head.triangles], len(posed)
    for mesh in worn:
        vertices.append(placement.place(mesh.vertices, mesh.follows))
        attributes.append(_worn_attributes(mesh, vertices[-1]))
        triangles.append(mesh.triangles + np.int32(first))
        first += len(mesh.vertices)
    count = len(head.triangles)
    segment = np.concatenate([np.zeros(count, np.uint8), *(mesh.segment for mesh in worn)])
    gloss = np.concatenate([np.zeros(count, np.float32), *(mesh.gloss for mesh in worn)])
    opacity = np.concatenate([np.ones(count, np.float32), *(mesh.opacity for mesh in worn)])
    material = np.concatenate([body.material, np.full(len(segment) - count, WORN, np.uint8)])
    eyes = head.eyes(neutral)
    scene = Scene(
        head=head,
        placement=placement,
        vertices=np.concatenate(vertices),
        solids=Solids(
            np.ascontiguousarray(np.concatenate(triangles)),
            material,
            segment,
            gloss.astype(np.float32),
            np.concatenate(attributes),
        ),
        opacity=opacity.astype(np.float32),
        body_triangles=count,
        opaque_triangles=int((opacity >= 1).sum()),
        balls=Balls(
            placement.place(eyes.centers, np.ones(2, np.float32)),
            eyes.radii,
            _eye_frames(person, placement.head),
            placement.head,
            _lid_edges(posed, head, eyes.centers, eyes.radii),
        ),
        landmarks=vertices[0][head.landmarks],
    )
    return scene, neutral, posed


def place_strands(strands: Strands, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Points and outward directions of strands, float32 [n, k, 3] each, in camera space."""
    shape = strands.points.shape
    follows = np.ascontiguousarray(strands.follows.reshape(-1), np.float32)
    points = np.ascontiguousarray(strands.points.reshape(-1, 3), np.float32)
    tips = points + np.float32(0.01) * strands.outward.reshape(-1, 3)
    placed, ends = placement.place(points, follows), placement.place(np.ascontiguousarray(tips, np.float32), follows)
    return placed.reshape(shape), ((ends - placed) * np.float32(100)).reshape(shape)


def _worn_attributes(mesh: Mesh, placed: np.ndarray) -> np.ndarray:
    out = np.zeros((len(placed), ATTRIBUTES), np.float32)
    out[:, NORMAL : NORMAL + 3] = vertex_normals(placed, mesh.triangles)
    out[:, OCCLUSION] = 1.0
    out[:, COLOR : COLOR + 3] = mesh.color
    return out


def _eye_frames(person: Person, head_turn: np.ndarray) -> np.ndarray:
    """float32 [2, 3, 3]: each eye's x, y and axis in camera space."""
    horizontal, vertical = person.expression.gaze
    frames = []
    for inward in (person.expression.vergence, -person.expression.vergence):
        a, b = np.radians([horizontal + inward, vertical])
        axis = np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])
        x = np.cross([0, 1, 0], axis)
        x /= np.linalg.norm(x)
        frames.append(np.stack([x, np.cross(axis, x), axis]) @ head_turn.T)
    return np.ascontiguousarray(frames, np.float32)


def _lid_edges(posed: np.ndarray, head: Head, centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Sine of the elevation of the upper lids' edges over the eyeballs' centres, the subject's right eye first."""
    upper = np.stack([posed[head.landmarks[[37, 38]], 1].mean(), posed[head.landmarks[[43, 44]], 1].mean()])
    return np.clip((upper - centers[:, 1]) / radii, -1, 1).astype(np.float32)
