"""Loader: the batches of a mix as tensors, the same for any number of ranks and loader processes.

A batch is a pure function of its step (mix.py), and a whole batch is made in one place, so that loader processes
change when a batch is ready and never what is in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from datasets.loader_processes import LoaderProcesses
from datasets.mix import Domain, Mix, Source
from datasets.pack import Value
from datasets.translation import Translation

Sample = Mapping[str, Value]


class Loader:
    """Reads, augments and stacks the draws of a mix.

    sources      the source of each domain of the mix; digests must be the mix's (ValueError otherwise)
    augment      (sample, seed) -> arrays; a function of the two alone; picklable for loader processes
    columns      the pack's columns that `augment` gets
    translate    makes synthetic samples look real, before `augment` sees them and with the same seed
    rank         of world_size processes; rank r gets positions r, r + n, ... of every batch (so the domains are
                 spread evenly), and together the ranks get the batch that one process gets
    """

    def __init__(
        self,
        sources: Mapping[Domain, Source],
        mix: Mix,
        augment: Callable[[Sample, int], dict[str, np.ndarray]],
        columns: Sequence[str],
        *,
        translate: Translation | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"`0 <= rank < world_size` must hold, but got (rank={rank}, world_size={world_size})")
        if mix.batch_size < world_size:
            raise ValueError(
                f"a batch must hold a sample for every worker, but got batch_size={mix.batch_size} for {world_size}"
            )
        for rows in mix.domains:
            name = rows.domain.name.lower()
            if rows.domain not in sources:
                raise ValueError(f"the mix draws {name} rows, but got no {name} source")
            source = sources[rows.domain]
            if source.digest != rows.digest or rows.rows.max() >= len(source):
                raise ValueError(
                    f"{name}: the mix's rows must be of source {source.digest[:12]} with {len(source)} rows, "
                    f"but are of {rows.digest[:12]} up to row {rows.rows.max()}"
                )
            _check_columns(source, columns)
        self.sources = dict(sources)
        self.mix = mix
        self.augment = augment
        self.columns = tuple(columns)
        self.translate = translate
        self.rank, self.world_size = rank, world_size

    def batch(self, step: int) -> dict[str, Tensor]:
        """This rank's part of batch `step`: the augmented arrays stacked [b, ...], and "domain" int64 [b]."""
        domains, samples = self._samples(step)
        return _stack(list(samples)) | {"domain": torch.from_numpy(domains.copy())}

    def batches(self, start: int, stop: int, processes: LoaderProcesses | None = None) -> Iterator[dict[str, Tensor]]:
        """`batch(step)` for each step in [start, stop), made ahead by the processes where they are given.

        Batches of processes are overwritten: one holds until the next but one is asked for.
        """
        return processes.batches(self, start, stop) if processes else map(self.batch, range(start, stop))

    def empty(self, step: int) -> dict[str, Tensor]:
        """A batch like that of `step` in shared memory, for `fill`."""
        domains, samples = self._samples(step)
        first = {name: np.asarray(array) for name, array in next(samples).items()} | {"domain": domains[0]}
        arrays = {name: np.empty((len(domains), *array.shape), array.dtype) for name, array in first.items()}
        return {name: torch.from_numpy(array).share_memory_() for name, array in arrays.items()}

    def fill(self, batch: Mapping[str, Tensor], step: int) -> None:
        """Writes batch `step` into one of `empty`."""
        out = {name: values.numpy() for name, values in batch.items()}
        domains, samples = self._samples(step)
        out["domain"][:] = domains
        for k, sample in enumerate(samples):
            for name, array in sample.items():
                if out[name].shape[1:] != array.shape or out[name].dtype != array.dtype:
                    wanted = f"{out[name].dtype} {out[name].shape[1:]}"
                    raise ValueError(
                        f"augment must give {name} as {wanted} for every sample, but gave {array.dtype} {array.shape}"
                    )
                out[name][k] = array

    def _samples(self, step: int) -> tuple[np.ndarray, Iterator[dict[str, np.ndarray]]]:
        """The domains int64 [b] of this rank's part of batch `step`, and its augmented samples, made one by one."""
        draws = self.mix.batch(step)
        mine = slice(self.rank, None, self.world_size)
        rows = zip(draws.domain[mine].tolist(), draws.row[mine].tolist(), draws.seed[mine].tolist(), strict=True)
        samples = (self.augment(self._sample(Domain(domain), row, seed), seed) for domain, row, seed in rows)
        return draws.domain[mine], samples

    def _sample(self, domain: Domain, row: int, seed: int) -> Sample:
        """A row as `augment` gets it."""
        sample = self.sources[domain].sample(row, self.columns)
        return sample if self.translate is None or domain is Domain.REAL else self.translate(sample, seed)


def eval_batches(
    source: Source,
    prepare: Callable[[Sample], dict[str, np.ndarray]],
    columns: Sequence[str],
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[dict[str, Tensor]]:
    """The prepared arrays of rows rank, rank + world_size, ... of a source, stacked [b, ...], b <= batch_size.

    Every row comes exactly once over all ranks, in order; a rank may get none.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size >= 1` must hold, but got {batch_size}")
    if not 0 <= rank < world_size:
        raise ValueError(f"`0 <= rank < world_size` must hold, but got (rank={rank}, world_size={world_size})")
    _check_columns(source, columns)
    rows = range(rank, len(source), world_size)
    for first in range(0, len(rows), batch_size):
        yield _stack([prepare(source.sample(row, columns)) for row in rows[first : first + batch_size]])


def _stack(samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in samples[0]}


def _check_columns(source: Source, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in source.columns]
    if missing:
        paths = ", ".join(pack.path for pack in source.packs)
        raise ValueError(f"{paths}: must have column {missing[0]!r}, but has {', '.join(source.columns)}")
