"""importance: parameters whose effect is known, in spaces where not every recipe has every parameter."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis import Table, bars
from analysis.importance import FEWEST, Subspace, importances, subspaces
from tests.analysis.scored import recipes, table
from trainables.recipe import Recipe

RATES = (0.001, 0.003, 0.01, 0.03, 0.1)


def scored(chosen: list[Recipe], score: dict[Recipe, float]) -> Table:
    made = table(chosen, seeds=1)
    return replace(made, rows=tuple(replace(row, metrics={"val/miou": score[row.recipe]}) for row in made.rows))


def additive() -> Table:
    """real_fraction has 4/5 of the variance and the rate 1/5; the adaptation none, nor has the pretraining."""
    chosen = recipes(("finetune",), ("none", "real_bn"), rates=RATES, pretrain=(500, 1000))
    levels = {0.05: -2, 0.1: -1, 0.25: 0, 0.5: 1, 1.0: 2}
    worth = {rate: place - 2 for place, rate in enumerate(RATES)}
    score = {r: 0.5 + 0.02 * levels[r.real_fraction or 0] + 0.01 * worth[r.lr] for r in chosen}
    return scored(chosen, score)


def the(found: tuple[Subspace, ...], title: str) -> Subspace:
    (one,) = [one for one in found if one.title == title]
    return one


def test_shares_are_those_of_the_variance_that_each_parameter_makes() -> None:
    (one,) = importances(additive()).subspaces
    shares = {share.parameter: share for share in one.shares}
    assert (one.title, one.num_recipes, one.num_used) == ("all recipes", 100, 100)
    assert shares["real_fraction"].share == pytest.approx(0.8, abs=0.05)
    assert shares["lr"].share == pytest.approx(0.2, abs=0.05)
    assert {name for name, share in shares.items() if share.clear} == {"real_fraction", "lr"}
    assert one.explained > 0.9
    assert sum(share.share for share in one.shares) == pytest.approx(1)


def test_a_parameter_is_judged_among_the_recipes_that_have_it() -> None:
    chosen = recipes(rates=RATES)
    groups = subspaces(chosen)
    assert next(iter(groups)) == "all recipes"
    assert set(groups) == {
        "all recipes",
        "with real_fraction",
        "with adaptation",
        "mixed",
        "finetune",
        "real_only",
        "synthetic_only",
    }
    assert {r.schedule for r in groups["with adaptation"]} == {"mixed", "finetune"}
    found = importances(table(chosen, noise=0.0)).subspaces
    assert {share.parameter for share in the(found, "all recipes").shares} == {"schedule", "lr"}
    assert {share.parameter for share in the(found, "real_only").shares} == {"real_fraction", "lr"}
    assert sum(len(members) for name, members in groups.items() if name in ("mixed", "finetune")) == len(
        groups["with adaptation"]
    )


def test_noise_is_not_explained_and_has_no_shares() -> None:
    chosen = recipes(("finetune",), ("none", "real_bn"), rates=RATES)
    rng = np.random.Generator(np.random.Philox(key=3))
    (one,) = importances(scored(chosen, {r: float(rng.standard_normal()) for r in chosen})).subspaces
    assert one.shares == ()
    assert one.explained <= 0
    assert one.reason == "what is not yet seen is predicted no better than by the mean"


def test_what_cannot_be_said_is_said() -> None:
    few = recipes(("real_only",))
    (one,) = importances(table(few)).subspaces
    assert (one.num_recipes, one.shares, math.isnan(one.explained)) == (5, (), True)
    assert one.reason == f"too few recipes: {FEWEST} or more can tell"
    flat = recipes(("real_only",), rates=RATES)
    (one,) = importances(scored(flat, dict.fromkeys(flat, 0.5))).subspaces
    assert one.reason == "all of them are equally good"
    same = recipes(("synthetic_only",))
    (one,) = importances(table(same)).subspaces
    assert one.reason == "no parameter that all of them have differs"
    with pytest.raises(ValueError, match="must have a finished trial with metric 'val/mae'"):
        importances(table(few), "val/mae")


def test_recipes_that_did_not_finish_are_left_out_and_counted() -> None:
    made = additive()
    rows = [replace(row, status="stopped") if row.recipe.adaptation == "none" else row for row in made.rows]
    found = importances(replace(made, rows=tuple(rows)))
    assert found.num_left_out == 50
    assert "50 recipes without a finished trial are left out" in bars.title(found)


def test_the_same_table_has_the_same_importances_and_each_is_a_row() -> None:
    found = importances(additive())
    assert found == importances(additive())
    rows = bars.points(found).to_pylist()
    assert [row["parameter"] for row in rows] == [share.parameter for share in found.subspaces[0].shares]
    few = bars.points(importances(table(recipes(("real_only",))))).to_pylist()
    assert [(row["parameter"], row["explained"]) for row in few] == [(None, None)]
    assert few[0]["reason"]


def test_pictures_have_a_panel_per_subspace_and_name_those_without_shares() -> None:
    found = importances(table(recipes(rates=RATES)))
    shown = [one for one in found.subspaces if one.shares]
    figure = bars.draw(found)
    titles = [axes.get_title(loc="left") for axes in figure.axes[: len(shown)]]
    assert [title.split(":")[0] for title in titles] == [one.title for one in shown]
    (legend,) = figure.legends
    assert "synthetic_only: 5 recipes: too few recipes" in legend.get_title().get_text()
    assert bars.draw(importances(table(recipes(("real_only",))))).axes == []
