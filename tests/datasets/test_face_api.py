"""The Face API's layout: as this file writes it, as write_face_api writes it, and real renders."""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets import Pack, formats, write_pack
from datasets.classes import FACE_CLASSES
from datasets.formats import face_api
from datasets.formats.face_api_person import head_turn, sections
from datasets.formats.face_api_writer import write_face_api
from datasets.segments import SEGMENTS, class_table, from_named

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "face_api"
S = 16
WORLD_TO_CAMERA = np.eye(4)
WORLD_TO_CAMERA[:3, :3] = cv2.Rodrigues(np.array([0.1, 0.4, -0.2]))[0]
WORLD_TO_CAMERA[:3, 3] = 0.1, -0.2, -1.1


read = partial(formats.read, "face_api")


def philox(seed):
    return np.random.Generator(np.random.Philox(seed))


def face(side=S):
    """68 points (x, y) in 0..1: a jaw from ear to ear by the chin, and the rest somewhere inside."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = 0.5 + 0.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([jaw, philox(3).uniform(0.3, 0.7, (51, 2))])


def numbered(places, key="ptnum", start=0):
    return [{key: start + k, "screen_space_pos": list(map(float, place))} for k, place in enumerate(places)]


def write_scene(folder, scene, *, mapping=None, labels=None, version="1.2", **changes):
    """One scene as the Face API writes it, `labels` being names [side, side], with its info.json's sections changed."""
    folder.mkdir(exist_ok=True)
    labels = halves() if labels is None else labels
    mapping = mapping or {name: k for k, name in enumerate(np.unique(labels).tolist())}
    side = len(labels)
    rng = philox(7)
    foreground = labels != "background"
    ids = np.vectorize(mapping.__getitem__)(labels).astype(np.uint16)
    depth = np.where(foreground, rng.uniform(1, 2, labels.shape), 0)
    if version == 1:
        depth = np.where(foreground, 5 * depth, 0.0025)
    normals = np.where(foreground[..., None], (0.6, 0.0, 0.8), (0, 0, 1))
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{scene}.rgb.png")
    cv2.imwrite(str(folder / f"{scene}.segments.png"), ids)
    tifffile.imwrite(folder / f"{scene}.alpha.tif", (254 * foreground).astype(np.uint8), compression="lzw")
    tifffile.imwrite(folder / f"{scene}.depth.tif", depth.astype(np.float16), compression="zlib", predictor=3)
    tifffile.imwrite(folder / f"{scene}.normals.tif", normals.astype(np.float16), compression="zlib", predictor=3)
    info = {
        "version": version,
        "segments_mapping": mapping,
        "landmarks": numbered(face()),
        "pupil_coordinates": {
            f"pupil_{eye}": {"screen_space_pos": [x, 0.5]} for eye, x in (("left", 0.6), ("right", 0.4))
        },
        "gaze_values": {f"eye_{eye}": {"gaze_vector": v} for eye, v in (("left", [0, 0, 1]), ("right", [0.6, 0, 0.8]))},
        "camera": {
            "intrinsics": [[100, 0, side / 2], [0, 100, side / 2], [0, 0, 1]],
            "transform_world2cam": {"mat_4x4": WORLD_TO_CAMERA.tolist()},
            "sensor": {"width_mm": 33.0},
        },
        "facial_attributes": {"head_turn": {"yaw": 0, "pitch": 0, "roll": 0}},
        "identity_metadata": {"id": 7},
    } | changes
    (folder / f"{scene}.info.json").write_text(json.dumps({k: v for k, v in info.items() if v is not None}))


def halves(side=S):
    """Background above; below, the subject's right eye at the image's left, then the subject's left eye."""
    labels = np.full((side, side), "background", dtype="U20")
    labels[side // 2 :, : side // 2] = "eye_right"
    labels[side // 2 :, side // 2 :] = "eye_left"
    return labels


def only(folder, **options):
    (sample,) = read(folder, **({"size": S} | options)).samples
    return sample


NAMES = {  # each segment's common class, written down apart from the table
    "background": "background clothing body neck shoulders headwear headphones mask glasses glasses_frame glasses_lens "
    "torso_mid_left arm_upper_right hand_left finger3_mid_top_right nails_left leg_lower_left foot_right",
    "skin": "forehead brow eyebrow_left temples cheek_right chin jaw jowl smile_line mouth eyes eyelid eyelid_left "
    "eyelashes eyelash_right undereye undereye_left ear_left head nose_outer beard mustache",
    "eye_left": "eye_right sclera_right cornea_right pupil_right",
    "eye_right": "eye_left sclera_left cornea_left pupil_left",
    "nose": "nose nostrils",
    "upper_lip": "lip_upper",
    "inner_mouth": "mouthbag teeth tongue",
    "lower_lip": "lip_lower",
    "hair": "hair",
}


def test_every_segment_has_its_common_class():
    assert SEGMENTS[0] == "background"
    assert len(set(SEGMENTS)) == len(SEGMENTS) < 255
    table = class_table()
    for common, names in NAMES.items():
        for name in names.split():
            assert FACE_CLASSES[table[SEGMENTS.index(name)]] == common, name
    assert (table[len(SEGMENTS) :] == 255).all()


def test_the_ambiguous_segments_can_be_chosen():
    changed = np.nonzero(class_table(nose_outer="nose") != class_table())[0]
    assert [SEGMENTS[k] for k in changed] == ["nose_outer"]
    ignored = np.nonzero(class_table(glasses="ignore")[: len(SEGMENTS)] == 255)[0]
    assert [SEGMENTS[k] for k in ignored] == ["glasses", "glasses_frame", "glasses_lens"]
    with pytest.raises(ValueError, match=r"labels\.glasses: unknown class 'glass'"):
        class_table(glasses="glass")
    with pytest.raises(ValueError, match=r"labels\.nose_outer: unknown class 'ear'"):
        class_table(nose_outer="ear")
    with pytest.raises(ValueError, match="beard must be left out, since no label there is a choice of that name"):
        class_table(beard="hair")


def test_two_names_cannot_share_an_id():
    with pytest.raises(ValueError, match="must differ, but nose and hair share one"):
        from_named(np.zeros((2, 2), int), {"nose": 0, "hair": 0})


def test_ids_are_taken_by_the_names_of_their_own_image(tmp_path):
    mappings = {"background": 0, "eye_left": 1, "eye_right": 2}, {"eye_right": 0, "background": 300, "eye_left": 40}
    for scene, mapping in enumerate(mappings):
        write_scene(tmp_path, scene, mapping=mapping)
    first, second = read(tmp_path, size=S).samples
    for sample in (first, second):
        np.testing.assert_array_equal(np.array(SEGMENTS)[sample["segments"]], halves())
    assert first["segments"].dtype == np.uint8


def test_the_subjects_left_eye_is_the_images_right(tmp_path):
    write_scene(tmp_path, 0)
    labels = only(tmp_path)["segmentation"]
    assert set(labels[S // 2 :, : S // 2].ravel().tolist()) == {FACE_CLASSES.index("eye_left")}
    assert set(labels[S // 2 :, S // 2 :].ravel().tolist()) == {FACE_CLASSES.index("eye_right")}
    sample = only(tmp_path)
    np.testing.assert_allclose(
        sample["pupils"], [[0.4 * S - 0.5, S / 2 - 0.5], [0.6 * S - 0.5, S / 2 - 0.5]], rtol=1e-6
    )
    world = np.array([[0.6, 0, 0.8], [0, 0, 1]])  # right, then left
    np.testing.assert_allclose(sample["gaze"], world @ WORLD_TO_CAMERA[:3, :3].T, atol=1e-6)


def test_glasses_can_be_ignored(tmp_path):
    labels = halves()
    labels[-2:] = "glasses_lens"
    write_scene(tmp_path, 0, labels=labels)
    np.testing.assert_array_equal(
        only(tmp_path, choices={"glasses": "ignore"})["segmentation"] == 255, labels == "glasses_lens"
    )
    assert (only(tmp_path)["segmentation"][-2:] == 0).all()


def test_pixels_of_the_same_size_pass_unchanged_and_the_background_is_zero(tmp_path):
    write_scene(tmp_path, 0)
    sample = only(tmp_path)
    np.testing.assert_array_equal(sample["image"], np.asarray(Image.open(tmp_path / "0.rgb.png")))
    background = halves() == "background"
    np.testing.assert_array_equal(sample["alpha"], np.where(background, 0, 254))
    np.testing.assert_array_equal(sample["depth"], tifffile.imread(tmp_path / "0.depth.tif"))
    np.testing.assert_array_equal(sample["normals"][background], 0)
    np.testing.assert_array_equal(sample["normals"][~background], np.float16([0.6, 0, 0.8]) + np.zeros((S * S // 2, 1)))
    assert json.loads(sample["metadata"]) == {
        "version": "1.2",
        "camera": {"sensor": {"width_mm": 33.0}},
        "facial_attributes": {"head_turn": {"yaw": 0, "pitch": 0, "roll": 0}},
        "identity_metadata": {"id": 7},
    }
    assert sample["metadata"] == json.dumps(json.loads(sample["metadata"]), sort_keys=True)


def test_another_size_moves_points_with_pixel_centres_and_takes_depth_under_them(tmp_path):
    write_scene(tmp_path, 0)
    same, half, more = (only(tmp_path, size=size) for size in (S, S // 2, 3 * S))
    for sample, size in ((half, S // 2), (more, 3 * S)):
        for name in ("landmarks", "pupils"):
            np.testing.assert_allclose(sample[name], (same[name] + 0.5) * size / S - 0.5, atol=1e-5)
        np.testing.assert_allclose(
            sample["intrinsics"], [[k * size / S for k in row] for row in same["intrinsics"][:2]] + [[0, 0, 1]]
        )
        np.testing.assert_array_equal(sample["gaze"], same["gaze"])
    for name in ("segments", "segmentation", "depth", "normals"):
        np.testing.assert_array_equal(half[name], same[name][1::2, 1::2])
        np.testing.assert_array_equal(more[name], same[name].repeat(3, axis=0).repeat(3, axis=1))
    area = same["image"].reshape(S // 2, 2, S // 2, 2, 3).mean(axis=(1, 3))
    assert np.abs(half["image"] - area).max() <= 0.5
    np.testing.assert_array_equal(half["alpha"], same["alpha"][::2, ::2])


def test_version_1_has_fifths_of_a_metre_and_gaze_into_the_head(tmp_path):
    turn = {"yaw": -10, "pitch": 20, "roll": 90}
    write_scene(tmp_path / "one", 0, version=1, facial_attributes={"head_turn": turn})
    write_scene(tmp_path / "two", 0)
    one, two = only(tmp_path / "one"), only(tmp_path / "two")
    np.testing.assert_allclose(one["depth"].astype(float), two["depth"], rtol=2e-3)
    np.testing.assert_array_equal(one["depth"] == 0, halves() == "background")
    right = -np.array([0.6, 0, 0.8])
    yaw, pitch = np.radians(10), np.radians(20)
    right = np.array(
        [np.cos(yaw) * right[0] + np.sin(yaw) * right[2], 0, np.cos(yaw) * right[2] - np.sin(yaw) * right[0]]
    )
    right = np.array([-right[1], right[0], right[2]])  # a roll of 90 degrees
    right = np.array(
        [
            right[0],
            np.cos(pitch) * right[1] - np.sin(pitch) * right[2],
            np.sin(pitch) * right[1] + np.cos(pitch) * right[2],
        ]
    )
    np.testing.assert_allclose(one["gaze"][0], WORLD_TO_CAMERA[:3, :3] @ right, atol=1e-6)


@pytest.mark.parametrize("from_right", [False, True])
def test_the_contour_of_version_1_2_gets_ibug_order(tmp_path, from_right):
    contour = face() + np.array([0.01, 0])
    contour[17:] = face()[17:]
    jaw = contour[:17][::-1] if from_right else contour[:17]
    chains = [*jaw[:9], *jaw[:8:-1], *contour[17:]]  # from one ear to the chin, from the other ear to the chin
    points = numbered(chains, start=1)
    write_scene(tmp_path, 0, contour_landmarks=[p for p in points if p["ptnum"] not in (18, 36, 68)])
    np.testing.assert_allclose(only(tmp_path)["landmarks_contour"], contour * S - 0.5, atol=1e-5)
    write_scene(tmp_path, 0, contour_landmarks=points[:4] + points[5:])
    with pytest.raises(ValueError, match=r"0.info.json: contour landmarks must be 68 points, 1 to 17 among them"):
        only(tmp_path)


def test_version_1_5_has_sets_of_landmarks_and_longer_names(tmp_path):
    sets = {
        "ibug68": numbered(face(), "id"),
        "ibug68_contour": numbered(face() + 0.01, "id"),
        "mpeg4": [{"id": 3, "name": "2.1"}],
    }
    for scene in ("10.cam_default.f_1", "9.cam_default.f_1", "9.cam_default.f_2"):
        write_scene(tmp_path, scene, version="1.5", landmarks=sets)
    (tmp_path / "metadata.jsonl").write_text("{}\n")
    (tmp_path / "9.cam_default.f_1.exr").write_bytes(b"")
    samples = list(read(tmp_path, size=S).samples)
    assert [sample["id"] for sample in samples] == ["9.cam_default.f_1", "9.cam_default.f_2", "10.cam_default.f_1"]
    np.testing.assert_allclose(samples[0]["landmarks"], face() * S - 0.5, atol=1e-5)
    np.testing.assert_allclose(samples[0]["landmarks_contour"], (face() + 0.01) * S - 0.5, atol=1e-5)
    assert json.loads(samples[0]["metadata"])["landmarks"] == {"mpeg4": sets["mpeg4"]}


def test_what_a_folder_lacks_is_no_column(tmp_path):
    write_scene(tmp_path, 0, camera=None, gaze_values=None, landmarks=None)
    for name in ("alpha", "depth", "normals"):
        (tmp_path / f"0.{name}.tif").unlink()
    assert set(only(tmp_path)) == {"id", "image", "segmentation", "segments", "pupils", "metadata"}


def test_rows_are_disjoint_random_subsets_and_there_is_no_split(tmp_path):
    for scene in range(6):
        write_scene(tmp_path, scene)
    parts = [[s["id"] for s in read(tmp_path, size=4, rows=rows).samples] for rows in ("0:2", "2:6")]
    assert sorted(parts[0] + parts[1]) == list("012345")
    with pytest.raises(ValueError, match="split must be left out"):
        read(tmp_path, size=4, split="train")


def edit(path, change):
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def spoil_tiff(name, change):
    def spoil(root):
        array = tifffile.imread(root / f"1.{name}.tif")
        tifffile.imwrite(root / f"1.{name}.tif", change(array))

    return spoil


def spoil_info(change):
    return lambda root: edit(root / "1.info.json", change)


def spoil_pixel(array):
    array[3, 3] = np.nan
    return array


BAD = {
    "unknown id": (
        spoil_info(lambda info: info["segments_mapping"].pop("eye_left")),
        r"1.segments.png: ids must be in segments_mapping, but 1 is not",
    ),
    "unknown name": (
        spoil_info(lambda info: info.update(segments_mapping={"background": 0, "third_eye": 1, "eye_right": 2})),
        r"1.segments.png: segments must be those of datasets.segments, but id 1 is 'third_eye'",
    ),
    "no mapping": (
        spoil_info(lambda info: info.pop("segments_mapping")),
        r"1.segments.png: info.json must have segments_mapping, names to ids, but has None",
    ),
    "segments of another size": (
        lambda root: Image.fromarray(np.zeros((8, 8), np.uint16)).save(root / "1.segments.png"),
        r"1.segments.png: must be 16x16 as the scene's rgb.png, but is 8x8",
    ),
    "truncated image": (
        lambda root: (root / "1.rgb.png").write_bytes((root / "1.rgb.png").read_bytes()[:-200]),
        r"1.rgb.png: not a readable image",
    ),
    "not square": (
        lambda root: Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(root / "1.rgb.png"),
        r"1.rgb.png: must be square, but is 9x8",
    ),
    "alpha of another size": (
        spoil_tiff("alpha", lambda array: array[:8]),
        r"1.alpha.tif: must be uint8 16x16 as the scene's rgb.png, but is uint8 8x16",
    ),
    "depth of another type": (
        spoil_tiff("depth", lambda array: array.astype(np.float32)),
        r"1.depth.tif: must be float16 16x16 as the scene's rgb.png, but is float32 16x16",
    ),
    "depth not a number": (spoil_tiff("depth", spoil_pixel), r"1.depth.tif: values must be finite, but 1 are not"),
    "negative depth": (spoil_tiff("depth", lambda array: -array), r"1.depth.tif: `depth >= 0` must hold, but got -1"),
    "truncated TIFF": (
        lambda root: (root / "1.normals.tif").write_bytes((root / "1.normals.tif").read_bytes()[:300]),
        r"1.normals.tif: not a readable TIFF",
    ),
    "no TIFF": (lambda root: (root / "1.alpha.tif").write_text("hello"), r"1.alpha.tif: not a readable TIFF"),
    "bad JSON": (lambda root: (root / "1.info.json").write_text('{"a": '), r"1.info.json: not readable JSON"),
    "another version": (
        spoil_info(lambda info: info.update(version="2.0")),
        r"1.info.json: version must be one of 1, 1.2, 1.4, 1.5, but got '2.0'",
    ),
    "landmarks missing": (
        spoil_info(lambda info: info["landmarks"].pop()),
        r"1.info.json: landmarks must be 68 points, 0 to 67, but are 67",
    ),
    "landmarks doubled": (
        spoil_info(lambda info: info["landmarks"][1].update(ptnum=0)),
        r"1.info.json: landmarks must be a list of points, each with its ptnum, but got",
    ),
    "landmark not a number": (
        spoil_info(lambda info: info["landmarks"][5].update(screen_space_pos=[0.5, float("nan")])),
        r"1.info.json: landmarks.5.screen_space_pos must be 2 finite numbers, but is \[0.5, nan\]",
    ),
    "no gaze": (
        spoil_info(lambda info: info["gaze_values"].pop("eye_left")),
        r"1.info.json: gaze_values.eye_left.gaze_vector must be 3 finite numbers, but is None",
    ),
    "intrinsics": (
        spoil_info(lambda info: info["camera"].update(intrinsics=[[1, 2], [3, 4]])),
        r"1.info.json: camera.intrinsics must be 3x3 finite numbers, but is \[\[1, 2\], \[3, 4\]\]",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_in_one_line(tmp_path, kind):
    spoil, message = BAD[kind]
    for scene in range(2):
        write_scene(tmp_path, scene)
    spoil(tmp_path)
    samples = read(tmp_path, size=S).samples
    next(samples)  # the good one
    with pytest.raises(ValueError, match=message) as error:
        next(samples)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_folder_with_foreign_or_missing_files_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="must be a folder of SCENE"):
        read(tmp_path, size=S)
    for scene in range(2):
        write_scene(tmp_path, scene)
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"readme.txt: must be SCENE\.\{rgb.png,.*\}, metadata.jsonl or .exr; move it"):
        read(tmp_path, size=S)
    (tmp_path / "readme.txt").unlink()
    (tmp_path / "1.depth.tif").unlink()
    with pytest.raises(
        ValueError, match=r"1.depth.tif: the file is missing, and every scene of a folder where one has"
    ):
        read(tmp_path, size=S)
    (tmp_path / "0.depth.tif").unlink()
    (tmp_path / "1.info.json").unlink()
    with pytest.raises(ValueError, match=r"1.info.json: the file is missing, and every scene must have it"):
        read(tmp_path, size=S)


def test_missing_packages_are_named_with_the_command(tmp_path, monkeypatch):
    write_scene(tmp_path, 0)

    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(face_api, "import_module", absent)
    with pytest.raises(ValueError, match=r"need imagecodecs.*: pip install -c constraints.txt tifffile imagecodecs"):
        read(tmp_path, size=S)


def rendered(seed, side=S):
    """A sample as the renderer's, with values that do not fall on anything round."""
    rng = philox(seed)
    segments = rng.integers(0, len(SEGMENTS), (side, side), dtype=np.uint8)
    normals = rng.normal(size=(side, side, 3))
    gaze = rng.normal(size=(2, 3)).astype(np.float32)
    gaze[1] = 0, 1e-9, 1
    landmarks = rng.uniform(-1, side, (68, 2)).astype(np.float32)
    landmarks[0] = 0
    metadata = {
        "identity": {"age": 31.5, "shape": {"nose-hump": 0.1}},
        "expression": {"name": "smile", "intensity": 0.5, "units": {}, "gaze": [4.0, -2.0], "vergence": 1.5},
        "pose": {"yaw": 20.0, "pitch": -10.0, "roll": 5.0, "body": 0.5},
        "hair": {"style": "bob"},
        "facial_hair": {"style": "none"},
        "accessories": {"glasses": "none"},
        "clothes": {"neckline": "crew"},
        "light": {"environment": "yard.hdr", "turn": 30.0},
        "camera": {"blur": 0.1, "roll": 3.0},
    }
    return {
        "id": f"face-{seed}",
        "image": rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
        "segmentation": rng.integers(0, 9, (side, side), dtype=np.uint8),  # as no table of segments gives it
        "segments": segments,
        "alpha": rng.integers(0, 256, (side, side), dtype=np.uint8),
        "foreground": rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
        "background": rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
        "depth": rng.uniform(0, 2, (side, side)).astype(np.float16),
        "normals": (normals / np.linalg.norm(normals, axis=2, keepdims=True)).astype(np.float16),
        "landmarks": landmarks,
        "landmarks_contour": rng.uniform(0, side, (68, 2)).astype(np.float32),
        "landmarks_visible": rng.integers(0, 2, 68, dtype=np.uint8),
        "pupils": rng.uniform(0, side, (2, 2)).astype(np.float32),
        "gaze": gaze,
        "intrinsics": np.array([[71.3, 0, side / 2], [0, 71.3, side / 2], [0, 0, 1]], np.float32),
        "world_to_camera": WORLD_TO_CAMERA.astype(np.float32),
        "metadata": json.dumps(metadata),
    }


@pytest.mark.parametrize("side", [S, 49])
def test_a_written_folder_reads_back_bit_for_bit(tmp_path, side):
    samples = [rendered(seed, side) for seed in range(11)]
    assert write_face_api(tmp_path / "out", samples) == 11
    reading = read(tmp_path / "out", size=side)
    assert len(reading) == 11
    for expected, got in zip(samples, reading.samples, strict=True):
        assert set(expected) - set(got) == {"foreground", "background"}
        for name, value in got.items():
            if isinstance(value, str):
                assert value == expected[name]
            else:
                assert (value.dtype, value.shape) == (expected[name].dtype, expected[name].shape)
                assert value.tobytes() == expected[name].tobytes(), name
    kept = ({k: v for k, v in s.items() if k not in ("foreground", "background")} for s in samples)
    packs = [
        write_pack(tmp_path / f"pack{k}", rows, source={}, classes=FACE_CLASSES)
        for k, rows in enumerate(
            ({k: s[k] for k in sorted(s)} for s in rows) for rows in (kept, read(tmp_path / "out", size=side).samples)
        )
    ]
    assert packs[0].digest == packs[1].digest


def test_what_is_written_has_the_layouts_own_keys_and_compressions(tmp_path):
    write_face_api(tmp_path / "out", [rendered(5)])
    info = json.loads((tmp_path / "out/0.info.json").read_text())
    assert info["identity_metadata"] == {"age": 31.5, "shape": {"nose-hump": 0.1}}
    attributes = info["facial_attributes"]
    assert set(attributes) == {"expression", "gaze", "hair", "facial_hair", "head_turn"}
    assert attributes["expression"] == {"name": "smile", "intensity": 0.5, "units": {}}
    assert attributes["gaze"] == {"horizontal_angle": 4.0, "vertical_angle": -2.0, "vergence": 1.5}
    assert (info["accessories"], info["clothing"]) == ({"glasses": "none"}, {"neckline": "crew"})
    assert info["hdri"] == {"name": "yard.hdr"}
    assert not set(info) & {"identity", "expression", "pose", "hair", "clothes", "light", "background"}
    assert set(info["camera"]) == {"intrinsics", "field_of_view", "transform_world2cam", "transform_cam2world"}
    assert list(info["landmarks"][0]) == ["ptnum", "screen_space_pos", "visible"]
    world = np.linalg.inv(WORLD_TO_CAMERA[:3, :3]) @ rendered(5)["gaze"][0]
    np.testing.assert_allclose(info["gaze_values"]["eye_right"]["gaze_vector"], world, rtol=1e-5)
    with Image.open(tmp_path / "out/0.segments.png") as image:
        assert image.mode == "I;16"
    for name, compression, predictor in (("alpha", 5, 2), ("depth", 8, 3), ("normals", 8, 3)):
        with tifffile.TiffFile(tmp_path / f"out/0.{name}.tif") as tiff:
            assert (tiff.pages[0].compression, tiff.pages[0].predictor) == (compression, predictor)


def head_to_world(turn):
    """As the Face API's angles turn: Rx(pitch) Rz(roll) Ry(-yaw)."""
    axes = (turn["pitch"], 0, 0), (0, 0, turn["roll"]), (0, -turn["yaw"], 0)
    return np.linalg.multi_dot([cv2.Rodrigues(np.radians(np.array(axis, float)))[0] for axis in axes])


def test_head_turn_has_the_face_apis_signs_order_and_space():
    pose = pytest.importorskip("datasets.faces.pose")
    for ours, theirs in (((10, 0, 0), (-10, 0, 0)), ((0, 10, 0), (0, -10, 0)), ((0, 0, 10), (0, 0, -10))):
        turn = head_turn(*ours, np.eye(3))
        np.testing.assert_allclose([turn["yaw"], turn["pitch"], turn["roll"]], theirs, atol=1e-4)
    for yaw, pitch, roll in philox(1).uniform(-40, 40, (20, 3)):
        turn = head_turn(yaw, pitch, roll, WORLD_TO_CAMERA[:3, :3])
        head = WORLD_TO_CAMERA[:3, :3] @ head_to_world(turn)
        np.testing.assert_allclose(head, pose._rotation(yaw, pitch, roll), atol=1e-5)


def test_sections_say_what_a_sample_knows_and_no_more():
    person = json.loads(rendered(1)["metadata"])
    assert "head_turn" not in sections(person, None)["facial_attributes"]  # of an unknown world
    assert sections({"notes": 1, "accessories": {"hat": "cap"}}, WORLD_TO_CAMERA) == {"accessories": {"hat": "cap"}}
    for wrong in ({"pose": {"yaw": 1}}, {"expression": [1]}, {"light": {}}):
        with pytest.raises(ValueError, match=r"metadata must be as Person.describe gives it, but is not: "):
            sections(person | wrong, WORLD_TO_CAMERA)


def test_a_labellers_segmentation_is_kept_but_for_what_is_ignored(tmp_path):
    sample = rendered(3)
    write_face_api(tmp_path / "out", [sample])
    glasses = np.isin(sample["segments"], [SEGMENTS.index(n) for n in ("glasses", "glasses_frame", "glasses_lens")])
    assert glasses.any()
    np.testing.assert_array_equal(
        only(tmp_path / "out", choices={"glasses": "ignore"})["segmentation"],
        np.where(glasses, 255, sample["segmentation"]),
    )
    half = only(tmp_path / "out", size=S // 2)["segmentation"]
    np.testing.assert_array_equal(half, sample["segmentation"][1::2, 1::2])
    path = tmp_path / "out/0.info.json"
    text = json.loads(path.read_text())["sample"]["segmentation"]
    write_face_api(tmp_path / "smaller", [rendered(3, 8)])
    other = json.loads((tmp_path / "smaller/0.info.json").read_text())["sample"]["segmentation"]
    for wrong, message in (
        (text[:40], r"0.info.json: sample.segmentation must be a PNG in base64, but is not: "),
        ([1], r"0.info.json: sample.segmentation must be a PNG in base64, but is not: "),
        (other, r"0.info.json: sample.segmentation must be uint8 16x16 as the scene's rgb.png, but is uint8 8x8"),
    ):
        edit(path, lambda info, wrong=wrong: info["sample"].update(segmentation=wrong))
        with pytest.raises(ValueError, match=message) as error:
            only(tmp_path / "out")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("domain", ["studio", "street"])
def test_rendered_faces_come_back_from_the_command_lines_folder_bit_for_bit(tmp_path, domain, command_line):
    pytest.importorskip("numba")
    faces = ("--count", 4, "--size", 32, "--domain", domain, "--seed", 3)
    for arguments in (
        ("faces", tmp_path / "faces", *faces),
        ("faces", tmp_path / "folder", *faces, "--layout", "face-api"),
        ("pack", "face_api", tmp_path / "folder", tmp_path / "read", "--size", 32),
    ):
        assert command_line(*arguments)[::2] == (0, "")
    made, got = Pack.open(tmp_path / "faces"), Pack.open(tmp_path / "read")
    assert set(made.columns) - set(got.columns) == {"foreground", "background"}
    assert got.manifest.classes == made.manifest.classes
    for i in range(4):
        expected, sample = made.sample(i), got.sample(i)
        for name, value in sample.items():
            if isinstance(value, str):
                assert value == expected[name]
            else:
                assert value.dtype == expected[name].dtype
                assert value.tobytes() == expected[name].tobytes(), name
        # The angles that are written turn straight ahead into the eyes' mean direction, which is written too.
        info = json.loads((tmp_path / f"folder/{i}.info.json").read_text())
        angles = info["facial_attributes"]["gaze"]
        h, v = (np.radians(angles[f"{way}_angle"]) for way in ("horizontal", "vertical"))
        ahead = [np.sin(h) * np.cos(v), np.sin(v), np.cos(h) * np.cos(v)]
        mean = sum(np.array(info["gaze_values"][f"eye_{eye}"]["gaze_vector"]) for eye in ("left", "right"))
        expected = head_to_world(info["facial_attributes"]["head_turn"]) @ ahead
        np.testing.assert_allclose(mean / np.linalg.norm(mean), expected, atol=2e-3)


def test_a_folder_that_is_there_is_replaced_only_when_asked_and_only_of_the_face_api(tmp_path):
    out = tmp_path / "out"
    write_face_api(out, [rendered(0), rendered(1)])
    with pytest.raises(ValueError, match=r"out: exists; choose another path or pass overwrite"):
        write_face_api(out, [rendered(2)])
    assert write_face_api(out, [rendered(2)], overwrite=True) == 1
    assert only(out)["id"] == "face-2"
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"out: exists and is not a Face API folder"):
        write_face_api(out, [rendered(3)], overwrite=True)
    assert (out / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def without(name):
    sample = rendered(1)
    del sample[name]
    return sample


SAMPLES = {
    "none": ([], "must be given a sample, but got none"),
    "no segments": ([without("segments")], "sample 0: must have segments"),
    "other columns": ([rendered(0), without("pupils")], "sample 1: columns must be those of sample 0"),
    "other size": ([rendered(0), rendered(1, 8)], "sample 1: columns must be those of sample 0"),
    "dtype": (
        [rendered(0) | {"depth": np.ones((S, S))}],
        r"sample 0: depth must be float16 \(16, 16\), but is float64",
    ),
    "not finite": ([rendered(0) | {"pupils": np.full((2, 2), np.nan, np.float32)}], "pupils must be finite"),
    "unknown segment": ([rendered(0) | {"segments": np.full((S, S), 255, np.uint8)}], "segments must be below 105"),
    "camera in part": ([without("world_to_camera")], "sample 0: gaze needs world_to_camera"),
    "metadata": ([rendered(0) | {"metadata": "[]"}], "sample 0: metadata must be a JSON object"),
    "no person": ([rendered(0) | {"metadata": '{"light": 1}'}], "sample 0: metadata must be as Person.describe gives"),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_that_do_not_fit_leave_nothing_behind(tmp_path, kind):
    samples, message = SAMPLES[kind]
    with pytest.raises(ValueError, match=message):
        write_face_api(tmp_path / "out", samples)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_source_passes_through_and_leaves_the_old_folder(tmp_path):
    write_face_api(tmp_path / "out", [rendered(0)])

    def broken():
        yield rendered(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_face_api(tmp_path / "out", broken(), overwrite=True)
    assert only(tmp_path / "out")["id"] == "face-0"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def renders():
    """The real renders: (version, sample at 128 pixels, info.json) of each."""
    if not REAL.is_dir():
        pytest.skip(f"needs Face API renders at {REAL}")
    return [
        (version, sample, json.loads((REAL / version / f"{sample['id']}.info.json").read_text()))
        for version in ("v1", "v1.2", "v1.5")
        for sample in read(REAL / version, size=128).samples
    ]


def points(info, key="camera_space_pos"):
    landmarks = info["landmarks"]
    return np.array([p[key] for p in (landmarks if isinstance(landmarks, list) else landmarks["ibug68"])])


def nearest(labels, classes, place):
    """Distance in pixels from (x, y) to the nearest pixel of the classes; None where there is none."""
    y, x = np.nonzero(np.isin(labels, classes))
    return np.hypot(x - place[0], y - place[1]).min() if len(x) else None


def test_real_landmarks_lie_on_their_classes(renders):
    checks = {(36, 42): [2], (42, 48): [3], (50, 53): [5, 6], (56, 59): [7, 6], (29, 31): [4]}
    distances = [
        nearest(sample["segmentation"], classes, sample["landmarks"][start:stop].mean(axis=0))
        for _, sample, _ in renders
        for (start, stop), classes in checks.items()
    ]
    found = [distance for distance in distances if distance is not None]
    assert len(found) > 50
    assert max(found) < 3
    for _, sample, _ in renders:
        left, right = (np.nonzero(sample["segmentation"] == eye)[1] for eye in (2, 3))
        if len(left) and len(right):
            assert left.mean() < right.mean()
            assert abs(sample["pupils"][0, 0] - left.mean()) < abs(sample["pupils"][0, 0] - right.mean())


def test_real_landmarks_are_projections(renders):
    for version, sample, info in renders:
        projected = (points(info) * [1, -1, -1]) @ sample["intrinsics"].T.astype(float)
        error = projected[:, :2] / projected[:, 2:] - 0.5 - sample["landmarks"]
        if version == "v1.5":  # its brows were moved after the projection
            error = np.delete(error, range(17, 27), axis=0)
        assert np.abs(error).max() < 0.02
        world = np.c_[points(info, "world_space_pos"), np.ones(68)] @ sample["world_to_camera"].T
        np.testing.assert_allclose(world[:, :3], points(info), atol=1e-5)


def test_real_contours_stay_near_their_landmarks(renders):
    for version, sample, _ in renders:
        assert ("landmarks_contour" in sample) == (version != "v1")
        if version != "v1":
            assert np.linalg.norm(sample["landmarks_contour"] - sample["landmarks"], axis=1).max() < 10


def test_real_backgrounds_have_neither_depth_nor_normals(renders):
    for version, sample, info in renders:
        background = sample["segments"] == 0
        assert (sample["depth"][background] == 0).all()
        assert (sample["normals"][sample["depth"] == 0] == 0).all()
        if version != "v1.5":  # where the fringe of the foreground has no depth
            assert (sample["depth"][~background] > 0).all()
        surface = sample["depth"][~background & (sample["depth"] > 0)]
        assert np.abs(np.median(surface) + np.median(points(info)[:, 2])) < 0.15


def test_real_normals_are_those_of_the_depth(renders):
    skin = [SEGMENTS.index(name) for name in ("forehead", "brow", "cheek_left", "cheek_right", "chin")]
    y, x = np.mgrid[:512, :512] + 0.5
    for version, scenes in (("v1", "024"), ("v1.2", "0245"), ("v1.5", ["24"])):  # those that show enough of it
        for sample in read(REAL / version, size=512).samples:
            if sample["id"] not in scenes:
                continue
            matrix, depth = sample["intrinsics"], sample["depth"].astype(np.float64)
            rays = np.dstack([(x - matrix[0, 2]) / matrix[0, 0], (matrix[1, 2] - y) / matrix[1, 1], -np.ones_like(x)])
            surface = cv2.GaussianBlur(rays * depth[..., None], (0, 0), 3)  # float16 has steps of 1 mm here
            across, down = (np.roll(surface, -5, axis) - np.roll(surface, 5, axis) for axis in (1, 0))
            smooth = cv2.erode(np.isin(sample["segments"], skin).astype(np.uint8), np.ones((21, 21))) > 0
            given, computed = sample["normals"][smooth].astype(np.float64), np.cross(down, across)[smooth]
            cosine = (given * computed).sum(axis=1) / np.linalg.norm(given, axis=1) / np.linalg.norm(computed, axis=1)
            assert np.median(np.degrees(np.arccos(np.minimum(cosine, 1)))) < 2.5


def test_real_gaze_follows_the_heads_pose_and_the_eyes_angles(renders):
    tilt = cv2.Rodrigues(np.radians([-5.7, 0, 0]))[0]  # from the plane of the landmarks below to straight ahead
    for _, sample, info in renders:
        place = points(info)
        right = place[42:48].mean(axis=0) - place[36:42].mean(axis=0)
        right /= np.linalg.norm(right)
        up = place[27] - place[8]
        up -= right * (up @ right)
        up /= np.linalg.norm(up)
        angles = info["gaze_values"]["eye_left"]
        h, v = (np.radians(angles[f"{way}_angle"]) for way in ("horizontal", "vertical"))
        ahead = tilt @ [np.sin(h) * np.cos(v), np.sin(v), np.cos(h) * np.cos(v)]
        expected = np.column_stack([right, up, np.cross(right, up)]) @ ahead
        gaze = sample["gaze"].astype(np.float64).mean(axis=0)
        assert np.degrees(np.arccos(gaze @ expected / np.linalg.norm(gaze))) < 10
