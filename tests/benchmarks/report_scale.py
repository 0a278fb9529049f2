"""How long does the report of a large search take? From a SQLite MLflow store, read and written by `analysis report`.

    python tests/benchmarks/report_scale.py [--trials 5000] [--results FOLDER] [--profile FILE]

The search (tests/benchmarks/large_search.py) is written first, which is not measured, unless FOLDER has it already. Its
`--trials` are recipes, as everywhere; the better ones have three seeds, so that there are more runs. The page is made
in a process of its own, from its start to its end. --profile makes it here too, before that, and writes cProfile's
statistics. The last line is JSON.
"""

import argparse
import cProfile
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

NAME = "large"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--profile", type=Path)
    given = parser.parse_args()

    from search.tracking import default_uri
    from tests.benchmarks.large_search import write

    with tempfile.TemporaryDirectory() as scratch:
        results = (given.results or Path(scratch) / "results").absolute()
        if not (results / "mlflow.db").exists():
            began = time.monotonic()
            runs = write(results, NAME, given.trials)
            print(f"wrote {given.trials} recipes in {runs} runs within {time.monotonic() - began:.0f} s", flush=True)
        uri, out = default_uri(results), Path(scratch) / "out"
        if given.profile:
            _profile(uri, out, given.profile)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
        command = [sys.executable, "-m", "analysis", "report", NAME, "--out", str(out)]
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        wall_s = time.monotonic() - began
        print(done.stdout, done.stderr, sep="", end="")
        print(f"report.html has {(out / 'report.html').stat().st_size / 1e6:.1f} MB")
    print(json.dumps({"trials": given.trials, "wall_s": round(wall_s, 1)}))


def _profile(uri: str, out: Path, file: Path) -> None:
    from analysis.report import report
    from analysis.report_context import Context

    profile = cProfile.Profile()
    profile.enable()
    report(Context.load(NAME, uri)).write(out)
    profile.disable()
    profile.dump_stats(file)


if __name__ == "__main__":
    main()
