"""The Task protocol: what the training loop asks of a case study, and all that it knows of one.

A task is a folder of `trainables/` with `spec.py` (its frozen pydantic configuration, importable without
torch), `model.py`, `metrics.py` and `task.py`. To add a fourth, add a folder and name it in `build_task`
and in `trainables/specs.py`; the conformance suite of `tests/trainables/` then runs it through the same checks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from datasets import Pack
from datasets.compositing import Scenes
from trainables.specs import TaskSpec

Sample = Mapping[str, Any]  # the columns of one row of a pack: read-only arrays, and str for string columns
Batch = Mapping[str, Tensor]  # samples stacked, on the training device, and "domain": int64 [B] of datasets.Domain


class Evaluator(Protocol):
    """Accumulates the sufficient statistics of a split; sums over ranks are exact."""

    def update(self, model: nn.Module, batch: Batch) -> None:
        """Adds one batch. `model` is in eval mode, under no_grad and the stage's autocast."""

    def state(self) -> dict[str, Tensor]:
        """The statistics themselves, no copies, as tensors that a sum over ranks combines (integers, float64 sums)."""

    def compute(self) -> dict[str, float]:
        """The metrics of what was added, without a prefix: {"miou": 0.71, "iou/skin": 0.9}; NaN where undefined.

        Before any update it gives every name that it ever gives.
        """


class Task(Protocol):
    """One case study. Stateless: everything is a function of its spec, so two instances of one spec are equal."""

    @property
    def spec(self) -> TaskSpec: ...

    lr_factors: Mapping[str, float]  # on the stage's learning rate, for parameters whose name has the prefix
    columns: tuple[str, ...]  # of a pack, needed for training and evaluation
    unlabelled_columns: tuple[str, ...]  # those of `columns` that real images without labels must have
    metric_version: int  # bumped with any change of a metric's numbers; part of an evaluation's key

    def evaluation_columns(self, packs: Sequence[Pack]) -> tuple[str, ...]:
        """The columns that `prepare` gets of a set of these packs: `columns`, and what it uses where all have it."""

    def composes(self, packs: Sequence[Pack]) -> bool:
        """Whether `prepare` puts the samples of a set of these packs before backgrounds."""

    def check_pack(self, pack: Pack) -> None:
        """Raises ValueError, one line that names the pack and the field, when the pack cannot serve this task."""

    def build_model(self) -> nn.Module:
        """The plain model, on the CPU, with arbitrary weights. What goes in and comes out is the task's own affair."""

    def initialise(self, model: nn.Module, seed: int) -> None:
        """Fills parameters and buffers in place; each is a function of (seed, its name) alone."""

    def initialise_from(self, model: nn.Module, weights: Mapping[str, Tensor], seed: int) -> None:
        """Fills a model from the weights of the stage before. Where that was another phase of the task, what the
        weights lack is the seed's. Raises ValueError for weights of another architecture."""

    def augment(self, sample: Sample, seed: int) -> dict[str, np.ndarray]:
        """A training sample from a row: the albumentations transform, drawn from `seed` (0 <= seed < 2**32) alone."""

    def draw(self, sample: Sample, seed: int) -> dict[str, np.ndarray]:
        """The loader's part of the same augmentation, with the same draws; what is left is `finish`'s."""

    def finish(self, batch: Batch, device: torch.device) -> Batch:
        """The device's part: a batch of what `draw` gives becomes, on `device`, one of what `augment` gives, up to
        rounding. A sample's bits do not depend on the others of its batch."""

    def unaugmented(self, sample: Sample) -> dict[str, np.ndarray]:
        """What `augment` gives, without its randomness: a training sample that only training data has part in. Labels
        that a row of `unlabelled_columns` lacks are unknown ones."""

    def prepare(self, sample: Sample) -> dict[str, np.ndarray]:
        """An evaluation sample from a row: no randomness; same names, dtypes and shapes as `augment` gives."""

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalar terms by name, and their "total" (what is differentiated). Raises ValueError on impossible labels."""

    def evaluator(self, device: torch.device) -> Evaluator:
        """A fresh accumulator whose state lives on `device`."""


def build_task(spec: TaskSpec, scenes: Scenes | None = None) -> Task:
    """The task of a spec; `scenes` gives background matting its backgrounds. Imports only the folder it needs."""
    match spec.kind:
        case "segmentation":
            from trainables.segmentation.task import Segmentation

            return Segmentation(spec)
        case "matting":
            from trainables.matting.task import Matting

            return Matting(spec, scenes)
        case "landmarks":
            from trainables.landmarks.task import Landmarks

            return Landmarks(spec)


def example_batch(task: Task, samples: list[dict[str, np.ndarray]], domains: list[int]) -> dict[str, Any]:
    """Stacks samples into the batch that `loss` takes (tests and cost estimates)."""
    batch = {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in samples[0]}
    return batch | {"domain": torch.tensor(domains, dtype=torch.int64)}
