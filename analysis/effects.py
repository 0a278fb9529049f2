"""Effects: the mixed model of scores, its evidence, and joint draws of everything in it.

    score[i, r] = features[i] · coefficients + recipe[i] + quality[trunk of i]     the recipe's mean
                + seed[r]                          common to every recipe: replicates are paired
                + luck[trunk of i, r]              common to the recipes that share a trunk in a replicate
                + residual[i, r]

All are Gaussian. Three standard deviations are unknown: of the residual, of a recipe (and a trunk's quality) about the
regression of its group, and of a trunk's luck. They have weak priors and are integrated over, not fixed at their best:
with few recipes or seeds the data leave them open, and draws that knew them would be too sure. Coefficients and seed
effects have wide Gaussian priors, so this is restricted likelihood with a little ridge (Harville 1977); posterior draws
follow Matheron's rule: a draw of the prior, moved by what the data say of its residual. The covariance of the scores is
diagonal by recipe, plus rank R (the number of seeds) for each trunk, so all is linear in the number of recipes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.design import Design

NUM_SETTINGS = 64  # of the standard deviations, that are integrated over
_SEED_PRIOR = 3.0  # standard deviation of a seed's effect, in those of the scores
# Log scales that are thought possible: of the residual, likewise, and of the others in residuals.
_BOUNDS = ((-7.0, 3.0), (-6.0, 7.0), (-6.0, 7.0))


@dataclass(frozen=True)
class Scales:
    """Standard deviations of the residual, of a recipe about its group's regression, and of a trunk's luck."""

    residual: float
    recipe: float
    luck: float


@dataclass(frozen=True)
class Draws:
    """Joint draws, first axis D: coefficients (D, p), recipe (D, n), quality (D, K), seed (D, R), luck (D, K, R), and
    the scales (D, 3) in the order of `Scales`. K is the number of trunks."""

    coefficients: np.ndarray
    recipe: np.ndarray
    quality: np.ndarray
    seed: np.ndarray
    luck: np.ndarray
    scales: np.ndarray

    def means(self, design: Design) -> np.ndarray:
        """The mean of each recipe, (D, n), with what is its own."""
        return self.explained(design) + self.recipe

    def explained(self, design: Design) -> np.ndarray:
        """What the design explains of the means of recipes, (D, n): also of some that were never run."""
        means: np.ndarray = self.coefficients @ design.features.T
        inside = design.trunks >= 0
        means[:, inside] += self.quality[:, design.trunks[inside]]
        return means


@dataclass(frozen=True)
class Model:
    """Scores (n, R) of n recipes over R seeds, NaN where a replicate is missing, about zero and of scale one."""

    scores: np.ndarray
    design: Design

    @cached_property
    def there(self) -> np.ndarray:
        return np.isfinite(self.scores)

    @cached_property
    def _known(self) -> np.ndarray:
        """The scores as (n, R, 1), 0 where missing."""
        return np.where(self.there, self.scores, 0.0)[..., None]

    @cached_property
    def _columns(self) -> np.ndarray:
        """The regressors of each score, (n, R, p + R): those of its recipe, then its seed."""
        n, seeds = self.scores.shape
        features = np.repeat(self.design.features[:, None, :], seeds, axis=1)
        return np.concatenate([features, np.broadcast_to(np.eye(seeds), (n, seeds, seeds))], -1) * self.there[..., None]

    @cached_property
    def _prior(self) -> np.ndarray:
        return np.append(self.design.prior, [_SEED_PRIOR] * self.scores.shape[1])

    @cached_property
    def _members(self) -> np.ndarray:
        """Recipes that share a trunk, by trunk."""
        order = np.argsort(self.design.trunks, kind="stable")
        return order[self.design.trunks[order] >= 0]

    def _by_trunk(self, values: np.ndarray) -> np.ndarray:
        """Sums over the recipes of each trunk, (K, ...)."""
        _, starts = np.unique(self.design.trunks[self._members], return_index=True)
        sums: np.ndarray = np.add.reduceat(values[self._members], starts, axis=0)
        return sums

    def posterior_density(self, at: np.ndarray) -> float:
        """The log density of log scales (residual, recipe / residual, luck / residual), up to a constant."""
        cov = Covariance(self, scales_at(at))
        gram, right = cov.normal()
        prior = 1 / self._prior**2
        factor = np.linalg.cholesky(gram + np.diag(prior))
        solved = np.linalg.solve(factor, right)
        quadratic = float((self._known * cov.solve(self._known)).sum() - (solved**2).sum())
        log_det = cov.log_det() + 2 * float(np.log(np.diag(factor)).sum())
        return _log_prior(at) - 0.5 * (log_det + quadratic)

    def settings(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`count` draws of the log scales, (count, 3): from a Student's t about the mode, resampled by importance."""
        from scipy import optimize, stats

        free = 3 if self.design.num_trunks else 2

        def loss(x: np.ndarray) -> float:
            return -self.posterior_density(np.append(x, np.zeros(3 - free)))

        starts = (np.array([-2.0, 1.0, 0.0])[:free], np.array([-0.5, -1.0, -1.0])[:free])
        found = min(
            (optimize.minimize(loss, x, method="L-BFGS-B", bounds=_BOUNDS[:free]) for x in starts),
            key=lambda r: float(r.fun),
        )
        values, vectors = np.linalg.eigh(_hessian(loss, found.x))
        spread = (vectors / np.clip(values, 0.1, None)) @ vectors.T
        proposal = stats.multivariate_t(found.x, 1.3 * spread, df=4)
        points = np.reshape(proposal.rvs(size=NUM_SETTINGS, random_state=rng), (NUM_SETTINGS, free))
        lows, highs = np.array(_BOUNDS[:free]).T
        points = points[((points >= lows) & (points <= highs)).all(axis=1)]
        points = np.concatenate([found.x[None], points])  # never none
        logs = np.array([-loss(point) for point in points]) - proposal.logpdf(points)
        weights = np.exp(logs - logs.max())
        chosen = np.searchsorted(np.cumsum(weights) / weights.sum(), (np.arange(count) + rng.random()) / count)
        settings = np.full((count, 3), -np.inf)  # no trunk, no luck of one
        settings[:, :free] = points[np.minimum(chosen, len(points) - 1)]
        return settings

    def draw(self, num_draws: int, rng: np.random.Generator) -> Draws:
        """Joint draws of all effects given the scores."""
        settings, counts = np.unique(self.settings(rng, num_draws), axis=0, return_counts=True)
        parts = [
            Covariance(self, scales_at(at)).draw(int(count), rng) for at, count in zip(settings, counts, strict=True)
        ]
        order = rng.permutation(num_draws)
        return Draws(*(np.concatenate([getattr(p, f) for p in parts])[order] for f in Draws.__dataclass_fields__))


class Covariance:
    """The covariance of the scores about their regressors at given scales: solves, determinant, draws."""

    def __init__(self, model: Model, scales: Scales) -> None:
        self.model, self.scales = model, scales
        there = model.there
        noise, own, luck = scales.residual**2, scales.recipe**2, scales.luck**2
        count = there.sum(axis=1)
        self._noise, self._pull = noise, own / (noise + count * own)
        self._log_det = float(((count - 1) * math.log(noise) + np.log(noise + count * own)).sum())
        self._inner: np.ndarray | None = None
        if model.design.num_trunks:
            seeds = there.shape[1]
            prior = luck * np.eye(seeds) + own
            present = there.astype(float)
            gram = model._by_trunk(
                present[:, :, None] * np.eye(seeds) - self._pull[:, None, None] * present[:, :, None] * present[:, None]
            )
            whole = np.eye(seeds) + prior @ (gram / noise)
            self._inner = np.linalg.solve(whole, np.broadcast_to(prior, whole.shape))
            self._log_det += float(np.linalg.slogdet(whole)[1].sum())

    def log_det(self) -> float:
        return self._log_det

    def _alone(self, values: np.ndarray) -> np.ndarray:
        """The inverse, as if no trunk were shared, times values (n, R, c)."""
        pulled = self._pull[:, None, None] * values.sum(axis=1, keepdims=True)
        return (values - pulled) * self.model.there[..., None] / self._noise

    def solve(self, values: np.ndarray) -> np.ndarray:
        """The inverse times values (n, R, c) that are 0 where scores are missing (Woodbury, trunk by trunk)."""
        solved = self._alone(values)
        if self._inner is None:
            return solved
        trunks = self.model.design.trunks
        inside = self._inner @ self.model._by_trunk(solved)
        spread = np.where((trunks >= 0)[:, None, None], inside[trunks], 0.0) * self.model.there[..., None]
        return solved - self._alone(spread)

    def normal(self, values: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Gram matrix of the regressors and their products with values (n, R, c), by default the scores."""
        columns = self.model._columns
        flat = self._solved_columns.reshape(-1, columns.shape[-1])
        right = (self.model._known if values is None else values).reshape(len(flat), -1)
        return columns.reshape(len(flat), -1).T @ flat, flat.T @ right

    @cached_property
    def _solved_columns(self) -> np.ndarray:
        return self.solve(self.model._columns)

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """`count` joint draws of the effects, given the scores, at these scales."""
        model, scales = self.model, self.scales
        (n, seeds), trunks, num_trunks = model.scores.shape, model.design.trunks, model.design.num_trunks
        coefficients = rng.standard_normal((len(model._prior), count)) * model._prior[:, None]
        recipe = rng.standard_normal((n, count)) * scales.recipe
        quality = rng.standard_normal((num_trunks, count)) * scales.recipe
        luck = rng.standard_normal((num_trunks, seeds, count)) * scales.luck
        residual = rng.standard_normal((n, seeds, count)) * scales.residual
        guess = model._columns @ coefficients + recipe[:, None] + residual
        shared = np.flatnonzero(trunks >= 0)
        guess[shared] += quality[trunks[shared]][:, None] + luck[trunks[shared]]
        wrong = (model._known - guess) * model.there[..., None]
        gram, right = self.normal(wrong)
        moved = np.linalg.solve(gram + np.diag(1 / model._prior**2), right)
        left = self.solve(wrong - model._columns @ moved)
        coefficients += moved
        recipe += scales.recipe**2 * left.sum(axis=1)
        if num_trunks:
            sums = model._by_trunk(left)
            quality += scales.recipe**2 * sums.sum(axis=1)
            luck += scales.luck**2 * sums
        p = len(model.design.prior)
        known = np.tile([scales.residual, scales.recipe, scales.luck], (count, 1))
        return Draws(coefficients[:p].T, recipe.T, quality.T, coefficients[p:].T, np.moveaxis(luck, -1, 0), known)


def scales_at(at: np.ndarray) -> Scales:
    residual = math.exp(at[0])
    return Scales(residual, residual * math.exp(at[1]), residual * math.exp(at[2]))


def _log_prior(at: np.ndarray) -> float:
    """Student's t with 3 degrees of freedom on each log scale: the residual's share of the spread is about uniform, and
    yet far ratios are not excluded."""
    widths = np.array([3.0, 0.8, 0.8])
    centres = np.array([-2.0, 0.0, -0.5])
    z = (at - centres) / widths
    return float(-2 * np.log1p(z**2 / 3).sum())


def _hessian(f: Callable[[np.ndarray], float], x: np.ndarray, step: float = 0.05) -> np.ndarray:
    """Second derivatives by central differences."""
    n = len(x)
    steps = np.eye(n) * step
    out = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            plus = f(x + steps[i] + steps[j]) + f(x - steps[i] - steps[j])
            minus = f(x + steps[i] - steps[j]) + f(x - steps[i] + steps[j])
            out[i, j] = out[j, i] = (plus - minus) / (4 * step**2)
    return out
