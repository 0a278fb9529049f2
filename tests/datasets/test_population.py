"""Populations of the embedded faces: what a file says is what is drawn, and what it must not say is one clear line."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datasets.faces.draw import draw_identity
from datasets.faces.expressions import EXPRESSIONS, SIDED
from datasets.faces.person import Person
from datasets.faces.population import LIBRARY, Population, PopulationError, load_population, ready_populations
from datasets.faces.shapes import FAMILIES, NAMES

ROOT = Path(__file__).resolve().parents[2]
READY = ("landmark_study", "street", "studio")
DRAWS = 3000


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Person]]:
    return {name: list(map(load_population(name).draw, range(DRAWS))) for name in READY}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def is_share(count: int, share: float, of: int = DRAWS) -> bool:
    """Whether a count is within four and a half standard deviations of a binomial distribution's mean."""
    return abs(count - share * of) <= 4.5 * (of * share * (1 - share)) ** 0.5 + 0.5


def test_the_ready_populations_are_these() -> None:
    assert ready_populations() == READY
    assert all((LIBRARY.folder / f"{name}.yaml").read_text().startswith("# ") for name in READY)


def test_a_person_is_a_pure_function_of_population_and_seed_across_processes() -> None:
    seeds = [0, 7, 2**64 - 1]
    code = (
        "import json; from datasets.faces.population import load_population as load;"
        f"print(json.dumps([load('street').draw(s, ['a.hdr', 'b.hdr']).describe() for s in {seeds}]))"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    street = load_population("street")
    for seed in reversed(seeds):
        street.draw(3)
        assert json.loads(other)[seeds.index(seed)] == json.loads(
            json.dumps(street.draw(seed, ["a.hdr", "b.hdr"]).describe())
        )


def test_drawing_loads_neither_torch_nor_the_package_anny() -> None:
    code = "import sys, datasets.faces.population as p; p.load_population('studio').draw(1);"
    code += "sys.exit(' '.join(m for m in ('torch', 'anny') if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Nouns that may follow a changed noun: hair, beard and brows the identity, eyes the pose.
FOLLOWS = {
    "identity": {"hair", "facial_hair"},
    "pose": {"expression"},
    "light": {"background"},
    "hair": {"facial_hair"},
}
CHANGES = {
    "identity": "age: [60, 70]\n  sex: female\n  ethnicity: asian\n  shape: {nose: 0.9}",
    "expression": "groups: [{percent: 100, intensity: 1, names: [laugh]}]\n  gaze_away_percent: 100",
    "pose": "yaw: [10, 20]",
    "hair": "style: {female: {long: 100}, male: {bald: 100}}\n  color: red",
    "facial_hair": "style: {full: 100}",
    "accessories": "glasses: {sunglasses: 90}\n  hat: {cap: 50}",
    "clothes": "palette: vivid\n  neckline: off",
    "light": "strength: 9\n  azimuth: [90, 100]",
    "camera": "focal: 24\n  jpeg: 40",
    "background": "kind: clutter\n  blur: 0",
}


@pytest.mark.parametrize("noun", CHANGES)
def test_changing_one_noun_changes_no_other(noun: str, write: Callable[[str], Path], drawn: Any) -> None:
    changed = load_population(write(f"base: studio\n{noun}:\n  {CHANGES[noun]}\n"))
    differ = Counter[str]()
    for seed in range(60):
        one, other = drawn["studio"][seed].describe(), changed.draw(seed).describe()
        differ.update(name for name in one if one[name] != other[name])
    assert differ[noun] > 10
    assert set(differ) <= {noun} | FOLLOWS.get(noun, set())


def test_changing_one_field_changes_no_other_of_its_noun(write: Callable[[str], Path], drawn: Any) -> None:
    changed = load_population(write("base: studio\ncamera:\n  focal: [24, 28]\n"))
    for seed, person in enumerate(drawn["studio"][:50]):
        assert replace(changed.draw(seed).camera, focal=person.camera.focal) == person.camera


def test_populations_of_one_series_show_the_same_people_and_of_another_do_not(drawn: Any) -> None:
    studio, study, street = (drawn[name] for name in ("studio", "landmark_study", "street"))
    assert [p.identity.texture for p in studio] == [p.identity.texture for p in study]
    assert not {p.identity.texture for p in studio} & {p.identity.texture for p in street}
    heads = [[p.identity.shape.get(name, 0.0) for name in NAMES] for people in (studio, street) for p in people[:200]]
    correlations = [np.corrcoef(heads[i], heads[200 + i])[0, 1] for i in range(200)]
    assert np.max(np.abs(correlations)) < 0.6


def test_shares_are_what_the_file_says(drawn: Any) -> None:
    for name in READY:
        raw = {noun: asdict_of(name, noun) for noun in ("accessories", "clothes")}
        for noun, field in (("accessories", "glasses"), ("accessories", "hat"), ("accessories", "mask"),
                            ("clothes", "neckline"), ("clothes", "pattern")):  # fmt: skip
            shares = raw[noun][field]
            shares = {shares: 100} if isinstance(shares, str) else shares
            counts = Counter(getattr(getattr(person, noun), field) for person in drawn[name])
            for choice, percent in shares.items():
                assert is_share(counts[choice], percent / 100), (name, field, choice)


def asdict_of(name: str, noun: str) -> dict[str, Any]:
    """A noun as a file and its base say it, read with no help from the code under test (but that `off` is a word)."""
    raw = yaml.safe_load((LIBRARY.folder / f"{name}.yaml").read_text().replace("off:", "'off':"))
    base = asdict_of(raw["base"], noun) if "base" in raw else {}
    return {**base, **raw.get(noun, {})}


def test_studio_has_the_modest_shares_of_accessories(drawn: Any) -> None:
    worn = [person.accessories for person in drawn["studio"]]
    assert is_share(sum(a.glasses == "clear" for a in worn), 0.12)
    assert is_share(sum(a.glasses == "sunglasses" for a in worn), 0.03)
    assert is_share(sum(a.hat != "none" for a in worn), 0.06)
    assert is_share(sum(a.mask != "none" for a in worn), 0.02)
    assert is_share(sum(a.headphones != "none" for a in worn), 0.02 * 0.94)
    assert not any(a.headphones != "none" and a.hat != "none" for a in worn)


def test_the_landmark_study_is_the_whitepapers(drawn: Any) -> None:
    """Synthesis AI, "Synthetic Data Case Studies: It Just Works" (2021): 10% clear glasses, 60% expressions of 0.7 to
    1, 20% of 0.1 to 0.3, at most 45 degrees."""
    people = drawn["landmark_study"]
    glasses = Counter(person.accessories.glasses for person in people)
    assert is_share(glasses["clear"], 0.1)
    assert set(glasses) == {"clear", "none"}
    strong = [p for p in people if 0.7 <= p.expression.intensity <= 1]
    weak = [p for p in people if 0.1 <= p.expression.intensity <= 0.3]
    still = [p for p in people if p.expression.intensity == 0]
    assert len(strong) + len(weak) + len(still) == len(people)
    assert is_share(len(strong), 0.6)
    assert is_share(len(weak), 0.2)
    assert {p.expression.name for p in still} == {"neutral"}
    assert {p.expression.name for p in strong} == set(EXPRESSIONS)
    angles = [np.degrees(np.arccos(np.cos(np.radians(p.pose.yaw)) * np.cos(np.radians(p.pose.pitch)))) for p in people]
    assert 44 < max(angles) <= 45.001
    shares = asdict_of("landmark_study", "identity")["ethnicity"].values()
    assert len(shares) == 6
    assert max(shares) - min(shares) < 0.001
    text = (LIBRARY.folder / "landmark_study.yaml").read_text()
    assert len([line for line in text.splitlines() if line and not line.startswith("#")]) <= 16  # a short file


@pytest.mark.parametrize("name", READY)
def test_values_stay_within_what_person_says(name: str, drawn: Any) -> None:
    for p in drawn[name]:
        assert 18 <= p.identity.age <= 80
        assert abs(sum(p.identity.ethnicity) - 1) < 1e-3
        assert min(p.identity.ethnicity) >= 0
        for unit in ("masculinity", "weight", "muscle", "redness", "freckles", "blemish", "wrinkles", "lip_tint"):
            assert 0 <= getattr(p.identity, unit) <= 1, unit
        assert max(map(abs, p.identity.shape.values())) <= 1
        assert all(0 <= weight <= 1 for weight in p.expression.units.values())
        assert all(-45 <= angle <= 45 for angle in (p.pose.yaw, p.pose.pitch, p.pose.roll))
        assert all(abs(angle) <= 46 for angle in p.expression.gaze)
        assert abs(np.linalg.norm(p.light.direction) - 1) < 1e-3
        assert 24 <= p.camera.focal <= 135
        assert 0.25 <= p.camera.face_height <= 0.65
        assert p.camera.jpeg == 0 or 30 <= p.camera.jpeg <= 100
        for color in (p.hair.color, p.facial_hair.color, p.facial_hair.brow_color, p.identity.iris, p.clothes.color,
                      p.accessories.lens_color, *p.background.colors):  # fmt: skip
            assert all(0 <= channel <= 1 for channel in color)
        assert p.facial_hair.style == "none" or p.identity.masculinity >= 0.5
        assert 20 <= p.identity.skin[0] <= 80


def test_skin_follows_the_measured_cheeks(write: Callable[[str], Path]) -> None:
    """Means and standard deviations of Xiao et al. 2017, cheek; darker dark skin is less yellow."""
    measured = {
        "caucasian": ((59.6, 11.8, 14.6), (5.5, 3.1, 2.6)),
        "middle_eastern": ((58.0, 11.7, 15.8), (4.4, 2.3, 2.1)),
    }
    for group, (mean, sd) in measured.items():
        flat = "age: 30, skin_lightness: 0, skin_chroma: 1"
        people = load_population(write(f"base: studio\nidentity: {{ethnicity: {group}, {flat}}}"))
        lab = np.array([people.draw(seed).identity.skin for seed in range(1500)])
        np.testing.assert_allclose(lab.mean(0), mean, atol=0.5)
        np.testing.assert_allclose(lab.std(0), sd, rtol=0.15)
    african = load_population(write("base: studio\nidentity: {ethnicity: african}"))
    lab = np.array([african.draw(seed).identity.skin for seed in range(1500)])
    assert np.corrcoef(lab[:, 0], lab[:, 2])[0, 1] > 0.4


def test_age_and_sex_show(drawn: Any) -> None:
    people = drawn["studio"]
    old, young = ([p for p in people if p.identity.age > 62], [p for p in people if p.identity.age < 27])
    assert np.mean([p.hair.grey for p in old]) > 0.3 > 0.02 > np.mean([p.hair.grey for p in young])
    assert np.mean([p.identity.wrinkles for p in old]) > 0.5 > 0.05 > np.mean([p.identity.wrinkles for p in young])
    women, men = ([p for p in people if (p.identity.masculinity >= 0.5) == man] for man in (False, True))
    long = ("long", "bob", "ponytail", "bun")
    of_women, of_men = (np.mean([p.hair.style in long for p in some]) for some in (women, men))
    assert of_women > 0.4 > 0.12 > of_men > 0
    assert np.mean([p.hair.recession for p in men]) > 2 * np.mean([p.hair.recession for p in women])


def test_eyes_look_into_the_camera_when_they_are_not_away(write: Callable[[str], Path]) -> None:
    here = load_population(write("base: studio\nexpression: {gaze_away_percent: 0, gaze_jitter: 0}\n"))
    for person in map(here.draw, range(200)):
        sideways, up = person.expression.gaze
        assert sideways == pytest.approx(np.clip(-person.pose.yaw, -32, 32), abs=1e-3)
        assert up == pytest.approx(np.clip(-person.pose.pitch, -20, 20), abs=1e-3)


def test_street_is_another_population_with_another_labeller(drawn: Any) -> None:
    studio, street = (
        {n: np.array([p.identity.shape.get(n, 0) for p in drawn[d]]) for n in NAMES} for d in ("studio", "street")
    )
    moved = [n for n in NAMES if abs(studio[n].mean() - street[n].mean()) > 0.3 * studio[n].std()]
    assert len(moved) >= 10
    for field, what in (("noise", "camera"), ("blur", "camera"), ("contrast", "camera"), ("shadow", "light")):
        means = [np.mean([getattr(getattr(p, what), field) for p in drawn[name]]) for name in ("studio", "street")]
        assert means[1] > 1.2 * means[0], field
    assert load_population("studio").labels != load_population("street").labels
    assert load_population("street").labels.nose_outer == "nose"


def test_twenty_thousand_people_are_twenty_thousand_identities() -> None:
    studio = load_population("studio")
    assert len({json.dumps(draw_identity(studio, seed)[0].shape) for seed in range(20_000)}) == 20_000
    assert studio.draw(19_999).identity == draw_identity(studio, 19_999)[0]


def test_a_person_is_json_and_comes_back_the_same(drawn: Any) -> None:
    for name in READY:
        for person in drawn[name][:300]:
            text = json.dumps(person.describe(), allow_nan=False)
            assert json.loads(text) == json.loads(json.dumps(asdict(person)))


def test_panoramas_are_drawn_by_name_in_their_share() -> None:
    street = load_population("street")
    names = ["a.hdr", "b.hdr", "c.hdr"]
    counts = Counter(street.draw(seed, names).light.environment for seed in range(DRAWS))
    assert all(is_share(counts[name], 1 / 3) for name in names)
    assert street.draw(5, names).background.kind == "panorama"
    assert street.draw(5).light.environment == "procedural"


def test_shapes_and_units_are_the_head_models() -> None:
    """Nothing is named that the head model has not, and what it has is drawn or left out knowingly."""
    head = pytest.importorskip("datasets.faces.head").load_head()
    left_out = {n for n in head.shapes if n.startswith(("head-trans", "asymm-"))}
    left_out |= {"head-angle", "measure-neck-height", "neck-scale-vert"}
    assert set(NAMES) == set(head.shapes) - left_out
    assert {unit for units in SIDED.values() for unit in units} <= set(head.units)
    one_sided = {name for name, (below, _) in head.shapes.items() if not below}
    limits = {name: limit for family in FAMILIES.values() for name, limit in family.items()}
    assert {name for name in NAMES if limits[name][0] == 0} == one_sided - left_out


# fmt: off
WRONG = {
    "unknown noun": ("base: studio\nidentiy: {}", "unknown key 'identiy'; did you mean 'identity'?"),
    "unknown field": ("base: studio\nhair: {lenght: 1}", "unknown key 'hair.lenght'; did you mean 'hair.length'?"),
    "unknown choice": ("base: studio\naccessories: {glasses: {clera: 10}}",
                       "accessories.glasses: unknown name 'clera'; did you mean 'clear'?"),
    "unknown style": ("base: studio\nhair: {style: {female: {lon: 10}, male: short}}",
                      "hair.style.female: unknown name 'lon'; did you mean 'long'?"),
    "over 100": ("base: studio\naccessories: {glasses: {clear: 90, sunglasses: 20}}",
                 "accessories.glasses: percentages must sum to at most 100, but sum to 110"),
    "percent over 100": ("base: studio\nexpression: {blink_percent: 101}",
                         "expression.blink_percent: must be between 0 and 100, but got 101"),
    "negative percent": ("base: studio\naccessories: {hat: {cap: -1}}",
                         "accessories.hat: percent of cap must be between 0 and 100, but got -1"),
    "groups over 100": ("base: studio\n"
                        "expression: {groups: [{percent: 60, intensity: 1}, {percent: 50, intensity: 1}]}",
                        "expression.groups: percentages must sum to at most 100, but sum to 110"),
    "unknown expression": ("base: studio\nexpression: {groups: [{percent: 6, intensity: 1, names: [smlie]}]}",
                           "expression.groups: unknown expression 'smlie'; did you mean 'smile'?"),
    "unknown key of a group": ("base: studio\nexpression: {groups: [{percnt: 6, intensity: 1}]}",
                               "did you mean 'expression.groups.0.percent'?"),
    "empty noun": ("base: studio\npose:", "pose: must be a mapping of yaw, pitch, roll"),
    "list for a key": ("base: studio\n? [pose]\n: 3", "the population's file must be YAML, but in line 2"),
    "number for a key": ("base: studio\n3: 4", "unknown key '3'"),
    "list for a noun": ("base: studio\nhair: [short]", "hair: must be a mapping of style, length"),
    "group without percent": ("base: studio\nexpression: {groups: [{intensity: 1}]}",
                              "expression.groups.0.percent must be given"),
    "low over high": ("base: studio\nidentity: {age: [60, 30]}",
                      "identity.age: low <= high must hold, but got low=60, high=30"),
    "three ends": ("base: studio\nidentity: {age: [60, 30, 2]}", "identity.age: a range must be [low, high]"),
    "out of range": ("base: studio\nidentity: {age: [12, 30]}",
                     "identity.age: must be between 18 and 80, but got 12 to 30"),
    "nan": ("base: studio\nidentity: {age: .nan}", "identity.age: must be a finite number, but got nan"),
    "infinite": ("base: studio\ncamera: {focal: [24, .inf]}",
                 "camera.focal: high must be a finite number, but got inf"),
    "bool for number": ("base: studio\npose: {yaw: true}", "pose.yaw: must be a number, but got True"),
    "bool for percent": ("base: studio\nexpression: {blink_percent: true}", "must be a number, but got True"),
    "text for number": ("base: studio\npose: {yaw: wide}",
                        "pose.yaw: must be a number, [low, high], {mean, sd, low, high}"),
    "half a normal": ("base: studio\npose: {yaw: {mean: 0, sd: 3}}", "but got a mapping with mean, sd"),
    "no spread": ("base: studio\npose: {yaw: {mean: 0, sd: 0, low: -1, high: 1}}",
                  "pose.yaw: sd must be above 0, but got 0"),
    "normal elsewhere": ("base: studio\npose: {yaw: {mean: 900, sd: 1, low: -1, high: 1}}", "with some probability"),
    "mixture of 90": ("base: studio\npose: {yaw: [{percent: 90, value: 0}]}",
                      "pose.yaw: the percentages of a mixture must sum to 100, but sum to 90"),
    "unknown family": ("base: studio\nidentity: {shape: {noes: 0.3}}",
                       "identity.shape: unknown family 'noes'; did you mean 'nose'?"),
    "unknown shape": ("base: studio\nidentity: {shape_mean: {nose-hmp: 0.3}}", "did you mean 'nose-hump'?"),
    "unknown class": ("base: studio\nlabels: {grow: {upper-lip: 1}}",
                      "labels.grow: unknown class 'upper-lip'; did you mean 'upper_lip'?"),
    "unknown habit": ("base: studio\nlabels: {glasses: keep}",
                      "labels.glasses: must be 'background' or 'ignore', but got 'keep'"),
    "noun that is no mapping": ("base: studio\npose: 3", "pose: must be a mapping of yaw, pitch, roll"),
    "missing field": ("labels: {nose_outer: skin}",
                      "identity must be given, but it is absent; give it, or take the rest"),
    "bad series": ("base: studio\nseries: -1", "series: must be a whole number of at least 0, but got -1"),
    "unknown base": ("base: studoi", "base: unknown population 'studoi'; did you mean 'studio'?"),
    "base that is none": ("base: 3", "base: must be a ready population's name or a path, but got 3"),
    "own base": ("base: ./mine.yaml", "base: must not lead back to the file itself"),
    "twice": ("base: studio\npose: {yaw: 0, yaw: 1}", "must be YAML, but in line 2: key 'yaw' is given twice"),
    "no mapping": ("- studio", "the population's file must be a mapping (identity:, pose: ...), but got list"),
    "empty": ("", "the population's file must be a mapping (identity:, pose: ...), but got nothing"),
    "no YAML": ("pose: [", "the population's file must be YAML, but in line 1"),
}
# fmt: on


@pytest.mark.parametrize(("text", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_gets_one_line(text: str, line: str, write: Callable[[str], Path]) -> None:
    path = write(text)
    with pytest.raises(PopulationError) as error:
        load_population(path)
    assert line in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_error_of_the_base_names_the_base(write: Callable[..., Path]) -> None:
    base = write("base: studio\npose: {yaw: [9, 3]}", "base.yaml")
    with pytest.raises(PopulationError, match="low <= high") as error:
        load_population(write("base: ./base.yaml\n"))
    assert str(error.value).startswith(str(base.parent))
    assert "base.yaml: pose.yaw" in str(error.value)


def test_what_is_no_population_gets_one_line(tmp_path: Path) -> None:
    for name, line in (("studoi", "unknown population 'studoi'; did you mean 'studio'?"),
                       (tmp_path / "none.yaml", "must exist"), (tmp_path, "must be readable text")):  # fmt: skip
        with pytest.raises(PopulationError) as error:
            load_population(name)
        assert line in str(error.value)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PopulationError, match="must be readable text"):
        load_population(binary)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, "7"])
def test_a_wrong_seed_gets_one_line(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be a whole number"):
        load_population("studio").draw(seed)


def test_numbers_are_drawn_as_the_grammar_says(write: Callable[[str], Path]) -> None:
    normal_part = "{percent: 70, mean: 0, sd: 10, low: -20, high: 20}"
    yaw = f"[{normal_part}, {{percent: 20, low: 30, high: 40}}, {{percent: 10, value: -44}}]"
    mixed = load_population(write(f"base: studio\npose: {{yaw: {yaw}, pitch: 0, roll: [3, 5], max_angle: 90}}\n"))
    poses = [mixed.draw(seed).pose for seed in range(DRAWS)]
    yaws = np.array([pose.yaw for pose in poses])
    assert is_share(int((yaws == -44).sum()), 0.1)
    assert is_share(int((yaws >= 30).sum()), 0.2)
    normal = yaws[(yaws > -44) & (yaws < 30)]
    assert np.abs(normal).max() <= 20
    assert abs(normal.std() - 8.796) < 0.4  # of a normal with sd 10 truncated at +-2 sd
    assert {pose.pitch for pose in poses} == {0}
    rolls = np.array([pose.roll for pose in poses])
    assert rolls.min() >= 3
    assert rolls.max() <= 5
    assert abs(rolls.mean() - 4) < 0.06


def test_a_population_is_frozen() -> None:
    studio: Population = load_population("studio")
    with pytest.raises(ValueError, match="frozen"):
        studio.series = 3  # type: ignore[misc]
    assert studio == load_population(LIBRARY.folder / "studio.yaml")


def test_the_readmes_population_is_one(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(base:.*?)```", readme, flags=re.DOTALL)
    path = tmp_path / "readme.yaml"
    path.write_text(block, encoding="utf-8")
    yaws = [load_population(path).draw(seed).pose.yaw for seed in range(20)]
    assert max(map(abs, yaws)) > 25


def test_the_digest_is_that_of_the_content(write: Callable[..., Path]) -> None:
    by_name, by_path = load_population("studio"), load_population(write("base: studio\n"))
    other = load_population(write("base: studio\npose: {max_angle: 49}\n", "other.yaml"))
    assert by_name.digest == by_path.digest != other.digest
