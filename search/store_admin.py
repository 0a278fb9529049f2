"""`python -m search store`: what the store holds, what it can do without, and whether it is intact."""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from datasets.ordinary import parse_json
from datasets.uri import is_uri, reason, redacted
from search.one_line import one_line
from search.view import duration
from trainables import census
from trainables.census import Census, Entry, take_census
from trainables.eviction import GRACE_S, Plan, Removal, carry_out, plan
from trainables.objects import DESCRIPTION, Objects

app = typer.Typer(no_args_is_help=True, help="The checkpoints and evaluations that searches share.")
console = Console(soft_wrap=False)

Place = Annotated[str, typer.Argument(metavar="[STORE]", help="Folder or URI of the store.")]
DEFAULT = "results/store"
_CUT = ": nothing half-written is left; the same command does the rest"


@app.command("ls")
def list_stages(
    store: Place = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """List the stages by division: what each trains, how far it came, what it takes, when it was last used."""
    with one_line(_CUT):
        objects = _open(store)
        found = _census(objects)
        words = _descriptions(objects, found)
    rows = [_row(found, entry, words[entry]) for entry in found.entries]
    if as_json:
        print(json.dumps({"store": redacted(store), "bytes": found.bytes, "stages": rows}, indent=1))
        return
    for division in dict.fromkeys(entry.division for entry in found.entries):
        entries = [(entry, row) for entry, row in zip(found.entries, rows, strict=True) if entry.division == division]
        title = f"division {division}: {len(entries)} stages, {_size(sum(entry.bytes for entry, _ in entries))}"
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for heading in ("stage", "trains", "step", "checkpoints", "size", "used", "state"):
            table.add_column(heading, justify="right" if heading in ("step", "checkpoints", "size", "used") else "left")
        for entry, row in sorted(entries, key=lambda one: -one[0].used):
            state = [f"leased by {row['leased_by'][:12]}"] if row["leased_by"] else []
            state += [f"claimed by {', '.join(row['claimed_by'])}"] if row["claimed_by"] else []
            table.add_row(
                entry.key[:8],
                row["trains"],
                f"{entry.reached:,}",
                str(len(entry.checkpoints)),
                _size(entry.bytes),
                _ago(found.taken - entry.used),
                "; ".join(state),
            )
        console.print(table)
        console.print()
    checkpoints = sum(len(entry.checkpoints) for entry in found.entries)
    evaluations = sum(entry.evaluations for entry in found.entries)
    _say(
        f"{len(found.entries)} stages, {checkpoints} checkpoints of {_size(found.bytes)}, {evaluations} evaluations;"
        f" {len(found.claims)} running searches"
    )


@app.command()
def gc(
    max_gb: Annotated[float, typer.Option(min=0, help="What checkpoints may take afterwards, in GB of 10^9 bytes.")],
    store: Place = DEFAULT,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Spare what was used in so many days.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Remove checkpoints of the stages that were not used for longest, until the rest fits. Evaluations stay."""
    with one_line(_CUT):
        if not math.isfinite(max_gb):
            raise ValueError(f"--max-gb must be a number, but got {max_gb}")
        objects = _open(store)
        found = _census(objects)
        grace_s = max(GRACE_S, (older_than or 0) * 86_400)
        planned = plan(found, round(max_gb * 1e9), grace_s=grace_s)
        if not dry_run:
            with _bar() as bar:
                task = bar.add_task("removing", total=len(planned.removals))
                carry_out(objects, found, planned, lambda _: bar.advance(task))
    _say_plan(planned, "would remove" if dry_run else "removed")
    if planned.after > max_gb * 1e9:
        _say(f"that is more than {max_gb:g} GB: all that is left is spared")


@app.command()
def verify(store: Place = DEFAULT) -> None:
    """Read every object and compare it with its checksum. Damaged ones are set aside, and then the exit status is 1."""
    with one_line(_CUT):
        objects = _open(store)
        found = _census(objects)
        with _bar() as bar:
            task = bar.add_task("verifying", total=None)
            bad = census.damaged(objects, found, lambda done, total: bar.update(task, completed=done, total=total))
    for path in bad:
        _say(f"damaged: {path}; set aside as {path.rpartition('/')[2]}.damaged, and made again when it is needed")
    count = sum(len(entry.items) for entry in found.entries)
    _say(f"{count} objects of {len(found.entries)} stages read, {len(bad)} damaged")
    if bad:
        raise typer.Exit(1)


def in_words(stage: dict[str, Any]) -> str:
    """What a stage trains, from its description: `segmentation on 12 of 24 real images at lr 0.1, seed 0`."""
    rows = {"real": stage["real"], "synthetic": stage["synthetic"]}
    images = " and ".join(f"{one['count']} of {one['total']} {domain}" for domain, one in rows.items() if one)
    method = stage["translation"]["method"] if stage["translation"] else stage["adaptation"]
    start = stage["start"]
    return (
        f"{stage['task']['kind']} on {images} images"
        + (f" with {method}" if method != "none" else "")
        + f" at lr {stage['lr']:.4g}, seed {stage['seed']}"
        + (f", from step {start['step']} of {start['stage'][:8]}" if start else "")
    )


def _open(store: str) -> Objects:
    place = store if is_uri(store) else str(Path(store).expanduser().resolve())
    try:
        return Objects(place)
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        raise ValueError(
            f"{redacted(store)}: must be a folder or a URI that pyarrow opens (file://, s3://, gs://, abfs://), but:"
            f" {reason(error)}"
        ) from None


def _census(objects: Objects) -> Census:
    with _bar() as bar:
        task = bar.add_task("listing divisions", total=None)
        return take_census(objects, lambda done, total: bar.update(task, completed=done, total=total))


def _descriptions(objects: Objects, found: Census) -> dict[Entry, str]:
    """What each stage trains, in words; what its description says is only for people, so a damaged one is no error."""

    def read(entry: Entry) -> str:
        raw = objects.read(f"{objects.root}/{entry.division}/{entry.key}/{DESCRIPTION}")
        try:
            return in_words(parse_json(raw or b""))
        except (ValueError, TypeError, KeyError):
            return "(no description)"

    with ThreadPoolExecutor(census.THREADS) as pool, _bar() as bar:
        words = bar.track(pool.map(read, found.entries), total=len(found.entries), description="reading descriptions")
        return dict(zip(found.entries, words, strict=True))


def _row(found: Census, entry: Entry, trains: str) -> dict[str, Any]:
    return {
        "division": entry.division,
        "stage": entry.key,
        "trains": trains,
        "reached": entry.reached,
        "checkpoints": list(entry.steps),
        "evaluations": entry.evaluations,
        "bytes": entry.bytes,
        "used": entry.used,
        "leased_by": entry.lease.owner if entry.lease else None,
        "claimed_by": list(found.searches(entry.key)),
    }


def _say_plan(planned: Plan, did: str) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    stages: dict[tuple[str, str], list[Removal]] = {}
    for removal in planned.removals:
        stages.setdefault((removal.entry.division, removal.entry.key), []).append(removal)
    for (division, key), gone in stages.items():
        names = ", ".join(removal.item.name for removal in gone)
        rest = "none of it is left" if any(removal.last for removal in gone) else "its last stays"
        table.add_row(f"{division}/{key[:8]}", _size(sum(removal.item.bytes for removal in gone)), f"{names}; {rest}")
    if planned.removals:
        console.print(table, soft_wrap=True)
    for why, count in Counter(why for _, why in planned.spared).items():
        size = sum(entry.bytes for entry, reason in planned.spared if reason == why)
        _say(f"spared: {count} stages, {_size(size)}: {why}")
    _say(
        f"{did} {len(planned.removals)} checkpoints, {_size(planned.before - planned.after)};"
        f" {_size(planned.after)} of {_size(planned.before)} stay"
    )


@contextmanager
def _bar() -> Iterator[Progress]:
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        yield bar


def _ago(seconds: float) -> str:
    return f"{seconds / 86_400:.0f} days ago" if seconds > 172_800 else f"{duration(max(0.0, seconds))} ago"


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.2f} MB"


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
