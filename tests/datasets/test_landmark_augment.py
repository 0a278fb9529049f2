"""Landmarks move with the pixels under them, in both ways to augment, and a mirror exchanges left and right."""

import pickle

import albumentations as A
import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from datasets.augment import seeded
from datasets.batched import DRAWN, Batched
from datasets.landmark_augment import LandmarkFlip, landmarks_transform
from datasets.landmarks import EYES, REGIONS, flip_order

from .test_ibug_300w import REAL, face, read

CPU = torch.device("cpu")

# The mirror of iBUG's 51 points as HRNet-Facial-Landmark-Detection pairs its 68, written down apart from the code's.
FLIP_51 = [
    *[9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 10, 11, 12, 13, 18, 17, 16, 15, 14, 28, 27, 26, 25, 30, 29, 22, 21, 20, 19, 24, 23],
    *[37, 36, 35, 34, 33, 32, 31, 42, 41, 40, 39, 38, 47, 46, 45, 44, 43, 50, 49, 48],
]


def sample(size=64, num_points=51, seed=0):
    rng = np.random.Generator(np.random.Philox(seed))
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    landmarks = rng.uniform(5, size - 6, (num_points, 2)).astype(np.float32)
    image.flags.writeable = landmarks.flags.writeable = False
    return {"image": image, "landmarks": landmarks}


def piped(*transforms):
    return A.Compose(list(transforms), additional_targets={"landmarks": "keypoints"})


def stacked(samples):
    return {name: torch.from_numpy(np.stack([one[name] for one in samples])) for name in samples[0]}


def test_the_flip_order_is_the_reference_s():
    assert list(flip_order(51)) == FLIP_51
    assert list(flip_order(68)) == [*range(16, -1, -1), *(17 + k for k in FLIP_51)]
    with pytest.raises(ValueError, match="must be 51 or 68, but is 70"):
        flip_order(70)


def test_regions_cover_every_point_once():
    assert sorted(k for begin, end in REGIONS.values() for k in range(begin, end)) == list(range(68))
    assert [end - begin for begin, end in REGIONS.values()] == [17, 10, 9, 12, 20]
    assert (EYES[0][0], EYES[1][1]) == REGIONS["eyes"]


@pytest.mark.parametrize("num_points", [51, 68])
def test_a_mirrored_symmetric_face_is_the_same_face(num_points):
    points = face()[68 - num_points :]
    mirrored = (np.array([80, 0]) - points) * (1, -1)  # about x = 40, the face's own axis
    np.testing.assert_allclose(
        mirrored[list(flip_order(num_points))], points, atol=1.01
    )  # its brows are one pixel apart


def test_a_mirrored_photograph_has_its_points_where_a_face_has_them():
    """Of all ways to name the points of mirrored faces, the flip's brings them nearest to faces' points, on average."""
    if not REAL.exists():
        pytest.skip("no 300-W photographs beside the repository")
    faces = np.stack([s["landmarks"] for s in read(REAL, size=64, crop="face").samples])
    mirrored = ((63 - faces) * (1, 0) + faces * (0, 1)).mean(0)
    mean = faces.mean(0)
    named = np.linalg.norm(mirrored[list(flip_order(68))] - mean, axis=1)
    assert named.max() < 2.0
    away = np.square(mirrored[:, None] - mean).sum(2)
    assert linear_sum_assignment(away.T)[1].tolist() == list(flip_order(68))


def test_two_flips_are_none():
    batched = Batched(piped(LandmarkFlip(51, p=1.0)))
    one = sample()
    once = batched.augment(one, 0)
    assert not np.array_equal(once["image"], one["image"])
    twice = batched.augment(once, 0)
    np.testing.assert_array_equal(twice["image"], one["image"])
    np.testing.assert_allclose(twice["landmarks"], one["landmarks"], atol=1e-5)
    order = list(flip_order(51))
    np.testing.assert_allclose(once["landmarks"], ([63, 0] + one["landmarks"] * [-1, 1])[order], atol=1e-5)


def test_points_stay_on_what_they_mark():
    """White spots on black: after flip and affine map each point is at the middle of its own spot."""
    places = np.array([[20, 22], [44, 21], [31, 30], [23, 43], [40, 45]] * 11, np.float32)[:51]
    order = list(flip_order(51))
    for seed in range(40):
        k = seed % 51
        image = np.zeros((64, 64, 3), np.uint8)
        x, y = places[k].astype(int)
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
        transform = landmarks_transform(64, 51)
        transform.transforms = transform.transforms[:2]
        out = Batched(transform).augment({"image": image, "landmarks": places}, seed)
        rows, columns = np.indices((64, 64))
        weight = out["image"][..., 0].astype(float)
        middle = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        flipped = bool(transform.transforms[0].get_applied_params())
        at = out["landmarks"][order.index(k) if flipped else k]
        assert np.abs(at - middle).max() < 0.1


@pytest.mark.parametrize("num_points", [51, 68])
def test_the_loader_and_the_device_give_what_albumentations_gives(num_points):
    transform = landmarks_transform(64, num_points)
    transform.transforms = transform.transforms[:-1]  # all but noise, whose stream is another
    batched = Batched(transform)
    assert batched.on_device == ("LandmarkFlip", "Affine", "ColorJitter", "CoarseDropout", "GaussianBlur")
    assert (batched.points, batched.masks) == (("landmarks",), ())
    pairs = [(sample(64, num_points, seed % 4), seed) for seed in range(40)]
    drawn = [batched.draw(one, seed) for one, seed in pairs]
    out = batched.apply(stacked(drawn), CPU)
    moved = 0
    for k, (one, seed) in enumerate(pairs):
        whole = batched.augment(one, seed)
        np.testing.assert_array_equal(out["landmarks"][k], whole["landmarks"])
        off = np.abs(out["image"][k].numpy().astype(int) - whole["image"])
        assert off.mean() < 2.0
        pixels = seeded(A.Compose(transform.transforms), seed)(image=one["image"])["image"]
        np.testing.assert_array_equal(whole["image"], pixels)  # what the pipeline alone does to the picture
        moved += not np.allclose(whole["landmarks"], one["landmarks"])
    assert moved == len(pairs)


def test_a_transform_that_only_the_loader_knows_moves_points_too():
    batched = Batched(piped(A.Transpose(p=1.0), LandmarkFlip(51, p=0.5), A.ColorJitter(p=0.5)))
    assert batched.on_host == ("Transpose",)
    for seed in range(10):
        one = sample(seed=seed)
        drawn, whole = batched.draw(one, seed), batched.augment(one, seed)
        np.testing.assert_array_equal(drawn["landmarks"], whole["landmarks"])
        assert set(drawn) == {"image", "landmarks", DRAWN}
        assert (drawn["landmarks"].dtype, drawn["landmarks"].shape) == (np.float32, (51, 2))


def test_occlusions_are_albumentations_to_the_bit():
    drop = A.CoarseDropout(
        num_holes_range=(1, 4), hole_height_range=(0.1, 0.5), hole_width_range=(0.1, 0.5), fill="random_uniform", p=0.9
    )
    batched = Batched(piped(drop))
    assert batched.on_device == ("CoarseDropout",)
    pairs = [(sample(48, seed=seed), seed) for seed in range(30)]
    out = batched.apply(stacked([batched.draw(one, seed) for one, seed in pairs]), CPU)
    hidden = 0
    for k, (one, seed) in enumerate(pairs):
        np.testing.assert_array_equal(out["image"][k].numpy(), batched.augment(one, seed)["image"])
        np.testing.assert_array_equal(out["landmarks"][k].numpy(), one["landmarks"])
        hidden += not np.array_equal(out["image"][k].numpy(), one["image"])
    assert hidden > 20


def test_what_is_not_known_or_leaves_the_image_stays_so():
    one = sample()
    landmarks = one["landmarks"].copy()
    landmarks[3], landmarks[5] = np.nan, (-20, 90)
    batched = Batched(landmarks_transform(64, 51))
    order = list(flip_order(51))
    for seed in range(10):
        for call in (batched.augment, batched.draw):
            got = call(one | {"landmarks": landmarks}, seed)["landmarks"]
            unknown = np.flatnonzero(np.isnan(got).any(1))
            assert unknown.tolist() in ([3], [order.index(3)])
            far = got[5 if unknown[0] == 3 else order.index(5)]
            assert not ((far >= 0) & (far < 64)).all()


def test_a_pickled_pipeline_draws_the_same():
    batched = Batched(landmarks_transform(64, 68))
    again = pickle.loads(pickle.dumps(batched))
    one = sample(64, 68)
    for name, value in batched.draw(one, 9).items():
        np.testing.assert_array_equal(again.draw(one, 9)[name], value)
