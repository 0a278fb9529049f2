"""Exchange rates and savings: those of a known law are found again within their intervals, at the rate that is stated.

E(n, s) = 0.05 + 6 (n + k s^γ)^-0.45 has the rates written down here: k s^(γ-1) for all, γ k s^(γ-1) for the next.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.exchange import exchange_rate, saving
from analysis.laws import Law, fit

Floats = NDArray[np.float64]

K, GAMMA = 4.0, 0.7
REAL = np.array([250.0, 1000, 4000, 16000])
SYNTHETIC = np.array([0.0, 1000, 4000, 16000])


def error(n: Floats, s: Floats, k: float = K) -> Floats:
    values: Floats = 0.05 + 6 * (n + k * s**GAMMA) ** -0.45
    return values


def simulated(seed: int, noise: float, k: float = K) -> Law:
    n, s = (axis.ravel() for axis in np.meshgrid(REAL, SYNTHETIC, indexing="ij"))
    rng = np.random.Generator(np.random.Philox(key=seed))
    return fit(n, s, error(n, s, k) * np.exp(noise * rng.normal(size=len(n))))


def test_the_rate_of_a_law_without_noise_is_found() -> None:
    law = simulated(0, 0.0)
    s = np.array([2000.0, 8000])
    rate = exchange_rate(law, 1000, s)
    assert rate.average.median == pytest.approx(K * s ** (GAMMA - 1), rel=0.05)
    assert rate.marginal.median == pytest.approx(GAMMA * K * s ** (GAMMA - 1), rel=0.2)
    for band in (rate.average, rate.marginal):
        assert np.all((band.low <= band.median) & (band.median <= band.high))
    assert not rate.beyond.any()


def test_at_no_synthetic_image_the_next_are_told_over_the_first_step_and_there_are_none_to_average() -> None:
    n = np.array([500.0, 2000])
    rate = exchange_rate(simulated(0, 0.0), n, 0)
    first_step = (error(n, 0 * n) - error(n, 0 * n + 1000)) / 1000
    assert rate.marginal.median == pytest.approx(first_step / (0.45 * 6 * n**-1.45), rel=0.1)
    assert np.isnan(rate.average.median).all()


def test_a_saving_is_what_real_images_alone_would_take() -> None:
    found = saving(simulated(1, 0.005), 1000, 4000)
    truth = 1000 + K * 4000**GAMMA
    assert found.equivalent == pytest.approx(truth, rel=0.1)
    assert found.low < found.equivalent < found.high
    assert found.saved == pytest.approx(found.equivalent - 1000)
    assert found.error == pytest.approx(float(error(np.array([1000.0]), np.array([4000.0]))[0]), rel=0.01)
    assert not found.beyond


def test_a_saving_is_a_sentence() -> None:
    found = replace(saving(simulated(1, 0.005), 1000, 4000), equivalent=2320.0, low=2000.0, high=2640.0)
    assert found.sentence(4000) == (
        "25% real + 4,000 synthetic reaches what 58% real alone would (90% interval 50% to 66%)"
    )
    endless = replace(found, equivalent=np.inf, high=np.inf, beyond=True)
    assert endless.sentence() == (
        "1,000 real + 4,000 synthetic reaches what no number of real images alone would (90% interval 2,000 or more);"
        " this lies beyond what was measured"
    )


def test_beyond_what_was_measured_is_said() -> None:
    law = simulated(2, 0.01)
    assert saving(law, 16000, 16000).beyond
    assert saving(law, 1000, 64000).beyond
    assert exchange_rate(law, [1000, 16000], 16000).beyond.tolist() == [False, True]
    n, s = (axis.ravel() for axis in np.meshgrid(REAL, SYNTHETIC[1:], indexing="ij"))
    assert saving(fit(n, s, error(n, s)), 1000, 4000).beyond, "real images alone were never measured"


def test_synthetic_images_that_do_harm_have_a_negative_rate() -> None:
    n, s = (axis.ravel() for axis in np.meshgrid(REAL, SYNTHETIC, indexing="ij"))
    law = fit(n, s, error(n, 0 * s) * (1 + 0.04 * np.log1p(s / 1000)))
    assert saving(law, 4000, 16000).saved < 0
    rate = exchange_rate(law, 4000, 16000)
    assert rate.average.high[0] < 0


def test_on_a_flat_curve_no_rate_is_known() -> None:
    n, s = (axis.ravel() for axis in np.meshgrid(REAL, SYNTHETIC, indexing="ij"))
    rng = np.random.Generator(np.random.Philox(key=3))
    law = fit(n, s, 0.3 * np.exp(0.01 * rng.normal(size=len(n))))
    rate = exchange_rate(law, 1000, 4000)
    assert rate.average.low[0] < 0 < rate.average.high[0]
    assert rate.average.high[0] - rate.average.low[0] > 1
    found = saving(law, 1000, 4000)
    assert not found.told
    assert found.sentence(16000) == (
        "what 6.25% real + 4,000 synthetic is worth in real images cannot be told: the error hardly depends on their"
        " number"
    )


def test_a_law_without_real_images_has_no_rate() -> None:
    s = np.geomspace(100, 10000, 8)
    with pytest.raises(ValueError, match="needs cells with real images"):
        saving(fit(0 * s, s, error(0 * s, s)), 100, 100)
