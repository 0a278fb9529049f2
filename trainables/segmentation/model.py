"""DeepLabv3+ on a DRN or on MobileNetV2, with the state_dict keys of jfzhang95/pytorch-deeplab-xception.

Chen et al., "Encoder-Decoder with Atrous Separable Convolution" (ECCV 2018): atrous spatial pyramid pooling
over the backbone's features, then a decoder that adds the low-level features back at 1/4 resolution.
Every resize is bilinear with align_corners=True, as in the reference.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.segmentation.drn import DRN, scaled
from trainables.segmentation.mobilenet import MobileNetV2
from trainables.segmentation.spec import SegmentationSpec


class Branch(nn.Module):
    """One ASPP branch: a 1x1 (rate 1) or dilated 3x3 convolution, normalisation and ReLU; keeps H and W."""

    def __init__(self, in_channels: int, channels: int, rate: int) -> None:
        super().__init__()
        size, padding = (1, 0) if rate == 1 else (3, rate)
        self.atrous_conv = nn.Conv2d(in_channels, channels, size, padding=padding, dilation=rate, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.atrous_conv(x)))


class ASPP(nn.Module):
    """Four branches (1x1 and three rates) and the global mean, joined to [B, channels, H, W].

    The global branch normalises one value per sample and channel: a training batch needs two samples or more.
    """

    def __init__(self, in_channels: int, channels: int, rates: tuple[int, int, int]) -> None:
        super().__init__()
        self.aspp1 = Branch(in_channels, channels, 1)
        self.aspp2 = Branch(in_channels, channels, rates[0])
        self.aspp3 = Branch(in_channels, channels, rates[1])
        self.aspp4 = Branch(in_channels, channels, rates[2])
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.conv1 = nn.Conv2d(5 * channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x)]
        pooled = self.global_avg_pool(x).expand_as(branches[0])  # what a resize of a 1x1 map gives
        x = self.conv1(torch.cat([*branches, pooled], dim=1))
        return self.dropout(self.relu(self.bn1(x)))


class Decoder(nn.Module):
    """Joins [B, channels, H/s, W/s] with low-level features [B, low, H/4, W/4]; logits [B, num_classes, H/4, W/4]."""

    def __init__(self, low_level_channels: int, channels: int, reduced: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(low_level_channels, reduced, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(reduced)
        self.relu = nn.ReLU(inplace=True)
        self.last_conv = nn.Sequential(
            nn.Conv2d(channels + reduced, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(channels, num_classes, 1),
        )

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        low_level = self.relu(self.bn1(self.conv1(low_level)))
        x = torch.cat([resize(x, low_level), low_level], dim=1)
        return self.last_conv(x)


class DeepLab(nn.Module):
    """DeepLabv3+ of a spec. Input float [B, 3, H, W], normalised; logits float [B, num_classes, H, W]."""

    def __init__(self, spec: SegmentationSpec) -> None:
        super().__init__()
        channels, reduced = scaled(256, spec.width), scaled(48, spec.width)
        self.backbone: DRN | MobileNetV2
        if spec.backbone == "mobilenet_v2":
            self.backbone = MobileNetV2(spec.width, spec.output_stride)
        else:
            self.backbone = DRN(spec.backbone, spec.width)
        self.aspp = ASPP(self.backbone.out_channels, channels, spec.aspp_rates)
        self.decoder = Decoder(self.backbone.low_level_channels, channels, reduced, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        features, low_level = self.backbone(x)
        # In float32: deterministic upsampling keeps bf16, in which the largest of nine logits is often a tie.
        return resize(self.decoder(self.aspp(features), low_level).float(), x)


def resize(x: Tensor, like: Tensor) -> Tensor:
    """x [B, C, h, w] at the height and width of `like`, bilinear, corners aligned."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
