"""BackgroundMattingV2's networks, with the reference's state_dict keys.

Lin et al., "Real-Time High-Resolution Background Matting" (CVPR 2021), section 3 and supplementary. Images are float in
[0, 1], not normalised; every resize is bilinear with align_corners=False.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.matting.refiner import Refiner
from trainables.matting.spec import MattingSpec
from trainables.mobilenet import MobileNetV2, divisible
from trainables.resnet import ResNet

RATES = (3, 6, 9)  # dilations of the ASPP's 3x3 branches
DECODER = (128, 64, 48)  # channels of its convolutions before the last
HIDDEN = 32  # channels that the base network hands to the refiner


class Matte(NamedTuple):
    """Alpha [B, 1, H, W], foreground [B, 3, H, W], predicted error [B, 1, H, W], all in [0, 1], and hidden features
    [B, hidden, H, W] of 0 and more."""

    alpha: Tensor
    foreground: Tensor
    error: Tensor
    hidden: Tensor


class RefinedMatte(NamedTuple):
    """Alpha and foreground of the whole image; those of the base network, and its error, at `backbone_scale`; and the
    refined cells [B, 1, H/4, W/4], 0 or 1."""

    alpha: Tensor
    foreground: Tensor
    alpha_small: Tensor
    foreground_small: Tensor
    error_small: Tensor
    refined: Tensor


class Pooled(nn.Sequential):
    """The global mean through a 1x1 convolution, normalisation and ReLU, at every place of the map.

    It normalises one value per sample and channel: a training batch needs two samples or more.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).expand(-1, -1, *x.shape[2:])  # what a resize of a 1x1 map gives


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with torchvision's keys; [B, in, H, W] -> [B, channels, H, W]."""

    def __init__(self, in_channels: int, channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        pooled = Pooled(nn.AdaptiveAvgPool2d(1), *_normalised(nn.Conv2d(in_channels, channels, 1, bias=False)))
        branches = [nn.Conv2d(in_channels, channels, 1, bias=False)]
        branches += [nn.Conv2d(in_channels, channels, 3, padding=r, dilation=r, bias=False) for r in rates]
        self.convs = nn.ModuleList([*(nn.Sequential(*_normalised(conv)) for conv in branches), pooled])
        joined = nn.Conv2d(len(self.convs) * channels, channels, 1, bias=False)
        self.project = nn.Sequential(*_normalised(joined), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.convs], dim=1))


class Decoder(nn.Module):
    """Joins features with those of higher resolutions, up to the image; the last of four convolutions is linear.

    `skips` are the channels of what it is joined with, from the lowest resolution to the image's 6.
    """

    def __init__(self, in_channels: int, skips: tuple[int, ...], channels: tuple[int, ...], out: int) -> None:
        super().__init__()
        c = (in_channels, *channels)
        self.conv1 = nn.Conv2d(c[0] + skips[0], c[1], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c[1])
        self.conv2 = nn.Conv2d(c[1] + skips[1], c[2], 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c[2])
        self.conv3 = nn.Conv2d(c[2] + skips[2], c[3], 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(c[3])
        self.conv4 = nn.Conv2d(c[3] + skips[3], out, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        x = self.relu(self.bn1(self.conv1(_joined(x, skips[0]))))
        x = self.relu(self.bn2(self.conv2(_joined(x, skips[1]))))
        x = self.relu(self.bn3(self.conv3(_joined(x, skips[2]))))
        return self.conv4(_joined(x, skips[3]))


class MattingBase(nn.Module):
    """The base network of a spec. Any size of image will do."""

    def __init__(self, spec: MattingSpec) -> None:
        super().__init__()
        backbone = (
            MobileNetV2(6, spec.width) if spec.backbone == "mobilenet_v2" else ResNet(spec.backbone, 6, spec.width)
        )
        half, quarter, eighth, last = backbone.channels
        scaled = [divisible(channels * spec.width) for channels in (256, *DECODER, HIDDEN)]
        self.hidden = scaled[-1]
        self.backbone = backbone
        self.aspp = ASPP(last, scaled[0], RATES)
        self.decoder = Decoder(scaled[0], (eighth, quarter, half, 6), tuple(scaled[1:4]), 5 + self.hidden)

    def forward(self, src: Tensor, bgr: Tensor) -> Matte:
        """src, bgr float [B, 3, H, W], the picture and the background without the person."""
        coarse, error, hidden = self.predict(torch.cat([src, bgr], dim=1))
        return Matte(coarse[:, :1], (coarse[:, 1:] + src).clamp(0, 1), error, hidden)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of images [B, 6, H, W]: alpha in [0, 1] and foreground less picture [B, 4, H, W], error and hidden."""
        half, quarter, eighth, last = self.backbone(images)
        x = self.decoder(self.aspp(last), [eighth, quarter, half, images]).float()  # alphas near 1 need more than bf16
        coarse = torch.cat([x[:, :1].clamp(0, 1), x[:, 1:4]], dim=1)
        return coarse, x[:, 4:5].clamp(0, 1), x[:, 5:].relu()


class MattingRefine(MattingBase):
    """The base network on a reduced image, and the refiner on the whole one, whose sides are multiples of 4.

    Raises ValueError for other sides.
    """

    def __init__(self, spec: MattingSpec) -> None:
        super().__init__(spec)
        self.scale = spec.refiner.backbone_scale
        self.refiner = Refiner(spec.refiner, self.hidden)

    def forward(self, src: Tensor, bgr: Tensor, *, fixed_count: bool = False) -> RefinedMatte:  # type: ignore[override]
        """src, bgr float [B, 3, H, W], the picture and the background without the person; `fixed_count` as the loss
        wants it (refiner.py)."""
        height, width = src.shape[2:]
        if height % 4 or width % 4 or src.shape != bgr.shape:
            raise ValueError(
                f"the refiner needs two images with sides that are multiples of 4, but got {list(src.shape)} and"
                f" {list(bgr.shape)}; crop or pad them"
            )
        images = torch.cat([src, bgr], dim=1)
        size = (max(1, int(height * self.scale)), max(1, int(width * self.scale)))
        small = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        coarse, error, hidden = self.predict(small)
        out, refined = self.refiner(images, coarse, hidden, error, fixed_count=fixed_count)
        return RefinedMatte(
            out[:, :1].clamp(0, 1),
            (out[:, 1:] + src).clamp(0, 1),
            coarse[:, :1],
            (coarse[:, 1:] + small[:, :3]).clamp(0, 1),
            error,
            refined,
        )


def _joined(x: Tensor, skip: Tensor) -> Tensor:
    """x at the skip's size, and the skip."""
    x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
    return torch.cat([x, skip], dim=1)


def _normalised(conv: nn.Conv2d) -> tuple[nn.Module, nn.Module, nn.Module]:
    return conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)
