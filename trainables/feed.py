"""Feed: the batches of stages, on the training device, from the sources that a worker has opened."""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch

from datasets import Blocks, Domain, DomainRows, Loader, LoaderProcesses, Mix, PackError, Source, nested_rows
from datasets.translation import Translation, translated_column
from trainables.batch_cache import BatchCache
from trainables.ranks import Ranks
from trainables.recipe import digest
from trainables.stage import Rows, Stage
from trainables.task import Batch, Task

ONCE_BATCH = 32  # samples of a pass over rows
UNSEEN = ("start", "conversion", "adaptation", "adain", "frozen", "lr", "training", "horizon")  # by a stage's batches


class Feed:
    """What stages are fed with.

    sources      the training data: rows are found by the digest of their source
    num_workers  loader processes, forked here and kept; changes no number
    cache_bytes  of batches that are kept for later stages with the same ones; changes no number
    """

    def __init__(
        self, sources: Iterable[Source], device: torch.device, ranks: Ranks, num_workers: int, cache_bytes: int = 0
    ) -> None:
        # The same packs may be read with labels and, as references, without: the source with labels serves both.
        self.sources = {source.digest: source for source in sorted(sources, key=lambda one: len(one.columns))}
        self._device, self._ranks = device, ranks
        self._processes = LoaderProcesses(num_workers) if num_workers else None
        self._cache = BatchCache(cache_bytes)

    def batches(self, stage: Stage, task: Task, start: int, stop: int) -> Iterator[Batch]:
        """This rank's part of the stage's batches [start, stop), augmented."""
        on_device = stage.training.augments_on_device(self._device.type)
        rows = self._domain_rows(stage)
        loader = Loader(
            {one.domain: self._source(one.digest) for one in rows},
            Mix(stage.training.batch_size, stage.seed, rows, _share(stage)),
            task.draw if on_device else task.augment,
            task.columns,
            translate=self._translation(stage, task),
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
        )
        made = self._cache.batches(
            _sequence(stage, on_device),
            start,
            stop,
            lambda first, last: loader.batches(first, last, self._processes),
            reused=self._processes is not None,
        )
        for batch in made:
            yield task.finish(batch, self._device) if on_device else self.to_device(batch)

    def once(self, rows: Rows, task: Task, seed: int) -> Iterator[Batch]:
        """Real rows once, unaugmented, in the order of their subset; every rank sees all of them."""
        source = self._source(rows.digest)
        columns = task.columns if set(task.columns) <= set(source.columns) else task.unlabelled_columns
        order = _domain(Domain.REAL, rows, seed).rows
        for chunk in np.array_split(order, math.ceil(len(order) / ONCE_BATCH)):
            samples = [task.unaugmented(source.sample(int(row), columns)) for row in chunk]
            batch = {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in samples[0]}
            domain = torch.full((len(samples),), int(Domain.REAL), dtype=torch.int64)
            yield self.to_device(batch | {"domain": domain})

    def to_device(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self._device, non_blocking=True) for name, tensor in batch.items()}

    def _domain_rows(self, stage: Stage) -> list[DomainRows]:
        wanted = ((Domain.REAL, stage.real), (Domain.SYNTHETIC, stage.synthetic))
        return [_domain(domain, rows, stage.seed) for domain, rows in wanted if rows is not None]

    def _translation(self, stage: Stage, task: Task) -> Translation | None:
        if stage.translation is None:
            return None
        assert stage.references is not None
        rows = _domain(Domain.REAL, stage.references, stage.seed)
        return Translation(stage.translation, self._source(rows.digest), rows, translated_column(task.columns))

    def _source(self, digest: str) -> Source:
        if digest not in self.sources:
            raise PackError(
                f"a worker must have the packs that the search opened, but no source of digest {digest[:12]};"
                " a pack was replaced since then: run the search again"
            )
        return self.sources[digest]


def _sequence(stage: Stage, on_device: bool) -> str:
    """What tells the batches of a stage, as they come from the loader, from those of any other: all of the stage but
    what they do not depend on."""
    seen = {name: value for name, value in stage.canonical().items() if name not in UNSEEN}
    horizon = stage.horizon if isinstance(stage.synthetic_share, tuple) else None
    return digest([seen, horizon, stage.training.batch_size, on_device])


def _domain(domain: Domain, rows: Rows, seed: int) -> DomainRows:
    return DomainRows(domain, rows.digest, nested_rows(rows.total, rows.count, seed=seed, digest=rows.digest))


def _share(stage: Stage) -> float | Blocks | None:
    share = stage.synthetic_share
    if not isinstance(share, tuple):
        return share
    assert stage.horizon is not None
    return Blocks(share, stage.horizon)
