"""What must hold of hair and beards: on the head, outside of it, combed as the style says, the same for a seed."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.spatial import cKDTree

from datasets.faces.beard import grow_beard, inside_beard, pack_beard, stubble
from datasets.faces.geometry import Strands
from datasets.faces.hair import grow, mean_color
from datasets.faces.hairline import above_hairline, pack_hair, scalp
from datasets.faces.head import load_head
from datasets.faces.hull import on_surface, spread_evenly
from datasets.faces.person import Person
from datasets.faces.population import load_population
from datasets.segments import SEGMENTS

# Length and volume in metres, and curl.
STYLES = {
    "buzz": (0.006, 0.006, 0.1),
    "short": (0.045, 0.020, 0.1),
    "back": (0.110, 0.020, 0.1),
    "parted": (0.110, 0.020, 0.1),
    "fringe": (0.200, 0.020, 0.1),
    "bob": (0.220, 0.025, 0.1),
    "long": (0.450, 0.025, 0.1),
    "curly": (0.220, 0.040, 0.7),
    "afro": (0.100, 0.070, 0.95),
    "bun": (0.300, 0.010, 0.1),
    "ponytail": (0.400, 0.010, 0.1),
}
SEEDS = (0, 1, 2)


def someone(style: str, seed: int, **hair: object) -> Person:
    person = load_population("studio").draw(seed)
    length, volume, curl = STYLES.get(style, (0.0, 0.0, 0.0))
    wanted = replace(person.hair, style=style, length=length, volume=volume, curl=curl, density=0.9, recession=0.1)
    bare = replace(person.accessories, hat="none", mask="none", headphones="none", glasses="none")
    return replace(person, hair=replace(wanted, **hair), accessories=bare)


@cache
def grown(style: str, seed: int, fineness: float = 1.0) -> Strands:
    person = someone(style, seed)
    strands = grow(load_head(), load_head().sculpt(person.identity), person, fineness)
    assert strands is not None
    return strands


def heights(neutral: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Signed distance of points [n, 3] from the skin without mouth and ears, by the nearest of many places on it.

    At the ears it ends where roots do.
    """
    head = load_head()
    skin = head.triangles[head.part == 0]
    odd = (head.masks["ears"][skin].max(1) > 0.2) | (head.masks["inside-mouth"][skin].max(1) > 0.02)
    skin = skin[~odd & (head.canonical[skin][:, :, 1].min(1) > 0.40)]
    triangle, bary = spread_evenly(head.canonical, skin, 60_000, seed=5)
    places = on_surface(neutral, skin, triangle, bary)
    normals = on_surface(head.normals(neutral), skin, triangle, bary)
    far, nearest = cKDTree(places).query(points)
    # Beside a hole in the skin the nearest place says nothing about the side.
    away = points - places[nearest]
    out = (away * normals[nearest]).sum(1)
    return np.where(np.abs(out) < 0.5 * far, far, out)


@pytest.mark.parametrize("style", STYLES)
def test_strands_are_well_formed(style: str) -> None:
    for seed in SEEDS:
        strands = grown(style, seed)
        n, k = strands.points.shape[:2]
        assert strands.points.dtype == strands.outward.dtype == strands.depth.dtype == np.float32
        assert strands.outward.shape == (n, k, 3)
        assert strands.depth.shape == strands.follows.shape == (n, k)
        assert strands.width.shape == (n,)
        assert strands.color.shape == (n, 3)
        assert strands.segment == SEGMENTS.index("hair")
        for values in (strands.points, strands.outward, strands.depth, strands.follows, strands.width, strands.color):
            assert np.isfinite(values).all()
        assert np.allclose(np.linalg.norm(strands.outward, axis=2), 1, atol=1e-3)
        assert strands.depth.min() >= 0
        assert strands.depth.max() <= 1
        assert strands.follows.min() >= 0
        assert strands.follows.max() <= 1
        assert strands.color.min() > 0
        assert strands.width.min() > 0.2e-3
        assert strands.width.max() < 5e-3


@pytest.mark.parametrize("style", STYLES)
def test_strands_stay_outside_the_head(style: str) -> None:
    for seed in SEEDS:
        strands = grown(style, seed)
        neutral = load_head().sculpt(someone(style, seed).identity)
        high = heights(neutral, strands.points[::3].reshape(-1, 3))
        assert (high < -0.003).mean() < 0.004
        assert high.min() > -0.016


@pytest.mark.parametrize("style", [style for style in STYLES if style not in ("bun", "ponytail")])
def test_roots_lie_on_the_scalp_within_the_hairline(style: str) -> None:
    head = load_head()
    for seed in SEEDS:
        person = someone(style, seed)
        neutral = head.sculpt(person.identity)
        roots = grown(style, seed).points[:, 0]
        assert np.abs(heights(neutral, roots)).max() < 0.006
        line = pack_hair(person)
        skin = head.triangles[head.part == 0]
        triangle, bary = spread_evenly(neutral, skin, 120_000, seed=6)
        nearest = cKDTree(on_surface(neutral, skin, triangle, bary)).query(roots)[1]
        places = on_surface(head.canonical, skin, triangle, bary)[nearest]
        above = np.array([above_hairline(x, y, z, line) for x, y, z in places])
        assert np.quantile(above, 0.002) > -0.004


@pytest.mark.parametrize("style", STYLES)
def test_no_halo(style: str) -> None:
    """Near the skull hair stands off by its volume, and what is beyond hangs."""
    volume = STYLES[style][1]
    for seed in SEEDS:
        strands = grown(style, seed)
        neutral = load_head().sculpt(someone(style, seed).identity)
        brows = neutral[load_head().landmarks[17:27], 1].mean()
        points = strands.points[::3].reshape(-1, 3)
        high = heights(neutral, points[points[:, 1] > brows])
        tied = 0.09 if style in ("bun", "ponytail") else 0.0
        assert np.quantile(high, 0.99) < 1.5 * volume + 0.025 + tied


def test_fringe_leaves_the_eyes_free_and_covers_the_forehead() -> None:
    head = load_head()
    for seed in range(8):
        person = someone("fringe", seed)
        neutral = head.sculpt(person.identity)
        strands = grow(head, neutral, person, 1.0)
        assert strands is not None
        marks = neutral[head.landmarks]
        tips = strands.points[:, -1]
        before = (np.abs(tips[:, 0]) < 0.03) & (tips[:, 2] > marks[36:48, 2].min())
        assert before.sum() > 60
        lids = marks[[37, 38, 43, 44], 1].max()
        assert (tips[before, 1] < lids).mean() < 0.05
        forehead = marks[17:27, 1].mean() + 0.4 * (neutral[:, 1].max() - marks[17:27, 1].mean())
        assert np.median(tips[before, 1]) < forehead


@pytest.mark.parametrize("style", STYLES)
def test_face_is_free(style: str) -> None:
    head = load_head()
    for seed in SEEDS:
        marks = head.sculpt(someone(style, seed).identity)[head.landmarks]
        points = grown(style, seed).points
        for part in (slice(36, 42), slice(42, 48), slice(48, 60)):
            low, high = marks[part].min(0), marks[part].max(0)
            inside = (points[..., :2] > low[:2]).all(-1) & (points[..., :2] < high[:2]).all(-1)
            inside &= points[..., 2] > low[2] - 0.02
            assert inside.any(1).mean() < 0.01


def test_long_hair_hangs_and_reaches_its_length() -> None:
    for seed in range(6):
        strands = grown("long", seed)
        steps = np.diff(strands.points, axis=1)
        lengths = np.linalg.norm(steps, axis=2).sum(1)
        assert np.quantile(lengths, 0.9) > 0.8 * 0.45
        assert lengths.max() < 1.35 * 0.45
        third = steps[:, -steps.shape[1] // 3 :].sum(1)
        down = -third[:, 1] / np.linalg.norm(third, axis=1)
        assert down.mean() > 0.6
        assert (down < 0).mean() < 0.05


def test_hair_follows_the_head_and_lies_on_the_shoulders() -> None:
    strands = grown("long", 0)
    assert (strands.follows[:, 0] > 0.95).all()
    assert strands.follows[:, -1].min() < 0.1
    assert (grown("short", 0).follows > 0.9).all()


@pytest.mark.parametrize("style", ["short", "bob", "bun"])
def test_finer_pictures_get_more_and_thinner_strands(style: str) -> None:
    coarse, fine = grown(style, 0, 1.0), grown(style, 0, 2.0)
    assert 1.3 < len(fine.points) / len(coarse.points) < 1.8
    assert fine.width.mean() < 0.8 * coarse.width.mean()


def test_same_seed_same_hair_and_another_seed_another() -> None:
    head, person = load_head(), someone("curly", 3)
    neutral = head.sculpt(person.identity)
    first, second = (grow(head, neutral, person, 1.0) for _ in range(2))
    other = grow(head, neutral, replace(person, hair=replace(person.hair, seed=person.hair.seed + 1)), 1.0)
    assert first is not None
    assert second is not None
    assert other is not None
    for name in ("points", "width", "color", "outward", "depth", "follows"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.points[:500], other.points[:500])


def test_bald_grows_nothing_and_an_unknown_style_is_refused() -> None:
    head, person = load_head(), someone("bald", 0)
    assert grow(head, head.canonical, person, 1.0) is None
    with pytest.raises(ValueError, match=r"hair\.style must be bald, .*'mohawk'"):
        grow(head, head.canonical, someone("mohawk", 0), 1.0)


def test_grey_hair_is_grey() -> None:
    dark = someone("short", 0, grey=0.0, color=(0.03, 0.015, 0.008))
    grey = someone("short", 0, grey=0.9, color=(0.03, 0.015, 0.008))
    head = load_head()
    for person, low, high in ((dark, 0.0, 0.06), (grey, 0.35, 0.7)):
        strands = grow(head, head.canonical, person, 1.0)
        assert strands is not None
        assert low < strands.color.mean() < high
        assert np.allclose(strands.color.mean(0), mean_color(person), rtol=0.2)


@pytest.mark.parametrize("style", ["short", "long", "buzz", "bald"])
def test_scalp_is_painted_above_the_hairline_alone(style: str) -> None:
    line = pack_hair(someone(style, 1))
    crown, forehead, neck = (
        scalp(*place, line) for place in ((0.0, 0.845, 0.02), (0.0, 0.77, 0.15), (0.0, 0.61, -0.02))
    )
    assert forehead == neck == 0
    assert 0 < crown <= 1
    assert (crown < 0.2) == (style == "bald")


def test_recession_climbs_at_the_temples() -> None:
    temple = (0.055, 0.785, 0.115)
    low, high = (pack_hair(someone("short", 1, recession=value)) for value in (0.0, 1.0))
    assert above_hairline(*temple, low) > above_hairline(*temple, high) + 0.015
    assert abs(above_hairline(0.0, 0.70, -0.03, low) - above_hairline(0.0, 0.70, -0.03, high)) < 1e-3


def bearded(style: str, length: float = 0.02, seed: int = 1) -> Person:
    person = someone("short", seed)
    return replace(person, facial_hair=replace(person.facial_hair, style=style, length=length, density=0.9))


def test_beard_is_painted_on_the_chin_and_not_on_lips_nose_or_cheekbones() -> None:
    full, lip_only = pack_beard(bearded("full")), pack_beard(bearded("moustache"))
    chin, philtrum = (0.0, 0.63, 0.143), (0.008, 0.676, 0.157)
    lips, nose, cheekbone = (0.0, 0.655, 0.155), (0.0, 0.70, 0.16), (0.05, 0.715, 0.12)
    assert stubble(*chin, full) > 0.4
    assert stubble(*philtrum, full) > 0.4
    assert stubble(*philtrum, lip_only) > 0.4
    assert stubble(*chin, lip_only) == 0
    for place in (lips, nose, cheekbone):
        assert stubble(*place, full) == 0


@pytest.mark.parametrize("style", ["moustache", "goatee", "full"])
def test_beard_grows_in_its_region_and_leaves_the_lips(style: str) -> None:
    head, person = load_head(), bearded(style)
    strands = grow_beard(head, head.canonical, person, 1.0)
    assert strands is not None
    assert strands.segment == SEGMENTS.index("mustache" if style == "moustache" else "beard")
    assert np.isfinite(strands.points).all()
    region = pack_beard(person)
    inside = [inside_beard(x, y, z, region) for x, y, z in strands.points[:, 0]]
    assert np.quantile(inside, 0.01) > -0.003
    marks = head.canonical[head.landmarks[48:60]]
    low, high = marks[:, :2].min(0) + 0.004, marks[:, :2].max(0) - 0.004
    tips = strands.points[:, -1]
    on_lips = (tips[:, :2] > low).all(1) & (tips[:, :2] < high).all(1)
    assert on_lips.mean() < 0.06
    assert (heights(head.canonical, strands.points.reshape(-1, 3)) < -0.003).mean() < 0.01


def test_beard_goes_where_the_jaw_goes() -> None:
    head, person = load_head(), bearded("goatee")
    still = grow_beard(head, head.canonical, person, 1.0)
    opened = grow_beard(head, head.express(head.canonical, {"jawOpen": 1.0}), person, 1.0)
    assert still is not None
    assert opened is not None
    moved = still.points[:, 0, 1] - opened.points[:, 0, 1]
    assert moved.max() > 0.01
    assert moved.min() > -0.005


def test_no_strands_of_a_shaven_or_stubbly_face_and_unknown_styles_are_refused() -> None:
    head = load_head()
    for person in (bearded("none"), bearded("stubble"), bearded("full", 0.0)):
        assert grow_beard(head, head.canonical, person, 1.0) is None
    with pytest.raises(ValueError, match=r"facial_hair\.style must be one of .*'sideburns'"):
        pack_beard(bearded("sideburns"))
