"""mIoU against the reference's recorded numbers, and the edges of its definition; the loss against a plain sum."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.segmentation.metrics import SegmentationEvaluator, confusion_matrix, scores
from trainables.segmentation.spec import SegmentationSpec
from trainables.segmentation.task import Segmentation

PARITY = Path(__file__).parents[3] / "shared" / "reference" / "parity"
NINE = [f"c{i}" for i in range(9)]


def test_metrics_reproduce_the_reference() -> None:
    if not PARITY.exists():
        pytest.skip("no reference numbers beside the repository")
    outputs = json.loads((PARITY / "miou.json").read_text())["outputs"]
    with np.load(PARITY / "miou.npz") as data:
        label, prediction = torch.from_numpy(data["in:gt"]), torch.from_numpy(data["in:pred"])
        expected = {name: data[name] for name in outputs}
    total = torch.zeros(9, 9, dtype=torch.int64)
    for image in range(len(label)):
        total += confusion_matrix(label[image], prediction[image], 9)
    assert np.array_equal(total.numpy(), expected["confusion"])
    got = scores(total, NINE)
    ious = [got[f"iou/{name}"] for name in NINE]
    assert math.isnan(ious[6])
    assert ious[7] == 0
    np.testing.assert_allclose(ious, expected["iou_per_class"], atol=1e-12, rtol=0)
    assert got["miou"] == pytest.approx(float(expected["mean_iou"]), abs=1e-12)
    assert got["miou_foreground"] == pytest.approx(float(expected["mean_iou_foreground"]), abs=1e-12)
    assert got["pixel_accuracy"] == pytest.approx(float(expected["pixel_accuracy"]), abs=1e-12)
    assert got["fwiou"] == pytest.approx(float(expected["fw_iou"]), abs=1e-12)


def test_confusion_counts_every_labelled_pixel_once_at_label_and_prediction() -> None:
    rng = np.random.Generator(np.random.Philox(2))
    label = rng.integers(0, 12, (2, 7, 5)).astype(np.uint8)
    label[label > 9] = 255
    prediction = rng.integers(0, 9, (2, 7, 5))
    expected = np.zeros((9, 9), np.int64)
    for i, j in zip(label.ravel(), prediction.ravel(), strict=True):
        if i < 9:
            expected[i, j] += 1
    got = confusion_matrix(torch.from_numpy(label), torch.from_numpy(prediction), 9)
    assert got.dtype == torch.int64
    assert np.array_equal(got.numpy(), expected)


def test_metrics_of_nothing_are_nan_and_of_a_perfect_prediction_one() -> None:
    label = torch.tensor([[255, 255]])
    assert all(math.isnan(v) for v in scores(confusion_matrix(label, torch.zeros_like(label), 9), NINE).values())
    label = torch.tensor([[0, 1, 255]])
    got = scores(confusion_matrix(label, torch.tensor([[0, 1, 5]]), 9), NINE)
    assert (got["miou"], got["miou_foreground"], got["pixel_accuracy"]) == (1, 1, 1)
    assert math.isnan(got["iou/c5"])  # predicted under an ignored label only


def test_evaluator_takes_the_largest_logit() -> None:
    def predict(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.one_hot(batch["segmentation"].long().clamp(max=1), 2).permute(0, 3, 1, 2).float()

    evaluator = SegmentationEvaluator(predict, ("a", "b"), torch.device("cpu"))
    evaluator.update(nn.Identity(), {"segmentation": torch.tensor([[[0, 1], [1, 255]]], dtype=torch.uint8)})
    assert evaluator.state()["confusion"].tolist() == [[1, 0], [0, 2]]


class Fixed(nn.Module):
    """Gives the same logits for any image."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits


@pytest.fixture(scope="module")
def task() -> Segmentation:
    return Segmentation(SegmentationSpec(kind="segmentation", width=0.25, resolution=32))


def labelled(segmentation: Tensor) -> dict[str, Tensor]:
    return {"image": torch.zeros(*segmentation.shape, 3, dtype=torch.uint8), "segmentation": segmentation}


def test_loss_is_the_mean_of_minus_log_probability_over_labelled_pixels(task: Segmentation) -> None:
    rng = np.random.Generator(np.random.Philox(4))
    logits = rng.normal(size=(2, 9, 32, 32))
    label = rng.integers(0, 9, (2, 32, 32)).astype(np.uint8)
    label[rng.random(label.shape) < 0.3] = 255
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    terms = [-np.log(probability[b, label[b, i, j], i, j]) for b, i, j in np.argwhere(label != 255)]
    loss = task.loss(Fixed(torch.from_numpy(logits).float()), labelled(torch.from_numpy(label)))
    assert loss["cross_entropy"].item() == pytest.approx(np.mean(terms), rel=1e-6)
    assert torch.equal(loss["total"], loss["cross_entropy"])


def test_loss_weighs_pixels_by_their_class() -> None:
    weights = (1.0, 0.5, 0.0, 2.0, 1.0, 1.0, 1.0, 1.0, 3.0)
    task = Segmentation(SegmentationSpec(kind="segmentation", width=0.25, resolution=32, class_weights=weights))
    rng = np.random.Generator(np.random.Philox(6))
    logits = torch.from_numpy(rng.normal(size=(2, 9, 32, 32))).float()
    label = rng.integers(0, 9, (2, 32, 32)).astype(np.uint8)
    label[rng.random(label.shape) < 0.3] = 255
    given = torch.from_numpy(label)
    expected = nn.functional.cross_entropy(logits, given.long(), weight=torch.tensor(weights), ignore_index=255)
    loss = task.loss(Fixed(logits), labelled(given))["total"]
    torch.testing.assert_close(loss, expected)


def test_the_flip_test_averages_a_face_and_its_mirror_image_with_the_eyes_exchanged() -> None:
    plain = Segmentation(SegmentationSpec(kind="segmentation", width=0.25, resolution=32))
    flipped = Segmentation(SegmentationSpec(kind="segmentation", width=0.25, resolution=32, flip_test=True))
    model = plain.build_model().eval()
    plain.initialise(model, 0)
    image = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    there = flipped.scored(model, {"image": image})
    mirrored = flipped.scored(model, {"image": image.flip(2)})
    order = [0, 1, 3, 2, 4, 5, 6, 7, 8]  # the nine classes with the eyes exchanged
    torch.testing.assert_close(mirrored, there.flip(3)[:, order])
    once, other = (plain.predict(model, {"image": i}) for i in (image, image.flip(2)))
    torch.testing.assert_close(there, (once + other.flip(3)[:, order]) / 2)
    assert not torch.allclose(there, once)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output_stride": 16}, "output_stride must be 8 for drn_d_22, but got 16"),
        ({"class_weights": (1.0, 2.0)}, "class_weights must be 9, one a class, but got 2"),
        ({"class_weights": (-1.0,) * 9}, "class_weights must be 0 or more and not all 0"),
        ({"classes": ("a", "b", "a")}, "classes must be distinct"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationSpec(kind="segmentation", **fields)


def test_defaults_are_the_backbone_s_and_pairs_are_found_by_name() -> None:
    mobile = SegmentationSpec(kind="segmentation", backbone="mobilenet_v2")
    assert (mobile.output_stride, mobile.aspp_rates) == (16, (6, 12, 18))
    assert SegmentationSpec(kind="segmentation", backbone="mobilenet_v2", output_stride=8).aspp_rates == (12, 24, 36)
    plain = SegmentationSpec(kind="segmentation")
    assert plain == SegmentationSpec(kind="segmentation", output_stride=8, aspp_rates=(12, 24, 36))
    assert plain.pairs() == ((2, 3),)
    other = SegmentationSpec(kind="segmentation", classes=("none", "l_brow", "hair", "r_brow", "l_ear", "right"))
    assert other.pairs() == ((1, 3),)


def test_loss_of_an_unlabelled_batch_is_zero_with_zero_gradient(task: Segmentation) -> None:
    model = Fixed(torch.randn(2, 9, 32, 32, generator=torch.Generator().manual_seed(0)))
    loss = task.loss(model, labelled(torch.full((2, 32, 32), 255, dtype=torch.uint8)))["total"]
    loss.backward()
    assert loss.item() == 0
    assert model.logits.grad is not None
    assert model.logits.grad.eq(0).all()


def test_images_reach_the_model_normalised_and_channel_first(task: Segmentation) -> None:
    image = np.random.Generator(np.random.Philox(5)).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    x = task.predict(nn.Identity(), {"image": torch.from_numpy(image)})
    expected = (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(x.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert x.is_contiguous()


@pytest.mark.parametrize("call", ["augment", "prepare"])
def test_an_impossible_label_is_named(task: Segmentation, call: str) -> None:
    segmentation = np.zeros((32, 32), np.uint8)
    segmentation[3, 4] = 17
    sample = {"image": np.zeros((32, 32, 3), np.uint8), "segmentation": segmentation}
    with pytest.raises(ValueError, match=r"labels below 9 or 255 .* has 17"):
        task.augment(sample, 0) if call == "augment" else task.prepare(sample)
