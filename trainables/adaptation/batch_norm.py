"""BatchNorm2d of a batch that several processes share, and `real_bn`, whose running statistics are of real samples.

`real_bn` is "batch normalisation statistics updated only on the real training set": in a mixed batch each domain
is normalised by its own statistics, only real samples move the running ones, and evaluation uses those. The
affine parameters are shared. Keys and tensors of the model stay what they were, so one checkpoint serves both.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from trainables.adaptation.moments import affine, moments
from trainables.adaptation.pooled import Groups, Pooled, buffers, count_batch, over_ranks, parameters, world_size
from trainables.adaptation.split import Split


class DomainAware:
    """What layers have that must know each sample's domain. On the class, because layers change class in place."""

    split: Split | None = None  # set by `domains`
    method: str

    def known_split(self, input: Tensor) -> Split:
        """The split of a training batch; RuntimeError where none or another was told."""
        split = self.split
        if split is None:
            raise RuntimeError(
                f"{self.method} must know the domains: call the model inside `domains(model, batch['domain'])`"
            )
        if len(input) != len(split.values):
            raise RuntimeError(f"{self.method} got {len(input)} samples, but `domains` named {len(split.values)}")
        return split


class SharedBatchNorm2d(DomainAware, nn.BatchNorm2d):
    """BatchNorm2d whose batch is that of all ranks. Input and output float [B, C, H, W].

    In one process it is BatchNorm2d, to the bit. Over ranks, what torch's SyncBatchNorm computes, on CPUs too; a
    batch with one value per channel, which BatchNorm2d refuses, is normalised by the running statistics. Outside of
    `domains` each layer asks the other ranks for the size of the batch.
    """

    method = "none"

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        if self.split is not None:
            return by_pooled_statistics(input, self.known_split(input).everything, [self], [self])
        (count,) = over_ranks([len(input)], input.device)
        return by_pooled_statistics(input, Groups.one(len(input), count, input.device), [self], [self])


class RealBatchNorm2d(DomainAware, nn.BatchNorm2d):
    """BatchNorm2d whose running statistics are those of real samples. Input and output float [B, C, H, W].

    In training, inside `domains`: real and synthetic samples are normalised separately, each by their own batch
    statistics; the running ones and `num_batches_tracked` follow the real samples alone. A domain with a single
    value per channel (one sample of a 1x1 map) has no variance: it is normalised by the running statistics and
    updates nothing. In one process a batch of real samples alone gives exactly what BatchNorm2d gives (which raises in
    that case). In evaluation it is BatchNorm2d.
    """

    method = "real_bn"

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        split = self.known_split(input)
        if world_size() == 1:
            return by_domain(input, split, self, self, synthetic_tracks=False)
        return by_pooled_statistics(input, split.groups, [self, self], [self, None])


def by_domain(
    x: Tensor, split: Split, real: nn.BatchNorm2d, synthetic: nn.BatchNorm2d, *, synthetic_tracks: bool
) -> Tensor:
    """Normalises each domain of x float [B, C, H, W] by its layer, in one process, with BatchNorm2d's own kernels.

    A layer in training mode normalises by the statistics of its domain, one in evaluation mode by its running ones.
    """
    if split.num_synthetic == 0:
        return _one_domain(x, real, tracks=True)
    if split.num_real == 0:
        return _one_domain(x, synthetic, tracks=synthetic_tracks)
    if split.order is not None:
        x = x.index_select(0, split.order)
    arguments = real.weight, real.bias, synthetic.weight, synthetic.bias
    output = _ByDomain.apply(x, *arguments, split.num_real, real, synthetic, synthetic_tracks)
    return output if split.inverse is None else output.index_select(0, split.inverse)


def by_pooled_statistics(
    x: Tensor, groups: Groups, norms: Sequence[nn.BatchNorm2d], tracking: Sequence[nn.BatchNorm2d | None]
) -> Tensor:
    """Normalises D groups of x float [B, C, H, W], over all ranks, with the affine parameters of D layers.

    `tracking` are the layers whose running statistics follow a group's.
    """
    centred, mean, var = moments(x)
    pooled = Pooled.of(mean, var, x[0, 0].numel(), groups)
    for group, norm in enumerate(tracking):
        if norm is not None and norm.training:
            pooled.track(group, norm)
    group_mean, group_var = pooled.used(norms)
    weight, bias = parameters(norms).chunk(2, dim=1)
    scale = weight * torch.rsqrt(group_var + norms[0].eps)
    scale, shift = groups.spread(torch.cat([scale, bias - group_mean * scale], dim=1)).chunk(2, dim=1)
    return affine(centred, scale, shift + mean * scale)


def by_batch_statistics(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalises by the statistics of x, which move none."""
    return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)


def by_running_statistics(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalises by a copy of the running statistics: a second forward before the backward would change what
    autograd saved."""
    _, mean, var = buffers(norm)
    return F.batch_norm(x, mean.clone(), var.clone(), norm.weight, norm.bias, training=False, eps=norm.eps)


def is_single(x: Tensor) -> bool:
    """Whether x [B, C, H, W] has one value per channel, and so no variance."""
    return x.numel() == x.shape[1]


def _one_domain(x: Tensor, norm: nn.BatchNorm2d, *, tracks: bool) -> Tensor:
    if is_single(x) or not norm.training:
        return by_running_statistics(norm, x)
    return nn.BatchNorm2d.forward(norm, x) if tracks else by_batch_statistics(norm, x)


class _ByDomain(Function):
    """Real samples first, then synthetic ones, each half written by torch's kernel into one output.

    Slices and a concatenation would copy the output once more, and the gradient of a slice is as large as the whole.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        real_weight: Tensor,
        real_bias: Tensor,
        synthetic_weight: Tensor,
        synthetic_bias: Tensor,
        num_real: int,
        real: nn.BatchNorm2d,
        synthetic: nn.BatchNorm2d,
        synthetic_tracks: bool,
    ) -> Tensor:
        x = x.contiguous()  # patches come as a permuted view, into whose layout the kernel writes nonsense
        output = torch.empty_like(x)
        ctx.batch_statistics = []
        saved: list[Tensor] = []
        parts = (
            (slice(None, num_real), real_weight, real_bias, real, True),
            (slice(num_real, None), synthetic_weight, synthetic_bias, synthetic, synthetic_tracks),
        )
        for part, weight, bias, norm, tracks in parts:
            by_batch = norm.training and not is_single(x[part])
            running: tuple[Any, Any] = (None, None)
            momentum = 0.0
            if by_batch and tracks:
                momentum, running = count_batch(norm), buffers(norm)[1:]
            elif not by_batch:
                running = buffers(norm)[1].clone(), buffers(norm)[2].clone()
            mean, invstd = (buffers(norm)[1].new_empty(x.shape[1] if by_batch else 0) for _ in range(2))
            torch.ops.aten.native_batch_norm.out(
                *(x[part], weight, bias, *running, by_batch, momentum, norm.eps),
                out=output[part],
                save_mean=mean,
                save_invstd=invstd,
            )
            saved += (mean, invstd) if by_batch else running
            ctx.batch_statistics.append(by_batch)
        ctx.num_real, ctx.eps = num_real, (real.eps, synthetic.eps)
        ctx.save_for_backward(x, real_weight, synthetic_weight, *saved)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0]]
        grads = []
        for k, part in enumerate((slice(None, ctx.num_real), slice(ctx.num_real, None))):
            statistics = rest[2 + 2 * k : 4 + 2 * k]
            by_batch = ctx.batch_statistics[k]
            running, batch = ((None, None), statistics) if by_batch else (statistics, (None, None))
            mask = wanted + list(ctx.needs_input_grad[1 + 2 * k : 3 + 2 * k])
            grads.append(
                torch.ops.aten.native_batch_norm_backward(
                    grad[part], x[part], rest[k], *running, *batch, by_batch, ctx.eps[k], mask
                )
            )
        (dx, *real), (more, *synthetic) = grads
        return (torch.cat([dx, more]) if wanted[0] else None, *real, *synthetic, None, None, None, None)
