"""The forecast of a search: what the store lacks of it, and how much of that is trained where recipes are given up."""

from dataclasses import dataclass

from search.budget import PrunerConfig
from search.config import SearchConfig
from search.cost import Costs
from trainables.recipe import Recipe
from trainables.stage import Rows

CONTENDERS = 3  # with racing, one of so many recipes at the last rung is taken to get its other seeds


@dataclass(frozen=True)
class Forecast:
    """Steps and evaluations that are not in the store.

    steps         if every recipe ran to its end with all of its seeds
    assumes       how many are expected to, in words; "" where all do
    steps_expected, evaluations_expected  under that assumption. An evaluation is a pass over `val`; a test set, read
                  at the last rung alone, is the part of one that its rows are
    """

    steps: int
    assumes: str
    steps_expected: float
    evaluations_expected: float


def forecast(config: SearchConfig, costs: Costs, recipes: list[Recipe], tests: float) -> Forecast:
    """The forecast of these recipes with all their seeds; `tests` is the rows of all test sets per row of `val`."""
    return Forecast(
        costs.together((recipe, replicate) for recipe in recipes for replicate in range(config.budget.seeds)),
        _assumptions(config),
        _steps(config, costs, recipes),
        _evaluations(config, costs, recipes, tests),
    )


def going_on(pruner: PrunerConfig, rungs: int) -> tuple[float, ...]:
    """The share of recipes that is expected to train towards each of so many rungs; the first is 1."""
    factor, spared = pruner.factor, [0]  # a bracket spares its recipes at so many rungs
    match pruner.kind:
        case "none":
            spared = [rungs]
        case "median":
            factor = 2
        case "hyperband":
            spared = list(range(rungs))
    return tuple(sum(factor ** -max(0.0, rung - s) for s in spared) / len(spared) for rung in range(rungs))


def _assumptions(config: SearchConfig) -> str:
    pruner, said = config.pruning, []
    if len(config.budget.evaluations) > 1 and pruner.kind != "none":
        some = "half go" if pruner.kind == "median" else f"1 in {pruner.factor} goes"
        spared = " that its bracket does not spare" if pruner.kind == "hyperband" else ""
        said.append(f"{pruner.kind}: {some} on from each rung{spared}")
    if config.budget.racing:
        said.append(f"racing: 1 in {CONTENDERS} at the last rung gets its other seeds")
    return "; ".join(said)


def _shares(config: SearchConfig, replicate: int) -> dict[int, float]:
    """The share of recipes whose replicate is expected to train towards each rung."""
    rungs = config.budget.evaluations
    shares = going_on(config.pruning, len(rungs))
    if config.budget.racing and replicate:
        shares = (shares[-1] / CONTENDERS,) * len(rungs)
    return dict(zip(rungs, shares, strict=True))


def _steps(config: SearchConfig, costs: Costs, recipes: list[Recipe]) -> float:
    """What is missing between one rung and the next, times the share that goes there."""
    steps = 0.0
    for replicate in range(config.budget.seeds):
        before = 0
        for rung, share in _shares(config, replicate).items():
            there = costs.together(((recipe, replicate) for recipe in recipes), rung)
            steps += max(0, there - before) * share
            before = max(before, there)
    return steps


def _evaluations(config: SearchConfig, costs: Costs, recipes: list[Recipe], tests: float) -> float:
    """Evaluations of the checkpoints that are missing: what is stored was evaluated when it was trained."""
    found: dict[tuple[str, Rows | None, int], float] = {}
    for replicate in range(config.budget.seeds):
        shares = _shares(config, replicate)
        for recipe in recipes:
            last, rungs = costs.path(recipe, replicate)[-1], costs.rungs(recipe)
            for rung in rungs:
                if costs.marginal(recipe, replicate, rung):
                    share = shares[rung] if len(rungs) > 1 else next(iter(shares.values()))
                    found[last.stage.key, last.statistics, rung] = share * (1 + tests if rung == rungs[-1] else 1)
    return sum(found.values())
