"""From samples that must be made to a pack: in parallel, going on where it was stopped, with bad ones told.

That is how a data set in its own layout is read (formats) and how a pack is refined (refining.py). Samples are made in
parts. A part that is done is kept beside the pack, in `.NAME.parts`, under a digest of all
that it hangs on (options, names, sizes and times of the files): the same command, run again, makes only what it has not
made yet, or what has changed. The folder is removed once the pack is there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from datasets.manifest import FORMAT, Column
from datasets.pack import Pack, Value
from datasets.processes import spread
from datasets.whole import whole_folder
from datasets.writer import check_target, write_pack

PART = 64  # samples, unless a caller asks for other parts
SHOWN = 20  # reasons that a message gives


class BadFiles(ValueError):
    """Samples that cannot be packed; one line a sample, with its reason."""


class Samples(Protocol):
    """What a pack can be made of: named samples, each made when it is asked for. It can be pickled."""

    @property
    def names(self) -> Sequence[str]:
        """Of all samples, in the pack's order, each once."""
        ...

    @property
    def source(self) -> Mapping[str, Any]:
        """All that decides what the samples are, beside their files: JSON values, for the manifest."""
        ...

    @property
    def classes(self) -> tuple[str, ...] | None: ...

    def files(self, name: str) -> tuple[Path, ...]:
        """What a sample is made from, at least one; the first stands for it in messages."""
        ...

    def sample(self, name: str) -> dict[str, Value]:
        """Makes a sample. Raises ValueError or OSError, one line that names the file, where it cannot be made."""
        ...


@dataclass(frozen=True)
class Part:
    """Samples that one process makes at a time, and where they are kept."""

    samples: Samples
    names: tuple[str, ...]
    columns: tuple[Column, ...]  # of the first good sample of all
    folder: Path

    @property
    def path(self) -> Path:
        """Its place, which says all that it hangs on."""
        facts = [str(FORMAT), json.dumps(self.samples.source, sort_keys=True), str(self.columns)]
        for name in self.names:
            for path in self.samples.files(name):
                found = path.stat() if path.is_file() else None
                facts.append(f"{name}\0{path}\0{found and (found.st_size, found.st_mtime_ns)}")
        return self.folder / hashlib.blake2b("\0".join(facts).encode(), digest_size=16).hexdigest()

    def make(self) -> Path:
        """Makes what has not been made before; the place has `bad.json` and, of what is good, a pack."""
        path = self.path
        if path.is_dir():
            return path
        bad: dict[str, str] = {}
        good = self._good(bad)
        first = next(good, None)
        with whole_folder(path, lambda _: None) as folder:
            if first is not None:
                write_pack(folder / "pack", _again(first, good), source={})
            (folder / "bad.json").write_text(json.dumps(bad))
        return path

    def _good(self, bad: dict[str, str]) -> Iterator[dict[str, Value]]:
        for name in self.names:
            try:
                sample = self.samples.sample(name)
                _check_columns(sample, self.columns, self.samples.files(name)[0])
            except (ValueError, OSError) as error:
                bad[name] = "; ".join(str(error).splitlines())
            else:
                yield sample


def pack_data_set(
    samples: Samples,
    out: str | Path,
    *,
    workers: int = 1,
    part: int = PART,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Pack:
    """Writes samples as a pack, the same bytes for any number of workers and interruptions.

    part      samples that a process makes before it keeps them
    skip_bad  leaves out samples that cannot be made and lists them, with the reasons, in the manifest's source
    progress  is told how many more samples are done

    Raises BadFiles, unless `skip_bad`, after all samples were tried, and where there is no good one; PackError as
    write_pack does; datasets.processes.WorkerError when a process ends early.
    """
    target = Path(os.path.abspath(out))
    check_target(target, overwrite)
    folder = target.with_name(f".{target.name}.parts")
    columns = _first_columns(samples)
    count = len(samples.names)
    names = [tuple(samples.names[i : i + part]) for i in range(0, count, part)]
    parts = [Part(samples, some, columns, folder) for some in names]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for made, path in zip(parts, spread(partial(_make, parts), len(parts), workers, "part"), strict=True):
        paths.append(path)
        progress(len(made.names))
    bad: dict[str, str] = {}
    for path in paths:
        bad |= json.loads((path / "bad.json").read_text())
    if bad and not skip_bad:
        raise BadFiles(_tell(bad, count))
    source = dict(samples.source) | ({"skipped": bad} if bad else {})
    pack = write_pack(target, _samples(paths), source=source, classes=samples.classes, overwrite=overwrite)
    shutil.rmtree(folder)
    return pack


def _make(parts: list[Part], i: int) -> Path:
    return parts[i].make()


def _samples(paths: list[Path]) -> Iterator[dict[str, Value]]:
    for path in paths:
        if (path / "pack").is_dir():
            part = Pack.open(path / "pack")
            yield from (part.sample(i) for i in range(len(part)))


def _first_columns(samples: Samples) -> tuple[Column, ...]:
    """The columns of the first sample that can be made. Raises BadFiles where there is none."""
    bad: dict[str, str] = {}
    for name in samples.names:
        try:
            sample = samples.sample(name)
        except (ValueError, OSError) as error:
            bad[name] = "; ".join(str(error).splitlines())
        else:
            return tuple(Column.of(key, value) for key, value in sample.items())
    raise BadFiles(_tell(bad, len(samples.names)))


def _check_columns(sample: dict[str, Value], columns: tuple[Column, ...], path: Path) -> None:
    """Raises ValueError where a sample has other columns than the data set's first."""
    given = {name: Column.of(name, value) for name, value in sample.items()}
    expected = {column.name: column for column in columns}
    other = sorted(given.keys() ^ expected.keys())
    if other:
        raise ValueError(
            f"{path}: must give the columns that the data set's first sample gives, but {', '.join(other)} is in one "
            "of the two only; read them as two data sets"
        )
    for name, column in given.items():
        if column != expected[name]:
            raise ValueError(f"{path}: {name} must be {expected[name]} as the first sample's, but is {column}")


def _again(first: dict[str, Value], rest: Iterator[dict[str, Value]]) -> Iterator[dict[str, Value]]:
    yield first
    yield from rest


def _tell(bad: dict[str, str], count: int) -> str:
    reasons = list(dict.fromkeys(bad.values()))  # of all samples of one file there may be one
    more = f"\nand {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    head = f"{len(bad)} of {count} samples cannot be packed; mend them, or leave them out with --skip-bad"
    return "\n".join([head, *reasons[:SHOWN]]) + more
