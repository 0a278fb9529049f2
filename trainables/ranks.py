"""Ranks: the few collective operations that the training loop needs, and their trivial form in one process."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist


class Ranks:
    """This process's place among the workers of a slot. With one worker every operation is the identity."""

    def __init__(self) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if distributed else 0
        self.world_size = dist.get_world_size() if distributed else 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank (any picklable object)."""
        if self.world_size == 1:
            return value
        box = [value if self.first else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def all(self, value: bool) -> bool:
        """Whether `value` holds on every rank."""
        if self.world_size == 1:
            return value
        values: list[bool] = [False] * self.world_size
        dist.all_gather_object(values, value)
        return all(values)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a float tensor over the ranks, the same bits on every rank."""
        if self.world_size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.world_size

    def copy(self, tensors: Iterable[torch.Tensor]) -> None:
        """Gives every rank the values of rank 0's tensors, in place."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def sum(self, tensors: dict[str, torch.Tensor]) -> None:
        """Adds each tensor over the ranks, in place. Exact for integers; for floats, the same on every rank."""
        if self.world_size > 1:
            for name in sorted(tensors):
                dist.all_reduce(tensors[name])
