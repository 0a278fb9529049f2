"""How many trials can the engine carry? Trials that train nothing, so that what remains is the engine.

    python tests/benchmarks/engine_scale.py [--parts dispatcher tune load stock] [--slots 64] [--jobs 2000]
        [--trials 2000] [--load-trials 1000] [--pace-s 2] [--stock-trials 200] [--stock-concurrent 16] [--profile FILE]

    dispatcher  the dispatcher in this process: --slots simulated slots and --jobs jobs of 5 reports each. Verdicts a
                second as fast as they come (a verdict is one report that its trial has fetched), and, at 500 of them a
                second, the 99th percentile of the milliseconds between a job and a slot that are both there
    tune        a whole search of --trials recipes of 5 rungs through Tune: the searcher, the scheduler, the ledger on
                a SQLite study, trials' actors and the dispatcher's are the real ones. Its --slots slots are threads of
                one actor that run the real slot loop without training; MLflow hears nothing. Trials a second of the
                whole and of the steady state (the last 80% of them), the driver's growth of memory in that state, and
                how many actors carried the trials
    load        the same, with --pace-s seconds between a slot's evaluations, as if it trained. Once all is started
                (between the ends of 50% and of 90% of the trials), the load of the driver and of the dispatcher, in CPU
                seconds a second, and the share of the slots' time in which they had nothing to do
    stock       plain Tune functions of 5 reports each, --stock-concurrent at a time: trials a second, and the driver's
                growth of memory

--profile writes cProfile's statistics of the driver in `tune`. A trial's actor is a process of some 120 MB and 2 CPU
seconds (Tune imports Ray Data and pandas): on few cores their start is most of `tune`. The last line is JSON.
"""

import argparse
import cProfile
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PACE = 500  # verdicts a second
KEYS = ("verdicts_per_s", "trials_per_s", "steady_trials_per_s", "stock_trials_per_s", "rss_growth_mb")
KEYS += ("p99_dispatch_ms", "actors", "driver_load", "dispatcher_load", "slots_idle")
KEYS += ("rss_kb_a_trial", "stock_rss_kb_a_trial")
PARTS = ("dispatcher", "tune", "load", "stock")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--load-trials", type=int, default=1000)
    parser.add_argument("--pace-s", type=float, default=2.0)
    parser.add_argument("--stock-trials", type=int, default=200)
    parser.add_argument("--stock-concurrent", type=int, default=16)
    parser.add_argument("--profile", type=Path)
    given = parser.parse_args()

    import numpy as np

    from search.cluster import connect

    found: dict[str, Any] = dict.fromkeys(KEYS)
    for part in given.parts:
        if part != "dispatcher":
            connect(num_cpus=given.stock_concurrent if part == "stock" else 2)
        import ray

        from tests.benchmarks.untrained import REPORTS, dispatch, stock_search, untrained_search

        try:
            if part == "dispatcher":
                found["verdicts_per_s"], _ = dispatch(given.jobs, given.slots)
                _, latencies = dispatch(given.jobs, given.slots, pause_s=given.slots / PACE)
                found["p99_dispatch_ms"] = float(np.percentile(latencies, 99))
                print(f"dispatcher: {found['verdicts_per_s']:,.0f} verdicts/s;", end=" ")
                print(f"at {PACE} a second a job waits {found['p99_dispatch_ms']:.2f} ms (p99)", flush=True)
            elif part == "tune":
                profile = cProfile.Profile()
                if given.profile:
                    profile.enable()
                scale = untrained_search(given.trials, given.slots)
                if given.profile:
                    profile.disable()
                    profile.dump_stats(given.profile)
                found |= {"trials_per_s": scale.trials_per_s, "steady_trials_per_s": scale.steady}
                found |= {"rss_kb_a_trial": scale.rss_kb_a_trial, "actors": scale.actors}
                found["rss_growth_mb"] = 0.8 * given.trials * scale.rss_kb_a_trial / 1024
                print(f"tune: {scale.trials_per_s:.1f} trials/s, {scale.steady:.1f} in the steady state;", end=" ")
                print(f"driver {scale.rss_kb_a_trial:+.1f} kB a trial; {scale.actors} actors", flush=True)
            elif part == "load":
                scale = untrained_search(given.load_trials, given.slots, pace_s=given.pace_s, between=(0.5, 0.9))
                idle = 1 - scale.steady * REPORTS * given.pace_s / given.slots
                loads = {"driver_load": scale.driver_load, "dispatcher_load": scale.dispatcher_load}
                found |= loads | {"slots_idle": idle}
                print(f"load: {given.slots} slots, {scale.steady:.1f} trials/s, {idle:.1%} idle;", end=" ")
                print(f"driver {scale.driver_load:.0%} of a core, dispatcher {scale.dispatcher_load:.0%}", flush=True)
            else:
                rate, growth = stock_search(given.stock_trials, given.stock_concurrent)
                found |= {"stock_trials_per_s": rate, "stock_rss_kb_a_trial": growth}
                print(f"stock: {rate:.2f} trials/s; driver {growth:+.1f} kB a trial", flush=True)
        finally:
            ray.shutdown()
    print(json.dumps({name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}))


if __name__ == "__main__":
    main()
