"""The picture of exchange rates: how many labelled real images one synthetic image is worth, against the real images
that there are; a line for each number of synthetic images, with its 90% interval, as far as it can be told."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from plotly.subplots import make_subplots

from analysis import interactive, plots, tables, ticks
from analysis.curves import is_geometric
from analysis.exchange import Band, ExchangeRate, exchange_rate
from analysis.style import ADAPTED, DASHES
from analysis.worth import Worth

NUM_PLACES = 60  # along a line
MOST_LINES = 3
PANELS = {"average": "each of them", "marginal": "the next one"}
X_LABEL = ticks.AXIS_LABELS["num_real_labels"]
SCHEMA = pa.schema(
    [
        ("metric", pa.string()),
        ("method", pa.string()),
        ("num_real_labels", pa.float64()),
        ("num_synthetic", pa.float64()),
        ("rate", pa.string()),
        ("median", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("beyond", pa.bool_()),
    ]
)


def rates(found: Worth) -> tuple[ExchangeRate, ...]:
    """Along the real counts that were measured, for the most synthetic images of the method, a middle number and the
    fewest; NaN where an end of the interval is infinite. None where that is so everywhere, and for one real count."""
    if len(found.place.reals) < 2:
        return ()
    law, place = found.law, found.place
    own = np.array([group == place.group for group in law.group])
    counts = np.union1d(law.synthetic[own & (law.synthetic > 0)], [place.synthetic])[::-1]
    kept = counts[np.unique(np.linspace(0, len(counts) - 1, MOST_LINES).round().astype(int))]
    spaced = np.geomspace if _log(found) else np.linspace
    real = spaced(place.reals[0], place.reals[-1], NUM_PLACES)
    drawn = (_told(exchange_rate(law, real, count, place.group)) for count in kept)
    return tuple(rate for rate in drawn if np.isfinite(rate.average.median).any())


def draw(found: Worth, drawn: Sequence[ExchangeRate]) -> Figure:
    """Two panels: what each of the synthetic images is worth, and what the next one is."""
    figure = Figure(figsize=(ticks.WIDTH, 4.4), dpi=150, layout="constrained")
    figure.suptitle(_title(found), x=0.01, ha="left", fontsize="large", fontweight="bold")
    axes = figure.subplots(1, len(PANELS), sharey=True)
    limits = _limits(drawn)
    for each, (name, title) in zip(axes, PANELS.items(), strict=True):
        each.axhline(0, color="#888888", linewidth=0.8)
        for line, rate in enumerate(drawn):
            _line(each, rate, getattr(rate, name), line, limits)
        if _log(found):
            each.set_xscale("log")
            each.xaxis.set_minor_formatter(NullFormatter())
        each.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        each.set_title(title, loc="left", fontsize="medium")
        each.set_xlabel(X_LABEL)
        each.set_ylim(*limits)
        each.grid(axis="y", color="#dddddd", linewidth=0.8)
        each.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("real images for one synthetic image")
    handles, labels = axes[0].get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=MOST_LINES,
        frameon=False,
        fontsize="small",
        handlelength=3.4,
        title=_caption(found, drawn),
        title_fontsize="small",
        alignment="left",
    )
    legend.get_title().set_color("#555555")
    return figure


def figure(found: Worth, drawn: Sequence[ExchangeRate]) -> go.Figure:
    """The same to point at."""
    titles = list(PANELS.values())
    picture = make_subplots(1, len(PANELS), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04)
    low, high = _limits(drawn)
    for column, name in enumerate(PANELS, 1):
        for line, rate in enumerate(drawn):
            band: Band = getattr(rate, name)
            colour, label = ADAPTED[line], _label(rate)
            ends = [np.clip(end, 10 * low - 9 * high, 10 * high - 9 * low) for end in (band.high, band.low)]
            shared = {"legendgroup": label, "name": label, "hoverinfo": "skip"}
            picture.add_trace(
                go.Scatter(
                    x=[*rate.real, *rate.real[::-1]],
                    y=[*ends[0], *ends[1][::-1]],
                    fill="toself",
                    line={"width": 0},
                    fillcolor=colour,
                    opacity=0.15,
                    showlegend=False,
                    **shared,
                ),
                row=1,
                col=column,
            )
            told = [
                f"{median:.3g} real images ({a:.3g} to {b:.3g}) for one synthetic,<br>at {real:,.0f} real and"
                f" {rate.synthetic[0]:,.0f} synthetic" + ("; beyond what was measured" if beyond else "")
                for real, median, a, b, beyond in zip(
                    rate.real, band.median, band.low, band.high, rate.beyond, strict=True
                )
            ]
            picture.add_trace(
                go.Scatter(
                    x=rate.real,
                    y=band.median,
                    mode="lines",
                    line={"color": colour, "dash": ("solid", "dash", "dot")[line]},
                    text=told,
                    showlegend=column == 1,
                    **shared | {"hoverinfo": "text"},
                ),
                row=1,
                col=column,
            )
        picture.update_xaxes(
            title=X_LABEL, type="log" if _log(found) else "linear", tickformat=",~g", row=1, col=column
        )
    picture.update_yaxes(range=[low, high], showgrid=True, gridcolor="#dddddd", zeroline=True)
    picture.update_yaxes(title="real images for one synthetic image", row=1, col=1)
    return picture.update_layout(
        **interactive.LAYOUT | {"margin": {"l": 70, "r": 20, "t": interactive.TOP + 30, "b": 100}},
        title=interactive.heading(_title(found), _caption(found, drawn)),
        height=560,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "itemwidth": 50},
    )


def save(found: Worth, folder: Path) -> tuple[Path, ...]:
    """Writes exchange.png, .svg, .html, .csv and .parquet into an existing folder; nothing where no rate is known."""
    drawn = rates(found)
    if not drawn:
        return ()
    page = interactive.save([figure(found, drawn)], folder, "exchange", _title(found))
    return (
        *plots.save(draw(found, drawn), folder, "exchange"),
        page,
        *tables.save(points(found, drawn), folder, "exchange"),
    )


def points(found: Worth, drawn: Sequence[ExchangeRate]) -> pa.Table:
    """Every place of every line; null where a rate is not known."""
    records = [
        dict(zip(SCHEMA.names, (found.metric, found.place.group, real, synthetic, name, *values, beyond), strict=True))
        for rate in drawn
        for name in PANELS
        for band in (getattr(rate, name),)
        for real, synthetic, *values, beyond in zip(
            *(part.tolist() for part in (rate.real, rate.synthetic, band.median, band.low, band.high, rate.beyond)),
            strict=True,
        )
    ]
    nulled = [{name: None if value != value else value for name, value in record.items()} for record in records]
    return pa.Table.from_pylist(nulled, SCHEMA)


def _line(axes: Axes, rate: ExchangeRate, band: Band, line: int, limits: tuple[float, float]) -> None:
    """Dashed by the line, and faint where the law extrapolates."""
    colour, dashes = ADAPTED[line], DASHES[line]
    low, high = (np.clip(end, limits[0] - 1, limits[1] + 1) for end in (band.low, band.high))
    axes.fill_between(rate.real, low, high, color=colour, alpha=0.12, linewidth=0)
    style = (0, dashes) if dashes else "-"
    axes.plot(rate.real, band.median, color=colour, linestyle=style, linewidth=1.6, alpha=0.35)
    measured = np.where(rate.beyond, np.nan, band.median)
    axes.plot(rate.real, measured, color=colour, linestyle=style, linewidth=1.6, label=_label(rate))


def _limits(drawn: Sequence[ExchangeRate]) -> tuple[float, float]:
    """Of y: the medians and 0, and of the bands as much again."""
    bands = [band for rate in drawn for band in (rate.average, rate.marginal)]
    medians = np.concatenate([band.median for band in bands])
    ends = np.concatenate([end for band in bands for end in band.bounds])
    known = medians[np.isfinite(medians)]
    least, most = min(0.0, known.min(initial=0.0)), max(0.0, known.max(initial=0.0))
    span = (most - least) or 1.0
    ends = np.clip(ends[np.isfinite(ends)], least - span, most + span)
    low, high = ends.min(initial=least), ends.max(initial=most)
    return float(low - 0.05 * span), float(high + 0.05 * span)


def _told(rate: ExchangeRate) -> ExchangeRate:
    bands = []
    for band in (rate.marginal, rate.average):
        known = np.isfinite(band.bounds).all(axis=0)
        bands.append(Band(*(np.where(known, values, np.nan) for values in (band.median, *band.bounds))))
    return replace(rate, marginal=bands[0], average=bands[1])


def _log(found: Worth) -> bool:
    return len(found.place.reals) > 1 and is_geometric(found.place.reals)


def _label(rate: ExchangeRate) -> str:
    return f"{rate.synthetic[0]:,.0f} synthetic images"


def _title(found: Worth) -> str:
    return f"{found.search}: what a synthetic image is worth, by {found.metric}"


def _caption(found: Worth, drawn: Sequence[ExchangeRate]) -> str:
    coverage = f"{drawn[0].coverage:.0%}"
    gaps = "; no line: it cannot be told" if any(np.isnan(r.marginal.median).any() for r in drawn) else ""
    faint = "; faint: beyond the real images alone that were measured" if any(r.beyond.any() for r in drawn) else ""
    return (
        f"{found.place.group}; shaded: {coverage} interval{faint}{gaps};\n"
        "images are those of the training set: their share of each batch is another axis,"
        " and labels of the validation set cost too"
    )
