"""Dilated residual networks, arch D: the backbone of the face-parsing task, with fyu/drn's state_dict keys.

Yu, Koltun, Funkhouser, "Dilated Residual Networks" (CVPR 2017). Levels 5 to 8 trade stride for dilation, so
that the features keep 1/8 of the input's resolution. Published ImageNet files load once `fc.*` is dropped.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

CHANNELS = (16, 32, 64, 128, 256, 512, 512, 512)  # of levels 1 to 8, times the expansion of the block in levels 3 to 6


@dataclass(frozen=True)
class Architecture:
    """Units in each of the eight levels: convolutions in 1, 2, 7 and 8, basic residual blocks in 3 to 6."""

    units: tuple[int, int, int, int, int, int, int, int]


ARCHITECTURES = {"drn_d_22": Architecture(units=(1, 1, 2, 2, 2, 2, 1, 1))}


def scaled(channels: int, width: float) -> int:
    """A channel count times the width multiplier: rounded half to even, at least 4."""
    return max(4, round(channels * width))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with normalisation, plus the input; [B, in, H, W] -> [B, out, H / stride, W / stride]."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride=stride, dilation=dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class DRN(nn.Module):
    """A DRN without its classifier.

    `name` is a key of `ARCHITECTURES`; `width` multiplies every channel count (`scaled`).
    Input float [B, 3, H, W]; returns the features [B, out_channels, H/8, W/8] of level 8 and the low-level
    features [B, low_level_channels, H/4, W/4] of level 3 (sides round up where H or W is no multiple of 8).
    """

    def __init__(self, name: str, width: float) -> None:
        super().__init__()
        units = ARCHITECTURES[name].units
        c = [scaled(channels, width) for channels in CHANNELS]
        self.layer0 = nn.Sequential(
            nn.Conv2d(3, c[0], kernel_size=7, padding=3, bias=False), nn.BatchNorm2d(c[0]), nn.ReLU(inplace=True)
        )
        self.layer1 = _convolutions(c[0], c[0], units[0])
        self.layer2 = _convolutions(c[0], c[1], units[1], stride=2)
        self.layer3 = _blocks(c[1], c[2], units[2], stride=2)
        self.layer4 = _blocks(c[2], c[3], units[3], stride=2)
        self.layer5 = _blocks(c[3], c[4], units[4], dilation=2)
        self.layer6 = _blocks(c[4], c[5], units[5], dilation=4)
        self.layer7 = _convolutions(c[5], c[6], units[6], dilation=2)  # 7 and 8 undo the gridding of the dilations
        self.layer8 = _convolutions(c[6], c[7], units[7])
        self.out_channels = c[7]
        self.low_level_channels = c[2]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low_level = self.layer3(self.layer2(self.layer1(self.layer0(x))))
        x = self.layer6(self.layer5(self.layer4(low_level)))
        return self.layer8(self.layer7(x)), low_level


def _conv3x3(in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)


def _convolutions(in_channels: int, channels: int, count: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, inputs in enumerate(_inputs(in_channels, channels, count)):
        conv = _conv3x3(inputs, channels, stride=stride if i == 0 else 1, dilation=dilation)
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _blocks(in_channels: int, channels: int, count: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    blocks = [
        BasicBlock(inputs, channels, stride=stride if i == 0 else 1, dilation=dilation)
        for i, inputs in enumerate(_inputs(in_channels, channels, count))
    ]
    return nn.Sequential(*blocks)


def _inputs(in_channels: int, channels: int, count: int) -> Iterable[int]:
    return [in_channels] + [channels] * (count - 1)
