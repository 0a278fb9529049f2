"""The batch cache: what it keeps, what it makes room for, and that a stage which is fed from it has the same bits."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toy import MORE, RECIPES, RUNGS, toy_problem, toy_trainer
from trainables.batch_cache import Batch, BatchCache
from trainables.numerics import set_deterministic
from trainables.path import path_of

BYTES = 4  # of the batches below


class Making:
    """Makes batches of 4 bytes, each with its step in it, and counts them; `ring` reuses one tensor for all."""

    def __init__(self, *, ring: bool = False) -> None:
        self.made: Counter[int] = Counter()
        self._ring = torch.empty(4, dtype=torch.uint8) if ring else None

    def __call__(self, first: int, last: int) -> Iterator[Batch]:
        for step in range(first, last):
            self.made[step] += 1
            tensor = torch.empty(4, dtype=torch.uint8) if self._ring is None else self._ring
            yield {"x": tensor.fill_(step)}


def read(cache: BatchCache, making: Making, sequence: str, start: int, stop: int) -> list[int]:
    """The steps of the batches that were given."""
    batches = cache.batches(sequence, start, stop, making, reused=making._ring is not None)
    return [int(batch["x"][0]) for batch in batches]


@pytest.mark.parametrize("ring", [False, True])
def test_what_was_read_once_is_not_made_again(ring: bool) -> None:
    cache, making = BatchCache(100), Making(ring=ring)
    assert read(cache, making, "a", 2, 5) == [2, 3, 4]
    assert read(cache, making, "a", 0, 8) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert read(cache, making, "a", 0, 8) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert set(making.made.values()) == {1}
    assert cache.num_bytes == 8 * BYTES


def test_another_sequence_is_made_anew() -> None:
    cache, making = BatchCache(100), Making()
    assert read(cache, making, "a", 0, 3) == read(cache, making, "b", 0, 3) == [0, 1, 2]
    assert set(making.made.values()) == {2}


def test_the_beginning_of_a_sequence_that_is_too_long_is_kept() -> None:
    cache, making = BatchCache(3 * BYTES), Making()
    for _ in range(2):
        assert read(cache, making, "a", 0, 5) == [0, 1, 2, 3, 4]
    assert making.made == {0: 1, 1: 1, 2: 1, 3: 2, 4: 2}
    assert cache.num_bytes == 3 * BYTES


def test_sequences_make_room_whole_and_the_one_read_last_stays_longest() -> None:
    cache, making = BatchCache(4 * BYTES), Making()
    for sequence in "aba":
        read(cache, making, sequence, 0, 2)
    read(cache, making, "c", 0, 1)  # in the place of b
    assert cache.num_bytes == 3 * BYTES
    making.made.clear()
    assert read(cache, making, "a", 0, 2) == [0, 1]
    assert not making.made
    assert read(cache, making, "b", 0, 2) == [0, 1]
    assert making.made == {0: 1, 1: 1}


def test_a_reader_that_stops_in_the_middle_leaves_what_it_read() -> None:
    cache, making = BatchCache(100), Making()
    batches = cache.batches("a", 0, 5, making, reused=False)
    assert [int(next(batches)["x"][0]) for _ in range(2)] == [0, 1]
    batches.close()
    assert read(cache, making, "a", 0, 3) == [0, 1, 2]
    assert making.made == {0: 1, 1: 1, 2: 1}


def test_nothing_is_kept_in_no_bytes() -> None:
    cache, making = BatchCache(0), Making()
    for _ in range(2):
        assert read(cache, making, "a", 0, 2) == [0, 1]
    assert making.made == {0: 2, 1: 2}
    with pytest.raises(ValueError, match="max_bytes >= 0"):
        BatchCache(-1)


def _files(store: Path) -> dict[str, bytes]:
    return {str(file.relative_to(store)): file.read_bytes() for file in sorted(store.rglob("kept-*.ckpt"))}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_warm_trainer_with_a_cache_trains_the_bits_of_one_without(
    toy_packs: Path, tmp_path: Path, num_workers: int
) -> None:
    set_deterministic(1)
    problem = toy_problem(toy_packs)
    every = {**RECIPES, **MORE}
    every |= {f"{name}, slower": recipe.model_copy(update={"lr": recipe.lr / 2}) for name, recipe in every.items()}
    results: list[list[Any]] = []
    for cache_bytes, processes in ((0, 0), (2**24, num_workers)):
        trainer = toy_trainer(toy_packs, tmp_path / str(cache_bytes), num_workers=processes, cache_bytes=cache_bytes)
        results.append(
            [
                [(report.step, report.metrics) for report in trainer.train(path_of(recipe, problem, 0), RUNGS)]
                for recipe in every.values()
            ]
        )
    assert results[0] == results[1]
    assert _files(tmp_path / "0") == _files(tmp_path / str(2**24))


def test_recipes_that_differ_in_what_batches_do_not_show_read_no_training_row_twice(
    toy_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy_problem(toy_packs)
    trainer = toy_trainer(toy_packs, tmp_path, cache_bytes=2**24)
    reads: Counter[str] = Counter()
    sources = trainer.feed.sources.values()
    for source in sources:
        plain = source.sample
        monkeypatch.setattr(source, "sample", lambda *a, _plain=plain: (reads.update("r"), _plain(*a))[1])
    recipe = RECIPES["finetune"]
    list(trainer.train(path_of(recipe, problem, 0), RUNGS))
    before = reads.total()
    assert before > 0
    list(trainer.train(path_of(recipe.model_copy(update={"lr": recipe.lr / 2}), problem, 0), RUNGS))
    assert reads.total() == before
    list(trainer.train(path_of(recipe.model_copy(update={"lr": recipe.lr / 4}), problem, 1), RUNGS))  # another seed
    assert reads.total() == 2 * before
