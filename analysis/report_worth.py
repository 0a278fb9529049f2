"""The sections of a report on what synthetic images are worth: exchange rate, labels saved, what to spend on next.

All of it is of one method, the best that trains on both kinds of images, and comes from the fitted law, whose error
beside "no change" and whose coverage are said (analysis/worth.py).
"""

from analysis import rates
from analysis.prices import Gain, Prices, advise
from analysis.report_blocks import Block, Bullets, Grid, Section, Text
from analysis.report_context import Context
from analysis.report_figures import picture
from analysis.worth import HEADER, Worth, rows


def worth(context: Context) -> Section | None:
    """How many labelled real images a synthetic one is worth, and how many labels the synthetic ones save."""
    if context.winner is None:
        return None
    if context.law is None:
        text = Text(f"It cannot be said what a synthetic image is worth: {context.no_law}.", "warning")
        return Section("worth", "What synthetic images are worth", (text,))
    found = context.worth
    if found is None:
        return None
    blocks: list[Block] = []
    drawn = rates.rates(found)
    if drawn:
        figure = rates.draw(found, drawn)
        blocks.append(picture("exchange", figure, "exchange rates against labelled real images"))
    error = f"1 - {found.metric}" if context.table.mode == "max" else found.metric
    blocks += [_savings(found), Text(f"{found.law.sentence(found.metric)} The error is {error}.", "small")]
    return Section("worth", "What synthetic images are worth", tuple(blocks))


def _savings(found: Worth) -> Grid:
    caption = (
        f"With {found.place.synthetic:,.0f} synthetic images, by `{found.place.group}`: how many real images alone"
        " would do as well, and how many real images one synthetic image is worth. * beyond what was measured: the"
        " law's word alone."
    )
    return Grid(HEADER, tuple(rows(found)), caption=caption)


def spend(context: Context) -> Section | None:
    """What to spend on next: labels, renders, or the renderer; without prices, the price at which it turns."""
    found = context.worth if context.winner is not None else None
    if found is None:
        return None
    at, lines = found.place, list(found.spending)
    parts = found.advice or advise(found.law, Prices(1.0, 1.0), at.real, at.synthetic, at.group)
    lines.append(_bought("More renders of this kind, however many,", parts.left))
    lines.append(_bought("Photographs in the place of those, as a perfect renderer would make them,", parts.floor))
    return Section("spend", "What to spend on next", (Bullets(tuple(lines)),))


def _bought(what: str, gain: Gain) -> str:
    interval = f"90% interval {gain.low:.2g} to {gain.high:.2g}"
    if gain.low > 0:
        return f"{what} would lower the error by {gain.median:.2g} ({interval})."
    return f"{what} cannot be told to lower the error ({interval} of lowering it)."
