"""The network against the references' recorded numbers and key lists."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.initialisation import fan_in, fan_out, initialise
from trainables.segmentation.drn import DRN
from trainables.segmentation.model import ASPP, Decoder, DeepLab, resize
from trainables.segmentation.spec import SegmentationSpec
from trainables.segmentation.task import Segmentation

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"


def reference(path: str) -> Path:
    if not (REFERENCE / path).exists():
        pytest.skip(f"no reference file {path} beside the repository")
    return REFERENCE / path


def shapes(model: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def fill() -> Any:
    spec = importlib.util.spec_from_file_location("fill", reference("parity/fill.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("double", [False, True])
def test_drn_d_22_reproduces_every_stage_of_the_reference(double: bool) -> None:
    tool = fill()
    meta = json.loads(reference("parity/drn_d_22.json").read_text())
    arrays = tool.fill_state_dict(meta["keys"])
    assert tool.checksum(arrays) == meta["weights_crc32"]
    model = DRN("drn_d_22", width=1.0)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    model.eval()
    x = torch.from_numpy(tool.make_input(meta["input"]["shape"], meta["input"]["seed"]))
    if double:
        model, x = model.double(), x.double()

    got = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _, __, output, name=name: got.update({name: output.clone().numpy()}))
    with torch.no_grad():
        features, low_level = model(x)
    paths = [str(reference(f"parity/drn_d_22.{kind}")) for kind in ("json", "npz")]
    rows = tool.compare(*paths, got, float64_run=double)
    assert [name for name, *_ in rows] == [f"layer{i}" for i in range(1, 9)]
    assert all(ok for *_, ok in rows), rows
    assert (features.numpy() == got["layer8"]).all()
    assert (low_level.numpy() == got["layer3"]).all()


def test_drn_d_22_has_the_reference_keys_and_parameter_count() -> None:
    model = DRN("drn_d_22", width=1.0)
    classifier = 1000 * 512 + 1000
    assert sum(p.numel() for p in model.parameters()) + classifier == 16_393_752
    keys = json.loads(reference("keys/drn_d_22.json").read_text())
    assert shapes(model) == {name: shape for name, shape in keys.items() if not name.startswith("fc.")}
    assert list(shapes(model)) == [name for name in keys if not name.startswith("fc.")]


def test_aspp_and_decoder_have_the_reference_keys() -> None:
    """Only the low-level input differs: 64 channels from basic blocks, 256 from the reference's bottlenecks."""
    keys = json.loads(reference("keys/deeplab_drn_d_54_c9.json").read_text())
    head = {name: shape for name, shape in keys.items() if not name.startswith("backbone.")}
    head["decoder.conv1.weight"] = [48, 64, 1, 1]
    mine = shapes(DeepLab(SegmentationSpec(kind="segmentation")))
    assert {name: shape for name, shape in mine.items() if not name.startswith("backbone.")} == head


def mobilenet(state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The reference's MobileNetV2 at stride 16, in evaluation, straight from its weights: what feeds its head.

    Returns features [B, 320, H/16, W/16] and low-level features [B, 24, H/4, W/4].
    """

    def unit(x: Tensor, conv: str, norm: str, **options: int) -> Tensor:
        x = F.conv2d(x, state[f"{conv}.weight"], **options)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{norm}.{name}"] for name in names))

    x = F.relu6(unit(x, "backbone.features.0.0", "backbone.features.0.1", stride=2, padding=1))
    low_level, number = x, 1
    table = ((1, 1, 1, 1), (6, 2, 2, 1), (6, 3, 2, 1), (6, 4, 2, 1), (6, 3, 1, 1), (6, 3, 1, 1), (6, 1, 1, 2))
    for expansion, blocks, first_stride, dilation in table:
        for i in range(blocks):
            at, layer = f"backbone.features.{number}.conv", 0
            y = F.pad(x, [dilation] * 4)  # before the expansion, whose normalisation makes the border non-zero
            if expansion != 1:
                y, layer = F.relu6(unit(y, f"{at}.0", f"{at}.1")), 3
            stride = first_stride if i == 0 else 1
            spread = {"stride": stride, "dilation": dilation, "groups": y.shape[1]}
            y = F.relu6(unit(y, f"{at}.{layer}", f"{at}.{layer + 1}", **spread))
            y = unit(y, f"{at}.{layer + 3}", f"{at}.{layer + 4}")
            x = x + y if x.shape == y.shape else y
            low_level = x if number == 3 else low_level
            number += 1
    return x, low_level


@pytest.mark.parametrize("case", ["deeplab_mobilenet", "deeplab_mobilenet_large"])
def test_aspp_and_decoder_reproduce_the_reference_behind_its_mobilenet(case: str) -> None:
    """The large case tells the ASPP rates and the alignment of the resizes apart."""
    tool = fill()
    meta = json.loads(reference(f"parity/{case}.json").read_text())
    state = {name: torch.from_numpy(array) for name, array in tool.fill_state_dict(meta["keys"]).items()}
    head = nn.ModuleDict({"aspp": ASPP(320, 256, (6, 12, 18)), "decoder": Decoder(24, 256, 48, 9)}).eval()
    head.load_state_dict({k: v for k, v in state.items() if not k.startswith("backbone.")}, strict=True)
    x = torch.from_numpy(tool.make_input(meta["input"]["shape"], meta["input"]["seed"]))
    with torch.no_grad():
        features, low_level = mobilenet(state, x)
        aspp = head["aspp"](features)
        decoder = head["decoder"](aspp, low_level)
        logits = resize(decoder, x)
    got = {"backbone": features, "low_level": low_level, "aspp": aspp, "decoder": decoder, "logits": logits}
    paths = [str(reference(f"parity/{case}.{kind}")) for kind in ("json", "npz")]
    rows = tool.compare(*paths, {name: value.numpy() for name, value in got.items()})
    assert {name for name, *_ in rows} == set(got)
    assert all(ok for *_, ok in rows), rows


@pytest.mark.parametrize(("width", "resolution"), [(0.01, 32), (0.125, 40), (0.25, 64)])
def test_logits_have_the_size_of_the_input_at_any_width(width: float, resolution: int) -> None:
    model = DeepLab(SegmentationSpec(kind="segmentation", width=width, resolution=resolution))
    x = torch.rand(2, 3, resolution, resolution)
    assert model(x).shape == (2, 9, resolution, resolution)
    assert min(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)) >= 4


def test_aspp_rates_are_those_of_the_spec() -> None:
    model = DeepLab(SegmentationSpec(kind="segmentation", width=0.25, resolution=64, aspp_rates=(2, 4, 6)))
    rates = [getattr(model.aspp, f"aspp{i}").atrous_conv.dilation[0] for i in (1, 2, 3, 4)]
    assert rates == [1, 2, 4, 6]


def test_a_full_training_step_gives_the_same_bits_twice() -> None:
    def step() -> list[torch.Tensor]:
        torch.manual_seed(3)  # dropout
        task = Segmentation(SegmentationSpec(kind="segmentation", width=0.125, resolution=32))
        model = task.build_model()
        task.initialise(model, seed=0)
        generator = torch.Generator().manual_seed(1)
        batch = {
            "image": torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=generator),
            "segmentation": torch.randint(0, 9, (4, 32, 32), dtype=torch.uint8, generator=generator),
        }
        task.loss(model, batch)["total"].backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    assert all(torch.equal(a, b) for a, b in zip(step(), step(), strict=True))


class Two(nn.Module):
    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Conv2d(32, 64, 3) if name.startswith("conv") else nn.BatchNorm2d(64))


def test_initial_weights_have_the_named_distribution() -> None:
    model = Two(("conv1", "conv2", "bn"))
    initialise(model, 0, {"conv1.": fan_in, "conv2.": fan_out})
    state = model.state_dict()
    count = 64 * 32 * 9
    for name, variance in (("conv1", 2 / (32 * 9)), ("conv2", 2 / (64 * 9))):
        weight = state[f"{name}.weight"]
        assert abs(weight.mean()) < 5 * (variance / count) ** 0.5
        assert weight.var().item() == pytest.approx(variance, rel=5 * (2 / count) ** 0.5)
        assert state[f"{name}.bias"].eq(0).all()
    expected = nn.BatchNorm2d(64).state_dict()
    assert all(torch.equal(state[f"bn.{name}"], value) for name, value in expected.items())


def test_initial_weights_depend_on_seed_and_name_alone() -> None:
    rules = {"conv": fan_in}
    one, other, reseeded = Two(("conv1", "conv2")), Two(("conv2", "bn", "conv1")), Two(("conv1", "conv2"))
    for model, seed in ((one, 5), (other, 5), (reseeded, 6)):
        initialise(model, seed, rules)
    a, b, c = one.state_dict(), other.state_dict(), reseeded.state_dict()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert not torch.equal(a["conv1.weight"], a["conv2.weight"])
    assert not torch.equal(a["conv1.weight"], c["conv1.weight"])


def test_a_tensor_without_a_rule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^conv1.weight: one prefix of \['head.'\] must match, but 0 do$"):
        initialise(Two(("conv1",)), 0, {"head.": fan_in})
    odd = nn.Module()
    odd.scale = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match="no rule initialises a scale"):
        initialise(odd, 0, {})
