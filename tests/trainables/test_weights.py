"""Published weights get into a model whole, or one line says what does not fit."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datasets.weights import Weights
from trainables.segmentation.spec import SegmentationSpec
from trainables.segmentation.task import Segmentation

Names = dict[str, Tensor]


def spec(path: Path | None = None, **fields: object) -> SegmentationSpec:
    fields = {"backbone": "drn_d_22", "width": 0.0625, "resolution": 32} | fields
    made = SegmentationSpec(kind="segmentation", **fields)
    return made.model_copy(update={"pretrained": Weights(path=str(path)).identified(Path())}) if path else made


def state(made: SegmentationSpec, seed: int = 0) -> Names:
    task = Segmentation(made)
    model = task.build_model()
    task.initialise(model, seed)
    return model.state_dict()


def published(made: SegmentationSpec) -> Names:
    """Weights that no initialisation gives, by formula."""
    return {
        name: torch.arange(tensor.numel(), dtype=torch.float32).reshape(tensor.shape).sin().to(tensor.dtype)
        for name, tensor in state(made).items()
        if not name.endswith("num_batches_tracked")  # old files lack the counters
    }


def backbone(weights: Names) -> Names:
    return {name.removeprefix("backbone."): t for name, t in weights.items() if name.startswith("backbone.")}


def test_an_imagenet_file_fills_the_backbone_and_nothing_else(tmp_path: Path) -> None:
    weights = backbone(published(spec()))
    classifier = {"fc.weight": torch.zeros(1000, 32, 1, 1), "fc.bias": torch.zeros(1000)}
    torch.save(weights | classifier, tmp_path / "drn.pth")
    plain, loaded = state(spec()), state(spec(tmp_path / "drn.pth"))
    for name, tensor in loaded.items():
        expected = weights.get(name.removeprefix("backbone."), plain[name])
        assert torch.equal(tensor, expected), name


@pytest.mark.parametrize("wrapper", ["", "module.", "model.module."])
def test_a_checkpoint_of_the_whole_network_is_unwrapped(tmp_path: Path, wrapper: str) -> None:
    weights = published(spec())
    held = {"epoch": 3, "state_dict": {wrapper + name: tensor for name, tensor in weights.items()}, "best_pred": 0.7}
    torch.save(held, tmp_path / "whole.pth.tar")
    loaded = state(spec(tmp_path / "whole.pth.tar"))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_the_classifier_of_another_number_of_classes_keeps_its_values(tmp_path: Path) -> None:
    voc = published(spec(classes=tuple(f"c{i}" for i in range(21))))
    torch.save(voc, tmp_path / "voc.pth")
    plain, loaded = state(spec()), state(spec(tmp_path / "voc.pth"))
    last = ("decoder.last_conv.8.weight", "decoder.last_conv.8.bias")
    assert all(torch.equal(loaded[name], plain[name]) for name in last)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in voc.items() if name not in last)


def test_drn_d_54_initialises_drn_d_56(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = backbone(published(spec(backbone="drn_d_54")))
    torch.save(weights, tmp_path / "54.pth")
    caplog.set_level("INFO")
    loaded = backbone(state(spec(tmp_path / "54.pth", backbone="drn_d_56")))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    new = {name for name in loaded if name not in weights and not name.endswith("num_batches_tracked")}
    assert len(new) == 10  # a convolution and the four tensors of its normalisation, in levels 7 and 8
    assert all(f"backbone.{name}" in caplog.text for name in new)


def test_mobilenet_s_second_names_are_left_out(tmp_path: Path) -> None:
    made = spec(backbone="mobilenet_v2")
    weights = published(made)
    twice = {
        name.replace(".features.", ".low_level_features."): tensor
        for name, tensor in weights.items()
        if re.match(r"backbone\.features\.[0-3]\.", name)
    }
    torch.save(weights | twice, tmp_path / "mobilenet.pth")
    loaded = state(spec(tmp_path / "mobilenet.pth", backbone="mobilenet_v2"))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def bad(path: Path, kind: str) -> str:
    """Writes a file of a kind and returns what is said of it."""
    weights = backbone(published(spec()))
    match kind:
        case "other architecture":
            torch.save({"hgs.0.weight": torch.zeros(3)}, path)
            return "must hold weights of DeepLab, but has hgs.0.weight"
        case "more levels":
            torch.save(weights | {"layer9.0.weight": torch.zeros(3)}, path)
            return "must hold names of DeepLab only, but also has layer9.0.weight"
        case "another width":
            torch.save(backbone(published(spec(width=0.125))), path)
            return "layer3.0.conv1.weight must have shape"
        case "fewer levels":
            torch.save({name: t for name, t in weights.items() if not name.startswith("layer6.")}, path)
            return "must hold all weights of this part of DeepLab, but lacks backbone.layer6.0.bn1.bias"
        case "no parameters":
            torch.save([1, 2], path)
            return "must hold a dictionary of parameters, but holds list"
        case "text":
            path.write_text("<html>not found</html>")
            return "must be a file that torch.load reads"
    raise AssertionError(kind)


KINDS = ["other architecture", "more levels", "another width", "fewer levels", "no parameters", "text"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_one_line_that_names_the_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.pth"
    message = bad(path, kind)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        state(spec(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> object:
            return print, ("ran",)

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"must be a file that torch\.load reads"):
        state(spec(tmp_path / "evil.pth"))


def test_the_content_counts_and_the_path_does_not(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth"):
        torch.save(backbone(published(spec())), tmp_path / name)
    (tmp_path / "c.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    here, there = (spec(tmp_path / name).model_dump(mode="json") for name in ("a.pth", "c.pth"))
    assert here == there
    relative = Weights(path="a.pth").identified(tmp_path)
    assert relative == Weights(path=str(tmp_path / "a.pth")).identified(Path("/"))
    with pytest.raises(ValueError, match="must be identified before"):
        Weights(path="a.pth").model_dump()
    with pytest.raises(ValueError, match=r"no\.pth: must be a file of published weights, but: No such file"):
        Weights(path="no.pth").identified(tmp_path)


def test_a_file_that_was_replaced_is_refused(tmp_path: Path) -> None:
    torch.save(backbone(published(spec())), tmp_path / "drn.pth")
    made = spec(tmp_path / "drn.pth")
    torch.save(backbone(published(spec())) | {"fc.bias": torch.zeros(3)}, tmp_path / "drn.pth")
    with pytest.raises(ValueError, match="must stay as it was"):
        state(made)
