"""Normalisation that knows where a sample comes from, for any model: its BatchNorm2d layers change class in place.

`real_bn` is "batch normalisation statistics updated only on the real training set": in a mixed batch each domain
is normalised by its own statistics, only real samples move the running ones, and evaluation uses those. The
affine parameters are shared. Keys and tensors of the model stay what they were, so one checkpoint serves both methods.

The training loop says which sample is which, once for each forward pass:

    adapt(model, "real_bn")
    with domains(model, batch["domain"]):
        loss = task.loss(model, batch)["total"]
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datasets import Domain
from trainables.recipe import Adaptation
from trainables.task import Batch


@dataclass(frozen=True)
class Split:
    """How a batch divides by domain. `order` puts the real samples first, `inverse` undoes it; None if they are."""

    num_real: int
    num_synthetic: int
    order: Tensor | None
    inverse: Tensor | None

    @classmethod
    def of(cls, domain: Tensor) -> "Split":
        """The split of `domain`, int64 [B] of `datasets.Domain`. Waits for the device once, if it is on one."""
        values = domain.tolist()
        unknown = set(values) - {Domain.REAL, Domain.SYNTHETIC}
        if unknown:
            raise ValueError(f"real_bn knows the domains REAL (0) and SYNTHETIC (1), but got {sorted(unknown)}")
        num_real = values.count(Domain.REAL)
        if values == sorted(values):  # the loader's batches are
            return cls(num_real, len(values) - num_real, None, None)
        order = torch.sort(domain, stable=True).indices
        return cls(num_real, len(values) - num_real, order, torch.argsort(order))


class RealBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose running statistics are those of real samples. Input and output float [B, C, H, W].

    In training, inside `domains`: real and synthetic samples are normalised separately, each by their own batch
    statistics; the running ones and `num_batches_tracked` follow the real samples alone. A domain with a single
    value per channel (one sample of a 1x1 map) has no variance: it is normalised by the running statistics and
    updates nothing. A batch of real samples alone gives exactly what BatchNorm2d gives (which raises in that case).
    In evaluation it is BatchNorm2d.
    """

    split: Split | None = None  # set by `domains`; on the class, because layers change class after construction

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        split = self.split
        if split is None:
            raise RuntimeError("real_bn must know the domains: call the model inside `domains(model, batch['domain'])`")
        if len(input) != split.num_real + split.num_synthetic:
            raise RuntimeError(
                f"real_bn got {len(input)} samples, but `domains` named {split.num_real + split.num_synthetic}"
            )
        if split.num_synthetic == 0:
            return self._real(input)
        if split.num_real == 0:
            return self._synthetic(input)
        if split.order is not None:
            input = input.index_select(0, split.order)
        output = torch.cat([self._real(input[: split.num_real]), self._synthetic(input[split.num_real :])])
        return output if split.inverse is None else output.index_select(0, split.inverse)

    def _real(self, x: Tensor) -> Tensor:
        return self._by_running_statistics(x) if _is_single(x) else super().forward(x)

    def _synthetic(self, x: Tensor) -> Tensor:
        return self._by_running_statistics(x) if _is_single(x) else _by_batch_statistics(self, x)

    def _by_running_statistics(self, x: Tensor) -> Tensor:
        # Copies, because a second forward before the backward would change what autograd saved.
        state = {name: buffer.clone() for name, buffer in self.named_buffers()}
        mean, var = state["running_mean"], state["running_var"]
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)


def adapt(model: nn.Module, method: Adaptation) -> None:
    """Gives every BatchNorm2d of a model the class of the method, in place; "none" makes them plain again.

    Parameters, buffers, modes and hooks stay, and so do state_dict keys. Raises ValueError when the model has a
    batch normalisation that the method cannot serve, or none at all.
    """
    classes: dict[Adaptation, type[nn.BatchNorm2d]] = {"none": nn.BatchNorm2d, "real_bn": RealBatchNorm2d}
    layers = []
    for name, module in model.named_modules():
        if type(module) in classes.values() and module.track_running_stats:
            layers.append(module)
        elif isinstance(module, _BatchNorm) and method != "none":
            raise ValueError(f"{method} needs BatchNorm2d layers with running statistics, but {name} is {module}")
    if not layers and method != "none":
        raise ValueError(f"{method} needs a model with BatchNorm2d layers, but {type(model).__name__} has none")
    for layer in layers:
        layer.__class__ = classes[method]


@contextmanager
def domains(model: nn.Module, domain: Tensor) -> Iterator[None]:
    """Tells the model's layers the domain of each sample, int64 [B], for the forward passes inside.

    Without effect on a plain model, and not needed in evaluation. `model` may be wrapped (DistributedDataParallel).
    """
    layers = [module for module in model.modules() if isinstance(module, RealBatchNorm2d)]
    split = Split.of(domain) if layers else None
    for layer in layers:
        layer.split = split
    try:
        yield
    finally:
        for layer in layers:
            layer.split = None


@torch.no_grad()
def restart_real_statistics(
    model: nn.Module, batches: Iterable[Batch], forward: Callable[[nn.Module, Batch], object]
) -> None:
    """Replaces the running statistics of every BatchNorm2d, plain or adapted, by those of the given (real) batches.

    The conversion at a fork from synthetic to real data. `forward(model, batch)` runs the model on a batch; a
    task's `loss` does. In one pass each layer normalises by the statistics of the batch, as in training, while
    the sums of its inputs accumulate in float64; then mean = E[x] and var = (E[x^2] - E[x]^2) n / (n - 1), pooled
    over all n values of a channel. The result does not depend on the old statistics, with one exception: a batch
    with a single value per channel is normalised by them. All else is in evaluation mode (no dropout); modes are
    restored. With several processes, each one runs all batches and gets the same result. The model is unchanged
    when this raises: ValueError when a layer saw fewer than two values per channel.

    Source: Li et al. 2016 (AdaBN), with exactly pooled statistics in place of averages of batch variances.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    sums = {layer: _Sums() for layer in layers.values()}

    def hook(layer: nn.BatchNorm2d, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,) = inputs
        sums[layer].add(x)
        return output if _is_single(x) else _by_batch_statistics(layer, x)

    modes = [(module, module.training) for module in model.modules()]
    hooks = [layer.register_forward_hook(hook) for layer in layers.values()]
    num_batches = 0
    try:
        model.eval()
        for batch in batches:
            forward(model, batch)
            num_batches += 1
    finally:
        for handle in hooks:
            handle.remove()
        for module, training in modes:
            module.training = training

    for name, layer in layers.items():
        if sums[layer].count < 2:
            raise ValueError(
                f"{name} needs two values per channel to restart its statistics, but {num_batches} batches gave "
                f"{sums[layer].count}; give it more real samples"
            )
    for layer in layers.values():
        state = dict(layer.named_buffers())
        mean, var = sums[layer].pooled()
        state["running_mean"].copy_(mean)
        state["running_var"].copy_(var)
        state["num_batches_tracked"].fill_(num_batches)


class _Sums:
    """Count, sum and sum of squares of a layer's inputs, per channel in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.total = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        wide = x.double()
        self.count += x.numel() // x.shape[1]
        self.total = self.total.to(x.device) + wide.sum((0, 2, 3))
        self.squares = self.squares.to(x.device) + wide.square().sum((0, 2, 3))

    def pooled(self) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance, float64 [C]."""
        mean = self.total / self.count
        biased = (self.squares / self.count - mean.square()).clamp(min=0)
        return mean, biased * (self.count / (self.count - 1))


def _by_batch_statistics(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)


def _is_single(x: Tensor) -> bool:
    return x.numel() == x.shape[1]
