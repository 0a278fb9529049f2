"""BatchCache: batches that were made, kept in a warm worker's memory for the next stage that reads the same ones.

A batch is a function of (data, mix, seed, step) alone (datasets/loader.py), so that recipes which differ in their
learning rate, adaptation or trunk are fed with the same bytes, and what one of them had augmented the others only read.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

Batch = dict[str, Tensor]


@dataclass
class _Kept:
    batches: dict[int, Batch] = field(default_factory=dict)  # by step
    num_bytes: int = 0


class BatchCache:
    """Keeps batches on the host, as they come from the loader; 0 bytes keep none.

    What reads one sequence of batches goes through it from the front, so of one that does not fit the beginning is
    kept, and it is whole sequences that make room for others: those not read for the longest time.

    max_bytes  of the tensors that are kept
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"`max_bytes >= 0` must hold, but got {max_bytes}")
        self._max_bytes = max_bytes
        self._sequences: dict[Hashable, _Kept] = {}  # the one read last is the last

    @property
    def num_bytes(self) -> int:
        """Of all tensors that are kept."""
        return sum(kept.num_bytes for kept in self._sequences.values())

    def batches(
        self,
        sequence: Hashable,
        start: int,
        stop: int,
        make: Callable[[int, int], Iterator[Batch]],
        *,
        reused: bool,
    ) -> Iterator[Batch]:
        """The batches of steps [start, stop) of a sequence, which nobody may write to.

        sequence  tells it from all that have any other batch at a step
        make      the batches of steps [first, last), for those that are not here
        reused    whether `make` writes into the tensors of earlier batches again
        """
        kept = self._sequences[sequence] = self._sequences.pop(sequence, _Kept())
        step = start
        while step < stop:
            if step in kept.batches:
                yield kept.batches[step]
                step += 1
                continue
            known = next((later for later in range(step, stop) if later in kept.batches), stop)
            for batch in make(step, known):
                self._keep(kept, step, batch, reused=reused)
                yield batch
                step += 1

    def _keep(self, kept: _Kept, step: int, batch: Batch, *, reused: bool) -> None:
        size = sum(tensor.nbytes for tensor in batch.values())
        while self.num_bytes + size > self._max_bytes:
            oldest = next(iter(self._sequences))
            if self._sequences[oldest] is kept:
                return
            del self._sequences[oldest]
        kept.batches[step] = {name: tensor.clone() for name, tensor in batch.items()} if reused else batch
        kept.num_bytes += size
