"""Path: the stages that a recipe is, first to last. Where paths begin alike, they share what they train."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from trainables.methods import NetworkMethod, Schedule
from trainables.problem import Problem
from trainables.recipe import Recipe
from trainables.specs import TaskSpec
from trainables.stage import Checkpoint, Rows, Stage


@dataclass(frozen=True)
class Leg:
    """A stage of a path and the step it is trained to there.

    keep  steps on the way whose checkpoints stay, since evaluations or other paths of the search start from them
    statistics  real images whose statistics replace the model's own before it is evaluated (`adabn`): no training,
                so that such a path shares all of its stages with the one without
    """

    stage: Stage
    steps: int
    keep: tuple[int, ...] = ()
    statistics: Rows | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.stage.key, self.steps)


Path = tuple[Leg, ...]

# The schedules whose one stage is the first of another schedule's.
TRUNKS: dict[Schedule, Schedule] = {"synthetic_only": "finetune", "mixed": "mixed_finetune"}


def path_of(recipe: Recipe, problem: Problem, replicate: int) -> Path:
    """The stages of a recipe, first to last. The last one is `problem.steps` long, earlier ones have their own length.

    A task of several phases is trained through them on the data of the recipe's last stage; what is before that
    (`pretrain`) is of the first phase.

    A first stage may be a trunk of one path and the whole of another, so it keeps its checkpoints at every fork and
    every rung, whichever recipe trains it first.

    The replicate enters through the seed alone, in the same way for every recipe: replicate r of two recipes has the
    same initial weights, nested subsets and data order (they are paired).
    """
    real, synthetic = problem.rows(recipe)
    phases = problem.task.phases
    path: list[Leg] = []

    def train(spec: TaskSpec, lr: float, steps: int, keep: Iterable[int], **data: Any) -> None:
        """Adds a stage that goes on from the one before."""
        fields: dict[str, Any] = {
            "start": path[-1].checkpoint if path else None,
            "conversion": "none",
            "real": None,
            "synthetic": None,
            "synthetic_share": None,
            "adaptation": "none",
        }
        knows_its_end = problem.training.lr_schedule == "poly" or isinstance(data.get("synthetic_share"), tuple)
        stage = Stage(
            horizon=steps if knows_its_end else None,
            task=spec,
            backgrounds=problem.backgrounds,
            training=problem.training,
            lr=lr,
            seed=problem.seed + replicate,
            **(fields | data),
        )
        path.append(Leg(stage, steps, tuple(sorted({steps, *keep})) if not knows_its_end else (steps,)))

    references, translation = problem.references_of(recipe, real), problem.translation_of(recipe)
    unreal: dict[str, Any] = {"synthetic": synthetic}
    if translation is not None:
        unreal |= {"translation": translation, "references": references}
    both = unreal | {"real": real, "synthetic_share": _share(recipe, real, synthetic)}
    if recipe.adaptation in _WITH_BOTH:
        both |= {"adaptation": recipe.adaptation, "adain": recipe.adain}
    after: dict[str, Any] = {"real": real, "frozen": tuple(sorted({*recipe.frozen} - {"nothing"}))}
    trunk: dict[str, Any] | None = None
    match recipe.schedule:
        case "real_only":
            data: dict[str, Any] = {"real": real}
        case "synthetic_only":
            data = unreal
        case "mixed" | "gradual":
            data = both
        case "finetune":
            trunk, data = unreal, after | {"conversion": "real_bn" if recipe.adaptation == "real_bn" else "none"}
        case "mixed_finetune":
            trunk, data = both, after | {"adaptation": "dson" if recipe.adaptation == "dson" else "none"}
    if trunk is not None:
        assert recipe.pretrain is not None
        steps = recipe.pretrain.steps
        keep = [step for step in (*problem.forks, *problem.rungs) if step < steps]
        train(phases[0].spec if phases else problem.task, recipe.pretrain.lr, steps, keep, **trunk)
    forks = problem.forks if recipe.schedule in problem.trunks else ()
    for phase in phases:
        train(phase.spec, phase.lr, phase.steps, [step for step in forks if step <= phase.steps], **data)
        data, forks = data | {"conversion": "none"}, ()
    train(problem.task, recipe.lr, problem.steps, [*problem.rungs, *(s for s in forks if s <= problem.steps)], **data)
    if recipe.adaptation == "adabn":
        path[-1] = replace(path[-1], statistics=references)
    return tuple(path)


# The methods that change how a stage of both domains trains its network.
_WITH_BOTH: tuple[NetworkMethod, ...] = ("real_bn", "dsbn", "dson", "adain")


def _share(recipe: Recipe, real: Rows | None, synthetic: Rows | None) -> float | tuple[float, ...] | None:
    if recipe.gradual is not None:
        return recipe.gradual.shares
    if recipe.synthetic_share == "natural":
        assert real is not None
        assert synthetic is not None
        return synthetic.count / (synthetic.count + real.count)
    return recipe.synthetic_share


def rungs_of(path: Path, problem: Problem) -> tuple[int, ...]:
    """The rungs of a path: a last stage that knows its end is evaluated there alone."""
    return problem.rungs if path[-1].stage.horizon is None else (problem.steps,)


def steps_alone(paths: list[Path]) -> int:
    """Training steps if every path is trained by itself."""
    return sum(leg.steps for path in paths for leg in path)


def steps_shared(paths: list[Path]) -> int:
    """Training steps if every stage is trained once, to the longest length that a path asks of it."""
    longest: dict[str, int] = {}
    for path in paths:
        for leg in path:
            longest[leg.stage.key] = max(longest.get(leg.stage.key, 0), leg.steps)
    return sum(longest.values())
