"""The source as an axis of the space: read from the file, checked, drawn, resumed, and searched for real."""

from collections import Counter
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console
from typer.testing import CliRunner

from datasets import Pack, write_pack
from datasets.classes import FACE_CLASSES
from search.__main__ import app
from search.config import ConfigError, SearchConfig, load
from search.problem import Opened, open_problem
from search.proposer import Proposer
from search.run import Result, run
from search.study import asked_trials, num_recipes, open_study
from search.study_writer import StudyWriter
from tests.conftest import toy_face
from tests.toy import ONE_SLOT, RUNGS, toy_search, toy_trainer
from trainables.numerics import set_deterministic
from trainables.path import path_of
from trainables.recipe import Recipe

AXIS = "real_source: [original, refined, [refined, original]]"


@pytest.fixture(scope="module")
def packs(toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy packs, and `refined`: twelve of the real rows, labelled otherwise, with depth that `real` has not."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("real", "synthetic", "val", "test"):
        (folder / name).symlink_to(toy_packs / name)
    write_refined(folder / "refined", range(0, 12))
    return folder


def write_refined(path: Path, seeds: range) -> Pack:
    faces = [toy_face(seed, synthetic=False) for seed in seeds]
    rows = [face | {"depth": np.zeros((4, 4), np.float32), "segmentation": face["segmentation"] % 8} for face in faces]
    return write_pack(path, rows, source={"format": "toy"}, classes=FACE_CLASSES[:8])


def file(packs: Path, folder: Path, replace: dict[str, str] | None = None) -> Path:
    """The toy search over two real sources."""
    sources = f"real: {{original: {packs}/real, refined: {packs}/refined}}"
    folder.mkdir(exist_ok=True)
    path = toy_search(packs, folder, {f"real: {{toy: {packs}/real}}": sources, "  lr:": f"  {AXIS}\n  lr:"})
    text = path.read_text()
    for old, new in (replace or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
    return path


# -- the file -------------------------------------------------------------------------------------------------------


def test_values_are_names_and_unions_in_the_order_of_data(packs: Path, tmp_path: Path) -> None:
    config = load(file(packs, tmp_path))
    assert config.space.real_source == ("original", "refined", "original+refined")
    assert config.space.synthetic_source is None
    real, refined = (str((packs / name).resolve()) for name in ("real", "refined"))
    assert {name: paths for name, paths in config.sets().items() if name.startswith("real")} == {
        "real/original": (real,),
        "real/refined": (refined,),
        "real/original+refined": (real, refined),
    }
    assert "synthetic" in config.sets()
    drawn = Counter(
        (recipe.schedule, recipe.real_source, recipe.synthetic_source) for recipe in config.space.enumerate()
    )
    names = ("original", "refined", "original+refined")
    expected = {(schedule, name, None): 2 for schedule in ("real_only", "finetune") for name in names}
    assert drawn == expected | {("synthetic_only", None, None): 1}


@pytest.mark.parametrize(
    ("axis", "says"),
    [
        ("[original, refind]", "space.real_source must name sources of data.real, ['original', 'refined'], but got 'r"),
        ("[original]", "data.real.refined must be in a value of space.real_source, but is in none; add it there, or"),
        ("[original, [original, original], refined]", "space.real_source.1: must name each source once, but got"),
        ("[original, [original], refined]", "space.real_source: must list each value once, but got"),
        (
            "[[original, refined], [refined, original]]",
            "space.real_source: must list each union once, but 'original+refined' and 'refined+original' are the same",
        ),
        ("[original+refined]", "space.real_source.0: must be a source's name, or a list of names for their union"),
        ("[original, []]", "space.real_source.1: must be a source's name, or a list of names for their union"),
        ("[original, 3]", "space.real_source.1: must be a source's name, or a list of names for their union"),
        ("[]", "space.real_source: must list at least one value, but the list is empty"),
        ("original", "space.real_source: must be a list, but got 'original'"),
        ("{low: 0, high: 1}", "space.real_source: must be a list"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_field(packs: Path, tmp_path: Path, axis: str, says: str) -> None:
    path = file(packs, tmp_path, {AXIS: f"real_source: {axis}"})
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_axis_that_no_schedule_reads_is_refused(packs: Path, tmp_path: Path) -> None:
    one = {"[real_only, synthetic_only, finetune]": "[real_only]", AXIS: "synthetic_source: [toy]"}
    one |= {
        "  adaptation: [none]\n": "",
        "  synthetic_fraction: [1.0]\n": "",
        "  pretrain: {steps: [4], lr: [0.05]}\n": "",
    }
    with pytest.raises(
        ConfigError, match=r"space: synthetic_source is given, but no schedule of \['real_only'\] has it"
    ):
        load(file(packs, tmp_path, one))


def test_optuna_sees_the_names_as_a_categorical(packs: Path, tmp_path: Path) -> None:
    space = load(file(packs, tmp_path)).space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        trial = study.ask()
        recipe = space.suggest(trial)
        assert trial.params == recipe.params()
        assert ("real_source" in trial.params) == (recipe.schedule != "synthetic_only")
        if recipe.real_source:
            choices = trial.distributions["real_source"].choices
            assert choices == ("original", "refined", "original+refined")


# -- the data -------------------------------------------------------------------------------------------------------


def test_packs_are_opened_and_verified_once_and_told_of_where_they_are_read(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    verify = Pack.verify
    monkeypatch.setattr(Pack, "verify", lambda self: (verified.append(Path(self.path).name), verify(self))[1])
    opened = open_problem(load(file(packs, tmp_path)))
    assert sorted(verified) == ["real", "refined", "synthetic", "test", "val"]
    assert [(fact.name, fact.context) for fact in opened.facts] == [
        ("real", "train"),
        ("refined", "train"),
        ("synthetic", "train"),
        ("val", "validation"),
        ("test", "test"),
    ]
    assert {name: facts.rows for name, facts in opened.problem.choices["real"].items()} == {
        "original": 24,
        "refined": 12,
        "original+refined": 36,
    }
    assert opened.problem.real is None
    assert len({id(pack) for source in opened.sources.values() for pack in source.packs}) == 5
    assert set(opened.digests) == {"real.original", "real.refined", "synthetic", "val", "test/same"}
    read = {
        (recipe.schedule, recipe.real_source): {fact.name for fact in opened.facts_of(recipe)}
        for recipe in load(file(packs, tmp_path)).space.enumerate()
    }
    assert read["real_only", "refined"] == {"refined", "val", "test"}
    assert read["real_only", "original+refined"] == {"real", "refined", "val", "test"}
    assert read["synthetic_only", None] == {"synthetic", "val", "test"}
    assert read["finetune", "original"] == {"real", "synthetic", "val", "test"}


def test_packs_may_differ_in_what_the_task_does_not_need(packs: Path, tmp_path: Path) -> None:
    """`refined` has depth and eight classes, `real` neither: without an axis they are one source too."""
    opened = open_problem(load(file(packs, tmp_path, {f"  {AXIS}\n": ""})))
    assert opened.problem.real is not None
    assert opened.problem.real.rows == 36
    assert opened.sources["real"].columns == ("image", "segmentation")
    assert set(opened.digests) == {"real", "synthetic", "val", "test/same"}
    rows = [{k: v for k, v in toy_face(seed, synthetic=False).items() if k != "segmentation"} for seed in range(3)]
    write_pack(tmp_path / "bare", rows, source={"format": "toy"})
    with pytest.raises(ValueError, match=r"bare: segmentation needs column 'segmentation', but the pack has"):
        open_problem(load(file(packs, tmp_path, {f"{packs}/refined": str(tmp_path / "bare")})))


def test_every_source_is_kept_from_the_evaluation_sets(packs: Path, tmp_path: Path) -> None:
    path = file(packs, tmp_path, {f"val: {packs}/val": f"val: {packs}/refined"})
    with pytest.raises(
        ValueError, match=r"data\.val: .*refined must not be a training pack, but data\.real\.refined has"
    ):
        open_problem(load(path))


def test_check_says_how_many_recipes_read_each_source(packs: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(file(packs, tmp_path))], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "13 (6 real_only, 1 synthetic_only, 6 finetune)" in words
    assert "4 on original (24 images), 4 on refined (12 images), 4 on original+refined (36 images)" in words


# -- a changed file -------------------------------------------------------------------------------------------------


def begin(packs: Path, folder: Path, tell: int, replace: dict[str, str] | None = None) -> optuna.Study:
    """The study of the two-source search in `folder`, of which `tell` recipes have a value and one more runs."""
    config = load(file(packs, folder, replace))
    study = open_study(config, open_problem(config).digests, folder / "toy", share=True)
    for value in range(tell):
        trial = ask(study, config)
        trial.set_user_attr("value", value)
        trial.report(value / 2, 3)
        study.tell(trial, value)
    ask(study, config)
    return study


def ask(study: optuna.Study, config: SearchConfig) -> optuna.trial.Trial:
    """The next recipe of a search, as its ledger asks for it."""
    known = asked_trials(study)
    keys = {config.space.recipe(trial.params).key for trial in known}
    proposal = Proposer(config, accept=lambda recipe: recipe.key not in keys, cost=lambda recipe: 0.0).propose(known)
    assert proposal is not None
    return optuna.trial.Trial(study, StudyWriter(study, ()).begin(proposal)._trial_id)


def again(config: SearchConfig, opened: Opened, folder: Path) -> optuna.Study:
    return open_study(config, opened.digests, folder / "toy", share=True)


def told(study: optuna.Study) -> list[dict[str, Any]]:
    return [
        {"number": t.number, "state": t.state, "value": t.value, "params": t.params, "attrs": t.user_attrs}
        | {"rungs": t.intermediate_values, "began": t.datetime_start}
        for t in asked_trials(study)
    ]


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_a_source_may_be_added_and_old_trials_stay(packs: Path, tmp_path: Path, sampler: str) -> None:
    sampled = {} if sampler == "grid" else {"sampler: grid": "sampler: tpe", "{steps: 6": "{trials: 9, steps: 6"}
    before = told(begin(packs, tmp_path, 4, sampled))
    write_refined(tmp_path / "third", range(6))
    added = {f"refined: {packs}/refined": f"refined: {packs}/refined, third: {tmp_path}/third"}
    path = file(
        packs, tmp_path, sampled | added | {AXIS: "real_source: [third, original, refined, [original, refined]]"}
    )
    config = load(path)
    study = again(config, open_problem(config), tmp_path)
    assert told(study) == before
    assert not list((tmp_path / "toy").glob("*.new*"))
    for frozen in asked_trials(study):
        if frozen.state is TrialState.RUNNING:  # goes on with the parameters that it has
            running = optuna.trial.Trial(study, frozen._trial_id)
            assert config.space.suggest(running).params() == frozen.params
            study.tell(running, 0.0)
    while len(asked_trials(study)) < num_recipes(config):
        study.tell(ask(study, config), 0.5)
    recipes = [Recipe.from_params(trial.params).key for trial in study.trials]
    if sampler == "grid":
        assert sorted(recipes) == sorted(recipe.key for recipe in config.space.enumerate())
    assert told(again(config, open_problem(config), tmp_path))[:4] == before[:4]


def test_a_replaced_pack_is_refused_by_name_where_an_old_trial_read_it(packs: Path, tmp_path: Path) -> None:
    begin(packs, tmp_path, 1)  # the grid begins with `original` alone
    write_refined(tmp_path / "other", range(6))
    config = load(file(packs, tmp_path, {f"{packs}/refined": f"{tmp_path}/other"}))
    before = told(again(config, open_problem(config), tmp_path))
    assert {trial["params"]["real_source"] for trial in before} == {"original"}
    config = load(file(packs, tmp_path, {f"original: {packs}/real": f"original: {tmp_path}/other"}))
    with pytest.raises(
        ConfigError, match=r"^data\.real\.original must stay as it was for the old trials of search 'toy'"
    ):
        again(config, open_problem(config), tmp_path)


def test_a_value_that_an_old_trial_has_must_stay(packs: Path, tmp_path: Path) -> None:
    begin(packs, tmp_path, 1)
    config = load(file(packs, tmp_path, {AXIS: "real_source: [refined, [original, refined]]"}))
    with pytest.raises(ConfigError, match=r"^space\.real_source must stay as it was .*\['original', 'refined', 'orig"):
        again(config, open_problem(config), tmp_path)
    config = load(file(packs, tmp_path, {AXIS: "real_source: [refined, original]"}))
    assert len(told(again(config, open_problem(config), tmp_path))) == 2


def test_an_axis_may_not_come_or_go(packs: Path, tmp_path: Path) -> None:
    for first, second in (({}, {f"  {AXIS}\n": ""}), ({f"  {AXIS}\n": ""}, {})):
        folder = tmp_path / str(len(first))
        folder.mkdir()
        begin(packs, folder, 1, first)
        config = load(file(packs, folder, second))
        with pytest.raises(ConfigError, match=r"^space\.real_source must stay as it was"):
            again(config, open_problem(config), folder)


# -- a search -------------------------------------------------------------------------------------------------------


def searched(path: Path, folder: Path) -> Result:
    return run(load(path), path.read_text(), results=folder / "results", console=Console(quiet=True))


def metrics_of(result: Result) -> dict[tuple[str, int], Any]:
    client = mlflow.MlflowClient(result.tracking_uri)
    experiment = client.get_experiment_by_name("titrate")
    found = client.search_runs([experiment.experiment_id], "tags.`titrate.kind` = 'trial'", max_results=1000)
    return {(one.data.tags["titrate.recipe"], int(one.data.tags["titrate.seed"])): one for one in found}


@pytest.mark.slow
def test_a_search_over_sources_gives_the_numbers_of_searches_with_one_source_each(
    ray_session: None, packs: Path, toy_packs: Path, tmp_path: Path
) -> None:
    """The truth is plain training of a problem that has one source and no axis: no Ray, no choice, no sharing."""
    path = file(packs, tmp_path, {"seeds: 2": "seeds: 1"} | ONE_SLOT)
    result = searched(path, tmp_path)
    assert result.state == "finished"
    runs = metrics_of(result)
    set_deterministic(1)
    compared = 0
    packs_of = {"original": ["real"], "refined": ["refined"], "original+refined": ["real", "refined"]}
    for source, names in packs_of.items():
        only = "[" + ", ".join(f"{packs}/{name}" for name in names) + "]"
        sources = f"real: {{original: {packs}/real, refined: {packs}/refined}}"
        one = load(file(packs, tmp_path / source, {sources: f"real: {{only: {only}}}", f"  {AXIS}\n": ""}))
        opened = open_problem(one)
        trainer = toy_trainer(toy_packs, tmp_path / source / "store")
        trainer.feed.sources = {training.digest: training for training in opened.training}
        for recipe in one.space.enumerate():
            reads = recipe.schedule != "synthetic_only"
            named = Recipe.from_params(recipe.params() | ({"real_source": source} if reads else {}))
            truth = list(trainer.train(path_of(recipe, opened.problem, 0), RUNGS, namespace=recipe.key))[-1].metrics
            done = runs[named.key, 0]
            assert done.data.metrics == truth
            assert done.data.params.get("real_source") == (source if reads else None)
            assert done.data.params["num_real_labels"] == str(opened.problem.counts(recipe)["num_real_labels"])
            data = {one.dataset.name for one in done.inputs.dataset_inputs}
            assert data == {
                "val",
                "test",
                *(names if reads else ()),
                *(["synthetic"] if recipe.schedule != "real_only" else []),
            }
            compared += 1
    assert compared == 15
    assert len(runs) == 13
    # Per source two finetunes on a trunk of 4 steps and two real_only of 6; synthetic_only goes on from it.
    assert result.steps_trained == 4 + 3 * 4 * 6 + 6
    assert result.conclusion is not None
    assert (
        " of the real images of " in result.conclusion.recommendation
        or "synthetic_only" in result.conclusion.recommendation
    )
    lines = (tmp_path / "results/toy/curve.csv").read_text()
    for source in packs_of:
        assert f'"real_only, real {source}"' in lines
        assert f'"finetune, real {source}"' in lines
