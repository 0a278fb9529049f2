"""Prices: where the answer is plain, it is given; where it is known, it is found; where nothing pays, that is said."""

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.laws import Law, fit
from analysis.prices import Prices, advise, best_split

Floats = NDArray[np.float64]

REAL = np.array([250.0, 1000, 4000, 16000])
SYNTHETIC = np.array([0.0, 1000, 4000, 16000])
PRICES, BUDGET = Prices(real_label=1.0, synthetic_image=0.25), 4000.0
N, S = (axis.ravel() for axis in np.meshgrid(REAL, SYNTHETIC, indexing="ij"))


def worth(n: Floats, s: Floats, k: float = 4.0) -> Floats:
    values: Floats = 0.05 + 6 * (n + k * s**0.7) ** -0.45
    return values


def bounded(n: Floats, s: Floats) -> Floats:
    """Renders of which the first thousand teach nearly all that there is to learn from them."""
    values: Floats = 0.05 + 6 * (n + 800 * s / (s + 200)) ** -0.45
    return values


def simulated(error: Floats, seed: int = 0, noise: float = 0.01) -> Law:
    rng = np.random.Generator(np.random.Philox(key=seed))
    return fit(N, S, error * np.exp(noise * rng.normal(size=len(error))))


def test_what_is_cheap_for_what_it_brings_is_bought() -> None:
    law = simulated(worth(N, S))
    cheap_labels = advise(law, Prices(real_label=0.01, synthetic_image=1.0), 1000, 4000)
    assert cheap_labels.action == "buy_real"
    assert cheap_labels.probabilities["buy_real"] > 0.9
    cheap_renders = advise(law, Prices(real_label=10.0, synthetic_image=0.001), 1000, 4000, budget=20)
    assert cheap_renders.action == "render_more"
    assert "render more (probability" in cheap_renders.text
    assert sum(cheap_renders.probabilities.values()) == pytest.approx(1)


def test_where_renders_have_taught_what_they_can_the_renderer_is_to_be_mended() -> None:
    advice = advise(simulated(bounded(N, S), noise=0.003), Prices(real_label=10.0, synthetic_image=0.001), 1000, 16000)
    assert advice.action == "fix_renderer"
    assert advice.floor.median > advice.left.median
    truth = bounded(np.array([1000.0]), np.array([16000.0])) - bounded(np.array([17000.0]), np.array([0.0]))
    assert advice.gains["fix_renderer"].median == pytest.approx(truth[0], rel=0.1)
    assert "mend the renderer" in advice.text
    assert "a perfect renderer would lower the error" in advice.text


def test_gains_are_those_of_the_law_for_the_money() -> None:
    advice = advise(simulated(worth(N, S), noise=0.002), Prices(2.0, 0.5), 1000, 4000, budget=800)
    at = np.array([1000.0, 1400, 1000]), np.array([4000.0, 4000, 5600])
    now, labelled, rendered = worth(*at)
    assert advice.gains["buy_real"].median == pytest.approx(now - labelled, rel=0.15)
    assert advice.gains["render_more"].median == pytest.approx(now - rendered, rel=0.3)
    assert advice.gains["render_more"].low < now - rendered < advice.gains["render_more"].high


def test_a_flat_curve_gives_no_advice() -> None:
    advice = advise(simulated(0.3 + 0 * N), Prices(1.0, 0.1), 1000, 4000)
    assert advice.action is None
    assert "neither more labels nor more or better renders" in advice.text


def test_a_flat_curve_has_no_best_split() -> None:
    found = best_split(simulated(0.3 + 0 * N), PRICES, BUDGET)
    assert not found.told
    assert "cannot be told" in found.text


def test_validation_labels_are_a_cost() -> None:
    prices = Prices(real_label=2.0, synthetic_image=0.5, validation_label=3.0)
    assert prices.cost(10, 20, 5) == 20 + 10 + 15
    law = simulated(worth(N, S))
    assert advise(law, prices, 1000, 4000, validation=100).budget == pytest.approx(0.1 * (2000 + 2000 + 300))


@pytest.mark.parametrize("prices", [(0.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (1.0, 1.0, -0.5)])
def test_prices_that_are_none_are_refused(prices: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"prices\.\w+ must be finite and "):
        Prices(*prices)


def test_a_budget_of_nothing_is_refused() -> None:
    law = simulated(worth(N, S))
    with pytest.raises(ValueError, match="budget must be finite and positive, but got 0"):
        advise(law, Prices(1.0, 0.1), 0, 0)
    with pytest.raises(ValueError, match="budget must be finite and positive"):
        best_split(law, Prices(1.0, 0.1), np.inf)


def optimum(k: float) -> float:
    """The true share of the money for real labels: where effective data n + k s^0.7 is most."""
    shares = np.linspace(0, 1, 2001)
    return float(shares[np.argmax(shares * BUDGET + k * ((1 - shares) * BUDGET / 0.25) ** 0.7)])


def test_the_best_split_of_a_law_without_noise_is_found() -> None:
    found = best_split(simulated(worth(N, S), noise=0.0), PRICES, BUDGET)
    assert found.low <= optimum(4.0) <= found.high
    assert found.share == pytest.approx(optimum(4.0), abs=0.12)
    assert PRICES.cost(found.real, found.synthetic) == pytest.approx(BUDGET)
    assert found.error == pytest.approx(worth(np.array([found.real]), np.array([found.synthetic]))[0], rel=0.02)
    assert found.told
    assert not found.beyond
    assert best_split(simulated(worth(N, S), noise=0.0), PRICES, 40 * BUDGET).beyond
