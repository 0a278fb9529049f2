"""What every format promises, whichever it is: the same checks on a tiny set in each original layout."""

import pickle
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.formats import FORMATS, Reading, read
from datasets.packing import pack_data_set

from . import (
    test_celebamask_hq,
    test_face_api_v2,
    test_face_synthetics,
    test_ibug_300w,
    test_lapa,
    test_matting_formats,
    test_panorama_crops,
)

COUNT = 4


def write_generic(root: Path, k: int) -> None:
    for folder in ("photos", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(test_celebamask_hq.photograph(32)).save(root / "photos" / f"{k}.png")
    Image.fromarray(np.full((32, 32), k, np.uint8)).save(root / "masks" / f"{k}.png")
    (root / "dataset.yaml").write_text('image: "photos/{id}.png"\nsegmentation: "masks/{id}.png"\n')


def write_face_api(root: Path, k: int) -> None:
    from . import test_face_api  # skips what needs tifffile, where that is not installed

    test_face_api.write_scene(root, k)


# Writes sample k of a set, in the layout of the format.
WRITERS: dict[str, Callable[[Path, int], object]] = {
    "aisegment": test_matting_formats.write_aisegment,
    "celebamask_hq": lambda root, k: test_celebamask_hq.write_parts(root, k, test_celebamask_hq.label_map()),
    "face_api": write_face_api,
    "face_api_v2": lambda root, k: test_face_api_v2.write_scene(f"{root}/{k}/"),
    "face_synthetics": lambda root, k: test_face_synthetics.write(root, f"{k:06d}"),
    "fgr_pha": test_matting_formats.write_fgr_pha,
    "generic": write_generic,
    "ibug_300w": lambda root, k: test_ibug_300w.write(root, f"afw/{k}"),
    "lapa": lambda root, k: test_lapa.write(root, f"train/{k}"),
    "panoramas": test_panorama_crops.write,
    "photomatte85": test_matting_formats.write_photomatte85,
}
OPTIONS = {"panoramas": {"crops": 1}}
DTYPES = {
    "image": "uint8",
    "segmentation": "uint8",
    "segments": "uint8",
    "alpha": "uint8",
    "foreground": "uint8",
    "background": "uint8",
    "depth": "float16",
    "normals": "float16",
    "landmarks_visible": "uint8",
}
CHANNELS = {"image": 3, "foreground": 3, "background": 3, "normals": 3}


@pytest.fixture(params=sorted(FORMATS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    for k in range(COUNT):
        WRITERS[request.param](tmp_path / "set", k)
    return request.param, tmp_path / "set"


def reading(opened: tuple[str, Path], size: int = 16, crop: str = "center") -> Reading:
    return read(*opened, size=size, crop=crop, **OPTIONS.get(opened[0], {}))


def test_every_format_is_tested() -> None:
    assert WRITERS.keys() == FORMATS.keys()


def test_names_are_unique_sorted_and_the_same_again(opened: tuple[str, Path]) -> None:
    names = reading(opened).names
    assert len(names) == len(set(names)) == COUNT
    assert list(names) == sorted(names)  # as numbers or as text, which for one digit is the same
    assert names == reading(opened).names == pickle.loads(pickle.dumps(reading(opened))).names


def test_the_order_hangs_on_the_names_alone(opened: tuple[str, Path], tmp_path: Path) -> None:
    for k in reversed(range(COUNT)):
        WRITERS[opened[0]](tmp_path / "reversed", k)
    assert reading((opened[0], tmp_path / "reversed")).names == reading(opened).names


def test_files_are_what_a_sample_is_read_from(opened: tuple[str, Path]) -> None:
    data = reading(opened).data
    seen: set[Path] = set()
    for name in data.names:
        files = data.files(name)
        assert all(path.is_file() for path in files)
        assert not seen & set(files)
        seen |= set(files)


def test_records_keep_to_their_contract(opened: tuple[str, Path]) -> None:
    data, table = reading(opened).data, reading(opened).table
    for name in data.names:
        record = data.record(name)
        assert (record.image.dtype, record.image.shape[2:]) == (np.uint8, (3,))
        shape = record.image.shape[:2]
        assert (record.labels is None) == (table is None)
        if table is not None:
            assert (record.labels.dtype, record.labels.shape) == (np.uint8, shape)
            assert set(np.unique(record.labels).tolist()) <= {*table.ids, 255}
        for picture in record.pictures.values():
            assert (picture.dtype, picture.shape[:2]) == (np.uint8, shape)
        for values in record.maps.values():
            assert values.shape[:2] == shape
        for points in record.points.values():
            assert (points.dtype, points.shape[1:]) == (np.float64, (2,))
            assert np.isfinite(points).all()
        assert all(isinstance(value, str | np.ndarray) for value in record.others.values())


@pytest.mark.parametrize(("size", "crop"), [(8, "center"), (40, "center"), (16, "pad")])
def test_samples_have_the_same_columns_of_the_right_kind(opened: tuple[str, Path], size: int, crop: str) -> None:
    samples = list(reading(opened, size, crop).samples)
    assert [sample["id"] for sample in samples] == list(reading(opened).names)
    for sample in samples:
        assert sample.keys() == samples[0].keys()
        assert sample["image"].shape == (size, size, 3)
        for name, dtype in DTYPES.items():
            if name in sample:
                assert sample[name].dtype == dtype, name
        for name in ("image", "segmentation", "segments", "alpha", "foreground", "background", "depth", "normals"):
            if name in sample:
                assert sample[name].shape == (size, size, *((CHANNELS[name],) if name in CHANNELS else ())), name
        for name in ("landmarks", "landmarks_contour", "pupils"):
            if name in sample:
                assert (sample[name].dtype, sample[name].shape[1:]) == (np.float32, (2,))


def test_crops_and_sizes_are_the_manifests(opened: tuple[str, Path]) -> None:
    facts = reading(opened).source
    assert (facts["format"], facts["size"], facts["crop"]) == (opened[0], 16, "center")
    assert facts["version"] == FORMATS[opened[0]].VERSION


def test_the_same_source_gives_the_same_digest(opened: tuple[str, Path], tmp_path: Path) -> None:
    first, second = (pack_data_set(reading(opened), tmp_path / name) for name in ("first", "second"))
    first.verify()
    assert first.manifest == second.manifest


def test_two_processes_make_the_same_pack(tmp_path: Path) -> None:
    for k in range(COUNT):
        test_matting_formats.write_fgr_pha(tmp_path / "set", k, clean=True)
    opened = ("fgr_pha", tmp_path / "set")
    one, two = (pack_data_set(reading(opened), tmp_path / f"{n}", workers=n, part=2) for n in (1, 2))
    assert one.manifest == two.manifest


def test_a_truncated_image_is_one_line_that_names_it(opened: tuple[str, Path]) -> None:
    data = reading(opened)
    path = data.data.files(data.names[1])[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    data.sample(data.names[0])
    with pytest.raises(ValueError, match=path.name.replace(".", r"\.")) as error:
        data.sample(data.names[1])
    assert "\n" not in str(error.value)
    assert str(path.parent) in str(error.value)


def test_a_folder_without_samples_is_refused_in_one_line(opened: tuple[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(ValueError, match=folder.name) as error:
            read(opened[0], folder, size=16)
        assert "\n" not in str(error.value)


# The files of sample b, in the formats that people have annotated, each of which is spoiled below.
FILES = {
    "celebamask_hq": {"image": "images/b.jpg", "mask": "masks/b.png"},
    "face_synthetics": {"image": "b.png", "mask": "b_seg.png", "points": "b_ldmks.txt"},
    "ibug_300w": {"image": "afw/b.jpg", "points": "afw/b.pts"},
    "lapa": {"image": "train/images/b.jpg", "mask": "train/labels/b.png", "points": "train/landmarks/b.txt"},
}
NAMED: dict[str, Callable[[Path, str], object]] = {
    "celebamask_hq": lambda root, name: test_celebamask_hq.write_map(root, name, test_celebamask_hq.label_map()),
    "face_synthetics": test_face_synthetics.write,
    "ibug_300w": lambda root, name: test_ibug_300w.write(root, f"afw/{name}"),
    "lapa": lambda root, name: test_lapa.write(root, f"train/{name}", points=test_lapa.landmarks()),
}


def shorten(path: Path, size: int = -150) -> None:
    path.write_bytes(path.read_bytes()[:size])


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def picture(pixels: np.ndarray, mode: str | None = None) -> Callable[[Path], object]:
    return lambda path: Image.fromarray(pixels).convert(mode).save(path)


def line(number: int, *content: str) -> Callable[[Path], object]:
    """The line `number`, from 0, replaced, or removed."""

    def spoil(path: Path) -> None:
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:number], *content, *lines[number + 1 :]]))

    return spoil


def points(moved: np.ndarray) -> Callable[[Path], object]:
    return text("".join(f"{x} {y}\n" for x, y in moved))


MISSING, NO_IMAGE = "the file is missing", "not a readable image"
CELEBA, LAPA, RENDERED = test_celebamask_hq.label_map(), test_lapa.face(), test_face_synthetics.label_map()
# Format, the file that is spoiled, how, and what is said of it; or of another file.
BAD: list[tuple[str, str, Callable[[Path], object], str, str]] = [
    *((name, "image", shorten, NO_IMAGE, "image") for name in FILES),
    ("celebamask_hq", "image", text("hello"), NO_IMAGE, "image"),
    ("celebamask_hq", "mask", shorten, NO_IMAGE, "mask"),
    ("ibug_300w", "points", partial(shorten, size=800), r"must (hold 68 points|be a point)", "points"),
    *((name, kind, Path.unlink, MISSING, kind) for name in ("face_synthetics", "lapa") for kind in FILES[name]),
    ("celebamask_hq", "mask", Path.unlink, MISSING, "mask"),
    (
        "celebamask_hq",
        "mask",
        picture(test_celebamask_hq.label_map(48)),
        "a mask must have its image's size or half of it, but got 48x48 for 64x64",
        "mask",
    ),
    ("celebamask_hq", "image", picture(CELEBA[:40]), "a mask must have its image's size .* 64x64 for 64x40", "mask"),
    ("face_synthetics", "mask", picture(RENDERED[:32, :32]), "must be 64x64 as its image, but is 32x32", "mask"),
    ("lapa", "mask", picture(LAPA[:50]), "must be 48x60 as its image, but is 48x50", "mask"),
    ("celebamask_hq", "mask", picture(CELEBA + 1), "classes must be 0 to 18, but got 19", "mask"),
    ("face_synthetics", "mask", picture(np.full_like(RENDERED, 19)), "classes must be 0 to 18, but got 19", "mask"),
    ("lapa", "mask", picture(LAPA + 1), "classes must be 0 to 10, but got 11", "mask"),
    ("celebamask_hq", "mask", picture(CELEBA, "RGB"), "must have one channel or a palette, but has 3 channels", "mask"),
    ("lapa", "mask", picture(LAPA, "RGB"), "must have one channel or a palette, but has 3 channels", "mask"),
    ("lapa", "mask", picture(0 * LAPA), "must show both eyes and the mouth for crop face", "image"),
    ("ibug_300w", "image", picture(np.zeros((75, 80, 3), np.uint8)), "must be square for crop none, .* 80x75", "image"),
    ("face_synthetics", "points", text("5 5\n" * 68), "must hold 70 points, but has 68", "points"),
    ("lapa", "points", text("5 6\n" * 68), "must hold 106 points, but has 68", "points"),
    ("lapa", "points", line(8), "must hold 106 points, but has 105", "points"),
    ("lapa", "points", text("105\n" + "5 6\n" * 105), "must be a point `x y`, but reads '105'", "points"),
    ("face_synthetics", "points", line(3, "nan 1"), "a point must be finite", "points"),
    (
        "lapa",
        "points",
        line(8, "20 95"),
        r"landmarks must be at most .* outside of the image of 48x60, but point 7 is at \(20, 95\)",
        "points",
    ),
    (
        "face_synthetics",
        "points",
        line(40, "20 -40"),
        r"landmarks must be at most .* point 40 is at \(19\.5, -40\.5\)",
        "points",
    ),
    ("face_synthetics", "points", line(69, "150 20"), r".* but point 69 is at \(149\.5, 19\.5\)", "points"),
    (
        "ibug_300w",
        "points",
        line(11, "41 141"),
        r"landmarks must be at most 28\.8 pixels .* of 80x80, but point 8 is at \(40, 140\)",
        "points",
    ),
    ("ibug_300w", "points", line(11, "-59 41"), r".* but point 8 is at \(-60, 40\)", "points"),
    ("ibug_300w", "points", points(test_ibug_300w.face() + 60), "landmarks must be at most", "points"),
]


@pytest.mark.parametrize(("format", "kind", "spoil", "says", "of"), BAD)
def test_a_bad_file_is_named_in_one_line(
    tmp_path: Path, format: str, kind: str, spoil: Callable[[Path], object], says: str, of: str
) -> None:
    for name in "ab":
        NAMED[format](tmp_path, name)
    spoil(tmp_path / FILES[format][kind])
    samples = read(format, tmp_path, size=32, crop="face" if format == "lapa" else "none").samples
    next(samples)  # the good one
    with pytest.raises(ValueError, match=r"must|missing|not a readable") as error:
        next(samples)
    assert re.fullmatch(rf"{re.escape(str(tmp_path / FILES[format][of]))}(:\d+)?: {says}.*", str(error.value))
