"""Axes: how much data a recipe trains on, as a number."""

from typing import Literal, get_args

from analysis.runs import Row
from trainables.recipe import Recipe

Axis = Literal["real_fraction", "num_real_labels", "num_synthetic", "synthetic_share"]
AXES: tuple[Axis, ...] = get_args(Axis)


def quantity(axis: Axis, row: Row) -> float | None:
    """A recipe's place on an axis; None where it has none (`finetune` has no share), or MLflow does not say.

    A recipe without real images has 0 of them, and one without synthetic images 0 of those; shares are 0 and 1 there.
    """
    recipe = row.recipe
    if axis == "real_fraction":
        return recipe.real_fraction or 0.0
    if axis == "num_real_labels":
        return 0.0 if recipe.real_fraction is None else _known(row.num_real_labels)
    if axis == "num_synthetic":
        return 0.0 if recipe.synthetic_fraction is None else _known(row.num_synthetic)
    share = recipe.synthetic_share
    if share is None:
        return {"real_only": 0.0, "synthetic_only": 1.0}.get(recipe.schedule)
    if isinstance(share, float):
        return share
    synthetic, real = _known(row.num_synthetic), _known(row.num_real_labels)
    return None if synthetic is None or real is None or not synthetic + real else synthetic / (synthetic + real)


def varies(axis: Axis, recipe: Recipe) -> bool:
    """Whether recipes of this schedule differ along the axis: `finetune` has no share, `synthetic_only` no real."""
    if axis == "synthetic_share":
        return recipe.synthetic_share is not None
    return (recipe.synthetic_fraction if axis == "num_synthetic" else recipe.real_fraction) is not None


def _known(count: int | None) -> float | None:
    return None if count is None else float(count)
