"""What a person wears and how the picture is taken: accessories, clothes, light, camera and background.

Each is drawn from its own stream, as in draw.py. Colours come from three palettes: neutral (greys and near greys),
muted (what clothes mostly are) and vivid.
"""

import colorsys
import math
from bisect import bisect_right

from datasets.faces.distribution import Stream
from datasets.faces.nouns import Backgrounds, Cameras, Clothing, Lights, Worn
from datasets.faces.person import Accessories, Background, Camera, Clothes, Light, Vector
from datasets.srgb import linear_from_srgb

# Saturation and value (HSV of the encoded colour) of each palette, lowest and highest.
PALETTES = {
    "neutral": ((0.0, 0.10), (0.06, 0.95)),
    "muted": ((0.12, 0.50), (0.12, 0.85)),
    "vivid": ((0.55, 0.90), (0.30, 0.95)),
}
# Cumulative shares of hue 0 to 1 (red 0, yellow 1/6, green 1/3, cyan 1/2, blue 2/3, magenta 5/6): what people wear and
# have around them is brown, beige and blue more often than green, and hardly ever magenta (a guess).
HUE_SHARES = (0.0, 0.38, 0.48, 0.60, 0.90, 0.96, 1.0)
HUES = (0.0, 0.12, 0.20, 0.46, 0.70, 0.90, 1.0)


def draw_accessories(p: Worn, stream: Stream) -> Accessories:
    """Frames are black or brown metal or horn as a rule, lenses nearly clear or dark; headphones go without a hat."""
    glasses, shape = p.glasses.at(next(stream)), p.glasses_shape.at(next(stream))
    size, width = p.glasses_size.at(next(stream)), p.frame_width.at(next(stream))
    dark, frame = next(stream) < 0.65, color("vivid" if next(stream) < 0.2 else "muted", stream)
    clear, tint, light = stream.between(0.88, 0.97), color("muted", stream), stream.between(0.02, 0.22)
    lens = _scaled(tint, light / max(tint)) if glasses == "sunglasses" else _rgb(clear, clear, clear)
    hat, hat_color = p.hat.at(next(stream)), color(p.palette.at(next(stream)), stream)
    mask, blue, cloth = p.mask.at(next(stream)), stream.between(0.35, 1.0), color(p.palette.at(next(stream)), stream)
    headphones = p.headphones.at(next(stream))
    return Accessories(
        glasses=glasses,
        glasses_shape=shape,
        glasses_size=round(size, 3),
        frame_color=_scaled(frame, 0.12) if dark else frame,
        frame_width=round(width, 5),
        lens_color=lens,
        hat=hat,
        hat_color=hat_color,
        mask=mask,
        mask_color=_rgb(0.85 * blue, 0.9 * (0.5 + 0.5 * blue), 0.92) if mask == "surgical" else cloth,
        headphones=headphones if hat == "none" else "none",
        headphones_color=color("neutral" if next(stream) < 0.7 else "vivid", stream),
        seed=stream.seed(),
    )


def draw_clothes(p: Clothing, stream: Stream) -> Clothes:
    return Clothes(
        neckline=p.neckline.at(next(stream)),
        color=color(p.palette.at(next(stream)), stream),
        second_color=color(p.palette.at(next(stream)), stream),
        pattern=p.pattern.at(next(stream)),
        scale=round(p.scale.at(next(stream)), 4),
        seed=stream.seed(),
    )


def draw_light(p: Lights, panoramas: tuple[str, ...], stream: Stream) -> Light:
    """A panorama of those given (by name), or the procedural environment; and the directional light."""
    lit, which = next(stream) * 100 < p.panorama_percent, next(stream)
    azimuth, elevation = (math.radians(spread.at(next(stream))) for spread in (p.azimuth, p.elevation))
    strength, kelvin = p.strength.at(next(stream)), p.temperature.at(next(stream))
    return Light(
        environment=panoramas[int(which * len(panoramas))] if panoramas and lit else "procedural",
        exposure=round(p.exposure.at(next(stream)), 3),
        turn=round(stream.between(0, 360), 2),
        ambient=round(p.ambient.at(next(stream)), 3),
        direction=_rgb(
            math.sin(azimuth) * math.cos(elevation), math.sin(elevation), math.cos(azimuth) * math.cos(elevation)
        ),
        key=_scaled(white_of(kelvin), strength),
        shadow=round(p.shadow.at(next(stream)), 3),
        softness=round(p.softness.at(next(stream)), 3),
        seed=stream.seed(),
    )


def draw_camera(p: Cameras, stream: Stream) -> Camera:
    focal, height = p.focal.at(next(stream)), p.face_height.at(next(stream))
    center = (round(p.center_x.at(next(stream)), 4), round(p.center_y.at(next(stream)), 4))
    roll, warmth, tint = (spread.at(next(stream)) for spread in (p.roll, p.warmth, p.tint))
    return Camera(
        focal=round(focal, 2),
        face_height=round(height, 4),
        center=center,
        roll=round(roll, 3),
        white_balance=_rgb(2 ** (0.5 * warmth), 2 ** (0.25 * tint), 2 ** (-0.5 * warmth)),
        contrast=round(p.contrast.at(next(stream)), 3),
        saturation=round(p.saturation.at(next(stream)), 3),
        blur=round(p.blur.at(next(stream)), 3),
        noise=round(p.noise.at(next(stream)), 5),
        jpeg=round(p.jpeg.at(next(stream))),
        seed=stream.seed(),
    )


def draw_background(p: Backgrounds, environment: str, stream: Stream) -> Background:
    """The panorama that lights the person, in its share of such pictures, else a procedural kind."""
    shown, kind = next(stream) * 100 < p.panorama_percent, p.kind.at(next(stream))
    return Background(
        kind="panorama" if shown and environment != "procedural" else kind,
        blur=round(p.blur.at(next(stream)), 3),
        colors=tuple(color(p.palette.at(next(stream)), stream) for _ in range(4)),
        pitch=round(p.pitch.at(next(stream)), 3),
        seed=stream.seed(),
    )


def color(palette: str, stream: Stream) -> Vector:
    """A linear RGB colour of a palette; takes three numbers of the stream."""
    saturation, value = PALETTES[palette]
    u = next(stream)
    i = min(bisect_right(HUE_SHARES, u), len(HUES) - 1)
    hue = HUES[i - 1] + (HUES[i] - HUES[i - 1]) * (u - HUE_SHARES[i - 1]) / (HUE_SHARES[i] - HUE_SHARES[i - 1])
    encoded = colorsys.hsv_to_rgb(hue, stream.between(*saturation), stream.between(*value))
    return _rgb(*linear_from_srgb(encoded).tolist())


def white_of(kelvin: float) -> Vector:
    """Linear sRGB of a black body's light with luminance 1, no channel below 0.

    Chromaticity by Kim et al. 2002 (cubic splines, 1667 to 25000 K; from memory), divided by that of 6500 K, which is
    white here.
    """
    channels = zip(_black_body(kelvin), _black_body(6500), strict=True)
    red, green, blue = (max(channel, 0.0) / white for channel, white in channels)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return _rgb(red / luminance, green / luminance, blue / luminance)


def _black_body(kelvin: float) -> Vector:
    t = 1000 / kelvin
    if kelvin < 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
    else:
        x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    if kelvin < 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin < 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    big_x, big_z = x / y, (1 - x - y) / y
    return (
        3.2404542 * big_x - 1.5371385 - 0.4985314 * big_z,
        -0.9692660 * big_x + 1.8760108 + 0.0415560 * big_z,
        0.0556434 * big_x - 0.2040259 + 1.0572252 * big_z,
    )


def _scaled(value: Vector, factor: float) -> Vector:
    return _rgb(*(v * factor for v in value))


def _rgb(*values: float) -> Vector:
    first, second, third = (round(value, 5) for value in values)
    return first, second, third
