"""Weights that go from one method's stage to another's, against what the literal method would have trained.

The literal method has its layers from the first step on; here a stage of one domain trains the plain model, and a
conversion at the fork makes the layers.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.adapted import METHODS, R, S, adapted, equal_states, forward, images, network, options
from trainables.adaptation import adapt, converted

PLAIN = ("none", "adabn", "real_bn", "adain")


def train(model: nn.Module, domain: int, steps: int = 3, *, zeros: bool = False, **sgd: Any) -> nn.Module:
    """Steps on batches of one domain, as the loop makes them. `zeros`: gradients of zeros where there are none, as over
    ranks."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, **sgd)
    for step in range(steps):
        forward(model, images(4, seed=step), [domain] * 4).square().mean().backward()
        for parameter in model.parameters():
            if zeros and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        nn.utils.clip_grad_norm_(list(model.parameters()), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return model


def part(weights: dict[str, Tensor], domain: int) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if f".bns.{domain}." in name}


@pytest.mark.parametrize("source", METHODS)
@pytest.mark.parametrize("target", METHODS)
def test_a_converted_state_fits_the_target_s_model(source: str, target: str) -> None:
    weights = train(adapted(source), R).state_dict()
    if source != target and (source == "dson" or (source, target) == ("dsbn", "dson")):
        with pytest.raises(ValueError, match=rf"^weights of {source} cannot become those of {target}, .*; keep"):
            converted(weights, source, target)
        return
    before = copy.deepcopy(weights)
    model = adapted(target, seed=1)
    model.load_state_dict(converted(weights, source, target), strict=True)
    assert all(torch.equal(weights[name], before[name]) for name in before)
    if target != "dson":
        adapted_source = adapted(source)
        adapted_source.load_state_dict(weights)
        torch.testing.assert_close(model.eval()(images(3)), adapted_source.eval()(images(3)))


@pytest.mark.parametrize("target", ["dsbn", "dson"])
def test_a_conversion_is_what_adapting_the_model_gives(target: str) -> None:
    plain = network()
    weights = converted(plain.state_dict(), "none", target)
    adapt(plain, target)
    state = plain.state_dict()
    assert set(weights) == set(state)
    assert all(
        torch.equal(weights[name], tensor) and weights[name].dtype == tensor.dtype for name, tensor in state.items()
    )
    addresses = [tensor.data_ptr() for name, tensor in weights.items() if "bns" in name]
    assert len(addresses) == len(set(addresses))


def test_a_normalisation_at_the_root_is_converted_too() -> None:
    norm = nn.BatchNorm2d(2)
    weights = converted(norm.state_dict(), "none", "dsbn")
    assert {name.rpartition(".")[0] for name in weights} == {"bns.0", "bns.1"}
    back = converted(weights, "dsbn", "none")
    assert list(back) == list(norm.state_dict())
    with pytest.raises(ValueError, match=r"method must be one of none, .* but is 'bn'"):
        converted(weights, "bn", "none")


@pytest.mark.parametrize("method", ["real_bn", "adain"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_literal_training_on_real_samples_alone_is_the_plain_model_s(method: str, weight_decay: float) -> None:
    literal = train(adapted(method), R, weight_decay=weight_decay)
    plain = train(network(), R, weight_decay=weight_decay)
    assert equal_states(literal, plain)


def test_literal_real_bn_on_synthetic_samples_keeps_its_statistics_and_trains_the_same_parameters() -> None:
    """So that a conversion must make new statistics (`recompute_statistics`): the plain are of synthetic data."""
    literal, plain = train(adapted("real_bn"), S), train(network(), S)
    assert all(torch.equal(a, b) for a, b in zip(literal.parameters(), plain.parameters(), strict=True))
    assert not equal_states(literal, plain)
    assert all(torch.equal(a, b) for a, b in zip(literal.buffers(), network().buffers(), strict=True))


@pytest.mark.parametrize("domain", [R, S])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_literal_dsbn_of_one_domain_is_the_plain_model_s_branch(domain: int, weight_decay: float) -> None:
    """To the bit, clipped gradients and weight decay included: the absent branch has no gradient, counts in no norm and
    does not decay. It differs in the absent branch: literally as it was, converted a copy of the trained one."""
    literal = train(adapted("dsbn"), domain, weight_decay=weight_decay).state_dict()
    plain = converted(train(network(), domain, weight_decay=weight_decay).state_dict(), "none", "dsbn")
    absent = 1 - domain
    for name, tensor in literal.items():
        assert torch.equal(tensor, plain[name]) == (f"bns.{absent}" not in name), name
    start = part(adapted("dsbn").state_dict(), absent)
    assert all(torch.equal(tensor, start[name]) for name, tensor in part(literal, absent).items())


def test_over_ranks_the_literal_method_s_absent_branch_decays() -> None:
    """Gradients of zeros, as the layers give over ranks: weight decay reaches the branch, and the clip norm is the same
    but for the order in which a processor sums more numbers."""
    start = part(adapted("dsbn").state_dict(), R)
    for weight_decay in (0.0, 0.1):
        alone = train(adapted("dsbn"), S, weight_decay=weight_decay).state_dict()
        ranks = train(adapted("dsbn"), S, weight_decay=weight_decay, zeros=True).state_dict()
        for name, tensor in ranks.items():
            decays = weight_decay > 0 and name in start and name.endswith(("weight", "bias"))
            assert torch.allclose(tensor.double(), alone[name].double(), rtol=1e-5, atol=1e-6) != decays, name
            if decays:
                assert (tensor.abs() < start[name].abs()).all()


def test_frozen_normalisation_is_the_same_literally_and_converted() -> None:
    """With layers in evaluation mode, no branch's statistics move, and real samples see the plain model's."""
    plain, literal = network(), adapted("dsbn")
    for model in (plain, literal):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval().requires_grad_(False)
    plain, literal = (train(model, R) for model in (plain, literal))
    target = adapted("dsbn", seed=1)
    target.load_state_dict(converted(plain.state_dict(), "none", "dsbn"), strict=True)
    assert equal_states(target, literal)


def test_dson_begins_by_half_with_each_sample_s_own_statistics() -> None:
    """So it does not go on with the function that the plain model was: that is the method, not the conversion."""
    plain = train(network(), R)
    model = network()
    adapt(model, "dson", options("dson"))
    model.load_state_dict(converted(plain.state_dict(), "none", "dson"), strict=True)
    assert not torch.allclose(model.eval()(images(3)), plain.eval()(images(3)), rtol=0.01)
    for name, parameter in model.named_parameters():
        if name.endswith("mixture"):
            nn.init.constant_(parameter, 60.0)
    torch.testing.assert_close(model(images(3)), plain(images(3)))
