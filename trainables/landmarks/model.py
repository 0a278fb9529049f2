"""Stacked hourglass, with the state_dict keys of princeton-vl/pytorch_stacked_hourglass.

Newell, Yang, Deng, "Stacked Hourglass Networks for Human Pose Estimation" (ECCV 2016): hourglasses one after another,
each of which halves its maps `depth` times, doubles them again and adds what it had at each size; every one gives
heatmaps, and its own and its features are added to what the next one sees.

One difference: the reference's Residual has a `skip_layer` even where it is not used, a fifth of its parameters that no
loss ever reaches. Here it exists where channels differ; what a published file has besides is taken out while loading.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.landmarks.spec import LandmarksSpec


class Convolution(nn.Module):
    """A convolution with bias that keeps H and W (at stride 1), and where asked for normalisation and ReLU."""

    def __init__(
        self, in_channels: int, channels: int, size: int, *, stride: int = 1, normalised: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, size, stride=stride, padding=(size - 1) // 2)
        self.bn = nn.BatchNorm2d(channels) if normalised else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.bn is None else F.relu(self.bn(x), inplace=True)


class Residual(nn.Module):
    """A pre-activation bottleneck: [B, in, H, W] -> [B, out, H, W].

    A state_dict with a `skip_layer` of the reference's loads where there is none here: it is dropped, and nothing else.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        middle = channels // 2
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = Convolution(in_channels, middle, 1)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv2 = Convolution(middle, middle, 3)
        self.bn3 = nn.BatchNorm2d(middle)
        self.conv3 = Convolution(middle, channels, 1)
        self.skip_layer = Convolution(in_channels, channels, 1) if in_channels != channels else None
        if self.skip_layer is None:
            self.register_load_state_dict_pre_hook(_drop_skip_layer)

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.skip_layer is None else self.skip_layer(x)
        x = self.conv1(F.relu(self.bn1(x), inplace=True))
        x = self.conv2(F.relu(self.bn2(x), inplace=True))
        return self.conv3(F.relu(self.bn3(x), inplace=True)) + skip


class Hourglass(nn.Module):
    """Maps [B, C, H, W] at `depth` halvings more and back; H and W are multiples of 2**depth."""

    def __init__(self, depth: int, channels: int) -> None:
        super().__init__()
        self.up1 = Residual(channels, channels)
        self.low1 = Residual(channels, channels)
        self.low2: nn.Module = Hourglass(depth - 1, channels) if depth > 1 else Residual(channels, channels)
        self.low3 = Residual(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low3(self.low2(self.low1(F.max_pool2d(x, 2))))
        return self.up1(x) + F.interpolate(low, scale_factor=2, mode="nearest")


class Merge(nn.Module):
    """A 1x1 convolution to the hourglasses' channels; a level of its own only for the reference's keys."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = Convolution(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class StackedHourglass(nn.Module):
    """The network of a spec. Input float [B, 3, R, R], RGB in [0, 1]; heatmaps float [B, stacks, points, R/4, R/4]."""

    def __init__(self, spec: LandmarksSpec) -> None:
        super().__init__()
        c = 4 * max(2, round(64 * spec.width))
        self.pre = nn.Sequential(
            Convolution(3, c // 4, 7, stride=2, normalised=True),
            Residual(c // 4, c // 2),
            nn.MaxPool2d(2),
            Residual(c // 2, c // 2),
            Residual(c // 2, c),
        )
        stacks, between = range(spec.stacks), range(spec.stacks - 1)
        self.hgs = nn.ModuleList(nn.Sequential(Hourglass(spec.depth, c)) for _ in stacks)
        self.features = nn.ModuleList(
            nn.Sequential(Residual(c, c), Convolution(c, c, 1, normalised=True)) for _ in stacks
        )
        self.outs = nn.ModuleList(Convolution(c, spec.points, 1) for _ in stacks)
        self.merge_features = nn.ModuleList(Merge(c, c) for _ in between)
        self.merge_preds = nn.ModuleList(Merge(spec.points, c) for _ in between)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre(x)
        heatmaps = []
        for stack, hourglass in enumerate(self.hgs):
            features = self.features[stack](hourglass(x))
            heatmaps.append(self.outs[stack](features))
            if stack < len(self.merge_preds):
                x = x + self.merge_preds[stack](heatmaps[-1]) + self.merge_features[stack](features)
        return torch.stack(heatmaps, 1)


def _drop_skip_layer(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for kind in ("weight", "bias"):
        state.pop(f"{prefix}skip_layer.conv.{kind}", None)
