"""The stacked hourglass against the reference's key lists, sizes and recorded numbers; weights from files."""

import json
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.trainables.test_segmentation_model import fill, reference, shapes
from trainables.landmarks.model import Residual, StackedHourglass
from trainables.landmarks.spec import LandmarksSpec
from trainables.landmarks.task import HEADS, Landmarks
from trainables.pretrained import Pretrained, load

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


# METHODS 4.1: all parameters of the reference at 51 points, and those of them that its forward pass does not use.
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


def published(path: Path, model: nn.Module) -> Pretrained:
    """A file as the reference's training writes it: wrapped, prefixed, with its idle layers and without counters."""
    state = {name: torch.full(shape, 0.5) for name, shape in (shapes(model) | unused(model)).items()}
    state = {f"model.module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 3}, path)
    return Pretrained(path=str(path)).pinned(str)


def test_a_published_file_is_where_training_starts(tmp_path: Path) -> None:
    source = published(tmp_path / "hg.pt", StackedHourglass(small()))
    task = Landmarks(small(pretrained=source))
    model = task.build_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.initialise(model, 3)
    for name, tensor in model.state_dict().items():
        assert (tensor == (0 if name.endswith("num_batches_tracked") else 0.5)).all(), name


def test_a_head_for_other_points_keeps_the_seed_s_values_and_says_so(tmp_path: Path) -> None:
    source = published(tmp_path / "hg.pt", StackedHourglass(small(points=68)))
    plain = Landmarks(small())
    with pytest.warns(
        UserWarning, match=r"another number of outputs; outs.0.conv.weight, .* keep their initial values"
    ):
        task = Landmarks(small(pretrained=source))
    one, other = plain.build_model(), task.build_model()
    plain.initialise(one, 3)
    with pytest.warns(UserWarning, match="keep their initial values"):
        task.initialise(other, 3)
    truth = one.state_dict()
    for name, tensor in other.state_dict().items():
        if name.startswith("outs.") or re.match(r"merge_preds.*weight", name):
            assert torch.equal(tensor, truth[name]), name
        elif not name.endswith("num_batches_tracked"):
            assert (tensor == 0.5).all(), name


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"stacks": 1}, r"missing keys \(hgs.1.0.up1.bn1.weight, .*, ...\)"),
        ({"stacks": 3}, r"unexpected keys \("),
        ({"width": 0.0625}, r"other shapes \(pre.0.conv.weight is \[4, 3, 7, 7\] for \[2, 3, 7, 7\], .*, ...\)"),
    ],
)
def test_weights_of_another_network_are_one_line_before_training(tmp_path: Path, other: dict, says: str) -> None:
    source = published(tmp_path / "hg.pt", StackedHourglass(small(**other)))
    with pytest.raises(ValueError, match=says) as caught:
        Landmarks(small(pretrained=source))
    assert str(caught.value).startswith(f"{tmp_path}/hg.pt: must fit this StackedHourglass, but has ")
    assert "\n" not in str(caught.value)


def test_an_idle_layer_is_only_dropped_where_the_reference_has_it() -> None:
    model = StackedHourglass(small())
    state = model.state_dict() | {
        "pre.4.skip_layer.conv.scale": torch.zeros(1),
        "outs.0.skip_layer.conv.bias": torch.zeros(1),
    }
    result = model.load_state_dict(state, strict=False)
    assert sorted(result.unexpected_keys) == ["outs.0.skip_layer.conv.bias", "pre.4.skip_layer.conv.scale"]


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."],
    ids=["empty", "text", "zip", "dict"],
)
def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"w.pt: must ") as caught:
        load(StackedHourglass(small()), Pretrained(path=str(tmp_path / "w.pt")), HEADS)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_replaced_or_is_missing_is_refused(tmp_path: Path) -> None:
    source = published(tmp_path / "hg.pt", StackedHourglass(small()))
    torch.save({}, tmp_path / "hg.pt")
    with pytest.raises(ValueError, match=r"sha256 must be [0-9a-f]{12}, but is [0-9a-f]{12}; the file was replaced"):
        Landmarks(small(pretrained=source))
    with pytest.raises(ValueError, match=r"nowhere.pt: must be a readable file, but: No such file"):
        Pretrained(path="nowhere.pt").pinned(str)


def test_a_path_alone_names_a_file_and_a_spec_with_one_is_a_value() -> None:
    chosen = small(pretrained="hg.pt")
    assert chosen.pretrained == Pretrained(path="hg.pt")
    assert LandmarksSpec.model_validate_json(chosen.model_dump_json()) == chosen
