"""DSBN and AdaIN against the recorded numbers of public reference code."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets import Domain
from tests.trainables.adapted import R, S, forward
from tests.trainables.references import fill, reference
from trainables.adaptation import adapt, branch
from trainables.adaptation.adain import restyled
from trainables.adaptation.moments import affine, moments


@pytest.fixture(scope="module", name="fill")
def fill_rules() -> Any:
    return fill()


def meta_of(name: str) -> dict[str, Any]:
    return json.loads(reference(f"parity/{name}.json").read_text())


def check(fill: Any, name: str, got: dict[str, Tensor], *, wide: bool) -> None:
    paths = [str(reference(f"parity/{name}.{kind}")) for kind in ("json", "npz")]
    arrays = {key: tensor.detach().numpy() for key, tensor in got.items()}
    results = fill.compare(*paths, arrays, float64_run=wide)
    assert {result[0] for result in results} == set(got)
    assert all(ok for *_, ok in results), results


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_four_steps_of_dsbn(fill: Any, wide: bool) -> None:
    meta = meta_of("dsbn_layer")
    arrays = fill.fill_state_dict(meta["keys"])
    assert fill.checksum(arrays) == meta["weights_crc32"]
    model = nn.Sequential(nn.BatchNorm2d(8))
    adapt(model, "dsbn")
    assert {name: list(tensor.shape) for name, tensor in model[0].state_dict().items()} == meta["keys"]
    model[0].load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    dtype = torch.float64 if wide else torch.float32
    model.to(dtype)
    got: dict[str, Tensor] = {}
    for step, (domain, seed) in enumerate(zip((R, S, R, S), (7, 8, 9, 10), strict=True), start=1):
        values = fill.make_input((4, 8, 16, 16), seed)
        x = torch.from_numpy(np.float32(2 * values + 0.5) if domain == S else values).to(dtype).requires_grad_()
        y = forward(model, x, [domain] * 4)
        got[f"train{step}_domain{domain}"] = y
        if step == 1:
            noise = np.random.Generator(np.random.Philox(11)).standard_normal((4, 8, 16, 16)).astype(np.float32)
            (y * torch.from_numpy(noise)).sum().backward()
            got["grad:x_step1"] = x.grad
            for kind in ("weight", "bias"):
                got[f"grad:bns.0.{kind}_step1"] = getattr(model[0].bns[0], kind).grad
        if step in (2, 4):
            buffers = {f"after{step}:{name}": buffer.clone() for name, buffer in model[0].named_buffers()}
            got |= buffers
    model.eval()
    x = torch.from_numpy(fill.make_input((4, 8, 16, 16), 11)).to(dtype)
    got["eval_branch0"] = model(x)
    with branch(model, Domain.SYNTHETIC):
        got["eval_branch1"] = model(x)
    check(fill, "dsbn_layer", {name: got[name] for name in meta["outputs"]}, wide=wide)


def test_a_mixed_batch_is_the_reference_s_two_forwards(fill: Any) -> None:
    """Steps 1 and 2 in one batch, out of order: the same outputs and statistics."""
    meta = meta_of("dsbn_layer")
    arrays = fill.fill_state_dict(meta["keys"])
    model = nn.Sequential(nn.BatchNorm2d(8))
    adapt(model, "dsbn")
    model[0].load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    real, synthetic = fill.make_input((4, 8, 16, 16), 7), np.float32(2 * fill.make_input((4, 8, 16, 16), 8) + 0.5)
    x = torch.from_numpy(np.stack([real, synthetic], axis=1).reshape(8, 8, 16, 16))
    y = forward(model, x, [R, S] * 4)
    got = {"train1_domain0": y[::2], "train2_domain1": y[1::2]}
    got |= {f"after2:{name}": buffer for name, buffer in model[0].named_buffers()}
    check(fill, "dsbn_layer", got, wide=False)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_adain_is_the_pytorch_port_s(fill: Any, wide: bool) -> None:
    """Which divides by n - 1 and adds 1e-5 on both sides; the other conventions are as far as was recorded."""
    stored = np.load(reference("parity/adain.npz"))
    dtype = torch.float64 if wide else torch.float32
    content, style = (torch.from_numpy(stored[f"in:{side}"]).to(dtype) for side in ("content", "style"))
    mean, var = moments(style)[1:]
    size = style[0, 0].numel()
    got = {
        "unbiased": restyled(content, style),
        "style_mean": mean[..., None, None],
        "style_std_unbiased": (var * size / (size - 1) + 1e-5).sqrt()[..., None, None],
    }
    check(fill, "adain", got, wide=wide)
    distance = (got["unbiased"] - torch.from_numpy(stored["biased"])).abs().max().item()
    assert distance == pytest.approx(meta_of("adain")["distance_between_conventions"]["unbiased-biased"], rel=1e-3)


def test_adain_of_a_strength_lies_between_content_and_style(fill: Any) -> None:
    stored = np.load(reference("parity/adain.npz"))
    content, style = (torch.from_numpy(stored[f"in:{side}"]) for side in ("content", "style"))
    full, half = restyled(content, style), restyled(content, style, 0.5)
    torch.testing.assert_close(half, (content + full) / 2)
    centred, mean, _ = moments(content)
    torch.testing.assert_close(restyled(content, style, 0.0), affine(centred, torch.ones_like(mean), mean))
