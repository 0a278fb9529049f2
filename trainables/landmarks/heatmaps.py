"""Points to heatmaps and back: the targets of training, and how a prediction is read.

A heatmap pixel is 4 x 4 image pixels, and all coordinates count from the CENTRE of a first pixel, so that an image's x
is (x + 0.5) / 4 - 0.5 on its heatmap: `unbiased` and `refined`. The reference's code divides by 4, cuts what is behind
the point, and reads a peak at its pixel's middle, which it takes for half a pixel further on: `reference`.

Mean and root mean square of decode(encode(x)) - x over uniform x, one axis, sigma 1, in heatmap pixels (tests hold it):

    unbiased    0.00   0.14
    refined     0.00   0.00
    reference  -0.25   0.38
"""

from typing import Literal

import torch
from torch import Tensor

Decoding = Literal["unbiased", "refined", "reference"]


def on_heatmap(points: Tensor, stride: int, decoding: Decoding) -> Tensor:
    """Points [..., 2] of the image as places on its heatmaps; NaN stays NaN."""
    return points / stride if decoding == "reference" else (points + 0.5) / stride - 0.5


def on_image(places: Tensor, stride: int, decoding: Decoding) -> Tensor:
    """The inverse of `on_heatmap`."""
    return places * stride if decoding == "reference" else (places + 0.5) * stride - 0.5


def encode(places: Tensor, side: int, sigma: float, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """Target heatmaps, float32 [B, K, side, side], of places (x, y) float [B, K, 2], and which are there, bool [B, K].

    A Gaussian of deviation `sigma` and peak 1 at the place. A place that is NaN, or outside of the heatmap's pixels, is
    not there, and its map is 0. "reference": the place without its fraction, and no more than 3 sigma + 1 around it.
    """
    places = places.float()
    if decoding == "reference":
        places = places.floor()
    there = ((places >= -0.5) & (places < side - 0.5)).all(-1)  # never for NaN
    at = torch.arange(side, dtype=torch.float32, device=places.device)
    away = at - torch.where(there[..., None], places, 0.0)[..., None]  # [B, K, 2, side]
    profile = torch.exp(-away.square() / (2 * sigma**2))
    if decoding == "reference":
        profile = torch.where(away.abs() <= int(3 * sigma + 1), profile, 0.0)
    maps = profile[..., 1, :, None] * profile[..., 0, None, :]
    return torch.where(there[..., None, None], maps, 0.0), there


def decode(heatmaps: Tensor, decoding: Decoding) -> Tensor:
    """The place (x, y), float32 [B, K, 2], of each heatmap's peak. heatmaps [B, K, H, W].

    unbiased   the highest pixel (the first of equals), and a quarter of a pixel to its higher neighbour on each axis
               (Newell et al. 2016); none between equal neighbours, or at the border
    refined    instead of the quarter, the top of the parabola through the logarithms of the three pixels, within half a
               pixel: exact for Gaussians. (As Zhang et al. 2020, DARK, without its blur and its mixed derivative.)
    reference  as unbiased, but to the lower coordinate between equals, at the border too, and half a pixel added
    """
    maps = heatmaps.float()
    height, width = maps.shape[2:]
    peak = maps.flatten(2).argmax(2)
    place = torch.stack([peak % width, peak // width], -1)
    side = torch.tensor([width, height], device=maps.device)
    step = torch.tensor([1, width], device=maps.device)
    inside = (place > 0) & (place < side - 1)
    lower, higher = ((place + k).clamp(min=0).minimum(side - 1) - place for k in (-1, 1))
    flat = maps.flatten(2)
    before, after = (flat.gather(2, peak[..., None] + step * offset) for offset in (lower, higher))
    if decoding == "reference":
        return place + torch.where(after > before, 0.75, 0.25)
    if decoding == "unbiased":
        shift = 0.25 * torch.sign(after - before)
    else:
        a, b, c = (values.clamp(min=1e-6).log() for values in (before, flat.gather(2, peak[..., None]), after))
        shift = ((c - a) / (2 * (2 * b - a - c)).clamp(min=1e-6)).clamp(-0.5, 0.5)
    return place + torch.where(inside, shift, 0.0)
