"""The network against the references' recorded numbers and key lists."""

import json

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.references import fill, reference, shapes
from trainables.initialisation import fan_in, fan_out, initialise
from trainables.segmentation.drn import DRN
from trainables.segmentation.mobilenet import MobileNetV2
from trainables.segmentation.model import DeepLab
from trainables.segmentation.spec import SegmentationSpec
from trainables.segmentation.task import Segmentation


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", ["drn_d_22", "drn_d_54"])
def test_a_drn_reproduces_every_stage_of_the_reference(name: str, double: bool) -> None:
    tool = fill()
    meta = json.loads(reference(f"parity/{name}.json").read_text())
    arrays = tool.fill_state_dict(meta["keys"])
    assert tool.checksum(arrays) == meta["weights_crc32"]
    model = DRN(name, width=1.0)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    model.eval()
    x = torch.from_numpy(tool.make_input(meta["input"]["shape"], meta["input"]["seed"]))
    if double:
        model, x = model.double(), x.double()

    got = {}
    for layer_name, layer in model.named_children():
        layer.register_forward_hook(lambda _, __, out, name=layer_name: got.update({name: out.clone().numpy()}))
    with torch.no_grad():
        features, low_level = model(x)
    paths = [str(reference(f"parity/{name}.{kind}")) for kind in ("json", "npz")]
    rows = tool.compare(*paths, got, float64_run=double)
    assert [name for name, *_ in rows] == [f"layer{i}" for i in range(1, 9)]
    assert all(ok for *_, ok in rows), rows
    assert (features.numpy() == got["layer8"]).all()
    assert (low_level.numpy() == got["layer3"]).all()


# With the 1000-way classifier, as fyu/drn's modules count them.
PARAMETERS = {
    "drn_c_26": 21_126_584,
    "drn_c_42": 31_234_744,
    "drn_c_58": 41_591_608,
    "drn_d_22": 16_393_752,
    "drn_d_38": 26_501_912,
    "drn_d_54": 35_809_176,
    "drn_d_56": 40_529_816,
    "drn_d_105": 54_801_304,
}
UNUSED = {"drn_c_58": 2048 * 512 + 2 * 512}  # layer7.0.downsample, which the reference has and does not use


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_drn_has_the_reference_s_parameters(name: str) -> None:
    with torch.device("meta"):
        model = DRN(name, width=1.0)
    classifier = 1000 * 512 + 1000
    count = sum(p.numel() for p in model.parameters())
    assert count + classifier + UNUSED.get(name, 0) == PARAMETERS[name]
    with torch.device("meta"):
        features, low_level = model(torch.rand(1, 3, 64, 72))
    assert features.shape == (1, model.out_channels, 8, 9)
    assert low_level.shape == (1, model.low_level_channels, 16, 18)


@pytest.mark.parametrize("name", ["drn_d_22", "drn_d_38", "drn_d_54", "drn_d_56"])
def test_a_drn_has_the_reference_s_keys_in_its_order(name: str) -> None:
    keys = json.loads(reference(f"keys/{name}.json").read_text())
    mine = shapes(DRN(name, width=1.0))
    assert list(mine.items()) == [(key, shape) for key, shape in keys.items() if not key.startswith("fc.")]


def test_a_block_of_arch_c_adds_its_input_but_in_the_last_two_levels() -> None:
    model = DRN("drn_c_26", width=0.125).eval()
    for name in ("layer1", "layer7", "layer8"):
        block = getattr(model, name)[0]
        x = torch.rand(1, block.conv1.in_channels, 9, 9)
        with torch.no_grad():
            block.bn2.weight.zero_()
            block.bn2.bias.zero_()
            out = block(x)
        assert torch.equal(out, x if name == "layer1" else torch.zeros_like(out))


@pytest.mark.parametrize("backbone", ["drn_d_54", "drn_d_56", "mobilenet_v2"])
def test_deeplab_has_the_reference_s_keys(backbone: str) -> None:
    file = backbone.removesuffix("_v2")
    keys = json.loads(reference(f"keys/deeplab_{file}_c9.json").read_text())
    with torch.device("meta"):
        mine = shapes(DeepLab(SegmentationSpec(kind="segmentation", backbone=backbone)))
    again = ("backbone.low_level_features.", "backbone.high_level_features.")  # second names of backbone.features
    assert list(mine.items()) == [(key, shape) for key, shape in keys.items() if not key.startswith(again)]


@pytest.mark.parametrize("case", ["deeplab_mobilenet", "deeplab_mobilenet_large"])
def test_deeplab_reproduces_the_reference_on_its_mobilenet(case: str) -> None:
    """The large case tells the ASPP rates and the alignment of the resizes apart."""
    tool = fill()
    meta = json.loads(reference(f"parity/{case}.json").read_text())
    state = {name: torch.from_numpy(array) for name, array in tool.fill_state_dict(meta["keys"]).items()}
    model = DeepLab(SegmentationSpec(kind="segmentation", backbone="mobilenet_v2")).eval()
    model.load_state_dict(state, strict=True)
    got: dict[str, Tensor] = {}
    for name in ("aspp", "decoder"):
        model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: got.update({name: out}))
    x = torch.from_numpy(tool.make_input(meta["input"]["shape"], meta["input"]["seed"]))
    with torch.no_grad():
        got["backbone"], got["low_level"] = model.backbone(x)
        got["logits"] = model(x)
    paths = [str(reference(f"parity/{case}.{kind}")) for kind in ("json", "npz")]
    rows = tool.compare(*paths, {name: value.numpy() for name, value in got.items()})
    assert {name for name, *_ in rows} == set(got)
    assert all(ok for *_, ok in rows), rows


def test_mobilenet_at_stride_8_turns_strides_into_dilations() -> None:
    model = MobileNetV2(0.25, output_stride=8)
    features, low_level = model(torch.rand(1, 3, 64, 96))
    assert (features.shape, low_level.shape) == ((1, 80, 8, 12), (1, 6, 16, 24))
    depthwise = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    strides = [m.stride[0] for m in depthwise]
    assert [i + 1 for i, s in enumerate(strides) if s == 2] == [2, 4]  # blocks, beside the first convolution
    assert [m.dilation[0] for m in depthwise] == [1] * 6 + [1] * 4 + [2] * 3 + [2] * 3 + [4]


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
