"""Composites: the formula, exactly; the same for the same seed anywhere; backgrounds relit and captured."""

import colorsys
import hashlib
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets import Domain, DomainRows, Loader, LoaderProcesses, Mix, Pack, Source, write_pack
from datasets.compositing import COLUMNS, Backgrounds, Compositor, composite
from datasets.panorama import Panoramas, tone_map
from datasets.relighting import capture, jitter, move, relight

ROOT = Path(__file__).resolve().parents[2]
SIZE = 48


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def picture(seed: int, size: int = SIZE) -> np.ndarray:
    coarse = rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def person(seed: int = 0, size: int = SIZE) -> dict[str, np.ndarray | str]:
    """A disc with a soft edge."""
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    alpha = np.clip((size / 3 - np.hypot(x, y)) / 4 + 0.5, 0, 1)
    return {
        "id": f"p{seed}",
        "alpha": np.rint(255 * alpha).astype(np.uint8),
        "foreground": picture(seed + 100, size),
    }


def write_sources(folder: Path) -> tuple[Path, Path]:
    """A pack of three pictures and a folder of two panoramas."""
    write_pack(folder / "pack", ({"id": str(i), "image": picture(i, 64)} for i in range(3)), source={"format": "test"})
    (folder / "sky").mkdir()
    for name in ("a.hdr", "b.hdr"):
        cv2.imwrite(str(folder / "sky" / name), rng(ord(name[0])).uniform(0.05, 3, (32, 64, 3)).astype(np.float32))
    return folder / "pack", folder / "sky"


def both(pack: Path, sky: Path) -> Compositor:
    return Compositor((Backgrounds("rooms", Pack.open(pack)), Backgrounds("sky", Panoramas(sky))))


@pytest.fixture
def compositor(tmp_path: Path) -> Compositor:
    return both(*write_sources(tmp_path))


def digest(made: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(name.encode() + made[name].tobytes() for name in sorted(made))).hexdigest()


def test_a_composite_is_the_formula_rounded_and_exact_at_both_ends() -> None:
    f, b = (rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8) for i in (1, 2))
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = composite(f, alpha, b)
    a = alpha[..., None] / 255
    np.testing.assert_array_equal(made, np.floor(a * f + (1 - a) * b + 0.5 - 1e-9).astype(np.uint8))
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made[0, 0], b[0, 0])
    np.testing.assert_array_equal(made[15, 15], f[15, 15])
    white = np.full((16, 16, 3), 255, np.uint8)
    np.testing.assert_array_equal(composite(white, alpha, white), white)  # and nothing overflows


def test_composites_keep_the_sample_and_show_what_is_not_covered(compositor: Compositor) -> None:
    sample = person()
    for seed in range(6):
        made = compositor(sample, seed)
        assert {name: (array.dtype, array.shape) for name, array in made.items()} == {
            "src": (np.uint8, (SIZE, SIZE, 3)),
            "bgr": (np.uint8, (SIZE, SIZE, 3)),
            "alpha": (np.uint8, (SIZE, SIZE)),
            "foreground": (np.uint8, (SIZE, SIZE, 3)),
        }
        for name in ("alpha", "foreground"):
            np.testing.assert_array_equal(made[name], sample[name])
        covered, clear = sample["alpha"] == 255, sample["alpha"] == 0
        np.testing.assert_array_equal(made["src"][covered], made["foreground"][covered])
        # Where nobody stands both are photographs of one place.
        src, bgr = made["src"][clear].astype(float), made["bgr"][clear].astype(float)
        assert np.corrcoef(src.mean(-1), bgr.mean(-1))[0, 1] > 0.5
        assert (src != bgr).any()
        # What is behind the person is the background that a composite of nobody shows.
        nobody = compositor(sample | {"alpha": np.zeros((SIZE, SIZE), np.uint8)}, seed)
        np.testing.assert_array_equal(composite(made["foreground"], made["alpha"], nobody["src"]), made["src"])
        np.testing.assert_array_equal(nobody["bgr"], made["bgr"])


def test_every_seed_has_a_background_of_its_own_from_every_source(tmp_path: Path) -> None:
    pack, sky = write_sources(tmp_path)
    sample, seeds = person() | {"alpha": np.zeros((SIZE, SIZE), np.uint8)}, [*range(60), 2**64 - 1]
    made = [both(pack, sky)(sample, seed)["src"].tobytes() for seed in seeds]
    assert len(set(made)) == len(seeds)
    for source in (Pack.open(pack), Panoramas(sky)):  # the same draws from one source alone, so what it gives is known
        one = Compositor((Backgrounds("one", source),))
        assert len({one(sample, seed)["src"].tobytes() for seed in seeds}) == len(seeds)


def test_both_sources_are_drawn_about_equally_often(tmp_path: Path) -> None:
    for name, value in (("dark", 10), ("light", 240)):
        image = np.full((16, 16, 3), value, np.uint8)
        rows = 1 if name == "dark" else 9
        write_pack(tmp_path / name, ({"image": image} for _ in range(rows)), source={})
    made = Compositor(tuple(Backgrounds(n, Pack.open(tmp_path / n)) for n in ("dark", "light")))
    sample = person(size=16) | {"alpha": np.zeros((16, 16), np.uint8)}
    light = sum(made(sample, seed)["src"].mean() > 100 for seed in range(200))
    assert 75 <= light <= 125  # three and a half standard deviations of a fair coin


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    pack, sky = write_sources(tmp_path)
    here = both(pack, sky)
    path = tmp_path / "compositor.pickle"
    path.write_bytes(pickle.dumps((here, person())))
    code = (
        "import hashlib, pickle, sys\n"
        "compositor, sample = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for made in [compositor(sample, s) for s in (7, 3, 2**64 - 1)] + [compositor.fixed(sample, 1)]:\n"
        "    data = b''.join(n.encode() + made[n].tobytes() for n in sorted(made))\n"
        "    print(hashlib.sha256(data).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True)
    expected = [digest(here(person(), s)) for s in (7, 3, 2**64 - 1)] + [digest(here.fixed(person(), 1))]
    assert done.stdout.split() == expected, done.stderr


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_loader_composes_with_fresh_backgrounds_every_epoch(tmp_path: Path, num_workers: int) -> None:
    people = {f"p{i}": person(i) for i in range(6)}
    source = Source([write_pack(tmp_path / "people", people.values(), source={"format": "test"})])
    compositor = both(*write_sources(tmp_path))
    mix = Mix(3, 0, [DomainRows(Domain.REAL, source.digest, np.arange(6))])
    loader = Loader({Domain.REAL: source}, mix, compositor, COLUMNS)
    seen: dict[bytes, list[bytes]] = {}
    processes = LoaderProcesses(num_workers) if num_workers else None
    for step, batch in enumerate(loader.batches(0, 6, processes)):  # three epochs of two batches
        draws = mix.batch(step)
        for k, (row, seed) in enumerate(zip(draws.row, draws.seed, strict=True)):
            made = {name: batch[name][k].numpy() for name in ("src", "bgr", "alpha", "foreground")}
            assert digest(made) == digest(compositor(people[f"p{row}"], int(seed)))
            seen.setdefault(made["foreground"].tobytes(), []).append(made["src"].tobytes())
    assert [len(made) for made in seen.values()] == [3] * 6
    assert len({src for made in seen.values() for src in made}) == 18


def test_no_global_generator_is_drawn_from(compositor: Compositor) -> None:
    first = digest(compositor(person(), 5))
    np.random.seed(1)  # noqa: NPY002
    cv2.setRNGSeed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]  # noqa: NPY002
    assert digest(compositor(person(), 5)) == first
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]  # noqa: NPY002


def test_fixed_composites_are_those_of_seed_and_sample_and_not_of_training(compositor: Compositor) -> None:
    """People who differ in one byte stand before other backgrounds; the same one, under another id, does not."""
    sample = person() | {"id": "one"}
    others = [dict(sample) for _ in range(4)]
    for k, other in enumerate(others):
        other["alpha"] = sample["alpha"].copy()  # type: ignore[union-attr]
        other["alpha"][0, k] = 1  # type: ignore[index]
    made = {(seed, k): compositor.fixed(one, seed) for seed in range(3) for k, one in enumerate([sample, *others])}
    assert len({one["bgr"].tobytes() for one in made.values()}) == 15
    assert digest(made[1, 0]) == digest(compositor.fixed(sample | {"id": "other"}, 1))
    trained = {digest(compositor(sample, seed)) for seed in range(20)}
    assert not trained & {digest(one) for one in made.values()}


def test_of_a_pack_with_people_the_clean_backgrounds_are_taken(tmp_path: Path) -> None:
    image, background = np.full((32, 32, 3), 250, np.uint8), np.full((32, 32, 3), 40, np.uint8)
    pack = write_pack(tmp_path / "p", [{"image": image, "background": background}], source={})
    drawn = Backgrounds("p", pack).draw(SIZE, rng(0))
    np.testing.assert_array_equal(drawn, np.full((SIZE, SIZE, 3), 40, np.uint8))


def test_a_pack_s_background_is_a_window_of_one_of_its_pictures(tmp_path: Path) -> None:
    """Every pixel's colour is its place, so that the window can be read off."""
    x = np.broadcast_to(np.arange(64, dtype=np.uint8) * 2, (64, 64))
    pack = write_pack(tmp_path / "p", [{"image": np.stack([x, x.T, x], axis=-1)}], source={})
    mirrored = 0
    for seed in range(30):
        drawn = Backgrounds("p", pack).draw(64, rng(seed)).astype(float)
        right, down = drawn[:, -1, 0].mean() - drawn[:, 0, 0].mean(), drawn[-1, :, 1].mean() - drawn[0, :, 1].mean()
        assert down == pytest.approx(abs(right), abs=1)  # square, and never upside down
        assert 60 <= down <= 126
        mirrored += right < 0
    assert 5 < mirrored < 25


def test_tone_mapping_is_the_published_curve_to_the_byte() -> None:
    """Reinhard et al. 2002, eq. 4, with white 4, then IEC 61966-2-1, written out."""
    linear = np.geomspace(1e-4, 50, 3000, dtype=np.float32).reshape(10, 100, 3)
    made = tone_map(linear, 0.5)
    for value, byte in zip(linear.ravel().tolist(), made.ravel().tolist(), strict=True):
        x = 0.5 * value
        y = min(1.0, x * (1 + x / 16) / (1 + x)) if x < 4 else 1.0
        expected = 12.92 * y if y <= 0.0031308 else 1.055 * y ** (1 / 2.4) - 0.055
        assert abs(255 * expected - byte) < 0.5 + 0.11  # the table's steps are a tenth of a byte in the darks
    assert (np.diff(made.ravel().astype(int)) >= 0).all()
    assert made.max() == 255


def test_jitter_is_its_formula_pixel_by_pixel() -> None:
    image = rng(4).integers(0, 256, (12, 12, 3), dtype=np.uint8)

    def luma(c: np.ndarray) -> np.ndarray:
        return c @ np.array([0.299, 0.587, 0.114])

    x = np.clip(image / 255 * 1.1, 0, 1)
    mean = luma(x).mean()
    x = np.clip(mean + (x - mean) * 0.9, 0, 1)
    x = np.clip(luma(x)[..., None] + (x - luma(x)[..., None]) * 1.15, 0, 1)
    for i in range(12):
        for j in range(12):
            h, s, v = colorsys.rgb_to_hsv(*x[i, j])
            x[i, j] = colorsys.hsv_to_rgb((h + 0.07) % 1, s, v)
    assert np.abs(jitter(image, 1.1, 0.9, 1.15, 0.07) - 255 * x).max() < 1
    np.testing.assert_allclose(jitter(image, 1, 1, 1, 0).astype(int), image, atol=1)


def test_motion_turns_about_the_middle_and_shifts_without_a_black_margin() -> None:
    image = np.full((101, 101, 3), 200, np.uint8)
    assert (move(image, 1, 0.01, -0.01) == 200).all()
    image[50, 50] = 0
    moved = move(image, 0, 0.02, -0.03).astype(float)
    y, x = np.argwhere(moved[..., 0] < 150).mean(0)
    assert (x, y) == pytest.approx((52, 47), abs=0.5)  # 2.02 to the right, 3.03 up
    np.testing.assert_array_equal(move(image, 0, 0, 0), image)
    turned = np.full((101, 101, 3), 200, np.uint8)
    turned[50, 95] = 0
    y, x = np.argwhere(move(turned, 10, 0, 0)[..., 0] < 190).mean(0)
    assert (x, y) == pytest.approx((50 + 45 * np.cos(np.radians(10)), 50 - 45 * np.sin(np.radians(10))), abs=0.7)


@pytest.mark.parametrize("make", [relight, capture])
def test_light_changes_smoothly_within_its_ranges(make: Callable[..., np.ndarray]) -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    made = np.stack([make(grey, rng(seed)) for seed in range(60)]).astype(float)
    assert len({image.tobytes() for image in made}) == 60
    assert np.abs(np.diff(made, axis=1)).max() <= 4  # grey stays free of edges
    means = made.mean((1, 2, 3))
    assert means.min() > (40 if make is relight else 85)
    assert means.std() > (15 if make is relight else 5)
    warmth = np.log2(made[..., 0].mean((1, 2)) / made[..., 2].mean((1, 2)))
    assert (warmth > 0).any()
    assert (warmth < 0).any()
    assert np.abs(warmth).max() < 0.31
    if make is relight:
        np.testing.assert_array_equal(relight(grey, rng(0), 0.0), grey)


def refused(match: str, call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(ValueError, match=match) as error:
        call(*arguments)
    assert "\n" not in str(error.value)


def test_bad_samples_are_named_in_one_line(compositor: Compositor) -> None:
    good = person()
    assert isinstance(good["alpha"], np.ndarray)
    refused(r"^p0: must have foreground and alpha, but has id, alpha$", compositor, {"id": "p0", "alpha": 1}, 0)
    refused(r"^p0: alpha must be uint8 .* float64", compositor, good | {"alpha": good["alpha"] / 255}, 0)
    refused(
        r"^p0: alpha must be uint8 and square, \[40, 40\], but is uint8 \[40, 48\]",
        compositor,
        good | {"alpha": good["alpha"][:40]},
        0,
    )
    refused(
        r"^p0: foreground must .* \[48, 48, 3\], but is uint8 \[48, 48\]",
        compositor,
        good | {"foreground": good["alpha"]},
        0,
    )
    refused(r"^`0 <= seed < 2\*\*64` must hold, but got -1$", compositor, good, -1)
    refused(r"^`seed >= 0` must hold, but got -1$", compositor.fixed, good, -1)


def test_bad_sources_are_named_in_one_line(tmp_path: Path) -> None:
    none = write_pack(tmp_path / "none", [{"alpha": np.zeros((8, 8), np.uint8)}], source={})
    refused(rf"^{re.escape(none.path)}: backgrounds must be .* but got has alpha$", Backgrounds, "a", none)
    oblong = write_pack(tmp_path / "oblong", [{"image": np.zeros((8, 9, 3), np.uint8)}], source={})
    refused(r"oblong: backgrounds must be .* but got image uint8\[8, 9, 3\]$", Backgrounds, "a", oblong)
    refused(r"must have distinct names and not be none, but got \[\]$", Compositor, ())
    good = Backgrounds("a", write_pack(tmp_path / "good", [{"image": picture(0)}], source={}))
    refused(r"distinct names .* but got \['a', 'a'\]$", Compositor, (good, good))


def test_the_digest_is_of_what_composites_hang_on_and_not_of_names(tmp_path: Path) -> None:
    pack, sky = write_sources(tmp_path)
    facts = [source.facts for source in both(pack, sky).backgrounds]
    assert facts[0] == {"digest": Pack.open(pack).digest, "column": "image"}
    assert list(facts[1]["panoramas"]) == ["a.hdr", "b.hdr"]
    one, other = (Compositor((Backgrounds(name, Pack.open(pack)),)) for name in ("rooms", "others"))
    assert one.digest == other.digest != both(pack, sky).digest
    assert Compositor.over([Pack.open(pack)]).digest == one.digest
