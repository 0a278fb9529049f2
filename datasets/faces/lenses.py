"""Glass before what is already drawn: tinted, mirroring the surroundings."""

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.raster import NOTHING, Buffer, scatter
from datasets.faces.shade import COLOR, NORMAL, Solids
from datasets.faces.surface import Lamp, reflected

HIDES = 0.5  # opacity from which what lies behind a lens is not seen
GLOSS, ROUGH = 1.4, 0.12
BRIGHTEST = 0.12  # of a reflection, so that a lens still looks like one before a bright window


@kernel
def glaze(  # type: ignore[no-untyped-def]
    glass: Buffer, focal: float, solids: Solids, opacity, lamp: Lamp, color, normals, segments, beneath
):
    """Draws translucent triangles over color and segments [N, N], in place.

    glass    a z-buffer of the translucent triangles alone, where they lie before the opaque ones
    opacity  float32 [T]
    beneath  float32 [N, N] 1/depth of the opaque ones

    A lens that hides what is behind takes the pixel's segment, normal and depth; a clear one leaves them. Before the
    background, a lens covers as many fine pixels as it is opaque.
    """
    height, width = glass.code.shape
    for row in range(height):
        for column in range(width):
            t = glass.code[row, column]
            if t == NOTHING:
                continue
            bare = segments[row, column] == 0
            if bare and scatter(row, column, 7) > opacity[t]:
                continue
            x = (column + 0.5 - 0.5 * width) / focal
            y = (0.5 * height - row - 0.5) / focal
            length = np.sqrt(x * x + y * y + 1.0)
            view = (-x / length, -y / length, 1.0 / length)
            wb, wc = glass.u[row, column], glass.v[row, column]
            wa = 1.0 - wb - wc
            of = solids.attributes
            a, b, c = solids.triangles[t, 0], solids.triangles[t, 1], solids.triangles[t, 2]
            nx, ny, nz = (
                wa * of[a, NORMAL] + wb * of[b, NORMAL] + wc * of[c, NORMAL],
                wa * of[a, NORMAL + 1] + wb * of[b, NORMAL + 1] + wc * of[c, NORMAL + 1],
                wa * of[a, NORMAL + 2] + wb * of[b, NORMAL + 2] + wc * of[c, NORMAL + 2],
            )
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            if nx * view[0] + ny * view[1] + nz * view[2] < 0.0:
                length = -length
            normal = (nx / length, ny / length, nz / length)
            through = 0.0 if bare else 1.0 - opacity[t]
            tint = (
                (wa * of[a, COLOR] + wb * of[b, COLOR] + wc * of[c, COLOR]) * (1.0 - through),
                (wa * of[a, COLOR + 1] + wb * of[b, COLOR + 1] + wc * of[c, COLOR + 1]) * (1.0 - through),
                (wa * of[a, COLOR + 2] + wb * of[b, COLOR + 2] + wc * of[c, COLOR + 2]) * (1.0 - through),
            )
            red, green, blue = reflected(tint, normal, view, GLOSS, ROUGH, 1.0, 0.0, lamp, 1.0)
            color[row, column, 0] = color[row, column, 0] * through + min(red, BRIGHTEST)
            color[row, column, 1] = color[row, column, 1] * through + min(green, BRIGHTEST)
            color[row, column, 2] = color[row, column, 2] * through + min(blue, BRIGHTEST)
            if bare or opacity[t] >= HIDES:
                segments[row, column] = solids.segment[t]
                normals[row, column, 0], normals[row, column, 1], normals[row, column, 2] = normal
                beneath[row, column] = glass.near[row, column]
