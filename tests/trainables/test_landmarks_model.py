"""The stacked hourglass against the reference's key lists, sizes and recorded numbers; weights from files."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from datasets.weights import Weights
from tests.trainables.references import fill, reference, shapes
from trainables.landmarks.model import Residual, StackedHourglass
from trainables.landmarks.spec import LandmarksSpec
from trainables.landmarks.task import Landmarks

NAMES = ["hourglass_princeton_s2_k51", "hourglass_princeton_s8_k51"]


def spec(stacks: int = 2, **what: object) -> LandmarksSpec:
    return LandmarksSpec.model_validate({"kind": "landmarks", "stacks": stacks} | what)


def small(**what: object) -> LandmarksSpec:
    return spec(**({"width": 0.03125, "depth": 2, "resolution": 32} | what))  # type: ignore[arg-type]


def unused(model: nn.Module) -> dict[str, list[int]]:
    """The keys and shapes that the reference has besides: a skip_layer in every Residual that keeps its channels."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, Residual) and module.skip_layer is None:
            channels = module.conv3.conv.out_channels
            found |= {f"{name}.skip_layer.conv.weight": [channels, channels, 1, 1]}
            found |= {f"{name}.skip_layer.conv.bias": [channels]}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_shapes_are_the_reference_s(name: str) -> None:
    keys = json.loads(reference(f"keys/{name}.json").read_text())
    model = StackedHourglass(spec(int(name[21])))
    assert not shapes(model).keys() & unused(model).keys()
    assert shapes(model) | unused(model) == keys
    model.load_state_dict({key: torch.zeros(shape) for key, shape in keys.items()}, strict=True)


# All parameters of princeton-vl/pytorch_stacked_hourglass at 51 points, and those that its forward pass does not use.
@pytest.mark.parametrize(
    ("stacks", "total", "idle"),
    [(1, 4_373_043, 937_600), (2, 8_456_038, 1_858_688), (4, 16_622_028, 3_700_864), (8, 32_954_008, 7_385_216)],
)
def test_parameters_are_those_that_the_reference_uses(stacks: int, total: int, idle: int) -> None:
    assert sum(p.numel() for p in StackedHourglass(spec(stacks)).parameters()) == total - idle


@pytest.mark.parametrize("double", [False, True])
def test_heatmaps_are_the_reference_s(double: bool) -> None:
    tool = fill()
    meta = json.loads(reference(f"parity/{NAMES[0]}.json").read_text())
    arrays = tool.fill_state_dict(meta["keys"])
    assert tool.checksum(arrays) == meta["weights_crc32"]
    model = StackedHourglass(spec(2)).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    x = torch.from_numpy(tool.make_input(meta["input"]["shape"], meta["input"]["seed"]))
    if double:
        model, x = model.double(), x.double()
    with torch.no_grad():
        got = {"heatmaps": model(x).numpy(), "pre": model.pre(x).numpy()}
    paths = [str(reference(f"parity/{NAMES[0]}.{kind}")) for kind in ("json", "npz")]
    rows = tool.compare(*paths, got, float64_run=double)
    assert [row[0] for row in rows] == ["heatmaps", "pre"]
    assert all(row[3] for row in rows), rows


@pytest.mark.parametrize(("depth", "width", "points"), [(1, 0.03125, 51), (3, 0.1, 68)])
def test_depth_width_and_points_are_free(depth: int, width: float, points: int) -> None:
    chosen = spec(2, depth=depth, width=width, points=points, resolution=64)
    model = StackedHourglass(chosen)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2, points, 16, 16)
    assert sum("up1.bn1.weight" in name for name in model.state_dict()) == 2 * depth


def test_a_resolution_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match=r"multiple of 4 \* 2\*\*depth = 64 \(depth=4\), but is 96"):
        spec(resolution=96)
    spec(resolution=96, depth=3)


def published(path: Path, model: nn.Module) -> Weights:
    """A file as the reference's training writes it: wrapped, prefixed, with its idle layers and without counters."""
    state = {name: torch.full(shape, 0.5) for name, shape in (shapes(model) | unused(model)).items()}
    state = {f"model.module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 3}, path)
    return Weights(path=str(path)).identified(Path())


def initial(chosen: LandmarksSpec, weights: Weights | None = None) -> dict[str, Tensor]:
    task = Landmarks(chosen.model_copy(update={"pretrained": weights}))
    model = task.build_model()
    task.initialise(model, 3)
    return model.state_dict()


def test_a_published_file_is_where_training_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    weights = published(tmp_path / "hg.pt", StackedHourglass(small()))
    for name, tensor in initial(small(), weights).items():
        assert (tensor == (0 if name.endswith("num_batches_tracked") else 0.5)).all(), name
    assert not caplog.text  # nothing keeps its initial values


def test_heads_for_other_points_keep_the_seed_s_values_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    weights = published(tmp_path / "hg.pt", StackedHourglass(small(points=68)))
    plain = initial(small())
    kept = ["merge_preds.0.conv.conv.weight", *(f"outs.{k}.conv.{kind}" for k in (0, 1) for kind in ("bias", "weight"))]
    for name, tensor in initial(small(), weights).items():
        if name in kept:
            assert torch.equal(tensor, plain[name]), name
        elif not name.endswith("num_batches_tracked"):
            assert (tensor == 0.5).all(), name
    assert f"initial values stay in {', '.join(kept)}" in caplog.text


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            {"stacks": 1},
            r"must hold all weights of this part of StackedHourglass, but lacks features\.1\.0\.bn1\.bias, ",
        ),
        ({"stacks": 3}, r"must hold names of StackedHourglass only, but also has hgs.2.0"),
        ({"width": 0.0625}, r"pre.0.conv.weight must have shape \[2, 3, 7, 7\], but has \[4, 3, 7, 7\]"),
    ],
)
def test_weights_of_another_network_are_one_line(tmp_path: Path, other: dict[str, float], says: str) -> None:
    weights = published(tmp_path / "hg.pt", StackedHourglass(small(**other)))
    with pytest.raises(ValueError, match=says) as caught:
        initial(small(), weights)
    assert str(caught.value).startswith(f"{tmp_path}/hg.pt: ")
    assert "\n" not in str(caught.value)


def test_an_idle_layer_is_only_dropped_where_the_reference_has_it(tmp_path: Path) -> None:
    for name in ("pre.3.skip_layer.conv.scale", "outs.0.skip_layer.conv.bias"):
        state = StackedHourglass(small()).state_dict() | {name: torch.zeros(1)}
        torch.save(state, tmp_path / "hg.pt")
        with pytest.raises(ValueError, match=f"names of StackedHourglass only, but also has {name}"):
            initial(small(), Weights(path=str(tmp_path / "hg.pt")))


def test_how_it_is_evaluated_is_not_in_the_key_of_a_stage() -> None:
    """But for the reference's decoding, which has other targets."""
    plain, reference_s = spec(), spec(decoding="reference")
    for other in (spec(decoding="refined"), spec(flip_test=True)):
        assert other.training_options() == plain.training_options()
        assert other.evaluation_options() != plain.evaluation_options()
    assert reference_s.training_options() != plain.training_options()
    assert spec(decoding="reference", flip_test=True).training_options() == reference_s.training_options()
