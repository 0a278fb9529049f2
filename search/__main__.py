"""The command line: `python -m search run FILE`, `submit FILE`, `check FILE`, `status NAME`, `explain NAME TRIAL`,
`export NAME`, `store ls|gc|verify`, `demo`."""

import shlex
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from datasets.uri import redacted
from search.config import SearchConfig, load
from search.one_line import one_line
from search.store_admin import app as store
from search.view import duration

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(store, name="store")
console = Console(soft_wrap=False)

File = Annotated[Path, typer.Argument(help="The search file (YAML); see search/examples/.")]
Results = Annotated[Path, typer.Option(envvar="TITRATE_RESULTS", help="Folder of results, store and MLflow database.")]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster; without it Ray is started on this machine.")]
Share = Annotated[bool, typer.Option("--share/--no-share", help="Train common stages once, or every recipe by itself.")]


def _one_line() -> AbstractContextManager[None]:
    return one_line(" before the running trials were checkpointed; `run` again goes on from the last")


@app.command()
def run(file: File, results: Results = Path("results"), address: Address = None, share: Share = True) -> None:
    """Bring a search to completion. Run it again after a crash or with more trials: only what is missing is done."""
    with _one_line():
        _run(load(file), file.read_text(encoding="utf-8"), results, address, share)


@app.command()
def submit(
    file: File,
    address: Annotated[
        str | None,
        typer.Option(help="Ray's dashboard; else RAY_API_SERVER_ADDRESS, RAY_ADDRESS, http://127.0.0.1:8265."),
    ] = None,
    shared: Annotated[
        list[str] | None,
        typer.Option(envvar="TITRATE_STORAGE", help="A folder that every node mounts at the same path; repeatable."),
    ] = None,
    results: Annotated[
        str | None, typer.Option(help="Folder of results on the head; else its TITRATE_RESULTS, ~/titrate/results.")
    ] = None,
    share: Share = True,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the log to the end.")] = True,
) -> None:
    """Run a search on a cluster, as a job that goes on without this machine. Submit it again to follow it."""
    from search.submit import submit as submit_search

    with one_line("; a job that was submitted goes on"):
        code = submit_search(
            file,
            load(file),
            address=address,
            shared=shared or (),
            results=results,
            share=share,
            wait=wait,
            console=console,
        )
    if code:
        raise typer.Exit(code)


@app.command()
def check(file: File, results: Results = Path("results")) -> None:
    """Say what a search will cost before it starts: recipes, steps alone, shared and stored, time, memory, disk."""
    from search.check import check as check_search

    with _one_line():
        check_search(load(file), results, console)


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="The search's name.")],
    results: Results = Path("results"),
    tracking: Annotated[str | None, typer.Option(help="MLflow's URI; else MLFLOW_TRACKING_URI, else RESULTS.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Until the search is over.")] = False,
) -> None:
    """Say what a search is doing, from any terminal, also on another machine that reaches its MLflow."""
    from search.status import show

    with _one_line(), suppress(KeyboardInterrupt):  # who stops watching stops nothing else
        show(name, results, tracking, console, as_json=as_json, watch=watch)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="The search's name.")],
    trial: Annotated[int, typer.Argument(help="The trial's number.")],
    results: Results = Path("results"),
) -> None:
    """Say of a trial why it was proposed, what it shared, what it reached, why it ended and what it cost."""
    from search.explain import explain as explain_trial

    with _one_line():
        explain_trial(name, trial, results, console)


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="The search's name.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder to write: recipe.yaml, weights.pt, model.json, README.md; else RESULTS/NAME/exported."
        ),
    ] = None,
    trial: Annotated[int | None, typer.Option(help="A trial's number; else the recommended recipe.")] = None,
    recipe: Annotated[str | None, typer.Option(metavar="KEY", help="A recipe's key, or its beginning.")] = None,
    seed: Annotated[int | None, typer.Option(help="Which replicate; else the best of them on val.")] = None,
    weights: Annotated[bool, typer.Option("--weights/--no-weights", help="The recipe with or without weights.")] = True,
    results: Results = Path("results"),
    tracking: Annotated[str | None, typer.Option(help="MLflow's URI; else the search's, or RESULTS.")] = None,
) -> None:
    """Write a recipe to use: its search file, its weights, and a card that says what they are worth."""
    from search.export import export as export_recipe

    with _one_line():
        folder = out or results / name / "exported"
        export_recipe(
            name, results, folder, console, trial=trial, recipe=recipe, seed=seed, weights=weights, tracking=tracking
        )


@app.command()
def demo(
    results: Results = Path("results"),
    packs: Annotated[Path, typer.Option(help="Where the demo's packs go.")] = Path("packs/demo"),
) -> None:
    """Search the data mix on embedded synthetic faces: packs, search, curve and recommendation in a few minutes."""
    from search.demo import EXAMPLE, make_packs, read

    with _one_line():
        make_packs(packs, console)
        _run(read(packs), EXAMPLE.read_text(encoding="utf-8"), results, None, True)


def _run(config: SearchConfig, text: str, results: Path, address: str | None, share: bool) -> None:
    from analysis import show
    from search.run import run as run_search

    result = run_search(config, text, results=results, address=address, share=share, console=console)
    s = result.summary
    line = f"{s['ended']} of {s['recipes']} recipes done" + (f", {s['failed']} failed" if s["failed"] else "")
    console.print(f"\nsearch {config.name}: {line} in {duration(result.wall_s)}", highlight=False, soft_wrap=True)
    if result.steps_alone:
        console.print(
            f"trained {result.steps_trained:,} steps for what takes {result.steps_alone:,} without sharing",
            highlight=False,
            soft_wrap=True,
        )
    if result.state == "interrupted":
        console.print("interrupted: run the same command again to go on from here", highlight=False)
        raise typer.Exit(130)
    if result.conclusion is not None:
        show(console, result.conclusion)
        for line in result.left:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    where = redacted(result.tracking_uri)
    if where.startswith("sqlite:"):
        serve = f"-m mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri {shlex.quote(where)}"
        where = f"http://127.0.0.1:5000, served by\n  {shlex.quote(sys.executable)} {serve}"
    console.print(f"\nbrowse every run in MLflow: {where}", highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    app()
