"""Known answers: laws are drawn, 16 cells simulated from each with noise of 2%, and what is said of them is compared.

E(n, s) = c + a (n + k s^γ)^-b: a synthetic image is worth k s^(γ-1) real ones, s of them save k s^γ labels, and a
budget is best split where n + k s^γ is most. Each answer comes with a 90% interval, which must hold the truth nine
times of ten.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from analysis.exchange import exchange_rate, savings
from analysis.laws import Law, fit
from analysis.prices import Prices, best_split

Floats = NDArray[np.float64]

REAL = np.array([250.0, 1000, 4000, 16000])
SYNTHETIC = np.array([0.0, 1000, 4000, 16000])
NOISE = 0.02
PRICES, BUDGET = Prices(real_label=1.0, synthetic_image=0.25), 4000.0
WIDTH = 0.005  # half a step of the shares that are tried
PLACES = np.array([500.0, 1000, 2000, 4000]), np.array([2000.0, 4000, 8000, 2000])  # on cells and between them


@dataclass(frozen=True)
class Truth:
    a: float
    b: float
    c: float
    k: float
    gamma: float

    @classmethod
    def drawn(cls, seed: int) -> "Truth":
        rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
        b, gamma = rng.uniform(0.3, 0.6), rng.uniform(0.55, 0.8)
        worth = rng.uniform(0.1, 0.6)  # of each of 4000 synthetic images
        return cls(0.3 * 1000**b, b, rng.uniform(0.02, 0.1), worth * 4000 ** (1 - gamma), gamma)

    def error(self, n: Floats, s: Floats) -> Floats:
        values: Floats = self.c + self.a * (n + self.k * s**self.gamma) ** -self.b
        return values

    def simulated(self, seed: int) -> Law:
        n, s = (axis.ravel() for axis in np.meshgrid(REAL, SYNTHETIC, indexing="ij"))
        rng = np.random.Generator(np.random.Philox(key=seed))
        return fit(n, s, self.error(n, s) * np.exp(NOISE * rng.normal(size=len(n))))

    @property
    def optimum(self) -> float:
        """The share of the money for real labels."""
        shares = np.linspace(0, 1, 4001)
        synthetic = (1 - shares) * BUDGET / PRICES.synthetic_image
        return float(shares[np.argmax(shares * BUDGET / PRICES.real_label + self.k * synthetic**self.gamma)])


@dataclass(frozen=True)
class Recovery:
    """Over simulations: how often the interval of each answer held the truth, and how far the medians were off."""

    inside: dict[str, float]
    off: dict[str, float]  # the median of |found - true| / true; of the optimum, of |found - true|


def recovered(count: int) -> Recovery:
    """Rates and savings are asked at four places, the others at one."""
    inside: dict[str, list[Floats]] = {}
    off: dict[str, list[Floats]] = {}

    def compare(name: str, true: ArrayLike, median: ArrayLike, low: ArrayLike, high: ArrayLike, unit: float) -> None:
        found = np.asarray(true, float)
        inside.setdefault(name, []).append(np.mean((low <= found) & (found <= np.asarray(high))))
        off.setdefault(name, []).append(np.mean(np.abs(median - found) / (unit or found)))

    for seed in range(count):
        truth = Truth.drawn(seed)
        law = truth.simulated(seed)
        rate = exchange_rate(law, *PLACES)
        average = truth.k * PLACES[1] ** (truth.gamma - 1)
        for name, band, true in (("rate", rate.average, average), ("next", rate.marginal, truth.gamma * average)):
            compare(name, true, band.median, band.low, band.high, 0)
        saved = savings(law, PLACES[0], 4000)
        alone = PLACES[0] + truth.k * 4000**truth.gamma
        compare("saving", alone, *np.array([(s.equivalent, s.low, s.high) for s in saved]).T, 0)
        split = best_split(law, PRICES, BUDGET)
        compare("optimum", truth.optimum, split.share, split.low - WIDTH, split.high + WIDTH, 1)
        noise = np.random.Generator(np.random.Philox(key=[seed, 2])).normal()
        run = truth.error(*PLACES) * np.exp(NOISE * noise)
        compare("error", run, law.predict(*PLACES), *law.interval(*PLACES), 0)
    return Recovery(
        {name: float(np.mean(found)) for name, found in inside.items()},
        {name: float(np.median(found)) for name, found in off.items()},
    )


def test_answers_are_near_the_truth_and_their_intervals_hold_it() -> None:
    """Of five simulations; each answer alone fails at 90% once in a hundred."""
    found = recovered(5)
    assert {name: part for name, part in found.inside.items() if part < 0.6} == {}
    assert found.off["saving"] < 0.15
    assert found.off["error"] < 0.05


@pytest.mark.slow
def test_over_two_hundred_simulations_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """A binomial of 200 at 90% lies within 84% and 95% with probability 0.99; with few cells the calibration is
    careful, and intervals are a little too wide rather than too narrow. Nor do they hold it for being endless: medians
    are near."""
    found = recovered(200)
    assert {name: part for name, part in found.inside.items() if not 0.84 <= part <= 0.97} == {}
    allowed = {"rate": 0.15, "next": 0.2, "saving": 0.06, "optimum": 0.1, "error": 0.025}
    assert {name: off for name, off in found.off.items() if off > allowed[name]} == {}
