"""Batches are the same bytes for any number of loader processes, ranks, restarts and interpreters."""

import gc
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import Domain, DomainRows, Loader, LoaderProcesses, Mix, PackError, Source, eval_batches
from datasets.augment import face_parsing_transform, seeded
from datasets.processes import WorkerError

COLUMNS = ("image", "segmentation")
TRANSFORM = face_parsing_transform(16, [(2, 3)])


def augment(sample, seed):
    return seeded(TRANSFORM, seed)(**sample)


def setup(real, synthetic):
    sources = {Domain.REAL: Source([real]), Domain.SYNTHETIC: Source([synthetic])}
    domains = [DomainRows(domain, source.digest, range(len(source))) for domain, source in sources.items()]
    return sources, Mix(7, 0, domains, 0.4)


@pytest.fixture
def parts(face_pack):
    return setup(face_pack("real", 5), face_pack("synthetic", 9, seed=1))


def digest(batch):
    data = b"".join(name.encode() + batch[name].numpy().tobytes() for name in sorted(batch))
    return hashlib.blake2b(data).hexdigest()


def test_a_batch_is_its_draws_read_augmented_and_stacked(parts):
    sources, mix = parts
    for step, batch in zip(range(3, 6), Loader(sources, mix, augment, COLUMNS).batches(3, 6), strict=True):
        draws = mix.batch(step)
        assert batch["domain"].tolist() == draws.domain.tolist()
        assert batch["domain"].dtype == torch.int64
        assert batch["image"].shape == (7, 16, 16, 3)
        assert batch["image"].dtype == torch.uint8
        for k in range(7):
            sample = sources[Domain(int(draws.domain[k]))].sample(int(draws.row[k]), COLUMNS)
            truth = augment(sample, int(draws.seed[k]))
            np.testing.assert_array_equal(batch["image"][k], truth["image"])
            np.testing.assert_array_equal(batch["segmentation"][k], truth["segmentation"])


def test_loader_processes_change_nothing(parts):
    sources, mix = parts
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loader = Loader(sources, mix, augment, COLUMNS)
    runs = [[digest(b) for b in loader.batches(2, 9, processes)] for processes in (None, *map(LoaderProcesses, (1, 2)))]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) == 7
    assert len(set(runs[0])) == 7
    assert torch.equal(torch.get_rng_state(), before)  # and torch's global generator is not drawn from


@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_of_loader_processes_holds_until_the_next_but_one(parts, workers):
    sources, mix = parts
    loader = Loader(sources, mix, augment, COLUMNS)
    truth = [digest(loader.batch(step)) for step in range(40)]
    before = None
    for step, batch in enumerate(loader.batches(0, 40, LoaderProcesses(workers))):
        if before is not None:
            assert digest(before) == truth[step - 1]
        assert digest(batch) == truth[step]
        before = batch


def uneven(sample, seed):
    return {"image": sample["image"][: 16 - seed % 2]}


def test_samples_that_differ_in_shape_are_told(parts):
    sources, mix = parts
    with pytest.raises(ValueError, match=r"augment must give image as uint8 \(1[56], 16, 3\) for every sample"):
        list(Loader(sources, mix, uneven, COLUMNS).batches(0, 8, LoaderProcesses(1)))


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_the_ranks_batches_are_the_batch_of_one_process(parts, world_size):
    sources, mix = parts
    whole = Loader(sources, mix, augment, COLUMNS).batch(4)
    for rank in range(world_size):
        part = Loader(sources, mix, augment, COLUMNS, rank=rank, world_size=world_size).batch(4)
        for name, values in whole.items():
            assert torch.equal(part[name], values[rank::world_size])


FRESH = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path({test!r}).parent))
import test_loader
from datasets import Loader, Pack
sources, mix = test_loader.setup(Pack.open({real!r}), Pack.open({synthetic!r}))
print(test_loader.digest(Loader(sources, mix, test_loader.augment, test_loader.COLUMNS).batch(1000)))
"""


def test_a_fresh_process_gets_the_same_bytes_for_a_late_step(parts):
    sources, mix = parts
    paths = {domain.name.lower(): source.packs[0].path for domain, source in sources.items()}
    code = FRESH.format(test=__file__, **paths)
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    loader = Loader(sources, mix, augment, COLUMNS)
    for step in (0, 5):
        loader.batch(step)
    assert fresh == digest(loader.batch(1000))


@pytest.mark.parametrize("world_size", [1, 2, 4, 12])
def test_evaluation_covers_each_row_once_in_order(face_pack, world_size):
    source = Source([face_pack("a", 4), face_pack("b", 5, seed=1)])

    def prepare(sample):
        return {"image": sample["image"], "first": sample["image"][0, 0, 0].reshape(1)}

    seen = {}
    for rank in range(world_size):
        batches = list(eval_batches(source, prepare, ("image",), batch_size=2, rank=rank, world_size=world_size))
        assert all(len(batch["image"]) <= 2 for batch in batches)
        rows = range(rank, 9, world_size)
        images = [image for batch in batches for image in batch["image"]]
        assert len(images) == len(rows)
        seen |= dict(zip(rows, images, strict=True))
    assert sorted(seen) == list(range(9))
    for row, image in seen.items():
        np.testing.assert_array_equal(image, source.sample(row)["image"])


def broken(sample, seed):
    raise ValueError("no such augmentation")


def test_an_error_in_a_loader_process_reaches_the_caller_and_the_next_loader_is_served(parts):
    sources, mix = parts
    for processes in (None, LoaderProcesses(1)):
        with pytest.raises(ValueError, match="no such augmentation"):
            list(Loader(sources, mix, broken, COLUMNS).batches(0, 2, processes))
        loader = Loader(sources, mix, augment, COLUMNS)
        assert [digest(batch) for batch in loader.batches(0, 2, processes)] == [digest(loader.batch(s)) for s in (0, 1)]


def children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children()}


def test_loader_processes_stay_for_the_next_loader(parts, face_pack):
    sources, mix = parts
    before = children()
    processes = LoaderProcesses(2)
    started = children() - before
    assert len(started) == 2
    loader = Loader(sources, mix, augment, COLUMNS)
    left = loader.batches(0, 100, processes)
    assert digest(next(left)) == digest(loader.batch(0))
    left.close()  # in the middle, as a training that is stopped
    other = Source([face_pack("other", 7, seed=8)])
    mixed = Mix(3, 1, [DomainRows(Domain.REAL, other.digest, range(7))])
    second = Loader({Domain.REAL: other}, mixed, augment, COLUMNS)
    assert [digest(b) for b in second.batches(5, 9, processes)] == [digest(second.batch(s)) for s in range(5, 9)]
    assert children() - before == started
    assert list(second.batches(5, 5, processes)) == []
    del processes
    gc.collect()
    assert not children() & started


def test_a_killed_loader_process_is_replaced_and_changes_nothing(parts, caplog):
    sources, mix = parts
    before = children()
    processes = LoaderProcesses(2)
    loader = Loader(sources, mix, augment, COLUMNS)
    seen = []
    for step, batch in enumerate(loader.batches(0, 30, processes)):
        seen.append(digest(batch))
        if step in (3, 20):
            os.kill(min(children() - before), signal.SIGKILL)
    assert seen == [digest(loader.batch(step)) for step in range(30)]
    assert caplog.text.count("they are started again") == 2


def deadly(sample, seed):
    if multiprocessing.parent_process():
        os.kill(os.getpid(), signal.SIGKILL)
    return augment(sample, seed)


def test_loader_processes_that_are_always_lost_are_told(parts):
    sources, mix = parts
    with pytest.raises(WorkerError, match=r"to make batch 0, but 4 times in a row they ended with exit code -9"):
        list(Loader(sources, mix, deadly, COLUMNS).batches(0, 50, LoaderProcesses(1)))


def test_a_pack_that_is_gone_is_told_by_a_loader_process(parts, tmp_path):
    sources, mix = parts
    (pack,) = sources[Domain.REAL].packs
    processes, loader = LoaderProcesses(1), Loader(sources, mix, augment, COLUMNS)
    loader.batch(0)  # this process has its files open
    Path(pack.folder).rename(tmp_path / "elsewhere")
    with pytest.raises(PackError, match="no pack here") as caught:
        list(loader.batches(0, 2, processes))
    assert "\n" not in str(caught.value)
    assert "loader_processes.py" in caught.value.__notes__[0]


def test_what_does_not_fit_is_refused(parts, face_pack):
    sources, mix = parts
    with pytest.raises(ValueError, match="must have column 'alpha', but has image, segmentation, id"):
        Loader(sources, mix, augment, ("image", "alpha"))
    with pytest.raises(ValueError, match="draws synthetic rows, but got no synthetic source"):
        Loader({Domain.REAL: sources[Domain.REAL]}, mix, augment, COLUMNS)
    with pytest.raises(ValueError, match="real: the mix's rows must be of source"):
        Loader({**sources, Domain.REAL: Source([face_pack("x", 5, seed=9)])}, mix, augment, COLUMNS)
    with pytest.raises(ValueError, match="a batch must hold a sample for every worker"):
        Loader(sources, mix, augment, COLUMNS, world_size=8)
    with pytest.raises(ValueError, match="0 <= rank < world_size"):
        Loader(sources, mix, augment, COLUMNS, rank=2, world_size=2)
