"""Shape: the size of a search's slots, which all have one, and how many of them the nodes of a cluster hold."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, field_validator

from search.data import Frozen


class Node(NamedTuple):
    """A machine of a cluster. `accelerator_types` are Ray's names for the model of its GPUs, where it knows any."""

    cpus: float
    gpus: float
    accelerator_types: frozenset[str] = frozenset()


def _count(value: Any) -> Any:
    if value != "auto" and (not isinstance(value, int) or value < 1):
        raise ValueError(f"must be a number of at least 1, or auto, but got {value!r}")
    return value


class SlotsConfig(Frozen):
    """count: "auto" fills the cluster. Each slot has `workers` processes of `threads` CPUs and `gpus_per_worker` GPUs.

    accelerator_type  the only nodes to use, by Ray's name for the model of their GPUs (A100, L4, ...)
    loaders           loader processes per worker; 0 reads in the training process
    batch_cache_gb    of batches that a worker keeps in memory: recipes that read the same ones augment them once
    max_failures      how often a trial may kill its slot before it counts as failed
    """

    count: Annotated[int | Literal["auto"], BeforeValidator(_count)] = "auto"
    workers: int = Field(default=1, ge=1)
    gpus_per_worker: float = Field(default=0, ge=0)
    accelerator_type: str | None = Field(default=None, min_length=1)
    threads: int = Field(default=1, ge=1)
    loaders: int = Field(default=0, ge=0)
    batch_cache_gb: float = Field(default=0.5, ge=0)
    max_failures: int = Field(default=3, ge=1)

    @field_validator("gpus_per_worker")
    @classmethod
    def _of_one_gpu_or_whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus_per_worker must be a share of one GPU or a whole number, but got {gpus:g}")
        return gpus

    def on_one_model(self, nodes: Iterable[Node]) -> "SlotsConfig":
        """These slots, on the model of GPU that the nodes have, whichever nodes join later: the same recipe has other
        numbers on another one. Raises ValueError where the nodes have several and none is named."""
        if not self.gpus_per_worker or self.accelerator_type:
            return self
        models = {node.accelerator_types for node in nodes if node.gpus and node.accelerator_types}
        if len(models) > 1:
            raise ValueError(
                "slots.accelerator_type must name one model of GPU, for a recipe has other numbers on another, and the"
                f" cluster has {', '.join(sorted(set().union(*models)))}"
            )
        return self.model_copy(update={"accelerator_type": min(models.pop())}) if models else self

    def fit(self, nodes: Iterable[Node]) -> int:
        """How many slots of this size these nodes hold, whatever `count` says.

        A worker is on one node, and a share of a GPU on one GPU; a slot's workers may be on several nodes.
        """
        return sum(self._workers_on(node) for node in nodes) // self.workers

    def _workers_on(self, node: Node) -> int:
        if self.accelerator_type and self.accelerator_type not in node.accelerator_types:
            return 0
        workers = int(node.cpus // self.threads)
        if not self.gpus_per_worker:
            return workers
        if self.gpus_per_worker < 1:
            return min(workers, int(node.gpus) * int(1 / self.gpus_per_worker + 1e-9))  # 1 // 0.1 is 9
        return min(workers, int(node.gpus // self.gpus_per_worker))
