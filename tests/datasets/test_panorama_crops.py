"""Crops of panoramas as a data set: where they look, that each hangs on its own file alone, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datasets import Pack
from datasets.compositing import Backgrounds
from datasets.formats import read
from datasets.formats.panoramas import view
from datasets.formats.record import resize_image
from datasets.packing import pack_data_set
from datasets.panorama import Panoramas

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "hdri"


def write(root: Path, k: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    light = np.random.Generator(np.random.Philox(k)).uniform(0.1, 2, (32, 64, 3)).astype(np.float32)
    assert cv2.imwrite(str(root / f"{k}.hdr"), light)


def images(root: Path, **options: Any) -> dict[str, np.ndarray]:
    return {sample["id"]: sample["image"] for sample in read("panoramas", root, size=24, **options).samples}


def test_a_crop_is_the_panorama_s_picture_at_its_own_fineness(tmp_path: Path) -> None:
    write(tmp_path, 0)
    panorama = Panoramas(tmp_path).load("0.hdr")
    got = images(tmp_path, crops=5, crops_seed=3)
    assert list(got) == [f"0.hdr/{k:04d}" for k in range(5)]
    for k in range(5):
        yaw, pitch, fov, stops = view("0.hdr", k, 3)
        side = round(2 * np.tan(np.radians(fov) / 2) * 64 / (2 * np.pi))  # a pixel in the middle is one of the panorama
        expected = resize_image(panorama.picture(yaw, pitch, fov, stops, side), 24)
        np.testing.assert_array_equal(got[f"0.hdr/{k:04d}"], expected)


def test_neither_other_panoramas_nor_more_crops_change_a_crop(tmp_path: Path) -> None:
    write(tmp_path, 1)
    few = images(tmp_path, crops=3)
    write(tmp_path, 0)
    many = images(tmp_path, crops=6)
    assert list(few) == ["1.hdr/0000", "1.hdr/0001", "1.hdr/0002"]
    assert len(many) == 12
    for name, image in few.items():
        np.testing.assert_array_equal(many[name], image)
    other = images(tmp_path, crops=6, crops_seed=1)
    assert all((other[name] != image).any() for name, image in many.items())


@pytest.mark.parametrize("count", [2, 5, 8, 24])
def test_views_go_round_and_stay_in_their_ranges(count: int) -> None:
    views = np.array([view("sky.hdr", k, 0) for k in range(count)])
    yaws = np.sort(views[:, 0])
    gaps = np.diff(np.append(yaws, yaws[0] + 360))
    assert gaps.max() <= 2 * 360 / count  # of the golden ratio's steps: at most 1.9 times the mean
    for column, (low, high) in enumerate([(0, 360), (-15, 15), (40, 90), (-1, 1)]):
        assert (views[:, column] >= low).all()
        assert (views[:, column] <= high).all()
        assert len(np.unique(views[:, column])) == count
    assert (views[:, 0] != np.array([view("sea.hdr", k, 0) for k in range(count)])[:, 0]).all()


def test_they_become_a_pack_of_backgrounds(tmp_path: Path) -> None:
    for k in range(2):
        write(tmp_path / "set", k)
    reading = read("panoramas", tmp_path / "set", size=24, crops=3)
    one, two = (pack_data_set(reading, tmp_path / f"{n}", workers=n, part=2) for n in (1, 2))
    assert one.manifest == two.manifest
    assert one.columns == ("id", "image")
    assert one.manifest.source.items() >= {"format": "panoramas", "crops": 3, "crops_seed": 0, "width": 4096}.items()
    drawn = Backgrounds("rooms", one).draw(16, np.random.Generator(np.random.Philox(0)))
    assert (drawn.dtype, drawn.shape) == (np.uint8, (16, 16, 3))


def test_what_is_no_panorama_is_listed_once(tmp_path: Path, command_line: Callable[..., Any]) -> None:
    root = tmp_path / "set"
    for k in range(2):
        write(root, k)
    (root / "1.hdr").write_bytes((root / "1.hdr").read_bytes()[:-50])
    cv2.imwrite(str(root / "night.hdr"), np.zeros((8, 16, 3), np.float32))
    cv2.imwrite(str(root / "square.png"), np.full((16, 16, 3), 9, np.uint8))
    (root / "huge.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9000 +X 18000\n")
    pack = ("pack", "panoramas", root, tmp_path / "p", "--size", 16, "--crops", 2)
    code, out, error = command_line(*pack)
    assert (code, out) == (2, "")
    head, *lines = error.splitlines()
    assert head == "error: 8 of 10 samples cannot be packed; mend them, or leave them out with --skip-bad"
    reasons = {
        "1.hdr": r"a panorama must be readable, but {} is not \(OpenCV cannot decode it\): replace or remove it",
        "huge.hdr": r"a panorama must be at most 16384 pixels wide, but {} is 18000x9000: reduce it",
        "night.hdr": r"a panorama must hold light, but {} is black: remove it from the folder",
        "square.png": r"a panorama must be twice as wide as high, but {} is 16x16: remove it",
    }
    for (name, says), line in zip(reasons.items(), lines, strict=True):
        assert re.fullmatch("  " + says.format(re.escape(str(root / name))), line)
    code, _, error = command_line(*pack, "--skip-bad")
    assert (code, error.count("skipped: a panorama must")) == (0, 4)
    assert len(Pack.open(tmp_path / "p").manifest.source["skipped"]) == 8
    assert [Pack.open(tmp_path / "p").sample(i)["id"] for i in range(2)] == ["0.hdr/0000", "0.hdr/0001"]


def test_mistakes_are_one_line(tmp_path: Path, command_line: Callable[..., Any]) -> None:
    write(tmp_path / "set", 0)

    def refused(match: str, *options: Any, format: str = "panoramas") -> None:
        code, _, error = command_line("pack", format, tmp_path / "set", tmp_path / "p", "--size", 16, *options)
        assert code == 2
        assert re.fullmatch(f"error: {match}\n", error), error

    refused(r"`1 <= crops <= 10000` must hold, but got 0", "--crops", 0)
    refused(r"`crops_seed >= 0` must hold, but got -1", "--crops-seed", -1)
    refused(r"split must be left out, as a folder of panoramas has none, but got 'val'; use folders", "--split", "val")
    refused(r".*set: labels must be left out, since this data has no classes", "--labels", "lapa")
    refused(r"crops must be left out, since nothing is cut from .* lapa, but got 4", "--crops", 4, format="lapa")
    refused(r"1 of 1 samples cannot .*\n.*0\.hdr: must show both eyes .*", "--crops", 1, "--crop", "face")


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real panoramas of shared/data/hdri")
def test_real_panoramas_give_pictures_that_are_neither_dark_nor_burnt() -> None:
    found = read("panoramas", REAL, size=128, crops=4)
    assert len(found) == 20
    means = [sample["image"].mean() for sample in found.samples]
    assert 60 < np.median(means) < 180
    assert min(means) > 15
    assert max(means) < 245
