"""Pooled: a domain's statistics, of each sample's own, over the samples of all ranks.

The sums that SyncBatchNorm exchanges (count, sum, sum of squares), per domain, in float64, through a sum over ranks
that is differentiable: gradients are those of the whole batch in one process, and all ranks hold the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function


def world_size() -> int:
    """Processes that share a batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@dataclass(frozen=True)
class Pooled:
    """Of D domains over all ranks: mean and biased variance, float64 [D, C], and count of values, float64 [D, 1]."""

    mean: Tensor
    var: Tensor
    count: Tensor

    @classmethod
    def of(cls, mean: Tensor, var: Tensor, size: int, membership: Tensor) -> "Pooled":
        """Of samples with mean and var [B, C] over `size` values each; membership float64 [D, B] of 0 and 1."""
        mean = mean.double()
        channels = mean.shape[1]
        count = membership.sum(1, keepdim=True) * size
        weights = membership * size
        sums = torch.cat([weights @ mean, weights @ (var.double() + mean.square()), count], dim=1)
        if world_size() > 1:
            sums = _SumOverRanks.apply(sums)
        count = sums[:, -1:].detach()
        pooled, squares = (sums[:, :-1] / count.clamp(min=1)).split(channels, dim=1)
        return cls(pooled, squares - pooled.square(), count)

    @torch.no_grad()
    def track(self, domain: int, norm: nn.BatchNorm2d) -> None:
        """Moves a layer's running statistics by a domain's. One with fewer than two values moves nothing."""
        mean, var, count = self.mean[domain], self.var[domain], self.count[domain]
        enough = count > 1
        batches, running_mean, running_var = buffers(norm)
        batches += enough[0]
        weight = enough * (norm.momentum if norm.momentum is not None else 1 / batches.clamp(min=1))
        running_mean += weight * (mean - running_mean)
        running_var += weight * (var * (count / (count - 1).clamp(min=1)) - running_var)

    def used(self, norms: Sequence[nn.BatchNorm2d]) -> tuple[Tensor, Tensor]:
        """What D layers normalise their domain with, float64 [D, C]: its statistics; the layer's running ones where it
        has fewer than two values, and so no variance, or where the layer is in evaluation mode."""
        enough = self.count > 1
        if not all(norm.training for norm in norms):
            enough = enough & torch.tensor([[norm.training] for norm in norms], device=enough.device)
        means, variances = zip(*(buffers(norm)[1:] for norm in norms), strict=True)
        mean = torch.where(enough, self.mean, torch.stack(means).double())
        return mean, torch.where(enough, self.var, torch.stack(variances).double())


def buffers(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """num_batches_tracked, running_mean, running_var."""
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.num_batches_tracked, norm.running_mean, norm.running_var


def parameters(norms: Sequence[nn.BatchNorm2d]) -> tuple[Tensor, Tensor]:
    """Weight and bias of D layers, float64 [D, C]; 1 and 0 of a layer without."""
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for norm in norms:
        mean = buffers(norm)[1]
        weights.append(torch.ones_like(mean) if norm.weight is None else norm.weight)
        biases.append(torch.zeros_like(mean) if norm.bias is None else norm.bias)
    return torch.stack(weights).double(), torch.stack(biases).double()


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
