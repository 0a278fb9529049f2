"""How fast are the embedded faces? All outputs, two processes, at 128 and at 256 pixels.

    python tests/benchmarks/face_speed.py [--workers 2] [--runs 5] [--domain studio]

The faces come through `datasets.generate.generate_faces`, as a pack's do, every column of them, and are dropped. What
starts the processes (imports, compiled code, tables) is a price paid once: the first faces are not counted, and it is
printed apart. A run is a stretch of --stretch faces out of the middle of one long sequence, so that no process waits
at its ends; the figure is the median of --runs of them. Processor milliseconds in one process are printed beside it,
since they depend less on what else the machine does. The last line is JSON: images a second of all processes together.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SIZES = (128, 256)
WARM_UP = 64  # faces before the first run, and behind the last
ALONE = 16  # faces rendered in this process


def rates(size: int, given: argparse.Namespace) -> tuple[float, list[float]]:
    """(seconds until the first faces came, images a second of every run)."""
    from datasets.generate import FaceSet, generate_faces

    # Faces behind the last run keep the processes busy until its end; then they are cancelled.
    faces = FaceSet(2 * WARM_UP + given.runs * given.stretch, size, given.domain, seed=1)
    began = time.perf_counter()
    rows = generate_faces(faces, workers=given.workers)
    next(rows)
    first = time.perf_counter() - began
    for _ in islice(rows, WARM_UP - 1):
        pass
    runs = []
    for _ in range(given.runs):
        began = time.perf_counter()
        for _ in islice(rows, given.stretch):
            pass
        runs.append(given.stretch / (time.perf_counter() - began))
    rows.close()
    return first, runs


def milliseconds_alone(size: int, domain: str) -> list[float]:
    """Processor milliseconds of each of some faces in this process, once compiled code and tables are there."""
    from datasets.generate import FaceSet

    faces = FaceSet(2 * ALONE, size, domain, seed=1)
    times = []
    for i in range(2 * ALONE):
        began = time.process_time()
        faces.face(i)
        times.append(1000 * (time.process_time() - began))
    return times[ALONE:]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--stretch", type=int, default=128, help="faces a run")
    parser.add_argument("--domain", default="studio", help="of the faces")
    return parser.parse_args(arguments)


def main() -> None:
    import cv2
    from threadpoolctl import threadpool_limits

    given = parse()
    cores = min(given.workers, len(os.sched_getaffinity(0)))
    print(f"{given.workers} processes on {cores} cores, load before the first run {os.getloadavg()[0]:.1f}", flush=True)
    figures = {}
    for size in SIZES:
        first, runs = rates(size, given)
        rate = statistics.median(runs)
        figures[f"images_per_s_{size}"] = round(rate, 1)
        print(
            f"{size:>4} px: {rate:.1f} images/s, {rate / cores:.1f} images/s per core"
            f"   (runs {', '.join(f'{value:.1f}' for value in runs)}; the first face after {first:.1f} s)",
            flush=True,
        )
    cv2.setNumThreads(0)
    with threadpool_limits(1):
        for size in SIZES:
            times = milliseconds_alone(size, given.domain)
            print(
                f"{size:>4} px: {statistics.median(times):.0f} ms of one processor an image in one process"
                f"   ({min(times):.0f} to {max(times):.0f})",
                flush=True,
            )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
