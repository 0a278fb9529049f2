"""The camera of the embedded faces: a tone curve per pixel, and what happens to a finished photograph."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.faces.camera import KNEE, develop, tone
from datasets.faces.person import Camera
from datasets.srgb import linear_from_srgb, srgb_from_linear

ROOT = Path(__file__).resolve().parents[2]
NEUTRAL = Camera(50.0, 0.4, (0.5, 0.5), 0.0, (1.0, 1.0, 1.0), 0.0, 1.0, 0.0, 0.0, 0, 7)


def picture(size: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=seed)).uniform(0, 1, (size, size, 3)).astype(np.float32)


def grey(value: float, size: int = 128) -> np.ndarray:
    return np.full((size, size, 3), value, np.float32)


def test_srgb_curve_has_the_standard_s_values() -> None:
    """IEC 61966-2-1: 12.92 below 0.0031308; 18% grey is 117.6 of 255, a half 187.5."""
    linear = [0, 0.001, 0.0031308, 0.18, 0.214041, 0.5, 1]
    expected = [0, 0.01292, 0.04045, 0.461356, 0.5, 0.735357, 1]
    np.testing.assert_allclose(srgb_from_linear(linear), expected, atol=2e-5)
    np.testing.assert_allclose(linear_from_srgb(expected), linear, atol=2e-5)
    steps = np.arange(256) / 255
    np.testing.assert_allclose(srgb_from_linear(linear_from_srgb(steps)), steps, atol=1e-7)


def test_neutral_tone_is_the_srgb_curve_below_the_shoulder() -> None:
    linear = picture() * KNEE
    out = tone(linear, NEUTRAL)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, srgb_from_linear(linear), atol=5e-6)


def test_highlights_bend_without_a_step() -> None:
    ramp = np.repeat(np.linspace(0, 20, 20001, dtype=np.float32)[:, None], 3, axis=1)
    out = tone(ramp, NEUTRAL)[:, 0]
    assert (np.diff(out) >= -1e-6).all()
    assert out.max() <= 1
    assert out[1000] < 0.97  # linear 1 is not yet white
    assert out[5000] > 0.999
    slopes = np.diff(out[600:800])
    assert np.abs(np.diff(slopes)).max() < 0.02 * slopes.max()


def test_what_is_not_light_is_black() -> None:
    np.testing.assert_array_equal(tone(np.array([[np.nan, -1, 0]], np.float32), NEUTRAL), 0)
    np.testing.assert_allclose(tone(np.array([[np.inf, 1e9, 16]], np.float32), NEUTRAL), 1)


def test_tone_is_pointwise_whatever_the_shape() -> None:
    camera = replace(NEUTRAL, white_balance=(1.2, 1.0, 0.8), contrast=0.5, saturation=1.3)
    image = picture() * 2
    np.testing.assert_array_equal(tone(image, camera).reshape(-1, 3)[77], tone(image.reshape(-1, 3)[77], camera))
    np.testing.assert_array_equal(tone(image[::2, ::3], camera), tone(image, camera)[::2, ::3])


def test_white_balance_contrast_and_saturation() -> None:
    image = picture() * 0.4
    warm = tone(image, replace(NEUTRAL, white_balance=(1.5, 1.0, 0.5)))
    np.testing.assert_allclose(warm, srgb_from_linear(image * [1.5, 1.0, 0.5]), atol=5e-6)
    plain = tone(image, NEUTRAL)
    strong = tone(image, replace(NEUTRAL, contrast=1.0))
    np.testing.assert_allclose(strong, plain**2 * (3 - 2 * plain), atol=1e-5)
    pale = tone(image, replace(NEUTRAL, saturation=0.0))
    np.testing.assert_allclose(pale, np.repeat((plain @ [0.2126, 0.7152, 0.0722])[..., None], 3, -1), atol=1e-5)
    vivid = tone(image, replace(NEUTRAL, saturation=1.5))
    assert vivid.std(-1).mean() > 1.2 * plain.std(-1).mean()


def test_neutral_development_is_rounding() -> None:
    image = picture()
    out = develop(image, NEUTRAL)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, np.rint(255 * image).astype(np.uint8))
    np.testing.assert_array_equal(develop(np.array([[[-0.2, 0.5, 1.7]]], np.float32), NEUTRAL), [[[0, 128, 255]]])


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_noise_has_its_size_at_mid_grey_and_follows_the_light(noise: float) -> None:
    camera = replace(NEUTRAL, noise=noise)
    luma = develop(grey(0.5), camera) @ np.array([0.2126, 0.7152, 0.0722]) / 255
    assert luma.mean() == pytest.approx(0.5, abs=0.004)
    assert luma.std() == pytest.approx(noise, rel=0.25)
    dark, bright = (develop(grey(v), camera)[..., 1].std() for v in (0.2, 0.8))
    assert dark > 1.1 * bright


def test_noise_is_correlated_and_coloured_a_little() -> None:
    noise = develop(grey(0.5), replace(NEUTRAL, noise=0.08)).astype(float) - 127.5
    luma = noise.mean(-1)
    neighbours = np.corrcoef(luma[:, 1:].ravel(), luma[:, :-1].ravel())[0, 1]
    assert 0.1 < neighbours < 0.6
    colour = (noise[..., 0] - noise[..., 2]).std()
    assert 0.1 * luma.std() < colour < luma.std()


def test_blur_is_in_thousandths_of_the_width() -> None:
    step = grey(0.0, 100)
    step[:, 50:] = 1
    profile = develop(step, replace(NEUTRAL, blur=20.0))[50, :, 0] / 255  # 2 pixels
    assert profile[51] == pytest.approx(0.773, abs=0.01)  # 1.5 pixels from the edge, the normal distribution says
    assert profile.min() == 0


def test_jpeg_by_quality() -> None:
    image = np.clip(np.linspace(0.2, 0.8, 64)[None, :, None] + 0.1 * picture(), 0, 1).astype(np.float32)
    exact = develop(image, NEUTRAL).astype(float)
    errors = [np.abs(develop(image, replace(NEUTRAL, jpeg=q)) - exact).mean() for q in (100, 80, 20)]
    assert 0 < errors[0] < errors[1] < errors[2] < 20
    red = np.zeros((32, 32, 3), np.float32)
    red[..., 0] = 0.8
    np.testing.assert_allclose(develop(red, replace(NEUTRAL, jpeg=95))[16, 16], [204, 0, 0], atol=4)


def test_odd_sizes_and_strips() -> None:
    camera = replace(NEUTRAL, blur=3.0, noise=0.03, jpeg=70)
    assert develop(picture(33)[:, :17], camera).shape == (33, 17, 3)


def test_same_seed_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from datasets.faces.camera import develop, tone\n"
        "from datasets.faces.person import Camera\n"
        f"camera = {replace(NEUTRAL, blur=2.0, noise=0.03, jpeg=80, contrast=0.2)!r}\n"
        "image = np.linspace(0, 1, 64 * 64 * 3, dtype=np.float32).reshape(64, 64, 3)\n"
        "print(hashlib.sha256(develop(tone(image, camera), camera).tobytes()).hexdigest())\n"
    )
    runs = [subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True) for _ in range(2)]
    assert runs[0].stdout
    assert runs[0].stdout == runs[1].stdout, runs[0].stderr
    image, noisy = picture(), replace(NEUTRAL, noise=0.03)
    np.testing.assert_array_equal(develop(image, noisy), develop(image, noisy))
    assert (develop(image, noisy) != develop(image, replace(noisy, seed=8))).any()
