"""Worth: what the synthetic images of a search are worth, by the law of a metric: the law with its measured coverage,
exchange rates, the labels saved, and what to buy next under the user's prices."""

import math
from dataclasses import dataclass

import numpy as np

from analysis.exchange import Band, ExchangeRate, Place, Saving, exchange_rate, place_of, savings
from analysis.laws import Law, law_of
from analysis.prices import Advice, Prices, Split, advise, best_split
from analysis.ranking import rank
from analysis.runs import Table
from analysis.wording import percent

MOST_COUNTS = 10  # real counts in a table
HEADER = ("real labels (share)", "as good as", "90% interval", "labels saved", "worth of each", "worth of the next")


@dataclass(frozen=True)
class Worth:
    """Of one method, with the synthetic images of its best recipe (`place`).

    rates    at each real count that was measured; savings alike
    advice   going on from that recipe; None without prices
    split    of the money that its images cost; None without prices
    """

    search: str
    metric: str
    law: Law
    place: Place
    rates: ExchangeRate
    savings: tuple[Saving, ...]
    advice: Advice | None
    split: Split | None

    @property
    def lines(self) -> tuple[str, ...]:
        """What it comes to, a sentence each."""
        found = [self.law.sentence(self.metric), f"{self.place.group}: {self.headline.sentence(self.place.total)}."]
        if not (self.law.synthetic == 0).any():
            found.append("No recipe trained on real images alone: what they would reach is the law's word.")
        if not self.law.replicated:
            found.append("Every cell has one seed alone: how much of its error is chance is the law's guess.")
        return (*found, *self.spending)

    @property
    def spending(self) -> tuple[str, ...]:
        """What to spend on next, a sentence each: by the prices, and at which price it turns."""
        found = [told.text for told in (self.advice, self.split) if told is not None]
        if not found:
            found.append("What to buy next takes your prices: give --real-label and --synthetic-image.")
        at = self.place.reals.index(self.place.real)
        rate, low, high = (float(part[at]) for part in (self.rates.marginal.median, *self.rates.marginal.bounds))
        where = f"At {self.place.real:,.0f} real and {self.place.synthetic:,.0f} synthetic images"
        interval = f"{self.rates.coverage:.0%} interval {rate_in_words(low)} to {rate_in_words(high)}"
        if low > 0 and math.isfinite(rate):
            found.append(
                f"{where} rendering more is the better buy while an image rendered costs less than"
                f" {rate_in_words(rate)} of one labelled ({interval})."
            )
        elif high < 0:
            found.append(
                f"{where} another image rendered does harm: it is worth {rate_in_words(rate)} of one labelled."
            )
        else:
            unbounded = math.isinf(low) or math.isinf(high)
            found.append(
                f"{where} it cannot be told whether another image rendered is worth anything"
                + ("." if unbounded else f" ({interval} labels).")
            )
        return tuple(found)

    @property
    def headline(self) -> Saving:
        """At the most real images whose equivalent was measured; where none was, at the fewest."""
        measured = [found for found in self.savings if found.told and not found.beyond]
        return measured[-1] if measured else self.savings[0]


def worth(
    table: Table,
    metric: str | None = None,
    method: str | None = None,
    *,
    law: Law | None = None,
    prices: Prices | None = None,
    budget: float | None = None,
    validation: float = 0.0,
) -> Worth:
    """By the law of `metric`, by default the objective, for `method`, by default the best that trains on both kinds of
    images. `law` may be given where it was fitted before; `budget` is what may be spent next, `validation` the labels
    of the validation set, which cost too. Raises ValueError, one line, where the runs cannot say."""
    law = law_of(table, metric) if law is None else law
    place = place_of(law, rank(table), method)
    advice = split = None
    if prices is not None:
        at = place.real, place.synthetic
        advice = advise(law, prices, *at, place.group, budget=budget, validation=validation)
        split = best_split(law, prices, prices.cost(*at), place.group)
    return Worth(
        search=table.search,
        metric=metric or table.metric,
        law=law,
        place=place,
        rates=exchange_rate(law, place.reals, place.synthetic, place.group),
        savings=savings(law, place.reals, place.synthetic, place.group),
        advice=advice,
        split=split,
    )


def rows(found: Worth) -> list[tuple[str, ...]]:
    """At each real count, or at some of them, under `HEADER`: what the synthetic images are worth, in words."""
    kept = np.unique(np.linspace(0, len(found.savings) - 1, MOST_COUNTS).round().astype(int)).tolist()
    return [
        (
            f"{saving.real:,.0f} ({percent(saving.real / found.place.total)})",
            _count(saving.equivalent) + (" *" if saving.beyond else "") if saving.told else "cannot be told",
            f"{_count(saving.low)} to {_count(saving.high)}" if saving.told else "",
            _count(saving.saved) if saving.told else "",
            _with_interval(found.rates.average, i),
            _with_interval(found.rates.marginal, i),
        )
        for i in kept
        for saving in (found.savings[i],)
    ]


def rate_in_words(rate: float) -> str:
    """Real images for one synthetic image."""
    if math.isnan(rate):
        return ""
    return ("∞" if rate > 0 else "-∞") if math.isinf(rate) else f"{rate:.2g}"


def _with_interval(band: Band, i: int) -> str:
    rate, low, high = (float(part[i]) for part in (band.median, *band.bounds))
    if math.isinf(low) and math.isinf(high) and low < high:
        return "cannot be told"
    return f"{rate_in_words(rate)} ({rate_in_words(low)} to {rate_in_words(high)})"


def _count(value: float) -> str:
    if math.isinf(value):
        return "any number" if value > 0 else "none"
    return f"{value:,.0f}"
