"""What light each fine pixel of the z-buffer sends: one compiled pass over all of them."""

from typing import NamedTuple

import numpy as np

from datasets.faces.beard import stubble
from datasets.faces.compiled import inlined, kernel
from datasets.faces.eyeball import Balls, eyeball
from datasets.faces.fibre import Locks, fibre
from datasets.faces.grain import noise_at
from datasets.faces.hairline import scalp
from datasets.faces.raster import EYE, NOTHING, STRAND, Buffer
from datasets.faces.regions import MOUTHBAG, segment_at
from datasets.faces.skin import skin_color, step
from datasets.faces.surface import Lamp, arriving, reflected
from datasets.segments import SEGMENTS

# Columns of the vertices' attributes.
NORMAL, CANONICAL, OCCLUSION, EARS, INSIDE, COLOR, ATTRIBUTES = 0, 3, 6, 7, 8, 9, 12
SKIN, TONGUE, TEETH, WORN = 0, 1, 2, 3  # materials of triangles
BIAS = np.array([0.0035, 0.0035, 0.014, 0.006])  # metres before which a material's own surface casts no shadow on it
PAINTED = 0.42  # share of hair's colour on the scalp from which it is called hair

_ID = {name: np.uint8(i) for i, name in enumerate(SEGMENTS)}
HAIR, TEETH_ID, TONGUE_ID, EYE_RIGHT, EYE_LEFT = (
    _ID[name] for name in ("hair", "teeth", "tongue", "eye_right", "eye_left")
)


class Solids(NamedTuple):
    """All triangles of a picture."""

    triangles: np.ndarray  # int32 [T, 3]
    material: np.ndarray  # uint8 [T]
    segment: np.ndarray  # uint8 [T], of what is worn
    gloss: np.ndarray  # float32 [T], of what is worn
    attributes: np.ndarray  # float32 [V, ATTRIBUTES]


class Paint(NamedTuple):
    """What a person's skin looks like."""

    skin: np.ndarray  # skin.pack_skin
    ids: np.ndarray  # regions.Atlas
    fields: np.ndarray
    noise: np.ndarray  # grain.noise_table
    hair: np.ndarray  # hairline.pack_hair
    beard: np.ndarray  # beard.pack_beard
    hair_color: np.ndarray  # float32 [3] linear RGB
    beard_color: np.ndarray


@kernel
def shade(  # type: ignore[no-untyped-def]
    buffer: Buffer,
    focal: float,
    solids: Solids,
    balls: Balls,
    locks: Locks,
    paint: Paint,
    lamp: Lamp,
    color,
    normals,
    segments,
):
    """Fills color float32 [N, N, 3] (linear), normals float32 [N, N, 3] (camera space) and segments uint8 [N, N].

    focal is in fine pixels; the camera looks at the middle of the picture.
    """
    height, width = buffer.near.shape
    points = locks.points.shape[1]
    for row in range(height):
        for column in range(width):
            what = buffer.code[row, column]
            if what == NOTHING:
                continue
            u, v = buffer.u[row, column], buffer.v[row, column]
            depth = 1.0 / buffer.near[row, column]
            x = (column + 0.5 - 0.5 * width) / focal * depth
            y = (0.5 * height - row - 0.5) / focal * depth
            place = (x, y, -depth)
            distance = np.sqrt(x * x + y * y + depth * depth)
            view = (-x / distance, -y / distance, depth / distance)
            if what >= STRAND:
                s, k = (what - STRAND) // points, (what - STRAND) % points
                red, green, blue, nx, ny, nz = fibre(locks, s, k, u, v, place, view, lamp)
                segment = locks.segment[s]
            elif what >= EYE:
                e = what - EYE
                red, green, blue, nx, ny, nz = eyeball(
                    balls, e, place, view, depth / focal, paint.skin, paint.noise, lamp
                )
                segment = EYE_RIGHT if e == 0 else EYE_LEFT
            else:
                red, green, blue, nx, ny, nz, segment = _solid(
                    solids, what, u, v, place, view, depth / focal, paint, lamp
                )
            color[row, column, 0], color[row, column, 1], color[row, column, 2] = red, green, blue
            normals[row, column, 0], normals[row, column, 1], normals[row, column, 2] = nx, ny, nz
            segments[row, column] = segment


@inlined
def _solid(  # type: ignore[no-untyped-def]
    solids: Solids, t: int, wb: float, wc: float, place, view, footprint: float, paint: Paint, lamp: Lamp
):
    """Radiance, normal (6 floats) and segment of triangle t at the weights wb and wc of its second and third corner."""
    a, b, c = solids.triangles[t, 0], solids.triangles[t, 1], solids.triangles[t, 2]
    wa = 1.0 - wb - wc
    of = solids.attributes
    kind = solids.material[t]
    nx = wa * of[a, NORMAL] + wb * of[b, NORMAL] + wc * of[c, NORMAL]
    ny = wa * of[a, NORMAL + 1] + wb * of[b, NORMAL + 1] + wc * of[c, NORMAL + 1]
    nz = wa * of[a, NORMAL + 2] + wb * of[b, NORMAL + 2] + wc * of[c, NORMAL + 2]
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
    if kind == WORN and nx * view[0] + ny * view[1] + nz * view[2] < 0.0:
        length = -length  # the back of a sheet
    nx, ny, nz = nx / length, ny / length, nz / length
    occlusion = wa * of[a, OCCLUSION] + wb * of[b, OCCLUSION] + wc * of[c, OCCLUSION]
    if kind == WORN:
        red = wa * of[a, COLOR] + wb * of[b, COLOR] + wc * of[c, COLOR]
        green = wa * of[a, COLOR + 1] + wb * of[b, COLOR + 1] + wc * of[c, COLOR + 1]
        blue = wa * of[a, COLOR + 2] + wb * of[b, COLOR + 2] + wc * of[c, COLOR + 2]
        gloss, rough, wrap = 1.4 * solids.gloss[t], 0.62 - 0.42 * solids.gloss[t], 0.05
        segment = solids.segment[t]
        closed = 1.0
    else:
        x = wa * of[a, CANONICAL] + wb * of[b, CANONICAL] + wc * of[c, CANONICAL]
        y = wa * of[a, CANONICAL + 1] + wb * of[b, CANONICAL + 1] + wc * of[c, CANONICAL + 1]
        z = wa * of[a, CANONICAL + 2] + wb * of[b, CANONICAL + 2] + wc * of[c, CANONICAL + 2]
        rough, wrap = 0.50, 0.30
        closed = 1.0  # what of the key comes into the mouth
        if kind == SKIN:
            ears = wa * of[a, EARS] + wb * of[b, EARS] + wc * of[c, EARS]
            segment = segment_at(paint.ids, x, y, z, ears, wa * of[a, INSIDE] + wb * of[b, INSIDE] + wc * of[c, INSIDE])
            if segment == MOUTHBAG:
                red, green, blue, gloss = 0.16, 0.035, 0.03, 0.5
                occlusion = closed = 0.30 * step(0.06, 0.15, z)
            else:
                red, green, blue, gloss = skin_color(paint.skin, paint.fields, paint.noise, x, y, z, ears, footprint)
                painted, shaven = scalp(x, y, z, paint.hair), stubble(x, y, z, paint.beard)
                if painted > 0.0 or shaven > 0.0:
                    # Hairs come out of the skin as dots and short dashes.
                    dots = noise_at(paint.noise, x * 1100.0, y * 700.0, z * 1100.0)
                    h = min(max(painted * (1.0 + 0.22 * dots), 0.0), 0.96)
                    s = min(max(shaven * (1.0 + 0.45 * dots), 0.0), 0.92)
                    red = (red * (1 - h) + paint.hair_color[0] * h) * (1 - s) + paint.beard_color[0] * s
                    green = (green * (1 - h) + paint.hair_color[1] * h) * (1 - s) + paint.beard_color[1] * s
                    blue = (blue * (1 - h) + paint.hair_color[2] * h) * (1 - s) + paint.beard_color[2] * s
                    gloss *= (1.0 - h) * (1.0 - s)
                    if painted > PAINTED:
                        segment = HAIR
                occlusion = max(occlusion, 0.18)
        elif kind == TONGUE:
            red, green, blue, gloss = 0.42, 0.15, 0.14, 0.9
            occlusion = closed = 0.55 * step(0.06, 0.15, z)
            segment = TONGUE_ID
        else:
            gap = abs(x) if abs(x) < 0.002 else abs(((abs(x) + 0.0037) % 0.0075) - 0.0037)  # a tooth is 7.5 mm wide
            line = 1.0 - 0.45 * np.exp(-((gap / 0.0006) ** 2))
            red, green, blue, gloss = 0.68 * line, 0.62 * line, 0.52 * line, 0.8
            occlusion = closed = 0.9 * step(0.080, 0.140, z) * step(0.028, 0.017, abs(x))
            segment = TEETH_ID
    off = 0.003  # metres off the surface, so that a coarse map does not shade it
    reach = arriving(lamp, (place[0] + off * nx, place[1] + off * ny, place[2] + off * nz), BIAS[kind]) * closed
    lit = 1.0 - lamp.shadow * (1.0 - reach)
    red, green, blue = reflected((red, green, blue), (nx, ny, nz), view, gloss, rough, occlusion, wrap, lamp, lit)
    return red, green, blue, nx, ny, nz, segment
