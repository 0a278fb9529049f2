"""What every method of adaptation must do, and its definition: a second implementation, sample by sample."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets import Domain
from tests.trainables.adapted import (
    CHANNELS,
    METHODS,
    AdaIn,
    R,
    S,
    adapted,
    equal_states,
    forward,
    images,
    network,
    options,
    real_statistics,
)
from trainables.adaptation import adapt, branch, domains, recompute_statistics, undecayed
from trainables.adaptation.adain import AdaInBatchNorm2d
from trainables.adaptation.moments import affine, moments

ORDERS = [[R, R, R, S, S], [S, R, S, R, R], [S, S, R, S, R]]
LONE = [[R] * 4, [S] * 4]
KNOWING = [method for method in METHODS if method not in ("none", "adabn")]
BRANCHED = ("dsbn", "dson")


def layer(method: str, strength: float = 1.0) -> nn.Sequential:
    """One normalisation, float64."""
    norm = nn.BatchNorm2d(CHANNELS)
    norm.load_state_dict(network()[1].state_dict())
    model = nn.Sequential(norm)
    adapt(model, method, options(method, strength))
    with torch.no_grad():
        for k, (name, parameter) in enumerate(model.named_parameters()):
            if name.endswith("mixture"):
                parameter.fill_(0.4 - 0.3 * k)
            elif "bns.1." in name:
                parameter.add_(0.25)
    return model.double()


def features(count: int, seed: int = 3, size: tuple[int, int] = (4, 3)) -> Tensor:
    """float64, each sample with a mean and a deviation of its own."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, CHANNELS, *size, generator=generator, dtype=torch.float64)
    spread, mean = torch.rand(2, count, CHANNELS, 1, 1, generator=generator, dtype=torch.float64)
    return x * (0.5 + spread) + 2 * mean


def written_out(method: str, model: nn.Sequential, x: Tensor, domain: Sequence[int], strength: float) -> Tensor:
    """The methods' formulas, sample by sample, with torch's plain operations."""
    norm: Any = model[0]
    members = {d: [i for i, other in enumerate(domain) if other == d] for d in (R, S)}
    if method == "adain" and members[R] and members[S]:
        rows = list(x)
        for k, i in enumerate(members[S]):
            style = x[members[R][k % len(members[R])]].detach()
            (mu, sd), (mu_s, sd_s) = (
                (z.mean((1, 2), keepdim=True), (z.var((1, 2), keepdim=True) + 1e-5).sqrt()) for z in (x[i], style)
            )
            rows[i] = strength * ((x[i] - mu) / sd * sd_s + mu_s) + (1 - strength) * x[i]
        x = torch.stack(rows)
    outputs: list[Tensor] = []
    for i, d in enumerate(domain):
        group = x[members[d]] if method in ("real_bn", "dsbn", "dson") else x
        mean, var = group.mean((0, 2, 3)), group.var((0, 2, 3), unbiased=False)
        part = norm.bns[d] if method in BRANCHED else norm
        if method == "dson":
            w = part.mixture.sigmoid()
            mean = w * mean + (1 - w) * x[i].mean((1, 2))
            var = w * var + (1 - w) * x[i].var((1, 2), unbiased=False)
        normalised = (x[i] - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
        outputs.append(part.weight[:, None, None] * normalised + part.bias[:, None, None])
    return torch.stack(outputs)


@pytest.mark.parametrize("domain", [*ORDERS, *LONE], ids=str)
@pytest.mark.parametrize(("method", "strength"), [*((m, 1.0) for m in METHODS), ("adain", 0.3)])
def test_outputs_and_gradients_are_those_of_the_formula(method: str, strength: float, domain: list[int]) -> None:
    model = layer(method, strength)
    x = features(len(domain)).requires_grad_()
    used = [p for name, p in model.named_parameters() if "bns" not in name or int(name.split(".")[2]) in domain]
    expected = written_out(method, model, x, domain, strength)
    cotangent = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    y = forward(model, x, domain)
    torch.testing.assert_close(y, expected)
    got = torch.autograd.grad((y * cotangent).sum(), [x, *used])
    for a, b in zip(got, torch.autograd.grad((expected * cotangent).sum(), [x, *used]), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("domain", [*ORDERS, *LONE], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_running_statistics_follow_their_samples(method: str, domain: list[int]) -> None:
    model = layer(method)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    x = features(len(domain))
    forward(model, x, domain)
    parts = {f"0.bns.{d}": d for d in (R, S)} if method in BRANCHED else {"0": R}
    for prefix, d in parts.items():
        group = (
            x[[i for i, other in enumerate(domain) if other == d]] if method not in ("none", "adabn", "adain") else x
        )
        if method == "adain" and R in domain and S in domain:  # what the normalisation sees
            group = restyled_batch(x, domain)
        state = dict(model.named_buffers())
        assert state[f"{prefix}.num_batches_tracked"] - before[f"{prefix}.num_batches_tracked"] == (len(group) > 0)
        for kind, measure in (("mean", torch.mean), ("var", torch.var)):
            old = before[f"{prefix}.running_{kind}"]
            expected = old + 0.1 * (measure(group, dim=(0, 2, 3)) - old) if len(group) else old
            torch.testing.assert_close(state[f"{prefix}.running_{kind}"], expected)


def restyled_batch(x: Tensor, domain: list[int]) -> Tensor:
    """What adain makes of its input: the formula's output before the normalisation of the whole."""
    rows, real = list(x), [i for i, d in enumerate(domain) if d == R]
    for k, i in enumerate(i for i, d in enumerate(domain) if d == S):
        style = x[real[k % len(real)]]
        mean, sd = x[i].mean((1, 2), keepdim=True), (x[i].var((1, 2), keepdim=True) + 1e-5).sqrt()
        rows[i] = (x[i] - mean) / sd * (style.var((1, 2), keepdim=True) + 1e-5).sqrt() + style.mean(
            (1, 2), keepdim=True
        )
    return torch.stack(rows)


def test_moments_and_their_affine_map_are_differentiated_exactly() -> None:
    x = features(2, size=(3, 2)).requires_grad_()
    scale, shift = (torch.randn(2, CHANNELS, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.autograd.gradcheck(moments, (x,))
    torch.autograd.gradcheck(affine, (x, scale, shift))


def test_moments_keep_a_small_variance_beside_a_large_mean() -> None:
    x = 1000 + 0.01 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    _, mean, var = moments(x)
    torch.testing.assert_close(mean, x.double().mean((2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(var, x.double().var((2, 3), unbiased=False), rtol=1e-2, atol=0)


@pytest.mark.parametrize("domain", [*ORDERS, *LONE], ids=str)
def test_dson_is_batch_norm_at_1_and_instance_norm_at_0(domain: list[int]) -> None:
    x = features(len(domain))
    for mixture, w in ((60.0, 1), (-60.0, 0)):
        model, same = layer("dson"), layer("dsbn")
        for d in (R, S):
            state = {k: v for k, v in model[0].bns[d].state_dict().items() if k != "mixture"}
            same[0].bns[d].load_state_dict(state)
            nn.init.constant_(model[0].bns[d].mixture, mixture)
        y = forward(model, x, domain)
        if w:
            torch.testing.assert_close(y, forward(same, x, domain))
            torch.testing.assert_close(model.eval()(x), same.eval()(x))
            continue
        for i, d in enumerate(domain):
            part = same[0].bns[d]
            torch.testing.assert_close(y[i : i + 1], F.instance_norm(x[i : i + 1], weight=part.weight, bias=part.bias))
        part = same[0].bns[R]
        torch.testing.assert_close(model.eval()(x), F.instance_norm(x, weight=part.weight, bias=part.bias))


@pytest.mark.parametrize("method", ["dsbn", "real_bn"])
def test_with_equal_domains_it_is_batch_norm(method: str) -> None:
    plain, model = network(), network()
    adapt(model, method)
    x = images(4)
    both = torch.cat([x, x])
    torch.testing.assert_close(forward(model, both, [R] * 4 + [S] * 4), plain(both))
    torch.testing.assert_close(model.eval()(x), plain.eval()(x), rtol=0.05, atol=0.05)  # n / (n - 1) of half the batch


def test_adain_of_strength_0_is_none_to_the_bit() -> None:
    plain, model = network(), adapted("adain", strength=0.0)
    y, z = plain(images(5)), forward(model, images(5), ORDERS[1])
    y.square().sum().backward()
    z.square().sum().backward()
    assert torch.equal(y, z)
    assert equal_states(plain, model)
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("method", ["real_bn", *BRANCHED])
def test_synthetic_images_change_no_real_statistic_and_no_real_output(method: str) -> None:
    models = [adapted(method) for _ in range(2)]
    outputs = [
        forward(model, torch.cat([images(3), images(2, seed=seed) * seed + seed]), [R, R, R, S, S])
        for model, seed in zip(models, (5, 6), strict=True)
    ]
    assert torch.equal(outputs[0][:3], outputs[1][:3])
    assert not torch.equal(outputs[0][3:], outputs[1][3:])
    one, other = (real_statistics(model) for model in models)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_adain_of_strength_1_leaves_the_statistics_of_real_samples() -> None:
    """Those of the pairs: as many synthetic samples to each real one, and the batch's statistics are the real ones'."""
    x = features(6)
    for seed in (3, 4):
        x[3:] = features(3, seed=seed) * seed + 1
        model, plain = layer("adain"), layer("none")
        forward(model, x, [R, R, R, S, S, S])
        torch.testing.assert_close(model[0].running_mean, forward_and_mean(plain, x[:3]))
        torch.testing.assert_close(model[0].running_var, plain[0].running_var, rtol=0.01, atol=0)


def forward_and_mean(model: nn.Sequential, x: Tensor) -> Tensor:
    model(x)
    return model[0].running_mean


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_samples_does_not_matter(method: str) -> None:
    domain, order = [R, R, R, S, S], [3, 0, 4, 1, 2]  # synthetic and real ones each in their order: the same pairs
    one, other = layer(method), layer(method)
    x = features(5)
    y = forward(one, x, domain)
    z = forward(other, x[order], [domain[i] for i in order])
    torch.testing.assert_close(y[order], z)
    for name, buffer in one.named_buffers():
        torch.testing.assert_close(buffer, dict(other.named_buffers())[name])


@pytest.mark.parametrize("layout", ["permuted", "channels last"])
@pytest.mark.parametrize("method", METHODS)
def test_the_layout_in_memory_does_not_matter(method: str, layout: str) -> None:
    """Matting's refiner gives patches as a permuted view."""
    one, other = layer(method), layer(method)
    x = features(5)
    there = x.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3) if layout == "permuted" else None
    there = x.contiguous(memory_format=torch.channels_last) if there is None else there
    assert not there.is_contiguous()
    x, there = x.requires_grad_(), there.requires_grad_()
    y, z = forward(one, x, ORDERS[0]), forward(other, there, ORDERS[0])
    torch.testing.assert_close(y, z)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for mine in (cotangent, cotangent.contiguous(memory_format=torch.channels_last)):
        (a,) = torch.autograd.grad(y, x, mine, retain_graph=True)
        (b,) = torch.autograd.grad(z, there, mine, retain_graph=True)
        torch.testing.assert_close(a, b)
    for name, buffer in one.named_buffers():
        torch.testing.assert_close(buffer, dict(other.named_buffers())[name])


@pytest.mark.parametrize("domain", LONE, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_one_domain_trains_and_leaves_the_other_s_branch_alone(method: str, domain: list[int]) -> None:
    model = adapted(method)
    absent = f"bns.{1 - domain[0]}."
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if absent in name}
    forward(model, images(4), domain).square().sum().backward()
    for name, parameter in model.named_parameters():
        used = absent not in name and name not in (f"7.bns.{d}.mixture" for d in (R, S))  # 7 normalises one pixel
        assert (parameter.grad is not None) == used, name
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in before.items())


@pytest.mark.parametrize("domain", [[R, S, S], [R, R, S], [R, R, S, S]], ids=str)
@pytest.mark.parametrize("method", KNOWING)
def test_a_map_of_one_pixel_is_normalised_by_the_batch_or_where_it_is_alone_by_running_statistics(
    method: str, domain: list[int]
) -> None:
    model = layer(method)
    x = features(len(domain), size=(1, 1))
    norm: Any = model[0]
    y = forward(model, x, domain)
    for i, d in enumerate(domain):
        part = norm.bns[d] if method in BRANCHED else norm
        members = list(range(len(domain))) if method == "adain" else [k for k, e in enumerate(domain) if e == d]
        mean, var = x[members].mean((0, 2, 3)), x[members].var((0, 2, 3), unbiased=False)
        if len(members) == 1:
            mean, var = part.running_mean, part.running_var
        expected = (x[i, :, 0, 0] - mean) / (var + 1e-5).sqrt() * part.weight + part.bias
        torch.testing.assert_close(y[i, :, 0, 0], expected)
    if method in BRANCHED:
        assert [int(part.num_batches_tracked) for part in norm.bns] == [int(domain.count(d) > 1) for d in (R, S)]
    assert torch.isfinite(model.eval()(x)).all()


@pytest.mark.parametrize("method", METHODS)
def test_bf16_autocast_keeps_float32_statistics(method: str) -> None:
    model, wide = adapted(method), adapted(method)
    x, domain = images(8, size=12), [R, S] * 4
    with torch.autocast("cpu", torch.bfloat16):
        y = forward(model, x, domain)
    z = forward(wide, x, domain)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad is None or (torch.isfinite(p.grad).all() and p.grad.dtype == p.dtype) for p in model.parameters())
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            assert buffer.dtype == torch.float32
            torch.testing.assert_close(buffer, dict(wide.named_buffers())[name], rtol=0.05, atol=0.01)
    torch.testing.assert_close(y.float(), z, rtol=0.2, atol=0.3)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_accumulate_over_two_forwards(method: str) -> None:
    """Two forward passes before one backward: what moves in the first must not be what the second saved."""
    x, domain = [images(5, seed=seed) for seed in (1, 2)], ORDERS[1]
    together, apart = adapted(method), adapted(method)
    sum(forward(together, one, domain).square().sum() for one in x).backward()  # type: ignore[union-attr]
    for one in x:
        forward(apart, one, domain).square().sum().backward()
    assert equal_states(together, apart)
    for a, b in zip(together.parameters(), apart.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("method", METHODS)
def test_a_lone_value_survives_a_second_forward(method: str) -> None:
    """Its running statistics are saved for the backward pass, and the second forward moves them."""
    model = layer(method)
    x = features(3, size=(1, 1)).requires_grad_()
    domain = [R, R, S]
    total = forward(model, x, domain).sum() + forward(model, 2 * x, [R, S, S]).sum()
    total.backward()
    assert x.grad is not None


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_is_a_model_of_its_own(method: str) -> None:
    model = adapted(method)
    forward(model, images(4), [R, S, R, S])
    twin = copy.deepcopy(model)
    assert equal_states(model, twin)
    before = copy.deepcopy(model)
    forward(twin, images(4, seed=2), [R, S, R, S]).sum().backward()
    assert equal_states(model, before)
    assert not equal_states(model, twin)
    assert torch.equal(model.eval()(images(2)), before.eval()(images(2)))


@pytest.mark.parametrize("method", METHODS)
def test_states_make_the_round_trip(method: str, tmp_path: Any) -> None:
    model, other = adapted(method, seed=0), adapted(method, seed=1)
    forward(model, images(4), [R, S, R, S])
    torch.save(model.state_dict(), tmp_path / "state")
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True), strict=True)
    assert equal_states(model, other)
    assert torch.equal(forward(model, images(4), ORDERS[0][1:]), forward(other, images(4), ORDERS[0][1:]))
    assert torch.equal(model.eval()(images(2)), other.eval()(images(2)))


@pytest.mark.parametrize("method", METHODS)
def test_adapting_copies_everything_and_twice_is_as_once(method: str) -> None:
    plain, model = network(), network()
    plain.eval()
    model[4].eval()
    model[4].weight.requires_grad_(False)
    layers = [model[k] for k in (1, 4, 7)]
    adapt(model, method, options(method))
    state = copy.deepcopy(model.state_dict())
    tensors = list(model.parameters())
    adapt(model, method, options(method))
    assert [model[k] for k in (1, 4, 7)] == layers
    assert list(state) == list(model.state_dict())
    assert all(a is b for a, b in zip(tensors, model.parameters(), strict=True))
    assert not any(module.training for module in model[4].modules())
    for name, tensor in plain.state_dict().items():
        prefix, _, kind = name.rpartition(".")
        copies = [f"{prefix}.bns.{d}.{kind}" for d in (R, S)] if method in BRANCHED and prefix in "147" else [name]
        assert all(torch.equal(state.pop(key), tensor) for key in copies)
    assert all(name.endswith("mixture") and value == 0 for name, value in state.items())
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == (["4.bns.0.weight", "4.bns.1.weight"] if method in BRANCHED else ["4.weight"])
    if method != "dson":
        torch.testing.assert_close(model.eval()(images(3)), plain(images(3)))


@pytest.mark.parametrize("method", BRANCHED)
def test_evaluation_uses_the_real_branch_or_the_one_asked_for(method: str) -> None:
    model = adapted(method)
    forward(model, images(6), [R, S] * 3)
    model.eval()
    real = model(images(2))
    with branch(model, Domain.SYNTHETIC):
        synthetic = model(images(2))
    assert torch.equal(model(images(2)), real)
    assert not torch.allclose(real, synthetic)
    with domains(model, torch.tensor([S, S])):  # says nothing of evaluation
        assert torch.equal(model(images(2)), real)
    swapped = {
        name.replace("bns.0", "bns.x").replace("bns.1", "bns.0").replace("bns.x", "bns.1"): tensor
        for name, tensor in copy.deepcopy(model.state_dict()).items()
    }
    model.load_state_dict(swapped)
    assert torch.equal(model(images(2)), synthetic)


def test_dson_evaluates_by_running_statistics_and_the_samples_own() -> None:
    model = layer("dson").eval()
    x, part = features(3), model[0].bns[R]
    w = part.mixture.sigmoid()
    mean = w * part.running_mean + (1 - w) * x.mean((2, 3))
    var = w * part.running_var + (1 - w) * x.var((2, 3), unbiased=False)
    expected = (x - mean[..., None, None]) / (var + 1e-5).sqrt()[..., None, None]
    torch.testing.assert_close(model(x), expected * part.weight[:, None, None] + part.bias[:, None, None])
    torch.testing.assert_close(model(x[:1]), model(x)[:1])  # no sample depends on another


@pytest.mark.parametrize("method", BRANCHED)
def test_a_frozen_branch_uses_and_keeps_its_running_statistics(method: str) -> None:
    model = layer(method)
    for part in model[0].bns:
        part.eval()
    before = copy.deepcopy(model)
    x = features(5)
    y = forward(model, x, ORDERS[0])
    assert equal_states(model, before)
    torch.testing.assert_close(y[:3], before.eval()(x[:3]))


@pytest.mark.parametrize("method", METHODS)
def test_recomputed_statistics_are_those_of_what_the_real_layers_saw(method: str) -> None:
    """One layer after another: the first sees the images, and its statistics are the pooled ones."""
    model = adapted(method)
    batches = [{"image": images(count, seed=count) * count + 2} for count in (4, 7, 2)]
    modes = [module.training for module in model.modules()]
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items() if "running" not in name}
    synthetic = {name: b.clone() for name, b in model.named_buffers() if f"bns.{S}." in name}
    recompute_statistics(model, batches, lambda m, batch: m(batch["image"]))
    state = model.state_dict()
    prefix = "1.bns.0" if method in BRANCHED else "1"
    seen = torch.cat([model[0](batch["image"]) for batch in batches]).double()
    torch.testing.assert_close(state[f"{prefix}.running_mean"].double(), seen.mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state[f"{prefix}.running_var"].double(), seen.var((0, 2, 3)), rtol=1e-5, atol=1e-5)
    assert state[f"{prefix}.num_batches_tracked"] == 3
    assert all(torch.equal(tensor, dict(model.named_buffers())[name]) for name, tensor in synthetic.items())
    assert all(torch.equal(tensor, state[name]) for name, tensor in kept.items() if "num_batches" not in name)
    assert [module.training for module in model.modules()] == modes


def test_recomputing_for_dson_normalises_as_its_training_does() -> None:
    """The second layer's statistics: of features that the first has mixed, batch by batch."""
    model, twin = adapted("dson"), adapted("dson")
    batches = [{"image": images(count, seed=count)} for count in (4, 3)]
    recompute_statistics(model, batches, lambda m, batch: m(batch["image"]))
    seen = [twin[3](F.relu(forward(twin[:2], batch["image"], [R] * len(batch["image"])))) for batch in batches]
    expected = torch.cat(seen).double()
    torch.testing.assert_close(model[4].bns[R].running_mean.double(), expected.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[4].bns[R].running_var.double(), expected.var((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layers", "chosen"), [("stem", [1]), ("early", [1]), ("all", [1, 4, 7])])
def test_adain_is_at_the_layers_that_were_chosen(layers: str, chosen: list[int]) -> None:
    model = network()
    adapt(model, "adain", AdaIn(layers="all", strength=0.5))
    adapt(model, "adain", AdaIn(layers=layers, strength=0.25))
    found = {k: module for k, module in enumerate(model) if isinstance(module, AdaInBatchNorm2d)}
    assert list(found) == chosen
    assert {module.strength for module in found.values()} == {0.25}
    adapt(model, "none")
    assert not any("strength" in vars(module) for module in model)


@pytest.mark.parametrize("method", KNOWING)
def test_training_without_domains_or_with_too_few_is_refused(method: str) -> None:
    model = adapted(method)
    with pytest.raises(RuntimeError, match=f"{method} must know the domains: call the model inside"):
        model(images(2))
    with domains(model, torch.tensor([R, R])), pytest.raises(RuntimeError, match="3 samples, but `domains` named 2"):
        model(images(3))
    with pytest.raises(RuntimeError, match="call the model inside"):  # forgotten after the block
        model(images(2))
    with pytest.raises(ValueError, match=rf"^{method} knows .* but got \[2\]$"):
        forward(model, images(2), [R, 2])


REFUSED: list[tuple[Callable[[], nn.Module], str, Any, str]] = [
    (network, "bn", None, "^method must be one of none, .*, but is 'bn'$"),
    (network, "adain", None, r"has options \(strength, layers\), but adain got none$"),
    (network, "dsbn", AdaIn(), "but dsbn got AdaIn$"),
    (network, "adain", AdaIn(strength=1.5), r"`strength` in \[0, 1\], but got 1.5$"),
    (network, "adain", AdaIn(layers="late"), "`layers` of stem, early, all, but got 'late'$"),
    (lambda: nn.Conv2d(1, 1, 1), "dson", None, "but Conv2d has none$"),
    (lambda: nn.Sequential(nn.BatchNorm1d(2)), "dsbn", None, "but 0 is BatchNorm1d"),
    (lambda: nn.Sequential(nn.BatchNorm2d(2, affine=False)), "dson", None, "affine parameters, but 0 is BatchNorm2d"),
    (lambda: adapted("dsbn"), "dson", None, "^dson needs a plain model, but 1 has branches of dsbn; build"),
    (lambda: adapted("dson"), "none", None, "^none needs a plain model, but 1 has branches of dson; build"),
]


@pytest.mark.parametrize(("model", "method", "given", "message"), REFUSED)
def test_what_a_method_cannot_serve_is_refused_and_left_alone(
    model: Callable[[], nn.Module], method: str, given: Any, message: str
) -> None:
    built = model()
    kinds = [type(module) for module in built.modules()]
    with pytest.raises(ValueError, match=message) as caught:
        adapt(built, method, given)
    assert "\n" not in str(caught.value)
    assert [type(module) for module in built.modules()] == kinds


def test_mixtures_alone_are_spared_weight_decay() -> None:
    assert undecayed(adapted("dsbn")) == []
    model = adapted("dson")
    assert {id(p) for p in undecayed(model)} == {id(p) for n, p in model.named_parameters() if n.endswith("mixture")}
