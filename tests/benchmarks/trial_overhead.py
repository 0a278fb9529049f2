"""What does it cost to start a trial? Three ways to run the same trivial trials, in one run.

  (a)  a Tune trial that starts a nested Ray Train V2 run each, as Ray's documentation shows
  (a2) a plain Tune function trainable that imports torch
  (b)  a search through warm slots: the same number of recipes, each a real training of one step and an evaluation

    python tests/benchmarks/trial_overhead.py [--nested 6] [--function 16] [--slots 60]

Two at a time, on two CPUs. Ray is started anew for each side, and its start is not counted on any. (b) counts from the
slots' first request for work to the last result, as a search pays for its slots once; `slot_start_s` is that price. The
last line is JSON: seconds a trial and how many times (b)'s the others are.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SEARCH = """
name: overhead
task: {{kind: segmentation, width: 0.0625, resolution: 32, aspp_rates: [1, 2, 3]}}
data: {{real: {{toy: {packs}/real}}, val: {packs}/val}}
space: {{schedule: [real_only], real_fraction: [1.0], lr: {{low: 0.001, high: 0.1}}}}
budget: {{trials: {trials}, steps: 1}}
sampler: random
training: {{batch_size: 2, warmup: 0}}
slots: {{count: 2}}
"""


def slot_trials(num_trials: int, folder: Path) -> tuple[float, float]:
    """(seconds from the slots' readiness to the end of `num_trials` trials, seconds until the slots were ready)."""
    from rich.console import Console

    from search.config import load
    from search.run import run
    from tests.conftest import write_toy_pack

    write_toy_pack(folder / "real", range(2), synthetic=False)
    write_toy_pack(folder / "val", range(10, 12), synthetic=False)
    file = folder / "overhead.yaml"
    file.write_text(SEARCH.format(packs=folder, trials=num_trials))
    clock = _Clock()
    began = time.monotonic()
    with mock.patch("search.run.Tracker", return_value=clock):
        run(load(file), file.read_text(), results=folder / "results", console=Console(quiet=True))
    assert len(clock.ends) == num_trials, f"{len(clock.ends)} of {num_trials} trials ended"
    # The first trials wait for the slots and the trials' actors to start: that is the price paid once.
    ready = clock.ends[1]
    return (clock.ends[-1] - ready) / (num_trials - 2) * num_trials, ready - began


class _Clock:
    """In the place of a tracker: it notes when each trial ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def trial_ended(self, recipe_key: str, seed: int, status: str, **_: object) -> None:
        assert status == "finished", status
        self.ends.append(time.monotonic())

    def __getattr__(self, name: str) -> Any:
        """Whatever else it is told is heard, and nothing is written."""
        return lambda *_, **__: False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nested", type=int, default=6)
    parser.add_argument("--function", type=int, default=16)
    parser.add_argument("--slots", type=int, default=60)
    given = parser.parse_args()

    import ray

    from search.cluster import connect
    from tests.benchmarks.stock import function_trials, nested_trials

    sides = {}
    for name, count in (("nested", given.nested), ("function", given.function), ("slot", given.slots)):
        connect(num_cpus=2)
        try:
            with tempfile.TemporaryDirectory() as folder:
                start = None
                if name == "nested":
                    seconds = nested_trials(count, 2)
                elif name == "function":
                    seconds = function_trials(count, 2)
                else:
                    seconds, start = slot_trials(count, Path(folder))
        finally:
            ray.shutdown()
        sides[name] = seconds / count
        print(
            f"{name:>9}: {count} trials, {seconds / count:.3f} s a trial"
            + (f", slots ready in {start:.1f} s" if start else ""),
            flush=True,
        )
    figures = {f"{name}_s": round(seconds, 4) for name, seconds in sides.items()}
    figures["ratio"] = round(sides["nested"] / sides["slot"], 1)
    figures["ratio_function"] = round(sides["function"] / sides["slot"], 1)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
