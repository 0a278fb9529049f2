"""Residual: a Gaussian process for what a law leaves over, in the logarithm of the error.

Over x = log n and z = log(1 + s), smooth in both, as a sum of a part in x alone, a part in both, and where there are
several methods a part of each in x (zero at s = 0, where methods do not differ). Squared-exponential kernels with a
mean of zero: a length or two outside the data the residual has gone to zero and what is predicted is the law's.

Functions are drawn by random features (Rahimi and Recht 2007; Wilson et al. 2020), so that a draw is one function
wherever it is asked.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.law_forms import Scale

Floats = NDArray[np.float64]

# Logarithms: amplitudes of the part in x, of the part in x and z, of each method's, lengths in x and z, noise.
NAMES = ("real", "both", "method", "length_real", "length_synthetic", "noise")
PRIOR_MEAN = np.log([0.03, 0.015, 0.015, 1.2, 1.2, 0.006])
PRIOR_SD = np.array([1.0, 1.0, 1.0, 0.4, 0.5, 1.0])
LEAST, MOST = PRIOR_MEAN - 4 * PRIOR_SD, PRIOR_MEAN + 4 * PRIOR_SD  # beyond it covariances are singular
NUM_FEATURES = 64


@dataclass(frozen=True)
class Places:
    """Where cells are: x and z (n,), and the method (n,) where there is more than one; -1 at s = 0."""

    x: Floats
    z: Floats
    method: NDArray[np.intp]

    @classmethod
    def of(cls, scale: Scale, real: Floats, synthetic: Floats, group: NDArray[np.intp]) -> "Places":
        """Of counts in units of the scale. A count of 0 lies a step below the least."""
        x = np.log(real + 0.3 * scale.least_real)
        return cls(x, np.log1p(synthetic / scale.least_synthetic), np.where(synthetic > 0, group, -1))


class Kernel:
    """The covariances between two sets of places, for any hyperparameters (6,); what they do not change is kept."""

    def __init__(self, rows: Places, columns: Places) -> None:
        self.far_x = (rows.x[:, None] - columns.x) ** 2
        self.far_z = (rows.z[:, None] - columns.z) ** 2
        self.same = (rows.method[:, None] == columns.method) & (rows.method[:, None] >= 0)

    def parts(self, hyper: Floats) -> tuple[Floats, Floats, Floats]:
        """In x, in both, of a method; each (rows, columns)."""
        real, both, method, length_x, length_z, _ = np.exp(2 * hyper)
        in_x = np.exp(-0.5 / length_x * self.far_x)
        return real * in_x, both * in_x * np.exp(-0.5 / length_z * self.far_z), method * in_x * self.same

    def __call__(self, hyper: Floats) -> Floats:
        in_x, both, method = self.parts(hyper)
        covariance: Floats = in_x + both + method
        return covariance

    def slopes(self, hyper: Floats) -> list[Floats]:
        """Derivatives of the covariance by each hyperparameter but the noise."""
        in_x, both, method = self.parts(hyper)
        length_x, length_z = np.exp(2 * hyper[3:5])
        by_length = (in_x + both + method) * self.far_x / length_x
        return [2 * in_x, 2 * both, 2 * method, by_length, both * self.far_z / length_z]


@dataclass(frozen=True)
class Functions:
    """Draws of the process before any data, d of them: cosines of random frequencies."""

    frequency_x: Floats  # (parts, d, features): in x, in both, of each method
    frequency_z: Floats  # (d, features), of the part in both
    phase: Floats
    weight: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator, num_draws: int, num_methods: int, hyper: Floats) -> "Functions":
        """With hyperparameters (6,)."""
        amplitude = np.exp(np.concatenate([hyper[:2], np.repeat(hyper[2], num_methods)]))
        shape = (len(amplitude), num_draws, NUM_FEATURES)
        return cls(
            frequency_x=rng.normal(size=shape) / np.exp(hyper[3]),
            frequency_z=rng.normal(size=shape[1:]) / np.exp(hyper[4]),
            phase=rng.uniform(0, 2 * np.pi, shape),
            weight=rng.normal(size=shape) * amplitude[:, None, None] * np.sqrt(2 / NUM_FEATURES),
        )

    def __call__(self, places: Places) -> Floats:
        """Values (d, n)."""
        values = self._part(0, places.x)
        values += self._part(1, places.x, self.frequency_z[..., None] * places.z)
        for method in range(len(self.weight) - 2):
            here = places.method == method
            if here.any():
                values[:, here] += self._part(2 + method, places.x[here])
        return values

    def _part(self, part: int, x: Floats, and_z: Floats | float = 0.0) -> Floats:
        angle = self.frequency_x[part][..., None] * x + and_z + self.phase[part][..., None]
        values: Floats = np.einsum("df,dfn->dn", self.weight[part], np.cos(angle))
        return values
