"""Recipes that name their source: each trains as if its source were the only one, and shares what it can."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets import Pack, PackError, Source
from tests.conftest import write_toy_pack
from tests.toy import MORE, RECIPES, RUNGS, SPEC, toy_problem, toy_trainer
from trainables.loop import Report, Trainer
from trainables.numerics import set_deterministic
from trainables.path import path_of
from trainables.problem import Problem, SourceFacts
from trainables.recipe import SCHEDULES, Recipe, fields, reads
from trainables.store import Store


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    set_deterministic(1)


@pytest.fixture(scope="module")
def sources(toy_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    """Real sources a (24 rows) and b (10), their union, and the synthetic one."""
    a = Pack.open(toy_packs / "real")
    b = write_toy_pack(tmp_path_factory.mktemp("b") / "b", range(50, 60), synthetic=False)
    synthetic = Source([Pack.open(toy_packs / "synthetic")])
    return {"a": Source([a]), "b": Source([b]), "a+b": Source([a, b]), "synthetic": synthetic}


@pytest.fixture
def problem(toy_packs: Path, sources: dict[str, Source]) -> Problem:
    facts = {name: SourceFacts(one.digest, len(one)) for name, one in sources.items() if name != "synthetic"}
    return replace(toy_problem(toy_packs), real=None, choices={"real": facts})


def of(recipe: Recipe, source: str) -> Recipe:
    return Recipe.from_params(recipe.params() | {"real_source": source})


def trainer_of(toy_packs: Path, store: Path, sources: list[Source]) -> Trainer:
    return Trainer(
        SPEC,
        sources,
        val=Source([Pack.open(toy_packs / "val")]),
        tests={"same": Source([Pack.open(toy_packs / "test")])},
        store_of=lambda namespace: Store(str(store), f"division/{namespace}".rstrip("/")),
        device=torch.device("cpu"),
    )


def results(reports: Iterator[Report]) -> list[tuple[int, dict[str, float]]]:
    return [(report.step, report.metrics) for report in reports]


@pytest.mark.parametrize("name", ["real", "mixed", "finetune real_bn"])
@pytest.mark.parametrize("source", ["a", "b", "a+b"])
def test_a_named_source_gives_the_numbers_of_a_search_that_has_only_it(
    toy_packs: Path, tmp_path: Path, sources: dict[str, Source], problem: Problem, name: str, source: str
) -> None:
    alone = replace(problem, real=problem.choices["real"][source], choices={})
    plain = trainer_of(toy_packs, tmp_path / "alone", [sources[source], sources["synthetic"]])
    chosen = trainer_of(toy_packs, tmp_path / "all", list(sources.values()))
    path = path_of(of(RECIPES[name], source), problem, 1)
    assert path == path_of(RECIPES[name], alone, 1)
    assert results(chosen.train(path, RUNGS)) == results(plain.train(path_of(RECIPES[name], alone, 1), RUNGS))


def test_recipes_on_other_sources_share_the_trunk_and_nothing_else(problem: Problem) -> None:
    paths = [path_of(of(RECIPES["finetune"], source), problem, 0) for source in ("a", "b", "a+b")]
    assert len({path[0].stage.key for path in paths}) == 1
    assert len({path[1].stage.key for path in paths}) == 3


def test_counts_are_of_the_chosen_source(problem: Problem) -> None:
    counts = [problem.counts(of(RECIPES["mixed"], source)) for source in ("a", "b", "a+b")]
    assert [count["num_real_labels"] for count in counts] == [12, 5, 17]
    assert {count["num_synthetic"] for count in counts} == {40}


def test_a_recipe_and_a_problem_must_agree_on_whether_sources_are_named(toy_packs: Path, problem: Problem) -> None:
    with pytest.raises(ValueError, match=r"real_source must be a source of the search, one of a, b, a\+b, but got 'c'"):
        path_of(of(RECIPES["real"], "c"), problem, 0)
    with pytest.raises(ValueError, match=r"data\.real must name a pack"):
        path_of(RECIPES["real"], problem, 0)
    with pytest.raises(ValueError, match="real_source must be a source of the search, one of none, but got 'a'"):
        path_of(of(RECIPES["real"], "a"), toy_problem(toy_packs), 0)


def test_a_worker_without_the_source_says_so_and_trains_nothing(
    toy_packs: Path, tmp_path: Path, sources: dict[str, Source], problem: Problem
) -> None:
    """As where a pack was replaced after the search had opened it: an error of the place, not of the recipe."""
    trainer = toy_trainer(toy_packs, tmp_path)
    with pytest.raises(PackError, match=f"no source of digest {sources['b'].digest[:12]}"):
        list(trainer.train(path_of(of(RECIPES["real"], "b"), problem, 0), RUNGS))
    assert trainer.steps_trained == 0


def test_packs_that_are_references_too_keep_their_labels(
    toy_packs: Path, tmp_path: Path, sources: dict[str, Source]
) -> None:
    """One digest, two sources: in whichever order they are given, training finds the one with labels."""
    unlabelled = Source(sources["a"].packs, ("image",))
    assert unlabelled.digest == sources["a"].digest
    path = path_of(RECIPES["real"], toy_problem(toy_packs), 0)
    one, other = (
        results(trainer_of(toy_packs, tmp_path / str(k), order).train(path, RUNGS))
        for k, order in enumerate(([sources["a"], unlabelled], [unlabelled, sources["a"]]))
    )
    assert one == other


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("domain", ["real", "synthetic"])
def test_a_source_goes_with_its_domain(schedule: str, domain: str) -> None:
    recipe = next(one for one in [*RECIPES.values(), *MORE.values()] if one.schedule == schedule)
    axis = f"{domain}_source"
    params = recipe.params()
    assert axis not in params
    if not reads(recipe.schedule, domain):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"{axis} does not apply to schedule '{schedule}'"):
            Recipe.from_params(params | {axis: "a"})
        return
    named = Recipe.from_params(params | {axis: "a+b"})
    assert named.key != recipe.key
    assert named.key != Recipe.from_params(params | {axis: "b+a"}).key
    assert Recipe.from_params(named.params()) == named
    assert named.params() == params | {axis: "a+b"}
    assert list(named.params())[1:2] == [axis]
    assert axis in fields(recipe.schedule)
    assert f"{domain}={params[f'{domain}_fraction']:.4g} of a+b" in str(named)


@pytest.mark.parametrize("source", ["", "+a", "a++b", "a+a"])
def test_a_source_is_distinct_names(source: str) -> None:
    with pytest.raises(ValueError, match=r"real_source must be distinct names joined by '\+'"):
        of(RECIPES["real"], source)
