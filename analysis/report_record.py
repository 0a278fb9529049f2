"""The sections of a report that keep a record: class by class, the cost, what cannot be said, how to repeat it."""

import datetime
import shlex
from collections.abc import Mapping

import yaml

from analysis.ranking import Candidate
from analysis.report_blocks import Block, Bullets, Code, Gallery, Grid, Picture, Section, Text, Tiles
from analysis.report_context import Context
from analysis.report_figures import by_class
from analysis.runs import mean
from analysis.wording import decimals
from trainables.recipe import Recipe

MOST_PARTS = 30  # classes or regions of one metric; of more (68 points) a table says nothing


def classes(context: Context) -> Section | None:
    """The winner class by class (or region by region), against the best recipe on real images alone."""
    winner, table = context.winner, context.table
    if winner is None:
        return None
    real = next((c for c in context.decision.candidates if c.recipe.schedule == "real_only" and c is not winner), None)
    blocks: list[Block] = []
    for name, parts in _parts(winner).items():
        sets = [one for one in _sets(winner) if any(f"{one}/{name}/{part}" in parts for part in parts.values())]
        rows = []
        for part in dict.fromkeys(parts.values()):
            cells = [part]
            for one in sets:
                metric = f"{one}/{name}/{part}"
                own, other = _mean(winner, metric), None if real is None else _mean(real, metric)
                cells.append("" if own is None else f"{own:.{decimals(own)}f}")
                if real is not None:
                    cells.append("" if own is None or other is None else f"{own - other:+.{decimals(own)}f}")
            rows.append(tuple(cells))
        header = ["", *(cell for one in sets for cell in ([one] if real is None else [one, "against real only"]))]
        caption = f"{name} of the winner, mean over its seeds"
        if real is not None:
            caption += f"; against real only: the difference to {real.recipe}"
        blocks.append(Grid(tuple(header), tuple(rows), caption=caption + "."))
    if not blocks:
        return None
    blocks += by_class(context)
    title = "Class by class" if table.metric.endswith("miou") else "In detail"
    return Section("classes", title, tuple(blocks))


def _sets(candidate: Candidate) -> list[str]:
    """`val` first, then test sets by name."""
    names = {name for row in candidate.rows for name in row.metrics}
    found = {
        "val" if name.startswith("val/") else "/".join(name.split("/")[:2])
        for name in names
        if name[:4] in ("val/", "test")
    }
    return sorted(found, key=lambda one: (one != "val", one))


def _parts(candidate: Candidate) -> dict[str, dict[str, str]]:
    """The metrics that are of one class or region each: {"iou": {"val/iou/hair": "hair"}}, few enough to be read."""
    found: dict[str, dict[str, str]] = {}
    for name in {name for row in candidate.rows for name in row.metrics}:
        words = name.split("/")
        bare = words[1:] if words[0] == "val" else words[2:] if words[0] == "test" else []
        if len(bare) == 2 and not bare[1].replace(".", "").isdigit():
            found.setdefault(bare[0], {})[name] = bare[1]
    few = {name: parts for name, parts in found.items() if 1 < len(set(parts.values())) <= MOST_PARTS}
    return {name: dict(sorted(parts.items(), key=lambda one: one[1])) for name, parts in sorted(few.items())}


def _mean(candidate: Candidate, metric: str) -> float | None:
    values = [value for row in candidate.rows if (value := row.value(metric)) is not None]
    return mean(values) if values else None


def predictions(context: Context) -> Section | None:
    """The winner's worst, median and best pictures of each set, drawn."""
    sets: dict[str, list[Picture]] = {}
    for i, one in enumerate(context.samples):
        text = f"the {one.place} by {one.metric}: {one.score:.{decimals(one.score)}f}"
        caption = f"{text[0].upper()}{text[1:]}"
        shown = Picture(f"sample-{i}-{one.place}", one.data, f"Prediction, {text}", caption, "jpg")
        sets.setdefault(one.metric, []).append(shown)
    if not sets:
        return None
    said = Text("The winner's: each is the picture, the prediction and the truth, and has a score of its own.")
    return Section("predictions", "Predictions", (said, *(Gallery(tuple(pictures)) for pictures in sets.values())))


def cost(context: Context) -> Section | None:
    """What the search took, and what it saved by training common stages once."""
    rows = context.table.rows
    if not rows:
        return None
    alone = sum(row.steps_alone or 0 for row in rows)
    trained = sum(row.steps_trained or 0 for row in rows)
    record = context.provenance
    tiles: list[tuple[str, str]] = []
    if alone:
        tiles += [(f"{trained:,}", "steps trained"), (f"{alone:,}", "steps, had each trial been trained alone")]
        if alone > trained:
            tiles.append(
                (f"{1 - trained / alone:.0%}", "of them saved, by sharing stages and by what was there before")
            )
    hours = None if record is None else record.metrics.get("accelerator_hours")
    if hours is not None:
        tiles.append((f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}", "accelerator-hours"))
    counts = {
        status: sum(row.status == status for row in rows) for status in ("finished", "stopped", "failed", "running")
    }
    words = {"stopped": "left behind at a rung"}
    said = ", ".join(f"{count} {words.get(status, status)}" for status, count in counts.items() if count)
    blocks: list[Block] = [Tiles(tuple(tiles))] if tiles else []
    blocks.append(Text(f"{len(rows)} trials of {len(context.table.recipes())} recipes: {said}."))
    labels = max((row.num_real_labels or 0 for row in rows), default=0)
    val = 0 if record is None else sum(pack.num_rows or 0 for pack in record.packs if "val" in pack.context)
    if labels:
        more = f", and {val:,} more to choose by (validation)" if val else ""
        blocks.append(Text(f"It had {labels:,} labelled real images to train on{more}."))
    winner = context.winner
    steps = None if winner is None else winner.rows[0].steps_alone
    if steps:
        blocks.append(Text(f"The winner by itself takes {steps:,} steps, with each seed."))
    return Section("cost", "What it cost", tuple(blocks))


def unsaid(context: Context) -> Section | None:
    """What to know before acting, and what these runs cannot tell."""
    lines = context.decision.notes
    if context.winner is None or not lines:
        return None  # the answer has them
    return Section("notes", "How sure, and what these runs cannot say", (Bullets(lines),))


def recipe(context: Context) -> Section | None:
    """The winner, to copy."""
    winner, record = context.winner, context.provenance
    if winner is None:
        return None
    search = context.table.search
    left = "" if record is None else record.recipe_text
    if f"name: {search}-{winner.recipe.key[:8]}\n" in left:
        said = (
            "A search of this one recipe, `recipe.yaml`: on the search's store it trains nothing, elsewhere all of it."
        )
        code = left
    else:
        said = "The recipe as `enqueue` of a search file takes it."
        code = yaml.safe_dump({"enqueue": [nested(winner.recipe)]}, sort_keys=False, default_flow_style=None, width=100)
    export = f"python -m search export {shlex.quote(search)} --out {shlex.quote(f'{search}-best')}"
    blocks = (Text(said), Code(code, "yaml"), Text("Its weights, a model card and this file:"), Code(export, "sh"))
    return Section("recipe", "The recipe", blocks)


def nested(one: Recipe) -> dict[str, object]:
    """A recipe's parameters as a search file writes them: {"schedule": "finetune", "pretrain": {"steps": 500}}."""
    found: dict[str, object] = {}
    for name, value in one.params().items():
        part, dot, inner = name.partition(".")
        if dot:
            group = found.setdefault(part, {})
            assert isinstance(group, dict)
            group[inner] = value
        else:
            found[name] = value
    return found


def reproduce(context: Context) -> Section | None:
    """How to get the same runs again: commands, file, packs by digest, versions, and the runs that this rests on."""
    record, table = context.provenance, context.table
    if record is None:
        return None
    began = datetime.datetime.fromtimestamp(record.began / 1000, datetime.UTC)
    blocks: list[Block] = [
        Text(f"MLflow run `{record.run_id}`, begun on {began:%Y-%m-%d at %H:%M} UTC."),
        Code(
            f"python -m search run {shlex.quote(record.file or f'{table.search}.yaml')}\n"
            f"python -m analysis report {shlex.quote(table.search)}",
            "sh",
        ),
    ]
    winner = context.winner
    if winner is not None:
        runs = ", ".join(f"`{row.run_id}` (seed {row.seed})" for row in winner.rows)
        blocks.append(
            Text(f"The winner is recipe `{winner.recipe.key}`, trial {winner.rows[0].number}; its runs: {runs}.")
        )
    if record.packs:
        rows = tuple(
            (pack.name, pack.context, "" if pack.num_rows is None else f"{pack.num_rows:,}", pack.digest[:16])
            for pack in record.packs
        )
        blocks.append(Grid(("pack", "used for", "samples", "digest"), rows, words=2))
    if record.versions:
        blocks.append(Text(f"Run with {_versions(record.versions)}.", "small"))
    if record.text:
        blocks += [Text(f"The search file, `{record.file}`:"), Code(record.text, "yaml")]
    return Section("reproduce", "How to get this again", tuple(blocks))


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
