"""Calibration: how far a new cell lies from what a law says of it, learned from the cells themselves.

Each cell is left out in turn: the law's components, reweighted as if they had never seen it, say where it should be,
and where it is becomes a normal score (0 at the median, ±1.645 at the ends of the law's own 90%). Were the law right
these scores would be standard normal; the quantile of those that were found takes the place of the normal one
(conformal prediction; Vovk et al. 2005, scaled by the law's own uncertainty as in Lei et al. 2018).
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.law_fit import Component, weights
from analysis.law_forms import Floats

COVERAGE = 0.9  # at which a law's own is measured


@dataclass(frozen=True)
class Calibration:
    """scores: of each cell left out (n,). errors: |predicted - measured| / measured of each, from the others."""

    scores: Floats
    errors: Floats

    def multiple(self, coverage: float) -> float:
        """The normal score within which a new cell lies with this probability."""
        return _multiple(np.abs(self.scores), coverage)

    @property
    def coverage(self) -> float:
        """The part of the cells inside the 90% intervals that the others give, calibration included."""
        away = np.abs(self.scores)
        inside = [score <= _multiple(np.delete(away, i), COVERAGE) for i, score in enumerate(away)]
        return float(np.mean(inside))


def calibrate(components: list[Component]) -> Calibration:
    """From the components' predictions of each cell from the others, the form linearised."""
    away = np.array([component.left_out for component in components])
    sd = np.array([component.left_out_sd for component in components])
    # p(component | all but i) is proportional to p(component | all) / p(i | component, all but i).
    likelihood = -np.log(sd) - 0.5 * (away / sd) ** 2
    weight = special.softmax(np.log(weights(components))[:, None] - likelihood, axis=0)
    below = np.sum(weight * special.ndtr(away / sd), axis=0)
    scores = special.ndtri(np.clip(below, 1e-12, 1 - 1e-12))
    return Calibration(scores, np.abs(np.expm1(-np.sum(weight * away, axis=0))))


def _multiple(away: Floats, coverage: float) -> float:
    """The conformal quantile; where the cells are too few for it, the largest score, in proportion."""
    rank = coverage * (len(away) + 1)
    nominal = float(special.ndtri((1 + coverage) / 2))
    if rank > len(away):
        last = special.ndtri((1 + len(away) / (len(away) + 1)) / 2)
        return float(away.max() * nominal / last)
    return float(np.interp(rank, np.arange(1, len(away) + 1), np.sort(away)))
