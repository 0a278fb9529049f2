"""`python -m analysis curve SEARCH` draws and recommends, `importance` says which parameters decide, `pareto` what a
quality costs, `law` what synthetic images are worth, `gap` what one domain loses on another, `next` what to run next,
and `table` lists every trial. All read MLflow alone."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from analysis import Axis, conclude, load, show
from analysis.show import show_advice, show_gap, show_worth
from analysis.wording import decimals

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console(width=None if sys.stdout.isatty() else 160, soft_wrap=True)  # piped: wide, so that nothing is cut

Search = Annotated[str, typer.Argument(metavar="SEARCH", help="The search's name.")]
Uri = Annotated[str | None, typer.Option("--tracking-uri", help="MLflow; else MLFLOW_TRACKING_URI, else results/.")]
Experiment = Annotated[str | None, typer.Option(help="MLflow experiment, if it is not titrate.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the files; else results/SEARCH.")]
RealLabel = Annotated[float | None, typer.Option(help="Price of a labelled real image, for advice.")]
SyntheticImage = Annotated[float | None, typer.Option(help="Price of a rendered image, for advice.")]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain", help="SET=SOURCE: a test set is of the domain of this source of real images (`real`, if one)."
    ),
]


@app.command("curve")
def curve_command(
    search: Search,
    tracking_uri: Uri = None,
    experiment: Experiment = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="What to draw, if not the objective: test/other/miou. Several are panels side by side."),
    ] = None,
    x: Annotated[Axis, typer.Option(help="What to draw it against.")] = "real_fraction",
    out: Out = None,
) -> None:
    """Draws the ratio-versus-metric curve, also of each class or region, and says which recipe to train."""
    done = conclude(search, tracking_uri, experiment, _folder(search, out), axis=x, metrics=metric or ())
    show(console, done)


@app.command("importance")
def importance_command(
    search: Search,
    tracking_uri: Uri = None,
    experiment: Experiment = None,
    metric: Annotated[str | None, typer.Option(help="What is decided, if not the objective.")] = None,
    out: Out = None,
) -> None:
    """Says how much each parameter decides, among the recipes that have it; with parallel coordinates in the HTML."""
    from analysis import bars, pictures
    from analysis.importance import importances

    table = load(search, tracking_uri=tracking_uri, experiment=experiment)
    found = importances(table, metric)
    lines = []
    for one in found.subspaces:
        shares = ", ".join(f"{s.parameter} {s.share:.0%}" + ("" if s.clear else " (chance)") for s in one.shares)
        explained = "" if one.reason else f"{one.explained:.0%} of the differences explained; "
        lines.append(f"{bars.headline(one)}: {explained}{one.reason or shares}")
    _print([bars.title(found), *lines], bars.save(table, found, pictures.ready(_folder(search, out))))


@app.command("pareto")
def pareto_command(search: Search, tracking_uri: Uri = None, experiment: Experiment = None, out: Out = None) -> None:
    """Says the best quality that each number of labels, of synthetic images and of training steps buys."""
    from analysis import pareto, pictures

    found = pareto.fronts(load(search, tracking_uri=tracking_uri, experiment=experiment))
    lines = []
    for front in found:
        lines.append(f"{front.metric} by {pareto.COSTS[front.cost]}:")
        for offer in front.offers:
            if offer.on_front:
                score = f"{offer.candidate.mean:.{decimals(offer.candidate.mean)}f}"
                lines.append(f"  {offer.cost:,g}: {score}  {offer.candidate.recipe}")
    _print(lines, pareto.save(found, pictures.ready(_folder(search, out))))


@app.command("report")
def report_command(
    search: Search,
    tracking_uri: Uri = None,
    experiment: Experiment = None,
    out: Out = None,
    real_label: RealLabel = None,
    synthetic_image: SyntheticImage = None,
    domain: Domains = None,
) -> None:
    """Writes the report of a search: one HTML page that holds everything, and the same as Markdown."""
    from analysis import pictures
    from analysis.gap import domains_of
    from analysis.prices import prices_of
    from analysis.report import report
    from analysis.report_context import Context

    prices = prices_of(real_label, synthetic_image)
    made = report(Context.load(search, tracking_uri, experiment, prices=prices, domains=domains_of(domain or [])))
    files = made.write(pictures.ready(_folder(search, out)))
    _print([], [file for file in files if file.suffix in (".html", ".md")])


@app.command("law")
def law_command(
    search: Search,
    tracking_uri: Uri = None,
    experiment: Experiment = None,
    metric: Annotated[str | None, typer.Option(help="Of what, if not of the objective: test/other/miou.")] = None,
    method: Annotated[
        str | None, typer.Option(help='Schedule and adaptation, "finetune + real_bn"; else the best.')
    ] = None,
    real_label: RealLabel = None,
    synthetic_image: SyntheticImage = None,
    validation_label: Annotated[float | None, typer.Option(help="Price of a labelled validation image.")] = None,
    validation: Annotated[int | None, typer.Option(min=0, help="Labelled validation images that were paid.")] = None,
    budget: Annotated[float | None, typer.Option(help="What may be spent next; else a tenth of what was.")] = None,
    out: Out = None,
) -> None:
    """Says how many real images the synthetic ones are worth, and what to spend on next, under your prices."""
    from analysis import pictures, rates
    from analysis.prices import prices_of
    from analysis.worth import worth

    others = {"validation_label": validation_label, "validation": validation, "budget": budget}
    prices = prices_of(real_label, synthetic_image, **others)
    table = load(search, tracking_uri=tracking_uri, experiment=experiment)
    found = worth(table, metric, method, prices=prices, budget=budget, validation=validation or 0)
    show_worth(console, found)
    _print([], rates.save(found, pictures.ready(_folder(search, out))))


@app.command("table")
def table_command(search: Search, tracking_uri: Uri = None, experiment: Experiment = None) -> None:
    """Lists every replicate of every recipe."""
    table = load(search, tracking_uri=tracking_uri, experiment=experiment)
    shown = RichTable(title=f"{table.search}: {len(table.rows)} trials")
    for name in ("#", "recipe", "seed", "status", "step"):
        shown.add_column(name, justify="left" if name in ("recipe", "status") else "right")
    shown.add_column(table.metric, justify="right")
    shown.add_column("run", no_wrap=True, min_width=32)
    for row in table.rows:
        value = row.metrics.get(table.metric)
        score = "" if value is None else f"{value:.{decimals(value) if value == value else 0}f}"
        cells = [str(row.number), str(row.recipe), str(row.seed), row.status, str(row.step or ""), score, row.run_id]
        shown.add_row(*map(escape, cells))
    console.print(shown)


@app.command("gap")
def gap_command(
    search: Search,
    tracking_uri: Uri = None,
    experiment: Experiment = None,
    metric: Annotated[str | None, typer.Option(help="What to compare, if not the objective's: miou.")] = None,
    domain: Domains = None,
    mode: Annotated[str, typer.Option(help="max or min, if the metric's is not the objective's.")] = "",
    out: Annotated[Path | None, typer.Option(help="Also write the table to this CSV file.")] = None,
) -> None:
    """Tabulates training domain by test domain, and what each training loses."""
    from analysis import gap

    table = load(search, tracking_uri=tracking_uri, experiment=experiment)
    show_gap(console, gap.gap(table, metric, domains=gap.domains_of(domain or []), mode=mode), out)


@app.command("next")
def next_command(search: Search, tracking_uri: Uri = None, experiment: Experiment = None) -> None:
    """Says which run to do next, to narrow the answer most for its cost."""
    from analysis.next_run import next_run
    from analysis.posterior import posterior

    show_advice(console, next_run(posterior(load(search, tracking_uri=tracking_uri, experiment=experiment))))


def _folder(search: str, out: Path | None) -> Path:
    return out or Path("results") / search


def _print(lines: Sequence[str], files: Sequence[Path]) -> None:
    for line in [*lines, *(f"wrote {file}" for file in files)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    try:
        app()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
