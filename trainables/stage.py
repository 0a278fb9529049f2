"""Stage: one stretch of training with one set of conditions, and the path of stages that a recipe is.

The key of a stage is a digest of exactly what changes its weights, and of nothing else: no path, no log option,
no number of loader processes, and not its length, for every length is a prefix of every longer one (where the learning
rate is a warm-up and then constant). Trials whose paths begin with the same stages share their weights, bit for bit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from datasets.mix import subset_count
from trainables.recipe import Adaptation, DomainName, Recipe, digest
from trainables.specs import TaskSpec

# Part of the store's numerics digest. Bump it with any change of the training numbers that no key holds
# (the loop, a model's code, the augmentation's code): tests/trainables/test_golden.py notices.
TRAINING_VERSION = 2


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
class SourceFacts:
    """What a key needs to know of a source: the digest of its packs and how many rows they have."""

    digest: str
    rows: int


@dataclass(frozen=True)
class Problem:
    """What a search holds fixed: the task, the data it may use, the training defaults and the lengths.

    real, synthetic  what recipes read that name no source of the domain: all of its packs
    rungs  steps of the last stage at which it is evaluated, ascending; the last one is its length
    forks  the lengths that an earlier stage may have, ascending: paths may leave a trunk at each of them
    backgrounds  digest of what people are put before in training, where the task composes
    choices  what recipes read that name a source, by domain and by that name: {"real": {"original+refined": ...}}
    """

    task: TaskSpec
    training: Training
    real: SourceFacts | None
    synthetic: SourceFacts | None
    rungs: tuple[int, ...]
    forks: tuple[int, ...] = ()
    seed: int = 0
    backgrounds: str | None = None
    choices: Mapping[DomainName, Mapping[str, SourceFacts]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return self.rungs[-1]

    def counts(self, recipe: Recipe) -> dict[str, int]:
        """How many images a recipe sees, by what they cost: labelled real, unlabelled real, synthetic."""
        real, synthetic = self._rows(recipe)
        return {
            "num_real_labels": real.count if real else 0,
            "num_real_unlabelled": 0,  # no adaptation of this version reads real images without their labels
            "num_synthetic": synthetic.count if synthetic else 0,
        }

    def _rows(self, recipe: Recipe) -> tuple["Rows | None", "Rows | None"]:
        return self._select("real", self.real, recipe), self._select("synthetic", self.synthetic, recipe)

    def _select(self, domain: DomainName, united: SourceFacts | None, recipe: Recipe) -> "Rows | None":
        source, fraction = getattr(recipe, f"{domain}_source"), getattr(recipe, f"{domain}_fraction")
        if fraction is None:
            return None
        if source is None and united is None:
            raise ValueError(f"data.{domain} must name a pack for recipes that read {domain} images, but it is absent")
        facts = united if source is None else self.choices.get(domain, {}).get(source)
        if facts is None:
            known = ", ".join(self.choices.get(domain, {})) or "none"
            raise ValueError(f"{domain}_source must be a source of the search, one of {known}, but got {source!r}")
        return Rows(digest=facts.digest, total=facts.rows, count=subset_count(facts.rows, fraction))


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
    adaptation  of the model while it trains; "none" wherever a stage sees one domain
    synthetic_share  of each batch, in (0, 1); None where the stage reads one domain
    """

    start: Checkpoint | None
    horizon: int | None
    conversion: Literal["none", "real_bn"]
    task: TaskSpec
    real: Rows | None
    synthetic: Rows | None
    synthetic_share: float | None
    backgrounds: str | None
    adaptation: Adaptation
    training: Training
    lr: float
    seed: int

    def canonical(self) -> dict[str, Any]:
        """The fields as plain values, in the form that the key digests."""
        return {
            "start": vars(self.start) if self.start else None,
            "horizon": self.horizon,
            "conversion": self.conversion,
            "task": self.task.training_options(),
            "real": vars(self.real) if self.real else None,
            "synthetic": vars(self.synthetic) if self.synthetic else None,
            "synthetic_share": self.synthetic_share,
            "backgrounds": self.backgrounds,
            "adaptation": self.adaptation,
            "training": self.training.model_dump(mode="json"),
            "lr": float(self.lr),
            "seed": self.seed,
        }

    @cached_property
    def key(self) -> str:
        """32 hex digits: the stage's name in the store."""
        return digest(self.canonical())[:32]


@dataclass(frozen=True)
class Leg:
    """A stage of a path and the step it is trained to there.

    keep  steps on the way whose checkpoints stay, since evaluations or other paths of the search start from them
    """

    stage: Stage
    steps: int
    keep: tuple[int, ...] = ()

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.stage.key, self.steps)


Path = tuple[Leg, ...]


def path_of(recipe: Recipe, problem: Problem, replicate: int) -> Path:
    """The stages of a recipe, first to last. The last one is `problem.steps` long, earlier ones have their own length.

    A task of several phases is trained through them on the data of the recipe's last stage; what is before that
    (`pretrain`) is of the first phase.

    A stage of synthetic images may be a trunk of one path and the whole of another, so it keeps its checkpoints at
    every fork and every rung, whichever recipe trains it first.

    The replicate enters through the seed alone, in the same way for every recipe: replicate r of two recipes has the
    same initial weights, nested subsets and data order (they are paired).
    """
    real, synthetic = problem._rows(recipe)
    phases = problem.task.phases
    path: list[Leg] = []

    def train(spec: TaskSpec, lr: float, steps: int, keep: Iterable[int], **data: Any) -> None:
        """Adds a stage that goes on from the one before."""
        fields: dict[str, Any] = {
            "start": path[-1].checkpoint if path else None,
            "conversion": "none",
            "real": None,
            "synthetic": None,
            "synthetic_share": None,
            "adaptation": "none",
        }
        stage = Stage(
            horizon=steps if problem.training.lr_schedule == "poly" else None,
            task=spec,
            backgrounds=problem.backgrounds,
            training=problem.training,
            lr=lr,
            seed=problem.seed + replicate,
            **(fields | data),
        )
        path.append(Leg(stage, steps, tuple(sorted({steps, *keep}))))

    data: dict[str, Any] = {"real": real, "synthetic": synthetic}
    if recipe.schedule == "finetune":
        assert recipe.pretrain is not None
        steps = recipe.pretrain.steps
        keep = [step for step in (*problem.forks, *problem.rungs) if step < steps]
        train(phases[0].spec if phases else problem.task, recipe.pretrain.lr, steps, keep, synthetic=synthetic)
        data = {"real": real, "conversion": recipe.adaptation}
    elif recipe.schedule == "mixed":
        assert real is not None
        assert synthetic is not None
        share = recipe.synthetic_share
        if share == "natural":
            share = synthetic.count / (synthetic.count + real.count)
        data |= {"synthetic_share": share, "adaptation": recipe.adaptation}
    forks = problem.forks if recipe.schedule == "synthetic_only" else ()
    for phase in phases:
        train(phase.spec, phase.lr, phase.steps, [step for step in forks if step <= phase.steps], **data)
        data["conversion"], forks = "none", ()
    train(problem.task, recipe.lr, problem.steps, [*problem.rungs, *(s for s in forks if s <= problem.steps)], **data)
    return tuple(path)


def steps_alone(paths: list[Path]) -> int:
    """Training steps if every path is trained by itself."""
    return sum(leg.steps for path in paths for leg in path)


def steps_shared(paths: list[Path]) -> int:
    """Training steps if every stage is trained once, to the longest length that a path asks of it."""
    longest: dict[str, int] = {}
    for path in paths:
        for leg in path:
            longest[leg.stage.key] = max(longest.get(leg.stage.key, 0), leg.steps)
    return sum(longest.values())
