"""The training augmentation of background matting: what each step does, and how often."""

from pathlib import Path

import numpy as np
import pytest

from datasets.compositing import Compositor, composite
from tests.trainables.matting import SIZE, person, rooms
from trainables.matting import augment
from trainables.matting.augment import (
    affine,
    cast_shadow,
    filtered,
    moved_background,
    moved_person,
    noisy,
    training_sample,
)


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@pytest.fixture(scope="module")
def compositor(tmp_path_factory: pytest.TempPathFactory) -> Compositor:
    return rooms(tmp_path_factory.mktemp("matting"))


def test_the_truth_is_that_of_the_picture(compositor: Compositor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise the picture is the foreground where alpha is 255, and the captured one's scene where it is 0."""
    monkeypatch.setattr(augment, "NOISE", 0.0)
    monkeypatch.setattr(augment, "SHADOW", 0.0)
    monkeypatch.setattr(augment, "capture", lambda image, rng: image)
    for seed in range(10):
        sample = training_sample(person(), seed, "base", compositor)
        whole = composite(sample["foreground"], sample["alpha"], sample["bgr"])
        np.testing.assert_array_equal(sample["src"], whole)
        assert {name: (array.dtype, array.shape) for name, array in sample.items()} == {
            "src": (np.uint8, (SIZE, SIZE, 3)),
            "bgr": (np.uint8, (SIZE, SIZE, 3)),
            "alpha": (np.uint8, (SIZE, SIZE)),
            "foreground": (np.uint8, (SIZE, SIZE, 3)),
        }


def test_seeds_give_other_people_backgrounds_and_captures(compositor: Compositor) -> None:
    made = [training_sample(person(), seed, "base", compositor) for seed in range(12)]
    for name in made[0]:
        assert len({sample[name].tobytes() for sample in made}) == 12, name


def test_the_shadow_falls_into_the_picture_and_not_on_the_captured_background(
    compositor: Compositor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment, "NOISE", 0.0)
    monkeypatch.setattr(augment, "capture", lambda image, rng: image)
    darker = 0
    for seed in range(20):
        made = []
        for probability in (0.0, 1.0):
            monkeypatch.setattr(augment, "SHADOW", probability)
            made.append(training_sample(person(), seed, "base", compositor))
        for name in ("bgr", "alpha", "foreground"):
            np.testing.assert_array_equal(made[0][name], made[1][name])
        loss = made[0]["src"].astype(int) - made[1]["src"]
        assert loss.min() == 0
        assert loss[made[0]["alpha"] == 255].max() == 0
        darker += loss.max() > 5
    assert darker > 10


@pytest.mark.parametrize(("phase", "least"), [("base", 0.4), ("refine", 0.3)])
def test_people_are_scaled_by_the_reference_s_range(
    phase: str, least: float, compositor: Compositor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment, "FILTERED", 0.0)
    area = person()["alpha"].sum(dtype=np.int64)
    scales = []
    for seed in range(60):
        alpha = training_sample(person(), seed, phase, compositor)["alpha"]
        scales.append(np.sqrt(alpha.sum(dtype=np.int64) / area))
    assert least - 0.02 < min(scales) < least + 0.1
    assert 0.9 < max(scales) < 1.02  # shears keep nearly all of the area


def test_an_affine_map_keeps_the_centre_but_for_its_shift() -> None:
    for seed in range(20):
        matrix = affine(101, 5, 0.1, (0.5, 0.5), 5, rng(seed))
        shift = matrix @ [50, 50, 1] - 50
        assert (np.abs(shift) <= 10.5).all()
        assert np.allclose(shift, np.rint(shift))
        assert np.linalg.det(matrix[:, :2]) == pytest.approx(0.25, rel=0.01)  # less the product of two shears
    still = affine(101, 0, 0, (1, 1), 0, rng(0))
    np.testing.assert_allclose(still, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_alpha_and_colours_move_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreground that shows its own alpha shows it still, in blurred and sharpened ones too."""
    monkeypatch.setattr(augment, "COLOURS", 0.0)
    monkeypatch.setattr(augment, "HUE", 0.0)
    monkeypatch.setattr(augment, "FILTERED", 0.5)
    alpha = person(size=128)["alpha"]
    for seed in range(12):
        colours, moved = moved_person(np.dstack([alpha] * 3), alpha, (0.4, 1.0), rng(seed))
        assert np.abs(colours.astype(int) - moved[..., None]).max() <= 1


def test_half_of_all_people_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "TRANSLATE", 0.0)
    alpha = np.zeros((32, 32), np.uint8)
    alpha[8:24, 8:14] = 255
    sides = [moved_person(np.zeros((32, 32, 3), np.uint8), alpha, (1.0, 1.0), rng(seed))[1] for seed in range(200)]
    mirrored = sum(side[:, 16:].sum() > side[:, :16].sum() for side in sides)
    assert 75 <= mirrored <= 125  # three and a half standard deviations of a fair coin


def test_filters_keep_flat_areas_and_the_mean_and_are_rare() -> None:
    flat, noise = np.full((256, 256, 3), 90, np.uint8), rng(9).integers(60, 200, (256, 256, 3), dtype=np.uint8)
    changed = 0
    for seed in range(200):
        np.testing.assert_array_equal(filtered(flat, rng(seed)), flat)
        after = filtered(noise, rng(seed))
        assert after.mean() == pytest.approx(noise.mean(), abs=3)
        changed += not np.array_equal(after, noise)
    assert 15 <= changed <= 55  # 0.1 sharpened, and 0.1 blurred of which a third has radius 0


def test_a_moved_background_has_no_black_margin() -> None:
    white = np.full((64, 64, 3), 250, np.uint8)
    for seed in range(20):
        assert moved_background(white, rng(seed)).min() == 250


def test_a_shadow_only_darkens_by_at_most_its_share_of_white() -> None:
    alpha, background = person()["alpha"], np.full((SIZE, SIZE, 3), 200, np.uint8)
    loss = np.stack([background.astype(int) - cast_shadow(background, alpha, rng(seed)) for seed in range(30)])
    assert loss.min() == 0
    assert 0.2 * 255 < loss.max() <= 0.3 * 255 + 1
    assert (loss == loss[..., :1]).all()  # grey
    dark = cast_shadow(np.zeros((SIZE, SIZE, 3), np.uint8), alpha, rng(1))
    assert dark.max() == 0


def test_noise_has_one_deviation_of_at_most_three_percent_of_white() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    deviations = [noisy(grey, rng(seed)).std() for seed in range(60)]
    assert max(deviations) <= 0.03 * 255 * 1.05
    assert np.mean(deviations) == pytest.approx(0.015 * 255, rel=0.25)
    assert noisy(grey, rng(3)).mean() == pytest.approx(128, abs=0.3)


def test_shadows_and_noise_are_as_frequent_as_the_reference_s(
    compositor: Compositor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"cast_shadow": 0, "noisy": 0}
    for name in calls:

        def counted(image: np.ndarray, *rest: object, name: str = name) -> np.ndarray:
            calls[name] += 1
            return image

        monkeypatch.setattr(augment, name, counted)
    for seed in range(200):
        training_sample(person(), seed, "base", compositor)
    assert 37 <= calls["cast_shadow"] <= 83  # 0.3, three and a half standard deviations
    assert 112 <= calls["noisy"] <= 208  # 0.4, of two images each
    assert calls["noisy"] % 2 == 0


def test_a_sample_without_alpha_is_named_in_one_line(compositor: Compositor) -> None:
    sample: dict = person() | {"id": "p7"}
    del sample["alpha"]
    with pytest.raises(ValueError, match=r"^p7: must have foreground and alpha, but has foreground, id$"):
        training_sample(sample, 0, "base", compositor)


def test_a_sample_is_the_same_in_every_process(compositor: Compositor, tmp_path: Path) -> None:
    import pickle
    import subprocess
    import sys

    path = tmp_path / "compositor.pickle"
    path.write_bytes(pickle.dumps((compositor, person())))
    code = (
        "import hashlib, pickle, sys\n"
        "from trainables.matting.augment import training_sample\n"
        "compositor, row = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for seed in (3, 2**32 - 1, 0):\n"
        "    sample = training_sample(row, seed, 'refine', compositor)\n"
        "    print(hashlib.sha256(b''.join(sample[n].tobytes() for n in sorted(sample))).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    import hashlib

    expected = []
    for seed in (3, 2**32 - 1, 0):
        sample = training_sample(person(), seed, "refine", compositor)
        expected.append(hashlib.sha256(b"".join(sample[n].tobytes() for n in sorted(sample))).hexdigest())
    assert done.stdout.split() == expected, done.stderr
