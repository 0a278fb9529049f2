"""Worn things: well formed, where they belong on any head, and the same for the same person."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from datasets.faces.geometry import Mesh
from datasets.faces.head import load_head
from datasets.faces.person import Person
from datasets.faces.population import load_population
from datasets.faces.worn import cut, wear
from datasets.faces.worn.clothes import make_clothes
from datasets.faces.worn.cutting import below_neckline
from datasets.faces.worn.glasses import make_glasses
from datasets.faces.worn.hats import fit_hat
from datasets.faces.worn.headphones import make_headphones
from datasets.faces.worn.headwear import make_hat
from datasets.faces.worn.mask import fit_mask, make_mask
from datasets.faces.worn.surfaces import surface_height
from datasets.segments import SEGMENTS

NOTHING: dict[str, Any] = {"glasses": "none", "hat": "none", "mask": "none", "headphones": "none"}
SHAPES = ("round", "oval", "square", "aviator")
HATS = ("beanie", "cap", "brim")
NECKLINES = ("crew", "v_neck", "collar", "turtleneck", "off")
WIDE_OPEN = {"jawOpen": 1.0}
SMILE = {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0, "cheekSquintLeft": 1.0, "cheekSquintRight": 1.0}


def somebody(seed: int, clothes: dict[str, Any] | None = None, **accessories: Any) -> Person:
    person = load_population("studio").draw(seed)
    worn = replace(person.accessories, **{**NOTHING, **accessories})
    return replace(person, accessories=worn, clothes=replace(person.clothes, **(clothes or {})))


@cache
def sculpted(seed: int) -> np.ndarray:
    return load_head().sculpt(somebody(seed).identity)


def check_well_formed(mesh: Mesh) -> None:
    points, faces = len(mesh.vertices), len(mesh.triangles)
    assert points
    assert faces
    assert (mesh.vertices.dtype, mesh.triangles.dtype, mesh.segment.dtype) == (np.float32, np.int32, np.uint8)
    assert mesh.color.shape == (points, 3)
    assert mesh.follows.shape == (points,)
    assert mesh.segment.shape == mesh.gloss.shape == mesh.opacity.shape == (faces,)
    assert mesh.triangles.min() >= 0
    assert mesh.triangles.max() < points
    assert len(np.unique(mesh.triangles)) == points, "every vertex is of a triangle"
    for values in (mesh.vertices, mesh.color, mesh.gloss, mesh.opacity, mesh.follows):
        assert np.isfinite(values).all()
    assert mesh.color.min() >= 0
    assert mesh.color.max() <= 1
    corners = mesh.vertices[mesh.triangles].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert (area < 1e-12).mean() < 0.02
    edge = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2)
    assert edge.max() < 0.09


def pieces(mesh: Mesh) -> list[np.ndarray]:
    """Triangles of each connected part."""
    label = np.arange(len(mesh.vertices))
    while True:
        least = label[mesh.triangles].min(1)
        new = label.copy()
        np.minimum.at(new, mesh.triangles.ravel(), np.repeat(least, 3))
        if (new == label).all():
            break
        label = new
    part = label[mesh.triangles[:, 0]]
    return [mesh.triangles[part == number] for number in np.unique(part)]


def is_closed(triangles: np.ndarray) -> bool:
    edges = np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2)
    return bool((np.unique(np.sort(edges, 1), axis=0, return_counts=True)[1] == 2).all())


def volume(vertices: np.ndarray, triangles: np.ndarray) -> float:
    corners = vertices[triangles].astype(np.float64) - vertices[triangles].mean((0, 1))
    return float((corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum() / 6)


def every_kind() -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [{"glasses": "clear", "glasses_shape": shape} for shape in SHAPES]
    out += [{"glasses": "sunglasses", "glasses_shape": shape} for shape in SHAPES]
    out += [{"hat": hat} for hat in HATS] + [{"mask": "surgical"}, {"mask": "cloth"}, {"headphones": "over_ear"}]
    out.append({"hat": "brim", "mask": "surgical", "glasses": "clear", "headphones": "over_ear"})
    return out


@pytest.mark.parametrize("worn", every_kind(), ids=lambda worn: "-".join(worn.values()))
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_meshes_are_well_formed_and_face_outwards(worn: dict[str, Any], seed: int) -> None:
    person, neutral = somebody(seed, **worn), sculpted(seed)
    for mesh in wear(load_head(), neutral, neutral, person):
        check_well_formed(mesh)
        for triangles in pieces(mesh):
            if is_closed(triangles):
                assert volume(mesh.vertices, triangles) > 0
            elif SEGMENTS[mesh.segment[0]] == "glasses_lens":
                corners = mesh.vertices[triangles]
                assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0).all()


@pytest.mark.parametrize("neckline", NECKLINES)
@pytest.mark.parametrize("pattern", ["plain", "stripes", "checks", "heather"])
def test_clothes_are_well_formed_and_small(neckline: str, pattern: str) -> None:
    person, neutral = somebody(5, clothes={"neckline": neckline, "pattern": pattern}), sculpted(5)
    meshes = make_clothes(load_head(), neutral, person)
    assert sum(len(mesh.triangles) for mesh in meshes) < 12_500
    assert meshes[0].follows.min() == 0
    for mesh in meshes:
        check_well_formed(mesh)
        assert {SEGMENTS[i] for i in np.unique(mesh.segment)} == {"clothing"}


def test_none_gives_nothing_but_clothes() -> None:
    person, neutral = somebody(1), sculpted(1)
    head = load_head()
    assert fit_hat(head, neutral, person) is None
    assert fit_mask(head, neutral, person) is None
    assert make_glasses(head, neutral, neutral, person) == []
    assert make_headphones(neutral, person) == []
    assert {SEGMENTS[i] for mesh in wear(head, neutral, neutral, person) for i in mesh.segment} == {"clothing"}
    assert not cut(head, neutral, neutral, person, neutral).any()


def test_what_is_not_known_is_refused_in_one_line() -> None:
    head, neutral = load_head(), sculpted(1)
    for worn in ({"hat": "crown"}, {"mask": "gas"}, {"glasses": "tinted"}, {"headphones": "buds"}):
        with pytest.raises(ValueError, match=r"accessories\.\w+ must be .* but got"):
            wear(head, neutral, neutral, somebody(1, **worn))
    with pytest.raises(ValueError, match="glasses_shape must be one of"):
        wear(head, neutral, neutral, somebody(1, glasses="clear", glasses_shape="heart"))
    for clothes in ({"neckline": "toga"}, {"pattern": "dots"}):
        with pytest.raises(ValueError, match=r"clothes\.\w+ must be .* but got"):
            wear(head, neutral, neutral, somebody(1, clothes=clothes))


def test_the_same_person_wears_the_same() -> None:
    person, neutral = somebody(9, hat="cap", mask="cloth", glasses="sunglasses", headphones="over_ear"), sculpted(9)
    first, second = (wear(load_head(), neutral, neutral, person) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        for name in ("vertices", "triangles", "color", "segment", "gloss", "opacity", "follows"):
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
    other = replace(person, accessories=replace(person.accessories, seed=person.accessories.seed + 1))
    third = wear(load_head(), neutral, neutral, other)
    assert any(a.vertices.tobytes() != b.vertices.tobytes() for a, b in zip(first, third, strict=False))


@pytest.mark.parametrize("seed", range(50))
def test_glasses_stand_before_the_eyes_and_outside_the_head(seed: int) -> None:
    head, neutral = load_head(), sculpted(seed)
    posed = head.express(neutral, SMILE if seed % 2 else {})
    kind = ("clear", "sunglasses")[seed // 4 % 2]
    person = somebody(seed, glasses=kind, glasses_shape=SHAPES[seed % 4])
    frame, lens = make_glasses(head, neutral, posed, person)
    assert len(frame.triangles) + len(lens.triangles) < 3000
    assert (lens.opacity < 0.1).all() if kind == "clear" else (lens.opacity > 0.5).all()
    eyes = head.eyes(neutral)
    before = surface_height(eyes.centers[:, :2], lens.vertices, lens.triangles, 0, 1, 2, 1.0)
    gap = before - eyes.centers[:, 2] - eyes.radii
    assert (gap > 0.005).all()
    assert (gap < 0.025).all()
    front = frame.vertices[frame.vertices[:, 2] > float(eyes.centers[:, 2].min())]
    skin = np.ascontiguousarray(head.triangles[head.part == 0])
    face = skin[(head.canonical[skin][:, :, 2] > 0.06).all(1)]
    behind = surface_height(np.ascontiguousarray(front[:, :2]), posed, np.ascontiguousarray(face), 0, 1, 2, 1.0)
    assert (front[:, 2] - behind > -0.0015).all()


@pytest.mark.parametrize("hat", HATS)
@pytest.mark.parametrize("seed", range(8))
def test_hats_enclose_the_scalp_and_leave_the_eyes_free(hat: str, seed: int) -> None:
    head, neutral = load_head(), sculpted(seed)
    person = somebody(seed, hat=hat)
    fit = fit_hat(head, neutral, person)
    assert fit is not None
    meshes = make_hat(fit, person)
    assert sum(len(mesh.triangles) for mesh in meshes) < 2000
    skin = neutral[np.unique(head.triangles[head.part == 0])]
    covered = skin[fit.covers(skin - np.array([0, 0.003, 0], np.float32))]
    assert len(covered) > 150
    offset = covered - fit.skull.center
    length = np.linalg.norm(offset, axis=1)
    assert (length < fit.radius(offset / length[:, None]) + 2e-4).all()
    assert not fit.covers(neutral[head.landmarks]).any()
    assert cut(head, neutral, neutral, person, covered).all()


@pytest.mark.parametrize("mask", ["surgical", "cloth"])
@pytest.mark.parametrize(
    "units", [{}, WIDE_OPEN, SMILE, {"mouthPucker": 1.0}], ids=["neutral", "open", "smile", "pucker"]
)
@pytest.mark.parametrize("seed", range(5))
def test_masks_cover_nose_and_mouth_and_leave_the_eyes_free(mask: str, units: dict[str, float], seed: int) -> None:
    head, neutral = load_head(), sculpted(seed)
    posed = head.express(neutral, units)
    person = somebody(seed, mask=mask)
    fit = fit_mask(head, posed, person)
    assert fit is not None
    marks = posed[head.landmarks]
    hidden = [8, 30, *range(31, 36), *range(48, 68)]
    cloth = make_mask(neutral, fit, person)[0]
    before = surface_height(np.ascontiguousarray(marks[:, :2]), cloth.vertices, cloth.triangles, 0, 1, 2, 1.0)
    assert (before[hidden] > marks[hidden, 2] + 0.001).all()
    assert (before[36:48] < marks[36:48, 2]).all()
    assert (before[17:27] == -1).all()
    assert fit.covers(marks[hidden]).all()
    assert not fit.covers(marks[17:27]).any()
    assert not fit.covers(marks[36:48]).any()
    # The skin under the cloth stays under it.
    skin = posed[np.unique(head.triangles[head.part == 0])]
    skin = skin[fit.covers(skin)] - fit.membrane.center
    azimuth, flat = np.arctan2(skin[:, 0], skin[:, 2]), np.hypot(skin[:, 0], skin[:, 2])
    reach = fit.membrane.radius(azimuth, np.arctan2(skin[:, 1], flat)) + 0.0022
    assert (np.linalg.norm(skin, axis=1) < reach).all()


@pytest.mark.parametrize("neckline", NECKLINES)
@pytest.mark.parametrize("seed", range(4))
def test_clothes_cover_the_body_below_the_neckline(neckline: str, seed: int) -> None:
    head, neutral = load_head(), sculpted(seed)
    person = somebody(seed, clothes={"neckline": neckline})
    garment = make_clothes(head, neutral, person)[0]
    skin = head.triangles[(head.part == 0)]
    middle = head.canonical[skin].mean(1)
    deep = np.stack([below_neckline(neckline, deep, middle) for deep in (False, True)]).min(0)
    covered = skin[(deep > 0.010) & (middle[:, 1] > 0.33) & (head.canonical[skin][:, :, 1] < 0.66).all(1)]
    assert len(covered) > 500
    folded = (np.abs(head.canonical[covered].mean(1)[:, 0]) > 0.14) & (head.canonical[covered].mean(1)[:, 1] < 0.47)
    covered = covered[~folded][::3]  # not the armpits, where skin lies on skin
    corners = neutral[covered]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    assert hit(corners.mean(1), normals, garment, 0.05).all()


def hit(points: np.ndarray, ways: np.ndarray, mesh: Mesh, reach: float) -> np.ndarray:
    """Whether a ray from each point meets a mesh within `reach` metres (Moeller and Trumbore 1997)."""
    a, b, c = (mesh.vertices[mesh.triangles[:, k]].astype(np.float64) for k in range(3))
    middle, out = (a + b + c) / 3, np.zeros(len(points), bool)
    for i, (point, way) in enumerate(zip(points.astype(np.float64), ways.astype(np.float64), strict=True)):
        near = ((middle - point) ** 2).sum(1) < (reach + 0.03) ** 2
        one, two, off = (b - a)[near], (c - a)[near], point - a[near]
        p = np.cross(way, two)
        det = (one * p).sum(1)
        det = np.where(np.abs(det) < 1e-15, 1e-15, det)
        u, q = (off * p).sum(1) / det, np.cross(off, one)
        v, t = (q @ way) / det, (two * q).sum(1) / det
        out[i] = bool(((u >= -1e-6) & (v >= -1e-6) & (u + v <= 1 + 1e-6) & (t > -1e-4) & (t < reach)).any())
    return out


@pytest.mark.parametrize("seed", range(6))
def test_headphones_enclose_the_ears(seed: int) -> None:
    head, neutral = load_head(), sculpted(seed)
    meshes = make_headphones(neutral, somebody(seed, headphones="over_ear"))
    cups = np.concatenate([mesh.vertices for mesh in meshes])
    ears = neutral[(head.masks["ears"] > 0.9) & (np.abs(head.canonical[:, 0]) > 0.074)]
    for sign in (-1, 1):
        ear, cup = ears[ears[:, 0] * sign > 0], cups[cups[:, 0] * sign > 0.04]
        assert (ear[:, 0] * sign).max() < (cup[:, 0] * sign).max()
        low = cup[cup[:, 1] < ear[:, 1].max() + 0.02]
        assert low[:, 1].min() < ear[:, 1].min()
        assert low[:, 2].min() < ear[:, 2].min()
        assert low[:, 2].max() > ear[:, 2].max()
