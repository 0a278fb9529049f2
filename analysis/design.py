"""Design: what the scores of recipes are explained by before each recipe's own: its group, its numbers, its trunk.

A group is a (schedule, adaptation). A trunk is the first stage of a recipe that pretrains, or the only stage of one
that others go on from: recipes with the same trunk share its weights within a replicate, so whatever was good or bad
luck there they have in common. A trunk is named as the store names a stage, without its length: 500 steps of a
pretraining are the beginning of 1000.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.axes import quantity
from analysis.ranking import Candidate
from analysis.runs import Row
from trainables.recipe import Recipe

Group = tuple[str, str]
Trunk = tuple[object, ...]

# Methods that come after the trunk, which is then the plain one; every other method is already in it.
_LATE = {
    "finetune": ("none", "real_bn", "adabn"),
    "synthetic_only": ("none", "adabn"),
    "mixed_finetune": ("none", "adabn"),
    "mixed": ("none", "adabn"),
}
# Standard deviations of the coefficients before the data are seen, in standard deviations of the scores: weak enough
# for any curve, and finite, so that a group of two recipes is not fitted by a line of its own.
_ANY, _COMMON, _OWN = 10.0, 1.0, 0.5

_NUMBERS: dict[str, Callable[[Row], float | None]] = {
    "real": lambda row: _log(row.recipe.real_fraction),
    "synthetic": lambda row: _log(row.recipe.synthetic_fraction),
    "share": lambda row: None if row.recipe.synthetic_share is None else quantity("synthetic_share", row),
    "lr": lambda row: _log(row.recipe.lr),
    "pretrain.steps": lambda row: None if row.recipe.pretrain is None else _log(row.recipe.pretrain.steps),
    "pretrain.lr": lambda row: None if row.recipe.pretrain is None else _log(row.recipe.pretrain.lr),
}
_SQUARED = ("share", "lr", "pretrain.lr")  # may have their best within the range
_BY_GROUP = ("real", "synthetic", "share", "share^2")
_NAMES = ("real_source", "synthetic_source", "freeze")


def group_of(recipe: Recipe) -> Group:
    return recipe.schedule, recipe.adaptation or "none"


def trunk_of(recipe: Recipe) -> Trunk | None:
    """What two recipes have in common if and only if they share the weights of their first stage; None where that
    stage is nobody else's."""
    late = _LATE.get(recipe.schedule)
    if late is None:
        return None
    lr = recipe.lr if recipe.pretrain is None else recipe.pretrain.lr
    adaptation = recipe.adaptation or "none"
    method: tuple[object, ...] = () if adaptation in late else (adaptation, recipe.options)
    trunk: tuple[object, ...] = (recipe.synthetic_source, recipe.synthetic_fraction, lr, method)
    if recipe.schedule in ("mixed", "mixed_finetune") or method:  # image methods read real references
        trunk += (recipe.real_source, recipe.real_fraction)
    return (*trunk, recipe.synthetic_share)


@dataclass(frozen=True)
class Design:
    """Of n recipes: features (n, p) with the prior standard deviation of each coefficient (p,), and the number of each
    recipe's trunk (n,), -1 where it shares none."""

    features: np.ndarray
    prior: np.ndarray
    trunks: np.ndarray

    @property
    def num_trunks(self) -> int:
        return int(self.trunks.max(initial=-1)) + 1


def design(rows: Sequence[Row], like: Sequence[Row] | None = None) -> Design:
    """The design of recipes, each given by one of its rows.

    like  rows that say which columns there are, how they are scaled, and which trunks are known, by default `rows`
          themselves. A trunk that these do not share counts as none
    """
    known = rows if like is None else like
    columns, prior = [np.ones(len(rows))], [_ANY]
    numbers: dict[str, np.ndarray] = {}
    for name, number in _NUMBERS.items():
        basis = np.array([value for row in known if (value := number(row)) is not None])
        if len(set(basis.tolist())) < 2:
            continue
        scaled = [None if (v := number(row)) is None else (v - basis.mean()) / basis.std() for row in rows]
        there = np.array([value is not None for value in scaled])
        numbers[name] = np.array([value or 0.0 for value in scaled])
        if name in _SQUARED and len(set(basis.tolist())) > 2:
            numbers[f"{name}^2"] = np.where(there, numbers[name] ** 2 - 1, 0.0)
    columns += numbers.values()
    prior += [_COMMON] * len(numbers)
    for name in _NAMES:
        values = sorted({str(getattr(row.recipe, name)) for row in known})
        if len(values) > 1:
            columns += [np.array([float(str(getattr(row.recipe, name)) == value) for row in rows]) for value in values]
            prior += [_OWN] * len(values)
    groups = sorted({group_of(row.recipe) for row in known})
    for group in groups if len(groups) > 1 else ():
        inside = np.array([float(group_of(row.recipe) == group) for row in rows])
        columns.append(inside)
        prior.append(_COMMON)
        for name in _BY_GROUP:
            if name in numbers:
                columns.append(inside * numbers[name])
                prior.append(_OWN)
    return Design(np.stack(columns, axis=1), np.array(prior), _trunks(rows, known))


def _trunks(rows: Sequence[Row], known: Sequence[Row]) -> np.ndarray:
    shared: dict[Trunk, int] = {}
    for row in known:
        trunk = trunk_of(row.recipe)
        if trunk is not None:
            shared[trunk] = shared.get(trunk, 0) + 1
    numbers = {trunk: i for i, trunk in enumerate(trunk for trunk, count in shared.items() if count > 1)}
    found = [trunk_of(row.recipe) for row in rows]
    return np.array([-1 if trunk is None else numbers.get(trunk, -1) for trunk in found], dtype=int)


def first_rows(candidates: Sequence[Candidate]) -> tuple[Row, ...]:
    """The row by which each candidate is known: its first."""
    return tuple(candidate.rows[0] for candidate in candidates)


def _log(value: float | None) -> float | None:
    return None if value is None else float(np.log(value))
