"""CelebAMask-HQ in both layouts, written here as the release and its copies write it, and the real thing."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import formats

REAL = Path(__file__).parents[3] / "shared" / "data" / "celebamask_hq"
OFFICIAL = ["skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip"]
OFFICIAL += ["hair", "hat", "ear_r", "neck_l", "neck", "cloth"]
# The nine classes of each official class, written down apart from the adapter's table.
NINE = [0, 1, 4, 0, 3, 2, 1, 1, 1, 1, 6, 5, 7, 8, 0, 0, 0, 0, 0]


read = partial(formats.read, "celebamask_hq")


def label_map(side=64):
    """Official classes in square blocks, all nineteen of them, on a grid of 5 x 4 cells with empty cells left over."""
    cell = side // 8
    labels = np.zeros((side, side), np.uint8)
    for number in range(1, 19):
        y, x = divmod(number, 5)
        labels[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell] = number
    return labels


def photograph(side):
    y, x = np.mgrid[:side, :side]
    return np.stack([255 * x // side, 255 * y // side, np.full_like(x, 90)], axis=2).astype(np.uint8)


def write_parts(root, k, labels, *, mode="RGB", under=(), folder="CelebAMask-HQ-mask-anno"):
    (root / "CelebA-HQ-img").mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(2 * len(labels))).save(root / "CelebA-HQ-img" / f"{k}.jpg", quality=95)
    anno = root / folder / str(k // 2000)
    anno.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(OFFICIAL, start=1):
        mask = (labels == number) | ((labels > number) & (number in under))
        if mask.any():
            Image.fromarray((mask * 255).astype(np.uint8)).convert(mode).save(anno / f"{k:05d}_{part}.png")


def write_map(root, name, labels, *, side=None, palette=True):
    for sub in ("images", "masks"):
        (root / sub).mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(side or len(labels))).save(root / "images" / f"{name}.jpg", quality=95)
    mask = Image.fromarray(labels, "P" if palette else "L")
    if palette:  # colours that say nothing of the index, with two classes of one colour
        mask.putpalette([0, 0, 0] + [200, 30, 30] * 2 + [7 * i % 256 for i in range(759)])
    mask.save(root / "masks" / f"{name}.png")


def only(reading):
    (sample,) = reading.samples
    return sample


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
@pytest.mark.parametrize("folder", ["CelebAMask-HQ-mask-anno", "CelebAMaskHQ-mask-anno"])
def test_part_masks_become_the_nine_classes(tmp_path, mode, folder):
    labels = label_map()
    write_parts(tmp_path, 2001, labels, mode=mode, folder=folder)
    sample = only(read(tmp_path, size=64))
    np.testing.assert_array_equal(sample["segmentation"], np.array(NINE)[labels])
    assert sample["id"] == "2001"
    assert np.abs(sample["image"].astype(int) - photograph(64)).max() <= 6  # JPEG, and RGB rather than BGR


def test_a_later_part_is_drawn_over_an_earlier_one(tmp_path):
    labels = label_map()
    write_parts(tmp_path, 0, labels, under=(1, 3, 13))  # skin, glasses and hair lie under all that follows them
    np.testing.assert_array_equal(only(read(tmp_path, size=64))["segmentation"], np.array(NINE)[labels])


def test_a_missing_file_is_a_missing_part(tmp_path):
    labels = label_map()
    labels[labels == 4] = 0
    write_parts(tmp_path, 7, labels)
    assert not (tmp_path / "CelebAMask-HQ-mask-anno/0/00007_l_eye.png").exists()
    assert 3 not in only(read(tmp_path, size=64))["segmentation"]


@pytest.mark.parametrize("palette", [True, False])
def test_index_maps_become_the_nine_classes(tmp_path, palette):
    labels = label_map()
    write_map(tmp_path, "photo", labels, palette=palette)
    sample = only(read(tmp_path, size=64))
    np.testing.assert_array_equal(sample["segmentation"], np.array(NINE)[labels])
    assert sample["id"] == "photo"


def test_both_layouts_say_the_same(tmp_path):
    labels = label_map()
    write_parts(tmp_path / "parts", 3, labels)
    write_map(tmp_path / "maps", "3", labels, side=128)
    parts, maps = (only(read(tmp_path / name, size=32)) for name in ("parts", "maps"))
    np.testing.assert_array_equal(parts["segmentation"], maps["segmentation"])
    np.testing.assert_array_equal(parts["image"], maps["image"])


def test_glasses_can_be_ignored(tmp_path):
    labels = label_map()
    write_map(tmp_path, "photo", labels)
    segmentation = only(read(tmp_path, size=64, choices={"glasses": "ignore"}))["segmentation"]
    np.testing.assert_array_equal(segmentation == 255, labels == 3)


def test_labels_take_the_class_under_each_pixels_centre(tmp_path):
    labels = np.random.Generator(np.random.Philox(0)).integers(0, 19, (60, 60), dtype=np.uint8)
    write_map(tmp_path, "photo", labels)
    for size in (20, 37, 60, 90):
        expected = np.array(
            [
                [NINE[labels[int((y + 0.5) * 60 / size), int((x + 0.5) * 60 / size)]] for x in range(size)]
                for y in range(size)
            ]
        )
        np.testing.assert_array_equal(only(read(tmp_path, size=size))["segmentation"], expected)


def mapping(root, originals):
    lines = ["    idx    orig_idx    orig_file"] + [f"{k:>7}{o:>12}    {o + 1:06d}.jpg" for k, o in originals.items()]
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(lines) + "\n")


def test_the_split_follows_the_celeba_numbers(tmp_path):
    originals = {0: 119613, 1: 162770, 2: 162771, 3: 182637, 4: 182638, 10: 202598}
    for k in originals:
        write_parts(tmp_path, k, label_map())
    mapping(tmp_path, originals)
    got = {split: [s["id"] for s in read(tmp_path, size=16, split=split).samples] for split in ("train", "val", "test")}
    assert got == {"train": ["0", "1"], "val": ["2", "3"], "test": ["4", "10"]}


def test_a_split_without_its_file_is_refused(tmp_path):
    write_parts(tmp_path, 0, label_map())
    with pytest.raises(ValueError, match=r"CelebA-HQ-to-CelebA-mapping.txt: a split needs this file"):
        read(tmp_path, size=16, split="train")
    mapping(tmp_path, {1: 5})
    with pytest.raises(ValueError, match="must list image 0, but does not"):
        read(tmp_path, size=16, split="train")


def test_disjoint_rows_are_disjoint_random_subsets(tmp_path):
    for k in range(10):
        write_map(tmp_path, f"{k}", label_map(16))

    def ids(**options):
        return [sample["id"] for sample in read(tmp_path, size=16, **options).samples]

    everything = ids()
    assert everything == [str(k) for k in range(10)]
    first, rest = ids(rows="0:4"), ids(rows="4:10")
    assert (len(first), len(rest)) == (4, 6)
    assert sorted(first + rest) == everything
    assert ids(rows="0:10") not in (everything, ids(rows="0:10", shuffle_seed=1))
    for rows in ("0:11", "4:4", "5", "a:b", "-1:3"):
        with pytest.raises(ValueError, match=r"rows must be START:STOP with `0 <= START < STOP <= 10`"):
            read(tmp_path, size=16, rows=rows)


def test_photographs_are_upright_colour_images_whatever_is_stored(tmp_path):
    labels = label_map()
    plain = photograph(64)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: stored rows are the upright image's columns
    for name in ("turned", "grey", "rgba"):
        write_map(tmp_path, name, labels)
    images = tmp_path / "images"
    Image.fromarray(np.ascontiguousarray(np.rot90(plain))).save(images / "turned.jpg", quality=95, exif=exif)
    Image.fromarray(plain).convert("L").save(images / "grey.jpg", quality=95)
    Image.fromarray(plain).convert("RGBA").save(images / "rgba.jpg", format="PNG")
    got = {sample["id"]: sample["image"] for sample in read(tmp_path, size=64).samples}
    assert all(image.shape == (64, 64, 3) for image in got.values())
    assert np.abs(got["turned"].astype(int) - plain).max() <= 6
    np.testing.assert_array_equal(got["rgba"], plain)
    assert np.ptp(got["grey"], axis=2).max() == 0


def test_bad_part_masks_are_named(tmp_path):
    write_parts(tmp_path, 0, label_map())
    nose = tmp_path / "CelebAMask-HQ-mask-anno/0/00000_nose.png"
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(nose)
    with pytest.raises(ValueError, match=r"00000_nose.png: must be 64x64 as the image's other masks, but is 32x32"):
        only(read(tmp_path, size=16))
    for path in nose.parent.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"image 0 must have masks 00000_\*.png, but there is none"):
        only(read(tmp_path, size=16))


def test_a_folder_in_neither_layout_says_what_is_needed(tmp_path):
    with pytest.raises(
        ValueError, match=r"must have CelebA-HQ-img/ and CelebAMask-HQ-mask-anno/, or images/ and masks/"
    ):
        read(tmp_path, size=16)


def test_the_real_photographs_have_their_left_eyes_on_the_left():
    if not REAL.is_dir():
        pytest.skip(f"needs CelebAMask-HQ photographs at {REAL}")
    reading = read(REAL, size=64, rows="0:60")
    centres = []
    for sample in reading.samples:
        labels = sample["segmentation"]
        assert set(np.unique(labels).tolist()) <= set(range(9))
        assert (labels == 1).mean() > 0.05
        if (labels == 2).any() and (labels == 3).any():
            centres.append([np.nonzero(labels == eye)[1].mean() for eye in (2, 3)])
    assert len(centres) > 40
    left, right = np.array(centres).T
    assert left.mean() < right.mean()
    # Not all: the label maps of 15 of these 240 photographs have the sides of eyes, brows and ears exchanged.
    assert (left < right).mean() > 0.85
