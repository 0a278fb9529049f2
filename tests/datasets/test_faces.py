"""The embedded faces: every label agrees with the picture and with every other label, on many people.

The picture's own geometry is the judge: labels are compared with each other, with a finer rendering of the same person,
and with what the camera model says.
"""

import ast
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.classes import FACE_CLASSES
from datasets.faces import compiled, load_population, render
from datasets.faces.person import Person
from datasets.generate import COLUMNS, FaceSet, generate_faces
from datasets.segments import SEGMENTS, class_table

ROOT = Path(__file__).resolve().parents[2]
DOMAINS = ("studio", "street")
SIZE = 128
PEOPLE = 40
Sample = dict[str, np.ndarray]


def digest(sample: Sample) -> str:
    values = (np.asarray(sample[name]) for name in sorted(sample) if name not in ("id", "metadata"))
    return hashlib.sha256(b"".join(value.tobytes() for value in values)).hexdigest()


@cache
def person(seed: int, domain: str = "studio") -> Person:
    return load_population(domain).draw(seed)


def bare(seed: int) -> Person:
    """A person of whom nothing is hidden: no hair, beard or accessories, and a camera without effects."""
    who = person(seed)
    return replace(
        who,
        hair=replace(who.hair, style="bald"),
        facial_hair=replace(who.facial_hair, style="none"),
        accessories=replace(who.accessories, glasses="none", hat="none", mask="none", headphones="none"),
        camera=replace(who.camera, blur=0.0, noise=0.0, jpeg=0),
    )


@cache
def picture(seed: int, size: int = SIZE) -> Sample:
    return render(bare(seed), size)


def near(mask: np.ndarray, x: float, y: float) -> float:
    """Distance in pixels from a point to the nearest pixel of a mask; the point is inside at less than 1."""
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    row, column = (int(np.clip(np.rint(v), 0, mask.shape[0] - 1)) for v in (y, x))
    return float(away[row, column])


def ids(*names: str) -> list[int]:
    return [SEGMENTS.index(name) for name in names]


@pytest.mark.parametrize("domain", DOMAINS)
def test_columns_have_the_documented_types(domain: str) -> None:
    sample = render(person(3, domain), 48)
    arrays = {name: (v.dtype.name, v.shape) for name, v in sample.items() if isinstance(v, np.ndarray)}
    assert arrays == {
        "image": ("uint8", (48, 48, 3)),
        "segmentation": ("uint8", (48, 48)),
        "segments": ("uint8", (48, 48)),
        "alpha": ("uint8", (48, 48)),
        "foreground": ("uint8", (48, 48, 3)),
        "background": ("uint8", (48, 48, 3)),
        "depth": ("float16", (48, 48)),
        "normals": ("float16", (48, 48, 3)),
        "landmarks": ("float32", (68, 2)),
        "landmarks_contour": ("float32", (68, 2)),
        "landmarks_visible": ("uint8", (68,)),
        "pupils": ("float32", (2, 2)),
        "gaze": ("float32", (2, 3)),
        "intrinsics": ("float32", (3, 3)),
        "world_to_camera": ("float32", (4, 4)),
    }
    assert set(COLUMNS) == {"id", "metadata", *arrays}


def test_a_seed_gives_the_same_bytes_in_a_fresh_process() -> None:
    script = (
        "from tests.datasets.test_faces import digest, person\n"
        "from datasets.faces import render\n"
        "print(digest(render(person(5, 'street'), 32)))"
    )
    fresh = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    here = digest(render(person(5, "street"), 32))
    assert here == digest(render(person(5, "street"), 32)) == fresh.stdout.strip()


def test_the_number_of_workers_and_of_faces_changes_no_byte() -> None:
    few, many = (FaceSet(count, 32, "street", seed=7) for count in (3, 20))
    alone = [digest(sample) for sample in generate_faces(few)]
    spread = list(generate_faces(many, workers=2))
    assert [digest(sample) for sample in spread[:3]] == alone
    assert [sample["id"] for sample in spread] == [f"street-7-{i:06d}" for i in range(20)]
    assert len({digest(sample) for sample in spread}) == 20


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_whole_face_is_in_the_frame(domain: str) -> None:
    for seed in range(60):
        marks = render(person(seed, domain), 32)["landmarks"]
        assert marks.min() > -0.5
        assert marks.max() < 31.5


def test_eye_landmarks_lie_on_eyes_of_their_side() -> None:
    misses = []
    for seed in range(PEOPLE):
        sample = picture(seed)
        for points, name in ((range(36, 42), "eye_left"), (range(42, 48), "eye_right")):
            eye = sample["segmentation"] == FACE_CLASSES.index(name)
            if eye.sum() < 12:  # closed
                continue
            seen = [i for i in points if sample["landmarks_visible"][i]]
            misses += [near(eye, *sample["landmarks"][i]) for i in seen]
    assert len(misses) > 300
    assert np.median(misses) < 1.5  # they lie on the lids' outer edge, a lid's thickness from the ball
    assert np.percentile(misses, 97) < 3.5


def test_lip_contours_lie_on_the_lips_outline_to_a_pixel() -> None:
    off = []
    for seed in range(PEOPLE):
        sample = picture(seed)
        lips = np.isin(sample["segmentation"], [FACE_CLASSES.index(f"{which}_lip") for which in ("upper", "lower")])
        lips |= sample["segmentation"] == FACE_CLASSES.index("inner_mouth")
        for i in range(48, 60):
            if sample["landmarks_visible"][i]:
                x, y = sample["landmarks"][i]
                off.append(max(near(lips, x, y), near(~lips, x, y)) - 1.0)
    assert len(off) > 300
    assert np.median(off) <= 0.5
    assert np.percentile(off, 95) <= 1.0


def test_left_and_right_are_the_images() -> None:
    checked = 0
    for seed in range(PEOPLE):
        labels = picture(seed)["segmentation"]
        columns = [np.nonzero(labels == FACE_CLASSES.index(name))[1] for name in ("eye_left", "eye_right")]
        if all(len(column) for column in columns):
            assert columns[0].mean() < columns[1].mean()
            checked += 1
        marks = picture(seed)["landmarks"]
        assert marks[36, 0] < marks[45, 0]
    assert checked > PEOPLE / 2


def test_classes_are_the_segments_classes() -> None:
    for seed in range(8):
        sample = picture(seed)
        assert np.mean(sample["segmentation"] == class_table()[sample["segments"]]) > 0.995
        present = set(np.unique(sample["segments"]))
        assert set(ids("nose", "lip_upper", "lip_lower", "forehead", "cheek_left", "neck", "clothing")) <= present


def test_alpha_is_the_coverage_that_a_finer_picture_shows() -> None:
    """256 px alpha against the silhouette at 1,024 px, averaged over 4 x 4 pixels."""
    for seed in range(4):
        who = bare(seed)
        coarse, fine = render(who, 256)["alpha"] / 255, render(who, 1024)["segments"] > 0
        truth = fine.reshape(256, 4, 256, 4).mean((1, 3))
        assert np.abs(coarse - truth).max() <= 0.51  # an edge through a pixel of 2 x 2 samples
        assert np.abs(coarse - truth).mean() < 0.004
        assert (coarse[truth == 1] == 1).mean() > 0.999
        assert (coarse[truth == 0] == 0).mean() > 0.999


def test_hair_covers_in_part() -> None:
    who = person(1)
    sample = render(replace(who, hair=replace(who.hair, style="curly", length=0.2, volume=0.05)), SIZE)
    assert ((sample["alpha"] > 10) & (sample["alpha"] < 245)).mean() > 0.01


def test_foreground_over_background_is_the_picture_before_the_cameras_effects() -> None:
    for seed in range(6):
        sample = render(replace(person(seed), camera=bare(seed).camera), SIZE)
        share = sample["alpha"][..., None] / 255
        composite = share * sample["foreground"] + (1 - share) * sample["background"]
        assert np.abs(np.rint(composite) - sample["image"]).max() <= 1
        assert np.mean(np.rint(composite) == sample["image"]) > 0.999


# Among them turned torsos under wide lenses, whose shoulders reach behind the camera if it comes as near as it likes.
@pytest.mark.parametrize(
    ("domain", "seeds"),
    [("studio", range(12)), ("street", (93, 393, 512, 719, 881, 0, 1, 2)), ("landmark_study", (716, 1199, 1286, 0))],
)
def test_depth_is_of_the_person_alone_and_plausible(domain: str, seeds: Sequence[int]) -> None:
    for seed in seeds:
        sample = render(person(seed, domain), 96)
        assert ((sample["depth"] == 0) == (sample["segments"] == 0)).all()
        there = sample["depth"][sample["depth"] > 0].astype(np.float32)
        middle = np.median(there)
        assert 0.2 < middle < 8
        assert middle - 0.4 < there.min() < there.max() < middle + 0.4


def test_intrinsics_project_from_the_pictures_corner() -> None:
    """Depth and landmarks by K: a visible nose tip lies where its pixel's ray and depth say."""
    for seed in range(6):
        sample = picture(seed, 256)
        k, world = sample["intrinsics"], sample["world_to_camera"]
        assert k[0, 2] == k[1, 2] == 128
        assert np.allclose(world[:3, :3] @ world[:3, :3].T, np.eye(3), atol=1e-5)
        x, y = sample["landmarks"][30]
        depth = float(sample["depth"][round(float(y)), round(float(x))])
        eyes = sample["landmarks"][[36, 45]]
        metres = np.linalg.norm(eyes[1] - eyes[0]) / k[0, 0] * depth
        assert 0.03 < metres < 0.14  # the distance of the outer eye corners, seen from anywhere


def test_labels_favour_no_class_at_ties() -> None:
    """Areas at 2 x 2 fine pixels are those at 4 x 4, on average; a rule by id would lose a quarter pixel all around."""
    areas = {name: [0.0, 0.0] for name in ("eye_left", "nose", "lower_lip", "skin")}
    for seed in range(12):
        who = bare(seed)
        small, large = render(who, 128)["segmentation"], render(who, 512)["segmentation"]
        for name, area in areas.items():
            area[0] += (small == FACE_CLASSES.index(name)).sum()
            area[1] += (large == FACE_CLASSES.index(name)).sum() / 16
    for name, (got, wanted) in areas.items():
        assert got == pytest.approx(wanted, rel=0.04), name


def test_normals_are_those_of_the_depth_map_on_smooth_parts() -> None:
    """Cheeks and forehead: depth to points by the intrinsics, points to normals by central differences."""
    angles = []
    for seed in range(8):
        sample = picture(seed, 256)
        depth = cv2.GaussianBlur(
            sample["depth"].astype(np.float32), (0, 0), 2.0
        )  # float16 has steps of half a millimetre
        k = sample["intrinsics"]
        column, row = np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5)
        points = np.stack([(column - k[0, 2]) / k[0, 0] * depth, (k[1, 2] - row) / k[1, 1] * depth, -depth], -1)
        right, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
        normal = np.cross(right, -down)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-12
        smooth = np.isin(sample["segments"], ids("cheek_left", "cheek_right", "forehead")).astype(np.uint8)
        inner = cv2.erode(smooth, np.ones((15, 15), np.uint8)) > 0
        cosine = (normal * sample["normals"].astype(np.float32)).sum(-1)
        angles.append(np.degrees(np.arccos(np.clip(cosine[inner], -1, 1))))
    assert np.median(np.concatenate(angles)) < 4
    assert np.percentile(np.concatenate(angles), 90) < 12


def test_normals_have_unit_length_on_the_person_hair_included() -> None:
    sample = render(person(2), SIZE)
    length = np.linalg.norm(sample["normals"].astype(np.float32), axis=-1)
    assert np.allclose(length[sample["segments"] > 0], 1, atol=2e-3)
    assert (length[sample["segments"] == 0] == 0).all()


def test_the_jaws_contour_lies_on_the_outline_of_a_turned_face() -> None:
    """The far cheek of a bald head turned by 30 degrees borders the background or the neck: the contour is there."""
    face = [SEGMENTS.index(n) for n in SEGMENTS if n.startswith(("cheek", "jaw", "jowl", "chin", "temples"))]
    face += ids("eyes", "undereye", "forehead", "brow", "eyelid", "nose_outer", "mouth", "smile_line")
    off = []
    for seed in range(10):
        who = bare(seed)
        sample = render(replace(who, pose=replace(who.pose, yaw=30.0, pitch=0.0, roll=0.0)), 256)
        inside = np.isin(sample["segments"], face)
        for i in range(12, 15):  # the subject's left, turned away
            x, y = sample["landmarks_contour"][i]
            off.append(near(~inside, x, y) - 1)
    assert np.median(off) < 2.0
    assert np.percentile(off, 90) < 5.0


def test_pupils_lie_on_open_eyes_and_gaze_moves_them() -> None:
    who = bare(4)
    straight = replace(who, pose=replace(who.pose, yaw=0.0, pitch=0.0, roll=0.0))
    seen = {}
    for side in (-18.0, 18.0):
        looking = replace(straight, expression=replace(who.expression, units={}, gaze=(side, 0.0), vergence=0.0))
        sample = render(looking, 256)
        for eye, name in enumerate(("eye_left", "eye_right")):
            assert near(sample["segmentation"] == FACE_CLASSES.index(name), *sample["pupils"][eye]) < 1
        assert np.allclose(np.linalg.norm(sample["gaze"], axis=1), 1, atol=1e-5)
        assert np.degrees(np.arcsin(sample["gaze"][:, 0])) == pytest.approx(side, abs=2.0)
        seen[side] = sample["pupils"]
    assert (seen[18.0][:, 0] - seen[-18.0][:, 0] > 3).all()  # to the subject's left is to the image's right


def test_a_mask_and_sunglasses_hide_landmarks_that_are_still_given() -> None:
    who = bare(0)
    front = replace(who, pose=replace(who.pose, yaw=0.0, pitch=0.0, roll=0.0))
    free = render(front, SIZE)
    masked = render(replace(front, accessories=replace(who.accessories, mask="surgical")), SIZE)
    shaded = render(replace(front, accessories=replace(who.accessories, glasses="sunglasses")), SIZE)
    assert free["landmarks_visible"][48:68].mean() > 0.7
    assert masked["landmarks_visible"][48:68].mean() < 0.1
    assert shaded["landmarks_visible"][36:48].mean() < 0.2
    for other in (masked, shaded):
        np.testing.assert_array_equal(other["landmarks"], free["landmarks"])


@pytest.mark.parametrize("domain", DOMAINS)
def test_all_nine_classes_are_there(domain: str) -> None:
    counts = np.zeros(9, np.int64)
    for seed in range(40):
        counts += np.bincount(render(person(seed, domain), 48)["segmentation"].ravel(), minlength=9)
    share = counts / counts.sum()
    assert (share > 0.0003).all(), dict(zip(FACE_CLASSES, share.round(5), strict=True))
    assert 0.1 < share[FACE_CLASSES.index("skin")] < 0.5


def test_the_two_labellers_have_habits_of_their_own() -> None:
    """The same picture labelled by both: street's lips and eyes are larger, and its nose has its sides."""
    studio, street = (load_population(domain).labels for domain in DOMAINS)
    who = bare(7)
    plain, habit = (render(who, 256, labels=labels) for labels in (studio, street))
    np.testing.assert_array_equal(plain["image"], habit["image"])
    np.testing.assert_array_equal(plain["segments"], habit["segments"])

    def area(sample: Sample, name: str) -> int:
        return int((sample["segmentation"] == FACE_CLASSES.index(name)).sum())

    for name in ("nose", "upper_lip", "lower_lip", "eye_left", "eye_right"):
        assert area(habit, name) > 1.05 * area(plain, name), name


def test_streets_camera_is_noisier_than_studios() -> None:
    """What the camera adds: the picture less the composite of its layers, in grey levels."""
    added = {}
    for domain in DOMAINS:
        found = []
        for seed in range(30):
            sample = render(person(seed, domain), 64)
            share = sample["alpha"][..., None] / 255
            found.append((sample["image"] - share * sample["foreground"] - (1 - share) * sample["background"]).std())
        added[domain] = np.median(found)
    assert added["street"] > 2 * added["studio"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, r"`count >= 1` must hold, but got 0"),
        ({"count": -3}, r"`count >= 1` must hold, but got -3"),
        ({"size": 8}, r"`size` must be 16 to 1024 pixels, but got 8"),
        ({"seed": -1}, r"`seed >= 0` must hold, but got -1"),
        ({"domain": "studo"}, r"studo.*studio"),
        ({"panoramas": Path("/nowhere/at/all")}, r"/nowhere/at/all"),
        ({"columns": ("image", "picture")}, r"columns must be of .*, but got 'picture'"),
    ],
)
def test_what_cannot_be_made_is_refused_before_it_is_begun(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        FaceSet(**{"count": 2, "size": 32, **given})
    assert "\n" not in str(caught.value)


def test_kernels_are_kept_by_all_that_they_are_compiled_from() -> None:
    """The digest of a kernel's folder covers what its file imports, however that is written, and what that imports."""
    source = (
        "import datasets.segments\nfrom datasets.faces import (\n    raster,\n    skin as paint,\n)\n"
        "from .light import sh_irradiance\nfrom ..classes import FACE_CLASSES\n"
    )
    names = set(compiled._names(ast.parse(source), ("datasets", "faces")))
    assert {"datasets.segments", "datasets.faces.raster", "datasets.faces.skin", "datasets.faces.light"} <= names
    assert "datasets.classes" in names
    shade = ROOT / "datasets/faces/shade.py"
    direct = compiled._imports(shade)
    assert ROOT / "datasets/faces/skin.py" in direct
    assert ROOT / "datasets/faces/camera.py" not in direct  # skin's own import, which counts all the same:
    before = compiled.sources_digest(shade)
    assert compiled.sources_digest.__wrapped__(shade) == before
    read = Path.read_bytes
    changed = {ROOT / "datasets/faces/regions.py", ROOT / "datasets/classes.py"}
    for path in changed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda self, path=path: read(self) + (b"#" if self == path else b""))
            assert compiled.sources_digest.__wrapped__(shade) != before
