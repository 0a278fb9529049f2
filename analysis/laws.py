"""Law: error as a function of how many real and synthetic images are trained on, and by which method.

Effective data and its relatives (`analysis.law_forms`), with weak priors so that they do not explode; a Gaussian
process for what they leave over (`analysis.residual`), which vanishes outside the data; a bootstrap of both
(`analysis.law_fit`); and intervals that are calibrated on cells left out (`analysis.calibration`). One method for every
table: nothing in it is chosen by the caller.

A law stands beside what is trivial: "no change", the error of the nearest cell that was measured. Methods (groups)
share the law of real images, and each has its own worth of synthetic ones, about a common one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.calibration import COVERAGE, Calibration, calibrate
from analysis.curves import direction
from analysis.law_fit import Cells, Draws, draw, fit_components
from analysis.law_forms import Floats, Scale
from analysis.ranking import Candidate, rank
from analysis.residual import Places
from analysis.runs import Table
from trainables.recipe import Recipe

LEAST_CELLS = 6
MOST_CELLS = 150  # more take too long, and say little more
NUM_DRAWS = 256


@dataclass(frozen=True, eq=False)
class Law:
    """A fitted law. `real`, `synthetic`, `error` and `group` are its cells, each once, the error a mean of replicates.

    groups       the methods by name; a cell without synthetic images is of all of them, and its group is ""
    calibration  of its intervals, from cells left out
    baseline     the mean relative error of "no change": each cell as the nearest other one
    """

    real: Floats
    synthetic: Floats
    error: Floats
    group: tuple[str, ...]
    groups: tuple[str, ...]
    calibration: Calibration = field(repr=False)
    baseline: float
    _scale: Scale = field(repr=False)
    _cells: Cells = field(repr=False)
    _draws: tuple[Draws, ...] = field(repr=False)

    @property
    def coverage(self) -> float:
        """The part of its cells inside the 90% intervals that the others give."""
        return self.calibration.coverage

    @property
    def relative_error(self) -> float:
        """The mean of |predicted - measured| / measured over cells left out, beside `baseline`."""
        return float(np.mean(self.calibration.errors))

    @property
    def replicated(self) -> bool:
        """Whether any cell has more than one replicate."""
        return bool((self._cells.replicates > 1).any())

    def sentence(self, metric: str) -> str:
        """What it was fitted to and how far it is to be trusted, beside "no change"."""
        return (
            f"The law of {metric} is fitted to {len(self.error)} cells (real images, synthetic images, method). Of a"
            f" cell left out it is off by {self.relative_error:.1%} of the error on average, and no change, which takes"
            f" the nearest other cell, by {self.baseline:.1%}; its 90% intervals hold {self.coverage:.0%} of them."
        )

    def predict(self, real: ArrayLike, synthetic: ArrayLike, group: str | None = None) -> Floats:
        """Medians (n,) of the error at counts (n,). `group` may be left out where there is one method, or no
        synthetic image. Raises ValueError for counts that are negative or not finite, and for unknown methods."""
        median: Floats = np.median(self.draws(real, synthetic, group), axis=0)
        return median

    def draws(self, real: ArrayLike, synthetic: ArrayLike, group: str | None = None) -> Floats:
        """(num_draws, n): joint draws of the mean function. A draw is one function, the same in every call."""
        return np.exp(np.concatenate(self._log_draws(real, synthetic, group)))

    def interval(
        self, real: ArrayLike, synthetic: ArrayLike, group: str | None = None, coverage: float = COVERAGE
    ) -> tuple[Floats, Floats]:
        """Bounds (n,) within which the error of a new run lies, one replicate, with this probability."""
        if not 0 < coverage < 1:
            raise ValueError(f"`0 < coverage < 1` must hold, but got {coverage}")
        noises = special.ndtri((np.arange(15) + 0.5) / 15)[:, None, None]
        noises /= np.sqrt(np.mean(noises**2))
        values = [
            (log_error + noises * draws.noise).reshape(-1, log_error.shape[1])
            for draws, log_error in zip(self._draws, self._log_draws(real, synthetic, group), strict=True)
        ]
        tail = self.tail(coverage)
        low, high = np.exp(np.quantile(np.concatenate(values), (tail, 1 - tail), axis=0))
        return low, high

    def tail(self, coverage: float) -> float:
        """The part of the draws to leave out at each end, so that the rest holds what they are of with this
        probability: calibrated on cells left out, since draws alone are too sure of themselves."""
        return float(special.ndtr(-self.calibration.multiple(coverage)))

    def falls(self, coverage: float = COVERAGE) -> bool:
        """Whether the error of real images alone is known to fall, over the real counts that were measured: a flat
        curve has every error at any number of them, and measures nothing in them. Needs a cell with real images."""
        ends = self.draws([self.real[self.real > 0].min(), self.real.max()], 0)
        return bool(np.quantile(ends[:, 0] - ends[:, 1], self.tail(coverage)) > 0)

    def _log_draws(self, real: ArrayLike, synthetic: ArrayLike, group: str | None) -> list[Floats]:
        n, s = (np.atleast_1d(a).astype(float) for a in np.broadcast_arrays(real, synthetic))
        _check_counts(n, s)
        method = self._method(group, bool((s > 0).any()))
        n, s, methods = n / self._scale.real, s / self._scale.synthetic, np.full(len(n), method)
        cells = self._cells
        places = Places.of(self._scale, cells.real, cells.synthetic, cells.group)
        return [draws.log_error(places, self._scale, n, s, methods) for draws in self._draws]

    def _method(self, group: str | None, matters: bool) -> int:
        if group in self.groups:
            return self.groups.index(group)
        if group is None and (len(self.groups) < 2 or not matters):
            return 0
        raise ValueError(f"group must be one of {', '.join(map(repr, self.groups))}, but got {group!r}")


def fit(
    real: ArrayLike, synthetic: ArrayLike, error: ArrayLike, groups: Sequence[str] | None = None, *, seed: int = 0
) -> Law:
    """The law of runs: counts (n,) of real and of synthetic images, errors (n,) with less being better, and the method
    of each run. The same counts and method more than once are replicates.

    Raises ValueError, one line, for fewer than six different cells, for fewer than two real counts and two synthetic
    counts, and for values that are not finite, counts below zero or errors that are not positive.
    """
    n, s, e = (np.asarray(values, dtype=float).ravel() for values in (real, synthetic, error))
    names = np.array(["" for _ in n] if groups is None else list(groups), dtype=object)
    if not len(n) == len(s) == len(e) == len(names):
        raise ValueError(
            f"real, synthetic, error and groups must be as long, but got {len(n)}, {len(s)}, {len(e)}, {len(names)}"
        )
    _check_counts(n, s)
    wrong = ~(np.isfinite(e) & (e > 0))
    if wrong.any():
        raise ValueError(f"error must be finite and positive, but got {e[wrong][0]} at cell {int(np.argmax(wrong))}")
    methods = tuple(sorted({str(name) for name, count in zip(names, s, strict=True) if count > 0})) or ("",)
    group = np.array([methods.index(str(name)) if count > 0 else -1 for name, count in zip(names, s, strict=True)])
    keys, inverse, replicates = np.unique(np.stack([group, n, s]), axis=1, return_inverse=True, return_counts=True)
    inverse = inverse.ravel()
    if len(replicates) > MOST_CELLS:
        kept = np.unique(np.linspace(0, len(replicates) - 1, MOST_CELLS).round().astype(int))
        mask = np.isin(inverse, kept)
        return fit(n[mask], s[mask], e[mask], [str(name) for name in names[mask]], seed=seed)
    if len(replicates) < LEAST_CELLS:
        raise ValueError(
            f"a law needs {LEAST_CELLS} different cells (real count, synthetic count, method) or more, but got"
            f" {len(replicates)}"
        )
    group, n, s = keys[0].astype(int), keys[1], keys[2]
    if len(np.unique(n)) < 2 and len(np.unique(s)) < 3:
        raise ValueError("a law needs two different real counts, or three synthetic ones; try other fractions")
    logs = np.bincount(inverse, np.log(e)) / replicates
    spread = float(np.sum((np.log(e) - logs[inverse]) ** 2))
    scale = Scale.of(n, s, np.exp(logs))
    cells = Cells(n / scale.real, s / scale.synthetic, group, logs, replicates.astype(float), spread, len(methods))
    components = fit_components(cells, scale)
    return Law(
        real=n,
        synthetic=s,
        error=np.exp(logs),
        group=tuple(methods[g] if g >= 0 else "" for g in group),
        groups=methods,
        calibration=calibrate(components),
        baseline=_left_out_baseline(n, s, group, np.exp(logs)),
        _scale=scale,
        _cells=cells,
        _draws=tuple(draw(components, cells, scale, NUM_DRAWS, seed)),
    )


def no_change(real: Floats, synthetic: Floats, error: Floats, at_real: Floats, at_synthetic: Floats) -> Floats:
    """The trivial baseline: the error (m,) of the nearest of the cells (n,), by the logarithms of both counts."""
    positive = synthetic[synthetic > 0]
    least = float(positive.min()) if positive.size else 1.0
    rows, columns = (
        np.stack([np.log1p(n), np.log1p(s / least)]) for n, s in ((at_real, at_synthetic), (real, synthetic))
    )
    nearest = np.argmin(np.sum((rows[:, :, None] - columns[:, None]) ** 2, axis=0), axis=1)
    found: Floats = error[nearest]
    return found


def law_of(table: Table, metric: str | None = None, *, seed: int = 0) -> Law:
    """The law of a search's metric (the objective where none is given). Raises ValueError, the reason in one line,
    where the runs give none.

    A cell is (labelled real images, synthetic images, method), the method being schedule and adaptation; at each, the
    replicates of the best recipe there (as `ranking.rank` chooses, on the objective). Less is better of an error: a
    metric to be minimised is one as it is, one to be maximised and within [0, 1] is 1 - metric, and of any other there
    is no law.
    """
    name = metric or table.metric
    way = direction(name, table.metric, table.mode)
    if way is None:
        raise ValueError(
            f"no law of {name}: which way of it is better is known neither from {table.metric} nor by name"
        )
    best: dict[tuple[int, int, str], list[float]] = {}
    for candidate in rank(table):  # best first
        counts = counts_of(candidate)
        values = [value for row in candidate.rows if (value := row.value(name)) is not None]
        if counts is not None and values:
            best.setdefault((*counts, method_of(candidate.recipe)), values)
    runs = [(*cell, value) for cell, values in best.items() for value in values]
    if not runs:
        raise ValueError(f"no law of {name}: no finished trial has it together with its counts of images")
    real, synthetic, methods, measured = zip(*runs, strict=True)
    error = np.array(measured)
    if way == "max":
        if error.min() < 0 or error.max() > 1:
            raise ValueError(
                f"no law of {name}: a metric to be maximised must lie in [0, 1] to be turned into an error"
            )
        error = 1 - error
    if (error <= 0).any():
        raise ValueError(f"no law of {name}: an error of 0 has no logarithm; test on more images")
    try:
        return fit(real, synthetic, error, methods, seed=seed)
    except ValueError as reason:
        raise ValueError(f"no law of {name}: {reason}") from reason


def method_of(recipe: Recipe) -> str:
    """What a law calls a method: the schedule, and the adaptation where there is one, `finetune + real_bn`."""
    return recipe.schedule + ("" if recipe.adaptation in (None, "none") else f" + {recipe.adaptation}")


def counts_of(candidate: Candidate) -> tuple[int, int] | None:
    """Labelled real and synthetic images, 0 of what a recipe does not read; None where MLflow does not say."""
    row, recipe = candidate.rows[0], candidate.recipe
    real = 0 if recipe.real_fraction is None else row.num_real_labels
    synthetic = 0 if recipe.synthetic_fraction is None else row.num_synthetic
    return None if real is None or synthetic is None else (real, synthetic)


def _check_counts(real: Floats, synthetic: Floats) -> None:
    for name, counts in (("real", real), ("synthetic", synthetic)):
        wrong = ~(np.isfinite(counts) & (counts >= 0))
        if wrong.any():
            raise ValueError(f"{name} must be finite counts, 0 or more, but got {counts[wrong][0]}")


def _left_out_baseline(real: Floats, synthetic: Floats, group: NDArray[np.intp], error: Floats) -> float:
    """No change, over the cells of all methods, each from the others."""
    total = 0.0
    for i in range(len(real)):
        others = np.arange(len(real)) != i
        alike = others & ((group == group[i]) | (synthetic == 0))
        kept = alike if alike.any() else others
        found = no_change(real[kept], synthetic[kept], error[kept], real[[i]], synthetic[[i]])[0]
        total += abs(found - error[i]) / error[i]
    return total / len(real)
