"""A recipe as a search of its own: every schedule and method keeps its stages, whatever else the search has."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from search.config import SearchConfig, load
from search.one_trial import one_trial
from search.problem import open_problem
from search.written import leave, plain, to_yaml
from tests.toy import MORE, RECIPES, toy_search
from trainables.path import path_of
from trainables.recipe import Recipe

SEED = 3
SPACE = """space:
  schedule: [real_only, synthetic_only, mixed, gradual, finetune, mixed_finetune]
  real_source: [toy, [toy, more]]
  adaptation: [none, real_bn, adabn, dsbn, dson, adain, fda]
  adain: {layers: [early, all]}
  fda: {beta: [0.01, 0.1]}
  gradual: {blocks: [2, 3]}
  freeze: [nothing, [backbone, norm]]
  real_fraction: {low: 0.05, high: 1.0}
  synthetic_fraction: [0.5, 1.0]
  synthetic_share: {low: 0.1, high: 0.9}
  pretrain: {steps: [4, 5], lr: [0.05]}
  lr: {low: 1.0e-3, high: 0.3}
"""


@pytest.fixture(scope="module")
def config(toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchConfig:
    """A search with everything: ranges, unions, references, constraints, rungs, a store."""
    folder = tmp_path_factory.mktemp("file")
    given = yaml.safe_load(toy_search(toy_packs, folder).read_text())
    given["data"]["real"]["more"] = f"{toy_packs}/test"
    given["data"] |= {"test": {}, "references": f"{toy_packs}/real"}
    given |= {
        "space": yaml.safe_load(SPACE)["space"],
        "budget": {"trials": 40, "steps": 6, "rungs": [3, 6], "seeds": 3, "racing": True, "hours": 1.0},
        "objective": {"metric": "val/miou", "against": ["num_real_labels"]},
        "constraints": {"num_real_labels": {"max": 20}, "val/iou/hair": {"min": 0.1}},
        "sampler": "tpe",
        "store": "somewhere",
        "seed": SEED,
    }
    (folder / "all.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
    return load(folder / "all.yaml")


def recipes() -> dict[str, Recipe]:
    """Those of the toy search, on a source or a union of two."""
    found = {}
    for k, (name, recipe) in enumerate((RECIPES | MORE).items()):
        source = {"real_source": ("toy", "toy+more")[k % 2]} if recipe.real_fraction else {}
        found[name] = Recipe.from_params(recipe.params() | source)
    alone = {"schedule": "synthetic_only", "adaptation": "adabn", "synthetic_fraction": 0.5, "lr": 1e-3 * 1.1}
    return found | {"synthetic adabn": Recipe.from_params(alone)}


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_alone_has_the_stages_that_it_has_in_its_search(
    config: SearchConfig, name: str, tmp_path: Path
) -> None:
    recipe = recipes()[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(one_trial(config, recipe, seeds=2)))
    alone = load(path)
    (found,) = alone.space.enumerate()
    assert found == recipe
    whole, single = open_problem(config, verify=False).problem, open_problem(alone).problem
    for seed in (0, 1):
        legs = [path_of(recipe, problem, seed) for problem in (whole, single)]
        assert [leg.stage.key for leg in legs[0]] == [leg.stage.key for leg in legs[1]]
        assert [(leg.steps, leg.statistics) for leg in legs[0]] == [(leg.steps, leg.statistics) for leg in legs[1]]
    assert (alone.budget.trials, alone.budget.seeds, alone.budget.evaluations) == (1, 2, (3, 6))
    assert alone.store.uri == config.store.uri
    assert load_text(tmp_path, one_trial(config, recipe, seeds=2, keep_store=False)).store.uri is None


def load_text(folder: Path, given: dict[str, Any]) -> SearchConfig:
    (folder / "other.yaml").write_text(to_yaml(given))
    return load(folder / "other.yaml")


def test_a_search_is_read_back_as_it_was_written(config: SearchConfig, tmp_path: Path) -> None:
    leave(config, tmp_path)
    assert load(tmp_path / "search.yaml") == config


def test_files_of_weights_are_written_by_their_paths(toy_packs: Path, tmp_path: Path) -> None:
    for name in ("w.pth", "encoder.pth", "decoder.pth"):
        torch.save({"layer.weight": torch.zeros(1)}, tmp_path / name)
    given = yaml.safe_load(toy_search(toy_packs, tmp_path).read_text())
    given["task"]["pretrained"] = "w.pth"
    given["space"] |= {"schedule": ["mixed"], "adaptation": ["adain_image"], "synthetic_share": [0.5]}
    given["space"]["adain_image"] = {"encoder": "encoder.pth", "decoder": "decoder.pth", "strength": [0.5, 1.0]}
    del given["space"]["pretrain"]
    (tmp_path / "in.yaml").write_text(yaml.safe_dump(given))
    config = load(tmp_path / "in.yaml")
    (tmp_path / "elsewhere").mkdir()
    assert load_text(tmp_path / "elsewhere", plain(config)) == config
    for recipe in config.space.enumerate():
        alone = load_text(tmp_path / "elsewhere", one_trial(config, recipe, seeds=1))
        assert alone.space.enumerate() == [recipe]
        assert alone.task == config.task
        assert alone.space.adain_image is not None
        assert config.space.adain_image is not None
        assert alone.space.adain_image.files == config.space.adain_image.files
