"""Data of one's own: what people write into a dataset.yaml finds their files, and means what it says."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import formats
from datasets.packing import pack_data_set

read = partial(formats.read, "generic", size=16)
POINTS = np.array([[3.0, 4.5], [10.25, 6.0], [0.0, 15.0]])  # the centre of the first pixel at (0, 0)


def picture(k: int = 0, width: int = 16, height: int = 16) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 8, y * 8, np.full_like(x, k)], axis=2).astype(np.uint8)


def mask(k: int = 0, side: int = 16) -> np.ndarray:
    """All nine classes."""
    y, x = np.mgrid[:side, :side]
    return ((x + 3 * y + k) % 9).astype(np.uint8)


def matte(side: int = 16) -> np.ndarray:
    return np.arange(side * side, dtype=np.uint8).reshape(side, side)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def lines(points: np.ndarray, between: str = " ") -> str:
    return "".join(f"{x}{between}{y}\n" for x, y in points)


def settings(root: Path, text: str) -> None:
    write(root / "dataset.yaml", text)


ALL = """
image: "photos/{id}.png"
segmentation: "masks/{id}.png"
alpha: "mattes/{id}.png"
landmarks: "points/{id}.txt"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three samples with all that there can be, one in a folder."""
    for k, name in enumerate(["a", "b", "ann/3"]):
        save(tmp_path / f"photos/{name}.png", picture(k))
        save(tmp_path / f"masks/{name}.png", mask(k))
        save(tmp_path / f"mattes/{name}.png", matte())
        write(tmp_path / f"points/{name}.txt", lines(POINTS))
    settings(tmp_path, ALL)
    return tmp_path


def samples(reading):
    return {sample["id"]: sample for sample in reading.samples}


def test_patterns_find_images_and_all_that_belongs_to_them(root):
    got = samples(read(root))
    assert [*got] == ["a", "ann/3", "b"]
    for k, name in enumerate(["a", "b", "ann/3"]):
        assert [*got[name]] == ["id", "image", "segmentation", "alpha", "landmarks"]
        np.testing.assert_array_equal(got[name]["image"], picture(k))
        np.testing.assert_array_equal(got[name]["segmentation"], mask(k))
        np.testing.assert_array_equal(got[name]["alpha"], matte())
        np.testing.assert_array_equal(got[name]["landmarks"], POINTS.astype(np.float32))
    assert read(root).classes[2:4] == ("eye_left", "eye_right")


def test_only_the_image_is_needed(root):
    settings(root, 'image: "photos/{id}.png"')
    reading = read(root)
    assert [*samples(reading)["a"]] == ["id", "image"]
    assert reading.classes is None
    with pytest.raises(ValueError, match="labels must be left out, since this data has no classes"):
        read(root, labels="lapa")


def test_the_manifest_says_what_decided_and_not_where_it_was(root):
    settings(root, ALL + "origin: corner\n")
    source = read(root).source
    assert source["format"] == "generic"
    assert source["image"] == "photos/{id}.png"
    assert source["origin"] == "corner"
    assert str(root) not in str(source)


def test_it_becomes_a_pack_by_several_processes(root):
    reading = read(root)
    assert [*samples(pickle.loads(pickle.dumps(reading)))] == ["a", "ann/3", "b"]
    packed = pack_data_set(reading, root / "pack", workers=2)
    assert [packed.sample(i)["id"] for i in range(3)] == ["a", "ann/3", "b"]
    np.testing.assert_array_equal(packed.sample(1)["landmarks"], POINTS.astype(np.float32))


def test_masks_beside_their_images_are_no_images(tmp_path):
    for name in ("1", "2"):
        save(tmp_path / f"{name}.png", picture())
        save(tmp_path / f"{name}_mask.png", mask())
    save(tmp_path / "stray_mask.png", mask())  # of no image: itself one, and a bad sample
    settings(tmp_path, 'image: "{id}.png"\nsegmentation: "{id}_mask.png"')
    assert read(tmp_path).names == ("1", "2", "stray_mask")
    settings(tmp_path, 'image: "{id}_mask.png"\nalpha: "{id}.png"')
    assert read(tmp_path).names == ("1", "2", "stray")


def test_hidden_files_are_passed_over(root):
    write(root / "photos/._a.png", "of another file system")
    save(root / "photos/.cache/x.png", picture())
    assert read(root).names == ("a", "ann/3", "b")


def test_folders_may_be_links_and_paths_begin_with_a_dot(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "data").symlink_to(root / "photos")
    settings(other, 'image: "./data/{id}.png"')
    assert read(other).names == ("a", "ann/3", "b")


def test_an_id_may_stand_twice(tmp_path):
    for name in ("1", "2"):
        save(tmp_path / f"scenes/{name}/{name}_rgb.png", picture())
    save(tmp_path / "scenes/1/2_rgb.png", picture())
    settings(tmp_path, 'image: "scenes/{id}/{id}_rgb.png"')
    assert read(tmp_path).names == ("1", "2")


def test_splits_are_lists_of_ids(root):
    write(root / "train.txt", "b\n\nann/3\n")
    write(root / "val.txt", "a")
    settings(root, ALL + "splits: {train: train.txt, val: val.txt}")
    assert read(root, split="train").names == ("ann/3", "b")
    assert read(root, split="val").names == ("a",)
    assert read(root).names == ("a", "ann/3", "b")


def test_an_id_of_a_list_without_an_image_is_a_bad_sample(root):
    write(root / "train.txt", "a\ngone\n")
    settings(root, ALL + "splits: {train: train.txt}")
    reading = read(root, split="train")
    assert reading.names == ("a", "gone")
    with pytest.raises(ValueError, match=r"photos/gone.png: the file is missing"):
        reading.sample("gone")


def test_folders_may_be_the_splits(tmp_path):
    for split, name in (("train", "1"), ("train", "x/2"), ("val", "1")):
        save(tmp_path / f"{split}/images/{name}.png", picture(7 if split == "val" else 0))
        save(tmp_path / f"{split}/masks/{name}.png", mask())
    settings(tmp_path, 'image: "{split}/images/{id}.png"\nsegmentation: "{split}/masks/{id}.png"')
    assert read(tmp_path).names == ("train/1", "train/x/2", "val/1")
    assert read(tmp_path, split="train").names == ("train/1", "train/x/2")
    assert samples(read(tmp_path, split="val"))["val/1"]["image"][0, 0, 2] == 7
    with pytest.raises(ValueError, match=r"dataset.yaml: unknown split 'test'; known here: train, val"):
        read(tmp_path, split="test")


def test_a_table_names_files_and_splits(root):
    (root / "photos/b.png").rename(root / "photos/other.png")
    write(
        root / "lists/samples.csv",
        "\ufeffid,image,segmentation,alpha,landmarks,split\r\n"
        "a,photos/a.png,masks/a.png,mattes/a.png,points/a.txt,val\r\n"
        '"b,2", photos/other.png,masks/b.png,mattes/b.png,points/b.txt,train\r\n\r\n',
    )
    settings(root, "table: lists/samples.csv")
    got = samples(read(root))
    assert [*got] == ["a", "b,2"]
    np.testing.assert_array_equal(got["b,2"]["image"], picture(1))
    np.testing.assert_array_equal(got["b,2"]["segmentation"], mask(1))
    np.testing.assert_array_equal(got["a"]["landmarks"], POINTS.astype(np.float32))
    assert read(root, split="train").names == ("b,2",)


def test_a_table_may_hold_the_points_and_leave_ids_out(root):
    write(
        root / "samples.csv",
        "image,x0,y0,x1,y1\nphotos/a.png,1,2,3,4\nphotos/ann/3.png,5,6.5,7,8\nphotos/b.png,1,2,,4\n",
    )
    settings(root, "table: samples.csv\norigin: 1")
    reading = read(root)
    assert reading.names == ("photos/a", "photos/ann/3", "photos/b")
    assert reading.classes is None
    np.testing.assert_array_equal(reading.sample("photos/ann/3")["landmarks"], [[4, 5.5], [6, 7]])
    assert root / "samples.csv" in reading.data.files("photos/a")  # so that another table is read anew
    with pytest.raises(ValueError, match=r"samples.csv:4: x1 must be a finite number, but is ''"):
        reading.sample("photos/b")


def test_ten_and_more_points_keep_their_order(root):
    header = ",".join(f"x{k},y{k}" for k in reversed(range(12)))
    cells = ",".join(f"{k},{k + 1}" for k in reversed(range(12)))
    write(root / "samples.csv", f"id,image,{header}\na,photos/a.png,{cells}\n")
    settings(root, "table: samples.csv")
    np.testing.assert_array_equal(read(root).sample("a")["landmarks"], [[k, k + 1] for k in range(12)])


PTS = "version: 1\nn_points:  3\n{\n%s}\n"


@pytest.mark.parametrize(
    ("ending", "text", "origin", "shift"),
    [
        ("txt", "%s", None, 0),
        ("txt", "3\n%s", None, 0),
        ("txt", "%s", "0", 0),
        ("txt", "%s", "1", 1),
        ("txt", "%s", "corner", 0.5),
        ("csv", "x,y\n%s", None, 0),
        ("pts", PTS, None, 1),  # Matlab's, as 300-W and those who follow it write them
        ("pts", PTS, "1", 1),
        ("pts", PTS, "0", 0),
    ],
)
def test_points_are_counted_from_where_the_settings_say(root, ending, text, origin, shift):
    between = "," if ending == "csv" else " "
    for name in ("a", "b", "ann/3"):
        write(root / f"points/{name}.{ending}", text % lines(POINTS + shift, between))
    settings(root, ALL.replace(".txt", f".{ending}") + (f"origin: {origin}\n" if origin else ""))
    np.testing.assert_array_equal(read(root).sample("a")["landmarks"], POINTS.astype(np.float32))


def test_points_of_what_the_edge_cuts_are_kept(root):
    write(root / "points/a.txt", "3 4\n17 4\n")
    np.testing.assert_array_equal(read(root).sample("a")["landmarks"], [[3, 4], [17, 4]])


def test_points_move_with_the_crop_and_the_size(tmp_path):
    image = np.zeros((16, 24, 3), np.uint8)
    image[6, 14] = 255
    save(tmp_path / "a.png", image)
    write(tmp_path / "a.txt", "14 6\n")
    settings(tmp_path, 'image: "{id}.png"\nlandmarks: "{id}.txt"')
    sample = formats.read("generic", tmp_path, size=16, crop="center").sample("a")
    x, y = sample["landmarks"][0].astype(int)
    assert (x, y) == (10, 6)
    assert sample["image"][y, x].tolist() == [255, 255, 255]
    with pytest.raises(ValueError, match=r"a.png: must be square for crop none, but is 24x16"):
        read(tmp_path).sample("a")


MINE = """
classes: [background, person]
labels:
  background: background
  person: {id: 255, is: person}
  dog: {id: 7, is: ignore}
"""


def test_a_label_table_of_ones_own_stands_beside(root):
    own = np.zeros((16, 16), np.uint8)
    own[:4], own[4:6] = 255, 7
    for name in ("a", "b", "ann/3"):
        save(root / f"masks/{name}.png", own)
    write(root / "mine.yaml", MINE)
    settings(root, ALL + "labels: mine.yaml")
    reading = read(root)
    assert reading.classes == ("background", "person")
    np.testing.assert_array_equal(
        reading.sample("a")["segmentation"], np.select([own == 255, own == 7], [1, 255]).astype(np.uint8)
    )
    write(root / "mine.yaml", MINE.replace("7", "8"))
    with pytest.raises(ValueError, match=r"masks/a.png: classes must be 0, 8, 255, but got 7"):
        read(root).sample("a")
    assert read(root).source["labels"] != reading.source["labels"]


def test_a_ready_table_may_be_named_and_the_caller_goes_before_the_file(root):
    settings(root, ALL + "labels: lapa")
    assert read(root).sample("a")["segmentation"][0, 2] == 1  # an eyebrow
    assert read(root, labels="generic").sample("a")["segmentation"][0, 2] == 2
    settings(root, ALL + "labels: celebamask_hq")
    assert read(root, choices={"glasses": "ignore"}).sample("a")["segmentation"][0, 3] == 255


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "I;16"])
def test_alpha_is_a_channel_of_any_kind(root, mode):
    values = matte()
    path = root / "mattes/a.png"
    if mode == "1":
        values = np.where(values > 127, 255, 0).astype(np.uint8)
        save(path, values > 0)
    elif mode == "I;16":
        save(path, values.astype(np.uint16) * 257)
    elif mode == "LA":
        save(path, np.stack([np.full_like(values, 9), values], axis=2))
    else:
        save(path, values if mode == "L" else np.dstack([picture(), values]))
    with Image.open(path) as stored:
        assert stored.mode == mode
    np.testing.assert_array_equal(read(root).sample("a")["alpha"], values)


def test_the_image_may_carry_its_alpha_itself(tmp_path):
    save(tmp_path / "cut/a.png", np.dstack([picture(), matte()]))
    settings(tmp_path, 'image: "cut/{id}.png"\nalpha: "cut/{id}.png"')
    sample = read(tmp_path).sample("a")
    np.testing.assert_array_equal(sample["image"], picture())
    np.testing.assert_array_equal(sample["alpha"], matte())


def test_images_of_any_kind_become_upright_colour(tmp_path):
    y, x = np.mgrid[:16, :16]
    grey16 = ((x + 16 * y) * 257).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rows are the upright image's columns
    save(tmp_path / "turned.png", np.ascontiguousarray(np.rot90(picture())), exif=exif)
    save(tmp_path / "rgba.png", np.dstack([picture(), matte()]))
    save(tmp_path / "deep.png", grey16)
    save(tmp_path / "cmyk.jpg", picture(), "CMYK", quality=100)
    settings(tmp_path, 'image: "{id}.png"')
    got = samples(read(tmp_path))
    np.testing.assert_array_equal(got["turned"]["image"], picture())
    np.testing.assert_array_equal(got["rgba"]["image"], picture())
    np.testing.assert_array_equal(got["deep"]["image"], np.repeat((x + 16 * y)[..., None], 3, 2))
    settings(tmp_path, 'image: "{id}.jpg"')
    assert np.abs(read(tmp_path).sample("cmyk")["image"].astype(int) - picture()).max() <= 12


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


BAD = {
    "truncated image": (lambda r: cut(r / "photos/b.png"), r"photos/b.png: not a readable image"),
    "no image": (lambda r: write(r / "photos/b.png", "hello"), r"photos/b.png: not a readable image"),
    "no mask": (lambda r: (r / "masks/b.png").unlink(), r"masks/b.png: the file is missing"),
    "mask of another size": (
        lambda r: save(r / "masks/b.png", mask(side=15)),
        r"masks/b.png: must be 16x16 as its image, but is 15x15",
    ),
    "class out of range": (
        lambda r: save(r / "masks/b.png", mask() + np.uint8(1)),
        r"masks/b.png: classes must be 0 to 8, but got 9",
    ),
    "mask in colour": (lambda r: save(r / "masks/b.png", picture()), r"masks/b.png: must have one channel"),
    "no matte": (lambda r: (r / "mattes/b.png").unlink(), r"mattes/b.png: the file is missing"),
    "truncated matte": (lambda r: cut(r / "mattes/b.png"), r"mattes/b.png: not a readable image"),
    "matte in colour": (
        lambda r: save(r / "mattes/b.png", picture()),
        r"mattes/b.png: must have one channel or transparency, but is a picture of mode RGB",
    ),
    "matte of another size": (
        lambda r: save(r / "mattes/b.png", matte(12)),
        r"mattes/b.png: must be 16x16 as its image, but is 12x12",
    ),
    "no points": (lambda r: (r / "points/b.txt").unlink(), r"points/b.txt: the file is missing"),
    "empty points": (
        lambda r: write(r / "points/b.txt", "\n"),
        r"points/b.txt: must hold at least 1 points, but has 0",
    ),
    "points fewer than told": (
        lambda r: write(r / "points/b.txt", "4\n" + lines(POINTS)),
        r"points/b.txt: must hold 4 points, but has 3",
    ),
    "words as points": (
        lambda r: write(r / "points/b.txt", "1 2\nnose 4\n"),
        r"points/b.txt:2: must be a point `x y`, but reads 'nose 4'",
    ),
    "three numbers": (lambda r: write(r / "points/b.txt", "1 2 1\n"), r"points/b.txt:1: must be a point `x y`"),
    "not finite": (lambda r: write(r / "points/b.txt", "1 nan\n"), r"points/b.txt:1: a point must be finite"),
    "no text": (
        lambda r: (r / "points/b.txt").write_bytes(b"\xff\xfe1"),
        r"points/b.txt: not a readable file of points",
    ),
    "point outside": (
        lambda r: write(r / "points/b.txt", "3 4\n30 4\n"),
        r"points/b.txt: landmarks must be .* outside of the image of 16x16, but point 1 is at \(30, 4\)",
    ),
    "shares of the image": (
        lambda r: write(r / "points/b.txt", "0.3 0.4\n0.5 1\n"),
        r"points/b.txt: landmarks must be pixels, but all are between 0 and 1; multiply x by 16 and y by 16",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_makes_a_bad_sample_and_is_named_in_one_line(root, kind):
    spoil, message = BAD[kind]
    spoil(root)
    reading = read(root)
    assert reading.names == ("a", "ann/3", "b")
    reading.sample("a")
    with pytest.raises(ValueError, match=message) as error:
        reading.sample("b")
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must be a mapping \(image: \"photos/\{id\}.jpg\" ...\), but got nothing"),
        ("segmentation: 'm/{id}.png'", r"image must be given, .* or a table, but both are absent"),
        ("image: {id}.png", r"must be YAML, but in line 1: .*; put patterns in quotes; .*generic.py tells how"),
        ("image: photos/*.png", r"image: must be a path with \{id\} .*but got 'photos/\*.png'"),
        ("image: 'photos/{id}.*'", r"image: must be a path with \{id\}"),
        ("image: 'photos/{name}.png'", r"image: must be a path with \{id\}"),
        ("image: 'gone/{id}.png'", r"gone: must be the folder of images gone/\{id\}.png, but is none"),
        ("image: 'photos/{id}.tif'", r"photos: must hold images photos/\{id\}.tif, but has none"),
        ("image: 'photos/{id}.png'\nmask: 'm/{id}.png'", r"unknown key 'mask'; (did you mean|known here: image)"),
        ("image: 'photos/{id}.png'\norigin: 2", r"origin: must be 0, 1 or 'corner', but got 2"),
        ("image: 'photos/{id}.png'\nlabels: lapa", r"labels must be left out where there is no segmentation"),
        (f"{ALL}labels: lappa", r"labels: unknown label table 'lappa'; did you mean 'lapa'"),
        (f"{ALL}labels: gone.yaml", r"gone.yaml: the label table.* must exist"),
        ("image: 'photos/{id}.png'\nalpha: '{split}/{id}.png'", r"alpha must not have \{split\} where image has none"),
        ("image: '{split}/{id}.png'\nsplits: {a: a.txt}", r"splits must be left out where .*image has \{split\}"),
        ("table: a.csv\nimage: 'photos/{id}.png'", r"image must be left out beside table"),
        ("table: a.csv", r"a.csv: must be a comma-separated table, but: "),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_in_one_line(root, text, message):
    settings(root, text)
    with pytest.raises(ValueError, match=message) as error:
        read(root)
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


def test_a_folder_without_settings_says_which_file_is_wanted(tmp_path):
    with pytest.raises(ValueError, match=r"dataset.yaml: .*generic.py tells how to write it"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("a\nb\na\n", r"train.txt: ids must differ, but 'a' is there twice"),
        ("a.png\nb.png\n", r"train.txt: must list ids, one a line, as 'a', but lists 'a.png'"),
        ("", r"train.txt: must list ids, one a line, as 'a', but lists nothing"),
        (None, r"train.txt: must be a text file of one id a line, but: "),
    ],
)
def test_a_list_that_is_none_is_refused(root, listed, message):
    if listed is not None:
        write(root / "train.txt", listed)
    settings(root, ALL + "splits: {train: train.txt}")
    with pytest.raises(ValueError, match=message):
        read(root, split="train")


def test_a_split_that_is_not_there_is_refused(root):
    with pytest.raises(ValueError, match=r"dataset.yaml: must say what the splits are, but does not"):
        read(root, split="train")
    settings(root, ALL + "splits: {train: train.txt}")
    with pytest.raises(ValueError, match=r"dataset.yaml: unknown split 'trian'; did you mean 'train'"):
        read(root, split="trian")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image\n", r"must have a header and a line a sample, but has 1 lines"),
        ("id,mask\na,b\n", r"unknown column 'mask'"),
        ("id,alpha\na,b\n", r"must have a column image, but has id, alpha"),
        ("image;alpha\na;b\n", r"unknown column 'image;alpha'"),
        ("image,image\na,b\n", r"columns must differ, but image is there twice"),
        ("image,x1,y1\na,1,2\n", r"columns of points must be x0, y0, x1, y1 and so on, but are x1, y1"),
        ("image,x0,y0,x1\na,1,2,3\n", r"columns of points must be x0, y0"),
        ("image,landmarks,x0,y0\na,b,1,2\n", r"must have a column landmarks, or points x0, y0 and so on, but has both"),
        ("id,image\na,b\na,c\n", r"ids must differ, but 'a' is there twice"),
        ("id,image\n,b\n", r":2: id must be given, but is empty"),
        ("id,image\na,b,c\n", r":2: must have 2 cells as the header, but has 3"),
    ],
)
def test_a_table_that_is_none_is_refused(root, text, message):
    write(root / "t.csv", text)
    settings(root, "table: t.csv")
    with pytest.raises(ValueError, match=r"t\.csv" + (message if message[0] == ":" else ": " + message)) as error:
        read(root)
    assert "\n" not in str(error.value)


def test_an_empty_cell_makes_a_bad_sample(root):
    write(root / "t.csv", "id,image,alpha\na,photos/a.png,mattes/a.png\nb,photos/b.png,\nc\n")
    settings(root, "table: t.csv")
    reading = read(root)
    reading.sample("a")
    for name, message in (("b", r"t.csv:3: alpha must be given"), ("c", r"t.csv:4: image must be given, but is empty")):
        with pytest.raises(ValueError, match=message):
            reading.sample(name)
    with pytest.raises(ValueError, match=r"t.csv: must say what the splits are"):
        read(root, split="train")
    packed = pack_data_set(reading, root / "pack", skip_bad=True)
    assert len(packed) == 1
