"""How much sooner is a search done here than in stock Ray? Two search problems, three sides, the same two CPUs.

    python tests/benchmarks/search_vs_stock.py [--problems A B] [--sides nested function titrate list] [--seeds 3]
        [--first 0] [--trials N] [--steps N] [--data DIR] [--packs DIR] [--out FILE]

Embedded faces beside real photographs (300-W's Helen below --data, else rendered `street` faces), landmarks at 48 px:

    A  the landmark study's question: fine-tuning after synthetic pretraining four times as long, over real fractions,
       adaptations, learning rates and two trunks, beside real and synthetic faces alone
    B  the broad space of the README's search, with all schedules; pretraining three times as long

    nested    stock: Ray Tune, OptunaSearch and ASHA, each trial a nested Ray Train run, as Ray's documentation shows
    function  stock, each trial a plain Tune function
    titrate   `search run` of the same space, trial count, sampler, rungs and reduction factor
    list      a grid of the space's recipes, without pruning, shared and with --no-share: steps of both, and whether
              every metric is the same to the bit

--seeds are the searcher's (and of training; the same on all sides). Ray is started anew for each search and its start
is counted on no side; that of the slots is. A search's value is its best on the last rung; the target is the worst of
those that the sides found with a seed, so that each reached it. Stock's steps are those that trials reported. Every
search is written to --out as it ends, and is not run again when it is there: pieces can be run one by one, and a run of
them all takes hours. Delete the file after a change.

The last line is JSON: A's figures, with B's under "broad" in the same form. Ratios are of stock's sum over seeds over
Titrate's, `wall_ratio_function` of the function trainables, the others of nested runs; `projected` has `wall_ratio` if
a stock trial trained for a minute, or an hour; `step_ratio` and `identical` are the list's.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SIDES = ("nested", "function", "titrate", "list")


def measured(problem: str, side: str, seed: int, data: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """One search, as plain values."""
    import ray
    import torch  # noqa: F401  (the driver's own imports are on no side)

    from search.cluster import connect
    from tests.benchmarks.comparison import SLOTS
    from tests.benchmarks.problems import FACTOR, PROBLEMS

    what = PROBLEMS[problem]
    with tempfile.TemporaryDirectory() as folder:
        if side == "list":
            config, text = what.fixed_list(Path(folder), data, steps=given.steps)
        else:
            config, text = what.config(Path(folder), data, trials=given.trials, seed=seed, steps=given.steps)
        connect(num_cpus=SLOTS)
        try:
            if side == "list":
                from tests.benchmarks.slot_search import list_search

                return list_search(config, text)
            if side == "titrate":
                from tests.benchmarks.slot_search import slot_search

                return slot_search(config, text, SLOTS).as_json()
            from tests.benchmarks.stock_search import stock_search

            shape: Any = side
            return stock_search(config, shape, FACTOR, SLOTS).as_json()
        finally:
            ray.shutdown()


def figures(results: dict[str, Any], problem: str) -> dict[str, Any]:
    """A problem's table, printed, and its figures."""
    from tests.benchmarks import comparison

    found: dict[str, Any] = results.get(problem, {})
    sides = {
        side: {int(seed): comparison.Record.of(values) for seed, values in found[side].items()}
        for side in comparison.SIDES
        if side in found
    }
    fixed_list = next(iter(found.get("list", {}).values()), None)
    print(f"problem {problem}")
    print(*comparison.table(sides), sep="\n")
    if fixed_list is not None:
        print(
            "list: {recipes} recipes, {alone:,} steps alone ({alone_s:.0f} s), {shared:,} shared ({shared_s:.0f} s),"
            " identical: {identical}".format(**fixed_list)
        )
    return _rounded(comparison.figures(sides, fixed_list))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=("A", "B"), default=["A", "B"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--trials", type=int, help="of a search; each problem has its own")
    parser.add_argument("--steps", type=int, help="length of a last stage, a multiple of 9; each problem has its own")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--packs", type=Path, default=ROOT / "packs/bench")
    parser.add_argument("--out", type=Path, default=ROOT / "results/search_vs_stock.json")
    given = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)

    from tests.benchmarks.problems import make_packs

    def say(text: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)

    data = make_packs(given.packs.resolve(), given.data, say)
    asked = {"trials": given.trials, "steps": given.steps, "data": data}
    results: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"asked": asked}
    if results["asked"] != asked:
        parser.error(f"{given.out} must be of the same --trials, --steps and packs, but is of {results['asked']}")
    # Seed by seed, so that all sides have the same ones at any time.
    for seed in range(given.first, given.first + given.seeds):
        for problem in given.problems:
            for side in given.sides:
                done = results.setdefault(problem, {}).setdefault(side, {})
                if str(seed) in done or (side == "list" and done):
                    continue
                say(f"problem {problem}, {side}, seed {seed}")
                began = time.monotonic()
                done[str(seed)] = measured(problem, side, seed, data, given)
                say(f"problem {problem}, {side}, seed {seed}: {time.monotonic() - began:.0f} s")
                given.out.parent.mkdir(parents=True, exist_ok=True)
                given.out.write_text(json.dumps(results))
    print(json.dumps(figures(results, "A") | {"broad": figures(results, "B")}))


if __name__ == "__main__":
    main()
