"""How well do laws predict cells that they have not seen, and do their 90% intervals cover 90%?

    python tests/benchmarks/laws.py [TABLE.csv] [--draws 40]

TABLE.csv has columns num_real, num_synthetic and error; by default it is the grid of 9 x 8 ImageNet runs of Mikami et
al. 2021 (pretrained on renders, fine-tuned on photographs). The law (`analysis.laws.fit`) is fitted to some of its
cells and predicts all others, always in the same way:

    extrapolate_synthetic    from all but the two largest synthetic counts (ImageNet: from 16k to 32k and 64k)
    extrapolate_real         from all but the three largest real counts (ImageNet: from 16% to 32, 64 and 100%)
    interpolate_20, _12      from 20 and from 12 cells at random, the mean over --draws drawings
    coverage_20, _12         the part of the predicted cells inside their 90% intervals

Errors are means of |predicted - measured| / measured, as fractions, beside those of "no change", which predicts the
nearest cell that was trained on, by the logarithms of both counts. Extrapolations leave at least three counts to fit.
Other columns, and rows without an error, are not read. The last line is JSON; a figure for which the table has too few
cells is null.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from analysis.laws import fit, no_change  # noqa: E402

Floats = NDArray[np.float64]
COLUMNS = ("num_real", "num_synthetic", "error")


class Grid:
    """The rows of a table, and which cell each is a replicate of."""

    def __init__(self, real: Floats, synthetic: Floats, error: Floats) -> None:
        self.real, self.synthetic, self.error = real, synthetic, error
        cells, self.cell = np.unique(np.stack([real, synthetic]), axis=1, return_inverse=True)
        self.cell, self.num_cells = self.cell.ravel(), cells.shape[1]

    def predicted(self, trained: NDArray[np.bool_]) -> tuple[float, float, float]:
        """Mean relative errors of the law and of no change on the rows that are not `trained` on, and the coverage."""
        known, asked = ((self.real[rows], self.synthetic[rows], self.error[rows]) for rows in (trained, ~trained))
        law = fit(*known)
        low, high = law.interval(asked[0], asked[1])

        def off(values: Floats) -> float:
            return float(np.mean(np.abs(values - asked[2]) / asked[2]))

        inside = np.mean((low <= asked[2]) & (asked[2] <= high))
        return off(law.predict(asked[0], asked[1])), off(no_change(*known, asked[0], asked[1])), float(inside)


def read(path: Path) -> Grid:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [{str(name).strip(): value for name, value in row.items()} for row in csv.DictReader(file)]
    missing = set(COLUMNS) - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{path} must have rows with columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
    try:
        values = np.array([[float(row[name] or "nan") for name in COLUMNS] for row in rows]).T
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers: {error}") from error
    usable = np.isfinite(values).all(axis=0) & (values[:2] >= 0).all(axis=0) & (values[2] > 0)
    if not usable.all():
        print(f"{(~usable).sum()} rows without two counts and an error above 0 are left out")
    return Grid(*values[:, usable])


def below(counts: Floats, held_out: int) -> NDArray[np.bool_]:
    """All but the largest counts, `held_out` of them or as many as leave three; all of them where that is none."""
    levels = np.unique(counts)
    held_out = min(held_out, len(levels) - 3)
    return counts < levels[-held_out] if held_out > 0 else np.ones(len(counts), bool)


def extrapolate(grid: Grid, name: str, trained: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    if trained.all():
        print(f"{name:22} not measured: too few different counts")
        return None, None
    began = time.perf_counter()
    try:
        error, baseline, inside = grid.predicted(trained)
    except ValueError as reason:
        print(f"{name:22} not measured: {reason}")
        return None, None
    took = time.perf_counter() - began
    print(
        f"{name:22} {error:.4f}, no change {baseline:.4f}, coverage {inside:.2f}"
        f" ({trained.sum()} rows to {(~trained).sum()}, {took:.1f} s)"
    )
    return error, baseline


def interpolate(grid: Grid, num_cells: int, draws: int) -> tuple[float | None, float | None, float | None]:
    name = f"interpolate_{num_cells}"
    if grid.num_cells <= num_cells:
        print(f"{name:22} not measured: the table has {grid.num_cells} cells")
        return None, None, None
    found, refused = [], ""
    for seed in range(draws):
        rng = np.random.Generator(np.random.Philox(key=seed))
        try:
            found.append(grid.predicted(np.isin(grid.cell, rng.permutation(grid.num_cells)[:num_cells])))
        except ValueError as reason:
            refused = str(reason)
    if not found:
        print(f"{name:22} not measured: {refused}")
        return None, None, None
    errors, baselines, inside = np.array(found).T
    print(
        f"{name:22} {errors.mean():.4f} (median {np.median(errors):.4f}, worst {errors.max():.4f}), no change"
        f" {baselines.mean():.4f}, coverage {inside.mean():.3f} ± {inside.std() / len(found) ** 0.5:.3f}"
        f" ({len(found)} of {draws} drawings" + (f"; of the others: {refused})" if refused else ")")
    )
    return float(errors.mean()), float(baselines.mean()), float(inside.mean())


def run(path: Path, draws: int) -> dict[str, object]:
    grid = read(path)
    print(f"{path.name}: {len(grid.error)} rows, {grid.num_cells} cells")
    figures: dict[str, float | None] = {}
    baseline: dict[str, float | None] = {}
    coverage: dict[str, float | None] = {}
    for name, trained in (
        ("extrapolate_synthetic", below(grid.synthetic, 2)),
        ("extrapolate_real", below(grid.real, 3)),
    ):
        figures[name], baseline[name] = extrapolate(grid, name, trained)
    for count in (20, 12):
        name = f"interpolate_{count}"
        figures[name], baseline[name], coverage[f"coverage_{count}"] = interpolate(grid, count, draws)
    return rounded(figures | coverage) | {"baseline": rounded(baseline)}


def rounded(figures: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 5) for name, value in figures.items()}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT.parent / "shared" / "data" / "laws" / "mikami_imagenet_r50.csv"
    parser.add_argument("table", nargs="?", type=Path, default=default, metavar="TABLE.csv")
    parser.add_argument("--draws", type=int, default=40, help="random choices of 20 and of 12 cells")
    return parser.parse_args(arguments)


def main() -> None:
    given = parse()
    try:
        figures = run(given.table, given.draws)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
