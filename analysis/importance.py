"""Importance: how much each parameter decides how good a recipe is, by fANOVA (Hutter et al. 2014, as Optuna has it).

The share of a parameter is the share of the variance between recipes that it explains by itself, the others averaged
out. A parameter that only some recipes have is judged among those that have it: the recipes are taken by subspaces,
all of them, each schedule, and those that share a parameter, and each says how many recipes it is based on.

Two things tell what the shares are worth. `explained` is how much of the variance the same forest predicts on recipes
that it has not seen; where that is nothing, no share is given. `chance` is the highest share that a shuffled copy of a
parameter gets (the shadows of Boruta, Kursa and Rudnicki 2010): what lies below cannot be told from chance.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.curves import is_geometric
from analysis.runs import Table, mean
from trainables.recipe import SCHEDULES, Recipe

FEWEST = 10  # recipes
MOST = 200  # recipes; of more, as many are drawn: fANOVA takes minutes for thousands
NUM_TREES = 32
LISTED = 12  # more distinct numbers than this are a range, and not a list, and are judged in as many classes
SEED = 0

Column = tuple[list[int], bool]  # the place of each recipe's value, and whether the values are names, without order


@dataclass(frozen=True)
class Share:
    """A parameter's share of the variance that is explained; `clear` where no shuffled parameter has as much."""

    parameter: str
    share: float
    clear: bool


@dataclass(frozen=True)
class Subspace:
    """Recipes that have the same parameters, and what each of these decides, the first the most.

    num_recipes  that finished; num_used of them were drawn, where they are very many
    explained    share of the variance between recipes that is predicted, out of bag; NaN where not tried
    reason       why there are no shares, "" where there are
    """

    title: str
    num_recipes: int
    num_used: int
    shares: tuple[Share, ...]
    chance: float
    explained: float
    reason: str = ""


@dataclass(frozen=True)
class Importances:
    search: str
    metric: str
    num_left_out: int  # recipes without a finished replicate: failed, running, or left behind at a rung
    subspaces: tuple[Subspace, ...]


def importances(table: Table, metric: str | None = None) -> Importances:
    """Those of every subspace, by a recipe's mean over its finished replicates; `metric` is by default the objective.

    Raises ValueError where no finished trial has the metric.
    """
    judged = metric or table.metric
    scored = scores(table, judged)
    if not scored:
        raise ValueError(f"search {table.search!r} must have a finished trial with metric {judged!r}, but has none")
    found = [_judge(title, members, scored) for title, members in subspaces(list(scored)).items()]
    return Importances(table.search, judged, len(table.recipes()) - len(scored), tuple(found))


def scores(table: Table, metric: str) -> dict[Recipe, float]:
    """The mean of a metric over the finished replicates of each recipe that has one."""
    found = {}
    for recipe, rows in table.recipes().items():
        values = [value for row in rows if (value := row.value(metric)) is not None]
        if values:
            found[recipe] = mean(values)
    return found


def subspaces(recipes: Sequence[Recipe]) -> dict[str, list[Recipe]]:
    """All recipes, those of each schedule, and those that have a parameter that not all have and that differs between
    them, by name: each set of recipes once, the largest first."""
    params = {recipe: recipe.params() for recipe in recipes}
    named: dict[frozenset[Recipe], list[str]] = {frozenset(recipes): ["all recipes"]}
    for schedule in SCHEDULES:
        named.setdefault(frozenset(r for r in recipes if r.schedule == schedule), []).append(schedule)
    for name in dict.fromkeys(name for given in params.values() for name in given):
        if len({given[name] for given in params.values() if name in given}) < 2:
            continue
        members = frozenset(recipe for recipe in recipes if name in params[recipe])
        if members not in named or named[members][0].startswith("with "):
            named.setdefault(members, []).append(f"with {name}")
    sets = sorted(((members, names) for members, names in named.items() if members), key=lambda one: -len(one[0]))
    return {_joined(names): [recipe for recipe in recipes if recipe in members] for members, names in sets}


def _joined(names: Sequence[str]) -> str:
    """One title of a set of recipes, that may be all recipes and a schedule's too."""
    return names[0] if not names[0].startswith("with ") else "with " + ", ".join(name[5:] for name in names)


def _judge(title: str, members: Sequence[Recipe], scored: dict[Recipe, float]) -> Subspace:
    params = {recipe: recipe.params() for recipe in members}
    first = params[members[0]]
    common = [name for name in first if all(name in given for given in params.values())]
    tried = [name for name in common if len({given[name] for given in params.values()}) > 1]
    count = len(members)
    if not tried:
        return Subspace(title, count, count, (), math.nan, math.nan, "no parameter that all of them have differs")
    if count < FEWEST:
        return Subspace(title, count, count, (), math.nan, math.nan, f"too few recipes: {FEWEST} or more can tell")
    rng = np.random.Generator(np.random.Philox(key=SEED))
    used = sorted(rng.choice(count, MOST, replace=False)) if count > MOST else range(count)
    values = np.array([scored[members[i]] for i in used])
    if np.ptp(values) == 0:
        return Subspace(title, count, len(values), (), math.nan, math.nan, "all of them are equally good")
    columns = {name: _places([params[members[i]][name] for i in used]) for name in tried}
    explained = _explained(columns, values)
    if explained <= 0:
        reason = "what is not yet seen is predicted no better than by the mean"
        return Subspace(title, count, len(values), (), math.nan, explained, reason)
    shadows = {
        f"shuffled {name}": ([places[i] for i in rng.permutation(len(values))], named)
        for name, (places, named) in columns.items()
    }
    found = _fanova(columns | shadows, values)
    chance = max(found[name] for name in shadows)
    total = sum(found[name] for name in columns)
    shares = [Share(name, found[name] / total, found[name] > chance) for name in columns]
    shares.sort(key=lambda one: (-one.share, one.parameter))
    return Subspace(title, count, len(values), tuple(shares), chance / total, explained)


def _fanova(columns: dict[str, Column], values: np.ndarray) -> dict[str, float]:
    """Optuna's fANOVA of recipes by parameter, on a study that is built in memory."""
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.study import create_study
    from optuna.trial import create_trial

    space: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(range(max(places) + 1)) if named else IntDistribution(0, max(places))
        for name, (places, named) in columns.items()
    }
    trials = [
        create_trial(
            params={name: places[i] for name, (places, _) in columns.items()}, distributions=space, value=float(value)
        )
        for i, value in enumerate(values)
    ]
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)  # a terminal is for the answer
    study = create_study()
    logger.setLevel(level)
    study.add_trials(trials)
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=NUM_TREES, seed=SEED))
    return {name: float(value) for name, value in found.items()}


def _explained(columns: dict[str, Column], values: np.ndarray) -> float:
    """R² of a forest whose trees predict only the recipes that they were not fitted to (out of bag, Breiman 1996)."""
    from sklearn.ensemble import RandomForestRegressor

    features: list[list[float]] = []
    for places, named in columns.values():
        if named:
            features += [[float(place == level) for place in places] for level in range(max(places) + 1)]
        else:
            features.append([float(place) for place in places])
    forest = RandomForestRegressor(2 * NUM_TREES, random_state=SEED, oob_score=True)
    return float(forest.fit(np.array(features).T, values).oob_score_)


def _places(values: Sequence[Any]) -> Column:
    """Values by their place: in the list of those that there are, or, of a range, in LISTED classes of equal width, on
    a log scale if they are geometric. Of numbers of a list each is as likely, whatever their distances."""
    named = any(isinstance(value, str) for value in values)
    levels = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    if named or len(levels) <= LISTED:
        order = {level: place for place, level in enumerate(levels)}
        return [order[value] for value in values], named
    scaled = np.log(values) if is_geometric(levels) else np.array(values, float)
    low, high = scaled.min(), scaled.max()
    return np.minimum(LISTED * (scaled - low) / (high - low), LISTED - 1).astype(int).tolist(), False
