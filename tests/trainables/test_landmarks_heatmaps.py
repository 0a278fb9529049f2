"""Heatmaps: targets by formula, and the measured biases of each way to read them."""

import math

import numpy as np
import pytest
import torch

from trainables.landmarks.heatmaps import Decoding, decode, encode, on_heatmap, on_image

SIDE = 24
WAYS: list[Decoding] = ["unbiased", "refined", "reference"]


def places(count: int = 4000, seed: int = 0) -> torch.Tensor:
    """[count, 1, 2] uniform places, away from the border."""
    rng = np.random.Generator(np.random.Philox(seed))
    return torch.from_numpy(rng.uniform(6, SIDE - 7, (count, 1, 2)))


def errors(written: Decoding, read: Decoding, sigma: float = 1.0) -> torch.Tensor:
    truth = places()
    maps, there = encode(truth, SIDE, sigma, written)
    assert there.all()
    return decode(maps, read).double() - truth


# Measured with princeton-vl/pytorch_stacked_hourglass's own code: mean and root mean square, in heatmap pixels of one
# axis.
@pytest.mark.parametrize(
    ("written", "read", "mean", "rms"),
    [
        ("reference", "reference", -0.25, 0.39),
        ("unbiased", "unbiased", 0.0, 0.15),
        ("unbiased", "refined", 0.0, 0.0),
        ("unbiased", "reference", 0.5, math.hypot(0.5, 0.15)),
    ],
)
def test_the_bias_of_each_way_is_what_was_measured(written: Decoding, read: Decoding, mean: float, rms: float) -> None:
    off = errors(written, read)
    assert off.mean((0, 1)).tolist() == pytest.approx([mean, mean], abs=0.01)
    assert off.square().mean((0, 1)).sqrt().tolist() == pytest.approx([rms, rms], abs=0.01)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.5])
def test_refined_is_exact_for_gaussians(sigma: float) -> None:
    assert errors("unbiased", "refined", sigma).abs().max() < 1e-3


def test_a_target_is_a_gaussian_with_its_peak_at_the_place() -> None:
    maps, there = encode(torch.tensor([[[3.3, 7.9], [0.0, -0.4]]]), 12, 1.5, "unbiased")
    assert there.tolist() == [[True, True]]
    for k, (x, y) in enumerate([(3.3, 7.9), (0.0, -0.4)]):
        truth = [[math.exp(-((i - x) ** 2 + (j - y) ** 2) / (2 * 1.5**2)) for i in range(12)] for j in range(12)]
        np.testing.assert_allclose(maps[0, k].numpy(), truth, atol=1e-6)


def test_a_reference_target_is_nine_pixels_wide_at_the_place_without_its_fraction() -> None:
    (target,), _ = encode(torch.tensor([[[8.9, 7.99]]]), 20, 1.0, "reference")
    expected = np.zeros((20, 20))
    for i in range(-4, 5):
        for j in range(-4, 5):
            expected[7 + j, 8 + i] = math.exp(-(i * i + j * j) / 2)
    np.testing.assert_allclose(target[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_known_or_outside_has_no_target(way: Decoding) -> None:
    nan = float("nan")
    at = [[nan, nan], [3.0, nan], [-0.6, 3.0], [3.0, 11.6], [1e9, 3.0], [3.0, 3.0]]
    maps, there = encode(torch.tensor([at]), 12, 1.0, way)
    assert there[0].tolist()[:3] == [False] * 3
    assert there[0].tolist()[4:] == [False, True]
    assert there[0, 3] == (way == "reference")  # 11.6 without its fraction is the last pixel
    assert maps[0, ~there[0]].abs().max() == 0
    assert torch.isfinite(maps).all()


@pytest.mark.parametrize("way", WAYS)
def test_image_and_heatmap_places_are_inverse(way: Decoding) -> None:
    points = torch.tensor([[0.0, 255.0], [-0.5, 17.25]])
    torch.testing.assert_close(on_image(on_heatmap(points, 4, way), 4, way), points)


def test_a_heatmap_pixel_covers_four_image_pixels() -> None:
    """Between pixel centres 0 and 3 of the image lies 1.5, the centre of the heatmap's first pixel."""
    assert on_heatmap(torch.tensor([1.5, 5.5]), 4, "unbiased").tolist() == [0.0, 1.0]
    assert on_heatmap(torch.tensor([-0.5, 255.5]), 4, "refined").tolist() == [-0.5, 63.5]


def read(rows: list[list[float]], way: Decoding) -> list[float]:
    return decode(torch.tensor(rows)[None, None], way)[0, 0].tolist()


def test_ties_and_borders() -> None:
    tie = [[0.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.0, 0.5, 0.0]]
    assert read(tie, "unbiased") == [1, 1]
    assert read(tie, "refined") == [1, 1]
    assert read(tie, "reference") == [1.25, 1.25]  # to -0.25, and half a pixel
    corner = [[1.0, 0.5, 0.0], [0.9, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert read(corner, "unbiased") == [0, 0]
    assert read(corner, "refined") == [0, 0]
    assert read(corner, "reference") == [0.25, 0.25]  # the pixel itself is its neighbour at the border, and is higher
    equal = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert read(equal, "unbiased")[0] == 0  # the first of equals
    assert read([[0.0, 0.0, 0.0], [-3.0, -1.0, -2.0], [-9.0, -9.0, -9.0]], "unbiased") == [0, 0]


def test_refined_stays_within_half_a_pixel_on_any_map() -> None:
    maps = torch.randn(50, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    peak = maps.flatten(2).argmax(2)
    whole = torch.stack([peak % 9, peak // 9], -1)
    assert (decode(maps, "refined") - whole).abs().max() <= 0.5
    assert torch.isfinite(decode(torch.full((1, 1, 9, 9), float("nan")), "refined")).all()
