"""Label tables: what they say, how they build on each other, and that the ready ones say what the data sets mean."""

from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from datasets.classes import FACE_CLASSES, IGNORE
from datasets.labels import LIBRARY, load_labels

# Written down apart from the tables: by id, the data set's name and the common class. LaPa's sides are the image's and
# CelebAMask-HQ's the subject's. FaceSynthetics' are the image's: in its official samples class 3 lies around landmarks
# 42 to 47, which are on the right of the image.
LAPA = "background 0, skin 1, left_eyebrow 1, right_eyebrow 1, left_eye 2, right_eye 3, nose 4, upper_lip 5, "
LAPA += "inner_mouth 6, lower_lip 7, hair 8"
CELEBAMASK_HQ = "background 0, skin 1, nose 4, eye_g 0, l_eye 3, r_eye 2, l_brow 1, r_brow 1, l_ear 1, r_ear 1, "
CELEBAMASK_HQ += "mouth 6, u_lip 5, l_lip 7, hair 8, hat 0, ear_r 0, neck_l 0, neck 0, cloth 0"
FACE_SYNTHETICS = "background 0, skin 1, nose 4, right_eye 3, left_eye 2, right_brow 1, left_brow 1, right_ear 1, "
FACE_SYNTHETICS += "left_ear 1, mouth_interior 6, top_lip 5, bottom_lip 7, neck 0, hair 8, beard 1, clothing 0, "
FACE_SYNTHETICS += "glasses 0, headwear 0, facewear 0"
GENERIC = "background 0, skin 1, eye_left 2, eye_right 3, nose 4, upper_lip 5, inner_mouth 6, lower_lip 7, hair 8"
BY_ID = {"lapa": LAPA, "celebamask_hq": CELEBAMASK_HQ, "face_synthetics": FACE_SYNTHETICS, "generic": GENERIC}

# The Face API's ids differ from image to image, and only names count. `_left` is the subject's.
FACE_API = {
    0: "background clothing body neck shoulders headwear headphones mask glasses* torso_* arm_* hand_* finger* nails_* "
    "leg_* foot_*",
    1: "forehead brow eyebrow_* temples cheek_* chin jaw jowl smile_line mouth eyes eyelid* eyelash* undereye* ear_* "
    "head nose_outer beard mustache",
    2: "eye_right sclera_right cornea_right pupil_right",
    3: "eye_left sclera_left cornea_left pupil_left",
    4: "nose nostrils",
    5: "lip_upper",
    6: "mouthbag teeth tongue",
    7: "lip_lower",
    8: "hair",
}
BY_NAME = {"face_api": FACE_API, "face_api_v2": FACE_API}


def test_every_ready_table_is_checked_here() -> None:
    assert {*LIBRARY.names} == {*BY_ID, *BY_NAME}


def test_the_nine_common_classes_are_those_of_lapa_without_eyebrows() -> None:
    names = ["background", "skin", "eye_left", "eye_right", "nose", "upper_lip", "inner_mouth", "lower_lip", "hair"]
    assert list(FACE_CLASSES) == names


@pytest.mark.parametrize("name", BY_ID)
def test_a_ready_table_says_what_the_ids_mean(name: str) -> None:
    pairs = [pair.split() for pair in BY_ID[name].split(", ")]
    table = load_labels(name)
    assert table.classes == FACE_CLASSES
    assert table.names == tuple(label for label, _ in pairs)
    assert table.ids == tuple(range(len(pairs)))
    assert table.lookup.dtype == np.uint8
    assert table.lookup.tolist() == [int(number) for _, number in pairs] + [IGNORE] * (256 - len(pairs))


@pytest.mark.parametrize("name", BY_NAME)
def test_a_ready_table_says_what_the_names_mean(name: str) -> None:
    table = load_labels(name)
    assert table.classes == FACE_CLASSES
    assert table.ids == tuple(range(len(table.names)))
    unused = {pattern for patterns in BY_NAME[name].values() for pattern in patterns.split()}
    for label, number in zip(table.names, table.ids, strict=True):
        matching = {
            (k, pattern)
            for k, patterns in BY_NAME[name].items()
            for pattern in patterns.split()
            if fnmatchcase(label, pattern)
        }
        assert {k for k, _ in matching} == {table.lookup[number]}, label
        unused -= {pattern for _, pattern in matching}
    assert not unused
    assert (table.lookup[len(table.names) :] == IGNORE).all()


@pytest.mark.parametrize(
    ("name", "label"), [("celebamask_hq", "eye_g"), ("face_synthetics", "glasses"), ("face_api", "glasses_lens")]
)
def test_glasses_are_a_choice(name: str, label: str) -> None:
    plain, chosen = load_labels(name), load_labels(name, {"glasses": "ignore"})
    number = plain.ids[plain.names.index(label)]
    assert (plain.lookup[number], chosen.lookup[number]) == (0, IGNORE)
    assert plain.digest != chosen.digest
    (changed,) = {(int(a), int(b)) for a, b in zip(plain.lookup, chosen.lookup, strict=True) if a != b}
    assert changed == (0, IGNORE)


def test_the_halo_of_the_nose_is_a_choice() -> None:
    table = load_labels("face_api", {"nose_outer": "nose"})
    assert table.lookup[table.names.index("nose_outer")] == 4


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_labels_are_numbered_in_their_order(table) -> None:
    got = load_labels(table("labels: {background: background, beak: nose, fur: hair}"))
    assert (got.names, got.ids) == (("background", "beak", "fur"), (0, 1, 2))
    assert got.lookup[:4].tolist() == [0, 4, 8, IGNORE]


def test_ids_may_have_gaps_and_be_255(table) -> None:
    got = load_labels(table("labels: {none: background, beak: {id: 40, is: nose}, fur: {id: 255, is: hair}}"))
    assert got.ids == (0, 40, 255)
    assert got.lookup[[0, 39, 40, 255]].tolist() == [0, IGNORE, 4, 8]
    assert (got.lookup != IGNORE).sum() == 3


def test_classes_may_be_ones_own(table) -> None:
    got = load_labels(table("classes: [sky, dog]\nlabels: {dog: dog, sky: sky, dirt: ignore}"))
    assert got.classes == ("sky", "dog")
    assert got.lookup[:3].tolist() == [1, 0, IGNORE]
    assert got.ids == (0, 1, 2)  # what is ignored is known all the same


def test_a_choice_may_stand_under_an_id(table) -> None:
    path = table("labels: {none: background, beak: {id: 9, is: {beaks: nose}}}")
    assert load_labels(path).lookup[9] == 4
    assert load_labels(path, {"beaks": "ignore"}).lookup[9] == IGNORE
    assert load_labels(path, {"beaks": "skin"}).lookup[9] == 1


def test_a_table_builds_on_a_ready_one(table) -> None:
    got, base = load_labels(table("base: lapa\nlabels: {hair: background, left_eyebrow: ignore}")), load_labels("lapa")
    assert (got.names, got.ids, got.classes) == (base.names, base.ids, base.classes)
    expected = base.lookup.copy()
    expected[10], expected[2] = 0, IGNORE
    np.testing.assert_array_equal(got.lookup, expected)
    assert got.digest != base.digest


def test_a_table_builds_on_one_beside_it_and_adds_to_it(table) -> None:
    table("classes: [none, some]\nlabels: {none: none, leaf: {leaves: some}}", "base.yaml")
    got = load_labels(table("base: base.yaml\nclasses: [none, some, more]\nlabels: {tree: more}"), {"leaves": "more"})
    assert got.names == ("none", "leaf", "tree")
    assert got.classes == ("none", "some", "more")
    assert got.lookup[:4].tolist() == [0, 2, 2, IGNORE]


def test_a_base_alone_changes_nothing(table) -> None:
    assert load_labels(table("base: celebamask_hq")).digest == load_labels("celebamask_hq").digest


def test_the_lookup_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_labels("lapa").lookup[0] = 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: {a: nos}", r"labels\.a: unknown class 'nos'; did you mean 'nose'"),
        ("labels: {a: 4}", r"labels\.a: unknown class 4; known here: background, .*, hair, ignore"),
        ("labels: {a: }", r"labels\.a: unknown class None"),
        ("labels: {a: {id: 3}}", r"labels\.a: unknown class None"),
        ("labels: {a: {b: nose, c: hair}}", r"labels\.a: unknown class {'b': 'nose', 'c': 'hair'}"),
        ("labels: {a: skin, b: {id: 0, is: nose}}", r"labels\.b: id must be 0 to 255 and no other's, but is 0"),
        ("labels: {a: {id: 1, is: nose}, b: skin}", r"labels\.b: id must be 0 to 255 and no other's, but is 1"),
        ("labels: {a: {id: 256, is: nose}}", r"labels\.a: id must be 0 to 255 and no other's, but is 256"),
        ("labels: {a: {id: -1, is: nose}}", r"labels\.a: id must be 0 to 255 and no other's, but is -1"),
        ("labels: {a: {id: one, is: nose}}", r"labels\.a: id must be 0 to 255 and no other's, but is 'one'"),
        ("labels: {a: {id: true, is: nose}}", r"labels\.a: id must be 0 to 255 and no other's, but is True"),
        ("labels: {a: skin, a: nose}", r"must be YAML, but in line 1: key 'a' is given twice"),
        ("classes: [a, a]\nlabels: {a: a}", r"classes: must be names that differ, but got \['a', 'a'\]"),
        ("classes: [1, 2]\nlabels: {a: 1}", r"classes: must be names that differ, but got \[1, 2\]"),
        ("classes: a\nlabels: {a: a}", r"labels must be a mapping and classes a list of names"),
        ("classes: [a]", r"labels must be a mapping"),
        ("labels: []", r"labels must be a mapping"),
        ("labels: {}", r"labels must be a mapping"),
        ("label: {a: skin}", r"unknown key 'label'; did you mean 'labels'"),
        ("base: lappa", r"base: unknown label table 'lappa'; did you mean 'lapa'"),
        ("base: [lapa]", r"base: must be a ready label table's name or a path, but got \['lapa'\]"),
        ("base: mine.yaml", r"base: must not lead back to the file itself"),
        ("base: gone.yaml", r"gone\.yaml: the label table's file must exist"),
        ("base: lapa\nlabels: {hair: har}", r"mine\.yaml: labels\.hair: unknown class 'har'; did you mean 'hair'"),
        (
            "base: lapa\nlabels: {wig: {id: 10, is: hair}}",
            r"labels\.wig: id must be 0 to 255 and no other's, but is 10",
        ),
        ("- a", r"must be a mapping \(labels: \.\.\.\), but got list"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(table, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_labels(table(text))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path))


def test_a_name_that_no_table_has_and_a_choice_that_no_label_has() -> None:
    with pytest.raises(ValueError, match=r"unknown label table 'lapaa'; did you mean 'lapa'\? \(or give the path"):
        load_labels("lapaa")
    with pytest.raises(ValueError, match=r"lapa\.yaml: glasses must be left out, since no label there is a choice"):
        load_labels("lapa", {"glasses": "ignore"})
    with pytest.raises(ValueError, match=r"celebamask_hq\.yaml: labels\.eye_g: unknown class 'glas'"):
        load_labels("celebamask_hq", {"glasses": "glas"})


def test_a_number_is_no_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("labels: {1: skin, 0: background}\n")
    with pytest.raises(ValueError, match=r"labels: a label must be a name, but got 1; ids are \{id: \.\.\., is: "):
        load_labels(path)
