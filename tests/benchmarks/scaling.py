"""How do the steps of a search grow with its slots, over several nodes, and how long do slots take to start?

    python tests/benchmarks/scaling.py [--slots 1 2 4 8] [--start 32] [--step-s 0.2] [--steps 400]

Each number of slots is one real search on a Ray cluster of this machine: a head without slots and up to four nodes,
each started as on a machine of its own. A slot trains one seed of a toy recipe, of which a step takes some milliseconds
and then sleeps to the end of --step-s: the machine's own cores would otherwise be what is measured. The ideal is then
as many times the steps of one slot, and what is missing is what the engine costs.

    steps a second  while every slot trains, as the training processes write their steps down (fault_hooks.py)
    first, last     seconds from the command to the first step of the first and of the last slot; the cluster is up

--start numbers of slots are started, and their search is then ended. Some 650 MB for each slot, 106 fewer with
RAY_TRAIN_ENABLE_PREEMPTION_WATCHER=0. The last line is JSON.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.fault_search import FaultySearch, Step  # noqa: E402
from tests.nodes import nodes  # noqa: E402
from tests.toy import toy_search  # noqa: E402

NODES = 4


@dataclass(frozen=True)
class Scale:
    """A search with so many slots: see the module. `rate` is None where it was only started."""

    first_s: float
    last_s: float
    rate: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--start", type=int, nargs="*", default=[32])
    parser.add_argument("--step-s", type=float, default=0.2)
    parser.add_argument("--steps", type=int, default=400)
    given = parser.parse_args()
    scales: dict[int, Scale] = {}
    for slots in (*given.slots, *given.start):
        with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
            whole = slots in given.slots
            scales[slots] = measure(slots, given.step_s, given.steps, Path(folder) / "search", whole=whole)
        scale = scales[slots]
        rate = "" if scale.rate is None else f"; {scale.rate:.2f} steps/s"
        print(f"{slots} slots: first step after {scale.first_s:.1f} s, the last slot's {scale.last_s:.1f} s{rate}")
        sys.stdout.flush()
    rates = {slots: scale.rate for slots, scale in scales.items() if scale.rate is not None}
    one = rates.get(1)
    efficiency = {slots: rate / slots / one for slots, rate in rates.items()} if one else {}
    if efficiency:
        print("against the ideal: " + ", ".join(f"{slots} slots {e:.1%}" for slots, e in efficiency.items()))
    figures = {
        "slots": {str(slots): round(rate, 3) for slots, rate in rates.items()},
        "efficiency_8": round(efficiency[8], 4) if 8 in efficiency else None,
        "first_step_s": {str(slots): round(scale.first_s, 1) for slots, scale in scales.items()},
        "start_s": {str(slots): round(scale.last_s, 1) for slots, scale in scales.items()},
    }
    print(json.dumps(figures))


def measure(slots: int, step_s: float, steps: int, folder: Path, *, whole: bool) -> Scale:
    search = FaultySearch(folder)
    search.environment["FAULTS_STEP_S"] = str(step_s)
    search.file = toy_search(
        search.packs,
        folder,
        {
            "schedule: [real_only, synthetic_only, finetune]": "schedule: [real_only, synthetic_only]",
            "real_fraction: [0.5, 1.0]": "real_fraction: [1.0]",
            "pretrain: {steps: [4], lr: [0.05]}": "",
            "budget: {steps: 6, rungs: [3, 6], seeds: 2}": f"budget: {{steps: {steps}, seeds: {-(-slots // 2)}}}",
            "sampler: grid": f"sampler: grid\nslots: {{count: {slots}}}",
        },
    )
    count = min(NODES, slots)
    cpus = [slots // count + (number < slots % count) for number in range(count)]
    with nodes(search.environment, *cpus) as cluster:
        search.environment = cluster.environment
        search.options = ["--address", cluster.address]
        try:
            began = time.time()
            command = search.start()
            search.until(lambda: len(_by_process(search.steps())) >= slots, f"a step of each of {slots} slots")
            if whole:
                search.end(0)
            else:
                command.send_signal(signal.SIGINT)
                search.end(130)
        finally:
            search.close()
    by_process = _by_process(search.steps())
    firsts = sorted(steps[0].at for steps in by_process.values())
    return Scale(firsts[0] - began, firsts[slots - 1] - began, _rate(by_process, slots) if whole else None)


def _by_process(steps: list[Step]) -> dict[int, list[Step]]:
    found: dict[int, list[Step]] = {}
    for step in steps:
        found.setdefault(step.process, []).append(step)
    return found


def _rate(by_process: dict[int, list[Step]], slots: int) -> float:
    """Steps a second from the first step of the last slot to the last step of the first."""
    if len(by_process) != slots:
        raise RuntimeError(f"{slots} slots must train, but {len(by_process)} processes did")
    since = max(steps[0].at for steps in by_process.values())
    until = min(steps[-1].at for steps in by_process.values())
    inside = [step for steps in by_process.values() for step in steps if since <= step.at <= until]
    if until - since < 30 * statistics.median(_gaps(by_process)):
        raise RuntimeError("all slots must train at once for 30 steps, but did not: give more --steps")
    return (len(inside) - slots) / (until - since)


def _gaps(by_process: dict[int, list[Step]]) -> list[float]:
    return [b.at - a.at for steps in by_process.values() for a, b in pairwise(steps)]


if __name__ == "__main__":
    main()
