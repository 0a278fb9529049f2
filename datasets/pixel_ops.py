"""Pixel operations: what some albumentations transforms do to one picture, done to a batch of them by torch.

Each agrees with the transform it stands for up to rounding: albumentations 2.0.8 rounds to uint8 after every step (and
hues to two degrees, places to 1/32 of a pixel), these only at the end of the pipeline.

Only sums, products, gathers and integer totals are used, no convolution or matrix product: those choose their order
of summation by the shape of the batch, and the bits of a sample must not depend on its neighbours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import albumentations as A
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.augment import GaussianNoise, LabelFlip
from datasets.landmark_augment import LandmarkFlip

GREY = (0.299, 0.587, 0.114)  # BT.601's luma, as cv2.COLOR_RGB2GRAY


@dataclass(frozen=True)
class Planes:
    """Pictures on a device: image float32 [N, 3, H, W], 0 to 255, and masks uint8 [N, H, W] by name."""

    image: Tensor
    masks: Mapping[str, Tensor]

    def of(self, rows: np.ndarray) -> "Planes":
        """A copy of some rows."""
        at = torch.from_numpy(rows).to(self.image.device, non_blocking=True)
        return Planes(self.image[at], {name: mask[at] for name, mask in self.masks.items()})

    def replaced(self, rows: np.ndarray, part: "Planes") -> "Planes":
        """These, with `part` in some rows."""
        at = torch.from_numpy(rows).to(self.image.device, non_blocking=True)
        masks = {name: mask.index_copy(0, at, part.masks[name]) for name, mask in self.masks.items()}
        return Planes(self.image.index_copy(0, at, part.image), masks)


class Op(Protocol):
    """A transform's pixel work. `size` numbers describe one application of it; `values` takes them from the parameters
    that albumentations draws, and the call gets those of every row, float64 [N, size], on the host."""

    size: int

    def values(self, params: Mapping[str, Any]) -> Sequence[float]: ...

    def __call__(self, planes: Planes, values: np.ndarray) -> Planes: ...


class Flip:
    """HorizontalFlip, VerticalFlip, LandmarkFlip, and LabelFlip, which also exchanges labels."""

    size = 0

    def __init__(self, axis: int, swap: np.ndarray | None = None) -> None:
        self.axis, self.swap = axis, swap

    def values(self, params: Mapping[str, Any]) -> Sequence[float]:
        return ()

    def __call__(self, planes: Planes, values: np.ndarray) -> Planes:
        masks = {name: mask.flip(self.axis) for name, mask in planes.masks.items()}
        if self.swap is not None:
            table = torch.from_numpy(self.swap).to(planes.image.device, non_blocking=True)
            masks = {name: table[mask.int()] for name, mask in masks.items()}
        return Planes(planes.image.flip(self.axis), masks)


class Affine:
    """Affine to a picture of the same size: bilinear for the image, nearest for masks, constant outside."""

    size = 6

    def __init__(self, fill: float, fill_mask: float) -> None:
        self.fill, self.fill_mask = float(fill), float(fill_mask)

    def values(self, params: Mapping[str, Any]) -> Sequence[float]:
        """The map from a place of the result to one of the source, in pixels, row by row."""
        return np.linalg.inv(params["matrix"])[:2].ravel().tolist()

    def __call__(self, planes: Planes, values: np.ndarray) -> Planes:
        height, width = planes.image.shape[2:]
        m = (
            torch.from_numpy(values.astype(np.float32))
            .to(planes.image.device, non_blocking=True)
            .reshape(-1, 2, 3, 1, 1)
        )
        y = torch.arange(height, dtype=torch.float32, device=planes.image.device).reshape(1, height, 1)
        x = torch.arange(width, dtype=torch.float32, device=planes.image.device).reshape(1, 1, width)
        places = [m[:, k, 0] * x + m[:, k, 1] * y + m[:, k, 2] for k in range(2)]
        # grid_sample's -1 and 1 are the middles of the first and last pixels.
        sides = zip(places, (width, height), strict=True)
        grid = torch.stack([place * (2 / max(side - 1, 1)) - 1 for place, side in sides], dim=3)
        image = _sampled(planes.image, grid, "bilinear", self.fill)
        masks = {
            name: _sampled(mask[:, None].to(torch.float32), grid, "nearest", self.fill_mask)[:, 0].to(torch.uint8)
            for name, mask in planes.masks.items()
        }
        return Planes(image, masks)


class ColorJitter:
    """ColorJitter: brightness, contrast, saturation and hue, each picture in an order of its own."""

    size = 8
    names = ("brightness", "contrast", "saturation", "hue")

    def values(self, params: Mapping[str, Any]) -> Sequence[float]:
        return [*(params[name] for name in self.names), *params["order"]]

    def __call__(self, planes: Planes, values: np.ndarray) -> Planes:
        steps: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (brighter, contrasted, saturated, turned)
        image = planes.image.clone()
        factors = torch.from_numpy(values[:, :4].astype(np.float32)).to(image.device, non_blocking=True)
        for place in range(4, 8):
            for number, step in enumerate(steps):
                rows = np.flatnonzero(values[:, place] == number)
                if len(rows):
                    at = torch.from_numpy(rows).to(image.device, non_blocking=True)
                    image.index_copy_(0, at, step(image[at], factors[at, number].reshape(-1, 1, 1, 1)))
        return Planes(image, planes.masks)


class Erase:
    """CoarseDropout with "random_uniform": up to `most` rectangles, each filled with a colour; masks stay."""

    def __init__(self, most: int) -> None:
        self.size = 7 * most  # x0, y0, x1, y1 and red, green, blue; zeros for those that are not there

    def values(self, params: Mapping[str, Any]) -> Sequence[float]:
        rng = np.random.default_rng(params["seed"])  # the transform's own draw of colours, one rectangle at a time
        holes = [[*hole, *rng.integers(0, 256, 3, dtype=np.uint8)] for hole in params["holes"].tolist()]
        drawn = [float(value) for hole in holes for value in hole]
        return [*drawn, *[0.0] * (self.size - len(drawn))]

    def __call__(self, planes: Planes, values: np.ndarray) -> Planes:
        image = planes.image
        y = torch.arange(image.shape[2], device=image.device).reshape(-1, 1)
        x = torch.arange(image.shape[3], device=image.device)
        drawn = (
            torch.from_numpy(values.astype(np.float32))
            .to(image.device, non_blocking=True)
            .reshape(len(values), -1, 7, 1, 1)
        )
        for x0, y0, x1, y1, *colour in (hole.unbind(1) for hole in drawn.unbind(1)):
            inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
            image = torch.where(inside[:, None], torch.stack(colour, 1), image)
        return Planes(image, planes.masks)


class GaussianBlur:
    """GaussianBlur: one kernel along both axes, the picture mirrored at its border without repeating the border."""

    def __init__(self, radius: int) -> None:
        self.size = radius + 1  # a kernel's half with its middle, and zeros beyond its own radius

    def values(self, params: Mapping[str, Any]) -> Sequence[float]:
        half = np.asarray(params["kernel"], np.float64).ravel()
        half = half[len(half) // 2 :]
        return [*half.tolist(), *[0.0] * (self.size - len(half))]

    def __call__(self, planes: Planes, values: np.ndarray) -> Planes:
        image = planes.image
        radius = int(np.flatnonzero((values != 0).any(0))[-1])
        weights = torch.from_numpy(values.astype(np.float32)).to(image.device, non_blocking=True)[..., None, None, None]
        for axis, pad in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
            side = image.shape[axis]
            wide = F.pad(image, pad, mode="reflect") if radius else image
            image = wide.narrow(axis, radius, side) * weights[:, 0]
            for k in range(1, radius + 1):
                pair = wide.narrow(axis, radius - k, side) + wide.narrow(axis, radius + k, side)
                image = image + pair * weights[:, k]
        return Planes(image, planes.masks)


class Noise:
    """GaussianNoise: the same distribution as on the host, another stream; each picture's is its own seed's."""

    size = 2

    def values(self, params: Mapping[str, Any]) -> Sequence[float]:
        return [params["std"], params["noise_seed"]]

    def __call__(self, planes: Planes, values: np.ndarray) -> Planes:
        image = planes.image
        generator = torch.Generator(image.device)
        noise = [
            float(np.float32(std))
            * torch.randn(image.shape[1:], generator=generator.manual_seed(int(seed)), device=image.device)
            for std, seed in values
        ]
        return Planes((image + torch.stack(noise)).clamp(0, 255), planes.masks)


def op_of(transform: Any) -> Op | None:
    """The pixel work of a transform, or None where this file cannot do it as albumentations would.

    Subclasses do something else than their base, so only these very classes are known.
    """
    kind = type(transform)
    if kind is A.HorizontalFlip:
        return Flip(-1)
    if kind is A.VerticalFlip:
        return Flip(-2)
    if kind is LandmarkFlip:
        return Flip(-1)
    if kind is LabelFlip:
        return Flip(-1, transform.table)
    if kind is A.Affine:
        plain = (transform.interpolation, transform.mask_interpolation, transform.border_mode, transform.fit_output)
        fills = (transform.fill, transform.fill_mask)
        if plain == (cv2.INTER_LINEAR, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, False) and all(map(np.isscalar, fills)):
            return Affine(*fills)
        return None
    if kind is A.ColorJitter:
        return ColorJitter()
    if kind is A.CoarseDropout and (transform.fill, transform.fill_mask) == ("random_uniform", None):
        return Erase(most=transform.num_holes_range[1])
    if kind is A.GaussianBlur and transform.blur_limit == (0, 0):
        return GaussianBlur(radius=int(transform.sigma_limit[1] * 3.5))
    if kind is GaussianNoise:
        return Noise()
    return None


def brighter(image: Tensor, factor: Tensor) -> Tensor:
    """image float32 [N, 3, H, W] times a factor [N, 1, 1, 1], at most 255."""
    return (image * factor).clamp(0, 255)


def contrasted(image: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or to (< 1) the mean of the grey picture, each as torchvision defines it."""
    total = grey(image).round().to(torch.int64).sum((2, 3), keepdim=True)  # integers: no order of summation shows
    mean = total.to(torch.float32) / (image.shape[2] * image.shape[3])
    return (image * factor + mean * (1 - factor)).clamp(0, 255)


def saturated(image: Tensor, factor: Tensor) -> Tensor:
    """Away from or to the grey picture."""
    return (image * factor + grey(image) * (1 - factor)).clamp(0, 255)


def turned(image: Tensor, factor: Tensor) -> Tensor:
    """The hue of HSV turned by `factor` of the circle; value and saturation stay."""
    high, low = image.amax(1, keepdim=True), image.amin(1, keepdim=True)
    span = high - low
    r, g, b = image.split(1, 1)
    by = torch.where(span > 0, span, torch.ones_like(span))
    hue = torch.where(high == g, (b - r) / by + 2, (r - g) / by + 4)  # in sixths of the circle
    hue = torch.where(high == r, (g - b) / by, hue) + 6 * factor
    turns = [(hue + start).remainder(6) for start in (5, 3, 1)]  # red, green, blue (Smith 1978, in one formula)
    return torch.cat([high - span * torch.minimum(turn, 4 - turn).clamp(0, 1) for turn in turns], dim=1)


def grey(image: Tensor) -> Tensor:
    """[N, 1, H, W] of [N, 3, H, W]."""
    r, g, b = image.split(1, 1)
    return r * GREY[0] + g * GREY[1] + b * GREY[2]


def _sampled(image: Tensor, grid: Tensor, mode: str, fill: float) -> Tensor:
    """F.grid_sample with a constant other than 0 outside."""
    if fill == 0:
        return F.grid_sample(image, grid, mode=mode, padding_mode="zeros", align_corners=True)
    return F.grid_sample(image - fill, grid, mode=mode, padding_mode="zeros", align_corners=True) + fill
