"""Wording: recipes and figures as a person reads them."""

import math

from analysis.ranking import Candidate
from trainables.recipe import options_of


def describe(candidate: Candidate) -> str:
    """A recipe as an instruction: "`finetune` on 25% of the real images (30 labels) after 500 steps on ..."."""
    recipe, row = candidate.recipe, candidate.rows[0]
    real = synthetic = ""
    if recipe.real_fraction is not None:
        labels = "" if row.num_real_labels is None else f" ({row.num_real_labels} labels)"
        real = f"{percent(recipe.real_fraction)} of the real images{_of(recipe.real_source)}{labels}"
    if recipe.synthetic_fraction is not None:
        images = "" if row.num_synthetic is None else f" ({row.num_synthetic})"
        synthetic = (
            f"{percent(recipe.synthetic_fraction)} of the synthetic images{_of(recipe.synthetic_source)}{images}"
        )
    both, share, falls = f"{real} and {synthetic}", recipe.synthetic_share, recipe.gradual
    if share is not None:
        both += ", mixed as they come" if isinstance(share, str) else f", {percent(share)} of each batch synthetic"
    if falls is not None:
        both += f", {percent(falls.start)} to {percent(falls.end)} of each batch synthetic in {falls.blocks} blocks"
    text = f"`{recipe.schedule}` on "
    if recipe.pretrain is not None:
        before = synthetic if share is None else both
        text += f"{real} after {recipe.pretrain.steps} steps (lr {recipe.pretrain.lr:.3g}) on {before}"
    else:
        text += both if real and synthetic else real or synthetic
    if recipe.adaptation not in (None, "none"):
        told = ", ".join(f"{k} {v}" for k, v in options_of(recipe.options).items()) if recipe.options else ""
        text += f", with {recipe.adaptation}" + (f" ({told})" if told else "")
    if recipe.freeze not in (None, "nothing"):
        text += f", {' and '.join(recipe.frozen)} frozen"
    return f"{text}, at lr {recipe.lr:.3g}"


def _of(source: str | None) -> str:
    return "" if source is None else f" of {source}"


def decimals(value: float) -> int:
    """As many decimals as show three significant digits of a value: 0.612 has 3, 12.3 has 1."""
    return 3 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))


def percent(fraction: float) -> str:
    return f"{100 * fraction:.4g}%"


def chance(probability: float) -> str:
    """A probability from draws, which cannot say how far from 0 or 1 an extreme one is."""
    if probability > 0.995:
        return "over 99%"
    return "under 1%" if probability < 0.005 else f"{probability:.0%}"
