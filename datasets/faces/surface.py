"""How surfaces send light on: what the shading of skin, cloth, eyes and glass has in common."""

from typing import NamedTuple

import numpy as np

from datasets.faces.compiled import inlined
from datasets.faces.light import environment_at, sh_irradiance
from datasets.faces.shadow import lit_share

MIRROR = 0.25  # rougher surfaces mirror the environment's irradiance instead of its image
SPECULAR = 0.028  # reflectance at normal incidence, of skin


class Lamp(NamedTuple):
    """The light of a picture, camera space, linear RGB; see light.py and shadow.py."""

    direction: tuple[float, float, float]  # towards the key
    key: tuple[float, float, float]  # its irradiance
    shadow: float  # 0 no cast shadow .. 1 black
    spread: float  # metres by which a shadow's edge is softened
    sh: np.ndarray  # float32 [9, 3]
    environment: np.ndarray  # float32 [16, 32, 3]
    depth: np.ndarray  # the shadow map
    frame: np.ndarray
    middle: np.ndarray


@inlined
def arriving(lamp: Lamp, place: tuple[float, float, float], bias: float) -> float:
    """The share of the key light that reaches a place, by the shadow map, 0 to 1."""
    return lit_share(lamp.depth, lamp.frame, lamp.middle, place[0], place[1], place[2], lamp.spread, bias)


@inlined
def reflected(albedo, normal, view, gloss, rough, occlusion, wrap, lamp, lit):  # type: ignore[no-untyped-def]
    """Radiance (3 floats) that a surface sends along `view`; vectors are tuples of 3 floats.

    gloss      factor of the mirrored light, of which there is least (SPECULAR) where one looks straight on
    rough      0 mirror .. 1 matte
    occlusion  share of the environment that the place sees
    wrap       how far light creeps around the edge of the shadow, as it does in skin; more red than blue
    lit        share of the key light that arrives
    """
    nx, ny, nz = normal
    er, eg, eb = sh_irradiance(lamp.sh, nx, ny, nz)
    light, key = lamp.direction, lamp.key
    facing = nx * light[0] + ny * light[1] + nz * light[2]
    dr = max((facing + wrap) / (1.0 + wrap), 0.0) * lit
    dg = max((facing + 0.45 * wrap) / (1.0 + 0.45 * wrap), 0.0) * lit
    db = max((facing + 0.25 * wrap) / (1.0 + 0.25 * wrap), 0.0) * lit
    k = 1.0 / np.pi
    red = albedo[0] * k * (er * _bounced(occlusion, albedo[0]) + key[0] * dr)
    green = albedo[1] * k * (eg * _bounced(occlusion, albedo[1]) + key[1] * dg)
    blue = albedo[2] * k * (eb * _bounced(occlusion, albedo[2]) + key[2] * db)
    if gloss > 0.0:
        toward = max(nx * view[0] + ny * view[1] + nz * view[2], 0.0)
        fresnel = SPECULAR + (1.0 - SPECULAR) * (1.0 - toward) ** 5 * (1.0 - 0.5 * rough)
        hx, hy, hz = light[0] + view[0], light[1] + view[1], light[2] + view[2]
        half = max((nx * hx + ny * hy + nz * hz) / (np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9), 0.0)
        # Blinn and Phong's lobe of about the width of Beckmann's, normalised (Walter et al. 2007).
        power = 2.0 / (rough * rough * rough * rough) - 2.0
        shine = 0.0
        if facing > 0.0 and power * (1.0 - half) < 12.0:  # beyond, the lobe is less than 1e-5 of its peak
            shine = gloss * fresnel * (power + 8.0) / (8.0 * np.pi) * half**power * facing * lit
        rx, ry, rz = 2 * toward * nx - view[0], 2 * toward * ny - view[1], 2 * toward * nz - view[2]
        if rough > MIRROR:
            mr, mg, mb = sh_irradiance(lamp.sh, rx, ry, rz)
            mr, mg, mb = mr * k, mg * k, mb * k
        else:
            mr, mg, mb = environment_at(lamp.environment, rx, ry, rz)
        mirror = gloss * fresnel * occlusion * occlusion
        red += key[0] * shine + mr * mirror
        green += key[1] * shine + mg * mirror
        blue += key[2] * shine + mb * mirror
    return red, green, blue


@inlined
def _bounced(visibility: float, albedo: float) -> float:
    """Visibility with the light that has bounced within a fold, of the surface's colour (Jimenez et al. 2016)."""
    a = 2.0404 * albedo - 0.3324
    b = -4.7951 * albedo + 0.6417
    c = 2.7552 * albedo + 0.6903
    return max(visibility, ((visibility * a + b) * visibility + c) * visibility)
