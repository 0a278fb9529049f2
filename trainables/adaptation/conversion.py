"""Conversion: the weights of one method as another method's model takes them, where a stage begins from another."""

from collections.abc import Mapping

import torch
from torch import Tensor

from datasets import Domain
from trainables.adaptation.methods import BRANCHED, PLAIN


def converted(weights: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    """The state_dict of a model of the method `source` for a model of `target`, as a new dict.

    Between none, adabn, real_bn and adain all keys are the same. To dsbn and dson, a normalisation's parameters and
    buffers go to both branches, as copies, and the mixtures of dson begin at 0 (w = a half). From dsbn, the real branch
    stays. Raises ValueError from dson to another method, since its part of each sample has no plain form, and from
    dsbn to dson.
    """
    for method in (source, target):
        if method not in (*PLAIN, *BRANCHED):
            raise ValueError(f"method must be one of {', '.join((*PLAIN, *BRANCHED))}, but is {method!r}")
    if source == target or (source in PLAIN and target in PLAIN):
        return dict(weights)
    if source in PLAIN:
        return _branches(weights, mixture=target == "dson")
    if source == "dsbn" and target in PLAIN:
        return _real_branch(weights)
    why = "mixes in statistics of each sample" if source == "dson" else "has branches without mixtures"
    raise ValueError(f"weights of {source} cannot become those of {target}, since {source} {why}; keep {source}")


def _branches(weights: Mapping[str, Tensor], *, mixture: bool) -> dict[str, Tensor]:
    suffix = "running_mean"
    layers = {name.removesuffix(suffix) for name in weights if name.endswith(suffix)}
    result = {}
    for name, tensor in weights.items():
        layer, dot, kind = name.rpartition(".")
        if layer + dot not in layers:
            result[name] = tensor
            continue
        for domain in Domain:
            result[f"{layer}{dot}bns.{int(domain)}.{kind}"] = tensor.clone()
            if mixture and kind == suffix:
                result[f"{layer}{dot}bns.{int(domain)}.mixture"] = torch.zeros_like(tensor[0])
    return result


def _real_branch(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for name, tensor in weights.items():
        layer, _, kind = name.rpartition(".")
        holder, _, domain = layer.rpartition(".")
        if holder.rpartition(".")[2] != "bns":
            result[name] = tensor
        elif domain == str(int(Domain.REAL)):
            result[f"{holder.removesuffix('bns')}{kind}"] = tensor
    return result
