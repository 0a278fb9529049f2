"""Schedules and adaptation methods in a search file: what it may say, what is drawn of it, and a search with them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from typer.testing import CliRunner

from datasets import PackError, write_pack
from search.__main__ import app
from search.config import ConfigError, load
from search.problem import open_problem
from search.space import SpaceConfig
from tests.conftest import toy_face
from tests.search.test_cli import toy_search
from tests.search.test_sources import metrics_of, searched
from tests.toy import ONE_SLOT, RUNGS, toy_trainer
from trainables.methods import ADAPTATIONS, APPLIES, OPTIONS
from trainables.numerics import set_deterministic
from trainables.path import path_of
from trainables.recipe import SCHEDULES

WHOLE: dict[str, Any] = {
    "schedule": list(SCHEDULES),
    "adaptation": list(ADAPTATIONS),
    "fda": {"beta": [0.01, 0.05]},
    "adain": {"layers": ["stem", "all"]},
    "real_fraction": [0.5],
    "synthetic_fraction": [1.0],
    "synthetic_share": [0.5],
    "gradual": {"blocks": [2, 4]},
    "pretrain": {"steps": [5], "lr": [0.1, 0.3]},
    "freeze": ["nothing", ["backbone", "norm"]],
    "lr_factor": [0.1, 1.0],
    "lr": [0.2],
}


ALONE: dict[str, Any] = dict.fromkeys(("adain", "fda", "freeze", "pretrain", "gradual", "synthetic_share"))
TUNED = ALONE | {"schedule": ["finetune"], "pretrain": {"steps": [5], "lr": [0.1]}, "lr": None}


def space(**given: Any) -> SpaceConfig:
    return SpaceConfig.model_validate({name: v for name, v in (WHOLE | given).items() if v is not None})


def test_a_grid_has_each_method_where_it_applies_with_its_options_and_no_others() -> None:
    recipes = space().enumerate()
    assert len({recipe.key for recipe in recipes}) == len(recipes)
    methods = {s: Counter(r.adaptation for r in recipes if r.schedule == s) for s in SCHEDULES}
    of_method = {method: {"fda": 2, "adain": 2}.get(method, 1) for method in ADAPTATIONS}
    tuned = 2 * 2 * 2  # rates of the trunk, factors, what is frozen
    times = {"mixed": 1, "gradual": 2, "finetune": tuned, "mixed_finetune": tuned, "synthetic_only": 1}
    for schedule, count in times.items():
        expected = {m: of_method[m] * count for m in APPLIES[schedule]}  # type: ignore[index]
        if schedule == "synthetic_only":
            expected[None] = expected.pop("none")  # type: ignore[index,arg-type]
        assert methods[schedule] == expected  # type: ignore[index]
    assert methods["real_only"] == {None: 1}
    for recipe in recipes:
        assert [name for name in OPTIONS if getattr(recipe, name) is not None] == (
            [recipe.adaptation] if recipe.adaptation in OPTIONS else []
        )
        rates = {0.01, 0.03, 0.1, 0.3} if recipe.pretrain else {0.2}
        assert recipe.lr in rates
        if recipe.pretrain:
            assert recipe.lr / recipe.pretrain.lr == pytest.approx(0.1) or recipe.lr == recipe.pretrain.lr


def test_optuna_draws_what_the_grid_holds_and_keeps_it_in_a_database(tmp_path: Path) -> None:
    """A database refuses a parameter whose choices change, which a schedule with some of the methods would do."""
    drawn = space()
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path}/study.db",
        sampler=optuna.samplers.TPESampler(seed=0, multivariate=True, group=True),
    )
    grid = {recipe.key for recipe in drawn.enumerate()}
    seen = set()
    for k in range(40):
        trial = study.ask()
        recipe = drawn.suggest(trial)
        assert recipe.key in grid
        assert drawn.recipe(trial.params) == recipe
        seen.add(recipe.schedule)
        study.tell(trial, float(k % 7))
    assert len(seen) > 3


def test_a_grid_that_is_enqueued_is_drawn_as_it_was_meant() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    grid = space().grid()
    for params in grid.values():
        study.enqueue_trial(params)
    assert [space().suggest(study.ask()).key for _ in grid] == list(grid)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (TUNED | {"adaptation": ["dsbn"]}, "adaptation must list a method that schedule 'finetune' has"),
        (TUNED | {"adaptation": ["none", "dsbn"]}, "'dsbn', which makes no difference to any schedule"),
        ({"adaptation": ["none"]}, "adain is given, but adaptation does not list it"),
        (
            {"schedule": ["mixed"], "lr_factor": None, "freeze": None, "pretrain": None},
            "gradual is given, but schedule",
        ),
        (
            {"schedule": ["mixed"], "freeze": None, "pretrain": None, "gradual": None},
            "lr_factor is given, but no schedule",
        ),
        ({"lr": None}, "lr must be given, since schedule 'real_only' needs it"),
        ({"gradual": {"start": [0.2], "end": [0.4]}}, "`end < start` must hold"),
        ({"adain_image": {"encoder": "e.pth"}}, "encoder and decoder go together"),
        ({"fda": {"beta": [0.6]}}, "less than or equal to 0.5"),
        ({"histogram": {"strength": []}}, "must list at least one value"),
    ],
)
def test_what_a_space_cannot_mean_is_told(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        space(**given)


def test_a_part_that_the_model_has_not_is_told_before_anything_starts(toy_packs: Path, tmp_path: Path) -> None:
    for value, says in (
        ("backbon", "must name norm or parts of the model"),
        ("[backbone, aspp, decoder]", "whole model"),
    ):
        path = toy_search(toy_packs, tmp_path, {"  pretrain:": f"  freeze: [nothing, {value}]\n  pretrain:"})
        with pytest.raises(ValueError, match=rf"^space\.freeze: freeze .*{says}"):
            open_problem(load(path))


def test_files_of_an_encoder_are_the_search_s_and_in_the_keys_by_content(toy_packs: Path, tmp_path: Path) -> None:
    change = {
        "adaptation: [none]": "adaptation: [adain_image]\n"
        "  adain_image: {strength: [0.5], encoder: e.pth, decoder: d.pth}",
        "[real_only, synthetic_only, finetune]": "[finetune]",
    }
    path = toy_search(toy_packs, tmp_path, change)
    with pytest.raises(ConfigError, match=r"toy\.yaml: space\.adain_image: .*e\.pth"):
        load(path)
    keys = []
    for content in (b"one", b"other"):
        (tmp_path / "e.pth").write_bytes(content)
        (tmp_path / "d.pth").write_bytes(b"decoder")
        config = load(path)
        recipe = config.space.enumerate()[0]
        assert recipe.params()["adain_image.strength"] == 0.5
        assert "encoder" not in str(recipe.params())
        trunk = path_of(recipe, open_problem(config).problem, 0)[0].stage
        assert trunk.translation is not None
        assert trunk.translation.encoder.digest == config.space.adain_image.encoder.digest  # type: ignore[union-attr]
        keys.append(trunk.key)
    assert keys[0] != keys[1]


# -- references -----------------------------------------------------------------------------------------------------

METHODS = {
    "[real_only, synthetic_only, finetune]": "[synthetic_only]",
    "adaptation: [none]": "adaptation: [none, adabn, histogram]",
    "  real_fraction: [0.5, 1.0]\n": "",
    "  pretrain: {steps: [4], lr: [0.05]}\n": "",
    "seeds: 2": "seeds: 1",
} | ONE_SLOT


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images without labels."""
    path = tmp_path_factory.mktemp("unlabelled") / "pack"
    rows = ({"image": np.asarray(toy_face(seed, synthetic=False)["image"])} for seed in range(300, 308))
    write_pack(path, rows, source={"format": "toy"})
    return path


def file(toy_packs: Path, folder: Path, references: str) -> Path:
    folder.mkdir(exist_ok=True)
    return toy_search(toy_packs, folder, METHODS | {f"  real: {{toy: {toy_packs}/real}}\n": references})


def test_references_are_asked_for_and_only_where_they_are_read(toy_packs: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.references must be given, since synthetic_only with adabn reads real"
    ):
        load(file(toy_packs, tmp_path, ""))
    with pytest.raises(ConfigError, match=r"data\.references must be left out: no recipe reads real images without"):
        load(toy_search(toy_packs, tmp_path, {"  val:": f"  references: {toy_packs}/real\n  val:"}))


def test_references_must_be_as_the_other_images_and_not_those_that_are_measured(
    toy_packs: Path, tmp_path: Path
) -> None:
    small = write_pack(tmp_path / "small", [{"image": np.zeros((8, 8, 3), np.uint8)}], source={"format": "toy"})
    with pytest.raises((PackError, ValueError), match=r"column 'image' of data\.references must be uint8.*as in .*val"):
        open_problem(load(file(toy_packs, tmp_path, f"  references: {small.path}\n")))
    with pytest.raises(
        ValueError, match=r"data\.val: .* must not be a training pack, but data\.references has the same"
    ):
        open_problem(load(file(toy_packs, tmp_path, f"  references: {toy_packs}/val\n")))


@pytest.mark.slow
def test_a_search_with_references_has_the_numbers_of_plain_training(
    ray_session: None, toy_packs: Path, tmp_path: Path, unlabelled: Path
) -> None:
    path = file(toy_packs, tmp_path, f"  references: {unlabelled}\n")
    result = searched(path, tmp_path)
    assert result.state == "finished"
    assert result.steps_trained == 2 * 6  # adabn is evaluated on the steps of none
    runs = metrics_of(result)
    config = load(path)
    opened = open_problem(config)
    set_deterministic(1)
    trainer = toy_trainer(toy_packs, tmp_path / "plain")
    trainer.feed.sources = {source.digest: source for source in opened.training}
    finals = {}
    for recipe in config.space.enumerate():
        last = list(trainer.train(path_of(recipe, opened.problem, 0), RUNGS))[-1].metrics
        done = runs[recipe.key, 0]
        assert done.data.metrics == last
        assert done.data.params["num_real_unlabelled"] == ("0" if recipe.adaptation is None else "8")
        names = {one.dataset.name for one in done.inputs.dataset_inputs}
        assert ("pack" in names) == (recipe.adaptation is not None)
        finals[recipe.adaptation] = last["val/miou"]
    assert set(finals) == {None, "adabn", "histogram"}
    assert len(set(finals.values())) == 3


def test_check_says_what_is_shared_and_why(toy_packs: Path, tmp_path: Path) -> None:
    change = {"adaptation: [none]": "adaptation: [none, adabn, fda]", "seeds: 2": "seeds: 1"}
    result = CliRunner().invoke(
        app, ["check", str(toy_search(toy_packs, tmp_path, change | {"synthetic_only, finetune": "finetune"}))]
    )
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert (
        "4 steps on 40 synthetic images at lr 0.05: the trunk of 2 finetune and the trunk of 2 finetune + adabn;"
        " saves 12 steps a seed" in words
    )
    assert (
        "6 steps on 24 real images at lr 0.1: the end of 1 finetune and the end of 1 finetune + adabn; saves 6" in words
    )
