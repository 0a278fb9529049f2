"""Dilated residual networks, arch C and D: backbones of the face-parsing task, with fyu/drn's state_dict keys.

Yu, Koltun, Funkhouser, "Dilated Residual Networks" (CVPR 2017). Levels 5 to 8 trade stride for dilation, so
that the features keep 1/8 of the input's resolution. The number in a name counts weighted layers, the classifier too.
"""

from dataclasses import dataclass

from torch import Tensor, nn

CHANNELS = (16, 32, 64, 128, 256, 512, 512, 512)  # of levels 1 to 8, times the expansion of the block in levels 3 to 6


@dataclass(frozen=True)
class Architecture:
    """units: in each of the eight levels. Levels 3 to 6 have residual blocks, basic or bottleneck; levels 1, 2, 7 and 8
    single convolutions in arch D, and in arch C basic blocks, which in 7 and 8 do not add their input."""

    arch: str
    bottleneck: bool
    units: tuple[int, int, int, int, int, int, int, int]


ARCHITECTURES = {
    "drn_c_26": Architecture("C", False, (1, 1, 2, 2, 2, 2, 1, 1)),
    "drn_c_42": Architecture("C", False, (1, 1, 3, 4, 6, 3, 1, 1)),
    "drn_c_58": Architecture("C", True, (1, 1, 3, 4, 6, 3, 1, 1)),
    "drn_d_22": Architecture("D", False, (1, 1, 2, 2, 2, 2, 1, 1)),
    "drn_d_38": Architecture("D", False, (1, 1, 3, 4, 6, 3, 1, 1)),
    "drn_d_54": Architecture("D", True, (1, 1, 3, 4, 6, 3, 1, 1)),
    "drn_d_56": Architecture("D", True, (1, 1, 3, 4, 6, 3, 2, 2)),
    "drn_d_105": Architecture("D", True, (1, 1, 3, 4, 23, 3, 1, 1)),
}


def scaled(channels: int, width: float) -> int:
    """A channel count times the width multiplier: rounded half to even, at least 4."""
    return max(4, round(channels * width))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with normalisation, plus the input if residual; [B, in, H, W] -> [B, out, H/s, W/s]."""

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1, residual: bool = True
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride=stride, dilation=dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, channels, stride) if residual else None
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.residual:
            out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with normalisation, plus the input; the last one has four times the channels."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, stride=stride, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, self.expansion * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.expansion * channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, self.expansion * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class DRN(nn.Module):
    """A DRN without its classifier.

    `name` is a key of `ARCHITECTURES`; `width` multiplies every channel count (`scaled`).
    Input float [B, 3, H, W]; returns the features [B, out_channels, H/8, W/8] of level 8 and the low-level
    features [B, low_level_channels, H/4, W/4] of level 3 (sides round up where H or W is no multiple of 8).

    Of the published files `fc.*` is left out, and of drn_c_58 `layer7.0.downsample.*`, which the reference has and
    does not use.
    """

    output_stride = 8

    def __init__(self, name: str, width: float) -> None:
        super().__init__()
        what = ARCHITECTURES[name]
        units = what.units
        c = [scaled(channels, width) for channels in CHANNELS]
        block = Bottleneck if what.bottleneck else BasicBlock
        stem = [nn.Conv2d(3, c[0], kernel_size=7, padding=3, bias=False), nn.BatchNorm2d(c[0]), nn.ReLU(inplace=True)]
        if what.arch == "C":
            self.conv1, self.bn1, self.relu = stem
            self.layer1: nn.Module = _blocks(BasicBlock, c[0], c[0], units[0])
            self.layer2: nn.Module = _blocks(BasicBlock, c[0], c[1], units[1], stride=2)
        else:
            self.layer0 = nn.Sequential(*stem)
            self.layer1 = _convolutions(c[0], c[0], units[0])
            self.layer2 = _convolutions(c[0], c[1], units[1], stride=2)
        e = block.expansion
        self.layer3 = _blocks(block, c[1], c[2], units[2], stride=2)
        self.layer4 = _blocks(block, e * c[2], c[3], units[3], stride=2)
        self.layer5 = _blocks(block, e * c[3], c[4], units[4], dilation=2)
        self.layer6 = _blocks(block, e * c[4], c[5], units[5], dilation=4)
        # 7 and 8 undo the gridding of the dilations.
        if what.arch == "C":
            self.layer7: nn.Module = _blocks(BasicBlock, e * c[5], c[6], units[6], dilation=2, residual=False)
            self.layer8: nn.Module = _blocks(BasicBlock, c[6], c[7], units[7], residual=False)
        else:
            self.layer7 = _convolutions(e * c[5], c[6], units[6], dilation=2)
            self.layer8 = _convolutions(c[6], c[7], units[7])
        self.out_channels = c[7]
        self.low_level_channels = e * c[2]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer0(x) if hasattr(self, "layer0") else self.relu(self.bn1(self.conv1(x)))
        low_level = self.layer3(self.layer2(self.layer1(x)))
        x = self.layer6(self.layer5(self.layer4(low_level)))
        return self.layer8(self.layer7(x)), low_level


def _conv3x3(in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)


def _projection(in_channels: int, channels: int, stride: int) -> nn.Module | None:
    """What brings the input of a block to the shape of its output, where they differ."""
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )


def _convolutions(in_channels: int, channels: int, count: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(count):
        inputs, first = (in_channels, stride) if i == 0 else (channels, 1)
        conv = _conv3x3(inputs, channels, stride=first, dilation=dilation)
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _blocks(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    channels: int,
    count: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    **options: bool,
) -> nn.Sequential:
    first = block(in_channels, channels, stride=stride, dilation=dilation, **options)
    rest = [
        block(block.expansion * channels, channels, stride=1, dilation=dilation, **options) for _ in range(count - 1)
    ]
    return nn.Sequential(first, *rest)
