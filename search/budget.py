"""What a search aims at and what it may spend: objectives, constraints, budget, and how early it gives a recipe up."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from search.data import Frozen

Direction = Literal["maximize", "minimize"]
# What a recipe costs, known before it is trained: images by what they cost (Problem.counts), and the steps of its path.
CostName = Literal["num_real_labels", "num_real_unlabelled", "num_synthetic", "steps"]


class ObjectiveConfig(Frozen):
    """metric   chooses, on `val`
    against  costs that are made small at the same time: the answer is then a Pareto front
    """

    metric: str = "val/miou"
    mode: Literal["max", "min"] = "max"
    against: tuple[CostName, ...] = ()

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Where the metric and then each cost is to go, in Optuna's words."""
        costs: list[Direction] = ["minimize" for _ in self.against]
        return ("maximize" if self.mode == "max" else "minimize", *costs)

    @model_validator(mode="after")
    def _validation_only(self) -> "ObjectiveConfig":
        if not self.metric.startswith("val/"):
            raise ValueError(f"metric must begin with val/ (test sets are only reported), but got {self.metric!r}")
        if len(set(self.against)) != len(self.against):
            raise ValueError(f"against must list each cost once, but got {list(self.against)}")
        return self


class Bounds(Frozen):
    """What a cost or a metric must keep to; one side may be open."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _holds_something(self) -> "Bounds":
        if self.min is None and self.max is None:
            raise ValueError("must give min, max or both, but gives neither")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min <= max` must hold, but got (min={self.min:g}, max={self.max:g})")
        return self

    def violation(self, value: float) -> float:
        """How far a value lies outside; 0 or less inside. NaN of NaN."""
        if value != value:
            return value
        below = self.min - value if self.min is not None else -float("inf")
        above = value - self.max if self.max is not None else -float("inf")
        return max(below, above)


class BudgetConfig(Frozen):
    """How much to try.

    trials  recipes; a grid's default is all of it
    steps   length of the last stage
    rungs   its steps at which it is evaluated, ending at `steps`; the default is there alone
    seeds   replicates of each recipe
    racing  begin each recipe with one seed, and give the others to contenders alone
    hours   accelerator-hours: no recipe, rung or further seed is begun that does not fit into what is left of them
    """

    trials: int | None = Field(default=None, ge=1)
    steps: int = Field(ge=1)
    rungs: tuple[int, ...] = ()
    seeds: int = Field(default=1, ge=1, le=100)
    racing: bool = False
    hours: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _rungs_end_at_steps(self) -> "BudgetConfig":
        rungs = self.rungs
        if rungs and (list(rungs) != sorted(set(rungs)) or rungs[0] < 1 or rungs[-1] != self.steps):
            raise ValueError(f"rungs must ascend and end at steps={self.steps}, but got {list(rungs)}")
        if self.racing and self.seeds < 2:
            raise ValueError(
                f"racing needs seeds of at least 2, but got {self.seeds}; raise seeds, or leave racing out"
            )
        return self

    @property
    def evaluations(self) -> tuple[int, ...]:
        return self.rungs or (self.steps,)


class PrunerConfig(Frozen):
    """Which recipes go on from a rung.

    kind     asha (asynchronous successive halving), hyperband (several of it, each sparing its recipes for longer),
             median, or none
    factor   asha and hyperband: one of so many goes on
    startup  median: values at a rung before it judges; until then all go on
    """

    kind: Literal["none", "asha", "hyperband", "median"] = "asha"
    factor: int = Field(default=3, ge=2)
    startup: int = Field(default=5, ge=2)


def _named(key: str) -> BeforeValidator:
    """A text stands for a mapping with that one key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _bounded(name: str) -> str:
    costs = get_args(CostName)
    if name not in costs and not name.startswith("val/"):
        raise ValueError(f"must be a cost, one of {', '.join(costs)}, or a metric that begins with val/, not {name!r}")
    return name


Constraints = dict[Annotated[str, AfterValidator(_bounded)], Bounds]
Pruner = Annotated[PrunerConfig, _named("kind")]


class StoreConfig(Frozen):
    """uri     a folder, or a URI that pyarrow opens; None is under the results folder, shared by its searches
    max_gb  what its checkpoints may take: the least recently used go, but none that a live search needs
    """

    uri: str | None = None
    max_gb: float | None = Field(default=None, gt=0)


StorePlace = Annotated[StoreConfig, _named("uri")]
Enqueued = tuple[dict[str, Any], ...]
