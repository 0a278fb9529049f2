"""`python -m analysis curve SEARCH` draws and recommends; `python -m analysis table SEARCH` lists every trial."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from analysis import Axis, conclude, load, show
from analysis.decide import decimals

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console(width=None if sys.stdout.isatty() else 160, soft_wrap=True)  # piped: wide, so that nothing is cut

Search = Annotated[str, typer.Argument(metavar="SEARCH", help="The search's name.")]
Uri = Annotated[str | None, typer.Option("--tracking-uri", help="MLflow; else MLFLOW_TRACKING_URI, else results/.")]
Experiment = Annotated[str | None, typer.Option(help="MLflow experiment, if it is not titrate.")]


@app.command("curve")
def curve_command(
    search: Search,
    tracking_uri: Uri = None,
    experiment: Experiment = None,
    metric: Annotated[str | None, typer.Option(help="What to draw, if not the objective: test/other/miou.")] = None,
    x: Annotated[Axis, typer.Option(help="What to draw it against.")] = "real_fraction",
    out: Annotated[Path | None, typer.Option(help="Folder for curve.png, .svg and .csv; else results/SEARCH.")] = None,
) -> None:
    """Draws the ratio-versus-metric curve and says which recipe to train."""
    folder = out or Path("results") / search
    done = conclude(search, tracking_uri, experiment, folder, axis=x, metric=metric)
    show(console, done)


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


def main() -> None:
    try:
        app()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
