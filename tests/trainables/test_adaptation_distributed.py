"""One process against two that share its batches: the same steps of every method, up to the order of sums."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from tests.trainables.adapted import METHODS, R, S, adapted, images
from trainables.adaptation import domains

# Rank 0 gets the samples 0, 2, 4, ... of a batch, rank 1 the others, as the loader divides them.
BATCHES = {
    "mixed": [R, R, R, S, S, S, S, S],
    "a domain to each rank": [R, S] * 4,
    "one rank lacks real samples": [R, S, R, S, S, S, S, S],
    "one real sample": [S, R, S, S, S, S, S, S],
    "real alone": [R] * 8,
    "synthetic alone": [S] * 8,
}


def steps(method: str, domain: list[int], rank: int, world_size: int) -> dict[str, Tensor]:
    """The state of a model, float64, after two steps of SGD on this rank's part of two batches."""
    model = adapted(method, strength=0.7).double()
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(model) if world_size > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    mine = slice(rank, None, world_size)
    for step in range(2):
        x = images(8, seed=step).double() * torch.arange(1, 9)[:, None, None, None]
        labels = torch.tensor(domain)[mine]
        with domains(model, labels):
            (wrapped(x[mine]) - labels.reshape(-1, 1, 1, 1)).square().mean().backward()
        missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert not (missing and world_size > 1), missing
        optimizer.step()
        optimizer.zero_grad()
    return {name: tensor.double() for name, tensor in model.state_dict().items()}


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    result: dict[str, Any] = {
        f"{method}, {name}": {key: value.tolist() for key, value in steps(method, domain, rank, 2).items()}
        for method in METHODS
        for name, domain in BATCHES.items()
    }
    (Path(folder) / f"{rank}.json").write_text(json.dumps(result), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_worker, (str(folder),), nprocs=2, join=True)
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_take_the_steps_of_one(ranks: list[dict[str, Any]], method: str, name: str) -> None:
    alone = steps(method, BATCHES[name], 0, 1)
    both = [rank[f"{method}, {name}"] for rank in ranks]
    assert both[0] == both[1]  # to the bit, running statistics included
    assert set(both[0]) == set(alone)
    start = adapted(method).double().state_dict()
    assert not all(torch.equal(tensor, start[key].double()) for key, tensor in alone.items())
    for key, tensor in alone.items():
        torch.testing.assert_close(torch.tensor(both[0][key], dtype=torch.float64), tensor, rtol=1e-9, atol=1e-11)
