"""Posterior: how good each recipe really is, as joint draws, and so the probability that it is the best.

The best of many recipes has also been lucky. So a recipe's mean is drawn towards the regression of its group, a
(schedule, adaptation), on real fraction, share, rates and lengths, the more so the fewer replicates it has and the
noisier they are; and luck that recipes have in common, by their seed or their trunk, is no evidence between them
(`effects.Model`). What is said here is about the recipes tried, on the data that they were measured on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from analysis.design import Design, Group, design, first_rows, group_of
from analysis.effects import Draws, Model
from analysis.ranking import Candidate, scored
from analysis.runs import Table
from trainables.recipe import Recipe

NUM_DRAWS = 2000
SEED = 20210611


@dataclass(frozen=True)
class Posterior:
    """Of each recipe that has the metric, in the order of the study.

    draws   (num_draws, recipes) of its mean over replicates, at the average of the seeds that were run
    scale   of the scores: (score - centre) / scale is what `effects` are about
    pooled  (recipes,) False for those whose training collapsed (`collapsed`): they are in no regression
    limits  what these runs cannot tell, in words
    """

    table: Table
    metric: str
    candidates: tuple[Candidate, ...]
    draws: np.ndarray = field(repr=False)
    pooled: np.ndarray = field(repr=False)
    centre: float
    scale: float
    seeds: tuple[int, ...]
    design: Design = field(repr=False)  # of the pooled ones
    effects: Draws = field(repr=False)
    limits: tuple[str, ...]

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        return tuple(candidate.recipe for candidate in self.candidates)

    @property
    def num_seeds(self) -> int:
        """How many seeds a recipe finished at most."""
        return max(len(candidate.values) for candidate in self.candidates)

    @cached_property
    def better(self) -> np.ndarray:
        """The draws, so that more is better."""
        return self.table.sign * self.draws

    @cached_property
    def best(self) -> np.ndarray:
        """(num_draws,) which recipe is the best in each draw."""
        return self.better.argmax(axis=1)

    @cached_property
    def probability_best(self) -> np.ndarray:
        """(recipes,) that each is the best of them; they add up to one."""
        return np.bincount(self.best, minlength=len(self.candidates)) / len(self.best)

    @cached_property
    def probability_group_best(self) -> dict[Group, float]:
        """That the best recipe is one of each (schedule, adaptation), the most probable first."""
        sums: dict[Group, float] = {}
        for recipe, probability in zip(self.recipes, self.probability_best, strict=True):
            sums[group_of(recipe)] = sums.get(group_of(recipe), 0.0) + float(probability)
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    @cached_property
    def mean(self) -> np.ndarray:
        """(recipes,) what each recipe's score regresses to."""
        mean: np.ndarray = self.draws.mean(axis=0)
        return mean

    def interval(self, coverage: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and highest mean of each recipe (recipes,), with this probability between them."""
        low, high = np.quantile(self.draws, [(1 - coverage) / 2, (1 + coverage) / 2], axis=0)
        return low, high

    def index(self, recipe: Recipe) -> int:
        """Where a recipe is; raises ValueError for one without a finished replicate."""
        place = self._places.get(recipe)
        if place is None:
            raise ValueError(f"recipe must be one of the {len(self.candidates)} with a {self.metric}, but got {recipe}")
        return place

    @cached_property
    def _places(self) -> dict[Recipe, int]:
        return {candidate.recipe: i for i, candidate in enumerate(self.candidates)}


def posterior(table: Table, metric: str | None = None, *, num_draws: int = NUM_DRAWS, seed: int = SEED) -> Posterior:
    """The posterior of every recipe's mean of a metric, by default the objective; its sense is the objective's.

    Deterministic given the seed. Raises ValueError where no finished recipe has the metric.
    """
    candidates = scored(table, metric)
    name = metric or table.metric
    if not candidates:
        raise ValueError(f"no finished trial of search {table.search!r} has metric {name!r}; choose another")
    seeds = tuple(sorted({row.seed for candidate in candidates for row in candidate.rows}))
    scores = np.full((len(candidates), len(seeds)), np.nan)
    for i, candidate in enumerate(candidates):
        scores[i, [seeds.index(row.seed) for row in candidate.rows]] = candidate.values
    means = np.nanmean(scores, axis=1)
    pooled = ~collapsed(table.sign * means)
    centre = float(np.median(means[pooled]))
    scale = max(float(means[pooled].std()), 1e-6 * float(np.abs(means).max()), 1e-12)
    rows = first_rows(candidates)
    model = Model((scores[pooled] - centre) / scale, design([rows[i] for i in np.flatnonzero(pooled)]))
    rng = np.random.Generator(np.random.Philox(key=seed))
    effects = model.draw(num_draws, rng)
    draws = np.empty((num_draws, len(candidates)))
    draws[:, pooled] = centre + scale * (effects.means(model.design) + effects.seed.mean(axis=1, keepdims=True))
    counts = np.isfinite(scores).sum(axis=1)
    noise = scale * np.hypot(effects.scales[:, :1], effects.scales[:, 2:]) / np.sqrt(counts[~pooled])
    draws[:, ~pooled] = means[~pooled] + noise * rng.standard_normal(noise.shape)
    limits = _limits(name, candidates, pooled, scale, effects)
    return Posterior(table, name, candidates, draws, pooled, centre, scale, seeds, model.design, effects, limits)


def collapsed(better: np.ndarray) -> np.ndarray:
    """Which recipes are far below the others: three interquartile ranges below the lower quartile (Tukey's far out).

    A learning rate at which training breaks down says nothing of the recipes that train, and would only make their
    spread seem wide. Of fewer than eight recipes none is called so.
    """
    if len(better) < 8:
        return np.zeros(len(better), dtype=bool)
    low, high = np.quantile(better, [0.25, 0.75])
    far: np.ndarray = better < low - 3 * (high - low) - 1e-9 * np.abs(better).max()
    return far


def _limits(
    metric: str, candidates: Sequence[Candidate], pooled: np.ndarray, scale: float, effects: Draws
) -> tuple[str, ...]:
    limits = []
    if len(candidates) > 1 and max(len(candidate.values) for candidate in candidates) == 1:
        spread = scale * float(np.median(np.sqrt((effects.scales**2).sum(axis=1))))
        limits.append(
            f"no recipe has two replicates, so how much chance there is in {metric} is not known, only that it is not"
            f" likely more than {spread:.2g}, the spread of recipes about the regression of their group; probabilities"
            " take any part of that to be chance"
        )
    if 1 < len(candidates) < 4:
        limits.append(
            f"only {len(candidates)} recipes finished: probabilities lean on what is thought of scores at large"
        )
    if not pooled.all():
        limits.append(
            f"{int((~pooled).sum())} of {len(candidates)} recipes are far below the others and are in no regression"
        )
    return tuple(limits)
