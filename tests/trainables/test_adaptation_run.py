"""A run of an adapted model: its optimizer, its average, and what a resume needs."""

from typing import Any

import pytest
import torch

from tests.trainables.test_run import CPU, TASK, begin, stage, train
from trainables.ranks import Ranks
from trainables.run import Run


@pytest.mark.parametrize("method", ["adabn", "real_bn", "dsbn", "dson"])
def test_a_restored_run_goes_on_with_the_same_bits(method: Any) -> None:
    of = stage(adaptation=method)
    whole = train(begin(of), 6)
    state = train(begin(of), 3).state()
    resumed = train(Run.restore(of, TASK, CPU, Ranks(), ("store", of.key), state), 6)
    for kind in ("model", "average"):
        one, other = whole.state()[kind], resumed.state()[kind]
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in one)
    raw, mean = whole.model.state_dict(), whole.average.state_dict()
    assert not all(torch.equal(raw[name], mean[name]) for name in raw)


def test_weight_decay_leaves_mixtures_alone() -> None:
    """Where nothing else pulls at them: with the loss switched off, all parameters shrink but the mixtures."""
    run = begin(stage(adaptation="dson", training={"warmup": 0, "weight_decay": 0.5}))
    before = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
    groups = run._optimizer.param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(8, 0.5), (2, 0.0)]
    for parameter in run.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in groups:
        group["lr"] = 0.1
    run._optimizer.step()
    for name, parameter in run.model.named_parameters():
        kept = torch.equal(parameter, before[name])
        assert kept == name.endswith("mixture"), name
