"""BaseSpec: what the configurations of all tasks have in common."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from datasets.weights import Weights


@dataclass(frozen=True)
class Phase:
    """An earlier phase of a task, which a path trains on the data of its last stage before that: its configuration,
    its length in steps and its learning rate."""

    spec: Any
    steps: int
    lr: float


class BaseSpec(BaseModel):
    """A task's configuration: frozen, torch-free, and in the key of every stage but for `evaluation_fields`.

    composes    whether samples are put before backgrounds
    pretrained  a local file of published weights to start from; its content is in the key, its path is not
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    evaluation_fields: ClassVar[frozenset[str]] = frozenset()  # change how weights are evaluated, and no weights
    composes: ClassVar[bool] = False

    pretrained: Weights | None = None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases before this one, first to last."""
        return ()
