"""The losses of background matting against formulas written out in numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from trainables.matting.losses import base_loss, refine_loss, sobel
from trainables.matting.model import Matte, RefinedMatte


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).random(shape, dtype=np.float32)


def truth(size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Alpha with a quarter of exact zeros, and foreground."""
    alpha = rand(2, 1, size, size, seed=1)
    alpha[..., : size // 2, : size // 2] = 0
    return alpha, rand(2, 3, size, size, seed=2)


def edges(x: np.ndarray) -> np.ndarray:
    """scipy's sobel smooths along all other axes: one image at a time."""
    return np.stack([np.stack([one_edge(plane) for plane in image]) for image in x])


def one_edge(plane: np.ndarray) -> np.ndarray:
    gradients = [ndimage.sobel(plane.astype(np.float64), axis=axis, mode="nearest") / 8 for axis in (0, 1)]
    return np.sqrt(gradients[0] ** 2 + gradients[1] ** 2 + 1e-6)


def test_sobel_of_an_impulse_is_the_published_one() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1
    around = sobel(x)[0, 0, 1:4, 1:4]
    corner, side = 0.17678, 0.25
    wanted = torch.tensor([[corner, side, corner], [side, 1e-3, side], [corner, side, corner]])
    torch.testing.assert_close(around, wanted, atol=1e-5, rtol=0)
    assert sobel(torch.full((1, 1, 4, 4), 0.7)).eq(sobel(torch.zeros(1, 1, 4, 4))).all()


def test_sobel_is_scipy_s() -> None:
    x = rand(2, 1, 9, 7)
    np.testing.assert_allclose(sobel(torch.from_numpy(x)).numpy(), edges(x), rtol=1e-5, atol=1e-6)


def common(suffix: str, alpha: np.ndarray, colours: np.ndarray, true: np.ndarray, fore: np.ndarray) -> dict[str, float]:
    seen = true != 0
    return {
        f"alpha{suffix}": np.abs(alpha - true).mean(),
        f"sobel{suffix}": np.abs(edges(alpha) - edges(true)).mean(),
        f"foreground{suffix}": (np.abs(colours - fore) * seen).mean(),
    }


def check(got: dict[str, Tensor], wanted: dict[str, float]) -> None:
    wanted = wanted | {"total": sum(wanted.values())}
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        assert got[name].item() == pytest.approx(value, rel=1e-5), name


def test_base_loss_is_its_formula() -> None:
    alpha, foreground = truth()
    predicted = [rand(2, c, 32, 32, seed=10 + c) for c in (1, 3, 5)]
    matte = Matte(*(torch.from_numpy(x) for x in (predicted[0], predicted[1], predicted[2][:, :1])), torch.empty(0))
    error = np.mean((predicted[2][:, :1] - np.abs(predicted[0] - alpha)) ** 2)
    wanted = {**common("", predicted[0], predicted[1], alpha, foreground), "error": error}
    check(base_loss(matte, torch.from_numpy(alpha), torch.from_numpy(foreground)), wanted)


def halved(x: np.ndarray) -> np.ndarray:
    """Bilinear by two, corners not aligned: the mean of the middle two of each axis."""
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def doubled(x: np.ndarray) -> np.ndarray:
    """Bilinear by two: three quarters of the nearest, a quarter of the next, the border repeated."""
    for axis in (2, 3):
        before = np.concatenate([x.take([0], axis), x.take(range(x.shape[axis] - 1), axis)], axis)
        after = np.concatenate([x.take(range(1, x.shape[axis]), axis), x.take([-1], axis)], axis)
        pair = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pair.reshape([2 * n if k == axis else n for k, n in enumerate(x.shape)])
    return x


def test_refine_loss_is_its_formula() -> None:
    alpha, foreground = truth()
    big, small = ([rand(2, c, size, size, seed=size + c) for c in (1, 3, 5)] for size in (32, 16))
    parts = (big[0], big[1], small[0], small[1], small[2][:, :1])
    matte = RefinedMatte(*(torch.from_numpy(x) for x in parts), torch.empty(0))
    error = np.mean((doubled(parts[4]) - np.abs(doubled(parts[2]) - alpha)) ** 2)
    wanted = {
        **common("", parts[0], parts[1], alpha, foreground),
        **common("_small", parts[2], parts[3], halved(alpha), halved(foreground)),
        "error": error,
    }
    check(refine_loss(matte, torch.from_numpy(alpha), torch.from_numpy(foreground)), wanted)


def test_the_predicted_error_moves_alpha_in_phase_refine_alone() -> None:
    alpha, foreground = (torch.from_numpy(x) for x in truth())
    small = [torch.rand(2, c, 16, 16, requires_grad=True) for c in (1, 3, 1)]
    big = [torch.rand(2, c, 32, 32, requires_grad=True) for c in (1, 3, 1)]
    refine_loss(RefinedMatte(big[0], big[1], *small, torch.empty(0)), alpha, foreground)["error"].backward()
    assert small[0].grad is not None
    assert small[0].grad.abs().max() > 0
    base_loss(Matte(*big, torch.empty(0)), alpha, foreground)["error"].backward()
    assert big[0].grad is None


def test_losses_are_float32_whatever_the_model_gives() -> None:
    alpha, foreground = (torch.from_numpy(x) for x in truth())
    half = [torch.rand(2, c, 32, 32).bfloat16() for c in (1, 3, 1)]
    terms = base_loss(Matte(*half, torch.empty(0)), alpha, foreground)
    assert {term.dtype for term in terms.values()} == {torch.float32}
