"""`python -m datasets`: packs in, packs out, and mistakes in one line."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from datasets import Pack, generate, write_pack
from datasets.contact import HIDDEN, POINT, contact_sheet, overlay, write_png
from datasets.formats import face_api
from datasets.generate import COLUMNS, FaceSet, generate_faces, parse_columns
from datasets.processes import WorkerError

from .conftest import NINE, faces
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
    assert re.fullmatch(r"error: .*image of sample 1 is not what was written.*\n", done.stderr)


def test_faces_writes_the_columns_asked_for_and_says_how_they_were_made(tmp_path, command_line):
    population = tmp_path / "mine.yaml"
    population.write_text("base: street\nidentity:\n  freckles_percent: 100\n")
    faces = ("faces", tmp_path / "p", "--count", 3, "--size", 32, "--seed", 5, "--domain", population)
    assert command_line(*faces, "--columns", "landmarks, image", "--workers", 2)[::2] == (0, "")
    pack = Pack.open(tmp_path / "p")
    assert pack.columns == ("id", "image", "landmarks")
    assert pack.manifest.classes is None
    few = [pack.sample(i) for i in range(3)]
    source = {"format": "faces", "count": 3, "size": 32, "seed": 5, "domain": str(population), "panoramas": []}
    assert pack.manifest.source.items() >= source.items()
    code, _, error = command_line(*faces)
    assert (code, error) == (
        2,
        f"error: {tmp_path / 'p'}: exists; choose another path or pass overwrite (--overwrite)\n",
    )
    assert command_line(*faces, "--overwrite")[::2] == (0, "")
    whole = Pack.open(tmp_path / "p")
    assert whole.columns == COLUMNS
    assert whole.manifest.classes == NINE
    for i in range(3):
        for name in ("image", "landmarks"):
            np.testing.assert_array_equal(whole.sample(i)[name], few[i][name])


def test_a_folder_of_panoramas_lights_the_faces(tmp_path, command_line):
    folder = tmp_path / "panoramas"
    folder.mkdir()
    cv2.imwrite(str(folder / "noon.hdr"), np.full((32, 64, 3), 0.5, np.float32))
    options = ("--count", 6, "--size", 32, "--panoramas", folder, "--columns", "metadata")
    assert command_line("faces", tmp_path / "p", *options)[::2] == (0, "")
    pack = Pack.open(tmp_path / "p")
    assert pack.manifest.source["panoramas"] == ["noon.hdr"]
    light = [json.loads(pack.sample(i)["metadata"])["light"]["environment"] for i in range(6)]
    assert set(light) == {"noon.hdr", "procedural"}  # studio's panoramas light 70 percent


MISTAKES = {
    "negative count": (("--count", -3), r"`count >= 1` must hold, but got -3"),
    "small": (("--size", 8), r"`size` must be 16 to 1024 pixels, but got 8"),
    "large": (("--size", 4096), r"`size` must be 16 to 1024 pixels, but got 4096"),
    "seed": (("--seed", -1), r"`seed >= 0` must hold, but got -1"),
    "workers": (("--workers", 0), r"`workers >= 1` must hold, but got 0"),
    "domain": (("--domain", "moon"), r"unknown population 'moon'; known here: .*studio.*"),
    "no file": (("--domain", "moon.yaml"), r"moon.yaml: the population's file must exist, but there is none"),
    "percent": (("--domain", "{}/over.yaml"), r".*over.yaml: .*100.*"),
    "distribution": (("--domain", "{}/unknown.yaml"), r".*unknown.yaml: .*frekles_percent.*"),
    "no folder": (("--panoramas", "{}/none"), r".*panoramas must exist, but .*none is none.*"),
    "no panorama": (("--panoramas", "{}/empty"), r".*panoramas must hold .* files, but .*empty has none"),
    "no picture": (("--panoramas", "{}/text"), r"a panorama must be readable, but .*a.hdr is not .*"),
    "layout": (("--layout", "coco"), r"layout must be pack or face-api, but got 'coco'"),
    "column": (("--columns", "image,picture"), r"columns must be of .*, but got 'picture'"),
    "no column": (("--columns", ","), r"columns must be of .*, but got none"),
    "columns of the layout": (
        ("--layout", "face-api", "--columns", "image"),
        r"columns must be left out with layout face-api, which has its own, but got 'image'",
    ),
    "there": (("--layout", "face-api"), r".*p: exists and is not a Face API folder .*; choose another path", "p/file"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_faces_that_cannot_be_made_are_one_line_and_leave_nothing(tmp_path, command_line, kind):
    options, message, *there = MISTAKES[kind]
    for name in ("empty", "text", *(os.path.dirname(name) for name in there)):
        (tmp_path / name).mkdir()
    for name in there:
        (tmp_path / name).write_text("mine")
    (tmp_path / "text/a.hdr").write_text("hello")
    groups = "  groups:\n" + "".join(f"    - {{percent: {p}, intensity: [0, 1]}}\n" for p in (70, 60))
    (tmp_path / "over.yaml").write_text(f"base: studio\nexpression:\n{groups}")
    (tmp_path / "unknown.yaml").write_text("base: studio\nidentity:\n  frekles_percent: 10\n")
    before = sorted(tmp_path.rglob("*"))
    options = [str(option).format(tmp_path) for option in options]
    given = {"--count": "2", "--size": "32"} | dict(zip(options[::2], options[1::2], strict=True))
    code, out, error = command_line("faces", tmp_path / "p", *(word for pair in given.items() for word in pair))
    assert (code, out) == (2, "")
    assert re.fullmatch(f"error: {message}\n", error), error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_panorama_that_breaks_off_ends_a_parallel_run_in_one_line(tmp_path):
    folder = tmp_path / "panoramas"
    folder.mkdir()
    (folder / "short.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 32 +X 64\n")
    done = run("faces", tmp_path / "p", "--count", 9, "--size", 32, "--panoramas", folder, "--workers", 2)
    assert done.returncode == 2
    assert re.fullmatch(r"error: a panorama must be readable, but .*short.hdr.*\n", done.stderr), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["panoramas"]


@pytest.mark.parametrize("package", ["anny", "numba"])
def test_packages_of_the_renderer_that_are_absent_are_named(tmp_path, command_line, monkeypatch, package):
    monkeypatch.setattr(generate, "find_spec", lambda name: None if name == package else True)
    code, _, error = command_line("faces", tmp_path / "p", "--count", 2, "--size", 32)
    assert code == 2
    assert re.fullmatch(rf"error: .* need {package}, which is not installed: pip install .*\n", error)


def test_packages_of_the_face_api_that_are_absent_are_named(tmp_path, command_line, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(face_api, "import_module", absent)
    code, _, error = command_line("faces", tmp_path / "p", "--count", 2, "--size", 32, "--layout", "face-api")
    assert code == 2
    assert re.fullmatch(r"error: .* need imagecodecs, which is not installed: pip install .*\n", error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [("--workers", 1), ("--workers", 2), ("--workers", 2, "--layout", "face-api")])
def test_ctrl_c_is_silent_and_leaves_neither_files_nor_processes(tmp_path, options):
    arguments = ("faces", tmp_path / "out" / "p", "--count", 100_000, "--size", 32, *options)
    command = [sys.executable, "-m", "datasets", *map(str, arguments)]
    group = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # as a shell would: the terminal's signal reaches every process
    try:
        wait_until(
            lambda: group.poll() is not None or ((tmp_path / "out").is_dir() and any((tmp_path / "out").iterdir()))
        )
        time.sleep(0.5)  # processes are starting
        os.killpg(group.pid, signal.SIGINT)
        assert group.communicate(timeout=60) == ("", "")
        assert group.returncode == 130
        assert list((tmp_path / "out").iterdir()) == []
        wait_until(lambda: not alive(group.pid))
    finally:
        if alive(group.pid):
            os.killpg(group.pid, signal.SIGKILL)


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_that_is_killed_is_an_error_and_ends_the_others():
    rows = generate_faces(FaceSet(100_000, 32, columns=("image",)), workers=2)
    next(rows)
    first, second = multiprocessing.active_children()
    first.kill()
    with pytest.raises(WorkerError, match=r"the process of face \d+ ended early with exit code -9"):
        list(rows)
    assert not first.is_alive()
    assert not second.is_alive()


def test_columns_are_a_list_with_commas():
    assert parse_columns(None) == COLUMNS
    assert parse_columns("image, depth") == ("image", "depth")


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


def layered(**columns):
    """Samples of 8 px with an image of one grey and what is given beside it."""
    return [{"image": np.full((8, 8, 3), 100, np.uint8), "id": str(i), **columns} for i in range(2)]


def test_a_sheet_shows_the_layers_asked_for(tmp_path, command_line):
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:4] = 255
    points = np.full((68, 2), 2.0, np.float32)
    points[1:, 0] = 6
    visible = np.zeros(68, np.uint8)
    visible[0] = 1
    samples = layered(
        alpha=alpha,
        segments=np.full((8, 8), 12, np.uint8),
        landmarks=points + 100,
        landmarks_contour=points,
        landmarks_visible=visible,
    )
    pack = write_pack(tmp_path / "p", samples, source={})
    sheet = contact_sheet(pack, 1, 1, ("alpha", "points", "image", "segments"))
    cells = [sheet[6 : 6 + 128, 6 + 128 * k : 6 + 128 * (k + 1)] for k in range(4)]
    np.testing.assert_array_equal(cells[0], np.kron(alpha, np.ones((16, 16), np.uint8))[..., None].repeat(3, 2))
    assert tuple(cells[1][40, 40]) == POINT  # pixel 2 is 16 times as wide: its centre is at 39.5
    assert tuple(cells[1][40, 104]) == HIDDEN
    assert (cells[1][:36] == 100).all()
    assert (cells[2] == 100).all()
    assert (cells[3] == overlay(samples[0]["image"], samples[0]["segments"])[0, 0]).all()
    out = tmp_path / "sheet.png"
    assert command_line("show", pack.path, "--layers", "points,alpha", "--out", out) == (0, f"{out}\n", "")
    assert cv2.imread(str(out)) is not None


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("image,classes", r".*: layer classes needs column segmentation; this pack has id, image"),
        ("points", r".*: layer points needs column landmarks_contour or landmarks; this pack has id, image"),
        ("alpha", r".*: layer alpha needs column alpha; this pack has id, image"),
        ("segments", r".*: layer segments needs column segments; this pack has id, image"),
        ("depth", r"layers must be of image, classes, points, alpha, segments, but got 'depth'"),
        (",", r"layers must be of image, classes, points, alpha, segments, but got ''"),
    ],
)
def test_a_layer_that_a_pack_lacks_is_one_line(tmp_path, command_line, layers, message):
    rows = [{"id": row["id"], "image": row["image"]} for row in faces(2)]
    pack = write_pack(tmp_path / "p", rows, source={})
    code, _, error = command_line("show", pack.path, "--layers", layers, "--out", tmp_path / "sheet.png")
    assert code == 2
    assert re.fullmatch(f"error: {message}\n", error), error
    assert command_line("show", pack.path, "--out", tmp_path / "sheet.png")[0] == 0  # its images alone


def test_an_overlay_shows_ignored_pixels_in_white():
    image = np.full((4, 4, 3), 100, np.uint8)
    labels = np.full((4, 4), 255, np.uint8)
    labels[0] = 0
    drawn = overlay(image, labels)
    assert (drawn[1:] == 255).all()
    assert (drawn[0] == 40).all()  # background: the image, darkened
