"""Stage: one stretch of training with one set of conditions.

The key of a stage is a digest of exactly what changes its weights, and of nothing else: no path, no log option,
no number of loader processes, and not its length, for every length is a prefix of every longer one (where the learning
rate is a warm-up and then constant). Trials whose paths begin with the same stages share their weights, bit for bit.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from datasets.translation.spec import TranslationSpec
from trainables.methods import Adain, NetworkMethod
from trainables.recipe import digest
from trainables.specs import TaskSpec

# Part of the store's numerics digest. Bump it with any change of the training numbers that no key holds
# (the loop, a model's code, the augmentation's code): tests/trainables/test_golden.py notices.
TRAINING_VERSION = 4


class Training(BaseModel):
    """What every stage of a search has in common.

    batch_size    samples a step, over all workers together
    optimizer     "sgd", "adam" or "rmsprop" (alpha 0.99)
    momentum      of SGD (adam and rmsprop have none)
    weight_decay  on every parameter, as the references have it, added to the gradient
    lr_schedule   after the warm-up: "constant", or "poly", lr (1 - step / length) ^ 0.9, which knows its end: such a
                  stage is another one for each length, and a search with it has no rungs
    warmup        steps of linear warm-up, at the beginning of each stage
    clip_norm     largest global L2 norm of the gradients
    ema_decay     d of the weights' moving average: decay at step t is min(d, (1 + t) / (10 + t))
    precision     "fp32", or "bf16" autocast; "auto" is bf16 on GPUs and fp32 on CPUs
    augmentation  where pictures are augmented: in the "loader" processes by albumentations, or in batches on the
                  training "device" (datasets/batched.py); "auto" is the device for GPUs and the loader for CPUs.
                  The same draws, but not the same roundings
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(default=16, ge=2)
    optimizer: Literal["sgd", "adam", "rmsprop"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    lr_schedule: Literal["constant", "poly"] = "constant"
    warmup: int = Field(default=20, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    augmentation: Literal["auto", "loader", "device"] = "auto"

    def augments_on_device(self, device: str) -> bool:
        """Whether a device of this type ("cuda", "cpu") augments its own batches."""
        return self.augmentation == "device" or (self.augmentation == "auto" and device != "cpu")


@dataclass(frozen=True)
class Rows:
    """A nested subset of one source: the first `count` of `total` rows in the order that (seed, digest) fixes."""

    digest: str
    total: int
    count: int


@dataclass(frozen=True)
class Checkpoint:
    """The address of a checkpoint in the store: after `step` steps of the stage with key `stage`."""

    stage: str
    step: int


@dataclass(frozen=True)
class Stage:
    """One stretch of training. Every field changes the weights.

    start       the checkpoint it forks from; None starts from the seed's initial weights
    horizon     its length where the learning rate falls towards its end; None where every length is a prefix of longer
    conversion  what the fork does to the weights: "real_bn" restarts the normalisation statistics by a seeded pass
                over the real subset; "none" takes them as they are
    backgrounds of composites: `Compositor.digest`; None for tasks without
    adaptation  of the model while it trains; "none" wherever a stage sees one domain, but after a stage of dson, whose
                mixed statistics have no plain form. Weights of another adaptation are converted at the fork
    adain       the options of that adaptation
    translation how its synthetic images are made to look real, and `references` the real ones that are read for it
    frozen      parts of the model that stay as they are, sorted: "norm", or prefixes of parameters' names
    synthetic_share  of each batch, in (0, 1), or of each of the equal blocks of the stage, in turn (`datasets.Blocks`);
                None where the stage reads one domain
    """

    start: Checkpoint | None
    horizon: int | None
    conversion: Literal["none", "real_bn"]
    task: TaskSpec
    real: Rows | None
    synthetic: Rows | None
    synthetic_share: float | tuple[float, ...] | None
    backgrounds: str | None
    adaptation: NetworkMethod
    training: Training
    lr: float
    seed: int
    adain: Adain | None = None
    translation: TranslationSpec | None = None
    references: Rows | None = None
    frozen: tuple[str, ...] = ()

    def canonical(self) -> dict[str, Any]:
        """The fields as plain values, in the form that the key digests."""
        return {
            "start": vars(self.start) if self.start else None,
            "horizon": self.horizon,
            "conversion": self.conversion,
            "task": self.task.training_options(),
            "real": vars(self.real) if self.real else None,
            "synthetic": vars(self.synthetic) if self.synthetic else None,
            "synthetic_share": list(share) if isinstance(share := self.synthetic_share, tuple) else share,
            "backgrounds": self.backgrounds,
            "adaptation": self.adaptation,
            "adain": self.adain.model_dump(mode="json") if self.adain else None,
            "translation": self.translation.model_dump(mode="json") if self.translation else None,
            "references": vars(self.references) if self.references else None,
            "frozen": list(self.frozen),
            "training": self.training.model_dump(mode="json"),
            "lr": float(self.lr),
            "seed": self.seed,
        }

    @cached_property
    def key(self) -> str:
        """32 hex digits: the stage's name in the store."""
        return digest(self.canonical())[:32]
