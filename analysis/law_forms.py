"""Form: the shapes that error takes as a function of the real and the synthetic count, with weak priors.

E(n, s) = c + A fall(n + worth of s), each shape a fall and a worth:

    fall   power      ((n0 + m) / (n0 + 1))^-b                  Mahmood et al. 2022, with an offset n0
           logistic   (n0^b + 1) / (n0^b + m^b)                 M4 with α = 1 of Alabdulmohsin et al. 2022
    worth  power      m = n + k s^γ (n + n0)^δ                  effective data
           saturating m = n + k (n + n0)^δ s^γ / (s^γ + s1^γ)   the same, where renders have only so much to teach;
                      s1 = s2 (n + n0)^-ε
           gap        m = n, and the fall times g + (1 - g) (1 + s / s1)^-α    Mikami et al. 2021, their γ + s^-α

Counts are in units of their geometric means, so that priors need no units; both falls bend at n0, where a model has
learned too little to be better than chance. Parameters are logarithms (δ, ε and the logit of g aside), priors normal.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

OFFSET_SD = 0.7  # of a method's worth about that of all, as a logarithm
DERIVATIVE_STEP = 1e-5


@dataclass(frozen=True)
class Scale:
    """The units of a table: geometric means of its positive counts and of its errors, and the least of each.

    least_real and least_synthetic are of the positive counts, in these units; 1 where there is none.
    """

    real: float
    synthetic: float
    error: float
    least_real: float
    least_synthetic: float
    least_error: float

    @classmethod
    def of(cls, real: Floats, synthetic: Floats, error: Floats) -> "Scale":
        n, s = real[real > 0], np.unique(synthetic[synthetic > 0])
        mid_n = _geometric_mean(n) if n.size else 1.0
        mid_s = _geometric_mean(s) if s.size else 1.0
        least_n, least_s = (float(n.min()) if n.size else 1.0), (float(s.min()) if s.size else 1.0)
        return cls(mid_n, mid_s, _geometric_mean(error), least_n / mid_n, least_s / mid_s, float(error.min()))


@dataclass(frozen=True)
class Form:
    """One shape. `num_groups` methods with synthetic images have a worth of their own, about a common one."""

    fall: Literal["power", "logistic"]
    worth: Literal["power", "saturating", "gap"]
    num_groups: int

    @property
    def name(self) -> str:
        return f"{self.fall} fall, {self.worth} worth"

    def prior(self, scale: Scale) -> tuple[Floats, Floats]:
        """Means and standard deviations of the parameters, each (p,)."""
        rows = [
            (np.log(0.5 * scale.error), 2.0),  # A
            (np.log(0.5), 0.4),  # b: 0.3 to 1.1 on image tasks (Hestness et al. 2017, Rosenfeld et al. 2020)
            (np.log(0.4 * scale.least_error), 1.0),  # c
            (np.log(scale.least_real) - 0.7, 1.5),  # n0
        ]
        if self.worth == "power":
            rows += [(np.log(0.15), 1.5), (np.log(0.6), 0.5), (0.0, 0.5)]  # k, γ, δ
        elif self.worth == "saturating":
            rows += [(np.log(0.3), 1.5), (np.log(0.7), 0.5), (0.0, 0.5), (0.0, 2.0), (0.0, 0.5)]  # k, γ, δ, s2, ε
        else:
            rows += [(1.0, 1.5), (np.log(0.5), 0.5), (-1.0, 2.0)]  # logit g, α, s1
        rows += [(0.0, OFFSET_SD)] * self.num_offsets
        mean, sd = np.array(rows).T
        return mean, sd

    @property
    def num_offsets(self) -> int:
        return self.num_groups if self.num_groups > 1 else 0

    def log_error(self, parameters: Floats, real: Floats, synthetic: Floats, group: NDArray[np.intp]) -> Floats:
        """log E (m, n) of parameters (m, p) at counts (n,) in units of the scale. `group` (n,) is read where
        synthetic > 0."""
        log_a, log_b, log_c, log_n0 = (parameters[:, i, None] for i in range(4))
        own = parameters[:, 4:, None]
        b, n0 = np.exp(log_b), np.exp(log_n0)
        has = synthetic > 0
        log_s = np.log(np.where(has, synthetic, 1.0))
        offset: Floats | float = 0.0
        if self.num_offsets:
            offset = parameters[:, -self.num_offsets :][:, np.where(has, group, 0)]
        log_gap: Floats | float = 0.0
        if self.worth == "gap":
            g = special.expit(own[:, 0] - offset)
            log_gap = np.log(g + (1 - g) * np.exp(-np.exp(own[:, 1]) * np.log1p(synthetic / np.exp(own[:, 2]))))
            data = np.broadcast_to(real, (len(parameters), len(real)))
        else:
            log_n, gamma = np.log(real + n0), np.exp(own[:, 1])
            if self.worth == "power":
                rise = np.exp(gamma * log_s)
            else:
                rise = special.expit(gamma * (log_s - own[:, 3] + own[:, 4] * log_n))
            data = real + has * rise * np.exp(own[:, 0] + offset + own[:, 2] * log_n)
        if self.fall == "power":
            log_fall = -b * np.log((n0 + data) / (n0 + 1))
        else:
            log_fall = np.log1p(n0**b) - np.log(n0**b + data**b)
        log_error: Floats = np.log(np.exp(log_c) + np.exp(log_a + log_fall + log_gap))
        return log_error

    def linearised(
        self, parameters: Floats, real: Floats, synthetic: Floats, group: NDArray[np.intp]
    ) -> tuple[Floats, Floats]:
        """log E (m, n) and its derivatives by the parameters (m, n, p)."""
        many, size = parameters.shape
        moved = parameters + DERIVATIVE_STEP * np.concatenate([np.zeros((1, size)), np.eye(size)])[:, None]
        values = self.log_error(moved.reshape(-1, size), real, synthetic, group).reshape(size + 1, many, -1)
        return values[0], np.moveaxis(values[1:] - values[0], 0, -1) / DERIVATIVE_STEP


def forms(num_groups: int, *, synthetic: bool) -> tuple[Form, ...]:
    """All shapes; where no cell has synthetic images their worths are one, and the first is taken."""
    worths: tuple[Literal["power", "saturating", "gap"], ...] = ("power", "saturating", "gap")
    falls: tuple[Literal["power", "logistic"], ...] = ("power", "logistic")
    return tuple(Form(fall, worth, num_groups) for fall in falls for worth in (worths if synthetic else worths[:1]))


def _geometric_mean(values: Floats) -> float:
    return float(np.exp(np.mean(np.log(values))))
