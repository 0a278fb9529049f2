"""The device's part of an augmentation does what albumentations does, and a sample's bits are its own."""

import colorsys
import pickle

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from datasets.augment import GaussianNoise, LabelFlip, face_parsing_transform, seeded
from datasets.batched import DRAWN, Batched
from datasets.pixel_ops import Planes, turned

CPU = torch.device("cpu")
EYES = [(2, 3)]


def sample(size=64, seed=0):
    """A smooth picture and blobs of labels, as a pack gives them."""
    rng = np.random.Generator(np.random.Philox(seed))
    colours = rng.integers(0, 200, (9, 9, 1)) + rng.integers(0, 56, (9, 9, 3))
    image = cv2.resize(colours.astype(np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
    segmentation = cv2.resize(rng.integers(0, 9, (5, 5), dtype=np.uint8), (size, size), interpolation=0)
    image.flags.writeable = segmentation.flags.writeable = False
    return {"image": image, "segmentation": segmentation}


def piped(*transforms):
    return A.Compose(list(transforms), additional_targets={"segmentation": "mask"})


def stacked(samples):
    return {name: torch.from_numpy(np.stack([one[name] for one in samples])) for name in samples[0]}


def on_device(transform, pairs):
    batched = Batched(transform)
    return batched.apply(stacked([batched.draw(one, seed) for one, seed in pairs]), CPU)


def certain(transform):
    transform.p = 1.0
    return transform


PIPELINE = face_parsing_transform(256, EYES).transforms  # blurs of up to 1.5 pixels
STEPS = {type(one).__name__: one for one in PIPELINE[:-1]}  # all but noise, whose stream is another


@pytest.mark.parametrize("name", [*STEPS, "all"])
def test_pixels_are_those_of_albumentations(name):
    transform = piped(*PIPELINE[:-1]) if name == "all" else piped(certain(pickle.loads(pickle.dumps(STEPS[name]))))
    pairs = [(sample(seed=seed % 5), seed) for seed in range(60)]
    out = on_device(transform, pairs)
    moved = 0
    for k, (one, seed) in enumerate(pairs):
        truth = seeded(transform, seed)(**one)
        off = np.abs(out["image"][k].numpy().astype(int) - truth["image"])
        # A hue is rounded to two degrees there, and a place to 1/32 of a pixel.
        assert off.mean() < 2.0
        assert np.quantile(off, 0.99) <= 6
        assert (out["segmentation"][k].numpy() == truth["segmentation"]).mean() > 0.985
        moved += not np.array_equal(truth["image"], one["image"])
    assert moved > 40


def test_the_numbers_drawn_are_those_of_albumentations():
    transform = face_parsing_transform(64, EYES)
    batched = Batched(face_parsing_transform(64, EYES))
    assert batched.on_host == ()
    assert batched.on_device == ("LabelFlip", "Affine", "ColorJitter", "GaussianBlur", "GaussianNoise")
    applied = np.zeros(5, int)
    for seed in range(200):
        drawn = batched.draw(sample(), seed)[DRAWN]
        seeded(transform, seed)(**sample())
        at = 0
        for k, (one, op) in enumerate(zip(transform.transforms, batched._ops, strict=True)):
            params = one.get_applied_params()
            assert drawn[at] == bool(params)
            if params:
                assert drawn[at + 1 : at + 1 + op.size].tolist() == list(op.values(params))
            applied[k] += bool(params)
            at += 1 + op.size
        assert at == len(drawn)
    assert (applied > 40).all()


def test_an_affine_map_is_bilinear_and_nearest_to_the_last_level():
    transform = piped(A.Affine(scale=(0.6, 1.4), rotate=(-40, 40), shear=(-10, 10), fill=30, fill_mask=255, p=1))
    pairs = [(sample(size=37, seed=seed), seed) for seed in range(10)]
    out = on_device(transform, pairs)
    for k, (one, seed) in enumerate(pairs):
        seeded(transform, seed)(**one)
        x_y = np.linalg.inv(transform.transforms[0].get_applied_params()["matrix"])
        back = x_y[[1, 0]][:, [1, 0, 2]]  # scipy's axes are y and x
        for channel in range(3):
            truth = ndimage.affine_transform(
                one["image"][..., channel].astype(float),
                back[:, :2],
                back[:, 2],
                order=1,
                mode="grid-constant",
                cval=30,
            )
            assert np.abs(out["image"][k, ..., channel].numpy() - truth).max() < 0.51
        labels = ndimage.affine_transform(
            one["segmentation"], back[:, :2], back[:, 2], order=0, mode="grid-constant", cval=255
        )
        assert (out["segmentation"][k].numpy() != labels).sum() <= 2  # places that lie half-way


def test_a_blur_is_the_separable_sum_with_a_mirrored_border():
    transform = piped(A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 3.0), p=1))
    pairs = [(sample(size=33, seed=seed), seed) for seed in range(20)]
    out = on_device(transform, pairs)
    for k, (one, seed) in enumerate(pairs):
        seeded(transform, seed)(**one)
        kernel = transform.transforms[0].get_applied_params()["kernel"]
        truth = one["image"].astype(float)
        for axis in (0, 1):
            truth = ndimage.correlate1d(truth, kernel, axis=axis, mode="mirror")
        assert np.abs(out["image"][k].numpy() - truth).max() < 0.51


def test_a_hue_is_turned_as_colorsys_turns_it():
    rng = np.random.Generator(np.random.Philox(1))
    colours = np.concatenate([rng.integers(0, 256, (40, 3)), [[0, 0, 0], [255, 255, 255], [9, 9, 9], [255, 0, 255]]])
    for shift in (-0.4, -0.03, 0.0, 0.2):
        image = torch.tensor(colours.T.reshape(1, 3, 1, -1), dtype=torch.float32)
        out = turned(image, torch.full((1, 1, 1, 1), shift))[0, :, 0].T.numpy()
        for colour, got in zip(colours, out, strict=True):
            h, s, v = colorsys.rgb_to_hsv(*(colour / 255))
            np.testing.assert_allclose(got, 255 * np.array(colorsys.hsv_to_rgb((h + shift) % 1, s, v)), atol=2e-3)


def test_noise_is_normal_and_a_function_of_its_seed():
    transform = piped(GaussianNoise((8.0, 8.0), p=1))
    grey = {"image": np.full((128, 128, 3), 128, np.uint8), "segmentation": np.zeros((128, 128), np.uint8)}
    white = grey | {"image": np.full((128, 128, 3), 255, np.uint8)}
    out = on_device(transform, [(grey, 0), (grey, 1), (grey, 0), (white, 0)])["image"].numpy()
    assert abs(out[0].mean() - 128) < 0.2
    assert abs(out[0].std() - 8) < 0.15
    assert abs(np.corrcoef(out[0].ravel(), out[1].ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(out[0], out[2])
    assert out[3].min() > 200  # saturates, does not wrap


@pytest.mark.parametrize("size", [64, 37])
def test_the_bits_of_a_sample_do_not_depend_on_its_neighbours(size):
    transform = face_parsing_transform(size, EYES)
    for one in transform.transforms:
        one.p = 0.8
    pairs = [(sample(size, seed), seed) for seed in range(12)]
    whole = on_device(transform, pairs)
    backwards = on_device(transform, pairs[::-1])
    for k, pair in enumerate(pairs):
        alone = on_device(transform, [pair])
        for name in ("image", "segmentation"):
            assert torch.equal(alone[name][0], whole[name][k])
            assert torch.equal(backwards[name][len(pairs) - 1 - k], whole[name][k])


def test_threads_and_global_generators_do_not_show():
    transform = face_parsing_transform(64, EYES)
    pairs = [(sample(64, seed), seed) for seed in range(8)]
    torch.manual_seed(0)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    truth = on_device(transform, pairs)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(on_device(transform, pairs)["image"], truth["image"])
    finally:
        torch.set_num_threads(threads)


def test_what_is_not_known_stays_in_the_loader_with_all_before_it():
    flip, jitter = LabelFlip(EYES, p=0.5), A.ColorJitter(p=0.5)
    dropout = A.CoarseDropout(p=0.5)
    assert Batched(piped(dropout, flip, jitter)).on_device == ("LabelFlip", "ColorJitter")
    split = Batched(piped(flip, A.OneOf([dropout, A.ToGray(p=1)], p=0.5), jitter))
    assert (split.on_host, split.on_device) == (("LabelFlip", "OneOf"), ("ColorJitter",))
    assert Batched(piped(flip, jitter, dropout)).on_device == ()
    for other in (
        A.Affine(border_mode=cv2.BORDER_REFLECT),
        A.Affine(interpolation=cv2.INTER_CUBIC),
        A.Affine(fit_output=True),
        A.Affine(fill=(1, 2, 3)),
        A.GaussianBlur(blur_limit=(3, 7)),
    ):
        assert Batched(piped(other)).on_device == ()

    class Wobble(A.Affine):
        """A user's own."""

    assert Batched(piped(Wobble())).on_device == ()
    for seed in range(30):  # the loader's part leaves what albumentations leaves, with the same draws
        one = sample(seed=seed)
        transform = piped(flip, A.OneOf([dropout, A.ToGray(p=1)], p=0.5), jitter)
        whole = seeded(transform, seed)(**one)
        got = on_device(transform, [(one, seed)])
        assert np.abs(got["image"][0].numpy().astype(int) - whole["image"]).mean() < 2.0
        np.testing.assert_array_equal(got["segmentation"][0].numpy(), whole["segmentation"])
        prefix = seeded(piped(flip, A.OneOf([dropout, A.ToGray(p=1)], p=0.5)), seed)(**one)
        np.testing.assert_array_equal(Batched(transform).draw(one, seed)["image"], prefix["image"])


def test_other_columns_pass_and_a_pickled_pipeline_is_the_same():
    batched = Batched(face_parsing_transform(64, EYES))
    again = pickle.loads(pickle.dumps(batched))
    one, seed = sample(), 3
    drawn = batched.draw(one, seed)
    np.testing.assert_array_equal(again.draw(one, seed)[DRAWN], drawn[DRAWN])
    batch = stacked([drawn]) | {"domain": torch.tensor([1])}
    out = again.apply(batch, CPU)
    assert set(out) == {"image", "segmentation", "domain"}
    assert (out["image"].dtype, out["image"].shape, out["segmentation"].dtype) == (
        torch.uint8,
        (1, 64, 64, 3),
        torch.uint8,
    )
    assert out["domain"].tolist() == [1]


def test_boxes_and_points_are_refused():
    with pytest.raises(ValueError, match="no bbox_params or keypoint_params"):
        Batched(A.Compose([A.HorizontalFlip()], keypoint_params=A.KeypointParams(format="xy")))
    with pytest.raises(ValueError, match="p=1"):
        Batched(A.Compose([A.HorizontalFlip()], p=0.5))


def test_planes_replace_only_the_rows_named():
    image = torch.arange(3 * 3 * 4, dtype=torch.float32).reshape(3, 3, 2, 2)
    planes = Planes(image, {"m": torch.zeros(3, 2, 2, dtype=torch.uint8)})
    part = planes.of(np.array([2]))
    out = planes.replaced(np.array([2]), Planes(part.image + 1, {"m": part.masks["m"] + 7}))
    assert torch.equal(out.image[:2], image[:2])
    assert torch.equal(out.image[2], image[2] + 1)
    assert out.masks["m"][2].min() == 7
    assert planes.masks["m"].max() == 0
