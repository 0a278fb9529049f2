"""An augmented sample is a function of the sample and its seed, and its labels stay true."""

import random

import albumentations as A
import cv2
import numpy as np

from datasets.augment import GaussianNoise, LabelFlip, face_parsing_transform, seeded

EYES = [(2, 3)]


def sample(size=64, seed=0):
    rng = np.random.Generator(np.random.Philox(seed))
    image = cv2.GaussianBlur(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), (0, 0), 2)
    segmentation = rng.integers(0, 9, (size, size), dtype=np.uint8)
    image.flags.writeable = segmentation.flags.writeable = False  # as a pack gives them
    return {"image": image, "segmentation": segmentation}


def augmented(transform, seed, **data):
    out = seeded(transform, seed)(**(data or sample()))
    return out["image"].tobytes() + out["segmentation"].tobytes()


def test_shapes_and_types_stay_for_every_transform():
    transform = face_parsing_transform(64, EYES)
    for one in transform.transforms:
        one.p = 1.0
    truth = sample()
    before = truth["image"].copy(), truth["segmentation"].copy()
    for seed in range(20):
        out = seeded(transform, seed)(**truth)
        assert set(out) == {"image", "segmentation"}
        assert (out["image"].shape, out["image"].dtype) == ((64, 64, 3), np.uint8)
        assert (out["segmentation"].shape, out["segmentation"].dtype) == ((64, 64), np.uint8)
        assert set(np.unique(out["segmentation"]).tolist()) <= {*range(9), 255}  # nearest: no class is invented
    np.testing.assert_array_equal(truth["image"], before[0])
    np.testing.assert_array_equal(truth["segmentation"], before[1])


def test_the_result_depends_on_the_seed_alone():
    transform = face_parsing_transform(64, EYES)
    first = {seed: augmented(transform, seed) for seed in range(30)}
    assert len(set(first.values())) == 30
    fresh = face_parsing_transform(64, EYES)
    for seed in (29, 3, 17, 3):
        fresh(**sample(seed=5))  # draws that are not seeded, and another input, leave no trace
        assert augmented(fresh, seed) == first[seed]


def test_no_global_generator_is_touched_or_read():
    transform = face_parsing_transform(64, EYES)
    for one in transform.transforms:
        one.p = 1.0

    def state():
        legacy = np.random.get_state()  # noqa: NPY002
        return random.getstate(), legacy[1].tobytes(), legacy[2]

    cv2.setRNGSeed(7)
    expected = cv2.randu(np.zeros(8, np.uint8), 0, 256).tobytes()
    before = state()
    cv2.setRNGSeed(7)
    truth = augmented(transform, 11)
    assert state() == before
    assert cv2.randu(np.zeros(8, np.uint8), 0, 256).tobytes() == expected
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    cv2.setRNGSeed(99)
    assert augmented(transform, 11) == truth


def test_opencv_threads_do_not_show():
    transform = face_parsing_transform(64, EYES)
    threads = cv2.getNumThreads()
    many = [augmented(transform, seed) for seed in range(20)]
    try:
        cv2.setNumThreads(0)
        assert [augmented(transform, seed) for seed in range(20)] == many
    finally:
        cv2.setNumThreads(threads)


def test_transforms_are_drawn_independently():
    """albumentations' own seeding gives each transform the same numbers; here flips and noise must not go together."""
    both = A.Compose(
        [LabelFlip(EYES, p=0.5), GaussianNoise((20, 20), p=0.5)], additional_targets={"segmentation": "mask"}
    )
    truth = sample()
    counts = np.zeros((2, 2), int)
    for seed in range(400):
        out = seeded(both, seed)(**truth)
        flipped = not np.array_equal(out["segmentation"], truth["segmentation"])
        noisy = not any(np.array_equal(out["image"], image) for image in (truth["image"], truth["image"][:, ::-1]))
        counts[int(flipped), int(noisy)] += 1
    assert counts.min() > 70  # 100 each are expected, with a deviation of 8.7


def test_a_flip_swaps_the_eyes_and_nothing_else():
    flip = A.Compose([LabelFlip(EYES, p=1.0)], additional_targets={"segmentation": "mask"})
    truth = sample()
    labels = truth["segmentation"].copy()
    labels[0, :3] = 255
    out = flip(image=truth["image"], segmentation=labels)
    np.testing.assert_array_equal(out["image"], truth["image"][:, ::-1])
    expected = labels[:, ::-1].copy()
    expected[labels[:, ::-1] == 2] = 3
    expected[labels[:, ::-1] == 3] = 2
    np.testing.assert_array_equal(out["segmentation"], expected)


def test_the_left_eye_stays_left_and_the_mask_stays_on_the_image():
    """A face whose regions have grey levels of their own: after geometry alone they still agree."""
    labels = np.zeros((64, 64), np.uint8)
    labels[10:54, 12:52] = 1
    labels[22:30, 18:28] = 2
    labels[22:30, 36:46] = 3
    image = np.repeat((labels == 1)[..., None] * 80 + (labels >= 2)[..., None] * 200, 3, axis=2).astype(np.uint8)
    transform = face_parsing_transform(64, EYES)
    transform.transforms = transform.transforms[:2]  # flip and affine
    for seed in range(50):
        out = seeded(transform, seed)(image=image, segmentation=labels)
        segmentation, grey = out["segmentation"], out["image"][..., 0]
        assert np.nonzero(segmentation == 2)[1].mean() < np.nonzero(segmentation == 3)[1].mean()
        assert np.median(grey[segmentation == 1]) == 80
        assert np.median(grey[(segmentation == 2) | (segmentation == 3)]) == 200
        assert (grey[segmentation == 255] <= 80).all()


def test_noise_has_the_deviation_it_was_asked_for():
    noise = A.Compose([GaussianNoise((8.0, 8.0), p=1.0)])
    grey = np.full((128, 128, 3), 128, np.uint8)
    out = seeded(noise, 0)(image=grey)["image"].astype(float)
    assert abs(out.mean() - 128) < 0.2
    assert abs(out.std() - 8) < 0.15
    assert seeded(noise, 0)(image=np.full_like(grey, 255))["image"].min() > 200  # saturates, does not wrap
