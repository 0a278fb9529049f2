"""ResNet of bottleneck blocks at output stride 16, without its classifier: torchvision's state_dict keys.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), table 1; the stride of a block lies on its 3x3
convolution, as in torchvision ("v1.5"). The last level trades its stride for dilation.
"""

from torch import Tensor, nn

from trainables.mobilenet import divisible

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
EXPANSION = 4  # a level's output channels over those of its 3x3 convolutions


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with normalisation, plus the input.

    [B, in, H, W] -> [B, EXPANSION channels, H / stride, W / stride].
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        out = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out:
            projection = nn.Conv2d(in_channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """The features of an image at 1/2, 1/4, 1/8 and 1/16 of its sides (rounded up).

    `name` is a key of BLOCKS; `width` multiplies every channel count (`mobilenet.divisible`). Input float
    [B, in_channels, H, W]; returns maps of `channels` channels.
    """

    def __init__(self, name: str, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        c = [divisible(channels * width) for channels in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(in_channels, c[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(c[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        blocks = BLOCKS[name]
        out = [EXPANSION * channels for channels in c]
        self.layer1 = _level(c[0], c[0], blocks[0], stride=1, dilation=1)
        self.layer2 = _level(out[0], c[1], blocks[1], stride=2, dilation=1)
        self.layer3 = _level(out[1], c[2], blocks[2], stride=2, dilation=1)
        self.layer4 = _level(out[2], c[3], blocks[3], stride=1, dilation=2)
        self.channels = (c[0], out[0], out[1], out[3])

    def forward(self, x: Tensor) -> list[Tensor]:
        half = self.relu(self.bn1(self.conv1(x)))
        quarter = self.layer1(self.maxpool(half))
        eighth = self.layer2(quarter)
        return [half, quarter, eighth, self.layer4(self.layer3(eighth))]


def _level(in_channels: int, channels: int, count: int, *, stride: int, dilation: int) -> nn.Sequential:
    """Blocks of which the first has the stride and, where dilation stands in its place, is not dilated itself."""
    first = Bottleneck(in_channels, channels, stride=stride, dilation=1)
    rest = (Bottleneck(EXPANSION * channels, channels, stride=1, dilation=dilation) for _ in range(count - 1))
    return nn.Sequential(first, *rest)
