"""Domain-aware normalisation against torch's own layer, and against a second implementation made of two calls."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from datasets import Domain
from trainables.adaptation import adapt, domains, recompute_statistics
from trainables.adaptation.batch_norm import RealBatchNorm2d

R, S = int(Domain.REAL), int(Domain.SYNTHETIC)
CHANNELS = 5


def network(seed: int = 0, channels: int = CHANNELS) -> nn.Sequential:
    """Two normalised layers, dropout between; every parameter and buffer away from its default."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Sequential(nn.Conv2d(channels, channels, 3), nn.BatchNorm2d(channels)),
    )
    for layer in (model[1], model[4][1]):
        nn.init.uniform_(layer.weight, 0.5, 1.5)
        nn.init.normal_(layer.bias)
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 1.5)
    return model


def images(count: int, seed: int = 1, size: int = 6) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def run(model: nn.Module, x: Tensor, domain: list[int]) -> tuple[Tensor, list[Tensor]]:
    """Output and gradients of one training step with a fixed dropout mask."""
    torch.manual_seed(9)
    with domains(model, torch.tensor(domain)):
        y = model(x)
    y.square().sum().backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return y.detach(), grads


def equal_states(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_with_real_samples_alone_it_is_batch_norm_to_the_bit(momentum: float | None) -> None:
    plain = network()
    for layer in (plain[1], plain[4][1]):
        layer.momentum = momentum
    adapted = copy.deepcopy(plain)
    adapt(adapted, "real_bn")
    for step in range(3):
        x = images(4, seed=step)
        (y, grads), (z, more) = run(plain, x, [R] * 4), run(adapted, x, [R] * 4)
        assert torch.equal(y, z)
        assert all(torch.equal(a, b) for a, b in zip(grads, more, strict=True))
        assert equal_states(plain, adapted)
    assert torch.equal(plain.eval()(images(4)), adapted.eval()(images(4)))


def test_synthetic_samples_change_no_running_statistic_and_no_real_output() -> None:
    outputs, states = [], []
    for seed in (1, 2):
        model = network()
        adapt(model, "real_bn")
        x = torch.cat([images(4), images(3, seed=seed) * 7 + 3])
        torch.manual_seed(9)
        with domains(model, torch.tensor([R] * 4 + [S] * 3)):
            outputs.append(model(x))
        states.append(model)
    assert torch.equal(outputs[0][:4], outputs[1][:4])
    assert not torch.equal(outputs[0][4:], outputs[1][4:])
    assert equal_states(*states)
    assert states[0][1].num_batches_tracked == 1


def test_a_synthetic_batch_changes_no_statistic_and_counts_no_batch() -> None:
    model = network()
    adapt(model, "real_bn")
    before = copy.deepcopy(model)
    y, _ = run(model, images(4), [S] * 4)
    assert equal_states(model, before)
    z, _ = run(before, images(4), [R] * 4)  # its own batch statistics, as for real samples
    assert torch.equal(y, z)


@pytest.mark.parametrize("domain", [[R, R, R, S, S], [S, R, S, R, R], [S, S, R, R, S]])
def test_a_mixed_batch_matches_two_separate_batch_norms(domain: list[int]) -> None:
    layer = nn.Sequential(nn.BatchNorm2d(CHANNELS))
    layer.load_state_dict({f"0.{k}": v for k, v in network()[1].state_dict().items()})
    adapt(layer, "real_bn")
    mean, var = layer[0].running_mean.clone(), layer[0].running_var.clone()
    x = torch.randn(5, CHANNELS, 4, 3, generator=torch.Generator().manual_seed(3)).requires_grad_()
    cotangent = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    with domains(layer, torch.tensor(domain)):
        y = layer(x)
    got = torch.autograd.grad((y * cotangent).sum(), [x, layer[0].weight, layer[0].bias])

    weight, bias = layer[0].weight, layer[0].bias
    z = torch.empty_like(x)
    real, synthetic = ([i for i, d in enumerate(domain) if d == which] for which in (R, S))
    z[real] = F.batch_norm(x[real], mean, var, weight, bias, training=True, momentum=0.1)
    z[synthetic] = F.batch_norm(x[synthetic], None, None, weight, bias, training=True)
    expected = torch.autograd.grad((z * cotangent).sum(), [x, weight, bias])
    torch.testing.assert_close(y, z)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(layer[0].running_mean, mean)
    assert torch.equal(layer[0].running_var, var)


@pytest.mark.parametrize("domain", [[R, S, S], [R, R, S], [S], [R]])
def test_a_domain_with_one_value_is_normalised_by_the_running_statistics(domain: list[int]) -> None:
    layer = nn.Sequential(nn.BatchNorm2d(2))
    layer[0].running_mean.copy_(torch.tensor([1.0, -2.0]))
    layer[0].running_var.copy_(torch.tensor([4.0, 0.25]))
    adapt(layer, "real_bn")
    x = torch.randn(len(domain), 2, 1, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with domains(layer, torch.tensor(domain)):
        y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    for which in (R, S):
        if domain.count(which) != 1:
            continue
        i = domain.index(which)
        # A real group is normalised first: where the lone sample is synthetic, real ones may have moved the statistics.
        mean, var = layer[0].running_mean, layer[0].running_var
        expected = (x[i, :, 0, 0] - mean) / (var + layer[0].eps).sqrt()
        torch.testing.assert_close(y[i, :, 0, 0], expected)
    assert layer[0].num_batches_tracked == (domain.count(R) > 1)


def test_evaluation_uses_the_running_statistics_and_needs_no_domains() -> None:
    plain, adapted = network().eval(), network().eval()
    adapt(adapted, "real_bn")
    assert torch.equal(plain(images(3)), adapted(images(3)))
    assert not adapted[1].training


def test_training_without_domains_or_with_too_few_is_refused() -> None:
    model = network()
    adapt(model, "real_bn")
    with pytest.raises(RuntimeError, match="call the model inside"):
        model(images(2))
    with domains(model, torch.tensor([R, R])), pytest.raises(RuntimeError, match="3 samples, but `domains` named 2"):
        model(images(3))
    with pytest.raises(RuntimeError, match="call the model inside"):  # forgotten after the block
        model(images(2))
    with pytest.raises(ValueError, match=r"but got \[2\]"), domains(model, torch.tensor([R, 2])):
        pass


def test_states_travel_between_the_methods() -> None:
    plain, adapted = network(0), network(1)
    adapt(adapted, "real_bn")
    run(plain, images(4), [R] * 4)
    adapted.load_state_dict(plain.state_dict(), strict=True)
    run(adapted, images(4), [R, R, S, S])
    plain.load_state_dict(adapted.state_dict(), strict=True)
    assert equal_states(plain, adapted)
    optimised = list(adapted.parameters())
    adapt(adapted, "none")
    assert not any(isinstance(m, RealBatchNorm2d) for m in adapted.modules())
    assert all(a is b for a, b in zip(optimised, adapted.parameters(), strict=True))
    assert torch.equal(plain.eval()(images(2)), adapted.eval()(images(2)))


def test_a_model_the_method_cannot_serve_is_refused() -> None:
    with pytest.raises(ValueError, match="Conv2d has none"):
        adapt(nn.Conv2d(1, 1, 1), "real_bn")
    with pytest.raises(ValueError, match=r"running statistics, but 1 is BatchNorm2d\(.*track_running_stats=False\)"):
        adapt(nn.Sequential(nn.Identity(), nn.BatchNorm2d(2, track_running_stats=False)), "real_bn")
    with pytest.raises(ValueError, match="but 0 is SyncBatchNorm"):
        adapt(nn.Sequential(nn.SyncBatchNorm(2)), "real_bn")
    adapt(nn.Sequential(nn.SyncBatchNorm(2)), "none")


def test_bf16_autocast_keeps_float32_statistics() -> None:
    model, wide = network(), network()
    for m in (model, wide):
        adapt(m, "real_bn")
    with torch.autocast("cpu", torch.bfloat16):
        y, grads = run(model, images(6, size=12), [S, R, R, S, R, S])
    z, _ = run(wide, images(6, size=12), [S, R, R, S, R, S])
    assert y.dtype == torch.bfloat16
    assert all(torch.isfinite(g).all() for g in grads)
    assert model[1].running_mean.dtype == torch.float32
    torch.testing.assert_close(model[1].running_var, wide[1].running_var, rtol=0.02, atol=0)
    torch.testing.assert_close(y.float(), z, rtol=0.1, atol=0.15)


@pytest.fixture
def process_group(tmp_path: Any) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_it_works_inside_distributed_data_parallel() -> None:
    bare, inner = network(), network()
    for m in (bare, inner):
        adapt(m, "real_bn")
    wrapped = nn.parallel.DistributedDataParallel(inner)
    for step in range(2):
        (y, grads), (z, more) = (run(m, images(4, seed=step), [R, R, S, S]) for m in (bare, wrapped))
        assert torch.equal(y, z)
        assert all(torch.equal(a, b) for a, b in zip(grads, more, strict=True))
    assert equal_states(bare, inner)


def forward(model: nn.Module, batch: Any) -> Tensor:
    return model(batch["image"])


def batches() -> list[dict[str, Tensor]]:
    return [{"image": images(count, seed=count) * count + 2} for count in (4, 7, 2)]


@pytest.mark.parametrize("method", ["none", "real_bn"])
def test_restart_gives_the_pooled_statistics_of_what_each_layer_saw(method: Any) -> None:
    model = network()
    adapt(model, method)
    witness = network()
    witness.eval()
    seen: dict[int, list[np.ndarray]] = {}
    for i, layer in enumerate((witness[1], witness[4][1])):
        layer.train()
        layer.register_forward_pre_hook(
            lambda _, inputs, i=i: seen.setdefault(i, []).append(inputs[0].detach().double().numpy())
        )
    for batch in batches():
        forward(witness, batch)

    recompute_statistics(model, iter(batches()), forward)
    for i, layer in enumerate((model[1], model[4][1])):
        values = np.concatenate([x.transpose(1, 0, 2, 3).reshape(CHANNELS, -1) for x in seen[i]], axis=1)
        np.testing.assert_allclose(layer.running_mean, values.mean(1), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(layer.running_var, values.var(1, ddof=1), rtol=1e-6)
        assert layer.num_batches_tracked == 3


def test_restart_forgets_the_old_statistics_and_repeats_to_the_bit() -> None:
    one, other = network(), network()
    other[1].running_mean.add_(100)
    other[4][1].running_var.mul_(9)
    recompute_statistics(one, batches(), forward)
    recompute_statistics(other, batches(), forward)
    assert equal_states(one, other)
    recompute_statistics(one, batches(), forward)
    assert equal_states(one, other)


def test_restart_keeps_parameters_modes_and_hooks_and_draws_nothing() -> None:
    model = network().train()
    model[4].eval()
    modes = [m.training for m in model.modules()]
    parameters = copy.deepcopy(list(model.parameters()))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    recompute_statistics(model, batches(), forward)
    assert torch.equal(torch.get_rng_state(), before)  # no dropout
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(parameters, model.parameters(), strict=True))
    assert not any(m._forward_hooks for m in model.modules())


def test_restart_of_a_large_mean_keeps_the_small_variance() -> None:
    """Sums of squares in float32 would give a variance of 0 or less here."""
    model = nn.Sequential(nn.BatchNorm2d(1))
    x = 1000 + 0.01 * torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    recompute_statistics(model, [{"image": x}], forward)
    assert model[0].running_var.item() == pytest.approx(x.double().var().item(), rel=1e-4)


@pytest.mark.parametrize("failing", ["empty", "raises"])
def test_a_failed_restart_leaves_the_model_as_it_was(failing: str) -> None:
    def bad() -> Iterator[dict[str, Tensor]]:
        yield batches()[0]
        raise OSError("disk")

    model = network()
    before = copy.deepcopy(model)
    if failing == "empty":
        with pytest.raises(ValueError, match=r"1 needs two values per channel .* 0 batches"):
            recompute_statistics(model, [], forward)
    else:
        with pytest.raises(OSError, match="disk"):
            recompute_statistics(model, bad(), forward)
    assert equal_states(model, before)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
