"""The sections of a report on what synthetic images are worth: exchange rate, labels saved, what to spend on next.

All of it is of one method, the winner's, or, where that reads no synthetic images, the best that does; and all of it
comes from the fitted law, whose error beside "no change" and whose coverage are said.
"""

import math
from dataclasses import dataclass

import numpy as np

from analysis.exchange import exchange_rate, saving
from analysis.laws import Law
from analysis.prices import Gain, Prices, advise
from analysis.report_blocks import Block, Bullets, Grid, Section, Text
from analysis.report_context import Context
from analysis.report_figures import line_with_band, picture
from analysis.runs import Table
from analysis.wording import percent

MOST_COUNTS = 10  # real counts in a table
NUM_PLACES = 60  # along the curve of the rate
MOSTLY = 0.5  # of a curve must be known, or it is not drawn


@dataclass(frozen=True)
class Place:
    """Where rates are asked: a method, as laws call it, its synthetic images, and real counts that were measured."""

    group: str
    synthetic: float
    reals: tuple[float, ...]
    total: float  # all labelled real images that there are


def place_of(context: Context, law: Law) -> Place | None:
    """None where no finished recipe trains on both kinds of images."""
    reals = sorted({float(n) for n in law.real if n > 0})
    for candidate in context.decision.candidates:
        recipe, row = candidate.recipe, candidate.rows[0]
        both = recipe.real_fraction is not None and recipe.synthetic_fraction is not None
        if not both or not row.num_synthetic or not reals:
            continue
        group = recipe.schedule + ("" if recipe.adaptation in (None, "none") else f" + {recipe.adaptation}")
        if group in law.groups:
            kept = [reals[i] for i in np.unique(np.linspace(0, len(reals) - 1, MOST_COUNTS).round().astype(int))]
            return Place(group, float(row.num_synthetic), tuple(kept), reals[-1])
    return None


def worth(context: Context) -> Section | None:
    """How many labelled real images a synthetic one is worth, and how many labels the synthetic ones save."""
    if context.winner is None:
        return None
    law = context.law
    if law is None:
        text = Text(f"It cannot be said what a synthetic image is worth: {context.no_law}.", "warning")
        return Section("worth", "What synthetic images are worth", (text,))
    at = place_of(context, law)
    if at is None:
        return None
    counts = np.geomspace(at.reals[0], at.reals[-1], NUM_PLACES) if len(at.reals) > 1 else np.array(at.reals)
    rate = exchange_rate(law, counts, at.synthetic, at.group)
    band = (rate.average.median, rate.average.low, rate.average.high)
    blocks: list[Block] = []
    if len(at.reals) > 1 and np.isfinite(rate.average.median).mean() > MOSTLY:
        labels = ("labelled real images", f"real images that one of {at.synthetic:,.0f}\nsynthetic images is worth")
        figure = line_with_band(counts.tolist(), *(values.tolist() for values in band), labels=labels)
        blocks.append(picture("exchange", figure, "exchange rate against labelled real images", _caption(at)))
    blocks += [_savings(law, at), Text(_law_in_words(law, context.table), "small")]
    return Section("worth", "What synthetic images are worth", tuple(blocks))


def _caption(at: Place) -> str:
    return (
        f"Exchange rate of `{at.group}`, averaged over its {at.synthetic:,.0f} synthetic images; shaded: 90%. Counted"
        " are images in the training set; their share of each batch is another axis, and validation labels cost too."
    )


def _savings(law: Law, at: Place) -> Grid:
    rate = exchange_rate(law, np.array(at.reals), at.synthetic, at.group)
    rows = []
    for i, real in enumerate(at.reals):
        found = saving(law, real, at.synthetic, at.group)
        rows.append(
            (
                f"{real:,.0f} ({percent(real / at.total)})",
                _count(found.equivalent),
                _from_to(_count(found.low), _count(found.high)) + (" *" if found.beyond else ""),
                _count(found.saved),
                _rate(float(rate.average.median[i])),
                _with_interval(*(float(v[i]) for v in (rate.marginal.median, rate.marginal.low, rate.marginal.high))),
            )
        )
    header = ("real labels (share)", "as good as", "90% interval", "labels saved", "worth of each", "worth of the next")
    caption = (
        f"With {at.synthetic:,.0f} synthetic images, by `{at.group}`: how many real images alone would do as well, and"
        " how many real images one synthetic image is worth. * beyond what was measured: the law's word alone."
    )
    return Grid(header, tuple(rows), caption=caption)


def spend(context: Context) -> Section | None:
    """What to spend on next: labels, renders, or the renderer; without prices, the price at which it turns."""
    law = context.law if context.winner is not None else None
    at = None if law is None else place_of(context, law)
    if law is None or at is None or context.winner is None:
        return None
    winner = context.winner.rows[0]
    real = float(winner.num_real_labels or at.reals[-1])
    rate = exchange_rate(law, [real], at.synthetic, at.group)
    lines = []
    where = f"At {real:,.0f} real and {at.synthetic:,.0f} synthetic images"
    if context.prices is not None:
        lines.append(advise(law, context.prices, real, at.synthetic, at.group).text)
    next_one, low, high = (float(v[0]) for v in (rate.marginal.median, rate.marginal.low, rate.marginal.high))
    if math.isfinite(next_one) and next_one > 0:
        lines.append(
            f"{where} rendering more is the better buy while an image rendered costs less than {_rate(next_one)} of one"
            f" labelled (90% interval {_rate(low)} to {_rate(high)})."
        )
    else:
        unbounded = math.isinf(low) and math.isinf(high)
        interval = "" if unbounded else f" (90% interval {_rate(low)} to {_rate(high)} labels)"
        lines.append(f"{where} it cannot be told what another image rendered is worth{interval}.")
    parts = advise(law, context.prices or Prices(1.0, 1.0), real, at.synthetic, at.group)
    lines.append(_bought("More renders of this kind, however many,", parts.left))
    lines.append(_bought("Photographs in the place of those, as a perfect renderer would make them,", parts.floor))
    return Section("spend", "What to spend on next", (Bullets(tuple(lines)),))


def _law_in_words(law: Law, table: Table) -> str:
    metric = table.metric
    error = f"1 - {metric}" if table.mode == "max" else metric
    return (
        f"From a law fitted to {len(law.error)} cells (real count, synthetic count, method) of {metric}: left out, a"
        f" cell is predicted within {law.relative_error:.1%} of its error on average, against {law.baseline:.1%} by the"
        f" nearest other cell (no change); its 90% intervals hold {law.coverage:.0%} of them. The error is {error}."
    )


def _bought(what: str, gain: Gain) -> str:
    interval = f"90% interval {gain.low:.2g} to {gain.high:.2g}"
    if gain.low > 0:
        return f"{what} would lower the error by {gain.median:.2g} ({interval})."
    return f"{what} cannot be told to lower the error ({interval} of lowering it)."


def _from_to(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _with_interval(rate: float, low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high) and low < high:
        return "cannot be told"
    return f"{_rate(rate)} ({_rate(low)} to {_rate(high)})"


def _count(value: float) -> str:
    if math.isinf(value):
        return "more than any" if value > 0 else "none"
    return f"{value:,.0f}"


def _rate(value: float) -> str:
    if math.isnan(value):
        return ""
    return ("∞" if value > 0 else "-∞") if math.isinf(value) else f"{value:.2g}"
