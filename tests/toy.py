"""The toy search of the tests: a model that trains a step in milliseconds, over the toy packs of conftest.py."""

from collections.abc import Callable
from pathlib import Path

import torch

from datasets import Pack, Source
from trainables.loop import Trainer
from trainables.problem import Problem, SourceFacts
from trainables.recipe import Recipe
from trainables.segmentation.spec import SegmentationSpec
from trainables.stage import Training
from trainables.store import Store

SPEC = SegmentationSpec(kind="segmentation", width=0.0625, resolution=32, aspp_rates=(1, 2, 3))
TRAINING = Training(batch_size=6, warmup=2, ema_decay=0.9)
RUNGS = (3, 6)

RECIPES = {
    "real": Recipe(schedule="real_only", real_fraction=1.0, lr=0.1),
    "synthetic": Recipe(schedule="synthetic_only", synthetic_fraction=1.0, lr=0.05),
    "mixed": Recipe(
        schedule="mixed", adaptation="real_bn", real_fraction=0.5, synthetic_fraction=1.0, synthetic_share=0.5, lr=0.1
    ),
    "finetune": Recipe.from_params(
        {
            "schedule": "finetune",
            "adaptation": "none",
            "real_fraction": 0.5,
            "synthetic_fraction": 1.0,
            "pretrain.steps": 4,
            "pretrain.lr": 0.05,
            "lr": 0.1,
        }
    ),
    "finetune real_bn": Recipe.from_params(
        {
            "schedule": "finetune",
            "adaptation": "real_bn",
            "real_fraction": 1.0,
            "synthetic_fraction": 1.0,
            "pretrain.steps": 5,
            "pretrain.lr": 0.05,
            "lr": 0.1,
        }
    ),
}


_BOTH = {"real_fraction": 0.5, "synthetic_fraction": 0.5}
_TRUNK = {"pretrain.steps": 4, "pretrain.lr": 0.05, "lr": 0.1}

# Every other schedule and method.
MORE = {
    "gradual": Recipe.from_params(
        {"schedule": "gradual", "adaptation": "none", **_BOTH, "gradual.blocks": 3, "gradual.end": 0.0, "lr": 0.1}
    ),
    "mixed adabn": Recipe.from_params(
        {"schedule": "mixed", "adaptation": "adabn", **_BOTH, "synthetic_share": 0.5, "lr": 0.1}
    ),
    "gradual adain": Recipe.from_params(
        {"schedule": "gradual", "adaptation": "adain", "adain.layers": "all", **_BOTH, "gradual.blocks": 2, "lr": 0.1}
    ),
    "finetune fda": Recipe.from_params(
        {"schedule": "finetune", "adaptation": "fda", "fda.beta": 0.1, **_BOTH, **_TRUNK, "freeze": "backbone+norm"}
    ),
} | {
    f"mixed_finetune {method}": Recipe.from_params(
        {"schedule": "mixed_finetune", "adaptation": method, **_BOTH, "synthetic_share": 0.5, **_TRUNK}
    )
    for method in ("none", "real_bn", "dsbn", "dson")
}


def toy_sources(packs: Path) -> dict[str, Source]:
    return {name: Source([Pack.open(packs / name)]) for name in ("real", "synthetic", "val", "test")}


def toy_problem(packs: Path) -> Problem:
    sources = toy_sources(packs)
    real, synthetic = (SourceFacts(sources[n].digest, len(sources[n])) for n in ("real", "synthetic"))
    return Problem(SPEC, TRAINING, real, synthetic, RUNGS, forks=(4, 5))


def toy_trainer(
    packs: Path,
    store: Path,
    *,
    num_workers: int = 0,
    cache_bytes: int = 0,
    checkpoint_s: float = 30.0,
    owner: str | None = None,
) -> Trainer:
    sources = toy_sources(packs)
    stores: Callable[[str], Store] = lambda namespace: Store(str(store), f"division/{namespace}".rstrip("/"))  # noqa: E731
    return Trainer(
        SPEC,
        [sources["real"], sources["synthetic"]],
        val=sources["val"],
        tests={"same": sources["test"]},
        store_of=stores,
        device=torch.device("cpu"),
        num_workers=num_workers,
        cache_bytes=cache_bytes,
        checkpoint_s=checkpoint_s,
        owner=owner,
    )


SEARCH = """
name: toy
task: {{kind: segmentation, width: 0.0625, resolution: 32, aspp_rates: [1, 2, 3]}}
data:
  real: {{toy: {packs}/real}}
  synthetic: {{toy: {packs}/synthetic}}
  val: {packs}/val
  test: {{same: {packs}/test}}
space:
  schedule: [real_only, synthetic_only, finetune]
  adaptation: [none]
  real_fraction: [0.5, 1.0]
  synthetic_fraction: [1.0]
  pretrain: {{steps: [4], lr: [0.05]}}
  lr: [0.1]
budget: {{steps: 6, rungs: [3, 6], seeds: 2}}
sampler: grid
training: {{batch_size: 6, warmup: 2, ema_decay: 0.9}}
tracking: {{report: false, best_model: false}}
"""

ONE_SLOT = {"sampler: grid": "sampler: grid\nslots: {count: 1}"}  # starts in little more than half the time of two

PRUNED = {  # adabn is evaluated with statistics that no checkpoint has; rungs leave recipes behind
    "schedule: [real_only, synthetic_only, finetune]": "schedule: [real_only, mixed, finetune]",
    "adaptation: [none]": "adaptation: [none, adabn, dsbn]",
    "real_fraction: [0.5, 1.0]": "real_fraction: [1.0]",
    "synthetic_fraction: [1.0]": "synthetic_fraction: [1.0]\n  synthetic_share: [0.5]",
    "sampler: grid": "sampler: grid\npruner: {kind: asha, factor: 2}\nslots: {count: 2}",
}


def toy_search(packs: Path | str, folder: Path, replace: dict[str, str] | None = None) -> Path:
    """Writes the toy search file (with some texts replaced) and returns its path."""
    text = SEARCH.format(packs=packs)
    for old, new in (replace or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "toy.yaml"
    path.write_text(text, encoding="utf-8")
    return path
