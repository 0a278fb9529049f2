"""The live view of a search: a table that redraws on a terminal, plain lines everywhere else."""

import threading
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S = 10.0


class View:
    """Shows what `look` returns, once a second, until it is closed. Use as a context manager.

    look  called from the view's thread; returns {"summary": Ledger.summary(), "slots": Dispatcher.snapshot()["slots"],
          "queued": jobs that wait for a slot, "left_s": seconds or None, "note": what else there is to say}
    """

    def __init__(self, look: Callable[[], dict[str, Any]], console: Console, metric: str) -> None:
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
                    live.update(self._draw(self._look()), refresh=True)
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

    def _draw(self, now: dict[str, Any]) -> Group:
        table = Table(title=None, box=None, pad_edge=False)
        for heading in ("slot", "stage", "step", "seed", "recipe", "idle"):
            table.add_column(heading)
        for number, slot in now["slots"].items():
            if slot["job"] is None:
                table.add_row(str(number), "waits", "", "", "", f"{slot['idle']:.0%}")
            else:
                cells = (slot["leg"], str(slot["step"]), str(slot["replicate"]), slot["recipe"], f"{slot['idle']:.0%}")
                table.add_row(str(number), *cells)
        return Group(Text(head_line(now, self._metric)), table)


def head_line(now: dict[str, Any], metric: str) -> str:
    """`12/24 recipes done (1 failed), 3 running, 4 queued; best val/miou 0.61: finetune ...; 2 min left`."""
    s = now["summary"]
    failed = f" ({s['failed']} failed)" if s["failed"] else ""
    best = f"; best {metric} {s['best'][0][0]:.4f}: {s['best'][0][1]}" if s["best"] else ""
    left = f"; {duration(now['left_s'])} left" if now["left_s"] is not None else ""
    note = f" [{now['note']}]" if now["note"] else ""
    done = f"{s['ended']}/{s['recipes']} recipes done{failed}"
    return f"{done}, {s['running']} running, {now['queued']} queued{best}{left}{note}"


def plain_line(now: dict[str, Any], metric: str) -> str:
    """The same, with what each slot does, on one line."""
    slots = [f"slot {n}: {s['leg']} @{s['step']}" if s["job"] else f"slot {n}: waits" for n, s in now["slots"].items()]
    return "; ".join([head_line(now, metric), *slots])


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
