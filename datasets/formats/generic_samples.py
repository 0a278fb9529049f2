"""Which samples a folder with a dataset.yaml has, and where their files are: by patterns, or by a table."""

import csv
import io
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.formats.generic_settings import FILE, KINDS
from datasets.ordinary import read_text
from datasets.settings import line, unknown

COLUMNS = ("id", *KINDS, "split")


@dataclass(frozen=True)
class Patterns:
    """Samples by patterns of their files' paths from the folder `source`.

    kinds     to patterns, image first, in which {id} and {split} stand for text
    lists     name of a split to its file, one id a line
    """

    source: Path
    kinds: Mapping[str, str]
    lists: Mapping[str, str]

    def files(self, name: str) -> dict[str, Path]:
        """The files of a sample by kind, image first."""
        return {kind: self._path(kind, name) for kind in self.kinds}

    def where(self, name: str) -> str:
        """What an error of a sample names where no file of it is at fault."""
        return str(self._path("image", name))

    @property
    def num_points(self) -> int:
        """How many points a sample has beside those in its files."""
        return 0

    def points(self, name: str) -> np.ndarray:
        """Those points."""
        raise AssertionError("patterns give no points beside those in files")

    def names(self, split: str | None) -> list[str]:
        """Of all images that are there, or those of a split. Raises ValueError where there are none."""
        names = self._found()
        if split is None:
            return names
        splits = {name.partition("/")[0] for name in names} if self._by_folder else self.lists
        _check_split(self.source / FILE, split, sorted(splits))
        if self._by_folder:
            return [name for name in names if name.partition("/")[0] == split]
        path = self.source / self.lists[split]
        try:
            lines = read_text(path).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: must be a text file of one id a line, but: {error}") from None
        listed = [line.strip() for line in lines if line.strip()]
        _check_differ(path, listed)
        if set(names).isdisjoint(listed):
            given = line(repr(listed[0]), 60) if listed else "nothing"
            raise ValueError(f"{path}: must list ids, one a line, as {min(names)!r}, but lists {given}")
        return listed

    @property
    def _by_folder(self) -> bool:
        return "{split}" in self.kinds["image"]

    def _path(self, kind: str, name: str) -> Path:
        split, _, rest = name.partition("/") if self._by_folder else ("", "", name)
        return self.source / self.kinds[kind].replace("{split}", split).replace("{id}", rest)

    def _found(self) -> list[str]:
        pattern = self.kinds["image"]
        folder = posixpath.dirname(pattern.partition("{")[0])
        top = self.source / folder
        if not top.is_dir():
            raise ValueError(f"{top}: must be the folder of images {pattern}, but is none")
        image = _regex(pattern)
        regexes = (_regex(other) for other in self.kinds.values() if other != pattern)
        others = [regex for regex in regexes if regex.groupindex.keys() == image.groupindex.keys()]
        names = []
        for path in _walk(top):
            path = posixpath.join(folder, path)
            name = _name(image, path)
            if name is not None and not any(self._belongs(name, _name(other, path)) for other in others):
                names.append(name)
        if not names:
            raise ValueError(f"{top}: must hold images {pattern}, but has none")
        return names

    def _belongs(self, name: str, other: str | None) -> bool:
        """Whether the file of image `name` is rather one, of another kind, of the image `other`, which is there."""
        return other is not None and other != name and self._path("image", other).is_file()


@dataclass(frozen=True)
class Row:
    """A line of a table: its number, its cells by kind, its split, and its points' cells with tabs between them."""

    line: int
    cells: Mapping[str, str]
    split: str
    points: str


@dataclass(frozen=True)
class Table:
    """Samples by the lines of a table, comma-separated, with a header; see generic.py.

    kinds       of which it has columns, image first
    num_points  in columns x0, y0, x1, y1 ...
    """

    source: Path
    path: Path
    kinds: Sequence[str]
    num_points: int
    rows: Mapping[str, Row] = field(repr=False)

    @classmethod
    def load(cls, source: Path, name: str) -> "Table":
        """Reads a table in the folder `source`. Raises ValueError, one line that names the file, where it is none."""
        path = source / name
        try:
            reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: must be a comma-separated table, but: {error}") from None
        if len(lines) < 2:
            raise ValueError(f"{path}: must have a header and a line a sample, but has {len(lines)} lines")
        header, points = lines[0][1], _points_of(path, lines[0][1])
        ids, rows = [], []
        for number, cells in lines[1:]:
            if len(cells) > len(header):
                raise ValueError(f"{path}:{number}: must have {len(header)} cells as the header, but has {len(cells)}")
            row = dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))
            name = row.get("id", os.path.splitext(row["image"])[0])
            if not name:
                raise ValueError(f"{path}:{number}: {'id' if 'id' in row else 'image'} must be given, but is empty")
            kinds = {kind: row[kind] for kind in KINDS if kind in row}
            ids.append(name)
            rows.append(Row(number, kinds, row.get("split", ""), "\t".join(row[column] for column in points)))
        _check_differ(path, ids)
        found = dict(zip(ids, rows, strict=True))
        return cls(source, path, tuple(rows[0].cells), len(points) // 2, found)

    def files(self, name: str) -> dict[str, Path]:
        """The files of a sample by kind, image first, and the table where it holds the points."""
        files = {kind: self.source / cell for kind, cell in self.rows[name].cells.items() if cell}
        return files | ({"table": self.path} if self.num_points else {})

    def where(self, name: str) -> str:
        """The line of a sample."""
        return f"{self.path}:{self.rows[name].line}"

    def points(self, name: str) -> np.ndarray:
        """The points of a sample in the table, float64 [num_points, 2]. Raises ValueError where one is no number."""
        row = self.rows[name]
        numbers = []
        for k, cell in enumerate(row.points.split("\t")):
            try:
                numbers.append(float(cell))
            except ValueError:
                numbers.append(np.nan)
            if not np.isfinite(numbers[-1]):
                column = f"{'xy'[k % 2]}{k // 2}"
                raise ValueError(f"{self.where(name)}: {column} must be a finite number, but is {cell!r}")
        return np.array(numbers).reshape(-1, 2)

    def names(self, split: str | None) -> list[str]:
        """Of all samples, or those of a split. Raises ValueError for a split that the table has not."""
        if split is None:
            return [*self.rows]
        splits = {row.split for row in self.rows.values()} - {""}
        _check_split(self.path, split, sorted(splits))
        return [name for name, row in self.rows.items() if row.split == split]


def _points_of(path: Path, header: list[str]) -> list[str]:
    """The columns of points, x0, y0, x1 ...; raises ValueError where a column is unknown, absent, or there twice."""
    points = [column for column in header if re.fullmatch(r"[xy]\d+", column)]
    ordered = [f"{axis}{k}" for k in range(len(points) // 2) for axis in "xy"]
    for column in header:
        if column not in COLUMNS and column not in points:
            raise ValueError(f"{path}: {unknown('column', column, (*COLUMNS, 'x0', 'y0'))}")
        if header.count(column) > 1:
            raise ValueError(f"{path}: columns must differ, but {column} is there twice")
    if "image" not in header:
        raise ValueError(f"{path}: must have a column image, but has {line(', '.join(header), 200)}")
    if sorted(points) != sorted(ordered):
        raise ValueError(
            f"{path}: columns of points must be x0, y0, x1, y1 and so on, but are {line(', '.join(points), 200)}"
        )
    if points and "landmarks" in header:
        raise ValueError(f"{path}: must have a column landmarks, or points x0, y0 and so on, but has both")
    return ordered


def _check_split(path: Path, split: str, splits: Sequence[str]) -> None:
    if not splits:
        raise ValueError(f"{path}: must say what the splits are, but does not; give them, or choose samples by rows")
    if split not in splits:
        raise ValueError(f"{path}: {unknown('split', split, splits)}")


def _check_differ(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{path}: ids must differ, but {line(repr(name), 60)} is there twice")
        seen.add(name)


def _walk(top: Path) -> Iterator[str]:
    """Paths of all files below a folder, from it, with slashes; links are followed, names with a dot first are not."""
    for folder, folders, files in os.walk(top, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(folder).relative_to(top)
        yield from ((below / name).as_posix() for name in files if not name.startswith("."))


def _regex(pattern: str) -> re.Pattern[str]:
    """What the paths of a pattern match; its groups are id and, where the pattern has it, split."""
    parts, seen = [], set()
    for part in re.split(r"(\{(?:id|split)\})", pattern):
        if part not in ("{id}", "{split}"):
            parts.append(re.escape(part))
        elif part in seen:
            parts.append(f"(?P={part[1:-1]})")
        else:
            parts.append("(?P<id>.+)" if part == "{id}" else "(?P<split>[^/]+?)")
            seen.add(part)
    return re.compile("".join(parts))


def _name(regex: re.Pattern[str], path: str) -> str | None:
    match = regex.fullmatch(path)
    return None if match is None else "/".join(match[group] for group in ("split", "id") if group in regex.groupindex)
