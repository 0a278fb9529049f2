"""Prices, Advice and Split: label more photographs, render more images, or mend the renderer first?

From a fitted law, on each of its draws: what the money buys in real labels, what it buys in renders, and what renders
of this kind can ever bring. Mikami et al. 2021 ask "more renders or a better renderer?" of their law `D s^-α + C`, by
comparing what is left of `D s^-α` with the floor C that no number of renders takes away. Here, for any law:

    left   E(n, s) - E(n, infinitely many)      what more renders of this kind can still bring
    floor  E(n, infinitely many) - E(n + s, 0)  what even they leave above s photographs in place of the s renders

A renderer is to be mended where the floor is the larger of the two, and where a perfect one, whose images were as good
as photographs, would bring more than the real labels that the money buys.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import COVERAGE
from analysis.laws import Law

Action = Literal["buy_real", "render_more", "fix_renderer"]
ACTIONS: tuple[Action, ...] = get_args(Action)
INFINITELY = 1000.0  # "infinitely many" renders: times the largest count that was measured
BUDGET = 0.1  # of what the present data cost, where none is given
CLEAR = 2 / 3  # the probability from which an action stands out
NUM_SPLITS = 101
UNKNOWN = 0.9  # the width of an interval of shares from which it says nothing


@dataclass(frozen=True)
class Prices:
    """In any one currency: a labelled real image, a rendered image, and a labelled image of the validation set."""

    real_label: float
    synthetic_image: float
    validation_label: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and (value > 0 or (value == 0 and name == "validation_label"))):
                must = "0 or more" if name == "validation_label" else "positive"
                raise ValueError(f"prices.{name} must be finite and {must}, but got {value!r}")

    def cost(self, real: float, synthetic: float, validation: float = 0.0) -> float:
        """Of a data set; a search pays for the labels of its validation set too."""
        return real * self.real_label + synthetic * self.synthetic_image + validation * self.validation_label


def prices_of(real: float | None, synthetic: float | None, **others: float | None) -> Prices | None:
    """As the options --real-label and --synthetic-image give them: both, or neither. `others` are options that say
    nothing without these, by name: `validation_label`, which is a price too, and what is not."""
    if (real is None) != (synthetic is None):
        raise ValueError("--real-label and --synthetic-image must be given together: advice compares the two")
    if real is None or synthetic is None:
        for name, value in others.items():
            if value is not None:
                raise ValueError(f"--{name.replace('_', '-')} must come with --real-label and --synthetic-image")
        return None
    return Prices(real, synthetic, others.get("validation_label") or 0.0)


@dataclass(frozen=True)
class Gain:
    """By how much the error falls: the median of the law's draws, and bounds that hold it with probability 0.9."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Advice:
    """What to do next at (real, synthetic) with `budget` money.

    action         the likeliest one; None where the runs cannot tell whether any of them lowers the error
    probabilities  of each action being the right one, over the law's draws
    gains          what the budget buys in real labels, in renders, and (not for the budget, whose effect on a renderer
                   nobody knows) what a perfect renderer would bring
    left, floor    what more renders can still bring, and what even infinitely many leave
    """

    real: float
    synthetic: float
    budget: float
    action: Action | None
    probabilities: dict[Action, float]
    gains: dict[Action, Gain]
    left: Gain
    floor: Gain

    @property
    def text(self) -> str:
        """One sentence to act on."""
        at = f"At {self.real:,.0f} real and {self.synthetic:,.0f} synthetic images"
        if self.action is None:
            return f"{at} neither more labels nor more or better renders can be told to lower the error."
        said = {"buy_real": "label more real images", "render_more": "render more", "fix_renderer": "mend the renderer"}
        probability, gain = self.probabilities[self.action], self.gains[self.action]
        bought = "a perfect renderer" if self.action == "fix_renderer" else f"{_money(self.budget)} of money"
        doubt = "" if probability >= CLEAR else ", which does not stand out"
        return (
            f"{at} {said[self.action]} (probability {probability:.2f}{doubt}): {bought} would lower the error by"
            f" {gain.median:.2g} ({gain.low:.2g} to {gain.high:.2g})."
        )


def advise(
    law: Law,
    prices: Prices,
    real: float,
    synthetic: float,
    group: str | None = None,
    *,
    budget: float | None = None,
    validation: float = 0.0,
) -> Advice:
    """What to do next, for one method, with `budget` money: a tenth of what the data cost so far where none is given
    (`validation` labels among it). Raises ValueError where that is nothing, and for a law that has no cell with real
    images or none with synthetic ones."""
    spend = BUDGET * prices.cost(real, synthetic, validation) if budget is None else budget
    if not (math.isfinite(spend) and spend > 0):
        raise ValueError(f"budget must be finite and positive, but got {spend!r}; give what may be spent next")
    _check(law)
    endless = INFINITELY * max(synthetic, float(law.synthetic.max()))
    counts = np.array(
        [
            (real, synthetic),
            (real + spend / prices.real_label, synthetic),
            (real, synthetic + spend / prices.synthetic_image),
            (real, endless),
            (real + synthetic, 0.0),
        ]
    )
    now, labelled, rendered, infinite, photographed = law.draws(counts[:, 0], counts[:, 1], group).T
    left, floor = now - infinite, infinite - photographed
    gains: dict[Action, NDArray[np.float64]] = {
        "buy_real": now - labelled,
        "render_more": now - rendered,
        "fix_renderer": now - photographed,
    }
    fix = (floor > np.maximum(left, 0)) & (gains["fix_renderer"] > gains["buy_real"])
    buy = ~fix & (gains["buy_real"] >= gains["render_more"])
    chosen: dict[Action, NDArray[np.bool_]] = {"buy_real": buy, "render_more": ~fix & ~buy, "fix_renderer": fix}
    probabilities = {action: float(np.mean(chosen[action])) for action in ACTIONS}
    summaries = {action: _gain(law, gains[action]) for action in ACTIONS}
    action = max(ACTIONS, key=lambda name: probabilities[name])
    return Advice(
        real=real,
        synthetic=synthetic,
        budget=spend,
        action=action if summaries[action].low > 0 else None,
        probabilities=probabilities,
        gains=summaries,
        left=_gain(law, left),
        floor=_gain(law, floor),
    )


@dataclass(frozen=True)
class Split:
    """How to spend a budget from nothing: the part of the money for real labels that gives the least error, the median
    over the law's draws of where each has its least, and bounds that hold it with probability `coverage`.

    real, synthetic, error  what the median buys, and the error that the law says of it
    beyond                  whether that is more than was measured of either
    told                    whether anything is known: not where real images are not known to lower the error, nor where
                            the interval goes over nearly all shares
    """

    share: float
    low: float
    high: float
    real: float
    synthetic: float
    error: float
    beyond: bool
    told: bool
    coverage: float

    @property
    def text(self) -> str:
        """One sentence."""
        if not self.told:
            return "How to split such money between labels and renders cannot be told: the error hardly depends on it."
        return (
            f"The best split of such money gives {self.share:.0%} of it to real labels ({self.coverage:.0%} interval"
            f" {self.low:.0%} to {self.high:.0%}): {self.real:,.0f} real and {self.synthetic:,.0f} synthetic images, an"
            f" error of {self.error:.3g}" + ("; this lies beyond what was measured." if self.beyond else ".")
        )


def best_split(law: Law, prices: Prices, budget: float, group: str | None = None, coverage: float = COVERAGE) -> Split:
    """Of `budget` money for one method; what validation labels cost must be taken off it before."""
    if not (math.isfinite(budget) and budget > 0):
        raise ValueError(f"budget must be finite and positive, but got {budget!r}")
    _check(law)
    shares = np.linspace(0, 1, NUM_SPLITS)
    real, synthetic = shares * budget / prices.real_label, (1 - shares) * budget / prices.synthetic_image
    errors = law.draws(real, synthetic, group)
    least = shares[np.argmin(errors, axis=1)]
    tail = law.tail(coverage)
    low, share, high = (float(value) for value in np.quantile(least, (tail, 0.5, 1 - tail)))
    at = int(np.argmin(np.abs(shares - share)))
    beyond = bool(real[at] > law.real.max() or synthetic[at] > law.synthetic.max())
    error = float(np.median(errors[:, at]))
    told = law.falls(coverage) and high - low <= UNKNOWN
    return Split(share, low, high, float(real[at]), float(synthetic[at]), error, beyond, told, coverage)


def _check(law: Law) -> None:
    for name, counts in (("real", law.real), ("synthetic", law.synthetic)):
        if not counts.any():
            raise ValueError(f"advice weighs real against synthetic images, but the law has no cell with {name} ones")


def _money(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def _gain(law: Law, draws: NDArray[np.float64]) -> Gain:
    tail = law.tail(COVERAGE)
    low, median, high = (float(value) for value in np.quantile(draws, (tail, 0.5, 1 - tail)))
    return Gain(median, low, high)
