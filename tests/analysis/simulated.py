"""Searches whose truth is known: scores drawn from means, seeds, trunks and residuals that the test chose."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis import Row, Table
from analysis.design import trunk_of
from trainables.recipe import Recipe

Scores = dict[Recipe, list[float | None]]  # None is a failed replicate

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)


def real(fraction: float, lr: float = 0.01) -> Recipe:
    return Recipe(schedule="real_only", real_fraction=fraction, lr=lr)


def mixed(fraction: float, share: float = 0.5, lr: float = 0.01) -> Recipe:
    return Recipe(
        schedule="mixed",
        adaptation="none",
        real_fraction=fraction,
        synthetic_fraction=1.0,
        synthetic_share=share,
        lr=lr,
    )


def tuned(
    fraction: float, lr: float = 0.01, *, steps: int = 500, pretrain: float = 0.03, method: str = "none"
) -> Recipe:
    return Recipe.from_params(
        {
            "schedule": "finetune",
            "adaptation": method,
            "real_fraction": fraction,
            "synthetic_fraction": 1.0,
            "pretrain.steps": steps,
            "pretrain.lr": pretrain,
            "lr": lr,
        }
    )


def table_of(scores: Scores, *, seeds: int = 3, steps: int = 1000, mode: str = "max") -> Table:
    """Each path is `steps` long after its pretraining, none of it shared."""
    rows = []
    for number, (recipe, values) in enumerate(scores.items()):
        before = 0 if recipe.pretrain is None else recipe.pretrain.steps
        for seed, value in enumerate(values):
            rows.append(
                Row(
                    f"{number}-{seed}",
                    recipe,
                    seed,
                    number,
                    "failed" if value is None else "finished",
                    steps,
                    {} if value is None else {"val/miou": value},
                    None if recipe.real_fraction is None else round(1000 * recipe.real_fraction),
                    None,
                    None if recipe.synthetic_fraction is None else round(4000 * recipe.synthetic_fraction),
                    steps_alone=before + steps,
                )
            )
    return Table("simulated", "val/miou", "min" if mode == "min" else "max", seeds, tuple(rows))


@dataclass(frozen=True)
class Simulated:
    """A table and the truth behind it: each recipe's mean, at the average of the seeds."""

    table: Table
    means: np.ndarray
    recipes: tuple[Recipe, ...]


def simulate(
    rng: np.random.Generator,
    means: Mapping[Recipe, float],
    *,
    seeds: int = 3,
    recipe: float = 0.005,
    seed: float = 0.02,
    luck: float = 0.0,
    residual: float = 0.01,
) -> Simulated:
    """Scores about the given means, with the standard deviations of each effect."""
    recipes = tuple(means)
    truth = np.array([means[r] for r in recipes]) + recipe * rng.standard_normal(len(recipes))
    shared = seed * rng.standard_normal(seeds)
    lucks: dict[object, np.ndarray] = {None: np.zeros(seeds)}
    scores: Scores = {}
    for r, mean in zip(recipes, truth, strict=True):
        trunk = trunk_of(r)
        if trunk not in lucks:
            lucks[trunk] = luck * rng.standard_normal(seeds)
        scores[r] = (mean + shared + lucks[trunk] + residual * rng.standard_normal(seeds)).tolist()
    return Simulated(table_of(scores, seeds=seeds), truth + shared.mean(), recipes)
