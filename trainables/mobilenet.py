"""MobileNetV2, without its last 1x1 convolution and classifier: a backbone with torchvision's state_dict keys.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018), table 2. torchvision is not a
dependency (it does not load beside a CPU build of torch), so the network is written here. The variant that DeepLabv3+'s
reference has, with another padding and other keys, is in segmentation/mobilenet.py and made of the same STAGES.
"""

from torch import Tensor, nn

# Expansion, channels, blocks, stride of the first block: features.1 to features.17, after a 3x3 convolution to 32
# channels at stride 2.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
TAKEN = (1, 3, 6, 17)  # the features that end a resolution: 1/2, 1/4, 1/8 and the last
OUTPUT_STRIDE = 16


def divisible(channels: float) -> int:
    """The nearest multiple of 8, at least 8 and at least 0.9 of `channels`: how the published widths are rounded."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def convolution(
    in_channels: int, channels: int, size: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps H and W but for its stride, normalisation and ReLU6."""
    conv = nn.Conv2d(
        in_channels, channels, size, stride, size // 2 * dilation, dilation=dilation, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expand by a 1x1 (not where `expansion` is 1), a depthwise 3x3, project by a linear 1x1; plus the input where the
    shape stays. [B, in, H, W] -> [B, out, H / stride, W / stride]."""

    def __init__(self, in_channels: int, channels: int, *, expansion: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [convolution(in_channels, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            convolution(hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """The features of an image at 1/2, 1/4, 1/8 and 1/16 of its sides (rounded up).

    `width` multiplies every channel count (`divisible`). The stride that would make it 1/32 is 1, and the blocks after
    it are dilated in its place; the block that had the stride is not.
    Input float [B, in_channels, H, W]; returns maps of `channels` channels.
    """

    def __init__(self, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        last = divisible(32 * width)
        layers: list[nn.Module] = [convolution(in_channels, last, 3, stride=2)]
        widths, stride, dilation = [last], 2, 1
        for expansion, channels, blocks, first_stride in STAGES:
            spread = dilation
            if stride * first_stride > OUTPUT_STRIDE:
                dilation, first_stride = dilation * first_stride, 1
            stride *= first_stride
            for i in range(blocks):
                layers.append(
                    InvertedResidual(
                        last,
                        divisible(channels * width),
                        expansion=expansion,
                        stride=first_stride if i == 0 else 1,
                        dilation=spread if i == 0 else dilation,
                    )
                )
                last = divisible(channels * width)
                widths.append(last)
        self.features = nn.Sequential(*layers)
        self.channels = tuple(widths[i] for i in TAKEN)

    def forward(self, x: Tensor) -> list[Tensor]:
        taken = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in TAKEN:
                taken.append(x)
        return taken
