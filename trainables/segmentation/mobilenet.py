"""MobileNetV2 as DeepLabv3+'s backbone, with the state_dict keys of jfzhang95/pytorch-deeplab-xception.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018). Unlike torchvision's, a block pads
its input once, before the expansion, whose normalisation makes the border non-zero; published weights want that.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.mobilenet import STAGES
from trainables.segmentation.drn import scaled

LOW_LEVEL = 3  # the last of `features` at a quarter of the input's resolution


class InvertedResidual(nn.Module):
    """Expansion (1x1), depthwise 3x3 and linear projection (1x1), plus the input where the shapes agree."""

    def __init__(self, in_channels: int, channels: int, *, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(in_channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        depthwise = nn.Conv2d(hidden, hidden, 3, stride, dilation=dilation, groups=hidden, bias=False)
        layers += [depthwise, nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        layers += [nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.conv = nn.Sequential(*layers)
        self.padding = [dilation] * 4
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(F.pad(x, self.padding))
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """MobileNetV2 without its last 1x1 convolution and classifier, at output stride 8 or 16.

    Input float [B, 3, H, W]; returns the features [B, out_channels, H/s, W/s] and the low-level features
    [B, low_level_channels, H/4, W/4]. A stride beyond the output stride becomes a dilation of what follows it.
    """

    def __init__(self, width: float, output_stride: int) -> None:
        super().__init__()
        at = scaled(32, width)
        self.features = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(3, at, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(at), nn.ReLU6(inplace=True)
            )
        )
        reached, dilation = 2, 1
        for expansion, channels, count, wanted in STAGES:
            out = scaled(channels, width)
            stride = wanted if reached < output_stride else 1
            for i in range(count):
                self.features.append(
                    InvertedResidual(at, out, expansion=expansion, stride=stride if i == 0 else 1, dilation=dilation)
                )
                at = out
            reached *= stride
            dilation *= wanted // stride
        self.output_stride = output_stride
        self.out_channels = at
        self.low_level_channels = scaled(STAGES[1][1], width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low_level = self.features[: LOW_LEVEL + 1](x)
        return self.features[LOW_LEVEL + 1 :](low_level), low_level
