"""Initial weights as a function of (seed, parameter name), so that they depend on nothing else.

Not on the order in which a model registers its layers, nor on another layer's shape, nor on the processor: the
draws are numpy's Philox stream, keyed by a digest, where torch's own normal draws differ between vector units.
"""

import hashlib
from collections.abc import Callable, Mapping
from math import prod, sqrt

import numpy as np
import torch
from torch import nn

Distribution = Callable[[torch.Size], float]  # the standard deviation of the normal draws for a weight's shape


def fan_in(shape: torch.Size) -> float:
    """sqrt(2 / (in * k * k)) of a weight [out, in, ...]: He et al. 2015, as torch's kaiming_normal_ (a = 0)."""
    return sqrt(2 / prod(shape[1:]))


def fan_out(shape: torch.Size) -> float:
    """sqrt(2 / (out * k * k)) of a weight [out, in, ...]: what fyu/drn and the original ResNet use."""
    return sqrt(2 / (shape[0] * prod(shape[2:])))


@torch.no_grad()
def initialise(model: nn.Module, seed: int, distributions: Mapping[str, Distribution]) -> None:
    """Fills every parameter and buffer in place.

    Weights of two or more dimensions are normal with mean 0 and the deviation of the one prefix in `distributions`
    that their name starts with; weights of one dimension (of a normalisation) are 1, biases and mixtures 0; running
    statistics start at 0 and 1. Raises ValueError for a tensor that these rules do not cover.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        kind = name.rpartition(".")[2]
        if kind in ("bias", "mixture", "running_mean", "num_batches_tracked"):
            tensor.zero_()
        elif kind == "running_var" or (kind == "weight" and tensor.ndim == 1):
            tensor.fill_(1)
        elif kind == "weight":
            prefixes = [prefix for prefix in distributions if name.startswith(prefix)]
            if len(prefixes) != 1:
                raise ValueError(f"{name}: one prefix of {sorted(distributions)} must match, but {len(prefixes)} do")
            key = hashlib.blake2b(f"initialise {seed} {name}".encode(), digest_size=16).digest()
            rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
            draws = rng.standard_normal(tuple(tensor.shape), dtype=np.float32)
            tensor.copy_(torch.from_numpy(draws * np.float32(distributions[prefixes[0]](tensor.shape))))
        else:
            raise ValueError(f"{name}: no rule initialises a {kind} of shape {list(tensor.shape)}")
