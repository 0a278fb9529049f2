"""Landmark metrics against plain loops and a numerical integral, and the edges of their definitions."""

import math

import numpy as np
import pytest
import torch

from trainables.landmarks.metrics import FAILURE, PCK, LandmarksEvaluator, measure
from trainables.task import Batch


def faces(count: int, num_points: int, spread: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction float32 [count, num_points, 2]: points somewhere, and off by some pixels, a few by far."""
    rng = np.random.Generator(np.random.Philox(seed))
    truth = rng.uniform(20, 230, (count, num_points, 2))
    off = rng.normal(0, spread, truth.shape) * rng.choice([1, 1, 1, 6], (count, 1, 1))
    return truth.astype(np.float32), (truth + off).astype(np.float32)


def scores(truth: np.ndarray, prediction: np.ndarray, batch: int = 7) -> dict[str, float]:
    """What an evaluator gives whose model predicts `prediction`."""

    def locate(_: object, batch: Batch) -> torch.Tensor:
        return batch["prediction"]

    evaluator = LandmarksEvaluator(locate, truth.shape[1], torch.device("cpu"))
    for k in range(0, len(truth), batch):
        rows = slice(k, k + batch)
        part = {"landmarks": torch.from_numpy(truth[rows]), "prediction": torch.from_numpy(prediction[rows])}
        evaluator.update(torch.nn.Identity(), part)
    return evaluator.compute()


def by_hand(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """The same in loops over numbers, with iBUG's own indices (from 1, as its mark-up is drawn)."""
    jaw = 68 - truth.shape[1]
    truth, prediction = truth.astype(np.float64), prediction.astype(np.float64)

    def point(face: np.ndarray, number: int) -> np.ndarray:
        return face[number - 1 - jaw]

    parts = {"jaw": range(1, 18), "brows": range(18, 28), "nose": range(28, 37), "eyes": range(37, 49)}
    parts["mouth"] = range(49, 69)
    numbers = range(1 + jaw, 69)
    rows: dict[str, list[float]] = {}
    for t, p in zip(truth, prediction, strict=True):
        far = {n: math.dist(point(t, n), point(p, n)) for n in numbers}
        ocular = math.dist(point(t, 37), point(t, 46))
        middle = [np.mean([point(t, n) for n in eye], 0) for eye in (range(37, 43), range(43, 49))]
        width, height = t.max(0) - t.min(0)
        nme = sum(far.values()) / len(far) / ocular
        rows.setdefault("nme", []).append(nme)
        rows.setdefault("nme_pupil", []).append(sum(far.values()) / len(far) / math.dist(*middle))
        rows.setdefault("nme_box", []).append(sum(far.values()) / len(far) / math.hypot(width, height))
        for name, part in parts.items():
            if name != "jaw" or not jaw:
                rows.setdefault(f"region_nme/{name}", []).append(np.mean([far[n] for n in part]) / ocular)
        for n in numbers:
            rows.setdefault(f"point_nme/{n - 1}", []).append(far[n] / ocular)
            for t_ in PCK:
                rows.setdefault(f"pck/{t_}", []).append(far[n] / ocular < t_)
    out = {name: float(np.mean(values)) for name, values in rows.items()}
    nmes = np.array(rows["nme"])
    for t_ in FAILURE:
        out[f"fr/{t_}"] = float(np.mean(nmes > t_))
        x = np.linspace(0, t_, 200_001)
        curve = np.searchsorted(np.sort(nmes), x, side="right") / len(nmes)
        out[f"auc/{t_}"] = float(np.trapezoid(curve, x) / t_)
    return out


@pytest.mark.parametrize("num_points", [51, 68])
def test_metrics_are_those_of_plain_loops(num_points: int) -> None:
    truth, prediction = faces(40, num_points)
    got, expected = scores(truth, prediction), by_hand(truth, prediction)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-5 if name.startswith("auc") else 2e-7), name
    assert 0.05 < got["fr/0.08"] < 0.95
    assert 0.05 < got["auc/0.08"] < 0.95


def test_names_say_thresholds_regions_and_points() -> None:
    names = set(scores(*faces(1, 51)))
    assert {"nme", "nme_pupil", "nme_box", "region_nme/brows", "region_nme/mouth", "point_nme/17"} < names
    assert {"pck/0.01", "pck/0.05", "pck/0.08", "pck/0.1", "fr/0.08", "fr/0.1", "auc/0.08", "auc/0.1"} < names
    assert "region_nme/jaw" not in names
    assert "point_nme/16" not in names
    assert {"region_nme/jaw", "point_nme/0", "point_nme/67"} < set(scores(*faces(1, 68)))
    assert all(c.isalnum() or c in "_-./" for name in names for c in name)  # what MLflow takes


def test_an_error_of_a_tenth_everywhere() -> None:
    truth, _ = faces(3, 51)
    truth[:, 19], truth[:, 28] = (100, 90), (150, 90)  # 50 pixels between the outer corners
    got = scores(truth, truth + np.array([3, 4], np.float32))  # 5 pixels
    assert got["nme"] == pytest.approx(0.1, abs=1e-7)
    assert (got["pck/0.09"], got["fr/0.08"], got["auc/0.08"]) == (0, 1, 0)
    assert got["region_nme/nose"] == pytest.approx(0.1, abs=1e-7)
    exact = scores(truth, truth)
    assert (exact["nme"], exact["pck/0.01"], exact["fr/0.08"], exact["auc/0.08"]) == (0, 1, 0, 1)


def test_the_51_of_a_face_score_as_they_do_among_the_68() -> None:
    """The divisors are of the same two points, so that regions and points agree."""
    truth, prediction = faces(9, 68)
    whole, inner = scores(truth, prediction), scores(truth[:, 17:], prediction[:, 17:])
    for name in inner:
        if name.startswith(("region", "point")):
            assert inner[name] == pytest.approx(whole[name], abs=1e-9), name


def test_the_order_of_faces_and_batches_does_not_show() -> None:
    truth, prediction = faces(64, 51)
    first = scores(truth, prediction)
    order = np.random.Generator(np.random.Philox(5)).permutation(64)
    assert scores(truth[order], prediction[order], batch=64) == first
    assert scores(truth, prediction, batch=1) == first


def test_points_that_are_not_known_are_left_out() -> None:
    truth, prediction = faces(6, 51)
    full = measure(torch.from_numpy(prediction), torch.from_numpy(truth))
    cut = truth.copy()
    cut[:, 40:] = np.nan
    got = measure(torch.from_numpy(prediction), torch.from_numpy(cut))
    points = torch.stack([full[f"point_nme/{17 + k}"] for k in range(40)], 1)
    torch.testing.assert_close(got["nme"], points.mean(1))
    assert got["point_nme/60"].isnan().all()
    assert got["pck/0.05"][:, 40:].isnan().all()
    assert scores(cut, prediction)["pck/0.05"] == pytest.approx(float((points < 0.05).double().mean()))
    torch.testing.assert_close(got["region_nme/eyes"], full["region_nme/eyes"])
    assert torch.isfinite(got["nme_box"]).all()


def test_a_face_without_a_divisor_does_not_count_where_it_divides() -> None:
    truth, prediction = faces(2, 51)
    truth[0, 19] = np.nan  # an outer corner
    got = scores(truth, prediction)
    assert got["nme"] == pytest.approx(scores(truth[1:], prediction[1:])["nme"])
    assert math.isfinite(got["nme_box"])
    truth[0, 19] = truth[0, 28]  # a distance of 0
    assert scores(truth, prediction)["nme"] == pytest.approx(scores(truth[1:], prediction[1:])["nme"])
    truth[:] = np.nan
    assert all(math.isnan(value) for value in scores(truth, prediction).values())


def test_an_error_that_is_not_finite_counts_as_the_largest() -> None:
    truth, prediction = faces(2, 51)
    prediction[0, 0] = np.inf
    assert scores(truth, prediction)["nme"] > 100
    assert scores(truth, prediction)["fr/0.08"] >= 0.5
