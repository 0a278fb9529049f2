"""Optimum: the value of an axis at which the best recipe lies, as a distribution and not as a point.

In each joint draw of the recipes' means one recipe is the best, and lies somewhere on the axis: that distribution of
the argmax is the answer. Where it covers nearly everything that was tried the curve is flat, as far as the runs tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.axes import Axis, quantity
from analysis.posterior import Posterior

_FLAT = 0.8


@dataclass(frozen=True)
class Optimum:
    """Where the best is on an axis: weighted quantiles of the values tried, and the probability of each value.

    labels       the number of labelled real images at which this is so; None where any number will do
    num_recipes  that have a place on the axis
    flat         the interval holds more than 80% of the values tried
    """

    axis: Axis
    labels: int | None
    coverage: float
    median: float
    low: float
    high: float
    probabilities: Mapping[float, float]
    num_recipes: int

    @property
    def flat(self) -> bool:
        inside = sum(self.low <= value <= self.high for value in self.probabilities)
        return inside > _FLAT * len(self.probabilities)

    def __str__(self) -> str:
        """In words: "the best synthetic share is 0.5, 90% interval 0.25 to 0.75 (tried: 0 to 1)"."""
        name = _WORDS[self.axis] + ("" if self.labels is None else f" at {self.labels} labels")
        tried = sorted(self.probabilities)
        number = ",.0f" if self.axis.startswith("num_") else ".4g"
        span = f"{self.low:{number}} to {self.high:{number}}"
        if self.flat:
            return (
                f"{name}: the curve is flat as far as these runs tell; the best may be anywhere from {span} of the"
                f" {len(tried)} values tried"
            )
        sure = f"{self.coverage:.0%} interval {span}" if self.low < self.high else f"{self.coverage:.0%} sure"
        edge = {tried[0]: "lowest", tried[-1]: "highest"}.get(self.median)
        hint = f"; it is the {edge} tried, so the best may lie beyond" if edge and 0 < self.median != 1 else ""
        return f"{name}: best at {self.median:{number}}, {sure}, of {len(tried)} values tried{hint}"


_WORDS: dict[Axis, str] = {
    "synthetic_share": "synthetic share",
    "real_fraction": "real fraction",
    "num_real_labels": "number of labelled real images",
    "num_synthetic": "number of synthetic images",
}


def optimum(posterior: Posterior, axis: Axis, *, labels: int | None = None, coverage: float = 0.9) -> Optimum | None:
    """The optimum of the recipes that have a place on the axis (at `labels` labelled real images, if given).

    None where these were tried at fewer than two values: then there is no optimum to speak of.
    """
    places = [
        quantity(axis, candidate.rows[0]) if labels in (None, candidate.rows[0].num_real_labels) else None
        for candidate in posterior.candidates
    ]
    where = np.flatnonzero([place is not None for place in places])
    values = np.array([places[i] for i in where], dtype=float)
    if len(set(values.tolist())) < 2:
        return None
    best = values[posterior.better[:, where].argmax(axis=1)]
    low, median, high = np.quantile(best, [(1 - coverage) / 2, 0.5, (1 + coverage) / 2], method="inverted_cdf")
    probabilities = {float(value): float((best == value).mean()) for value in np.unique(values)}
    return Optimum(axis, labels, coverage, float(median), float(low), float(high), probabilities, len(where))
