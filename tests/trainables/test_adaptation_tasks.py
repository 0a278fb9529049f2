"""Every method on every task's model: training steps, evaluation by both branches, initial weights and statistics."""

import copy
import math

import pytest
import torch
from torch import nn

from datasets import Domain
from tests.trainables.adapted import METHODS, R, S, options
from tests.trainables.test_task_conformance import Case, Task, batch_of, build, case, model_of, task
from trainables.adaptation import adapt, branch, converted, domains, recompute_statistics, undecayed
from trainables.adaptation.domain_specific import BranchedNorm2d
from trainables.initialisation import initialise

__all__ = ["build", "case", "task"]  # fixtures


@pytest.mark.parametrize("which", [[R, R, S, S], [S, R, R, S], [R] * 4, [S] * 4], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_finite_and_reaches_what_the_batch_has(case: Case, task: Task, method: str, which: list[int]) -> None:
    model = model_of(task)
    adapt(model, method, options(method, 0.5))
    batch = batch_of(task, case, which)
    with domains(model, batch["domain"]):
        loss = task.loss(model, batch)["total"]
    loss.backward()
    assert math.isfinite(loss.item())
    absent = [f".bns.{d}." for d in (R, S) if d not in which]
    for name, parameter in model.named_parameters():
        if name.endswith("mixture") or any(part in name for part in absent):
            continue  # a mixture is without use where the map has one pixel
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("method", METHODS)
def test_a_mixed_step_moves_real_evaluation_and_the_other_branch(case: Case, task: Task, method: str) -> None:
    model = model_of(task)
    adapt(model, method, options(method, layers="stem"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batch = batch_of(task, case, [R, R, S, S])
    for _ in range(2):
        with domains(model, batch["domain"]):
            task.loss(model, batch)["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
    average = copy.deepcopy(model).eval()
    values = []
    for domain in Domain:
        evaluator = task.evaluator(torch.device("cpu"))
        with torch.no_grad(), branch(average, domain):
            evaluator.update(average, batch_of(task, case, [R] * 4))
        values.append([state.clone() for state in evaluator.state().values()])
    same = all(torch.equal(a, b) for a, b in zip(*values, strict=True))
    if method not in ("dsbn", "dson"):
        assert same


@pytest.mark.parametrize("method", ["dsbn", "dson"])
def test_initialising_an_adapted_model_is_adapting_an_initialised_one(task: Task, method: str) -> None:
    one, other = task.build_model(), model_of(task, seed=3)
    adapt(one, method)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.fill_(7)
    task.initialise(one, 3)
    weights = converted(other.state_dict(), "none", method)
    adapt(other, method)
    assert set(one.state_dict()) == set(other.state_dict()) == set(weights)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
        assert torch.equal(tensor, weights[name])
    layers = [module for module in one.modules() if isinstance(module, BranchedNorm2d)]
    assert len(undecayed(one)) == (2 * len(layers) if method == "dson" else 0)


@pytest.mark.parametrize("method", METHODS)
def test_statistics_are_recomputed_to_the_same_bits(case: Case, task: Task, method: str) -> None:
    model = model_of(task)
    adapt(model, method, options(method))
    batches = [batch_of(task, case, [R] * 4)]
    recompute_statistics(model, batches, task.loss)
    state = copy.deepcopy(model.state_dict())
    assert any(buffer.any() for name, buffer in model.named_buffers() if name.endswith("running_mean"))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.add_(1)  # type: ignore[union-attr]
    recompute_statistics(model, batches, task.loss)
    for name, tensor in model.state_dict().items():
        if ".bns.1." not in name:
            assert torch.equal(tensor, state[name]), name


def test_mixtures_are_initialised_at_0() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2))
    adapt(model, "dson")
    for parameter in model.parameters():
        nn.init.constant_(parameter, 5.0)
    initialise(model, 0, {})
    assert [p.item() for name, p in model.named_parameters() if name.endswith("mixture")] == [0.0, 0.0]
