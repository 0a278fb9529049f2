"""The Face API's newer layout, written here from what is known of it: what is read, and what is refused."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from datasets import formats
from datasets.packing import pack_data_set
from datasets.segments import SEGMENTS

read = partial(formats.read, "face_api_v2", size=16)
# Segments with ids of one image's own, and their common classes, written down apart from the table.
NAMES = {"background": 0, "eye_right": 700, "eye_left": 7, "nose": 31, "cheek_left": 2, "hair": 90, "mouthbag": 41}
NINE = {0: 0, 700: 2, 7: 3, 31: 4, 2: 1, 90: 8, 41: 6}


def segmentation(height: int = 16, width: int = 16) -> np.ndarray:
    ids = np.array([*NINE])
    y, x = np.mgrid[:height, :width]
    return ids[(y // 2 + x) % len(ids)].astype(np.uint16)


def image(height: int = 16, width: int = 16) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 8, y * 8, x + y], axis=2).astype(np.uint8)


def metadata(**more) -> dict:
    return {"version": "2.0", "humans": [{"identity": {"age": 33}}], "segments_mapping": NAMES, **more}


def write_scene(before: Path | str, *, measured: bool = True, **others) -> None:
    """The files of a scene, whose paths begin with `before`; others: instead of the image, ids and metadata."""
    Path(f"{before}rgb.npz").parent.mkdir(parents=True, exist_ok=True)
    ids = others.get("ids", segmentation())
    np.savez_compressed(f"{before}rgb.npz", image=others.get("image", image()))
    np.savez_compressed(f"{before}body_segmentation.npz", segmentation=ids)
    np.savez_compressed(f"{before}clothing_segmentation.npz", segmentation=ids)
    np.savez_compressed(f"{before}instance_segmentation.npz", anything=ids)
    Path(f"{before}image_metadata.json").write_text(json.dumps(others.get("metadata", metadata())))
    if measured:
        background = ids == 0
        depth = np.where(background, np.inf, 1.5).astype(np.float32)
        normals = np.where(background[..., None], np.nan, [0.0, 0.6, 0.8]).astype(np.float32)
        np.savez_compressed(f"{before}depth.npz", depth=depth)
        np.savez_compressed(f"{before}surface_normals.npz", surface_normals=normals)


def classes(ids: np.ndarray) -> np.ndarray:
    return np.vectorize(NINE.get)(ids).astype(np.uint8)


@pytest.mark.parametrize("place", ["{}/", "{}.", "deep/{}/", "{}/cam_default.f_1."])
def test_a_scene_is_read_from_a_folder_or_by_its_name(tmp_path, place):
    for scene in ("10", "9"):
        write_scene(f"{tmp_path}/{place.format(scene)}")
    reading = read(tmp_path)
    assert reading.names == tuple(place.format(scene)[:-1] for scene in ("10", "9"))
    sample = reading.sample(reading.names[0])
    assert [*sample] == ["id", "image", "segmentation", "segments", "depth", "normals", "metadata"]
    np.testing.assert_array_equal(sample["image"], image())
    np.testing.assert_array_equal(sample["segmentation"], classes(segmentation()))
    names = {number: name for name, number in NAMES.items()}
    for y, x in ((0, 0), (0, 1), (3, 5), (15, 15)):
        assert SEGMENTS[sample["segments"][y, x]] == names[segmentation()[y, x]]


def test_depth_and_normals_are_zero_in_the_background(tmp_path):
    write_scene(f"{tmp_path}/s/")
    sample = read(tmp_path).sample("s")
    background = segmentation() == 0
    assert sample["depth"].dtype == sample["normals"].dtype == np.float16
    np.testing.assert_array_equal(sample["depth"], np.where(background, 0, 1.5).astype(np.float16))
    np.testing.assert_array_equal(sample["normals"][background], 0)
    np.testing.assert_array_equal(sample["normals"][~background][0], np.float16([0, 0.6, 0.8]))


def test_all_metadata_but_the_mapping_is_passed_on(tmp_path):
    write_scene(f"{tmp_path}/s.", metadata=metadata(camera={"f": 1}))
    got = json.loads(read(tmp_path).sample("s")["metadata"])
    assert got == {"version": "2.0", "humans": [{"identity": {"age": 33}}], "camera": {"f": 1}}


def test_the_mapping_may_be_the_humans(tmp_path):
    write_scene(f"{tmp_path}/s.", metadata={"humans": [{"segments_mapping": NAMES}]})
    np.testing.assert_array_equal(read(tmp_path).sample("s")["segmentation"], classes(segmentation()))


def test_ids_differ_from_scene_to_scene(tmp_path):
    write_scene(f"{tmp_path}/a.")
    other = {name: number + 1 for name, number in NAMES.items()}
    write_scene(f"{tmp_path}/b.", ids=segmentation() + np.uint16(1), metadata=metadata(segments_mapping=other))
    np.testing.assert_array_equal(*(read(tmp_path).sample(scene)["segmentation"] for scene in "ab"))


def test_the_users_table_and_choices_count(tmp_path):
    names = NAMES | {"glasses": 31}
    del names["nose"]
    write_scene(f"{tmp_path}/s.", metadata=metadata(segments_mapping=names))
    got = read(tmp_path, choices={"glasses": "ignore"}).sample("s")["segmentation"]
    np.testing.assert_array_equal(got == 255, segmentation() == 31)
    (tmp_path / "mine.yaml").write_text("base: face_api\nlabels: {hair: background}\n")
    assert 8 not in read(tmp_path, labels=tmp_path / "mine.yaml").sample("s")["segmentation"]
    with pytest.raises(ValueError, match="labels of face_api_v2 must begin with those of the table face_api"):
        read(tmp_path, labels="lapa")


def test_images_need_not_be_square_and_depth_may_be_absent(tmp_path):
    write_scene(f"{tmp_path}/s.", image=image(16, 20), ids=segmentation(16, 20), measured=False)
    sample = read(tmp_path, crop="center").sample("s")
    assert "depth" not in sample
    np.testing.assert_array_equal(sample["image"], image(16, 20)[:, 2:18])
    np.testing.assert_array_equal(sample["segmentation"], classes(segmentation(16, 20))[:, 2:18])


def test_it_becomes_a_pack(tmp_path):
    for scene in "abc":
        write_scene(f"{tmp_path}/in/{scene}/")
    packed = pack_data_set(read(tmp_path / "in"), tmp_path / "out", workers=2)
    assert [packed.sample(i)["id"] for i in range(3)] == ["a", "b", "c"]
    assert packed.manifest.source["format"] == "face_api_v2"


def save(name: str, **arrays):
    return lambda before: np.savez(f"{before}{name}", **arrays)


def say(**more):
    return lambda before: Path(f"{before}image_metadata.json").write_text(json.dumps(metadata(**more)))


def remove(name: str):
    return lambda before: Path(f"{before}{name}").unlink()


def text(name: str, content: str):
    return lambda before: Path(f"{before}{name}").write_text(content)


def cut(name: str):
    return lambda before: Path(f"{before}{name}").write_bytes(Path(f"{before}{name}").read_bytes()[:-40])


def flip(name: str):
    """Changes a byte of the content, which its checksum tells."""

    def spoil(before):
        data = bytearray(Path(f"{before}{name}").read_bytes())
        data[len(data) // 2] ^= 255
        Path(f"{before}{name}").write_bytes(data)

    return spoil


def bare(name: str):
    def spoil(before):
        with Path(f"{before}{name}").open("wb") as file:
            np.save(file, image())

    return spoil


FLAT = np.ones((16, 16), np.float32)
BAD = {
    "no image": (remove("rgb.npz"), r"b\.rgb\.npz: the file is missing"),
    "no segments": (remove("body_segmentation.npz"), r"b\.body_segmentation\.npz: the file is missing"),
    "no metadata": (remove("image_metadata.json"), r"b\.image_metadata\.json: the file is missing"),
    "no depth where others have it": (remove("depth.npz"), r"b\.depth\.npz: the file is missing"),
    "truncated": (cut("rgb.npz"), r"b\.rgb\.npz: not a readable \.npz file"),
    "damaged": (flip("body_segmentation.npz"), r"b\.body_segmentation\.npz: not a readable \.npz file"),
    "no archive": (text("rgb.npz", "hello"), r"b\.rgb\.npz: not a readable \.npz file"),
    "an array alone": (bare("rgb.npz"), r"b\.rgb\.npz: not a readable \.npz file \(one array, no archive"),
    "objects": (save("rgb.npz", image=np.array([{}])), r"b\.rgb\.npz: not a readable \.npz file"),
    "other key": (save("rgb.npz", rgb=image()), r"b\.rgb\.npz: must hold an array 'image', but holds rgb"),
    "float image": (
        save("rgb.npz", image=image() / 255),
        r"b\.rgb\.npz: image must be uint8 HxWx3, but is float64 16x16x3",
    ),
    "other size": (
        save("body_segmentation.npz", segmentation=segmentation(15, 16)),
        r"segmentation must be whole numbers 16x16 as the image, but is uint16 15x16",
    ),
    "float ids": (save("body_segmentation.npz", segmentation=FLAT), r"must be whole numbers 16x16"),
    "id without name": (
        save("body_segmentation.npz", segmentation=segmentation() + np.uint16(5)),
        r"b\.body_segmentation\.npz: ids must be in segments_mapping, but 5 is not",
    ),
    "unknown name": (
        say(segments_mapping={"tail" if name == "hair" else name: number for name, number in NAMES.items()}),
        r"segments must be those of datasets\.segments, but id 90 is 'tail'",
    ),
    "no mapping": (
        say(segments_mapping=None),
        r"image_metadata\.json: must have segments_mapping, names to ids, once, .* but has None",
    ),
    "two mappings": (say(humans=[{"segments_mapping": NAMES}]), r"must have segments_mapping, names to ids, once"),
    "two humans": (say(humans=[{}, {}]), r"humans must be a list of one human, but got 2 of them"),
    "nobody": (say(humans=[]), r"humans must be a list of one human, but got 0 of them"),
    "humans no list": (say(humans={"id": 1}), r"humans must be a list of one human, but got {'id': 1}"),
    "no json": (text("image_metadata.json", "{"), r"image_metadata\.json: not readable JSON"),
    "json list": (text("image_metadata.json", "[]"), r"humans must be a list of one human, but got None"),
    "two depths": (save("depth.npz", near=FLAT, far=FLAT), r"depth\.npz: must hold one array, but holds near, far"),
    "depth of another size": (
        save("depth.npz", depth=FLAT[1:]),
        r"depth\.npz: must be floats 16x16 as the image, but is float32 15x16",
    ),
    "whole depth": (save("depth.npz", depth=segmentation()), r"depth\.npz: must be floats 16x16"),
    "depth below zero": (save("depth.npz", depth=-FLAT), r"depth\.npz: `depth >= 0` must hold, but got -1"),
    "infinite depth": (
        save("depth.npz", depth=FLAT * 1e6),
        r"depth\.npz: values must be finite in float16 but for the background",
    ),
    "flat normals": (save("surface_normals.npz", normals=FLAT), r"surface_normals\.npz: must be floats 16x16x3"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_understood_is_refused_in_one_line(tmp_path, kind):
    spoil, message = BAD[kind]
    for scene in "ab":
        write_scene(f"{tmp_path}/{scene}.")
    spoil(f"{tmp_path}/b.")
    reading = read(tmp_path)
    assert reading.names == ("a", "b")
    reading.sample("a")
    with pytest.raises(ValueError, match=message) as error:
        reading.sample("b")
    assert "\n" not in str(error.value)
    assert f"{tmp_path}/b." in str(error.value)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must have scenes of rgb\.npz, body_segmentation\.npz, image_metadata\.json"):
        read(tmp_path)
    write_scene(f"{tmp_path}/")
    with pytest.raises(ValueError, match=r"must be in a folder of its scene, or SCENE\."):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"split must be left out"):
        read(tmp_path, split="train")


def test_two_scenes_of_one_name_are_refused(tmp_path):
    write_scene(f"{tmp_path}/s.")
    write_scene(f"{tmp_path}/s/")
    with pytest.raises(ValueError, match=r"scenes must differ in name, but s is a folder and begins names of files"):
        read(tmp_path)
