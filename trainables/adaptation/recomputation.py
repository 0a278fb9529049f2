"""Recomputation: running statistics of given batches, exactly pooled. What AdaBN is, and how forks begin on real data.

Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation" (2016), with pooled statistics in place of
averages of batch variances, which leave out how much the batches' means differ.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from datasets import Domain
from trainables.adaptation.batch_norm import by_batch_statistics, is_single
from trainables.adaptation.domain_specific import BranchedNorm2d, DomainBatchNorm2d, MixedNorm2d
from trainables.adaptation.pooled import buffers
from trainables.task import Batch


@torch.no_grad()
def recompute_statistics(
    model: nn.Module, batches: Iterable[Batch], forward: Callable[[nn.Module, Batch], object]
) -> None:
    """Replaces the running statistics of every BatchNorm2d by those of the given (real) batches; of the real branch in
    models of `dsbn` and `dson`, whose synthetic branch stays as it is.

    `forward(model, batch)` runs the model on a batch; a task's `loss` does. In one pass each layer normalises by the
    statistics of the batch, as in training, while the sums of its inputs accumulate in float64; then mean = E[x] and
    var = (E[x^2] - E[x]^2) n / (n - 1), pooled over all n values of a channel. The result does not depend on the old
    statistics, with one exception: a batch with a single value per channel is normalised by them. All else is in
    evaluation mode (no dropout); modes are restored. With several processes, each one runs all batches and gets the
    same result. The model is unchanged when this raises: ValueError when a layer saw fewer than two values per channel.
    """
    layers = _layers(model)
    sums = {layer: _Sums() for layer in layers.values()}

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,) = inputs
        sums[layer].add(x)
        if is_single(x):
            return output
        if isinstance(layer, MixedNorm2d):
            return layer.by_batch_statistics(x)
        assert isinstance(layer, nn.BatchNorm2d)
        return by_batch_statistics(layer, x)

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
                f"{name} needs two values per channel to recompute its statistics, but {num_batches} batches gave "
                f"{sums[layer].count}; give it more real samples"
            )
    for layer in layers.values():
        norm = layer.norms()[Domain.REAL] if isinstance(layer, MixedNorm2d) else layer
        assert isinstance(norm, nn.BatchNorm2d)
        mean, var = sums[layer].pooled()
        for buffer, value in zip(buffers(norm), (torch.tensor(num_batches), mean, var), strict=True):
            buffer.copy_(value)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """What has statistics to recompute, by name: BatchNorm2d, the real branches of `dsbn`, the layers of `dson`."""
    layers: dict[str, nn.Module] = {}
    branches: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, BranchedNorm2d):
            branches.update(module.norms())
            layers[name] = module.norms()[Domain.REAL] if isinstance(module, DomainBatchNorm2d) else module
        elif isinstance(module, nn.BatchNorm2d) and module not in branches:
            layers[name] = module
    return layers


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
