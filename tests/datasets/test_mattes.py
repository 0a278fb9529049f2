"""Mattes: the trimap's widths, and, with pymatting, what is won against a photograph whose matte is known."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from datasets.formats.reading import decode
from datasets.mattes import estimate_foreground, refine_alpha, trimap

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "matting"
LEMUR = pytest.mark.skipif(
    not (DATA / "lemur.png").is_file(), reason="needs the real photograph of shared/data/matting"
)


def square(size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Orange before blue: the image and its matte, opaque in the middle half."""
    alpha = np.zeros((size, size), np.uint8)
    alpha[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 255
    return np.where(alpha[..., None] == 255, (240, 150, 20), (20, 40, 200)).astype(np.uint8), alpha


@pytest.fixture
def solver(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for pymatting where only what it is asked matters: keeps what it gets, answers one half."""
    asked: dict[str, Any] = {}

    def estimate_alpha_cf(image: np.ndarray, known: np.ndarray) -> np.ndarray:
        asked.update(image=image, known=known)
        return np.full(known.shape, 0.5)

    def estimate_foreground_ml(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        asked.update(image=image, alpha=alpha)
        return np.full(image.shape, 1.2)

    module = SimpleNamespace(estimate_alpha_cf=estimate_alpha_cf, estimate_foreground_ml=estimate_foreground_ml)
    monkeypatch.setitem(sys.modules, "pymatting", module)
    return asked


def test_the_trimap_has_the_widths_that_are_asked_for() -> None:
    _, alpha = square()
    line = trimap(alpha, inner=0.02, outer=0.05)[100]  # 4 and 10 pixels; the matte's edge lies between 49 and 50
    assert set(np.flatnonzero(line == 255)) == set(range(54, 146))
    assert set(np.flatnonzero(line == 0)) == {*range(40), *range(160, 200)}
    assert (line[40:54] == 128).all()
    assert set(np.unique(line)) == {0, 128, 255}


def test_soft_pixels_are_unknown_and_the_image_s_edge_is_none() -> None:
    alpha = np.full((100, 100), 255, np.uint8)
    assert (trimap(alpha) == 255).all()
    alpha[50, 50] = 100
    known = trimap(alpha)
    assert known[50, 50] == 128
    assert (known[[0, -1]] == 255).all()
    with pytest.raises(ValueError, match=r"^`0 < inner, outer < 0.5` must hold, but got \(inner=0, outer=0.1\)$"):
        trimap(alpha, 0, 0.1)


def test_alpha_is_solved_for_at_the_working_size_and_only_where_it_is_unknown(solver: dict[str, Any]) -> None:
    image, alpha = square(200)
    refined = refine_alpha(image, alpha, side=100)
    assert solver["image"].shape == (100, 100, 3)
    assert solver["image"].dtype == solver["known"].dtype == np.float64
    assert set(np.unique(solver["known"])) == {0, 128 / 255, 1}
    known = trimap(alpha)
    np.testing.assert_array_equal(refined[known != 128], known[known != 128])
    assert (refined[known == 128] == 128).all()
    refine_alpha(image[:, :150], alpha[:, :150])
    assert solver["image"].shape == (200, 150, 3)  # not enlarged


def test_a_foreground_is_the_image_where_it_is_opaque(solver: dict[str, Any]) -> None:
    image, alpha = square(64)
    made = estimate_foreground(image, alpha)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made[alpha == 255], image[alpha == 255])
    assert (made[alpha == 0] == 255).all()  # the estimate, clipped
    np.testing.assert_allclose(solver["alpha"], alpha / 255)


def test_what_needs_no_solving_is_returned() -> None:
    """Without pymatting."""
    image, _ = square(64)
    for value in (0, 255):
        alpha = np.full((64, 64), value, np.uint8)
        np.testing.assert_array_equal(refine_alpha(image, alpha), alpha)


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    image, alpha = square(64)

    def refused(match: str, *arguments: np.ndarray, **options: Any) -> None:
        with pytest.raises(ValueError, match=match) as error:
            refine_alpha(*arguments, **options)
        assert "\n" not in str(error.value)

    refused(r"^an image must be uint8 \[H, W, 3\], but is float64 \[64, 64, 3\]$", image / 255, alpha)
    refused(r"^alpha must be uint8 \[64, 64\] as its image, but is uint8 \[32, 64\]$", image, alpha[:32])
    refused(r"^`side >= 16` must hold, but got 4$", image, alpha, side=4)
    speck = np.zeros((64, 64), np.uint8)
    speck[30, 30] = 255
    refused(r"^a matte must be opaque further from its edge", image, speck)
    monkeypatch.setitem(sys.modules, "pymatting", None)
    absent = r"^mattes are refined with pymatting, which is not installed: pip install .* pymatting threadpoolctl$"
    refused(absent, image, alpha)
    with pytest.raises(ValueError, match=absent):
        estimate_foreground(image, alpha)


@LEMUR
def test_refinement_pulls_an_eroded_matte_towards_the_true_one() -> None:
    pytest.importorskip("pymatting")
    true = decode(DATA / "lemur_alpha.png")
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))
    rough = cv2.erode(np.where(true > 127, 255, 0).astype(np.uint8), disc)  # its hair and five pixels more are gone
    refined = refine_alpha(decode(DATA / "lemur.png", "RGB"), rough)

    def error(alpha: np.ndarray) -> float:
        return float(np.abs(alpha.astype(float) - true).mean())

    assert error(refined) < 0.6 * error(rough)


@LEMUR
def test_an_estimated_foreground_is_nearer_to_the_true_one_than_the_image() -> None:
    pytest.importorskip("pymatting")
    image, alpha = decode(DATA / "lemur.png", "RGB"), decode(DATA / "lemur_alpha.png")
    true = decode(DATA / "lemur_foreground.png", "RGB").astype(float)
    soft = (alpha > 12) & (alpha < 243)

    def error(foreground: np.ndarray) -> float:
        return float(((foreground - true)[soft] ** 2).mean())

    assert error(estimate_foreground(image, alpha)) < 0.3 * error(image)
