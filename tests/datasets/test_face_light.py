"""Light, panoramas and backdrops of the embedded faces: harmonics, crop and key are one environment."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.faces.backdrop import backdrop
from datasets.faces.harmonics import directions, evaluate, project, rotate, solid_angles
from datasets.faces.light import environment_at, illuminate, procedural, sh_irradiance
from datasets.faces.panorama import light_of
from datasets.faces.person import Background, Light
from datasets.panorama import Panorama, Panoramas

ROOT = Path(__file__).resolve().parents[2]
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "hdri"
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
SUN = Light("procedural", 0.0, 0.0, 1.0, (0.6, 0.5, 0.6), (1.0, 0.9, 0.7), 0.8, 2.0, 3)
BEHIND = Background("clutter", 0.0, ((0.4, 0.3, 0.2), (0.2, 0.4, 0.5)), 0.0, 11)
KINDS = ("plain", "gradient", "blurred", "clutter", "panorama")


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def normals(count: int = 300, seed: int = 5) -> np.ndarray:
    vectors = rng(seed).standard_normal((count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def smooth_environment(seed: int) -> np.ndarray:
    """Random blobs of light, float32 [64, 128, 3]."""
    image = np.full((64, 128, 3), 0.2)
    for centre, color in zip(normals(6, seed), rng(seed).uniform(0, 3, (6, 3)), strict=True):
        image += np.exp(8 * (directions(64, 128) @ centre - 1))[..., None] * color
    return image.astype(np.float32)


def integrate(environment: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Irradiance [n, 3] by the definition: radiance times cosine, summed over the sphere."""
    h, w = environment.shape[:2]
    cosines = np.maximum(towards @ directions(h, w).reshape(-1, 3).T, 0) * solid_angles(h, w).ravel()
    return cosines @ environment.reshape(-1, 3).astype(np.float64)


def spot(longitude: float, latitude: float, radius: float = 3.0, radiance: float = 400.0) -> np.ndarray:
    """Grey 0.2 with one bright disc, float32 [256, 512, 3]; the place in degrees of the panorama."""
    lon, lat = np.radians(longitude), np.radians(latitude)
    at = np.array([np.cos(lat) * np.sin(lon), np.sin(lat), -np.cos(lat) * np.cos(lon)])
    image = np.full((256, 512, 3), 0.2, np.float32)
    image[directions(256, 512) @ at > np.cos(np.radians(radius))] = radiance * np.array([1, 0.8, 0.5])
    return image


def write_hdr(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image[..., ::-1].astype(np.float32))
    return path


def test_solid_angles_cover_the_sphere() -> None:
    assert solid_angles(16, 32).sum() == pytest.approx(4 * np.pi, rel=1e-12)


@pytest.mark.parametrize("height", [16, 128])
def test_constant_light_gives_pi_times_its_radiance_everywhere(height: int) -> None:
    sh = project(np.broadcast_to(np.array([0.5, 1.0, 2.0], np.float32), (height, 2 * height, 3)))
    expected = np.broadcast_to(np.pi * np.array([0.5, 1, 2]), (300, 3))
    np.testing.assert_allclose(evaluate(sh, normals()), expected, rtol=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_harmonics_are_the_integral_within_a_few_percent(seed: int) -> None:
    """Order 2 keeps 99% of the energy of irradiance (Ramamoorthi & Hanrahan 2001)."""
    environment = smooth_environment(seed)
    exact = integrate(environment, normals())
    error = np.abs(evaluate(project(environment), normals()) - exact) / exact.mean()
    assert error.mean() < 0.02
    assert error.max() < 0.08


@pytest.mark.parametrize("turn", [90.0, -45.0, 213.75])
def test_turned_harmonics_are_those_of_the_turned_picture(turn: float) -> None:
    environment = smooth_environment(9)
    rolled = np.roll(environment, -round(turn / 360 * 128), axis=1)
    np.testing.assert_allclose(rotate(project(environment), turn), project(rolled), atol=2e-4)


def test_compiled_lookups_say_the_same() -> None:
    environment = smooth_environment(2)
    sh = project(environment)
    small = cv2.resize(environment, (32, 16), interpolation=cv2.INTER_AREA)
    for normal, expected in zip(normals(50), evaluate(sh, normals(50)), strict=True):
        np.testing.assert_allclose(sh_irradiance(sh, *normal), expected, rtol=1e-4, atol=1e-5)
    for i, j in [(0, 0), (3, 7), (8, 31), (15, 16)]:
        x, y, z = 2.5 * directions(16, 32)[i, j]
        np.testing.assert_allclose(environment_at(small, x, y, z), small[i, j], rtol=1e-4)
    seam = environment_at(small, 0.0, 0.0, 1.0)  # the sides join at +z, the rows 7 and 8 at the horizon
    np.testing.assert_allclose(seam, small[7:9][:, [0, 31]].mean((0, 1)), rtol=1e-4)


@pytest.mark.parametrize("turn", [0.0, 30.0, -110.0, 200.0])
@pytest.mark.parametrize(("longitude", "latitude"), [(12.0, 8.0), (75.0, 40.0), (-160.0, -20.0), (179.0, 2.0)])
def test_key_harmonics_and_crop_agree(longitude: float, latitude: float, turn: float) -> None:
    image = spot(longitude, latitude)
    panorama = Panorama.of(image)
    light = light_of(panorama)
    direction, irradiance, softness = light.key(turn)
    lon, lat = np.radians(longitude - turn), np.radians(latitude)
    expected = np.array([np.cos(lat) * np.sin(lon), np.sin(lat), -np.cos(lat) * np.cos(lon)])
    assert np.degrees(np.arccos(np.clip(direction @ expected, -1, 1))) < 0.5
    assert softness == pytest.approx(3, abs=1)

    # The key is the spot, all of it, and is not in the harmonics nor in what is mirrored.
    bright = solid_angles(256, 512)[image[..., 0] > 1].sum() * (400 * np.array([1, 0.8, 0.5]) - 0.2)
    np.testing.assert_allclose(irradiance, bright, rtol=0.02)
    np.testing.assert_allclose(evaluate(light.irradiance(turn), normals()), 0.2 * np.pi, rtol=0.03)
    np.testing.assert_allclose(light.environment(turn), 0.2, rtol=0.2)  # the spot is cut by luminance: tinted

    # A camera that looks at the light (from where it stands, turned on) has the spot in its middle.
    ahead = np.degrees(np.arctan2(direction[0], -direction[2]))
    crop = panorama.crop(turn + ahead, np.degrees(np.arcsin(direction[1])), 30, 65)
    y, x = np.argwhere(crop[..., 0] > 200).mean(0)
    assert (x, y) == pytest.approx((32, 32), abs=1)


def test_light_from_the_right_of_the_crop_comes_from_behind_right() -> None:
    panorama = Panorama.of(spot(15, 0, 5))
    crop = panorama.crop(0, 0, 60, 64)[..., 0]
    assert crop[:, 32:].sum() > 5 * crop[:, :32].sum()
    x, _, z = light_of(panorama).key().direction
    assert x > 0.2
    assert z < -0.9


@pytest.mark.parametrize("turn", [0.0, 140.0])
def test_key_and_harmonics_sum_to_the_whole_light(turn: float) -> None:
    image = smooth_environment(4)
    image[20:22, 90:92] += 300
    light = light_of(Panorama.of(image))
    key = light.key(turn)
    towards = normals()
    total = evaluate(light.irradiance(turn), towards) + np.maximum(towards @ key.direction, 0)[:, None] * key[1]
    rolled = np.roll(image, -round(turn / 360 * 128), axis=1)
    exact = integrate(rolled, towards)
    assert np.abs(total - exact).mean() < 0.03 * exact.mean()


def test_even_light_has_no_key() -> None:
    assert light_of(Panorama.of(np.full((64, 128, 3), 0.7, np.float32))).key().irradiance.max() < 1e-5


def test_light_of_a_panorama_wants_a_folder() -> None:
    with pytest.raises(ValueError, match=r"light from 'x.hdr' needs a folder"):
        illuminate(replace(SUN, environment="x.hdr"), None)
    with pytest.raises(ValueError, match="must give light, but ambient is 0"):
        illuminate(replace(SUN, ambient=0.0, key=(0.0, 0.0, 0.0)), None)


def facing(lit, normal=(0.0, 0.0, 1.0)) -> float:  # type: ignore[no-untyped-def]
    """Luminance of matte grey 0.35."""
    total = evaluate(lit.sh, np.array(normal)) + max(0.0, float(np.dot(normal, lit.direction))) * lit.key
    return float(0.35 / np.pi * total @ LUMINANCE)


@pytest.mark.parametrize("key", [0.0, 0.5, 3.0])
def test_exposure_brings_a_face_to_a_mid_tone(key: float) -> None:
    values = []
    for seed in range(40):
        away = normals(1, seed)[0] * [1, 1, 0] + [0, 0.3, 0.7]
        lit = illuminate(replace(SUN, seed=seed, direction=tuple(away), key=(key, key, key), turn=9.0 * seed), None)
        values.append(facing(lit))
    assert 0.15 < np.median(values) < 0.35
    assert min(values) > 0.06
    assert max(values) < 0.7


def test_stops_double_the_light_and_backlight_is_darker() -> None:
    one, two = illuminate(SUN, None), illuminate(replace(SUN, exposure=1.0), None)
    for name in ("sh", "key", "environment", "gain"):
        np.testing.assert_allclose(2 * getattr(one, name), getattr(two, name), rtol=1e-5)
    from_behind = illuminate(replace(SUN, direction=(0.0, 0.2, -1.0), key=(8.0, 8.0, 8.0)), None)
    assert 0.03 < facing(from_behind) < 0.8 * facing(one)
    assert facing(from_behind, (0, 0.2, -0.98)) > 2 * facing(from_behind)


def test_ambient_weighs_the_environment_against_the_key() -> None:
    dim, full = illuminate(replace(SUN, ambient=0.25), None), illuminate(SUN, None)
    ratio = (dim.sh[0] / dim.key) / (full.sh[0] / full.key)
    np.testing.assert_allclose(ratio, 0.25, rtol=1e-4)


def test_procedural_environments_vary_and_have_one_strength() -> None:
    several = np.stack([procedural(replace(SUN, seed=seed)) for seed in range(60)])
    assert several.shape == (60, 16, 32, 3)
    assert (several >= 0).all()
    mean = np.einsum("nhwc,hw,c->n", several, solid_angles(16, 32) / (4 * np.pi), LUMINANCE)
    np.testing.assert_allclose(np.pi * mean, 1, rtol=0.01)
    assert len({image.tobytes() for image in several}) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_backdrops_are_linear_light_of_one_layout_at_every_size(kind: str) -> None:
    behind = replace(BEHIND, kind=kind)
    large, small = (backdrop(behind, SUN, None, size, 40) for size in (256, 64))
    assert large.shape == (256, 256, 3)
    assert large.dtype == np.float32
    assert np.isfinite(large).all()
    assert large.min() >= 0
    reduced = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced - small).mean() < 0.15 * small.mean()


def test_clutter_is_rich_in_edges_and_blur_takes_them() -> None:
    def edges(behind: Background) -> float:
        grey = np.sqrt(backdrop(behind, SUN, None, 128, 40)) @ LUMINANCE
        return float(np.hypot(*np.gradient(grey / grey.mean())).mean())

    by_kind = {k: np.mean([edges(replace(BEHIND, kind=k, seed=s)) for s in range(12)]) for k in KINDS[:4]}
    assert by_kind["clutter"] > 1.7 * by_kind["blurred"]
    assert by_kind["clutter"] > 5 * by_kind["plain"]
    assert edges(replace(BEHIND, blur=20.0)) < 0.6 * edges(BEHIND)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be panorama, .* but got 'bokeh'"):
        backdrop(replace(BEHIND, kind="bokeh"), SUN, None, 32, 40)


def test_backdrop_of_a_panorama_is_its_crop_at_the_light_s_gain(tmp_path: Path) -> None:
    write_hdr(tmp_path / "a.hdr", smooth_environment(6).repeat(8, 0).repeat(8, 1))
    panoramas = Panoramas(tmp_path)
    light = replace(SUN, environment="a.hdr", turn=77.0, exposure=-0.5)
    plate = backdrop(replace(BEHIND, kind="panorama", pitch=5.0), light, panoramas, 96, 90)
    crop = panoramas.load("a.hdr").crop(77, 5, 90, 96)
    np.testing.assert_allclose(plate, crop * illuminate(light, panoramas).gain, rtol=1e-5)
    blurred = backdrop(replace(BEHIND, kind="panorama", pitch=5.0, blur=30.0), light, panoramas, 96, 90)
    assert 0 < np.abs(blurred - plate).mean() < 0.1 * plate.mean()
    drawn = backdrop(BEHIND, light, panoramas, 96, 90)  # its own kind under a panorama's light
    assert not np.allclose(drawn, plate)


def test_same_seed_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from dataclasses import replace\n"
        "from datasets.faces.backdrop import backdrop\n"
        "from datasets.faces.light import illuminate\n"
        "from datasets.faces.person import Background, Light\n"
        f"light, behind = {SUN!r}, {BEHIND!r}\n"
        "lit = illuminate(light, None)\n"
        f"plates = [backdrop(replace(behind, kind=k), light, None, 64, 40) for k in {KINDS!r}]\n"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in [lit.sh, lit.key, *plates])).hexdigest())\n"
    )
    runs = [subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True) for _ in range(2)]
    assert runs[0].stdout
    assert runs[0].stdout == runs[1].stdout, runs[0].stderr
    seeds = [backdrop(replace(BEHIND, seed=s), SUN, None, 64, 40).tobytes() for s in range(8)]
    assert len(set(seeds)) == 8


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real panoramas of shared/data/hdri")
def test_real_panoramas() -> None:
    panoramas = Panoramas(REAL)
    assert panoramas.names
    for name in panoramas.names:
        panorama = panoramas.load(name)
        assert isinstance(panorama, Panorama)
        assert panorama.pixels.shape == (512, 1024, 3)
        for turn in (0.0, 120.0, 240.0):
            lit = illuminate(replace(SUN, environment=name, turn=turn), panoramas)
            assert np.linalg.norm(lit.direction) == pytest.approx(1, abs=1e-5)
            assert 0.05 < facing(lit) < 0.6
            exact = integrate(np.roll(panorama.pixels, -round(turn / 360 * 1024), axis=1)[::4, ::4], normals(40))
            whole = evaluate(light_of(panorama).irradiance(turn), normals(40))
            key = light_of(panorama).key(turn)
            whole = whole + np.maximum(normals(40) @ key.direction, 0)[:, None] * key.irradiance
            if name != "sky.hdr":  # its sun is smaller than the pixels that this test skips
                assert np.abs(whole - exact).mean() < 0.05 * exact.mean()
