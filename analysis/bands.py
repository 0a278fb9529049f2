"""Band: what a fitted law says along each line of a curve, with an interval for a run that has not been made.

A law speaks of counts of images and of a method; a line has a recipe at each x, and between two x the counts lie
between those of the two recipes. Inside the range that a line measured the interval is drawn; beyond it, up to the
range that the other lines measured, only the law's middle: it is extrapolated, and no interval was calibrated there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.axes import Axis
from analysis.curves import Curve, Line, direction, is_geometric
from analysis.laws import law_of
from analysis.runs import Table

COVERAGE = 0.9
NUM_PLACES = 65  # along a line

Floats = NDArray[np.float64]


class Law(Protocol):
    """An error, lower is better, by counts of real and synthetic images and by method."""

    def predict(self, real: ArrayLike, synthetic: ArrayLike, group: str | None = None) -> Floats: ...

    def interval(
        self, real: ArrayLike, synthetic: ArrayLike, group: str | None = None, coverage: float = COVERAGE
    ) -> tuple[Floats, Floats]: ...


@dataclass(frozen=True)
class Band:
    """A law along a line, in the units of the metric that is drawn; arrays [n], by x.

    real, synthetic   counts of images there
    inside            whether x lies in the range that the line measured
    """

    x: Floats
    real: Floats
    synthetic: Floats
    middle: Floats
    low: Floats
    high: Floats
    inside: NDArray[np.bool_]


def with_bands(drawn: Curve, law: Law) -> Curve:
    """The same curve, with a band on each line along which x varies and whose counts of images are known.

    An error is the metric where less is better, and 1 - metric where more is; a method is named by its schedule and
    adaptation, `finetune + real_bn`, and is None where no synthetic image is read. Over `synthetic_share` no line has a
    band, since the share is not a count; nor has one of several sources, which a law does not tell apart.
    """
    if drawn.axis == "synthetic_share":
        return drawn
    x = sorted({point.x for line in drawn.sweeps for point in line.points})
    if len(x) < 2:
        return drawn
    places = np.geomspace(x[0], x[-1], NUM_PLACES) if is_geometric(x) else np.linspace(x[0], x[-1], NUM_PLACES)
    places[[0, -1]] = x[0], x[-1]
    return replace(drawn, lines=tuple(_with_band(line, drawn, places, law) for line in drawn.lines))


def with_laws(table: Table, drawn: Sequence[Curve]) -> tuple[tuple[Curve, ...], tuple[str, ...]]:
    """Curves of a table with the bands of their metrics' laws, and a sentence on each law, or on why there is none."""
    found, said = [], []
    for each in drawn:
        if each.axis == "synthetic_share":
            found.append(each)
            continue
        try:
            law = law_of(table, each.metric)
        except ValueError as reason:
            found.append(each)
            said.append(f"The curve has no band: {reason}.")
            continue
        found.append(with_bands(each, law))
        said.append(law.sentence(each.metric))
    return tuple(found), tuple(said)


def _with_band(line: Line, drawn: Curve, places: Floats, law: Law) -> Line:
    if line.reference or line.source or len(line.points) < 2:
        return line
    own = np.array([point.x for point in line.points])
    x = np.union1d(places, own)
    counts = _counts(line, drawn.axis, x)
    if counts is None:
        return line
    real, synthetic = counts
    reads_synthetic = bool((synthetic > 0).any())
    group = line.schedule + (f" + {line.adaptation}" if line.adaptation != "none" else "") if reads_synthetic else None
    middle = np.asarray(law.predict(real, synthetic, group), np.float64)
    low, high = (np.asarray(bound, np.float64) for bound in law.interval(real, synthetic, group, COVERAGE))
    if direction(drawn.metric, drawn.objective, drawn.mode) == "max":
        middle, low, high = 1 - middle, 1 - high, 1 - low
    inside = (x >= own[0]) & (x <= own[-1])
    return replace(line, band=Band(x, real, synthetic, middle, low, high, inside))


def _counts(line: Line, axis: Axis, x: Floats) -> tuple[Floats, Floats] | None:
    """The real and synthetic images at x; None where a run does not say how many it had.

    What x counts is proportional to x (an image more or less: fractions are rounded), the other is taken between the
    two recipes beside x, and is that of the last recipe beyond it.
    """
    own, real, synthetic = [], [], []
    for point in line.points:
        row, recipe = point.rows[0], point.recipe
        counts = (
            0 if recipe.real_fraction is None else row.num_real_labels,
            0 if recipe.synthetic_fraction is None else row.num_synthetic,
        )
        if None in counts:
            return None
        own.append(point.x)
        real.append(float(counts[0] or 0))
        synthetic.append(float(counts[1] or 0))
    swept = real if axis in ("real_fraction", "num_real_labels") else synthetic
    scaled = x * (swept[-1] / own[-1])
    other = np.interp(x, own, synthetic if swept is real else real)
    return (scaled, other) if swept is real else (other, scaled)
