"""Every schedule and method: its stages, what it reads, and numbers that depend on no sharing and no interruption."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from datasets import Blocks, Domain, DomainRows, Mix, nested_rows
from datasets.translation import Translation
from tests.toy import MORE, RECIPES, RUNGS, toy_problem, toy_sources, toy_trainer
from trainables.loop import Interrupted
from trainables.methods import APPLIES, OPTIONS
from trainables.path import path_of, rungs_of, steps_shared
from trainables.problem import SourceFacts
from trainables.recipe import SCHEDULES, Gradual, Recipe
from trainables.run import Run


def results(trainer: Any, name: str, problem: Any) -> list[dict[str, float]]:
    path = path_of(MORE[name], problem, 0)
    return [report.metrics for report in trainer.train(path, rungs_of(path, problem))]


@pytest.mark.parametrize("shares", [(1.0, 2 / 3, 1 / 3, 0.0), (0.9, 0.1), (0.5,)])
@pytest.mark.parametrize("batch_size", [3, 8])
def test_blocks_have_the_shares_that_were_asked_over_any_stretch(shares: tuple[float, ...], batch_size: int) -> None:
    steps = 23
    domains = [DomainRows(domain, "ab"[domain], range(5 + domain)) for domain in Domain]
    mix = Mix(batch_size, 0, domains, Blocks(shares, steps))
    exact, drawn = Fraction(), 0
    for step in range(steps + 5):
        block = max(k for k in range(len(shares)) if step >= k * steps // len(shares))
        exact += batch_size * Fraction(shares[block]).limit_denominator(1000)
        batch = mix.batch(step)
        drawn += int((batch.domain == Domain.SYNTHETIC).sum())
        assert len(batch.domain) == batch_size
        assert drawn == exact.numerator // exact.denominator


def test_one_block_is_a_constant_share_to_the_draw() -> None:
    domains = [DomainRows(domain, "ab"[domain], range(5 + domain)) for domain in Domain]
    one, other = Mix(4, 3, domains, 0.3), Mix(4, 3, domains, Blocks((0.3,), 9))
    for step in range(20):
        a, b = one.batch(step), other.batch(step)
        assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("domain", "row", "seed"))


@pytest.mark.parametrize("shares", [(), (0.5, 1.1), (0.5, 0.4, 0.3)])
def test_blocks_that_cannot_be_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"blocks must be shares in \[0, 1\]"):
        Blocks(shares, 2)


def test_a_gradual_share_falls_in_equal_paces_to_its_end_exactly() -> None:
    assert Gradual().shares == pytest.approx((1, 2 / 3, 1 / 3, 0))
    assert Gradual(blocks=3, start=0.9, end=0.1).shares[-1] == 0.1
    with pytest.raises(ValueError, match="`end < start` must hold"):
        Gradual(start=0.2, end=0.2)


@pytest.mark.parametrize("name", MORE)
def test_interrupted_or_alone_every_recipe_has_the_same_numbers(toy_packs: Path, tmp_path: Path, name: str) -> None:
    """Trained in one go; stopped after each step by fresh trainers; and after all others in one store."""
    problem = toy_problem(toy_packs)
    whole = results(toy_trainer(toy_packs, tmp_path / "whole"), name, problem)
    assert all(np.isfinite(value) for value in whole[-1].values() if value == value)
    for _ in range(40):
        asked = Counter[str]()

        def once(stage: Any, step: int, asked: Counter[str] = asked) -> bool:
            asked["steps"] += 1
            return asked["steps"] <= 1

        trainer = toy_trainer(toy_packs, tmp_path / "cut")
        path = path_of(MORE[name], problem, 0)
        try:
            cut = [report.metrics for report in trainer.train(path, rungs_of(path, problem), control=once)]
            break
        except Interrupted:
            continue
    assert cut == whole


def test_all_of_them_in_one_store_have_their_own_numbers(toy_packs: Path, tmp_path: Path) -> None:
    problem = toy_problem(toy_packs)
    trainer = toy_trainer(toy_packs, tmp_path / "shared")
    shared = {name: results(trainer, name, problem) for name in MORE}
    paths = [path_of(recipe, problem, 0) for recipe in MORE.values()]
    assert trainer.steps_trained == steps_shared(paths)
    for name in ("mixed adabn", "mixed_finetune dsbn", "finetune fda"):
        assert results(toy_trainer(toy_packs, tmp_path / name), name, problem) == shared[name]
    finals = [tuple(reports[-1].items()) for reports in shared.values()]
    assert len(set(finals)) == len(finals)


def test_adabn_trains_nothing_of_its_own_and_is_evaluated_by_real_statistics(toy_packs: Path, tmp_path: Path) -> None:
    """By hand: one batch of the 12 real rows in training mode with momentum 1 leaves their statistics."""
    problem = toy_problem(toy_packs)
    params = MORE["mixed adabn"].params()
    plain = path_of(Recipe.from_params(params | {"adaptation": "none"}), problem, 0)
    path = path_of(MORE["mixed adabn"], problem, 0)
    assert [leg.stage.key for leg in path] == [leg.stage.key for leg in plain]
    trainer = toy_trainer(toy_packs, tmp_path)
    before = [report.metrics for report in trainer.train(plain, RUNGS)]
    trained = trainer.steps_trained
    after = [report.metrics for report in trainer.train(path, RUNGS)]
    assert trainer.steps_trained == trained
    assert before[-1]["val/miou"] != after[-1]["val/miou"]
    run: Any = trainer._live
    model = trainer.task.build_model()
    model.load_state_dict(run.average.state_dict())
    for module in model.modules():
        module.train(isinstance(module, nn.BatchNorm2d))
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    source = toy_sources(toy_packs)["real"]
    rows = nested_rows(24, 12, seed=0, digest=source.digest)
    samples = [trainer.task.prepare(source.sample(int(row), trainer.task.columns)) for row in rows]
    with torch.no_grad():
        trainer.task.predict(model, {"image": torch.from_numpy(np.stack([s["image"] for s in samples]))})  # type: ignore[attr-defined]
    by_hand = trainer.sets.metrics(run, model, trainer.sets.val)
    assert by_hand["miou"] == pytest.approx(after[-1]["val/miou"], abs=0.02)
    evaluated = trainer.sets.model(run, path[-1].statistics).state_dict()
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            torch.testing.assert_close(evaluated[name], value, rtol=1e-4, atol=1e-5)


def test_translated_stages_read_references_of_the_subset_alone(
    toy_packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    call = Translation.__call__

    def recording(self: Translation, sample: Any, seed: int) -> Any:
        seen.update(self.rows.rows.tolist())
        return call(self, sample, seed)

    monkeypatch.setattr(Translation, "__call__", recording)
    problem = toy_problem(toy_packs)
    results(toy_trainer(toy_packs, tmp_path), "finetune fda", problem)
    assert problem.real is not None
    assert seen == set(nested_rows(24, 12, seed=0, digest=problem.real.digest).tolist())


def test_real_references_are_in_the_key_of_a_trunk(toy_packs: Path) -> None:
    """Another subset of real images is another trunk, as soon as a method reads them."""
    problem = toy_problem(toy_packs)
    for name, shared in (("finetune fda", False), ("finetune", True)):
        params = (MORE | RECIPES)[name].params()
        trunks = {
            path_of(Recipe.from_params(params | {"real_fraction": f}), problem, 0)[0].stage.key for f in (0.25, 0.5)
        }
        assert (len(trunks) == 1) == shared


def test_synthetic_only_reads_references_and_counts_them(toy_packs: Path) -> None:
    recipe = Recipe.from_params(
        {"schedule": "synthetic_only", "adaptation": "histogram", "histogram.strength": 0.5, "synthetic_fraction": 1.0}
        | {"lr": 0.1}
    )
    problem = toy_problem(toy_packs)
    with pytest.raises(ValueError, match=r"data\.references must name a pack of real images for synthetic_only with"):
        path_of(recipe, problem, 0)
    problem = replace(problem, references=SourceFacts("r" * 64, 7))
    stage = path_of(recipe, problem, 0)[-1].stage
    assert (stage.references.digest, stage.references.count) == ("r" * 64, 7)  # type: ignore[union-attr]
    assert problem.counts(recipe) == {"num_real_labels": 0, "num_real_unlabelled": 7, "num_synthetic": 40}
    assert problem.counts(MORE["finetune fda"])["num_real_unlabelled"] == 0  # they are its labelled ones


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_two_names_for_one_training(toy_packs: Path, schedule: str) -> None:
    """Methods that a schedule has give paths that differ from that of none, and the others are refused."""
    problem = replace(toy_problem(toy_packs), references=SourceFacts("r" * 64, 7))
    base = next(recipe for recipe in [*RECIPES.values(), *MORE.values()] if recipe.schedule == schedule)
    params = {k: v for k, v in base.params().items() if k.partition(".")[0] not in ("adaptation", *OPTIONS)}
    paths = [path_of(Recipe.from_params(params | no), problem, 0) for no in _without(schedule)]
    methods = {method for applies in APPLIES.values() for method in applies} - {"none"}
    for method in sorted(methods):
        options = {f"{method}.{name}": value for name, value in _DEFAULTS.get(method, {}).items()}
        given = params | {"adaptation": method} | options
        if method in APPLIES[schedule]:  # type: ignore[index]
            path = path_of(Recipe.from_params(given), problem, 0)
            assert path not in paths
            paths.append(path)
        else:
            with pytest.raises(ValueError, match="adaptation"):
                Recipe.from_params(given)


_DEFAULTS: dict[str, dict[str, Any]] = {
    "adain": {"layers": "early", "strength": 1.0},
    "fda": {"beta": 0.01},
    "histogram": {"strength": 1.0},
    "pixel_distribution": {"transform": "standard", "strength": 1.0},
    "adain_image": {"strength": 1.0},
}


def _without(schedule: str) -> list[dict[str, str]]:
    return [{}] if schedule in ("real_only", "synthetic_only") else [{"adaptation": "none"}]


def test_what_is_frozen_stays_to_the_bit_and_the_rest_moves(toy_packs: Path, tmp_path: Path) -> None:
    problem = toy_problem(toy_packs)
    path = path_of(MORE["finetune fda"], problem, 0)
    assert [leg.stage.frozen for leg in path] == [(), ("backbone", "norm")]
    trainer = toy_trainer(toy_packs, tmp_path)
    list(trainer.train(path[:1], (4,)))
    start: Any = trainer._live
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    list(trainer.train(path, RUNGS))
    run: Any = trainer._live
    norms = {f"{name}." for name, module in run.model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    moved = set()
    for name, value in run.model.state_dict().items():
        still = name.startswith("backbone.") or any(name.startswith(norm) for norm in norms)
        if still:
            assert torch.equal(value, before[name]), name
        elif not torch.equal(value, before[name]):
            moved.add(name)
    assert moved == {n for n in before if not n.startswith("backbone.") and not any(n.startswith(m) for m in norms)}


@pytest.mark.parametrize(
    ("freeze", "says"),
    [("backbon", "freeze must name norm or parts of the model"), ("backbone+aspp+decoder", "must leave something to")],
)
def test_what_cannot_be_frozen_is_told(toy_packs: Path, tmp_path: Path, freeze: str, says: str) -> None:
    trainer = toy_trainer(toy_packs, tmp_path)
    stage = replace(path_of(MORE["finetune fda"], toy_problem(toy_packs), 0)[-1].stage, frozen=tuple(freeze.split("+")))
    with pytest.raises(ValueError, match=says):
        Run.begin(stage, trainer.task, trainer.device, trainer.ranks, ("", ""), None)


def test_forks_of_mixed_trunks_convert(toy_packs: Path) -> None:
    """What the real stage of mixed_finetune trains: the plain model, but for dson, which has no plain form."""
    problem = toy_problem(toy_packs)
    stages = {m: path_of(MORE[f"mixed_finetune {m}"], problem, 0) for m in ("none", "real_bn", "dsbn", "dson")}
    adaptations = {m: [leg.stage.adaptation for leg in path] for m, path in stages.items()}
    assert adaptations == {
        "none": ["none", "none"],
        "real_bn": ["real_bn", "none"],
        "dsbn": ["dsbn", "none"],
        "dson": ["dson", "dson"],
    }
    mixed = Recipe.from_params(
        {"schedule": "mixed", "adaptation": "dsbn", "real_fraction": 0.5, "synthetic_fraction": 0.5, "lr": 0.05}
        | {"synthetic_share": 0.5}
    )
    assert path_of(mixed, problem, 0)[0].stage == stages["dsbn"][0].stage  # a trunk, or the whole of another
