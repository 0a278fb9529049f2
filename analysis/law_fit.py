"""Component: one form with one setting of the residual process, fitted to cells; and the draws of all of them.

A form's parameters are fitted by Levenberg-Marquardt to log errors, whitened by the residual's covariance, with their
priors. The residual's amplitudes, lengths and noise are then fitted by the marginal likelihood with the form
linearised and its parameters integrated out, in turns. Several settings about the best are kept and weighted (Laplace
approximation, importance weights; as INLA of Rue et al. 2009), each form by its marginal likelihood: with 12 cells
nobody knows the best setting, and taking it as known gives intervals that are too narrow.

Draws are a parametric bootstrap (randomize-then-optimize, Bardsley et al. 2014): each perturbs the data by noise and by
a draw of the residual, the prior by a draw of it, fits again, and adds the residual by Matheron's rule. They come in
pairs of opposite perturbations, so that their median does not move with the seed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize, special, stats

from analysis import residual
from analysis.law_forms import Floats, Form, Scale, forms
from analysis.residual import Functions, Kernel, Places

NUM_STARTS = 8
NUM_ROUNDS = 3  # of the form given the residual, and the residual given the form
NUM_SETTINGS = 8
WIDER = 1.3  # settings are spread wider than the Laplace approximation, and weighted
TEMPER = 0.5  # of the components' evidence: no form is the truth, and the best by a little shall not stand alone
LEAST_NOISE = 1e-4  # of an error, relative: measured ones have four digits


@dataclass(frozen=True)
class Cells:
    """Distinct (real, synthetic, method), counts in units of the scale, and the mean log error of their replicates.

    spread  the sum of squares of all replicates about the means of their cells
    """

    real: Floats
    synthetic: Floats
    group: NDArray[np.intp]
    log_error: Floats
    replicates: Floats
    spread: float
    num_groups: int

    def __len__(self) -> int:
        return len(self.real)


@dataclass(frozen=True)
class Component:
    """`covariance` (n, n) is that of the cells given the form; `left_out` has the form integrated out."""

    form: Form
    parameters: Floats
    prior_mean: Floats
    prior_sd: Floats
    hyper: Floats
    covariance: Floats
    log_weight: float
    left_out: Floats  # log error of each cell, less what the others say
    left_out_sd: Floats


@dataclass(frozen=True)
class Draws:
    """Functions of (real, synthetic, method): d of them, of one component."""

    form: Form
    parameters: Floats  # (d, p)
    hyper: Floats
    functions: Functions
    signs: Floats  # (d, 1)
    pull: Floats  # (d, n): of each cell on the residual

    @property
    def noise(self) -> float:
        return float(np.exp(self.hyper[5]))

    def log_error(
        self, cells: Places, scale: Scale, real: Floats, synthetic: Floats, group: NDArray[np.intp]
    ) -> Floats:
        """The mean function (d, n) at counts in units of the scale."""
        places = Places.of(scale, real, synthetic, group)
        drawn = self.functions(places)
        law = self.form.log_error(self.parameters, real, synthetic, group)
        values: Floats = (
            law + self.signs * np.concatenate([drawn, drawn]) + self.pull @ Kernel(cells, places)(self.hyper)
        )
        return values


def fit_components(cells: Cells, scale: Scale) -> list[Component]:
    """All forms, each with NUM_SETTINGS settings of the residual."""
    places = Places.of(scale, cells.real, cells.synthetic, cells.group)
    found: list[Component] = []
    for form in forms(cells.num_groups, synthetic=bool((cells.synthetic > 0).any())):
        found += _fit_form(form, cells, scale, Kernel(places, places))
    return found


def weights(components: list[Component]) -> Floats:
    """The probability of each component, given the cells."""
    return special.softmax([TEMPER * component.log_weight for component in components])


def draw(components: list[Component], cells: Cells, scale: Scale, num_draws: int, seed: int) -> list[Draws]:
    """`num_draws` (even) functions, each component as often as its weight says."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    pairs = num_draws // 2
    places = (np.arange(pairs) + 0.5) / pairs
    counts = np.bincount(np.searchsorted(np.cumsum(weights(components))[:-1], places), minlength=len(components))
    found: list[Draws] = []
    for form in dict.fromkeys(component.form for component in components):
        chosen = [(c, int(n)) for c, n in zip(components, counts, strict=True) if c.form == form and n]
        if chosen:
            found += _draw(form, chosen, cells, scale, rng)
    return found


def _fit_form(form: Form, cells: Cells, scale: Scale, kernel: Kernel) -> list[Component]:
    mean, sd = form.prior(scale)
    rng = np.random.Generator(np.random.Philox(key=0))
    starts = mean + 0.7 * sd * rng.normal(size=(NUM_STARTS, len(mean)))
    starts[0] = mean
    hyper = residual.PRIOR_MEAN
    at = (cells.real, cells.synthetic, cells.group)
    for _ in range(NUM_ROUNDS):
        targets = np.tile(cells.log_error, (len(starts), 1))
        whitening = _whitening(_covariance(kernel, hyper, cells))
        starts, costs = _levenberg_marquardt(form, starts, at, targets, whitening, mean, sd)
        starts = starts[[np.argmin(costs)]]
        value, slopes = (array[0] for array in form.linearised(starts, *at))
        rest = cells.log_error - value - slopes @ (mean - starts[0])
        spanned = (slopes * sd) @ (slopes * sd).T
        marginal = _Marginal(kernel, cells, rest, spanned)
        bounds = optimize.Bounds(residual.LEAST, residual.MOST)
        hyper = optimize.minimize(marginal, hyper, jac=True, bounds=bounds, options={"maxiter": 40}).x
    spread = marginal.spread(hyper) * WIDER
    components = []
    for step in stats.norm.ppf(stats.qmc.Sobol(len(hyper), rng=0).random(NUM_SETTINGS)):
        setting = np.clip(hyper + spread @ step, residual.LEAST, residual.MOST)
        log_weight = -marginal(setting)[0] + 0.5 * step @ step + np.linalg.slogdet(spread)[1]
        covariance = _covariance(kernel, setting, cells)
        inverse = linalg.cho_solve(linalg.cho_factor(covariance + spanned), np.eye(len(cells)))
        own = np.diag(inverse)
        left_out, left_out_sd = inverse @ rest / own, 1 / np.sqrt(own)
        components.append(
            Component(form, starts[0], mean, sd, setting, covariance, float(log_weight), left_out, left_out_sd)
        )
    return components


class _Marginal:
    """Negative log density of the cells and of the hyperparameters, and its gradient, the form linearised."""

    def __init__(self, kernel: Kernel, cells: Cells, rest: Floats, spanned: Floats) -> None:
        self.kernel, self.cells, self.rest, self.spanned = kernel, cells, rest, spanned

    def __call__(self, hyper: Floats) -> tuple[float, Floats]:
        cells = self.cells
        factor = linalg.cho_factor(_covariance(self.kernel, hyper, cells) + self.spanned, lower=True)
        inverse = linalg.cho_solve(factor, np.eye(len(cells)))
        solved = inverse @ self.rest
        away = (hyper - residual.PRIOR_MEAN) / residual.PRIOR_SD
        more = cells.replicates.sum() - len(cells)
        within = cells.spread * np.exp(-2 * hyper[5])
        value = np.log(np.diag(factor[0])).sum() + 0.5 * (self.rest @ solved + within + away @ away) + more * hyper[5]
        pull = inverse - np.outer(solved, solved)
        gradient = [0.5 * np.sum(pull * slope) for slope in self.kernel.slopes(hyper)]
        gradient.append(np.exp(2 * hyper[5]) * np.sum(np.diag(pull) / cells.replicates) + more - within)
        return float(value), np.array(gradient) + away / residual.PRIOR_SD

    def spread(self, hyper: Floats) -> Floats:
        """A square root (6, 6) of the inverse Hessian, at most as wide as the prior."""
        step = 0.02 * np.eye(len(hyper))
        hessian = np.array([(self(hyper + row)[1] - self(hyper - row)[1]) / 0.04 for row in step])
        values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
        root: Floats = vectors / np.sqrt(np.maximum(values, 0.5 / residual.PRIOR_SD.max() ** 2))
        return root


def _draw(
    form: Form, chosen: list[tuple[Component, int]], cells: Cells, scale: Scale, rng: np.random.Generator
) -> list[Draws]:
    """Of components of one form, each with its number of pairs, fitted all at once."""
    at = (cells.real, cells.synthetic, cells.group)
    places = Places.of(scale, *at)
    num_methods = cells.num_groups if cells.num_groups > 1 else 0
    functions, targets, priors, starts, whitening = [], [], [], [], []
    for component, pairs in chosen:
        drawn = Functions.drawn(rng, pairs, num_methods, component.hyper)
        noise = rng.normal(size=(pairs, len(cells))) * np.exp(component.hyper[5]) / np.sqrt(cells.replicates)
        moved = drawn(places) + noise
        prior_moved = rng.normal(size=(pairs, len(component.prior_mean))) * component.prior_sd
        functions.append(drawn)
        targets += [cells.log_error - moved, cells.log_error + moved]
        priors += [component.prior_mean + prior_moved, component.prior_mean - prior_moved]
        starts.append(np.tile(component.parameters, (2 * pairs, 1)))
        whitening.append(np.tile(_whitening(component.covariance), (2 * pairs, 1, 1)))
    aims = np.concatenate(targets)
    parameters, _ = _levenberg_marquardt(
        form, np.concatenate(starts), at, aims, np.concatenate(whitening), np.concatenate(priors), chosen[0][0].prior_sd
    )
    left = aims - form.log_error(parameters, *at)
    found, first = [], 0
    for (component, pairs), drawn in zip(chosen, functions, strict=True):
        own = slice(first, first + 2 * pairs)
        signs = np.repeat([1.0, -1.0], pairs)[:, None]
        pull = linalg.solve(component.covariance, left[own].T, assume_a="pos").T
        found.append(Draws(form, parameters[own], component.hyper, drawn, signs, pull))
        first += 2 * pairs
    return found


def _covariance(kernel: Kernel, hyper: Floats, cells: Cells) -> Floats:
    """Of the cells' means: the residual and noise."""
    covariance: Floats = kernel(hyper) + np.diag(np.exp(2 * hyper[5]) / cells.replicates + LEAST_NOISE**2)
    return covariance


def _whitening(covariance: Floats) -> Floats:
    """W with W covariance Wᵀ = 1."""
    lower = np.linalg.cholesky(covariance)
    return linalg.solve_triangular(lower, np.eye(len(lower)), lower=True)


def _levenberg_marquardt(
    form: Form,
    parameters: Floats,
    at: tuple[Floats, Floats, NDArray[np.intp]],
    targets: Floats,
    whitening: Floats,
    mean: Floats,
    sd: Floats,
    max_iterations: int = 40,
) -> tuple[Floats, Floats]:
    """Parameters (m, p) of m fits at once, to log errors (m, n) with priors, and their costs (m,). `whitening` is one
    (n, n) for all of them, or one for each.

    scipy's least_squares fits one at a time, and a law is hundreds of fits.
    """

    def cost(parameters: Floats) -> Floats:
        left = _times(whitening, targets - form.log_error(parameters, *at))
        total: Floats = (left**2).sum(1) + (((parameters - mean) / sd) ** 2).sum(1)
        return np.where(np.isfinite(total), total, np.inf)

    costs, damping = cost(parameters), np.full(len(parameters), 1e-2)
    done = np.zeros(len(parameters), bool)
    for _ in range(max_iterations):
        value, slopes = form.linearised(parameters, *at)
        slopes = whitening @ slopes
        transposed = np.swapaxes(slopes, 1, 2)
        left = _times(whitening, targets - value)
        curvature = transposed @ slopes + np.diag(1 / sd**2)
        downhill = (transposed @ left[..., None])[..., 0] - (parameters - mean) / sd**2
        damped = curvature + damping[:, None, None] * curvature * np.eye(len(sd))
        step = np.linalg.solve(damped, downhill[..., None])[..., 0]
        tried = parameters + np.clip(step, -2 * sd, 2 * sd)
        tried_costs = cost(tried)
        better = tried_costs < costs
        done |= (better & (tried_costs > costs - 1e-4)) | (damping > 1e4)
        parameters, costs = np.where(better[:, None], tried, parameters), np.where(better, tried_costs, costs)
        damping = np.where(better, damping * 0.3, damping * 4)
        if done.all():
            break
    return parameters, costs


def _times(matrix: Floats, vectors: Floats) -> Floats:
    """One matrix, or one for each, times vectors (m, n)."""
    product: Floats = (matrix @ vectors[..., None])[..., 0]
    return product
