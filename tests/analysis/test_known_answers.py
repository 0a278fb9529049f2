"""Known answers: laws are drawn, 16 cells simulated from each with noise of 2%, and what is said of them is compared.

E(n, s) = c + a (n + k s^γ)^-b: a synthetic image is worth k s^(γ-1) real ones, s of them save k s^γ labels, and a
budget is best split where n + k s^γ is most. Each answer comes with a 90% interval, which must hold the truth nine
times of ten.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.exchange import exchange_rate, saving
from analysis.laws import Law, fit
from analysis.prices import Prices, best_split

Floats = NDArray[np.float64]

REAL = np.array([250.0, 1000, 4000, 16000])
SYNTHETIC = np.array([0.0, 1000, 4000, 16000])
NOISE = 0.02
PRICES, BUDGET = Prices(real_label=1.0, synthetic_image=0.25), 4000.0
WIDTH = 0.0025  # half a step of the shares that are tried


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


def recovered(count: int) -> dict[str, float]:
    """How often each answer lies within its 90% interval, over simulations."""
    inside: dict[str, list[bool]] = {"rate": [], "next": [], "saving": [], "optimum": [], "error": []}
    for seed in range(count):
        truth = Truth.drawn(seed)
        law = truth.simulated(seed)
        rate = exchange_rate(law, 2000, 8000)
        average = truth.k * 8000 ** (truth.gamma - 1)
        inside["rate"].append(bool(rate.average.low[0] <= average <= rate.average.high[0]))
        inside["next"].append(bool(rate.marginal.low[0] <= truth.gamma * average <= rate.marginal.high[0]))
        saved = saving(law, 1000, 4000)
        inside["saving"].append(saved.low <= 1000 + truth.k * 4000**truth.gamma <= saved.high)
        split = best_split(law, PRICES, BUDGET)
        inside["optimum"].append(split.low - WIDTH <= truth.optimum <= split.high + WIDTH)
        at = np.array([2000.0]), np.array([2000.0])
        run = np.random.Generator(np.random.Philox(key=[seed, 2])).normal()
        low, high = law.interval(*at)
        inside["error"].append(
            bool(
                (low <= truth.error(*at) * np.exp(NOISE * run)).all()
                and (high >= truth.error(*at) * np.exp(NOISE * run)).all()
            )
        )
    return {name: float(np.mean(found)) for name, found in inside.items()}
