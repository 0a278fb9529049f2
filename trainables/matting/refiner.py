"""The refiner of BackgroundMattingV2: alpha and foreground at full resolution, where the base network says it errs.

Lin et al., "Real-Time High-Resolution Background Matting" (CVPR 2021), section 3.2. A cell is 4x4 pixels of the whole
image. Two convolutions see the cell's surroundings at half resolution, two at full resolution, none of them padded; a
cell that is not refined keeps the upsampled coarse prediction.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.matting.spec import Refinement

CELL = 4  # pixels of a cell's side
PATCH = 8  # pixels of a patch's side, at half resolution (a cell is 2 of them) and at full resolution
HALF_MARGIN, FULL_MARGIN = 3, 2  # pixels around a cell that its patch has


class Refiner(nn.Module):
    """Refines a coarse prediction; `hidden` is the number of the base network's hidden channels.

    Evaluation refines the cells of the spec's mode, and where "sampling" or "thresholding" chooses, a cell of no
    predicted error is never refined. The loss wants a `fixed_count`: every sample refines the same number of cells,
    those of its largest error. So no parameter is ever without a gradient, no normalisation without statistics, each
    sees [B, ...] and can tell one sample from another, and no device is waited for.
    """

    def __init__(self, spec: Refinement, hidden: int) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = nn.Conv2d(hidden + 10, 24, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 16, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16 + 6, 12, 3, bias=False)
        self.bn3 = nn.BatchNorm2d(12)
        self.conv4 = nn.Conv2d(12, 4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(
        self, images: Tensor, coarse: Tensor, hidden: Tensor, error: Tensor, *, fixed_count: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Alpha and foreground residual [B, 4, H, W], not clamped, and the refined cells [B, 1, H/4, W/4], 0 or 1.

        images  [B, 6, H, W], picture and background; H and W multiples of 4
        coarse  [B, 4, h, w], alpha and foreground residual
        hidden  [B, hidden, h, w]
        error   [B, 1, h, w], predicted, in [0, 1]
        """
        height, width = images.shape[2:]
        # Half resolution: what the base network says, and what there is to see.
        coarse_half = _resize(torch.cat([hidden, coarse], dim=1), height // 2, width // 2)
        half = torch.cat([coarse_half, _resize(images, height // 2, width // 2)], dim=1)
        half = F.pad(half, [HALF_MARGIN] * 4)
        full = F.pad(images, [FULL_MARGIN] * 4)
        cells = (height // CELL, width // CELL)
        if self.spec.mode == "full" and not fixed_count:
            x = self._half(half, 1)
            x = F.interpolate(x, size=full.shape[2:], mode="nearest")
            return self._full(torch.cat([x, full], dim=1), 1), images.new_ones(len(images), 1, *cells)
        refined, where = self.select(_resize(error, *cells), fixed_count)
        per_sample = self._count(*cells) if fixed_count else 0  # 0: samples may differ, nothing is normalised by them
        out = _resize(coarse, height, width)
        if not len(where[0]):
            return out, refined
        x = self._half(_patches(half, where, CELL // 2), per_sample)
        x = F.interpolate(x, size=(PATCH, PATCH), mode="nearest")
        x = self._full(torch.cat([x, _patches(full, where, CELL)], dim=1), per_sample)
        return _replace(out, x, where), refined

    @torch.no_grad()
    def select(self, error: Tensor, fixed_count: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The cells to refine, 0 or 1 in the dtype of `error` [B, 1, H/4, W/4], and where they are: sample, row and
        column, int64 [N] each, in that order."""
        if self.spec.mode == "thresholding" and not fixed_count:
            refined = (error > self.spec.threshold).to(error.dtype)
            return refined, refined[:, 0].nonzero(as_tuple=True)
        flat, columns = error.flatten(1), error.shape[3]
        largest = flat.topk(self._count(*error.shape[2:]), dim=1, sorted=False).indices
        refined = torch.zeros_like(flat).scatter_(1, largest, 1.0)
        if fixed_count:
            largest, samples = largest.sort(1).values, torch.arange(len(flat), device=flat.device)
            where = (samples[:, None].expand_as(largest), largest // columns, largest % columns)
            return refined.reshape(error.shape), tuple(one.flatten() for one in where)
        refined = (refined * (flat > 0)).reshape(error.shape)
        return refined, refined[:, 0].nonzero(as_tuple=True)

    def _count(self, rows: int, columns: int) -> int:
        return min(self.spec.sample_pixels // CELL**2, rows * columns)

    def _half(self, x: Tensor, per_sample: int) -> Tensor:
        x = self.relu(_normalised(self.bn1, self.conv1(x), per_sample))
        return self.relu(_normalised(self.bn2, self.conv2(x), per_sample))

    def _full(self, x: Tensor, per_sample: int) -> Tensor:
        return self.conv4(self.relu(_normalised(self.bn3, self.conv3(x), per_sample))).float()


def _normalised(norm: nn.Module, x: Tensor, per_sample: int) -> Tensor:
    """Normalises patches [B k, C, h, w] as a batch [B, C, k, h w], k per sample: the same statistics over all pixels,
    but a normalisation that knows each sample's domain finds the samples."""
    if per_sample <= 1:
        return norm(x)
    channels, height, width = x.shape[1:]
    samples = x.reshape(-1, per_sample, channels, height * width).transpose(1, 2)
    return norm(samples).transpose(1, 2).reshape(x.shape)


def _patches(x: Tensor, where: tuple[Tensor, ...], side: int) -> Tensor:
    """The patches [N, C, 8, 8] of a padded map [B, C, H, W] around the cells `where` (sample, row, column), each
    `side` pixels wide there."""
    windows = x.permute(0, 2, 3, 1).unfold(1, PATCH, side).unfold(2, PATCH, side)  # [B, rows, columns, C, 8, 8]
    return windows[where]


def _replace(x: Tensor, patches: Tensor, where: tuple[Tensor, ...]) -> Tensor:
    """x [B, C, H, W] with the 4x4 `patches` [N, C, 4, 4] in the cells `where`."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // CELL, CELL, width // CELL, CELL).permute(0, 2, 4, 1, 3, 5)
    cells = cells.index_put(where, patches.to(x.dtype))
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
