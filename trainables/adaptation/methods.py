"""Methods: which class the BatchNorm2d layers of a model get, and how they are told of domains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datasets import Domain
from trainables.adaptation.adain import AdaInBatchNorm2d
from trainables.adaptation.batch_norm import DomainAware, RealBatchNorm2d, SharedBatchNorm2d
from trainables.adaptation.domain_specific import BranchedNorm2d, DomainBatchNorm2d, MixedBatchNorm2d, MixedNorm2d
from trainables.adaptation.pooled import world_size
from trainables.adaptation.split import Split

# With the parameters and keys of BatchNorm2d, and with branches.
PLAIN: dict[str, type[nn.BatchNorm2d]] = {
    "none": SharedBatchNorm2d,
    "adabn": SharedBatchNorm2d,
    "real_bn": RealBatchNorm2d,
    "adain": AdaInBatchNorm2d,
}
BRANCHED: dict[str, type[BranchedNorm2d]] = {"dsbn": DomainBatchNorm2d, "dson": MixedNorm2d}


def adapt(model: nn.Module, method: str, options: BaseModel | None = None) -> None:
    """Makes every BatchNorm2d of a model a layer of the method, in place; "none" makes them plain again.

    options  of `adain` alone: `strength` in (0, 1], and `layers`, in the order in which the model registers its
             BatchNorm2d: "stem" (the first), "early" (the first third, rounded up) or "all"

    Layers stay the same objects, with their modes and hooks. Parameters, buffers and state_dict keys stay, but for
    `dsbn` and `dson`, which copy them to every branch: adapt before an optimizer is made. Twice is as once. Raises
    ValueError when the model has a batch normalisation that the method cannot serve, or none at all, and where a
    model with branches would get another method (see `converted`).
    """
    if method not in (*PLAIN, *BRANCHED):
        raise ValueError(f"method must be one of {', '.join((*PLAIN, *BRANCHED))}, but is {method!r}")
    if (options is not None) != (method == "adain"):
        given = "none" if options is None else type(options).__name__
        raise ValueError(f"adain, and no other method, has options (strength, layers), but {method} got {given}")
    wanted = BRANCHED.get(method)
    layers = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, BranchedNorm2d):
            inside.update(module.bns)
            if type(module) is not wanted:
                raise ValueError(
                    f"{method} needs a plain model, but {name} has branches of {module.method}; build the model anew"
                    " and fill it with `converted` weights"
                )
        elif module in inside:
            continue
        elif type(module) in (nn.BatchNorm2d, *PLAIN.values()) and _serves(module, method):
            layers.append(module)
        elif isinstance(module, _BatchNorm) and method not in ("none", "adabn"):
            needed = "running statistics" if method == "real_bn" else "running statistics and affine parameters"
            raise ValueError(f"{method} needs BatchNorm2d layers with {needed}, but {name} is {module}")
    if not layers and not inside and method not in ("none", "adabn"):
        raise ValueError(f"{method} needs a model with BatchNorm2d layers, but {type(model).__name__} has none")
    chosen = _chosen(layers, options) if options is not None else len(layers)
    for k, layer in enumerate(layers):
        if wanted is not None:
            wanted.convert(layer)
            continue
        layer.__class__ = PLAIN[method] if k < chosen else SharedBatchNorm2d
        layer.__dict__.pop("strength", None)
        if isinstance(layer, AdaInBatchNorm2d):
            layer.strength = float(options.strength)  # type: ignore[union-attr]


def _serves(layer: Any, method: str) -> bool:
    return layer.track_running_stats and (layer.affine or method in ("none", "adabn", "real_bn"))


def _chosen(layers: list[Any], options: Any) -> int:
    """How many of the first layers `options` names."""
    if not 0 <= options.strength <= 1:
        raise ValueError(f"adain needs a `strength` in [0, 1], but got {options.strength}")
    counts = {"stem": 1, "early": -(-len(layers) // 3), "all": len(layers)}
    if options.layers not in counts:
        raise ValueError(f"adain needs `layers` of {', '.join(counts)}, but got {options.layers!r}")
    return counts[options.layers]


@contextmanager
def domains(model: nn.Module, domain: Tensor) -> Iterator[None]:
    """Tells the model's layers the domain of each sample, int64 [B], for the forward passes in training inside.

    Without effect on a plain model in one process, and on evaluation. `model` may be wrapped (DistributedDataParallel).
    Raises ValueError for a value that is no `datasets.Domain`.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, DomainAware) and (type(module) is not SharedBatchNorm2d or world_size() > 1)
    ]
    split = Split(domain, layers[0].method) if layers else None
    for layer in layers:
        layer.split = split
    try:
        yield
    finally:
        for layer in layers:
            layer.split = None


@contextmanager
def branch(model: nn.Module, domain: Domain) -> Iterator[None]:
    """Has evaluation inside use a domain's branches (`dsbn`, `dson`), where the real ones are used otherwise.

    Without effect on a model of another method, which has one way to evaluate.
    """
    layers = [module for module in model.modules() if isinstance(module, BranchedNorm2d)]
    for layer in layers:
        layer.evaluated = domain
    try:
        yield
    finally:
        for layer in layers:
            layer.evaluated = Domain.REAL


def undecayed(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that weight decay must leave alone: the mixtures of `dson`, which it would pull to a half."""
    return [module.mixture for module in model.modules() if isinstance(module, MixedBatchNorm2d)]
