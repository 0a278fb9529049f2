"""What does a search lose when something fails under it, and does it still end with the numbers of an undisturbed one?

    python tests/benchmarks/faults.py [ROW ...] [--folder FOLDER]

Each row is a small real search (two recipes, two seeds, one slot, on this machine) to which one thing is done in the
middle, after which a user does mostly nothing, or the same command again. A row has

    lost_steps  steps that were trained more than once, as the training processes count them themselves
    recovery_s  the longest time without a training step from the fault on; with another start of the command in it
                where one is needed
    identical   whether every metric of every recipe and seed in MLflow, and what the study was told, are to the bit
                those of the undisturbed search
    orphans     what is left: processes of the search, runs of MLflow that have not ended, leases, claims and halves of
                objects in the store
    runs        how often the command was run

Without rows, all of them run, for half an hour or more: the undisturbed search first, whose `recovery_s` says what
belongs to training itself (evaluations). Linux, and for `store_full` root, since it mounts a small tmpfs.
A row that goes wrong otherwise is printed with its reason, and null in the JSON. FOLDER keeps everything, and an
undisturbed search that is there already is not run again. The last line is JSON: {ROW: {...}}.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

from tests.benchmarks.fault_data import DATA  # noqa: E402
from tests.benchmarks.fault_kills import KILLS  # noqa: E402
from tests.benchmarks.fault_nodes import NODES  # noqa: E402
from tests.benchmarks.fault_outages import OUTAGES  # noqa: E402
from tests.benchmarks.fault_search import FaultySearch  # noqa: E402

ROWS = {row.__name__: row for row in (*KILLS, *NODES, *OUTAGES, *DATA)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if unknown := [row for row in given.rows if row not in ROWS]:
        parser.error(f"a row must be one of {', '.join(ROWS)}, but got {unknown[0]}")
    if given.folder is not None:
        figures = measure(given.rows or list(ROWS), given.folder.resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            figures = measure(given.rows or list(ROWS), Path(folder))
    print(json.dumps(figures))


def measure(rows: list[str], folder: Path) -> dict[str, Any]:
    kept = folder / "undisturbed.json"
    figures: dict[str, Any] = {}
    if not kept.exists():
        figures["undisturbed"] = run_row(undisturbed, folder / "undisturbed", None)
        if figures["undisturbed"] is None:
            raise SystemExit("the undisturbed search must end, but did not")
    truth = json.loads(kept.read_text())
    for row in rows:
        figures[row] = run_row(ROWS[row], folder / row, truth)
    return figures


def undisturbed(search: FaultySearch) -> None:
    """Nothing happens."""
    search.start()
    search.end(0)
    (search.folder.parent / "undisturbed.json").write_text(json.dumps(search.table()))


def run_row(row: Callable[[FaultySearch], None], folder: Path, truth: dict[str, str] | None) -> dict[str, Any] | None:
    """The figures of a row; None where it did not come to its end."""
    shutil.rmtree(folder, ignore_errors=True)
    search = FaultySearch(folder)
    began = time.monotonic()
    try:
        row(search)
        if search.found is None:
            search.look()
        assert search.found is not None
        table, orphans = search.found
    except Exception as error:  # noqa: BLE001  (the other rows still say something)
        print(f"{row.__name__:<24} {type(error).__name__}: {error}", flush=True)
        return None
    finally:
        search.close()
    orphans, truth = search.left + orphans, search.truth or truth
    figures = {
        "lost_steps": search.lost_steps(),
        "recovery_s": round(search.still_s(), 1),
        "identical": truth is None or table == truth,
        "orphans": len(orphans),
        "runs": search.runs,
    }
    print(f"{row.__name__:<24} {figures} in {time.monotonic() - began:.0f} s", flush=True)
    for orphan in orphans:
        print(f"    left: {orphan}")
    for name in sorted(table.keys() ^ (truth or table).keys()):
        print(f"    {'more' if name in table else 'absent'}: {name}")
    return figures


if __name__ == "__main__":
    main()
