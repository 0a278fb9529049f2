"""The case studies' designs as fixed lists of recipes, and what each of their recipes computes, step by step.

The second is written down from what a recipe's words mean (the images, the rate, the method, the task, the seed, the
number of the step and all steps before it), without paths, stages or keys: `sharing.py` measures those by it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from search.config import SearchConfig, load
from search.options import PretrainSpace
from trainables.path import TRUNKS, path_of, steps_alone, steps_shared
from trainables.problem import Problem, SourceFacts
from trainables.recipe import Recipe

STUDIES = Path(__file__).resolve().parents[2] / "search/examples/studies"


@dataclass(frozen=True)
class Design:
    """A study's fixed list of recipes, and how many images it has."""

    name: str
    config: SearchConfig
    real: int
    synthetic: int

    @property
    def recipes(self) -> list[Recipe]:
        return self.config.space.enumerate()

    @property
    def problem(self) -> Problem:
        """As search.problem.open_problem makes it of packs."""
        pretrain, composes = self.config.space.pretrain, self.config.task.composes
        return Problem(
            task=self.config.task,
            training=self.config.training,
            real=SourceFacts("real", self.real),
            synthetic=SourceFacts("synthetic", self.synthetic),
            rungs=self.config.budget.evaluations,
            forks=pretrain.steps if pretrain else (),
            trunks=tuple(trunk for trunk, whole in TRUNKS.items() if whole in self.config.space.schedule),
            seed=self.config.seed,
            backgrounds="backgrounds" if composes else None,
        )

    def pretrained(self, times: int) -> "Design":
        """The same with pretraining so many times as long as fine-tuning."""
        pretrain = self.config.space.pretrain
        assert pretrain is not None
        longer = PretrainSpace(steps=(times * self.config.budget.steps,), lr=pretrain.lr)
        space = self.config.space.model_copy(update={"pretrain": longer})
        return replace(self, name=f"{self.name} {times}x", config=self.config.model_copy(update={"space": space}))


def designs() -> list[Design]:
    """The studies' own, as the files in search/examples/studies have them."""
    fractions, subsets = load(STUDIES / "parsing_fractions.yaml"), load(STUDIES / "landmarks_subsets.yaml")
    # The table's column for 0% of the photographs is synthetic_only.
    grid = _with_space(fractions, schedule=("synthetic_only", *fractions.space.schedule))
    setups = load(STUDIES / "landmarks_setups.yaml")
    setups = _with_space(setups, real_fraction=subsets.space.real_fraction)
    setups = setups.model_copy(update={"budget": subsets.budget})
    segmentation = Design("segmentation", grid, real=24_183, synthetic=200_000)
    landmarks = Design("landmarks", setups, real=2_900, synthetic=10_000)
    matting = Design("matting", load(STUDIES / "matting_models.yaml"), real=30_000, synthetic=10_000)
    both = [one.pretrained(times) for one in (segmentation, landmarks) for times in (4, 9)]
    return [segmentation, *both[:2], landmarks, *both[2:], matting]


def _with_space(config: SearchConfig, **update: Any) -> SearchConfig:
    return config.model_copy(update={"space": config.space.model_copy(update=update)})


@dataclass(frozen=True)
class Stretch:
    """Steps under one set of conditions, which begin where `before` ended (None: at the seed's initial weights).

    History is a value: two stretches are equal when everything that was ever computed on the way to them is.
    """

    before: "Stretch | None"
    conditions: frozenset[tuple[str, Any]]
    steps: int


def history(recipe: Recipe, design: Design, seed: int) -> Stretch:
    """What a recipe computes, first step to last, from what its words mean."""
    config = design.config
    real = _images(recipe.real_fraction, design.real)
    synthetic = _images(recipe.synthetic_fraction, design.synthetic)
    always: dict[str, Any] = {"seed": seed, "training": config.training, "backgrounds": config.data.backgrounds}
    shown: dict[str, Any] = {
        "real_only": {"real": real},
        "synthetic_only": {"synthetic": synthetic},
        "mixed": {"real": real, "synthetic": synthetic, "share": _share(recipe, real, synthetic)},
        "finetune": {"real": real},
    }[recipe.schedule]
    if recipe.schedule == "mixed":
        # Statistics of real images alone change the training of a network that sees both.
        shown |= {"statistics": "real" if recipe.adaptation == "real_bn" else "all"}
    last: Stretch | None = None
    if recipe.pretrain is not None:
        trunk = {"synthetic": synthetic, "task": config.task, "lr": recipe.pretrain.lr}
        last = Stretch(None, frozenset((always | trunk).items()), recipe.pretrain.steps)
        shown |= {"restarted": recipe.adaptation == "real_bn"}  # the statistics, between the two
    for phase in config.task.phases:
        part = always | shown | {"task": phase.spec, "lr": phase.lr}
        last = Stretch(last, frozenset(part.items()), phase.steps)
    end = always | shown | {"task": config.task, "lr": recipe.lr}
    return Stretch(last, frozenset(end.items()), config.budget.steps)


def _images(fraction: float | None, rows: int) -> int:
    return max(1, round(fraction * rows)) if fraction is not None else 0


def _share(recipe: Recipe, real: int, synthetic: int) -> Any:
    """The synthetic part of a batch: by the numbers of images, or as the recipe says."""
    if recipe.synthetic_share == "natural":
        return Fraction(synthetic, synthetic + real)
    return recipe.synthetic_share


def fewest_steps(histories: Iterable[Stretch]) -> int:
    """Steps with different histories: the fewest by which anything could give the same weights.

    Step n of a stretch follows its step n - 1, so that of two stretches with the same beginning and the same conditions
    the longer one has all steps of the other, and no step need be enumerated.
    """
    longest: dict[tuple[Stretch | None, frozenset[tuple[str, Any]]], int] = {}
    for end in histories:
        stretch: Stretch | None = end
        while stretch is not None:
            what = (stretch.before, stretch.conditions)
            longest[what] = max(longest.get(what, 0), stretch.steps)
            stretch = stretch.before
    return sum(longest.values())


def count(design: Design, seeds: int) -> dict[str, int]:
    """Training steps of a design: "alone", "shared" and the "limit"."""
    recipes, problem = design.recipes, design.problem
    paths = [path_of(recipe, problem, seed) for recipe in recipes for seed in range(seeds)]
    limit = fewest_steps(history(recipe, design, seed) for recipe in recipes for seed in range(seeds))
    return {"alone": steps_alone(paths), "shared": steps_shared(paths), "limit": limit}


def of_limit(steps: dict[str, int]) -> float:
    """The part of the limit's saving that sharing reaches; 1 where nothing can be saved."""
    possible = steps["alone"] - steps["limit"]
    return (steps["alone"] - steps["shared"]) / possible if possible else 1.0
