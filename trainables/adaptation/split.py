"""Split: how a batch divides by domain, worked out once for each forward pass and read by every layer."""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor

from datasets import Domain
from trainables.adaptation.pooled import Groups, over_ranks, world_size


@dataclass(frozen=True)
class Pairs:
    """Which real sample each synthetic one is paired with, over the batch of all ranks.

    num_real  real samples of all ranks, numbered in the order of the whole batch
    real      int64 [real ones here], the numbers of this process's
    partner   int64 [synthetic ones here], synthetic sample i of the whole batch has real sample i mod num_real
    """

    num_real: int
    real: Tensor
    partner: Tensor


class Split:
    """How a batch divides by domain. `order` puts the real samples first, `inverse` undoes it; None if they are.

    Made of `domain`, int64 [B] of `datasets.Domain`. Waits for the device once, if it is on one.
    """

    def __init__(self, domain: Tensor, method: str) -> None:
        self.method = method  # for errors
        self._domain = domain
        self.values: list[int] = domain.tolist()
        unknown = set(self.values) - {Domain.REAL, Domain.SYNTHETIC}
        if unknown:
            raise ValueError(f"{method} knows the domains REAL (0) and SYNTHETIC (1), but got {sorted(unknown)}")
        self.num_real = self.values.count(Domain.REAL)
        self.num_synthetic = len(self.values) - self.num_real
        self.order: Tensor | None = None
        self.inverse: Tensor | None = None
        if self.values != sorted(self.values):  # the loader's batches are
            self.order = torch.sort(domain, stable=True).indices
            self.inverse = torch.argsort(self.order)

    @property
    def present(self) -> list[Domain]:
        """The domains that the layers tell apart: all where other ranks may have what this one lacks."""
        counts = {Domain.REAL: self.num_real, Domain.SYNTHETIC: self.num_synthetic}
        return [domain for domain, count in counts.items() if count or world_size() > 1]

    @cached_property
    def groups(self) -> Groups:
        """The present domains. Where there are several processes, asked for on every rank."""
        membership = torch.stack([self._domain == domain for domain in self.present]).double()
        return Groups(membership, tuple(self._counts[domain] for domain in self.present))

    @cached_property
    def everything(self) -> Groups:
        """One group, whatever the domain. Where there are several processes, asked for on every rank."""
        return Groups.one(len(self.values), sum(self._counts), self._domain.device)

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        return over_ranks((self.num_real, self.num_synthetic), self._domain.device)

    @cached_property
    def where(self) -> tuple[Tensor, Tensor]:
        """The places of the real samples and those of the synthetic ones, int64, in order."""
        real = self._domain == Domain.REAL
        return real.nonzero()[:, 0], (~real).nonzero()[:, 0]

    @cached_property
    def pairs(self) -> Pairs | None:
        """None where the batch of all ranks has one domain only.

        Sample k of rank r stands at place (k, r) of the whole batch, as the loader divides it. A collective
        operation: asked for on every rank.
        """
        everyone, mine = [self.values], 0
        if world_size() > 1:
            everyone, mine = [[] for _ in range(world_size())], dist.get_rank()
            dist.all_gather_object(everyone, self.values)
        places = sorted((k, rank) for rank, values in enumerate(everyone) for k in range(len(values)))
        number: dict[tuple[int, int], int] = {}
        counts = [0, 0]
        for k, rank in places:
            number[k, rank] = counts[everyone[rank][k]]
            counts[everyone[rank][k]] += 1
        if 0 in counts:
            return None
        real, synthetic = (
            [number[k, mine] for k, value in enumerate(self.values) if value == domain]
            for domain in (Domain.REAL, Domain.SYNTHETIC)
        )
        device = self._domain.device
        partner = [i % counts[Domain.REAL] for i in synthetic]
        return Pairs(
            counts[Domain.REAL],
            torch.tensor(real, dtype=torch.int64, device=device),
            torch.tensor(partner, dtype=torch.int64, device=device),
        )
