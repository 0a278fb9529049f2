"""ExchangeRate and Saving: how many real images synthetic ones are worth, from a fitted law.

What is exchanged are **labelled real images against rendered images**, counted in the training set. The share of
synthetic images in each batch is another axis: it says how a mix is read, not what it holds, and no rate follows from
it. Labels of the validation set are a cost too, and belong to the prices (`analysis.prices`), not to the rate.

A rate is no constant. On a grid of ImageNet (Mikami et al. 2021) an image rendered was worth a quarter of a photograph
at 2% of the photographs, and nothing at all of them; so it is given at each (real, synthetic), with a band from the
law's draws.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.laws import Law

Floats = NDArray[np.float64]

STEP = 1.25  # half the width of a difference, as a factor of the count: below it is noise of the draws
REACH = 100.0  # real counts are searched up to so many times the largest that was measured
NUM_COUNTS = 240  # real counts that are searched, on a log scale


@dataclass(frozen=True)
class Band:
    """Median over the law's draws, and the bounds of the central `coverage` of them; arrays of one shape."""

    median: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class ExchangeRate:
    """At each of `real` and `synthetic`, in real images for one synthetic image.

    marginal  the next synthetic image: (dE/ds) / (dE/dn), the error's slopes in the synthetic and the real count
    average   all of them: (n' - n) / s where E(n', 0) = E(n, s); NaN at s = 0
    beyond    whether n' lies beyond the largest real count that was measured: the law's word, not a measurement
    A rate is negative where synthetic images do harm, and infinite where no further real image would help.
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
    """

    real: float
    synthetic: float
    error: float
    equivalent: float
    low: float
    high: float
    beyond: bool
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

        alone = "no number of real images" if np.isinf(self.equivalent) else f"{said(self.equivalent)} real"
        text = f"{said(self.real)} real + {self.synthetic:,.0f} synthetic reaches what {alone} alone would"
        if np.isfinite(self.low):
            high = f"to {said(self.high)}" if np.isfinite(self.high) else "or more"
            text += f" ({100 * self.coverage:.0f}% interval {said(self.low)} {high})"
        return text + ("; this lies beyond what was measured" if self.beyond else "")


def exchange_rate(
    law: Law, real: ArrayLike, synthetic: ArrayLike, group: str | None = None, coverage: float = 0.9
) -> ExchangeRate:
    """The rate at counts (n,), real and synthetic, broadcast against each other, for one method.

    Slopes are differences over a factor of 1.25 up and down. At a count of 0, where the slope of a law may be
    infinite, they are over the step to the smallest count that was measured.
    """
    real, synthetic = (np.atleast_1d(a).astype(float) for a in np.broadcast_arrays(real, synthetic))
    real_low, real_high = _around(real, law.real)
    synthetic_low, synthetic_high = _around(synthetic, law.synthetic)
    per_real = (law.draws(real_low, synthetic, group) - law.draws(real_high, synthetic, group)) / (real_high - real_low)
    per_synthetic = law.draws(real, synthetic_low, group) - law.draws(real, synthetic_high, group)
    per_synthetic /= synthetic_high - synthetic_low
    with np.errstate(divide="ignore", invalid="ignore"):
        marginal = np.where(per_real > 0, per_synthetic / per_real, np.copysign(np.inf, per_synthetic))
        equivalent = _equivalents(law, law.draws(real, synthetic, group))
        average = np.where(synthetic > 0, (equivalent - real) / synthetic, np.nan)
    beyond = _quantiles(equivalent, coverage).median > law.real.max()
    return ExchangeRate(
        real, synthetic, _quantiles(marginal, coverage), _quantiles(average, coverage), beyond, coverage
    )


def saving(law: Law, real: float, synthetic: float, group: str | None = None, coverage: float = 0.9) -> Saving:
    """How many real images alone reach what `real` with `synthetic` images reach, for one method."""
    errors = law.draws([real], [synthetic], group)
    band = _quantiles(_equivalents(law, errors), coverage)
    equivalent, low, high = (float(value[0]) for value in (band.median, band.low, band.high))
    outside = equivalent > law.real.max() or real > law.real.max() or synthetic > law.synthetic.max()
    return Saving(real, synthetic, float(np.median(errors)), equivalent, low, high, bool(outside), coverage)


def _equivalents(law: Law, errors: Floats) -> Floats:
    """The smallest real counts with which each draw of the law, without synthetic images, has these errors or less:
    (num_draws, n) to (num_draws, n). Infinite where none up to REACH times the largest measured has."""
    positive = law.real[law.real > 0]
    if not positive.size:
        raise ValueError("an exchange rate needs cells with real images, but the law has none; add real_only recipes")
    counts = np.geomspace(positive.min() / REACH, positive.max() * REACH, NUM_COUNTS)
    alone = np.minimum.accumulate(law.draws(counts, np.zeros_like(counts)), axis=1)
    found = np.empty_like(errors)
    logs = np.log(counts)
    for draw, (curve, wanted) in enumerate(zip(alone, errors, strict=True)):
        # A flat stretch of the running minimum is reached where it begins.
        falls = np.concatenate([[True], np.diff(curve) < 0])
        ascending, at = curve[falls][::-1], logs[falls][::-1]
        found[draw] = np.exp(np.interp(wanted, ascending, at, left=np.inf, right=logs[0]))
    return found


def _around(count: Floats, measured: Floats) -> tuple[Floats, Floats]:
    """The two ends of a difference around each count."""
    positive = measured[measured > 0]
    first = positive.min() if positive.size else 1.0
    return np.where(count > 0, count / STEP, 0.0), np.where(count > 0, count * STEP, first)


def _quantiles(draws: Floats, coverage: float) -> Band:
    """Quantiles over the first axis that are values of draws, so that infinite ones are no NaN."""
    tail = (1 - coverage) / 2
    median, low, high = (np.quantile(draws, at, axis=0, method="inverted_cdf") for at in (0.5, tail, 1 - tail))
    return Band(median, low, high)
