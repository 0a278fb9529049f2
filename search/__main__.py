"""The command line: `python -m search run FILE`, `check FILE`, `demo`, `store ls|gc|verify`."""

import os
import shlex
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from search.config import SearchConfig, load
from search.one_line import one_line
from search.store_admin import app as store
from search.view import duration

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(store, name="store")
console = Console(soft_wrap=False)

File = Annotated[Path, typer.Argument(help="The search file (YAML); see search/examples/.")]
Results = Annotated[Path, typer.Option(help="Folder of results, store and MLflow database.")]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster; without it Ray is started on this machine.")]
Share = Annotated[bool, typer.Option("--share/--no-share", help="Train common stages once, or every recipe by itself.")]
SHARED_SHOWN = 4  # stages that `check` lists


def _one_line() -> AbstractContextManager[None]:
    return one_line(" before the running trials were checkpointed; `run` again goes on from the last")


@app.command()
def run(file: File, results: Results = Path("results"), address: Address = None, share: Share = True) -> None:
    """Bring a search to completion. Run it again after a crash or with more trials: only what is missing is done."""
    with _one_line():
        _run(load(file), file.read_text(encoding="utf-8"), results, address, share)


@app.command()
def check(file: File) -> None:
    """Say what a search will cost before it starts: recipes, steps alone and shared, time, memory, disk."""
    from search.preflight import preflight
    from search.problem import open_problem

    with _one_line():
        config = load(file)
        opened = open_problem(config)
        p = preflight(config, opened)
    table = Table(box=None, show_header=False, pad_edge=False)
    schedules = ", ".join(f"{count} {name}" for name, count in p.stages.items())
    table.add_row(
        "recipes",
        f"{p.recipes} ({schedules})" + ("" if p.exact else "; drawn at random as a sample of what the sampler may ask"),
    )
    for domain, choices in opened.problem.choices.items():
        counts = p.sources[f"{domain}_source"]
        shown = ", ".join(f"{counts[name]} on {name} ({facts.rows} images)" for name, facts in choices.items())
        table.add_row(f"{domain} source", shown)
    table.add_row("trials", f"{p.recipes} recipes x {p.replicates} seeds = {p.recipes * p.replicates}")
    table.add_row("steps alone", f"{p.steps_alone:,}")
    saved = 1 - p.steps_shared / p.steps_alone
    table.add_row(
        "steps shared", f"{p.steps_shared:,} ({saved:.0%} fewer; {p.shared_recipes} recipes share a stage with another)"
    )
    for k, line in enumerate(p.shared[:SHARED_SHOWN]):
        table.add_row("" if k else "shared", line)
    if len(p.shared) > SHARED_SHOWN:
        table.add_row("", f"and {len(p.shared) - SHARED_SHOWN} more stages")
    table.add_row(
        "model", f"{p.parameters:,} parameters; {p.step_s * 1000:.0f} ms a step, {p.evaluation_s:.2f} s an evaluation"
    )
    slots, warnings = _slots_here(config)
    table.add_row("time", f"about {duration(p.train_s / slots)} on {slots} slots, after they have started")
    table.add_row("memory", f"about {p.process_bytes / 2**20:,.0f} MiB a slot worker")
    disk = f"{p.disk_bytes(slots) / 2**20:,.0f} MiB of checkpoints"
    table.add_row("disk", f"{'at most' if p.exact else 'about'} {disk}")
    console.print(table)
    if p.rare:
        more = f" (and {len(p.rare) - 1} more recipes like it)" if len(p.rare) > 1 else ""
        warnings.append(p.rare[0] + more)
    if p.shared_recipes == 0 and p.recipes > 1:
        warnings.append("no two recipes share a stage; `finetune` with finite pretrain lists is what shares")
    if p.distinct < p.recipes and not p.exact:
        warnings.append(f"only {p.distinct} of {p.recipes} drawn recipes are distinct; a grid tries each once")
    for warning in warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)


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


def _slots_here(config: SearchConfig) -> tuple[int, list[str]]:
    """The slots that the file names, or as many as this machine holds and at least one; and what to warn of."""
    import torch

    slots, cpus, gpus = config.slots, os.cpu_count() or 1, torch.cuda.device_count()
    fits = slots.fit([(cpus, gpus)])
    count = max(1, fits) if slots.count == "auto" else slots.count
    warnings = []
    if count > fits:
        warnings.append(
            f"this machine ({cpus} CPUs, {gpus} GPUs) holds {fits} slots of {slots.workers} x ({slots.threads} CPUs,"
            f" {slots.gpus_per_worker:g} GPUs), but the estimate is for {count}; lower slots, or run on a cluster"
        )
    if gpus and not slots.gpus_per_worker:
        warnings.append(f"slots.gpus_per_worker is 0, so this machine's {gpus} GPUs stay idle; set it to 1 to use them")
    return count, warnings


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
    where = result.tracking_uri
    if where.startswith("sqlite:"):
        serve = f"-m mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri {shlex.quote(where)}"
        where = f"http://127.0.0.1:5000, served by\n  {shlex.quote(sys.executable)} {serve}"
    console.print(f"\nbrowse every run in MLflow: {where}", highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    app()
