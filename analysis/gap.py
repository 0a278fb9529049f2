"""Gap: what a model loses on a domain that it was not trained on, training domain by test domain.

A cell's drop is against training on real images of the test set's own domain: synthetic-to-real where the training was
synthetic, real-to-real where it was on real images of another domain. The whitepaper compares the two so, in points of
mIoU (METHODS.md, section 9): synthetic images are as good as another real data set where they lose no more.
"""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.ranking import Candidate, rank
from analysis.runs import Replicated, Row, Table, mean
from analysis.wording import percent

Kind = Literal["real", "synthetic", "both"]
_KINDS: tuple[Kind, ...] = ("real", "synthetic", "both")
ALL = "real"  # the domain of real images, where a search varies no source of them


@dataclass(frozen=True)
class Cell(Replicated):
    """One training on one test set. `values` are of its replicates.

    drop  points below the best training on real images of the test set's own domain; NaN where there is none
    gain  of both kinds of images: points above the same real images alone; NaN elsewhere
    """

    values: tuple[float, ...]
    run_ids: tuple[str, ...]
    drop: float
    gain: float


@dataclass(frozen=True)
class Line:
    """One training: on what, and the recipe that was best at it on the objective. `cells` by column, where measured."""

    kind: Kind
    real_source: str  # "" without real images
    real_fraction: float | None
    candidate: Candidate
    cells: Mapping[str, Cell]

    @property
    def label(self) -> str:
        source = "" if self.real_source in ("", ALL) else f" of {self.real_source}"
        if self.real_fraction is None:
            return "synthetic"
        real = f"{percent(self.real_fraction)} real{source}"
        return real if self.kind == "real" else f"synthetic + {real}"


@dataclass(frozen=True)
class Transfer:
    """What it costs on one test set to have no labelled images of its domain, in points; NaN where not measured.

    synthetic  drop of synthetic images alone, real: of real images of another domain alone, the best such
    excess     by how much synthetic images lose more than those: known also where neither drop is
    """

    column: str
    domain: str | None
    synthetic: float
    real: float
    excess: float

    def __str__(self) -> str:
        text = f"{self.column}: "
        if self.domain is None:
            return text + f"nobody says of which domain it is: give --domain {_set(self.column)}=SOURCE"
        if all(math.isnan(value) for value in (self.synthetic, self.real, self.excess)):
            return text + "nothing was trained on synthetic images or on real ones of another domain alone"
        parts = []
        for name, drop in (("synthetic-to-real", self.synthetic), ("real-to-real", self.real)):
            parts.append(f"{name} {'not measured' if math.isnan(drop) else f'{drop:.1f} points'}")
        if not math.isnan(self.excess):
            word = "more" if self.excess >= 0 else "less"
            parts.append(f"synthetic images lose {abs(self.excess):.1f} points {word} than real ones of another domain")
        if math.isnan(self.synthetic) and math.isnan(self.real):
            parts.append("nothing was trained on real images of its domain, so that drops are not known")
        return text + ", ".join(parts)


@dataclass(frozen=True)
class Gap:
    """The table: a line per training, a column per test set, and the drops by column.

    unit  points are hundredths of a metric that lies in [0, 1], and else the metric's own unit
    """

    search: str
    metric: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    transfers: tuple[Transfer, ...]
    unit: float


def gap(table: Table, metric: str | None = None, *, domains: Mapping[str, str] | None = None, mode: str = "") -> Gap:
    """The domain-gap table of a metric on every set it was measured on, by default the objective's own.

    metric   with its set or without: "val/miou", "miou"; what is after the set is measured on all
    domains  of sets by name: the source of real images that is of the same domain ("real" where the search has one),
             or the set's own name where nothing was trained on its domain: {"test-a": "real", "lapa": "lapa"}. A set
             that is named as a source is of that domain without being told, and so is "val" where there is one
             source. Of a set whose domain nobody says there are scores and no drops
    mode     "max" or "min" if the metric's is not the objective's

    Of several recipes with one kind of training the best on the objective stands for them, as in `curves`. Raises
    ValueError where no finished trial has the metric on any set, and for a domain or set that is not there.
    """
    name = _bare(metric or table.metric)
    ranked = rank(table)
    columns = _columns(ranked, name)
    if not columns:
        known = sorted({_bare(m) for c in ranked for row in c.rows for m in row.metrics})
        raise ValueError(f"no finished trial of search {table.search!r} has metric {name!r}; there are: {known}")
    if mode not in ("", "max", "min"):
        raise ValueError(f"mode must be max or min, but got {mode!r}")
    sign = {"": table.sign, "max": 1, "min": -1}[mode]
    found: dict[tuple[Kind, str, float | None], Candidate] = {}
    for candidate in ranked:
        found.setdefault(_training(candidate), candidate)
    order = sorted(found, key=lambda k: (_KINDS.index(k[0]), k[1], k[2] or 0.0))
    values = {key: {c: pairs for c in columns if (pairs := _values(found[key].rows, c))} for key in order}
    means = {key: {c: mean([v for v, _ in pairs]) for c, pairs in values[key].items()} for key in order}
    largest = max((abs(v) for row in means.values() for v in row.values()), default=0.0)
    unit = 0.01 if largest <= 1 else 1.0
    home = _homes(columns, {key[1] for key in order} - {""}, domains or {})

    def best(column: str, keys: Iterable[tuple[Kind, str, float | None]]) -> float:
        scores = [sign * means[key][column] for key in keys if column in means[key]]
        return max(scores, default=math.nan)

    lines, transfers = [], []
    own = {c: best(c, [k for k in order if k[0] == "real" and k[1] == home[c]]) for c in columns}
    for key in order:
        cells = {}
        for column, pairs in values[key].items():
            score = sign * means[key][column]
            alone = means.get(("real", *key[1:]), {}) if key[0] == "both" else {}
            gain = (score - sign * alone[column]) / unit if column in alone else math.nan
            cells[column] = Cell(
                tuple(v for v, _ in pairs), tuple(run for _, run in pairs), (own[column] - score) / unit, gain
            )
        lines.append(Line(*key, found[key], cells))
    for column in columns:
        synthetic = best(column, [k for k in order if k[0] == "synthetic"])
        other = best(column, [k for k in order if k[0] == "real" and home[column] not in (None, k[1])])
        drops = ((own[column] - synthetic) / unit, (own[column] - other) / unit)
        transfers.append(Transfer(column, home[column], *drops, (other - synthetic) / unit))
    return Gap(table.search, name, columns, tuple(lines), tuple(transfers), unit)


def _bare(metric: str) -> str:
    """A metric without the set that it was measured on."""
    head, _, rest = metric.partition("/")
    return rest if head == "val" else rest.partition("/")[2] if head == "test" else metric


def _set(column: str) -> str:
    """The name of the set that a metric was measured on."""
    return "val" if column.startswith("val/") else column.split("/")[1]


def _columns(ranked: tuple[Candidate, ...], name: str) -> tuple[str, ...]:
    """The set's full metric names: `val` first, then test sets by name."""
    measured = {m for c in ranked for row in c.rows for m in row.metrics if m.partition("/")[0] in ("val", "test")}
    return tuple(sorted((m for m in measured if _bare(m) == name), key=lambda m: (not m.startswith("val/"), m)))


def _training(candidate: Candidate) -> tuple[Kind, str, float | None]:
    recipe = candidate.recipe
    if recipe.real_fraction is None:
        return "synthetic", "", None
    kind: Kind = "real" if recipe.synthetic_fraction is None else "both"
    return kind, recipe.real_source or ALL, recipe.real_fraction


def _values(rows: tuple[Row, ...], column: str) -> list[tuple[float, str]]:
    return [(value, row.run_id) for row in rows if (value := row.value(column)) is not None]


def _homes(columns: tuple[str, ...], sources: set[str], told: Mapping[str, str]) -> dict[str, str | None]:
    """The source of real images that each column's set is of the same domain as, None where nobody says."""
    sets = {column: _set(column) for column in columns}
    for name, source in told.items():
        if name not in sets.values():
            raise ValueError(f"a domain must be of one of the sets {sorted(set(sets.values()))}, but got {name!r}")
        if source not in sources | {name}:
            there = ", ".join(sorted(sources | {name}))
            raise ValueError(f"the domain of {name} must be one of {there}, but got {source!r}")
    only = next(iter(sources)) if len(sources) == 1 else None
    known = {"val": only} | {name: name for name in sources} | dict(told)
    return {column: known.get(name) for column, name in sets.items()}


def domains_of(options: Iterable[str]) -> dict[str, str]:
    """Domains as a command line gives them: "lapa=real". Raises ValueError for another form."""
    told = {}
    for option in options:
        name, equals, source = option.partition("=")
        if not (name and equals and source):
            raise ValueError(f"a domain must be SET=SOURCE, but got {option!r}")
        told[name] = source
    return told


def write_csv(made: Gap, path: Path) -> None:
    """One row per training and test set, with the ids of its MLflow runs separated by spaces."""
    header = ["trained_on", "real_source", "real_fraction", "tested_on", "mean", "std", "seeds", "drop_points"]
    header += ["gain_points", "recipe", "recipe_key", "run_ids"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for line in made.lines:
            recipe = line.candidate.recipe
            for column, cell in line.cells.items():
                figures = ["" if math.isnan(v) else repr(v) for v in (cell.mean, cell.std)]
                points = ["" if math.isnan(v) else repr(v) for v in (cell.drop, cell.gain)]
                trained = [line.kind, line.real_source, "" if line.real_fraction is None else line.real_fraction]
                last = [str(recipe), recipe.key, " ".join(cell.run_ids)]
                writer.writerow([*trained, column, *figures, len(cell.values), *points, *last])
