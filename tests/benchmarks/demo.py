"""The demo's search, timed: packs, search, curve and recommendation in a temporary folder, as `make demo` runs it.

    python tests/benchmarks/demo.py

The last line is JSON: wall seconds (the packs' rendering and Ray's start included), trials (recipes x seeds), the steps
that the trials need alone, and the steps that were trained.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main() -> None:
    from rich.console import Console

    from search.demo import EXAMPLE, make_packs, read
    from search.run import run
    from search.study import num_recipes

    console = Console(file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        packs = Path(folder) / "packs"
        make_packs(packs, console)
        config = read(packs)
        result = run(config, EXAMPLE.read_text(), results=Path(folder) / "results", console=console)
        wall = time.monotonic() - began
    assert result.conclusion is not None
    print(result.conclusion.recommendation)
    figures = {
        "wall_s": round(wall, 1),
        "trials": num_recipes(config) * config.budget.seeds,
        "steps_alone": result.steps_alone,
        "steps_trained": result.steps_trained,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
