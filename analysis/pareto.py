"""Pareto front: the best quality that each cost buys, in labels, synthetic images or steps of training.

A recipe is on the front when none that costs as much or less is better on the objective, by means over seeds. The
front is chosen among many, so it is optimistic, and more so where recipes are many and seeds few; the bars of its
points are the lowest and the highest seed.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from plotly.subplots import make_subplots

from analysis import interactive, plots, tables, ticks
from analysis.ranking import Candidate, rank
from analysis.runs import Mode, Table, mean
from analysis.style import COLOURS, MARKERS
from analysis.wording import decimals

COSTS = {
    "num_real_labels": "labelled real images",
    "num_synthetic": "synthetic images",
    "steps": "training steps of all stages",
}
CAPTION = "each mark: a recipe; large: none that costs as much or less is better"
SCHEMA = pa.schema(
    [
        ("cost", pa.string()),
        ("value", pa.float64()),
        ("metric", pa.string()),
        ("mean", pa.float64()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("on_front", pa.bool_()),
        ("recipe", pa.string()),
        ("recipe_key", pa.string()),
        ("run_ids", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Offer:
    """A recipe, what it costs, and whether it is on the front."""

    candidate: Candidate
    cost: float
    on_front: bool


@dataclass(frozen=True)
class Front:
    """All recipes by one cost, cheapest first. cost: a name of `COSTS`."""

    search: str
    metric: str
    mode: Mode
    cost: str
    offers: tuple[Offer, ...]


def fronts(table: Table) -> tuple[Front, ...]:
    """One front of each cost that differs between recipes; a recipe that reads no images of a kind costs none of them.

    Raises ValueError where nothing finished, and where no cost differs.
    """
    ranked = rank(table)
    if not ranked:
        raise ValueError(f"search {table.search!r} must have a finished trial with {table.metric}, but has none")
    full = [c for c in ranked if min(len(c.values), table.seeds) == min(len(ranked[0].values), table.seeds)]
    found = []
    for name in COSTS:
        priced = [(cost, c) for c in full if (cost := _cost(c, name)) is not None]
        if len({cost for cost, _ in priced}) > 1:
            offers, best = [], -float("inf")
            for cost, candidate in sorted(priced, key=lambda one: (one[0], -table.sign * one[1].mean)):
                on_front = table.sign * candidate.mean > best
                best = max(best, table.sign * candidate.mean)
                offers.append(Offer(candidate, cost, on_front))
            found.append(Front(table.search, table.metric, table.mode, name, tuple(offers)))
    if not found:
        raise ValueError(
            f"the recipes of search {table.search!r} must differ in labels, synthetic images or steps to be weighed"
            " against them, but all that finished cost the same"
        )
    return tuple(found)


def _cost(candidate: Candidate, name: str) -> float | None:
    recipe = candidate.recipe
    if name == "num_real_labels" and recipe.real_fraction is None:
        return 0.0
    if name == "num_synthetic" and recipe.synthetic_fraction is None:
        return 0.0
    costs = [cost for row in candidate.rows if (cost := row.cost(name)) is not None]
    return mean(costs) if costs else None


def draw(drawn: Sequence[Front]) -> Figure:
    """A panel per cost, side by side: every recipe a faint mark, the front as steps with marks and bars."""
    first = drawn[0]
    figure = Figure(figsize=(ticks.WIDTH, 4.4), dpi=150, layout="constrained")
    figure.suptitle(_title(drawn), x=0.01, ha="left", fontsize="large", fontweight="bold")
    axes = figure.subplots(1, len(drawn), squeeze=False, sharey=True).ravel()
    for each, front in zip(axes, drawn, strict=True):
        best = [offer for offer in front.offers if offer.on_front]
        linear = _threshold(front)
        each.set_xscale("symlog", linthresh=linear, linscale=0.4) if linear else None
        last = max(offer.cost for offer in front.offers)
        means = [offer.candidate.mean for offer in best]
        each.step([*(offer.cost for offer in best), last], [*means, means[-1]], where="post", color="#888888", lw=1.2)
        for schedule in COLOURS:
            for chosen, strong in ((front.offers, False), (best, True)):
                some = [offer for offer in chosen if offer.candidate.recipe.schedule == schedule]
                style = {"color": COLOURS[schedule], "marker": MARKERS[schedule], "linestyle": ""}
                x, y = [offer.cost for offer in some], [offer.candidate.mean for offer in some]
                if strong and some:
                    values = [offer.candidate.values for offer in some]
                    bars = [
                        [max(0.0, mean - min(v)) for mean, v in zip(y, values, strict=True)],
                        [max(0.0, max(v) - mean) for mean, v in zip(y, values, strict=True)],
                    ]
                    each.errorbar(x, y, yerr=bars, elinewidth=1.1, markersize=8, zorder=4, **style)
                elif some:
                    each.plot(x, y, markersize=4.5, alpha=0.3, label=schedule, **style)
        each.set_xlabel(COSTS[front.cost])
        each.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        each.grid(axis="y", color="#dddddd", linewidth=0.8)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(_label(first))
    handles: dict[str, object] = {}
    for each in axes:
        handles |= {label: handle for handle, label in zip(*each.get_legend_handles_labels(), strict=True)}
    legend = figure.legend(
        handles=[handles[schedule] for schedule in COLOURS if schedule in handles],
        loc="outside lower left",
        ncols=6,
        frameon=False,
        fontsize="small",
        title=f"{CAPTION}; bars: lowest to highest seed",
        title_fontsize="small",
        alignment="left",
    )
    legend.get_title().set_color("#555555")
    for handle in legend.get_lines():
        handle.set_alpha(1)
    return figure


def figure(drawn: Sequence[Front]) -> go.Figure:
    """The same to point at."""
    picture = make_subplots(1, len(drawn), shared_yaxes=True, horizontal_spacing=0.04)
    for column, front in enumerate(drawn, 1):
        best = [offer for offer in front.offers if offer.on_front]
        x, y = [offer.cost for offer in best], [offer.candidate.mean for offer in best]
        last = max(offer.cost for offer in front.offers)
        line = {"shape": "hv", "color": "#888888", "width": 1.5}
        picture.add_trace(
            go.Scatter(x=[*x, last], y=[*y, y[-1]], mode="lines", line=line, hoverinfo="skip", showlegend=False),
            row=1,
            col=column,
        )
        for schedule in COLOURS:
            some = [offer for offer in front.offers if offer.candidate.recipe.schedule == schedule]
            if some:
                picture.add_trace(
                    go.Scatter(
                        x=[offer.cost for offer in some],
                        y=[offer.candidate.mean for offer in some],
                        mode="markers",
                        marker={
                            "color": COLOURS[schedule],
                            "symbol": interactive.SYMBOLS[MARKERS[schedule]],
                            "size": [11 if offer.on_front else 6 for offer in some],
                            "opacity": [1.0 if offer.on_front else 0.35 for offer in some],
                        },
                        text=[_hover(front, offer) for offer in some],
                        hovertemplate="%{text}<extra></extra>",
                        name=schedule,
                        legendgroup=schedule,
                        showlegend=False,
                    ),
                    row=1,
                    col=column,
                )
        picture.update_xaxes(title=COSTS[front.cost], tickformat=",~g", row=1, col=column)
    for schedule in COLOURS:
        if any(offer.candidate.recipe.schedule == schedule for front in drawn for offer in front.offers):
            mark = {"color": COLOURS[schedule], "symbol": interactive.SYMBOLS[MARKERS[schedule]], "size": 11}
            picture.add_trace(
                go.Scatter(x=[None], y=[None], mode="markers", marker=mark, name=schedule, legendgroup=schedule)
            )
    picture.update_yaxes(showgrid=True, gridcolor="#dddddd")
    picture.update_yaxes(title=html.escape(_label(drawn[0])), row=1, col=1)
    return picture.update_layout(
        **interactive.LAYOUT | {"margin": {"l": 70, "r": 20, "t": interactive.TOP, "b": 60}},
        title=interactive.heading(_title(drawn), CAPTION),
        height=540,
    )


def save(drawn: Sequence[Front], folder: Path) -> tuple[Path, ...]:
    """Writes pareto.png, .svg, .html, .csv and .parquet into an existing folder."""
    page = interactive.save([figure(drawn)], folder, "pareto", _title(drawn))
    return *plots.save(draw(drawn), folder, "pareto"), page, *tables.save(points(drawn), folder, "pareto")


def points(drawn: Sequence[Front]) -> pa.Table:
    """Every recipe at every cost, with the ids of its MLflow runs."""
    records = [
        {
            "cost": front.cost,
            "value": offer.cost,
            "metric": front.metric,
            "mean": offer.candidate.mean,
            "min": min(offer.candidate.values),
            "max": max(offer.candidate.values),
            "on_front": offer.on_front,
            "recipe": str(offer.candidate.recipe),
            "recipe_key": offer.candidate.recipe.key,
            "run_ids": [row.run_id for row in offer.candidate.rows],
        }
        for front in drawn
        for offer in front.offers
    ]
    return pa.Table.from_pylist(records, SCHEMA)


def _threshold(front: Front) -> float | None:
    """Where a log scale ends on its way to 0: the least cost above 0, of costs that span a factor of ten; else None."""
    costs = [offer.cost for offer in front.offers if offer.cost > 0]
    return min(costs) if max(costs) >= 10 * min(costs) else None


def _title(drawn: Sequence[Front]) -> str:
    return f"{drawn[0].search}: what {drawn[0].metric} costs, {max(len(front.offers) for front in drawn)} recipes"


def _label(front: Front) -> str:
    return f"{front.metric} ({'higher' if front.mode == 'max' else 'lower'} is better)"


def _hover(front: Front, offer: Offer) -> str:
    candidate, digits = offer.candidate, decimals(offer.candidate.mean) + 1
    spread = f" ± {candidate.std:.{digits}f}" if len(candidate.values) > 1 else ""
    lines = [
        f"{front.metric} {candidate.mean:.{digits}f}{spread}, seeds: {len(candidate.values)}",
        f"{offer.cost:,g} {COSTS[front.cost]}" + (", on the front" if offer.on_front else ""),
        "runs " + " ".join(row.run_id for row in candidate.rows),
    ]
    return interactive.tell(str(candidate.recipe), lines)
