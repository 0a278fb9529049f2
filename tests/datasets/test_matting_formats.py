"""AISegment, PhotoMatte85 and fgr/pha, written here as their releases are, and real mattes."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.formats import read

REAL = Path(__file__).parents[3] / "shared" / "data" / "matting" / "rgba"
H, W = 24, 16


def colour(seed: int) -> np.ndarray:
    """Smooth, so that JPEG keeps it."""
    y, x = np.mgrid[:H, :W]
    return np.stack([8 * y + seed, 12 * x, np.full_like(x, 90 + seed)], axis=2).astype(np.uint8)


def matte() -> np.ndarray:
    """0 in the left quarter, 255 in the right one, a ramp between."""
    ramp = np.clip((np.arange(W) - 3) * 28, 0, 255)
    return np.tile(ramp, (H, 1)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def rgba(seed: int) -> np.ndarray:
    return np.dstack([colour(seed), matte()])


def write_aisegment(root: Path, k: int) -> None:
    group, part, name = "1803151818", "00000000", f"1803151818-0000000{k}"
    save(root / "clip_img" / group / f"clip_{part}" / f"{name}.jpg", colour(k), quality=98)
    cut = rgba(k)
    cut[matte() < 128, :3] = 0  # its own colours are not to be used
    save(root / "matting" / group / f"matting_{part}" / f"{name}.png", cut)


def write_photomatte85(root: Path, k: int) -> None:
    save(root / f"{k}.png", rgba(k))


def write_fgr_pha(root: Path, k: int, *, clean: bool = False) -> None:
    save(root / "fgr" / "clip" / f"{k:04d}.png", colour(k))
    save(root / "pha" / "clip" / f"{k:04d}.jpg", matte(), quality=100)
    if clean:
        save(root / "src" / "clip" / f"{k:04d}.png", colour(k) // 2)
        save(root / "bgr" / "clip" / f"{k:04d}.png", 255 - colour(k))


def only(format: str, root: Path, **options):
    (sample,) = read(format, root, **{"size": H, "crop": "pad", **options}).samples
    return sample


def padded(pixels: np.ndarray) -> np.ndarray:
    """In the middle of a square of H, on 0."""
    out = np.zeros((H, H, *pixels.shape[2:]), pixels.dtype)
    out[:, (H - W) // 2 : (H + W) // 2] = pixels
    return out


def test_aisegment_takes_colour_from_the_photograph_and_alpha_from_the_matte(tmp_path: Path) -> None:
    write_aisegment(tmp_path, 1)
    sample = only("aisegment", tmp_path)
    assert sample["id"] == "1803151818/00000000/1803151818-00000001"
    assert set(sample) == {"id", "image", "alpha"}
    np.testing.assert_array_equal(sample["alpha"], padded(matte()))
    assert np.abs(sample["image"].astype(int) - padded(colour(1))).max() <= 8


def test_aisegment_passes_over_what_another_system_left(tmp_path: Path) -> None:
    write_aisegment(tmp_path, 1)
    photograph = next((tmp_path / "clip_img").rglob("*.jpg"))
    (photograph.parent / f"._{photograph.name}").write_bytes(b"\0\5\x16\7")
    junk = tmp_path / "matting" / "1803201916" / "._matting_00000000"
    junk.mkdir(parents=True)
    (junk / "a.png").write_bytes(b"\0")
    hidden = tmp_path / "clip_img" / "__MACOSX" / "clip_0"
    hidden.mkdir(parents=True)
    (hidden / "a.jpg").write_bytes(b"\0")
    assert len(read("aisegment", tmp_path, size=8)) == 1


def test_an_aisegment_photograph_without_its_matte_is_a_bad_sample(tmp_path: Path) -> None:
    write_aisegment(tmp_path, 1)
    write_aisegment(tmp_path, 2)
    gone = next((tmp_path / "matting").rglob("*2.png"))
    gone.unlink()
    first, second = read("aisegment", tmp_path, size=8, crop="center").names
    reading = read("aisegment", tmp_path, size=8, crop="center")
    reading.sample(first)
    with pytest.raises(ValueError, match=r"1803151818-00000002\.png: the file is missing"):
        reading.sample(second)
    save(gone, colour(0))
    with pytest.raises(ValueError, match=r"must be RGBA, whose alpha is the matte, but is a picture of mode RGB"):
        reading.sample(second)
    save(gone, rgba(0)[:-1])
    with pytest.raises(ValueError, match=r"must be 16x24 as its image, but is 16x23"):
        reading.sample(second)


def test_photomatte85_keeps_colour_where_alpha_is_low(tmp_path: Path) -> None:
    write_photomatte85(tmp_path, 7)
    sample = only("photomatte85", tmp_path)
    assert set(sample) == {"id", "image", "alpha", "foreground"}
    np.testing.assert_array_equal(sample["alpha"], padded(matte()))
    np.testing.assert_array_equal(sample["foreground"], padded(colour(7)))
    np.testing.assert_array_equal(sample["image"], sample["foreground"])


@pytest.mark.parametrize(
    ("pixels", "says"),
    [(colour(0), "must be RGBA, whose alpha is the matte, but is a picture of mode RGB"), (matte(), "mode L")],
)
def test_a_photomatte_without_alpha_is_bad(tmp_path: Path, pixels: np.ndarray, says: str) -> None:
    save(tmp_path / "a.png", pixels)
    with pytest.raises(ValueError, match=rf"a\.png: .*{says}"):
        only("photomatte85", tmp_path)


def test_four_channels_that_are_no_alpha_are_refused(tmp_path: Path) -> None:
    Image.fromarray(colour(0)).convert("CMYK").save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(
        ValueError, match=r"a\.png: must be RGBA, whose alpha is the matte, but is a picture of mode CMYK"
    ):
        only("photomatte85", tmp_path)


@pytest.mark.parametrize("outside", [0, 255])
def test_what_alpha_leaves_out_does_not_colour_the_edge_at_another_size(tmp_path: Path, outside: int) -> None:
    inside, alpha = np.full((32, 32, 3), 200, np.uint8), np.zeros((32, 32), np.uint8)
    alpha[:, 5:21] = 255  # on no border of the smaller pixels
    inside[alpha == 0] = outside
    save(tmp_path / "a.png", np.dstack([inside, alpha]))
    for size in (8, 12, 48):
        sample = only("photomatte85", tmp_path, size=size)
        assert ((sample["alpha"] > 0) & (sample["alpha"] < 255)).any()
        np.testing.assert_array_equal(sample["foreground"][sample["alpha"] > 0], 200)
        np.testing.assert_array_equal(sample["foreground"][:, -1], outside)


def test_a_small_composite_is_the_composite_made_small(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(5))
    foreground = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    save(tmp_path / "a.png", np.dstack([foreground, alpha]))
    sample = only("photomatte85", tmp_path, size=8)
    share = alpha[..., None] / 255
    whole = (share * foreground + (1 - share) * 90).reshape(8, 4, 8, 4, 3).mean((1, 3))
    small = sample["alpha"][..., None] / 255
    assert np.abs(small * sample["foreground"] + (1 - small) * 90 - whole).max() < 1.1  # the rounding of both


def test_folders_of_fgr_and_pha_may_be_links(tmp_path: Path) -> None:
    write_fgr_pha(tmp_path / "away", 1)
    for kind in ("fgr", "pha"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        (tmp_path / "set" / kind / "linked").symlink_to(tmp_path / "away" / kind / "clip")
    assert read("fgr_pha", tmp_path / "set", size=8).names == ("linked/0001",)


def test_fgr_and_pha_are_a_foreground_and_its_alpha(tmp_path: Path) -> None:
    write_fgr_pha(tmp_path, 3)
    sample = only("fgr_pha", tmp_path)
    assert sample["id"] == "clip/0003"
    assert set(sample) == {"id", "image", "alpha", "foreground"}
    np.testing.assert_array_equal(sample["image"], padded(colour(3)))
    assert np.abs(sample["alpha"].astype(int) - padded(matte())).max() <= 2
    save(tmp_path / "pha" / "clip" / "0003.jpg", np.dstack([matte()] * 3), quality=100)
    assert np.abs(only("fgr_pha", tmp_path)["alpha"].astype(int) - padded(matte())).max() <= 2
    save(tmp_path / "pha" / "clip" / "0003.jpg", colour(0))
    with pytest.raises(ValueError, match="must have one channel or transparency, but is a picture of mode RGB"):
        only("fgr_pha", tmp_path)


def test_sets_for_testing_have_composite_and_background(tmp_path: Path) -> None:
    write_fgr_pha(tmp_path, 3, clean=True)
    sample = only("fgr_pha", tmp_path)
    np.testing.assert_array_equal(sample["image"], padded(colour(3) // 2))
    np.testing.assert_array_equal(sample["background"], padded(255 - colour(3)))
    np.testing.assert_array_equal(sample["foreground"], padded(colour(3)))
    save(tmp_path / "bgr" / "clip" / "0003.png", colour(3)[1:])
    with pytest.raises(ValueError, match=r"bgr/clip/0003\.png: must be 16x24 as its foreground, but is 16x23"):
        only("fgr_pha", tmp_path)
    (tmp_path / "bgr").rename(tmp_path / "other")
    with pytest.raises(ValueError, match="must have src/ and bgr/ or neither, but has src/ alone"):
        read("fgr_pha", tmp_path, size=8)


# The file of the colour, and that of the matte, of sample 3 of each format.
FILES = {
    "aisegment": (
        "clip_img/1803151818/clip_00000000/1803151818-00000003.jpg",
        "matting/1803151818/matting_00000000/1803151818-00000003.png",
    ),
    "fgr_pha": ("fgr/clip/0003.png", "pha/clip/0003.jpg"),
    "photomatte85": ("3.png", "3.png"),
}
WRITERS = {"aisegment": write_aisegment, "fgr_pha": write_fgr_pha, "photomatte85": write_photomatte85}


def turned(pixels: np.ndarray, path: Path, orientation: int = 6) -> None:
    """Stored as a camera on its side does it: upright once its rows have become columns."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(np.rot90(pixels, 1 if orientation == 6 else 2))
    Image.fromarray(stored).save(path, exif=exif, **({"quality": 98} if path.suffix == ".jpg" else {}))


@pytest.mark.parametrize("format", FILES)
def test_a_turned_photograph_is_upright_and_its_matte_lies_on_it(tmp_path: Path, format: str) -> None:
    WRITERS[format](tmp_path, 3)
    plain = only(format, tmp_path)
    picture, mask = (tmp_path / file for file in FILES[format])
    for orientation in (3, 6):
        turned(rgba(3) if format == "photomatte85" else colour(3), picture, orientation)
        sample = only(format, tmp_path)
        assert np.abs(sample["image"].astype(int) - plain["image"]).max() <= 8
        np.testing.assert_array_equal(sample["alpha"], plain["alpha"])
    if format == "aisegment":  # the matte may be turned, too, as may the photograph alone
        turned(rgba(3), mask)
        np.testing.assert_array_equal(only(format, tmp_path)["alpha"], plain["alpha"])


@pytest.mark.parametrize("format", ["aisegment", "fgr_pha"])
def test_a_matte_of_a_turned_photograph_as_it_is_stored_is_bad(tmp_path: Path, format: str) -> None:
    WRITERS[format](tmp_path, 3)
    picture, mask = (tmp_path / file for file in FILES[format])
    turned(colour(3), picture)
    save(mask, np.ascontiguousarray(np.rot90(rgba(3) if format == "aisegment" else matte())))
    says = r"000+3\.\w+: must be 16x24 as its image, but is 24x16; one of the two is turned: give both the same EXIF"
    with pytest.raises(ValueError, match=says):
        only(format, tmp_path)


@pytest.mark.parametrize("format", FILES)
def test_16_bits_are_the_upper_8(tmp_path: Path, format: str) -> None:
    WRITERS[format](tmp_path, 3)
    picture, mask = (tmp_path / file for file in FILES[format])
    low = np.random.Generator(np.random.Philox(3)).integers(0, 256, (H, W, 4), dtype=np.uint16)
    deep = rgba(3).astype(np.uint16) * 256 + low
    if format == "fgr_pha":
        mask.unlink()
        cv2.imwrite(str(picture), deep[..., 2::-1])
        Image.fromarray(deep[..., 3]).save(mask.with_suffix(".png"))
    else:
        cv2.imwrite(str(mask), deep[..., [2, 1, 0, 3]])
    sample = only(format, tmp_path)
    np.testing.assert_array_equal(sample["alpha"], padded(matte()))
    if format != "aisegment":
        np.testing.assert_array_equal(sample["foreground"], padded(colour(3)))
    else:
        save(picture, colour(3)[..., 0])  # and a grey photograph
        grey = np.array(Image.open(picture)).astype(np.uint16) * 256 + low[..., 0]
        Image.fromarray(grey).save(picture, format="PNG")
        np.testing.assert_array_equal(only(format, tmp_path)["image"][..., 1], padded((grey >> 8).astype(np.uint8)))


def test_transparency_of_a_photograph_is_no_matte(tmp_path: Path) -> None:
    write_aisegment(tmp_path / "a", 3)
    write_fgr_pha(tmp_path / "f", 3)
    Image.fromarray(np.dstack([colour(3), 255 - matte()])).save(tmp_path / "a" / FILES["aisegment"][0], format="PNG")
    save(tmp_path / "f" / FILES["fgr_pha"][0], np.dstack([colour(3), 255 - matte()]))
    for format, root in (("aisegment", "a"), ("fgr_pha", "f")):
        sample = only(format, tmp_path / root)
        np.testing.assert_array_equal(sample["image"], padded(colour(3)))
        assert np.abs(sample["alpha"].astype(int) - padded(matte())).max() <= 2


def test_a_matte_may_be_transparency_or_grey(tmp_path: Path) -> None:
    write_fgr_pha(tmp_path, 3)
    mask = (tmp_path / FILES["fgr_pha"][1]).with_suffix(".png")
    mask.with_suffix(".jpg").unlink()
    grey, opaque = np.dstack([matte()] * 3), np.full((H, W), 255, np.uint8)
    palette = Image.fromarray(matte(), "P")
    palette.putpalette([level for level in range(256) for _ in range(3)])
    for stored in (
        Image.fromarray(rgba(3)),
        Image.fromarray(np.dstack([colour(3)[..., 0], matte()])),
        Image.fromarray(grey),
        Image.fromarray(np.dstack([grey, opaque])),  # a picture of the matte, saved with a channel that says nothing
        Image.fromarray(np.dstack([matte(), opaque])),
        palette,
    ):
        stored.save(mask)
        np.testing.assert_array_equal(only("fgr_pha", tmp_path)["alpha"], padded(matte()))
    save(mask, np.dstack([colour(3), opaque]))
    with pytest.raises(
        ValueError, match=r"0003\.png: must have one channel or .* is a picture of mode RGBA without any"
    ):
        only("fgr_pha", tmp_path)


def test_grey_and_palette_cutouts_have_colour(tmp_path: Path) -> None:
    grey = colour(0)[..., 0]
    save(tmp_path / "a.png", np.dstack([grey, matte()]))
    sample = only("photomatte85", tmp_path)
    np.testing.assert_array_equal(sample["foreground"], padded(np.dstack([grey] * 3)))
    np.testing.assert_array_equal(sample["alpha"], padded(matte()))
    whole = rgba(0)
    whole[..., 3] = 255 * (matte() > 127)
    Image.fromarray(whole).quantize(256).save(tmp_path / "a.png")
    sample = only("photomatte85", tmp_path)
    np.testing.assert_array_equal(sample["alpha"], padded(whole[..., 3]))


def test_splits_of_fgr_and_pha_are_folders(tmp_path: Path) -> None:
    write_fgr_pha(tmp_path / "train", 1)
    write_fgr_pha(tmp_path / "valid", 2)
    names = partial(read, "fgr_pha", tmp_path, size=8)
    assert names(split="train").names == ("train/clip/0001",)
    assert names(split="val").names == ("valid/clip/0002",)
    assert names().names == ("train/clip/0001", "valid/clip/0002")
    assert names().source["splits"] == ["train", "valid"]
    np.testing.assert_array_equal(
        next(names(crop="pad").samples)["image"], only("fgr_pha", tmp_path, split="train", size=8)["image"]
    )
    with pytest.raises(ValueError, match="split test must have the folder test, but has none"):
        names(split="test")
    (tmp_path / "train" / "pha" / "clip" / "0001.jpg").unlink()
    with pytest.raises(ValueError, match=r"train/pha/clip/0001\.png: the file is missing"):
        next(names().samples)


def test_splits_that_cannot_be_one_set_are_refused(tmp_path: Path) -> None:
    names = partial(read, "fgr_pha", tmp_path, size=8)
    write_fgr_pha(tmp_path / "train", 1)
    write_fgr_pha(tmp_path / "test", 1, clean=True)
    with pytest.raises(ValueError, match=r"train: must have src/ and bgr/, as .*/test has; read the splits one by one"):
        names()
    assert len(names(split="test")) == len(names(split="train")) == 1
    for folder in ("valid", "val"):
        (tmp_path / folder / "fgr").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"must have valid/ or val/, but has both; remove one"):
        names(split="val")
    (tmp_path / "val" / "fgr").rmdir()
    (tmp_path / "val").rmdir()
    with pytest.raises(ValueError, match=r"valid/pha: the folder is missing"):
        names()
    write_fgr_pha(tmp_path, 1)
    with pytest.raises(
        ValueError, match=r"must have fgr/ and pha/ or splits, but has train, valid, test too; give one"
    ):
        names()


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write_fgr_pha(tmp_path, 3)
    save(tmp_path / "fgr" / "clip" / "0003.jpg", colour(3))
    with pytest.raises(ValueError, match=r"0003\.png: must be the only file of its name, but 0003\.jpg is there too"):
        read("fgr_pha", tmp_path, size=8)


def test_a_face_cannot_be_cut_where_none_is_known(tmp_path: Path) -> None:
    write_photomatte85(tmp_path, 7)
    with pytest.raises(ValueError, match=r"7\.png: must show both eyes and the mouth for crop face"):
        only("photomatte85", tmp_path, crop="face")
    with pytest.raises(ValueError, match=r"7\.png: must be square for crop none, but is 16x24; use crop center"):
        only("photomatte85", tmp_path, crop="none")


def test_real_mattes_have_their_colour_unmultiplied() -> None:
    if not REAL.is_dir():
        pytest.skip(f"needs RGBA photographs at {REAL}")
    for sample in read("photomatte85", REAL, size=256, crop="pad").samples:
        between = (sample["alpha"] > 20) & (sample["alpha"] < 235)
        brightest = sample["foreground"].max(2)
        assert between.mean() > 0.005
        assert (brightest[between] > sample["alpha"][between] + 2).mean() > 0.4
