"""The view of a search: what there is to see of it, as plain values, and how that is drawn: a table that redraws on a
terminal, lines elsewhere. `run` draws its own search, and `status` another process's.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import TypedDict  # which pydantic reads

PLAIN_EVERY_S = 10.0
BEST_SHOWN = 5  # recipes, and stages that others wait for: fewer where a low terminal has
ENOUGH_SLOTS = 8  # lines of slots too few beside them


class Summary(TypedDict, total=False):
    """Ledger.summary(): counts of recipes, and the best so far.

    ended   told to Optuna; `failed` and `pruned` are among them
    left    wait at a rung, left behind for now
    best    [value, recipe, seeds], the best first
    objectives, pareto  the names of several objectives, and [values, recipe, seeds] of each recipe on the front
    """

    recipes: int
    asked: int
    ended: int
    failed: int
    pruned: int
    left: int
    running: int
    best: Sequence[tuple[float, str, int]]
    objectives: Sequence[str]
    pareto: Sequence[tuple[Sequence[float], str, int]]


class SlotLook(TypedDict, total=False):
    """What a slot does; `job` is None while it waits. `idle` is the share of its time that it waited."""

    process: str
    job: str | None
    recipe: str | None
    replicate: int | None
    leg: str | None
    step: int
    target: int
    idle: float


class StageLook(TypedDict, total=False):
    """A stage in training, and how many trials wait for it."""

    leg: str
    step: int
    target: int
    waits: int


class Stages(TypedDict, total=False):
    """The tree: how many of its stages are trained, in training and waiting, and those in training."""

    trained: int
    training: int
    waiting: int
    now: Sequence[StageLook]


class CostLook(TypedDict, total=False):
    """Steps trained so far, and those of the same trials by themselves; accelerator-hours spent, and their budget."""

    steps_trained: int
    steps_alone: int
    hours: float
    budget_hours: float | None


class Look(TypedDict, total=False):
    """What there is to see of a search. What is absent or None is not shown; all of it passes through JSON.

    slots    by number, which JSON makes a text; `slots_left_out` more are not among them
    queued, waiting  jobs that wait for a slot, and those that wait for a stage that another trains
    runs     runs in MLflow by status, where nothing else is known
    left_s   seconds to the end, as estimated
    note     what else there is to say
    """

    summary: Summary
    slots: Mapping[int, SlotLook] | Mapping[str, SlotLook]
    slots_left_out: int
    queued: int
    waiting: int
    stages: Stages
    cost: CostLook
    runs: Mapping[str, int]
    left_s: float | None
    note: str


class View:
    """Shows what `look` returns, once a second, until it is closed. Use as a context manager.

    look  called from the view's thread
    """

    def __init__(self, look: Callable[[], Look], console: Console, metric: str) -> None:
        self._look = look
        self._console = console
        self._metric = metric
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)
        self._started = time.monotonic()

    def __enter__(self) -> "View":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        if self._console.is_terminal:
            with Live(console=self._console, transient=True, auto_refresh=False) as live:
                while not self._ended.wait(1.0):
                    live.update(draw(self._look(), self._metric, self._console), refresh=True)
            return
        last = ""
        wait = 1.0
        while not self._ended.wait(wait):
            line = plain_line(self._look(), self._metric)
            if line != last:
                self._console.print(
                    f"[{time.monotonic() - self._started:4.0f}s] {line}", markup=False, highlight=False, soft_wrap=True
                )
                last = line
            wait = PLAIN_EVERY_S


def draw(now: Look, metric: str, console: Console, above: Sequence[str] = ()) -> RenderableType:
    """The whole view below the lines `above`, no higher than the terminal: the slots that have a job come first."""
    head = [Text(line) for line in (*above, head_line(now)) if line]
    slots = now.get("slots", {})
    for most in (BEST_SHOWN, BEST_SHOWN // 2, 1):  # of stages and of recipes
        below = [*_stages(now, most), *_best(now, metric, most), *_cost(now)]
        taken = len(console.render_lines(Group(*head, *below), pad=False))
        room = console.size.height - taken - 3  # the table's heading, what it leaves out, and the cursor
        if room >= min(len(slots), ENOUGH_SLOTS) or not console.is_terminal:
            break
    shown = min(len(slots), max(1, room)) if console.is_terminal else len(slots)
    return Group(*head, *([_slot_table(slots, shown, now.get("slots_left_out", 0))] if slots else []), *below)


def busy_first(slots: Mapping[int, SlotLook] | Mapping[str, SlotLook]) -> list[tuple[int | str, SlotLook]]:
    """The slots that have a job, then those that wait, each by number."""
    return sorted(slots.items(), key=lambda one: (one[1].get("job") is None, int(one[0])))


def _slot_table(slots: Mapping[int, SlotLook] | Mapping[str, SlotLook], shown: int, unknown: int) -> RenderableType:
    order = busy_first(slots)
    table = Table(box=None, pad_edge=False, expand=True)
    for heading in ("slot", "stage", "step", "seed", "idle"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("step", "idle") else "left")
    table.add_column("recipe", no_wrap=True, overflow="ellipsis", ratio=1)
    for number, slot in order[:shown]:
        idle = f"{slot['idle']:.0%}" if "idle" in slot else ""
        if slot.get("job") is None:
            table.add_row(str(number), "waits", "", "", idle, "")
        else:
            seed, recipe = slot.get("replicate"), slot.get("recipe") or ""
            table.add_row(
                str(number), slot.get("leg") or "", _step(slot), "" if seed is None else str(seed), idle, recipe
            )
    hidden = [slot for _, slot in order[shown:]]
    if not hidden and not unknown:
        return table
    busy = sum(slot.get("job") is not None for slot in hidden)
    what = "" if unknown else f": {busy} train, {len(hidden) - busy} wait"
    return Group(table, Text(f"and {len(hidden) + unknown} more slots{what}"))


def _step(one: SlotLook | StageLook) -> str:
    target = one.get("target")
    return str(one.get("step", "")) + (f"/{target}" if target is not None else "")


def _stages(now: Look, most: int) -> list[RenderableType]:
    stages = now.get("stages", {})
    counts: Mapping[str, object] = {"trained": stages.get("trained"), "in training": stages.get("training")}
    counts = {**counts, "waiting": stages.get("waiting")}
    known = [f"{count} {text}" for text, count in counts.items() if count is not None]
    waited = sorted(((one.get("waits", 0), one) for one in stages.get("now", ())), key=lambda pair: -pair[0])
    waited = [pair for pair in waited if pair[0]]
    lines = [f"stages: {', '.join(known)}"] if known else []
    for count, one in waited[:most]:
        trials = f"{count} trials wait" if count > 1 else "1 trial waits"
        lines.append(f"  {one.get('leg', 'a stage')} at {_step(one)}: {trials} for it")
    if others := waited[most:]:
        lines.append(f"  and {len(others)} more stages, for which {sum(count for count, _ in others)} trials wait")
    return [_one_line(line) for line in lines]


def _best(now: Look, metric: str, most: int) -> list[RenderableType]:
    summary = now.get("summary", {})
    if front := list(summary.get("pareto", ())):
        names = " and ".join(summary.get("objectives", (metric,)))
        lines = [f"on the Pareto front of {names}:"]
        for values, recipe, seeds in front[:most]:
            lines.append(f"  {'  '.join(f'{value:.6g}' for value in values)}  {_seeds(seeds)}{recipe}")
        lines += [f"  and {len(front) - most} more"] if len(front) > most else []
    else:
        best = list(summary.get("best", ()))[:most]
        lines = [f"best {metric}:"] if best else []
        lines += [f"  {value:.4f}  {_seeds(seeds)}{recipe}" for value, recipe, seeds in best]
    return [_one_line(line) for line in lines]


def _seeds(count: int) -> str:
    return f"{count} seeds  " if count > 1 else "1 seed   "


def _cost(now: Look) -> list[RenderableType]:
    line = cost_line(now.get("cost", {}))
    left = now.get("left_s")
    ends = f"about {duration(left)} left" if left is not None else ""
    return [Text("; ".join(part for part in (line, ends) if part))] if line or ends else []


def _one_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def cost_line(cost: CostLook) -> str:
    """`trained 12,300 steps for what takes 41,000 alone (70% saved), 0.8 of 2.0 accelerator-hours`."""
    parts = []
    trained, alone = cost.get("steps_trained"), cost.get("steps_alone")
    if trained is not None and (trained or alone):
        saved = (
            f" for what takes {alone:,} alone ({1 - trained / alone:.0%} saved)" if alone and alone >= trained else ""
        )
        parts.append(f"trained {trained:,} steps{saved}")
    if (hours := cost.get("hours")) is not None:
        budget = cost.get("budget_hours")
        parts.append(f"{short(hours)}{f' of {short(budget)}' if budget else ''} accelerator-hours")
    return ", ".join(parts)


def head_line(now: Look) -> str:
    """`12 of 24 recipes done (1 failed, 4 pruned), 3 running, 5 left behind at a rung; trials: 4 queued`."""
    s = now.get("summary", {})
    inner = ", ".join(f"{s[key]} {key}" for key in ("failed", "pruned") if s.get(key))
    of = f" of {s['recipes']}" if "recipes" in s else ""
    words = [f"{s['ended']}{of} recipes done" + (f" ({inner})" if inner else "")] if "ended" in s else []
    words += [f"{s['running']} running"] if s.get("running") else []
    words += [f"{s['left']} left behind at a rung"] if s.get("left") else []
    trials = [f"{now['queued']} queued"] if "queued" in now else []
    trials += [f"{now['waiting']} waiting for a stage"] if now.get("waiting") else []
    runs = ", ".join(f"{count} {status}" for status, count in now.get("runs", {}).items())
    words += [f"runs in MLflow: {runs}"] if runs else []
    note = f" [{now['note']}]" if now.get("note") else ""
    return "; ".join([", ".join(words), *([f"trials: {', '.join(trials)}"] if trials else [])]) + note


def plain_line(now: Look, metric: str) -> str:
    """The view on one line: counts, the best recipe, the cost, the time left and what each slot does."""
    parts = [head_line(now)]
    if best := list(now.get("summary", {}).get("best", ())):
        parts.append(f"best {metric} {best[0][0]:.4f}: {best[0][1]}")
    if cost := cost_line(now.get("cost", {})):
        parts.append(cost)
    if (left := now.get("left_s")) is not None:
        parts.append(f"{duration(left)} left")
    for number, slot in now.get("slots", {}).items():
        busy = slot.get("job") is not None
        parts.append(f"slot {number}: {slot.get('leg')} @{_step(slot)}" if busy else f"slot {number}: waits")
    return "; ".join(parts)


def short(number: float) -> str:
    """`0.12`, `3.4`, `1,200`."""
    return f"{number:.2g}" if number < 10 else f"{number:,.0f}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
