"""Panoramas: the folder is read as it should be, and the crop is what a pinhole camera sees."""

import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.panorama import Panorama, Panoramas
from datasets.panorama_files import BRIGHTEST, check_header, read_panorama

ROOT = Path(__file__).resolve().parents[2]
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "hdri"


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def write_hdr(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image[..., ::-1].astype(np.float32))
    return path


@pytest.mark.parametrize(("yaw", "pitch", "fov"), [(0, 0, 60), (180, 0, 45), (-77, 25, 90), (300, -40, 20)])
def test_crop_is_the_ray_formula(yaw: float, pitch: float, fov: float) -> None:
    """As py360convert's `e2p`, in matrices: ray (x, -y, f), Ry(yaw) Rx(pitch), lon = atan2(dx, dz), bilinear at
    half-pixel centres."""
    size, (h, w) = 24, (32, 64)
    pixels = rng(1).uniform(0, 1, (h, w, 3)).astype(np.float32)
    crop = Panorama.of(pixels).crop(yaw, pitch, fov, size)
    a, b = np.radians([yaw, pitch])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.float32
    for i in range(0, size, 5):
        for j in range(0, size, 3):
            focal = 0.5 * size / np.tan(np.radians(fov) / 2)
            ray = about_y @ about_x @ np.array([j + 0.5 - size / 2, size / 2 - i - 0.5, focal])
            u = (np.arctan2(ray[0], ray[2]) / (2 * np.pi) + 0.5) * w - 0.5
            v = np.clip((0.5 - np.arcsin(ray[1] / np.linalg.norm(ray)) / np.pi) * h - 0.5, 0, h - 1)
            left, top = int(np.floor(u)), int(v)
            s, t = u - left, v - top
            bottom = min(top + 1, h - 1)
            rows = [(1 - s) * pixels[y, left % w] + s * pixels[y, (left + 1) % w] for y in (top, bottom)]
            np.testing.assert_allclose(crop[i, j], (1 - t) * rows[0] + t * rows[1], atol=2e-4)


def test_folder_of_every_format(tmp_path: Path) -> None:
    image = np.repeat(rng(3).uniform(0.1, 1, (8, 16, 1)), 3, axis=2).repeat(8, 0).repeat(8, 1).astype(np.float32)
    write_hdr(tmp_path / "b.hdr", image)
    for name in ("a.png", "c.jpg", "d.JPEG"):
        cv2.imwrite(str(tmp_path / name), np.full((32, 64, 3), (0, 128, 255), np.uint8))
    (tmp_path / "LICENSE").write_text("CC0")
    (tmp_path / ".hidden.hdr").write_text("no panorama")
    panoramas = Panoramas(tmp_path)
    assert panoramas.names == ("a.png", "b.hdr", "c.jpg", "d.JPEG")
    np.testing.assert_allclose(panoramas.load("b.hdr").pixels, image, rtol=0.01)
    np.testing.assert_allclose(panoramas.load("a.png").pixels[5, 5], [1, 0.21586, 0], atol=1e-4)  # red, by sRGB's curve
    assert panoramas.load("a.png") is panoramas.load("a.png")
    assert not panoramas.load("a.png").pixels.flags.writeable


def test_large_panoramas_are_reduced_by_averaging(tmp_path: Path) -> None:
    image = rng(4).uniform(0.1, 1, (1024, 2048, 3)).astype(np.float32)
    write_hdr(tmp_path / "large.hdr", image)
    pixels = Panoramas(tmp_path).load("large.hdr").pixels
    assert pixels.shape == (512, 1024, 3)
    np.testing.assert_allclose(pixels, image.reshape(512, 2, 1024, 2, 3).mean((1, 3)), atol=0.004)


def test_bad_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    def refused(folder: Path, match: str) -> None:
        with pytest.raises(ValueError, match=match) as error:
            Panoramas(folder)
        assert "\n" not in str(error.value)

    refused(tmp_path / "none", "must exist, but .*none")
    (tmp_path / "notes.txt").write_text("nothing")
    refused(tmp_path, r"must hold .*\.hdr.* files, but .* has none")
    write_hdr(tmp_path / "square.hdr", np.ones((16, 16, 3)))
    refused(tmp_path, "twice as wide as high, but .*square.hdr is 16x16")
    (tmp_path / "square.hdr").unlink()
    for name, content in {"a.hdr": b"no header", "b.jpg": b"\xff\xd8\xff", "c.exr": b"text", "d.hdr": b""}.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path, f"must be readable, but .*{name} is not")
        (tmp_path / name).unlink()


def test_what_only_decoding_shows_is_refused_when_met(tmp_path: Path) -> None:
    whole = write_hdr(tmp_path / "cut.hdr", rng(0).uniform(0, 1, (64, 128, 3)))
    whole.write_bytes(whole.read_bytes()[:2000])
    write_hdr(tmp_path / "night.hdr", np.zeros((16, 32, 3)))
    panoramas = Panoramas(tmp_path)
    with pytest.raises(ValueError, match=r"must be readable, but .*cut.hdr is not .OpenCV cannot decode it"):
        panoramas.load("cut.hdr")
    with pytest.raises(ValueError, match=r"must hold light, but .*night.hdr is black"):
        panoramas.load("night.hdr")
    with pytest.raises(ValueError, match=r"must be one of cut.hdr, night.hdr .* 'noon.hdr'"):
        panoramas.load("noon.hdr")


def refused(path: Path, match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        read_panorama(path, 1024)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".hdr", ".jpg", ".png"])
def test_a_file_that_breaks_off_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    """OpenCV makes up the rest of a JPEG."""
    path = tmp_path / f"cut{suffix}"
    assert cv2.imwrite(
        str(path), rng(0).uniform(0, 255, (64, 128, 3)).astype(np.float32 if suffix == ".hdr" else "uint8")
    )
    assert read_panorama(path, 1024).shape == (64, 128, 3)
    whole = path.read_bytes()
    for end in (1, 40, len(whole) // 2, len(whole) - 200, len(whole)):
        path.write_bytes(whole[:-end])
        refused(path, "must be readable, but")


def test_huge_files_are_refused_by_their_headers(tmp_path: Path) -> None:
    (tmp_path / "a.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 100000 +X 200000\n")
    refused(tmp_path / "a.hdr", "must be at most 16384 pixels wide, but .* is 200000x100000: reduce it")
    png = Image.new("L", (2, 1))
    png.save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") + (30000).to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    refused(tmp_path / "a.png", "must be readable, but .*a.png is not .*decompression bomb")


def test_a_picture_is_judged_as_it_stands_upright(tmp_path: Path) -> None:
    pixels = rng(6).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels, 2))).save(tmp_path / "a.jpg", exif=exif, quality=100)
    Image.fromarray(pixels).save(tmp_path / "plain.jpg", quality=100)
    upright, plain = (read_panorama(tmp_path / name, 1024) for name in ("a.jpg", "plain.jpg"))
    assert np.abs(upright - plain).mean() < 0.02
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    refused(tmp_path / "a.jpg", "twice as wide as high, but .*a.jpg is 32x64: remove it")


def test_a_picture_of_16_bits_keeps_them(tmp_path: Path) -> None:
    pixels = rng(7).integers(0, 65536, (8, 16, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    x = pixels / 65535
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(read_panorama(tmp_path / "a.png", 1024), linear, atol=1e-6)


def write_exr(path: Path, **channels: np.ndarray) -> Path:
    OpenEXR = pytest.importorskip("OpenEXR")
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {name: np.ascontiguousarray(plane) for name, plane in channels.items()}) as file:
        file.write(str(path))
    return path


def test_exr_files_are_read_and_what_cannot_be_light_is_refused(tmp_path: Path) -> None:
    pixels = rng(8).uniform(0, 9, (16, 32, 3)).astype(np.float32)
    path = tmp_path / "a.exr"

    def write(pixels: np.ndarray) -> Path:
        return write_exr(path, **{"R": pixels[..., 0], "G": pixels[..., 1], "B": pixels[..., 2], "A": pixels[..., 0]})

    np.testing.assert_array_equal(read_panorama(write(pixels), 1024), pixels)
    np.testing.assert_allclose(read_panorama(write(pixels.astype(np.float16)), 1024), pixels, rtol=1e-3)
    np.testing.assert_array_equal(read_panorama(write_exr(path, Y=pixels[..., 1]), 1024), pixels[..., [1, 1, 1]])
    for value, says in (
        (-0.5, r"0 and more, but a value of .* is negative \(-0\.5\)"),
        (np.nan, "is not a number: mend"),
    ):
        wrong = pixels.copy()
        wrong[3, 5, 1] = value
        refused(write(wrong), says)
    wrong[3, 5, 1] = np.inf  # a sun
    assert read_panorama(write(wrong), 1024)[3, 5, 1] == BRIGHTEST
    refused(write(pixels[:, :30]), "twice as wide as high, but .* is 30x16")
    refused(
        write_exr(path, R=pixels[..., 0], G=pixels[..., 1]), "must have the channels R, G and B, or Y, but has G, R"
    )
    write(pixels)
    path.write_bytes(path.read_bytes()[:-200])
    refused(path, "must be readable, but")


def test_exr_files_without_their_package_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.exr").write_bytes(b"\x76\x2f\x31\x01" + b"\0" * 40)
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(ValueError, match=r"a.exr is not \(it needs OpenEXR, which is not installed: pip install .*\)"):
        check_header(tmp_path / "a.exr")


def test_exposure_brings_the_log_average_to_a_mid_grey() -> None:
    assert Panorama.of(np.full((64, 128, 3), 0.7, np.float32)).exposure == pytest.approx(0.18 / 0.7, rel=1e-3)


def test_the_crop_s_sides_join_across_the_panorama_s_seam() -> None:
    """Brightness that depends on the longitude alone and is smooth at the seam is as smooth in a crop of the seam."""
    wave = 1 + np.cos(2 * np.pi * (np.arange(256) + 0.5) / 256)
    pixels = np.repeat(np.broadcast_to(wave[None, :, None], (128, 256, 1)), 3, axis=2).astype(np.float32)
    panorama = Panorama.of(pixels)
    crop, opposite = panorama.crop(180, 0, 40, 64)[..., 0], panorama.crop(0, 0, 40, 64)[..., 0]
    np.testing.assert_allclose(crop, 2 - opposite, atol=2e-4)
    assert np.abs(np.diff(crop, axis=1)).max() < 0.02


def test_width_says_how_far_panoramas_are_reduced(tmp_path: Path) -> None:
    write_hdr(tmp_path / "a.hdr", rng(5).uniform(0.1, 1, (32, 64, 3)))
    assert Panoramas(tmp_path, 16).load("a.hdr").pixels.shape == (8, 16, 3)
    assert Panoramas(tmp_path).load("a.hdr").pixels.shape == (32, 64, 3)
    with pytest.raises(ValueError, match=r"^the width of panoramas must be even and at least 2, but got 7$"):
        Panoramas(tmp_path, 7)


def test_neither_numba_nor_torch_is_needed() -> None:
    code = (
        "import sys\n"
        "sys.modules['numba'] = sys.modules['anny'] = sys.modules['pymatting'] = None\n"
        "import datasets.panorama, datasets.compositing, datasets.mattes\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real panoramas of shared/data/hdri")
def test_real_panoramas_are_read() -> None:
    panoramas = Panoramas(REAL)
    assert len(panoramas.names) == 5
    for name in panoramas.names:
        panorama = panoramas.load(name)
        assert panorama.pixels.shape == (512, 1024, 3)
        crop = panorama.crop(90, 0, 60, 32) * panorama.exposure
        assert np.isfinite(crop).all()
        assert 0.005 < np.median(crop) < 10
