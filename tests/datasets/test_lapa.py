"""LaPa, written here as the release is laid out: its splits, its classes, its 106 landmarks and its bad files."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import formats
from datasets.packing import pack_data_set

from .test_celebamask_hq import photograph

# The common classes of LaPa's, written down apart from the adapter's table: brows are skin.
COMMON = [0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8]
WIDTH, HEIGHT = 48, 60

read = partial(formats.read, "lapa")


def face() -> np.ndarray:
    """A frontal face uint8 [60, 48] in LaPa's classes, whose left is the image's left."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[4:56, 6:42] = 1
    labels[4:12, 6:42] = 10
    for number, (y0, y1, x0, x1) in {
        2: (18, 20, 10, 20),
        3: (18, 20, 28, 38),
        4: (22, 26, 12, 18),
        5: (22, 26, 30, 36),
        6: (26, 36, 21, 27),
        7: (40, 42, 16, 32),
        8: (42, 44, 18, 30),
        9: (44, 47, 16, 32),
    }.items():
        labels[y0:y1, x0:x1] = number
    return labels


def picture() -> np.ndarray:
    return photograph(HEIGHT)[:, :WIDTH]


def landmarks(seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).uniform(1, 46, (106, 2)).round(3)


def write(root: Path, name: str, *, labels: np.ndarray | None = None, points: np.ndarray | None = None) -> Path:
    """One photograph, `name` with its split, without landmarks unless given."""
    split, stem = name.split("/")
    labels = face() if labels is None else labels
    for folder in ("images", "labels") if points is None else ("images", "labels", "landmarks"):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture()).save(root / split / "images" / f"{stem}.jpg", quality=95)
    Image.fromarray(labels).save(root / split / "labels" / f"{stem}.png")
    if points is not None:
        lines = ["106", *(f"{x:.6f} {y:.6f}" for x, y in points)]
        (root / split / "landmarks" / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    return root


def ids(root: Path, split: str | None = None) -> list[str]:
    return list(read(root, size=16, split=split).names)


def test_the_split_is_the_folder_and_begins_the_id(tmp_path: Path) -> None:
    for name in ("val/1", "train/2", "test/1", "train/10"):
        write(tmp_path, name)
    assert ids(tmp_path) == ["test/1", "train/10", "train/2", "val/1"]
    assert ids(tmp_path, "train") == ["train/10", "train/2"]
    assert ids(tmp_path, "val") == ["val/1"]
    assert ids(tmp_path, "test") == ["test/1"]
    assert read(tmp_path, size=16).source["splits"] == ["train", "val", "test"]
    with pytest.raises(ValueError, match="split must be one of train, val, test, but got 'valid'"):
        read(tmp_path, size=16, split="valid")


@pytest.mark.parametrize("palette", [True, False])
def test_classes_become_the_common_ones_with_each_eye_on_its_side(tmp_path: Path, palette: bool) -> None:
    write(tmp_path, "train/1")
    if palette:  # colours that say nothing of the class
        mask = Image.fromarray(face(), "P")
        mask.putpalette([7 * i % 256 for i in range(768)])
        mask.save(tmp_path / "train/labels/1.png")
    (sample,) = read(tmp_path, size=HEIGHT, crop="pad").samples
    border = (HEIGHT - WIDTH) // 2
    labels = sample["segmentation"]
    np.testing.assert_array_equal(labels[:, border:-border], np.array(COMMON)[face()])
    assert (labels[:, :border] == 255).all()
    assert np.nonzero(labels == 2)[1].mean() < np.nonzero(labels == 3)[1].mean()
    assert np.abs(sample["image"][:, border:-border].astype(int) - picture()).max() <= 8


def test_the_106_landmarks_are_a_column_of_their_own_and_move_with_the_crop(tmp_path: Path) -> None:
    write(tmp_path, "train/1", points=landmarks())
    reading = read(tmp_path, size=30, crop="pad")
    (sample,) = reading.samples
    assert set(sample) == {"id", "image", "segmentation", "landmarks106"}
    assert (sample["landmarks106"].shape, sample["landmarks106"].dtype) == ((106, 2), np.dtype("float32"))
    expected = (landmarks() + (6, 0) + 0.5) / 2 - 0.5  # 6 columns on each side, then half the size
    np.testing.assert_allclose(sample["landmarks106"], expected, atol=1e-5)
    write(tmp_path / "without", "train/1")
    assert "landmarks106" not in next(read(tmp_path / "without", size=30, crop="pad").samples)


def test_a_face_is_framed_by_its_classes(tmp_path: Path) -> None:
    write(tmp_path, "train/1", points=landmarks())
    (sample,) = read(tmp_path, size=64, crop="face").samples
    labels = sample["segmentation"]
    eyes = [np.argwhere(labels == eye).mean(0) for eye in (2, 3)]
    mouth = np.argwhere((labels >= 5) & (labels <= 7)).mean(0)
    # Eyes 18 pixels apart and 19 to 20 from the mouth: half the side is twice 18 = 36 pixels, 32 of the sample's.
    assert eyes[1][1] - eyes[0][1] == pytest.approx(18 * 64 / 72, abs=1)
    assert (eyes[0] + eyes[1])[1] / 2 == pytest.approx(31.5, abs=1)
    assert mouth[1] == pytest.approx(31.5, abs=1)
    assert (0.9 * (eyes[0] + eyes[1]) / 2 + 0.1 * mouth)[0] == pytest.approx(31.5, abs=1)


def test_it_becomes_a_pack_with_any_number_of_processes(tmp_path: Path) -> None:
    for k in range(3):
        write(tmp_path / "lapa", f"train/{k}", points=landmarks(k))
    reading = read(tmp_path / "lapa", size=32, crop="face", split="train")
    assert pickle.loads(pickle.dumps(reading.data)).names == reading.data.names
    pack = pack_data_set(reading, tmp_path / "pack", workers=2)
    assert [pack.sample(i)["id"] for i in range(3)] == ["train/0", "train/1", "train/2"]
    assert pack.manifest.source["format"] == "lapa"


def test_photographs_are_upright_colour_images_whatever_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: stored rows are the upright image's columns
    plain = Image.fromarray(picture())
    stored = {
        "turned": (Image.fromarray(np.ascontiguousarray(np.rot90(picture()))), {"format": "JPEG", "exif": exif}),
        "cmyk": (plain.convert("CMYK"), {"format": "JPEG"}),
        "rgba": (plain.convert("RGBA"), {"format": "PNG"}),
        "grey": (Image.fromarray(np.asarray(plain.convert("L")).astype(np.uint16) * 257), {"format": "PNG"}),
    }
    for name, (image, options) in stored.items():
        write(tmp_path, f"train/{name}")
        image.save(tmp_path / "train/images" / f"{name}.jpg", **options)
    data = read(tmp_path, size=HEIGHT, crop="pad").data
    got = {name: data.record(f"train/{name}").image for name in stored}
    for name in ("turned", "cmyk", "rgba"):
        assert np.abs(got[name].astype(int) - picture()).max() <= (0 if name == "rgba" else 12), name
    np.testing.assert_array_equal(got["grey"], np.repeat(np.asarray(plain.convert("L"))[..., None], 3, axis=2))


def test_a_folder_in_another_layout_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must have \{train,val,test\}/\{images,labels,landmarks\}, but has no split"):
        read(tmp_path, size=16)
    (tmp_path / "train" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"train/labels: the folder is missing"):
        read(tmp_path, size=16)
    (tmp_path / "train" / "labels").mkdir()
    with pytest.raises(ValueError, match=r"train/images: must hold \.jpg images, but has none"):
        read(tmp_path, size=16)
    with pytest.raises(ValueError, match=r"val/images: the folder is missing"):
        read(tmp_path, size=16, split="val")


def test_landmarks_in_some_of_the_splits_only_are_told(tmp_path: Path) -> None:
    write(tmp_path, "train/1", points=landmarks())
    write(tmp_path, "val/1")
    with pytest.raises(ValueError, match=r"val/landmarks: the folder is missing, and every split must have it"):
        read(tmp_path, size=16)
    assert ids(tmp_path, "val") == ["val/1"]
