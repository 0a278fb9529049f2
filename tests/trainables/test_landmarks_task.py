"""The landmark task: its loss by formula, the flip test, and packs of other points."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets import Pack, write_pack
from datasets.landmarks import flip_order
from trainables.landmarks.heatmaps import on_heatmap
from trainables.landmarks.spec import LandmarksSpec
from trainables.landmarks.task import Landmarks
from trainables.task import Batch


def task_of(**what: object) -> Landmarks:
    small = {"kind": "landmarks", "stacks": 2, "width": 0.03125, "depth": 2, "resolution": 32}
    return Landmarks(LandmarksSpec.model_validate(small | what))


class Fixed(nn.Module):
    """A model that gives the same heatmaps for anything."""

    def __init__(self, heatmaps: Tensor) -> None:
        super().__init__()
        self.heatmaps = nn.Parameter(heatmaps)

    def forward(self, x: Tensor) -> Tensor:
        return self.heatmaps


def batch_of(landmarks: Tensor) -> Batch:
    return {"image": torch.zeros(len(landmarks), 32, 32, 3, dtype=torch.uint8), "landmarks": landmarks}


def points(count: int, num_points: int = 51, seed: int = 0) -> Tensor:
    rng = np.random.Generator(np.random.Philox(seed))
    return torch.from_numpy(rng.uniform(0, 31, (count, num_points, 2)).astype(np.float32))


def test_loss_is_the_mean_square_over_pixels_and_points_averaged_over_stacks() -> None:
    task = task_of(sigma=1.3)
    landmarks = points(2)
    heatmaps = torch.rand(2, 2, 51, 8, 8, generator=torch.Generator().manual_seed(0))
    loss = task.loss(Fixed(heatmaps), batch_of(landmarks))
    y, x = np.mgrid[:8, :8]
    for stack in range(2):
        terms = []
        for b in range(2):
            for k in range(51):
                u, v = (landmarks[b, k].double().numpy() + 0.5) / 4 - 0.5
                target = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 1.3**2))
                terms.append(((heatmaps[b, stack, k].numpy() - target) ** 2).mean())
        assert loss[f"stack_{stack}"].item() == pytest.approx(np.mean(terms) / 2, rel=1e-5)
    assert set(loss) == {"stack_0", "stack_1", "total"}


def test_points_that_are_not_known_or_outside_give_no_loss_and_no_gradient() -> None:
    task = task_of()
    landmarks = points(2)
    landmarks[0, 3], landmarks[1, 7], landmarks[1, 8] = torch.nan, torch.tensor([-1.0, 5.0]), torch.tensor([5.0, 40.0])
    model = Fixed(torch.rand(2, 2, 51, 8, 8, generator=torch.Generator().manual_seed(0)))
    task.loss(model, batch_of(landmarks))["total"].backward()
    assert model.heatmaps.grad is not None
    idle = model.heatmaps.grad.abs().sum((1, 3, 4)) == 0
    assert idle.nonzero().tolist() == [[0, 3], [1, 7], [1, 8]]
    model.zero_grad()
    loss = task.loss(model, batch_of(torch.full((2, 51, 2), torch.nan)))["total"]
    loss.backward()
    assert loss.item() == 0
    assert model.heatmaps.grad is None or model.heatmaps.grad.eq(0).all()


def test_images_reach_the_model_in_0_to_1_and_channel_first() -> None:
    image = np.random.Generator(np.random.Philox(5)).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    x = task_of().predict(nn.Identity(), torch.from_numpy(image))
    np.testing.assert_allclose(x.numpy(), image.transpose(0, 3, 1, 2) / 255, atol=1e-6)
    assert x.is_contiguous()


class Seen(nn.Module):
    """Puts a heatmap's peak wherever the image is brightest in a point's own grey level: it sees what it is shown.

    Of each pair it takes the side as the flip test must undo it: a mirrored image shows the mirrored points.
    """

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order
        self.calls: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(x)
        grey = x[:, 0, ::4, ::4] if not self.calls[1:] else x[:, 0, ::4, 3::4]  # the same pixels of both
        names = torch.arange(51) if not self.calls[1:] else torch.tensor(self.order)
        level = (names + 100.0)[:, None, None] / 255
        return -(grey[:, None] - level).abs()[:, None]


def test_the_flip_test_undoes_the_mirror() -> None:
    """On a model that sees names in grey levels, both passes agree to the bit, and so does the average."""
    image = np.zeros((1, 32, 32, 3), np.uint8)
    where = np.random.Generator(np.random.Philox(2)).permutation(64)[:51]
    truth = np.stack([where % 8, where // 8], 1)
    for k, (x, y) in enumerate(truth):
        image[0, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 100 + k
    model = Seen(flip_order(51))
    batch = {"image": torch.from_numpy(image)}
    found = task_of(flip_test=True).locate(model, batch)
    assert len(model.calls) == 2
    assert torch.equal(model.calls[1], model.calls[0].flip(3))
    places = on_heatmap(found, 4, "unbiased")[0].numpy()
    np.testing.assert_allclose(places, truth, atol=0.26)
    model = Seen(flip_order(51))
    torch.testing.assert_close(task_of().locate(model, batch), found)


def test_the_flip_test_makes_any_model_symmetric() -> None:
    """What it finds in a mirrored image are the mirrored points (of names exchanged), whatever the weights."""
    task = task_of(flip_test=True, decoding="refined")
    model = task.build_model()
    task.initialise(model, 1)
    model.eval()
    image = torch.from_numpy(np.random.Generator(np.random.Philox(3)).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    with torch.no_grad():
        one = task.locate(model, {"image": image})
        other = task.locate(model, {"image": image.flip(2)})
    mirrored = other[:, list(flip_order(51))]
    torch.testing.assert_close(mirrored[..., 0], 31 - one[..., 0])
    torch.testing.assert_close(mirrored[..., 1], one[..., 1])


def pack(path: Path, num_points: int, dtype: str = "float32") -> Pack:
    rows = [
        {"image": np.zeros((32, 32, 3), np.uint8), "landmarks": points(1, num_points, k)[0].numpy().astype(dtype)}
        for k in range(2)
    ]
    return write_pack(path, rows, source={"format": "test"}, classes=None)


def test_68_points_serve_both_heads_and_51_one(tmp_path: Path) -> None:
    inner, whole = pack(tmp_path / "inner", 51), pack(tmp_path / "whole", 68)
    for one in (inner, whole):
        task_of().check_pack(one)
    task_of(points=68).check_pack(whole)
    sample = whole.sample(1, ("image", "landmarks"))
    np.testing.assert_array_equal(task_of().prepare(sample)["landmarks"], sample["landmarks"][17:])  # type: ignore[index]
    np.testing.assert_array_equal(task_of(points=68).prepare(sample)["landmarks"], sample["landmarks"])
    for call in (task_of().augment, task_of().draw):
        short = call({"image": sample["image"], "landmarks": sample["landmarks"][17:]}, 3)  # type: ignore[index]
        np.testing.assert_array_equal(call(sample, 3)["landmarks"], short["landmarks"])
    with pytest.raises(ValueError, match=r"must be float32\[68, 2\] for task.points 68, but is float32\[51, 2\]"):
        task_of(points=68).check_pack(inner)


@pytest.mark.parametrize(("num_points", "dtype"), [(70, "float32"), (51, "float64"), (5, "float32")])
def test_other_points_are_refused_before_training(tmp_path: Path, num_points: int, dtype: str) -> None:
    other = pack(tmp_path / "other", num_points, dtype)
    with pytest.raises(ValueError, match=r"float32\[51, 2\] or float32\[68, 2\] for task.points 51, but is") as caught:
        task_of().check_pack(other)
    assert str(caught.value).startswith(other.path)
    assert "\n" not in str(caught.value)
