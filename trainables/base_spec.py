"""BaseSpec: what the configurations of all tasks have in common."""

from collections.abc import Mapping
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

    evaluation_fields  what changes how weights are evaluated, and no weights, in pydantic's form for `exclude`:
                       {"flip_test": True}, or {"refinement": {"mode": True}} for a field of a field
    composes           whether samples are put before backgrounds
    pretrained         a local file of published weights to start from; its content is in the key, its path is not
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    evaluation_fields: ClassVar[Mapping[str, Any]] = {}
    composes: ClassVar[bool] = False

    pretrained: Weights | None = None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases before this one, first to last."""
        return ()

    def training_options(self) -> dict[str, Any]:
        """What changes the weights, as plain values: a part of every stage's key."""
        return self.model_dump(mode="json", exclude=dict(self.evaluation_fields))

    def evaluation_options(self) -> dict[str, Any]:
        """What changes how weights are evaluated, as plain values: a part of every evaluation's key."""
        return self.model_dump(mode="json", include=dict(self.evaluation_fields))
