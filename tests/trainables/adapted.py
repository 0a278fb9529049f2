"""What the tests of adaptation share: the methods, and a small network that has every kind of map."""

from collections.abc import Sequence

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from datasets import Domain
from trainables.adaptation import adapt, domains

R, S = int(Domain.REAL), int(Domain.SYNTHETIC)
METHODS = ("none", "adabn", "real_bn", "dsbn", "dson", "adain")
CHANNELS = 4


class AdaIn(BaseModel):
    strength: float = 1.0
    layers: str = "all"


def options(method: str, strength: float = 1.0, layers: str = "all") -> AdaIn | None:
    return AdaIn(strength=strength, layers=layers) if method == "adain" else None


def network(seed: int = 0) -> nn.Sequential:
    """Two normalised maps and a normalised map of one pixel; every parameter and buffer away from its default."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, padding=1),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU(inplace=True),
        nn.Conv2d(CHANNELS, CHANNELS, 3),
        nn.BatchNorm2d(CHANNELS),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(CHANNELS, 5, 1),
        nn.BatchNorm2d(5),
    )
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                low = 0.5 if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1) else -0.5
                tensor.uniform_(low, low + 1, generator=generator)
    return model


def adapted(method: str, seed: int = 0, strength: float = 1.0) -> nn.Sequential:
    """The network with a method; mixtures away from 0."""
    model = network(seed)
    adapt(model, method, options(method, strength))
    with torch.no_grad():
        for k, (name, parameter) in enumerate(model.named_parameters()):
            if name.endswith("mixture"):
                parameter.fill_(0.3 * (k % 5) - 0.6)
    return model


def images(count: int, seed: int = 1, size: int = 6) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def forward(model: nn.Module, x: Tensor, domain: Sequence[int]) -> Tensor:
    with domains(model, torch.tensor(domain)):
        return model(x)


def real_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the running statistics that real evaluation uses, and the counts of batches."""
    return {name: buffer.clone() for name, buffer in model.named_buffers() if f"bns.{S}." not in name}


def equal_states(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
