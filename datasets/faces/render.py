"""A picture of a person, with every label: the pieces put together, in the order in which a picture comes about."""

import json

import numpy as np

from datasets.faces import raster, shadow
from datasets.faces.backdrop import backdrop
from datasets.faces.beard import grow_beard, pack_beard
from datasets.faces.camera import develop, tone
from datasets.faces.contour import JAW, visible_outline
from datasets.faces.fibre import Locks
from datasets.faces.grain import noise_table
from datasets.faces.habits import redraw
from datasets.faces.hair import grow, mean_color
from datasets.faces.hairline import pack_hair
from datasets.faces.lashes import grow_lashes
from datasets.faces.lenses import HIDES, glaze
from datasets.faces.light import Illumination, illuminate
from datasets.faces.person import Person
from datasets.faces.population import Labels
from datasets.faces.regions import load_atlas
from datasets.faces.resolve import resolve
from datasets.faces.scene import Scene, build, place_strands
from datasets.faces.shade import Paint, shade
from datasets.faces.skin import pack_skin
from datasets.faces.surface import Lamp
from datasets.faces.worn import cut
from datasets.panorama import Panoramas
from datasets.segments import class_table

SIZES = (16, 1024)  # pixels
TOLERANCE = 0.008  # metres that may lie before a landmark that counts as visible


def fineness(size: int) -> int:
    """Fine pixels along a pixel's side, 2 to 4: small pictures are sampled more finely, for the sake of their edges."""
    return min(4, max(2, 256 // size))


def render(
    person: Person, size: int, panoramas: Panoramas | None = None, labels: Labels | None = None
) -> dict[str, np.ndarray | str]:
    """A picture of `size` x `size` pixels with its labels, a pure function of what it is given.

    image, foreground, background   uint8 [S, S, 3] sRGB. Before the camera's blur, noise and JPEG,
                    image = alpha foreground + (1 - alpha) background; foreground is 0 where alpha is
    alpha           uint8 [S, S], coverage by the person and what it wears
    segmentation    uint8 [S, S], the nine classes of datasets/classes.py as a labeller with these habits draws them
    segments        uint8 [S, S], what is seen, datasets/segments.py
    depth           float16 [S, S], metres along the camera's axis; 0 on the background
    normals         float16 [S, S, 3], unit, camera space (x right, y up, z towards the camera); 0 on the background
    landmarks       float32 [68, 2] (x, y) in pixels, the first pixel's centre at (0, 0): projections of the iBUG
                    points, also of hidden ones; landmarks_contour has the jaw on the visible outline
    landmarks_visible  uint8 [68]: in the frame, and nothing before it
    pupils, gaze    float32 [2, 2] pixels and [2, 3] unit vectors in camera space, of the subject's right and left eye
    intrinsics      float32 [3, 3] pixels, as the Face API's: K (x, -y, -z) counts from the picture's corner, half a
                    pixel more than the landmarks
    world_to_camera float32 [4, 4], of the space in which the torso stands
    metadata        str, JSON: the person as it was drawn

    Raises ValueError for a size outside 16 to 1024.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size must be {SIZES[0]} to {SIZES[1]} pixels, but got {size}")
    labels = labels or Labels()
    factor = fineness(size)
    fine = size * factor
    scene, neutral, posed = build(person)
    focal = scene.placement.focal * fine
    locks, covered = _locks(scene, neutral, posed, person, size / 128)
    screen = raster.project(scene.vertices, focal, fine / 2)
    buffer = _draw(scene, screen, locks, covered, focal, fine)
    lamp = _lamp(scene, locks, illuminate(person.light, panoramas))
    color, normals = np.zeros((fine, fine, 3), np.float32), np.zeros((fine, fine, 3), np.float32)
    segments = np.zeros((fine, fine), np.uint8)
    shade(buffer, focal, scene.solids, scene.balls, locks, _paint(person), lamp, color, normals, segments)
    hides = _glaze(scene, screen, buffer, lamp, color, normals, segments, focal)
    visible = _visible(scene, buffer, hides, focal, fine)

    table = class_table(nose_outer=labels.nose_outer, glasses=labels.glasses)
    drawn = redraw(table[segments], labels.grow)
    front, coverage, kept, label, depth, normal = resolve(color, normals, segments, drawn, buffer.near, factor)
    field_of_view = float(2 * np.degrees(np.arctan(0.5 / scene.placement.focal)))
    behind = backdrop(person.background, person.light, panoramas, size, field_of_view)
    foreground, background = _bytes(tone(front, person.camera)), _bytes(tone(behind, person.camera))
    alpha = np.rint(coverage * 255).astype(np.uint8)
    foreground[alpha == 0] = 0
    share = (alpha.astype(np.float32) / 255)[..., None]
    clean = (share * foreground + (1 - share) * background) / np.float32(255)
    marks = raster.project(scene.landmarks, scene.placement.focal * size, size / 2)[:, :2]
    outline = visible_outline(screen, scene.placement.head)[:, :2] / factor
    axes = np.ascontiguousarray(scene.balls.frames[:, 2])
    pupils = scene.balls.centers + axes * scene.balls.radii[:, None]
    half = np.float32(0.5)
    return {
        "image": develop(clean, person.camera),
        "segmentation": label,
        "segments": kept,
        "alpha": alpha,
        "foreground": foreground,
        "background": background,
        "depth": depth.astype(np.float16),
        "normals": normal.astype(np.float16),
        "landmarks": marks - half,
        "landmarks_contour": np.concatenate([outline, marks[JAW:]]) - half,
        "landmarks_visible": visible,
        "pupils": raster.project(pupils, scene.placement.focal * size, size / 2)[:, :2] - half,
        "gaze": axes,
        "intrinsics": _intrinsics(scene.placement.focal * size, size / 2),
        "world_to_camera": scene.placement.world_to_camera,
        "metadata": json.dumps(person.describe(), sort_keys=True),
    }


def _locks(
    scene: Scene, neutral: np.ndarray, posed: np.ndarray, person: Person, detail: float
) -> tuple[Locks, np.ndarray]:
    """Hair, beard and lashes, all with as many points a strand as the longest have, and which points are covered.

    detail  the picture's side over 128 pixels: larger pictures get more strands
    """
    head = scene.head
    grown = [
        grow(head, neutral, person, detail),
        grow_beard(head, posed, person, detail),
        grow_lashes(posed, person),
    ]
    parts = [strands for strands in grown if strands is not None]
    points = max(strands.points.shape[1] for strands in parts)
    placed = [place_strands(strands, scene.placement) for strands in parts]
    locks = Locks(
        np.concatenate([_lengthened(at, points) for at, _ in placed]),
        np.concatenate([_lengthened(out, points) for _, out in placed]),
        np.concatenate([_lengthened(np.asarray(strands.depth, np.float32), points) for strands in parts]),
        np.concatenate([strands.width for strands in parts]).astype(np.float32),
        np.concatenate([strands.color for strands in parts]).astype(np.float32),
        np.concatenate([np.full(len(strands.points), strands.segment, np.uint8) for strands in parts]),
    )
    at = np.concatenate([_lengthened(strands.points, points) for strands in parts])
    return locks, cut(head, neutral, posed, person, at)


def _lengthened(values: np.ndarray, points: int) -> np.ndarray:
    """values [n, k, ...] with the last point repeated up to `points`: segments without length are not drawn."""
    missing = points - values.shape[1]
    return np.concatenate([values, np.repeat(values[:, -1:], missing, axis=1)], axis=1) if missing else values


def _draw(
    scene: Scene, screen: np.ndarray, locks: Locks, covered: np.ndarray, focal: float, fine: int
) -> raster.Buffer:
    """All that is opaque."""
    buffer = raster.Buffer.empty(fine)
    count, triangles = scene.body_triangles, scene.solids.triangles
    raster.draw_triangles(screen, triangles[:count], 0, True, *buffer)
    raster.draw_triangles(screen, triangles[count : scene.opaque_triangles], count, False, *buffer)
    raster.draw_spheres(scene.balls.centers, scene.balls.radii, focal, fine / 2, buffer.code, buffer.near)
    seen = raster.project(locks.points.reshape(-1, 3), focal, fine / 2).reshape(locks.points.shape)
    seen[covered, 2] = 0.0
    raster.draw_strands(seen, locks.width, focal, raster.STRAND, *buffer)
    return buffer


def _lamp(scene: Scene, locks: Locks, light: Illumination) -> Lamp:
    """The light with its shadows."""
    middle = scene.landmarks[27] - scene.placement.head[:, 2] * np.float32(0.06)
    solid = scene.solids.triangles[: scene.opaque_triangles]
    cast = shadow.cast(light.direction, middle, scene.vertices, solid, locks.points)
    # A penumbra as of something 4 cm before the surface, and never sharper than half a texel of the map.
    spread = 0.04 * float(np.tan(np.radians(light.softness))) + 0.0012
    lx, ly, lz = light.direction.tolist()
    red, green, blue = light.key.tolist()
    return Lamp(
        (lx, ly, lz),
        (red, green, blue),
        light.shadow,
        spread,
        light.sh,
        light.environment,
        cast.depth,
        cast.frame,
        cast.middle,
    )


def _paint(person: Person) -> Paint:
    atlas = load_atlas()
    return Paint(
        pack_skin(person),
        atlas.ids,
        atlas.fields,
        noise_table(),
        pack_hair(person),
        pack_beard(person),
        np.asarray(mean_color(person), np.float32),
        np.array(person.facial_hair.color, np.float32),
    )


def _glaze(
    scene: Scene,
    screen: np.ndarray,
    buffer: raster.Buffer,
    lamp: Lamp,
    color: np.ndarray,
    normals: np.ndarray,
    segments: np.ndarray,
    focal: float,
) -> np.ndarray:
    """Draws the lenses over what is there, and tells where one hides what is behind it, bool [N, N]."""
    first = scene.opaque_triangles
    hides = np.zeros(segments.shape, bool)
    if first == len(scene.solids.triangles):
        return hides
    glass = raster.Buffer.empty(len(segments))
    glass.near[:] = buffer.near
    raster.draw_triangles(screen, scene.solids.triangles[first:], first, False, *glass)
    glaze(glass, focal, scene.solids, scene.opacity, lamp, color, normals, segments, buffer.near)
    there = glass.code != raster.NOTHING
    hides[there] = scene.opacity[glass.code[there]] >= HIDES
    return hides


def _visible(scene: Scene, buffer: raster.Buffer, hides: np.ndarray, focal: float, fine: int) -> np.ndarray:
    """uint8 [68]: whether most of the fine pixels about a landmark hold nothing that lies clearly before it."""
    out = np.zeros(68, np.uint8)
    for i, (x, y, near) in enumerate(raster.project(scene.landmarks, focal, fine / 2)):
        row, column = int(np.floor(y)), int(np.floor(x))
        if not (0 <= row < fine and 0 <= column < fine):
            continue
        window = (slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
        before = (buffer.near[window] > 1 / (1 / near - TOLERANCE)) | hides[window]
        out[i] = before.mean() < 0.5
    return out


def _intrinsics(focal: float, center: float) -> np.ndarray:
    return np.array([[focal, 0, center], [0, focal, center], [0, 0, 1]], np.float32)


def _bytes(srgb: np.ndarray) -> np.ndarray:
    return np.rint(srgb * 255).astype(np.uint8)
