"""ExchangeRate and Saving: how many real images synthetic ones are worth, from a fitted law.

What is exchanged are **labelled real images against rendered images**, counted in the training set. The share of
synthetic images in each batch is another axis: it says how a mix is read, not what it holds, and no rate follows from
it. Labels of the validation set are a cost too, and belong to the prices (`analysis.prices`), not to the rate.

A rate is no constant. On a grid of ImageNet (Mikami et al. 2021) an image rendered was worth a quarter of a photograph
at 2% of the photographs, and nothing at all of them; so it is given at each (real, synthetic), with a band from the
law's draws, calibrated as its intervals are (`Law.tail`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.laws import Law, counts_of, method_of
from analysis.ranking import Candidate

Floats = NDArray[np.float64]

STEP = 1.25  # half the width of a difference, as a factor of the count: below it is noise of the draws
REACH = 100.0  # real counts are searched up to so many times the largest that was measured
NUM_COUNTS = 120  # real counts that are searched, on a log scale, and linear in between


@dataclass(frozen=True)
class Band:
    """Median over the law's draws, and bounds that hold the truth with probability `coverage`; arrays of one shape."""

    median: Floats
    low: Floats
    high: Floats

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        return self.low, self.high


@dataclass(frozen=True)
class Place:
    """Where rates are asked: a method, the real and the synthetic images of its best recipe, all real counts that were
    measured, and how many labelled real images there are."""

    group: str
    real: float
    synthetic: float
    reals: tuple[float, ...]
    total: float


@dataclass(frozen=True)
class ExchangeRate:
    """At each of `real` and `synthetic`, in real images for one synthetic image.

    marginal  the next synthetic image: (dE/ds) / (dE/dn), the error's slopes in the synthetic and the real count
    average   all of them: (n' - n) / s where E(n', 0) = E(n, s); NaN at s = 0
    beyond    whether n' is the law's word, not a measurement: real images alone were not measured so far
    A rate is negative where synthetic images do harm, and infinite where no further real image would help; the bounds
    are both infinite where nothing is known, as where real images are not known to lower the error.
    """

    real: Floats
    synthetic: Floats
    marginal: Band
    average: Band
    beyond: NDArray[np.bool_]
    coverage: float


@dataclass(frozen=True)
class Saving:
    """`equivalent` real images alone reach what `real` with `synthetic` reach; infinite where no number does.

    error    of the mix, the law's median
    beyond   whether the equivalent, or the mix, lies outside what was measured
    told     whether anything is known: not where real images are not known to lower the error, nor where the interval
             goes from less than was measured to any number
    """

    real: float
    synthetic: float
    error: float
    equivalent: float
    low: float
    high: float
    beyond: bool
    told: bool
    coverage: float

    @property
    def saved(self) -> float:
        """Real images that need no label, the median; negative where the synthetic images do harm."""
        return self.equivalent - self.real

    def sentence(self, total: float | None = None) -> str:
        """ "25% real + 2,000 synthetic reaches what 58% real alone would (90% interval 51% to 66%)", of `total` real
        images; in counts where that is not given."""

        def said(count: float) -> str:
            return f"{count:,.0f}" if total is None else f"{100 * count / total:.3g}%"

        mix = f"{said(self.real)} real + {self.synthetic:,.0f} synthetic"
        if not self.told:
            return f"what {mix} is worth in real images cannot be told: the error hardly depends on their number"
        alone = "no number of real images" if np.isinf(self.equivalent) else f"{said(self.equivalent)} real"
        text = f"{mix} reaches what {alone} alone would"
        if np.isfinite(self.low):
            high = f"to {said(self.high)}" if np.isfinite(self.high) else "or more"
            text += f" ({100 * self.coverage:.0f}% interval {said(self.low)} {high})"
        return text + ("; this lies beyond what was measured" if self.beyond else "")


def place_of(law: Law, candidates: Sequence[Candidate], group: str | None = None) -> Place:
    """Where to ask: the method of the best candidate (they come best first) that trains on both kinds of images, or
    `group`, and the counts of that candidate. Raises ValueError where there is none."""
    for candidate in candidates:
        counts, method = counts_of(candidate), method_of(candidate.recipe)
        if counts is not None and min(counts) > 0 and method in law.groups and group in (None, method):
            real, synthetic = map(float, counts)
            reals = tuple(sorted({real, *(float(n) for n in law.real if n > 0)}))
            return Place(method, real, synthetic, reals, _total(candidates))
    cells = zip(law.group, law.real, law.synthetic, strict=True)
    methods = sorted({method for method, *counts in cells if min(counts) > 0})
    if group is not None and methods:
        raise ValueError(
            f"method must be one that trains on both kinds of images, but got {group!r}; there are: "
            + ", ".join(map(repr, methods))
        )
    raise ValueError(
        "an exchange rate needs recipes on real and synthetic images, but no finished recipe trains on both"
    )


def exchange_rate(
    law: Law, real: ArrayLike, synthetic: ArrayLike, group: str | None = None, coverage: float = 0.9
) -> ExchangeRate:
    """The rate at counts (n,), real and synthetic, broadcast against each other, for one method.

    Slopes are differences over a factor of 1.25 up and down. At a count of 0, where the slope of a law may be
    infinite, they are over the step to the smallest count that was measured. Raises ValueError for a law that has no
    cell with real, or none with synthetic images.
    """
    real, synthetic = (np.atleast_1d(a).astype(float) for a in np.broadcast_arrays(real, synthetic))
    errors = law.draws(real, synthetic, group)
    equivalent = _equivalents(law, errors)
    real_low, real_high = _around(real, law.real)
    synthetic_low, synthetic_high = _around(synthetic, law.synthetic)
    per_real = (law.draws(real_low, synthetic, group) - law.draws(real_high, synthetic, group)) / (real_high - real_low)
    per_synthetic = law.draws(real, synthetic_low, group) - law.draws(real, synthetic_high, group)
    per_synthetic /= synthetic_high - synthetic_low
    with np.errstate(divide="ignore", invalid="ignore"):
        marginal = np.where(per_real > 0, per_synthetic / per_real, np.copysign(np.inf, per_synthetic))
        average = np.where(synthetic > 0, (equivalent - real) / synthetic, np.nan)
    known = law.falls(coverage)
    unknown = Band(*(np.full(real.shape, value) for value in (np.nan, -np.inf, np.inf)))
    return ExchangeRate(
        real=real,
        synthetic=synthetic,
        marginal=_band(law, marginal, coverage) if known else unknown,
        average=_band(law, average, coverage) if known else unknown,
        beyond=_beyond(law, _band(law, equivalent, coverage).median),
        coverage=coverage,
    )


def savings(
    law: Law, real: ArrayLike, synthetic: float, group: str | None = None, coverage: float = 0.9
) -> tuple[Saving, ...]:
    """`saving` at each of several real counts (n,)."""
    counts = np.atleast_1d(np.asarray(real, dtype=float))
    errors = law.draws(counts, synthetic, group)
    band = _band(law, _equivalents(law, errors), coverage)
    outside = _beyond(law, band.median) | (counts > law.real.max()) | (synthetic > law.synthetic.max())
    told = law.falls(coverage) & (np.isfinite(band.high) | (band.low >= law.real[law.real > 0].min()))
    columns = (counts, np.median(errors, axis=0), band.median, band.low, band.high, outside, told)
    return tuple(
        Saving(n, synthetic, error, equivalent, low, high, beyond, known, coverage)
        for n, error, equivalent, low, high, beyond, known in zip(*(c.tolist() for c in columns), strict=True)
    )


def saving(law: Law, real: float, synthetic: float, group: str | None = None, coverage: float = 0.9) -> Saving:
    """How many real images alone reach what `real` with `synthetic` images reach, for one method."""
    return savings(law, [real], synthetic, group, coverage)[0]


def _total(candidates: Sequence[Candidate]) -> float:
    """All labelled real images, those of the largest source where it was varied: the most that were read, by the
    fraction that they were."""
    read = [
        (counts[0], candidate.recipe.real_fraction)
        for candidate in candidates
        if (counts := counts_of(candidate)) is not None and candidate.recipe.real_fraction
    ]
    count, fraction = max(read)
    return float(round(count / fraction))


def _beyond(law: Law, equivalent: Floats) -> NDArray[np.bool_]:
    """Whether real images alone were measured neither at so many nor at fewer and more."""
    alone = law.real[(law.synthetic == 0) & (law.real > 0)]
    if not alone.size:
        return np.ones(equivalent.shape, bool)
    outside: NDArray[np.bool_] = (equivalent < alone.min()) | (equivalent > alone.max())
    return outside


def _equivalents(law: Law, errors: Floats) -> Floats:
    """The smallest real counts with which each draw of the law, without synthetic images, has these errors or less:
    (num_draws, n) to (num_draws, n). Infinite where none up to REACH times the largest measured has."""
    if not law.real.any():
        raise ValueError("an exchange rate needs cells with real images, but the law has none; add real_only recipes")
    if not law.synthetic.any():
        raise ValueError("an exchange rate needs cells with synthetic images, but the law has none; add mixed recipes")
    counts, alone = _alone(law)
    found = np.empty_like(errors)
    logs = np.log(counts)
    for draw, (curve, wanted) in enumerate(zip(alone, errors, strict=True)):
        # A flat stretch of the running minimum is reached where it begins.
        falls = np.concatenate([[True], np.diff(curve) < 0])
        ascending, at = curve[falls][::-1], logs[falls][::-1]
        found[draw] = np.exp(np.interp(wanted, ascending, at, left=np.inf, right=logs[0]))
    return found


@lru_cache(maxsize=2)  # asked of one law again and again
def _alone(law: Law) -> tuple[Floats, Floats]:
    """Real counts (n,), and for each draw (num_draws, n) the least error with so many real images alone or fewer."""
    positive = law.real[law.real > 0]
    counts = np.geomspace(positive.min() / REACH, positive.max() * REACH, NUM_COUNTS)
    return counts, np.minimum.accumulate(law.draws(counts, np.zeros_like(counts)), axis=1)


def _around(count: Floats, measured: Floats) -> tuple[Floats, Floats]:
    """The two ends of a difference around each count."""
    positive = measured[measured > 0]
    first = positive.min() if positive.size else 1.0
    return np.where(count > 0, count / STEP, 0.0), np.where(count > 0, count * STEP, first)


def _band(law: Law, draws: Floats, coverage: float) -> Band:
    """Quantiles over the first axis that are values of draws, so that infinite ones are no NaN."""
    tail = law.tail(coverage)
    median, low, high = (np.quantile(draws, at, axis=0, method="inverted_cdf") for at in (0.5, tail, 1 - tail))
    return Band(median, low, high)
