"""check: a search's cost as a table, and what to know before it starts."""

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from datasets.uri import redacted
from search.config import SearchConfig
from search.cost import accelerator_hours
from search.preflight import Preflight, preflight
from search.problem import Opened, open_problem
from search.shape import Node
from search.view import duration, short

SHARED_SHOWN = 4  # stages that are listed


def check(config: SearchConfig, results: Path, console: Console) -> None:
    """Prints what a search will cost, from opening its data and training a few steps of it here.

    `results` is the folder of results that `run` would be given: the store is there, where the file names no other.
    """
    opened = open_problem(config)
    store = config.store.uri or str(results.resolve() / "store")
    p = preflight(config, opened, store)
    slots, warnings = _slots_here(config)
    hours = accelerator_hours(p.train_s, config.slots)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in [*_recipes(p, opened), *_steps(p), *_time(config, p, slots, hours)]:
        table.add_row(name, value)
    console.print(table)
    if p.unread is not None:
        warnings.append(f"nothing counts as stored, since {redacted(store)} cannot be read here: {p.unread}")
    if config.budget.hours is not None and hours > config.budget.hours:
        warnings.append(
            f"budget.hours is {config.budget.hours:g}, but the search is estimated to take {short(hours)}"
            " accelerator-hours at this machine's speed, and ends with what fits; raise it, or lower"
            " trials, steps or seeds"
        )
    if p.rare:
        more = f" (and {len(p.rare) - 1} more recipes like it)" if len(p.rare) > 1 else ""
        warnings.append(p.rare[0] + more)
    if p.shared_recipes == 0 and p.recipes > 1:
        warnings.append("no two recipes share a stage; `finetune` with finite pretrain lists is what shares")
    if p.distinct < p.recipes and not p.exact:
        warnings.append(f"only {p.distinct} of {p.recipes} drawn recipes are distinct; a grid tries each once")
    for warning in warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)


Rows = list[tuple[str, str]]


def _recipes(p: Preflight, opened: Opened) -> Rows:
    schedules = ", ".join(f"{count} {name}" for name, count in p.stages.items())
    drawn = "" if p.exact else "; drawn at random as a sample of what the sampler may ask"
    rows = [("recipes", f"{p.recipes} ({schedules}){drawn}")]
    for domain, choices in opened.problem.choices.items():
        counts = p.sources[f"{domain}_source"]
        shown = ", ".join(f"{counts[name]} on {name} ({facts.rows} images)" for name, facts in choices.items())
        rows.append((f"{domain} source", shown))
    return [*rows, ("trials", f"{p.recipes} recipes x {p.replicates} seeds = {p.recipes * p.replicates}")]


def _steps(p: Preflight) -> Rows:
    saved = f"{1 - p.steps_shared / p.steps_alone:.0%} fewer"
    rows = [
        ("steps alone", f"{p.steps_alone:,}"),
        ("steps shared", f"{p.steps_shared:,} ({saved}; {p.shared_recipes} recipes share a stage with another)"),
    ]
    rows += [("" if k else "shared", line) for k, line in enumerate(p.shared[:SHARED_SHOWN])]
    if len(p.shared) > SHARED_SHOWN:
        rows.append(("", f"and {len(p.shared) - SHARED_SHOWN} more stages"))
    if stored := p.steps_shared - p.ahead.steps:
        rows.append(("already stored", f"{stored:,} of these steps, by this machine's versions and device"))
    to_train = f"{p.ahead.steps:,}" if p.ahead.steps else "nothing"
    if p.ahead.assumes and p.ahead.steps:
        to_train += f" if every recipe ran to its end; about {p.ahead.steps_expected:,.0f} with {p.ahead.assumes}"
    return [*rows, ("to train", to_train)]


def _time(config: SearchConfig, p: Preflight, slots: int, hours: float) -> Rows:
    speed = f"{p.step_s * 1000:.0f} ms a step, {p.evaluation_s:.2f} s an evaluation"
    budget = f" of the {config.budget.hours:g} of budget.hours" if config.budget.hours is not None else ""
    cache = config.slots.batch_cache_gb
    unit = "GPU" if config.slots.gpus_per_worker else "worker"
    disk = f"{'at most' if p.exact else 'about'} {p.disk_bytes(slots) / 2**20:,.0f} MiB of checkpoints"
    return [
        ("model", f"{p.parameters:,} parameters; {speed}"),
        ("time", f"about {duration(p.train_s / slots)} on {slots} slots, after they have started"),
        ("accelerators", f"about {short(hours)} accelerator-hours{budget}, counting {unit}s while their slots train"),
        ("memory", f"about {p.process_bytes / 2**20:,.0f} MiB a slot worker, and {cache:g} GB at most for its batches"),
        ("disk", disk),
    ]


def _slots_here(config: SearchConfig) -> tuple[int, list[str]]:
    """The slots that the file names, or as many as this machine holds and at least one; and what to warn of."""
    import torch

    slots, cpus, gpus = config.slots, os.cpu_count() or 1, torch.cuda.device_count()
    fits = slots.fit([Node(cpus, gpus, frozenset({slots.accelerator_type or ""}))])
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
