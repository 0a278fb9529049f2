"""Pooled: the statistics of a domain, made of those of its samples, on all ranks.

What SyncBatchNorm exchanges, for each domain, in float64 and through a sum over ranks that is differentiable: gradients
are those of the whole batch in one process, and all ranks hold the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function


def world_size() -> int:
    """Processes that share a batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def over_ranks(counts: Sequence[int], device: torch.device) -> tuple[int, ...]:
    """Counts, summed over ranks. Waits for the device where there are several."""
    if world_size() == 1:
        return tuple(counts)
    total = torch.tensor(counts, dtype=torch.int64, device=device)
    dist.all_reduce(total)
    return tuple(total.tolist())


@dataclass(frozen=True)
class Groups:
    """Which of this process's B samples are normalised together, in D groups.

    membership  float64 [D, B], 1 where a sample is of the group
    counts      samples of each group, over all ranks
    """

    membership: Tensor
    counts: tuple[int, ...]

    @classmethod
    def one(cls, num_samples: int, count: int, device: torch.device) -> "Groups":
        """All samples; `count` over all ranks."""
        return cls(torch.ones(1, num_samples, dtype=torch.float64, device=device), (count,))

    @cached_property
    def shares(self) -> Tensor:
        """float64 [D, B]: the weight of a sample in the mean of its group over all ranks."""
        counts = torch.tensor(self.counts, dtype=torch.float64, device=self.membership.device)
        return self.membership / counts.clamp(min=1)[:, None]

    def spread(self, rows: Tensor) -> Tensor:
        """Of float64 [D, K], to each sample its group's: [B, K]."""
        return self.membership.T @ rows


@dataclass(frozen=True)
class Pooled:
    """Statistics of D groups over all ranks: mean and biased variance, float64 [D, C], and the values in each."""

    mean: Tensor
    var: Tensor
    counts: list[int]

    @classmethod
    def of(cls, mean: Tensor, var: Tensor, size: int, groups: Groups) -> "Pooled":
        """Of samples with mean and biased var, float64 [B, C], of `size` values each."""
        moments = groups.shares @ torch.cat([mean, var + mean.square()], dim=1)
        if world_size() > 1:
            moments = _SumOverRanks.apply(moments)
        pooled, squares = moments.chunk(2, dim=1)
        return cls(pooled, squares - pooled.square(), [count * size for count in groups.counts])

    @torch.no_grad()
    def track(self, group: int, norm: nn.BatchNorm2d) -> None:
        """Moves a layer's running statistics by a group's. One with fewer than two values moves nothing."""
        count = self.counts[group]
        if count < 2:
            return
        weight = count_batch(norm)
        _, running_mean, running_var = buffers(norm)
        running_mean.mul_(1 - weight).add_(self.mean[group], alpha=weight)
        running_var.mul_(1 - weight).add_(self.var[group], alpha=weight * count / (count - 1))

    def used(self, norms: Sequence[nn.BatchNorm2d]) -> tuple[Tensor, Tensor]:
        """What D layers normalise their group with, float64 [D, C]: its statistics; the layer's running ones where it
        has fewer than two values, and so no variance, or where the layer is in evaluation mode."""
        by_batch = [norm.training and count > 1 for norm, count in zip(norms, self.counts, strict=True)]
        if all(by_batch):
            return self.mean, self.var
        means, variances = zip(*(buffers(norm)[1:] for norm in norms), strict=True)
        chosen = torch.tensor(by_batch, device=self.mean.device)[:, None]
        mean = torch.where(chosen, self.mean, torch.stack(means).double())
        return mean, torch.where(chosen, self.var, torch.stack(variances).double())


def buffers(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """num_batches_tracked, running_mean, running_var."""
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.num_batches_tracked, norm.running_mean, norm.running_var


def count_batch(norm: nn.BatchNorm2d) -> float:
    """Counts a batch; the weight of its statistics in the running ones."""
    batches = buffers(norm)[0]
    batches.add_(1)
    return 1.0 / float(batches) if norm.momentum is None else norm.momentum


def parameters(norms: Sequence[nn.BatchNorm2d]) -> Tensor:
    """Weight and bias of D layers, float64 [D, 2 C]; 1 and 0 of a layer without."""
    rows: list[Tensor] = []
    for norm in norms:
        mean = buffers(norm)[1]
        rows.append(torch.ones_like(mean) if norm.weight is None else norm.weight)
        rows.append(torch.zeros_like(mean) if norm.bias is None else norm.bias)
    return torch.cat(rows).double().view(len(norms), -1)


class _SumOverRanks(Function):
    """The sum of every rank's tensor; the gradient is the sum of every rank's."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
