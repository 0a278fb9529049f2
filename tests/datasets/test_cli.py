"""`python -m datasets`: packs in, packs out, and mistakes in one line."""

import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from datasets import Pack
from datasets.contact import contact_sheet, overlay, write_png
from datasets.faces import samples
from datasets.generate import generate_faces

from .test_celebamask_hq import label_map, write_map


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "datasets", *map(str, arguments)], capture_output=True, text=True)


def test_pack_verify_and_show(tmp_path):
    for name in "abc":
        write_map(tmp_path / "source", name, label_map())
    out = tmp_path / "packs" / "p"
    done = run("pack", "celebamask_hq", tmp_path / "source", out, "--size", 32, "--rows", "0:2")
    assert (done.returncode, done.stderr) == (0, "")
    pack = Pack.open(out)
    assert len(pack) == 2
    assert pack.manifest.classes[2:4] == ("eye_left", "eye_right")
    assert pack.manifest.source["rows"] == "0:2"
    assert pack.digest[:12] in done.stdout
    assert run("verify", out).returncode == 0
    assert run("show", out, "--out", tmp_path / "sheet.png").returncode == 0
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def test_mistakes_are_one_line_and_status_two(tmp_path, face_pack):
    there = face_pack("there", 2)
    (tmp_path / "empty").mkdir()
    data = tmp_path / "there" / there.manifest.files[0].name
    for arguments in (
        ("verify", tmp_path / "nothing"),
        ("pack", "lapa", tmp_path, tmp_path / "p", "--size", 32),
        ("pack", "celebamask_hq", tmp_path / "empty", tmp_path / "p", "--size", 32),
        ("faces", there.path, "--count", 2, "--size", 32),
        ("faces", tmp_path / "p", "--count", 2, "--size", 32, "--domain", "moon"),
        ("show", there.path, "--out", tmp_path / "no" / "such" / "folder.png"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, arguments
        assert re.fullmatch(r"error: .+\n", done.stderr), done.stderr
        assert not (tmp_path / "p").exists()
    content = bytearray(data.read_bytes())
    content[content.index(there.sample(1)["image"].tobytes())] ^= 1
    data.write_bytes(content)
    done = run("verify", there.path)
    assert re.fullmatch(r"error: .*digest must be.*\n", done.stderr)


def test_faces_are_the_same_for_any_number_of_workers():
    alone = list(samples(20, size=16, domain="street", seed=7))
    spread = list(generate_faces(20, size=16, domain="street", seed=7, workers=2))
    assert len(spread) == 20
    for one, other in zip(alone, spread, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])
    with pytest.raises(ValueError, match="workers >= 1"):
        generate_faces(2, size=16, domain="street", seed=7, workers=0)


def test_a_contact_sheet_shows_images_beside_their_classes(face_pack, tmp_path):
    pack = face_pack("p", 5, size=128)
    sheet = contact_sheet(pack, 4, 2)
    assert sheet.dtype == np.uint8
    rows = [pack.sample(i) for i in (0, 1, 2, 3)]  # 4 of 5, evenly spaced
    np.testing.assert_array_equal(sheet[6:134, 6:134], rows[0]["image"])
    np.testing.assert_array_equal(sheet[6:134, 134:262], overlay(rows[0]["image"], rows[0]["segmentation"]))
    np.testing.assert_array_equal(sheet[140:268, 6:134], rows[2]["image"])
    write_png(tmp_path / "s.png", sheet)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "s.png"))[..., ::-1], sheet)


def test_an_overlay_shows_ignored_pixels_in_white():
    image = np.full((4, 4, 3), 100, np.uint8)
    labels = np.full((4, 4), 255, np.uint8)
    labels[0] = 0
    drawn = overlay(image, labels)
    assert (drawn[1:] == 255).all()
    assert (drawn[0] == 40).all()  # background: the image, darkened
