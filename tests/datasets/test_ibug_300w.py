"""300-W, written here as the release is laid out: folders, splits, mirrored images, 1-based points; and real ones."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import formats
from datasets.formats.pts import check_near, without_jaw
from datasets.packing import pack_data_set

from .test_celebamask_hq import photograph

REAL = Path(__file__).parents[3] / "shared" / "data" / "300w"
FOLDERS = ("01_Indoor", "02_Outdoor", "afw", "helen/testset", "helen/trainset", "ibug", "lfpw/testset", "lfpw/trainset")
SIDE = 80

read = partial(formats.read, "ibug_300w")


def face() -> np.ndarray:
    """68 points [68, 2] of a face, roughly, in iBUG's order, the first pixel's centre at (0, 0)."""
    angles = np.linspace(np.pi, 0, 17)
    jaw = np.stack([40 + 30 * np.cos(angles), 35 + 35 * np.sin(angles)], axis=1)
    brows = np.stack([np.r_[15:31:5j, 48:64:5j], np.full(10, 25.0)], axis=1)
    nose = np.stack([np.r_[[40] * 4, 34:46:5j], np.r_[30:45:4j, [50] * 5]], axis=1)
    turns = np.pi - 2 * np.pi * np.arange(6) / 6
    eye = np.stack([6 * np.cos(turns), -3 * np.sin(turns)], axis=1)
    turns = np.pi - 2 * np.pi * np.arange(12) / 12
    outer = np.stack([40 + 12 * np.cos(turns), 60 - 5 * np.sin(turns)], axis=1)
    turns = np.pi - 2 * np.pi * np.arange(8) / 8
    inner = np.stack([40 + 9 * np.cos(turns), 60 - 1 * np.sin(turns)], axis=1)
    return np.concatenate([jaw, brows, nose, eye + np.array([25, 32]), eye + np.array([55, 32]), outer, inner])


def write(root: Path, name: str, points: np.ndarray | None = None, *, suffix: str = ".jpg") -> Path:
    """An image and its .pts, which are 1-based."""
    path = root / f"{name}.pts"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(SIDE)).save(root / f"{name}{suffix}")
    lines = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in (face() if points is None else points))
    path.write_text(f"version: 1\nn_points:  68\n{{\n{lines}\n}}\n")
    return root


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for folder in FOLDERS:
        png = folder.startswith(("lfpw", "0"))
        for stem in ("image_002", "image_001"):
            write(tmp_path / "release", f"{folder}/{stem}", suffix=".png" if png else ".jpg")
    return tmp_path / "release"


# What each split is of, written down apart from the adapter: the folders of 300-W (Sagonas et al. 2013).
SPLITS = {
    "train": ["afw", "helen/trainset", "lfpw/trainset"],
    "test": ["01_Indoor", "02_Outdoor"],
    "full": ["helen/testset", "ibug", "lfpw/testset"],
    "common": ["helen/testset", "lfpw/testset"],
    "challenging": ["ibug"],
    "indoor": ["01_Indoor"],
    "outdoor": ["02_Outdoor"],
    None: list(FOLDERS),
}


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_folders_of_the_release(release: Path, split: str | None) -> None:
    reading = read(release, size=16, split=split)
    assert list(reading.names) == [f"{folder}/image_00{k}" for folder in SPLITS[split] for k in (1, 2)]
    assert sorted(reading.source["folders"]) == SPLITS[split]
    assert len({sample["id"] for sample in reading.samples}) == len(reading)


def test_the_photographs_that_train_are_none_that_test(release: Path) -> None:
    names = {split: set(read(release, size=16, split=split).names) for split in SPLITS}
    assert names["full"] == names["common"] | names["challenging"]
    assert names["test"] == names["indoor"] | names["outdoor"]
    for split in ("test", "full"):
        assert not names["train"] & names[split]


@pytest.mark.parametrize("folder", FOLDERS)
def test_one_folder_can_be_opened_and_gives_the_same_ids(release: Path, folder: str) -> None:
    assert read(release / folder, size=16).names == (f"{folder}/image_001", f"{folder}/image_002")


def test_helen_can_be_opened_with_both_its_parts(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helen = release / "helen"
    assert [name.split("/")[1] for name in read(helen, size=16).names] == ["testset"] * 2 + ["trainset"] * 2
    assert read(helen, size=16, split="train").names == ("helen/trainset/image_001", "helen/trainset/image_002")
    with pytest.raises(ValueError, match=r"helen: split indoor must have 01_Indoor, but 01_Indoor is missing"):
        read(helen, size=16, split="indoor")
    monkeypatch.chdir(helen / "testset")
    assert read(Path(), size=16).names == ("helen/testset/image_001", "helen/testset/image_002")


def test_the_folder_300w_may_stand_above_indoor_and_outdoor(release: Path) -> None:
    (release / "300W").mkdir()
    for folder in ("01_Indoor", "02_Outdoor"):
        (release / folder).rename(release / "300W" / folder)
    expected = ("01_Indoor/image_001", "01_Indoor/image_002")
    for source in (release, release / "300W"):
        assert read(source, size=16, split="indoor").names == expected
    assert len(read(release, size=16)) == 16


def test_a_release_without_a_folder_of_the_split_is_no_split(release: Path) -> None:
    for path in (release / "ibug").iterdir():
        path.unlink()
    (release / "ibug").rmdir()
    with pytest.raises(ValueError, match=r"release: split full must have .*, but ibug is missing; add it, or open"):
        read(release, size=16, split="full")
    assert len(read(release, size=16, split="common")) == 4
    assert "ibug" not in read(release, size=16).source["folders"]


def test_a_folder_in_another_layout_and_another_split_are_refused(tmp_path: Path, release: Path) -> None:
    with pytest.raises(ValueError, match=r"must have, or be, one of afw, helen/trainset, .* but has and is none"):
        read(tmp_path, size=16)
    with pytest.raises(ValueError, match=r"split must be one of train, test, full, common, .*, but got 'val'"):
        read(release, size=16, split="val")
    with pytest.raises(ValueError, match="labels must be left out"):
        read(release, size=16, labels="lapa")
    (tmp_path / "afw").mkdir()
    with pytest.raises(ValueError, match=r"afw: must hold images with \.pts, but has none"):
        read(tmp_path / "afw", size=16)


def test_mirrored_images_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "afw/1_1")
    write(tmp_path, "afw/1_1_mirror")
    (tmp_path / "afw" / "only_mirror.pts").write_text("left over")
    (tmp_path / "afw" / "._1_1.jpg").write_bytes(b"what another system keeps of a file")
    (tmp_path / "afw" / "boxes.mat").write_bytes(b"other")
    assert read(tmp_path, size=16).names == ("afw/1_1",)


def test_names_with_dots_and_spaces_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "ibug/image_092 _01")
    write(tmp_path, "ibug/image.3.b")
    assert [s["id"] for s in read(tmp_path, size=16).samples] == ["ibug/image.3.b", "ibug/image_092 _01"]


def test_landmarks_count_from_the_first_pixels_centre(tmp_path: Path) -> None:
    (sample,) = read(write(tmp_path, "afw/1"), size=SIDE).samples
    assert set(sample) == {"id", "image", "landmarks"}
    assert (sample["landmarks"].shape, sample["landmarks"].dtype) == ((68, 2), np.dtype("float32"))
    np.testing.assert_allclose(sample["landmarks"], face(), atol=1e-5)
    (half,) = read(tmp_path, size=SIDE // 2).samples
    np.testing.assert_allclose(half["landmarks"], (face() + 0.5) / 2 - 0.5, atol=1e-5)


def test_a_face_is_framed_by_its_landmarks(tmp_path: Path) -> None:
    (sample,) = read(write(tmp_path, "afw/1"), size=64, crop="face").samples
    eyes = [sample["landmarks"][first : first + 6].mean(0) for first in (36, 42)]
    mouth = sample["landmarks"][48:].mean(0)
    assert eyes[1][0] - eyes[0][0] == pytest.approx(64 / 4, rel=0.02)  # 30 pixels apart, more than 1.8 / 2 of 28
    middle = (eyes[0] + eyes[1]) / 2
    assert middle + 0.1 * (mouth - middle) == pytest.approx([31.5, 31.5], abs=0.6)


def test_it_becomes_a_pack_with_any_number_of_processes(release: Path, tmp_path: Path) -> None:
    reading = read(release, size=16, split="train")
    assert pickle.loads(pickle.dumps(reading.data)) == reading.data
    pack = pack_data_set(reading, tmp_path / "pack", workers=2)
    assert len(pack) == 6
    assert pack.manifest.source["folders"] == SPLITS["train"]


def test_images_are_upright_colour_images_whatever_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = Image.fromarray(photograph(SIDE))
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(photograph(SIDE))))
    grey = np.asarray(plain.convert("L"))
    stored = {
        "turned.jpg": (turned, {"exif": exif, "quality": 95}),
        "cmyk.jpg": (plain.convert("CMYK"), {"quality": 95}),
        "rgba.png": (plain.convert("RGBA"), {}),
        "grey.png": (Image.fromarray(grey.astype(np.uint16) * 257), {}),
    }
    for name, (image, options) in stored.items():
        write(tmp_path, f"afw/{Path(name).stem}", suffix=Path(name).suffix)
        image.save(tmp_path / "afw" / name, **options)
    got = {sample["id"]: sample["image"].astype(int) for sample in read(tmp_path, size=SIDE).samples}
    for name in ("turned", "cmyk", "rgba"):
        assert np.abs(got[f"afw/{name}"] - photograph(SIDE)).max() <= (0 if name == "rgba" else 12), name
    np.testing.assert_array_equal(got["afw/grey"], np.repeat(grey[..., None], 3, axis=2))


PAIRS = {
    "no points": (lambda at: (at / "b.pts").unlink(), r"afw/b\.jpg: an image must have its b\.pts beside it"),
    "no image": (lambda at: (at / "b.jpg").unlink(), r"afw/b\.pts: must have its image b\.jpg or \.png beside it"),
    "two images": (
        lambda at: Image.fromarray(photograph(SIDE)).save(at / "b.png"),
        r"afw/b\.png: a \.pts must have one image, but b\.jpg is there, too",
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_an_image_and_its_points_are_a_pair(tmp_path: Path, kind: str) -> None:
    spoil, message = PAIRS[kind]
    for name in "ab":
        write(tmp_path, f"afw/{name}")
    spoil(tmp_path / "afw")
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, size=16)
    assert "\n" not in str(error.value)


def test_points_of_a_face_that_the_edge_cuts_are_kept(tmp_path: Path) -> None:
    points = face() + np.array([0, 20])  # the chin is ten pixels below the image
    assert points[8, 1] == 90
    (sample,) = read(write(tmp_path, "afw/1", points), size=SIDE).samples
    np.testing.assert_allclose(sample["landmarks"], points, atol=1e-5)


def test_outside_begins_at_the_edge_of_the_outermost_pixels(tmp_path: Path) -> None:
    box = np.array([[0, 0], [4, 4.0]])  # of 4 pixels: one of them may be outside
    check_near(box - 1.5, (9, 9), tmp_path)
    check_near(box + 5.5, (9, 9, 3), tmp_path)
    for moved in (box - 1.6, box + 5.6, box + np.array([0, 5.6])):
        with pytest.raises(ValueError, match=r"at most 1\.0 pixels"):
            check_near(moved, (9, 9), tmp_path)


def test_the_inner_points_are_the_last_51() -> None:
    points = np.arange(2 * 68 * 2).reshape(2, 68, 2)
    inner = without_jaw(points)
    assert inner.shape == (2, 51, 2)
    np.testing.assert_array_equal(inner[:, [0, 19, 28, 50]], points[:, [17, 36, 45, 67]])
    for shape in ((51, 2), (68, 3), (68,)):
        with pytest.raises(ValueError, match=r"landmarks must be \[\.\.\., 68, 2\], but are"):
            without_jaw(np.zeros(shape))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the 300-W photographs")
def test_real_photographs_show_upright_faces_in_the_frame() -> None:
    reading = read(REAL, size=64, crop="face")
    folders = [name.rpartition("/")[0] for name in reading.names]
    assert {folder: folders.count(folder) for folder in folders} == {
        "afw": 40,
        "helen/testset": 40,
        "helen/trainset": 80,
    }
    for sample in reading.samples:
        landmarks = sample["landmarks"]
        right, left, mouth = landmarks[36:42].mean(0), landmarks[42:48].mean(0), landmarks[48:].mean(0)
        assert right[0] < left[0], sample["id"]  # the subject's right is the image's left
        assert max(right[1], left[1]) < mouth[1], sample["id"]
        assert (without_jaw(landmarks) > 0).all(), sample["id"]
        assert (without_jaw(landmarks) < 63).all(), sample["id"]
    assert len(read(REAL / "helen", size=64, split="train")) == 80
    with pytest.raises(ValueError, match=r"split train must have .* but lfpw/trainset is missing"):
        read(REAL, size=64, split="train")
