"""The networks of background matting against the reference's keys and recorded numbers, and at every size and mode."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainables.references import fill, reference, shapes
from trainables.adaptation import adapt, domains
from trainables.matting.model import MattingBase, MattingRefine, RefinedMatte
from trainables.matting.refiner import Refiner
from trainables.matting.spec import MattingSpec, Refinement
from trainables.mobilenet import MobileNetV2, divisible
from trainables.resnet import ResNet


def spec(**fields: Any) -> MattingSpec:
    return MattingSpec(kind="matting", **fields)


def refining(mode: str = "sampling", sample_pixels: int = 80_000, **fields: Any) -> MattingSpec:
    refinement = {"mode": mode, "sample_pixels": sample_pixels, **fields}
    return spec(phase="refine", width=0.25, refinement=Refinement.model_validate(refinement))


def images(batch: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.rand(2, batch, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return x[0], x[1]


def filled(model: nn.Module) -> nn.Module:
    """With the references' formula weights, and a predicted error above 0 almost everywhere."""
    tool = fill()
    arrays = tool.fill_state_dict({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    return model.eval()


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet50"])
@pytest.mark.parametrize("phase", ["base", "refine"])
def test_the_reference_s_keys_and_shapes_in_order(phase: str, backbone: str) -> None:
    model = (MattingBase if phase == "base" else MattingRefine)(spec(phase=phase, backbone=backbone))
    keys = json.loads(reference(f"keys/bgmv2_{phase}_{backbone.replace('_', '')}.json").read_text())
    assert list(shapes(model).items()) == list(keys.items())


@pytest.mark.parametrize(
    ("phase", "backbone", "count"),
    [
        ("base", "mobilenet_v2", 4_991_395),
        ("refine", "mobilenet_v2", 5_006_839),
        ("refine", "resnet50", 40_247_703),
        ("refine", "resnet101", 59_239_831),
    ],
)
def test_the_reference_s_number_of_parameters(phase: str, backbone: str, count: int) -> None:
    model = (MattingBase if phase == "base" else MattingRefine)(spec(phase=phase, backbone=backbone))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("case", ["bgmv2_base_mobilenetv2", "bgmv2_base_mobilenetv2_large"])
def test_the_base_network_reproduces_the_reference(case: str, double: bool) -> None:
    """The large case is not square and tells all ASPP rates apart."""
    tool = fill()
    meta = json.loads(reference(f"parity/{case}.json").read_text())
    arrays = tool.fill_state_dict(meta["keys"])
    assert tool.checksum(arrays) == meta["weights_crc32"]
    model = MattingBase(spec()).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    x = torch.from_numpy(tool.make_input(meta["input"]["shape"], meta["input"]["seed"]))
    if double:
        model, x = model.double(), x.double()
    with torch.no_grad():
        matte = model(x[:, :3], x[:, 3:])
    names = {"pha": matte.alpha, "fgr": matte.foreground, "err": matte.error, "hid": matte.hidden}
    paths = [str(reference(f"parity/{case}.{kind}")) for kind in ("json", "npz")]
    rows = tool.compare(*paths, {name: value.numpy() for name, value in names.items()}, float64_run=double)
    assert {name for name, *_ in rows} == set(names)
    assert all(ok for *_, ok in rows), rows


def refined(mode: str, src: Tensor, bgr: Tensor, sample_pixels: int = 10**9, threshold: float = 0.1) -> RefinedMatte:
    model = filled(MattingRefine(refining(mode, sample_pixels, threshold=threshold)))
    with torch.no_grad():
        model.get_parameter("decoder.conv4.bias")[4] = 0.5
        return model(src, bgr)


def test_all_modes_that_refine_all_cells_agree() -> None:
    """Full refinement is one convolution over the image, the others are patches: margins and padding must agree. To the
    bit where the kernels do not depend on the shape."""
    src, bgr = images(2, 96, 64)
    full, sampled = refined("full", src, bgr), refined("sampling", src, bgr)
    everything = refined("thresholding", src, bgr, threshold=0)
    assert full.refined.eq(1).all()
    assert full.alpha.std() > 0.02
    where = (sampled.refined[:, 0] > 0).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    assert where.float().mean() > 0.9  # only cells without any predicted error are left out
    assert torch.equal(sampled.refined, everything.refined)
    for one in (sampled, everything):
        wide = where.expand_as(full.foreground)
        torch.testing.assert_close(one.alpha[where], full.alpha[where], atol=1e-5, rtol=0)
        torch.testing.assert_close(one.foreground[wide], full.foreground[wide], atol=1e-5, rtol=0)


def test_full_refinement_is_the_published_arithmetic() -> None:
    """Written out from the weights: hidden, alpha, foreground, picture and background at half size, padded by 3; then
    with picture and background at full size, padded by 2."""
    model = filled(MattingRefine(refining("full")))
    src, bgr = images(1, 32, 48)
    state = model.state_dict()
    resize = nn.functional.interpolate

    def unit(x: Tensor, number: int) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        x = nn.functional.conv2d(x, state[f"refiner.conv{number}.weight"])
        return nn.functional.batch_norm(x, *(state[f"refiner.bn{number}.{name}"] for name in names)).relu()

    with torch.no_grad():
        whole = torch.cat([src, bgr], dim=1)
        small = resize(whole, scale_factor=0.25, mode="bilinear", align_corners=False, recompute_scale_factor=True)
        half, quarter, eighth, last = model.backbone(small)
        out = model.decoder(model.aspp(last), [eighth, quarter, half, small])
        x = torch.cat([out[:, 5:].relu(), out[:, :1].clamp(0, 1), out[:, 1:4]], dim=1)
        x, y = (resize(part, size=(16, 24), mode="bilinear", align_corners=False) for part in (x, whole))
        x = unit(unit(nn.functional.pad(torch.cat([x, y], dim=1), [3] * 4), 1), 2)
        x = torch.cat([resize(x, size=(36, 52), mode="nearest"), nn.functional.pad(whole, [2] * 4)], dim=1)
        x = nn.functional.conv2d(unit(x, 3), state["refiner.conv4.weight"], state["refiner.conv4.bias"])
        matte = model(src, bgr)
    torch.testing.assert_close(matte.alpha, x[:, :1].clamp(0, 1))
    torch.testing.assert_close(matte.foreground, (x[:, 1:] + src).clamp(0, 1))


def test_sampling_refines_the_cells_of_the_largest_error_and_leaves_the_rest_coarse() -> None:
    src, bgr = images(3, 64, 96)
    matte = refined("sampling", src, bgr, sample_pixels=16 * 10)
    resize = nn.functional.interpolate
    error = resize(matte.error_small, size=(16, 24), mode="bilinear", align_corners=False).flatten(1)
    cells = matte.refined.flatten(1)
    assert cells.sum(1).eq(10).all()
    for one, chosen in zip(error, cells > 0, strict=True):
        assert one[chosen].min() >= one[~chosen].max()
    coarse = resize(matte.alpha_small, size=(64, 96), mode="bilinear", align_corners=False).clamp(0, 1)
    same = torch.eq(matte.alpha, coarse)[:, 0]
    where = (matte.refined[:, 0] > 0).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert same[~where].all()
    assert not same[where].any()


def test_a_fixed_count_refines_the_cells_that_sampling_refines() -> None:
    """Where an error is predicted everywhere: the same cells in the same order, and so the same matte."""
    error = torch.rand(3, 1, 16, 24, generator=torch.Generator().manual_seed(0)) + 0.1
    refiner = Refiner(Refinement(sample_pixels=160), hidden=8)
    (mask, where), (sampled, found) = (refiner.select(error, fixed_count) for fixed_count in (True, False))
    assert torch.equal(mask, sampled)
    assert all(torch.equal(a, b) for a, b in zip(where, found, strict=True))
    src, bgr = images(3, 64, 96)
    model = filled(MattingRefine(refining("sampling", 16 * 10)))
    with torch.no_grad():
        model.get_parameter("decoder.conv4.bias")[4] = 0.5
        one, other = model(src, bgr), model(src, bgr, fixed_count=True)
    assert one.refined.flatten(1).sum(1).tolist() == [10, 10, 10]
    assert torch.equal(one.refined, other.refined)
    torch.testing.assert_close(one.alpha, other.alpha)
    torch.testing.assert_close(one.foreground, other.foreground)


def test_a_threshold_refines_exactly_the_cells_above_it() -> None:
    src, bgr = images(1, 64, 64)
    matte = refined("thresholding", src, bgr, threshold=0.5)
    error = nn.functional.interpolate(matte.error_small, size=(16, 16), mode="bilinear", align_corners=False)
    assert torch.equal(matte.refined, (error > 0.5).float())
    assert 0 < matte.refined.mean() < 1


def test_without_predicted_error_nothing_is_refined() -> None:
    model = filled(MattingRefine(refining()))
    src, bgr = images(1, 64, 64)
    with torch.no_grad():
        model.get_parameter("decoder.conv4.bias")[4] = -1e6
        matte = model(src, bgr)
    assert matte.refined.eq(0).all()
    coarse = nn.functional.interpolate(matte.alpha_small, size=(64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(matte.alpha, coarse.clamp(0, 1))


@pytest.mark.parametrize("adaptation", ["none", "real_bn"])
def test_normalisation_of_patches_in_training_is_that_of_the_pixels_of_each_domain(adaptation: Any) -> None:
    """Statistics over all refined pixels, of real samples alone under real_bn; written out from the patches."""
    torch.manual_seed(0)
    refiner = Refiner(Refinement(sample_pixels=16 * 6), hidden=8)
    adapt(refiner, adaptation)
    x, coarse, hidden, error = (torch.rand(4, c, 32, 32) for c in (6, 4, 8, 1))
    seen: list[Tensor] = []
    refiner.conv1.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    with domains(refiner, torch.tensor([0, 1, 0, 1])):
        refiner(x, coarse, hidden, error, fixed_count=True)
    patches = seen[0].reshape(4, 6, 24, -1)  # sample, cell, channel, pixels
    used = patches[[0, 2]] if adaptation == "real_bn" else patches
    mean = used.transpose(1, 2).transpose(0, 1).flatten(1).mean(1)
    torch.testing.assert_close(refiner.bn1.running_mean, 0.1 * mean)


def test_every_parameter_learns_in_training_even_where_no_error_is_predicted() -> None:
    model = MattingRefine(refining(mode="thresholding", sample_pixels=64, threshold=0.9)).train()
    matte = model(*images(2, 64, 64), fixed_count=True)
    assert matte.refined.flatten(1).sum(1).tolist() == [4, 4]
    (matte.alpha.sum() + matte.foreground.sum() + matte.error_small.sum() + matte.alpha_small.sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class Operations(TorchDispatchMode):
    """Collects the names of the operations that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_training_step_waits_for_no_device() -> None:
    """None of the operations whose result, or its shape, the host has to read."""
    model = MattingRefine(refining(sample_pixels=64)).train()
    with Operations() as seen:
        matte = model(*images(2, 64, 64), fixed_count=True)
        matte.alpha.sum().backward()
    waits = {"nonzero", "_local_scalar_dense", "masked_select", "unique2", "_unique2", "is_nonzero", "equal"}
    assert {"topk", "index_put", "convolution_backward"} <= seen.names
    assert not seen.names & waits
    with Operations() as evaluated:
        model.eval()(*images(2, 64, 64))
    assert "nonzero" in evaluated.names


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (63, 81), (64, 32)])
def test_the_base_network_takes_any_size(height: int, width: int) -> None:
    model = MattingBase(spec(width=0.1)).eval()
    matte = model(*images(1, height, width))
    assert matte.alpha.shape == (1, 1, height, width)
    assert matte.foreground.shape == (1, 3, height, width)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 12), (36, 100)])
@pytest.mark.parametrize("mode", ["sampling", "thresholding", "full"])
def test_the_refiner_takes_small_images_with_fewer_cells_than_it_may_refine(mode: str, height: int, width: int) -> None:
    matte = MattingRefine(refining(mode)).eval()(*images(2, height, width))
    assert matte.alpha.shape == (2, 1, height, width)
    assert matte.refined.shape == (2, 1, height // 4, width // 4)


def test_sides_that_are_no_multiples_of_four_are_refused_in_one_line() -> None:
    with pytest.raises(
        ValueError, match=r"^the refiner needs .* multiples of 4, but got \[1, 3, 32, 30\] .* pad them$"
    ):
        MattingRefine(refining())(*images(1, 32, 30))


def test_widths_are_rounded_as_published() -> None:
    """The channels of the published MobileNetV2 at 0.75 and 0.35 (torchvision, TensorFlow)."""
    assert [divisible(c * 0.75) for c in (32, 16, 24, 64, 96, 160, 320)] == [24, 16, 24, 48, 72, 120, 240]
    assert [divisible(c * 0.35) for c in (32, 16, 24, 64, 96, 160, 320)] == [16, 8, 8, 24, 32, 56, 112]


def test_mobilenet_s_last_stride_is_a_dilation() -> None:
    convs = [m for m in MobileNetV2().modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [m.stride[0] for m in convs] == [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert [m.dilation[0] for m in convs] == [1] * 14 + [2] * 3


def test_a_resnet_s_last_level_is_dilated_where_it_had_a_stride() -> None:
    convs = {name: m for name, m in ResNet("resnet50").named_modules() if isinstance(m, nn.Conv2d) and "conv2" in name}
    assert {name for name, conv in convs.items() if conv.stride == (2, 2)} == {"layer2.0.conv2", "layer3.0.conv2"}
    dilated = {name: conv.padding for name, conv in convs.items() if conv.dilation == (2, 2)}
    assert dilated == {"layer4.1.conv2": (2, 2), "layer4.2.conv2": (2, 2)}
    shapes = [tuple(x.shape[1:]) for x in ResNet("resnet50", 6).eval()(torch.rand(1, 6, 64, 32))]
    assert shapes == [(64, 32, 16), (256, 16, 8), (512, 8, 4), (2048, 4, 2)]
