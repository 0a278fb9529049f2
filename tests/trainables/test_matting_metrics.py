"""The metrics of background matting against the benchmark's recorded values and worked examples."""

import json
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.trainables.matting import person
from tests.trainables.references import reference
from trainables.matting.metrics import NAMES, MattingEvaluator, boundary, connectivity, errors, gradient


def recorded() -> dict[str, Any]:
    return json.loads(reference("parity/matting_metrics.json").read_text())


def picture(name: str) -> np.ndarray:
    files = recorded()["files"]["0"]
    path = str(reference(f"parity/{files[name]}"))
    return cv2.imread(path, cv2.IMREAD_COLOR if name.startswith("fgr") else cv2.IMREAD_GRAYSCALE)


def test_the_benchmark_s_recorded_values() -> None:
    """Along the boundary and over the whole image, cropped to multiples of four as it was."""
    cut = [picture(name)[:160, :200] for name in ("pred", "gt", "fgr_pred", "fgr_gt")]
    got, wanted = errors(*cut), recorded()["cases"]["0"]["numpy"]
    pairs = {name: wanted[name] for name in ("mse", "sad", "grad", "conn", "fgr_mse")} | {"mae": wanted["mad"]}
    pairs |= {f"whole/{name}": value for name, value in wanted["full"].items()}
    pairs |= {"whole/mae": wanted["rvm_full"]["mad"] / 1000}
    for name, value in pairs.items():
        assert got[name] == pytest.approx(value, rel=1e-6), name


def test_the_boundary_is_the_recorded_trimap() -> None:
    np.testing.assert_array_equal(boundary(picture("gt")), picture("trimap") == 128)


def test_the_gradient_is_that_of_a_gaussian_by_scipy() -> None:
    """Of the same shape: scipy's kernels have other norms and here the same reach of four pixels."""
    alpha = person()["alpha"]
    theirs = [
        ndimage.gaussian_filter(alpha / 255, 1.4, order=order, mode="nearest", radius=4) for order in ((0, 1), (1, 0))
    ]
    magnitude = np.hypot(*theirs)
    mine = gradient(alpha)
    np.testing.assert_allclose(mine / mine.max(), magnitude / magnitude.max(), atol=1e-9)


def test_the_gradient_of_a_flat_alpha_is_zero_and_contrast_does_not_matter() -> None:
    assert gradient(np.full((20, 20), 80, np.uint8)).max() == 0
    ramp = np.kron(np.arange(16, dtype=np.uint8), np.ones((16, 1), np.uint8))
    np.testing.assert_allclose(gradient(ramp), gradient(17 * ramp), atol=1e-12)


def test_connectivity_of_an_island_is_what_it_lacks() -> None:
    """A body of 1; an island of 0.6 apart from it, that leaves the largest component at once; a bridge of 0.4."""
    alpha = np.zeros((9, 20), np.uint8)
    alpha[2:7, 1:8] = 255
    alpha[3:5, 12:16] = 153
    other = alpha.copy()
    other[4, 8:12] = 102
    one, _ = connectivity(alpha, alpha)
    assert (one[2:7, 1:8] == 1).all()
    np.testing.assert_allclose(one[3:5, 12:16], 1 - 0.6, atol=1e-6)
    joined, _ = connectivity(other, other)
    np.testing.assert_allclose(joined[3:5, 12:16], 1 - 0.2, atol=1e-6)  # up to 0.4 it is part of the body
    assert (joined[4, 8:12] == 1).all()


def test_predictions_that_share_nothing_with_the_truth_have_a_connectivity_error() -> None:
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:3] = 255
    one, other = connectivity(alpha, alpha[::-1].copy())
    np.testing.assert_array_equal(one, 1 - (alpha == 255))
    np.testing.assert_array_equal(other, one[::-1])


def test_a_perfect_prediction_has_no_error() -> None:
    sample = person()
    values = errors(sample["alpha"], sample["alpha"], sample["foreground"], sample["foreground"])
    assert values == {name: float(name.endswith("iou")) for name in NAMES}


def test_colours_count_where_there_is_a_foreground() -> None:
    sample = person()
    wrong = sample["foreground"].copy()
    wrong[sample["alpha"] == 0] = 255 - wrong[sample["alpha"] == 0]
    assert errors(sample["alpha"], sample["alpha"], wrong, sample["foreground"])["whole/fgr_mse"] == 0
    red = np.zeros_like(wrong)
    values = errors(sample["alpha"], sample["alpha"], red, red + np.array([51, 0, 0], np.uint8))
    share = (sample["alpha"] > 0).mean()
    assert values["whole/fgr_mae"] == pytest.approx(0.2 / 3 * share)
    assert values["whole/fgr_mse"] == pytest.approx(0.04 / 3 * share)


def test_the_iou_is_of_what_is_at_least_half_there() -> None:
    true = np.repeat([[127, 128, 255, 255]], 2, axis=0).astype(np.uint8)
    alpha = np.repeat([[0, 255, 130, 10]], 2, axis=0).astype(np.uint8)
    colours = np.zeros((2, 4, 3), np.uint8)
    assert errors(alpha, true, colours, colours)["whole/iou"] == pytest.approx(2 / 3)


def test_an_alpha_without_a_boundary_is_left_out_of_what_is_measured_along_it() -> None:
    sharp = np.zeros((16, 16), np.uint8)
    sharp[:8] = 255
    values = errors(sharp, sharp, np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8))
    for name in NAMES:
        assert np.isnan(values[name]) == (not name.startswith("whole/")), name


def evaluated(samples: list[tuple[np.ndarray, ...]]) -> MattingEvaluator:
    """Of (alpha, true alpha, colours, foreground), each fed alone."""
    evaluator = MattingEvaluator(lambda model, batch: (batch["a"], batch["f"]), torch.device("cpu"))
    for alpha, true, colours, foreground in samples:
        planes = torch.from_numpy(colours).permute(2, 0, 1)[None] / 255
        batch = {"a": torch.from_numpy(alpha)[None, None] / 255, "f": planes}
        batch |= {"alpha": torch.from_numpy(true)[None], "foreground": torch.from_numpy(foreground)[None]}
        evaluator.update(torch.nn.Identity(), batch)
    return evaluator


def several() -> list[tuple[np.ndarray, ...]]:
    people = [person(seed) for seed in range(6)]
    shifted = [np.roll(one["alpha"], k, axis=1) for k, one in enumerate(people)]
    samples = [
        (a, p["alpha"], p["foreground"], q["foreground"])
        for a, p, q in zip(shifted, people, people[1:] + people[:1], strict=True)
    ]
    sharp = np.where(people[0]["alpha"] > 127, 255, 0).astype(np.uint8)
    return [*samples, (sharp, sharp, people[0]["foreground"], people[0]["foreground"])]


def test_a_set_s_metrics_are_averages_over_the_images_that_have_them() -> None:
    samples = several()
    per_image = [errors(*sample) for sample in samples]
    got = evaluated(samples).compute()
    for name in NAMES:
        assert got[name] == pytest.approx(np.nanmean([image[name] for image in per_image]), rel=1e-6, abs=1e-7), name


def test_sums_are_exact_in_any_order() -> None:
    samples = several()
    one, other = evaluated(samples), evaluated(samples[::-1])
    assert all(torch.equal(one.state()[name], other.state()[name]) for name in one.state())
