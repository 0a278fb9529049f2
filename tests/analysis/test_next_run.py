"""next_run: the run that is worth most for what it costs, with its worth against the closed form."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from analysis.next_run import _Bench, next_run
from analysis.posterior import posterior
from analysis.runs import Table
from analysis.show import show_advice
from tests.analysis.simulated import FRACTIONS, Scores, mixed, real, simulate, table_of, tuned
from trainables.recipe import Recipe


def rival_table() -> Table:
    """Two recipes level at the top, and others well below."""
    scores: Scores = {
        mixed(1.0, 0.5): [0.70, 0.72, 0.71],
        mixed(1.0, 0.75): [0.71, 0.70, 0.722],
        mixed(1.0, 0.25): [0.60, 0.61, 0.62],
        real(1.0): [0.50, 0.51, 0.49],
        real(0.5): [0.40, 0.42, 0.41],
    }
    return table_of(scores)


def test_the_worth_of_a_measurement_is_the_knowledge_gradient() -> None:
    # Two rivals, a gap of 1 and deviations 2 and 0: measured with noise 1.5, the mean moves by 4 / sqrt(4 + 2.25).
    rng = np.random.Generator(np.random.Philox(key=1))
    first = 2 * rng.standard_normal(200_000)
    means = np.stack([first, np.full(len(first), 1.0)], axis=1)
    seen = first + 1.5 * rng.standard_normal(len(first))
    moves = 4 / math.sqrt(6.25)
    z = 1 / moves
    truth = moves * (stats.norm.pdf(z) - z * stats.norm.sf(z))
    assert _Bench._worth(means, seen[:, None]) == pytest.approx(truth, rel=0.02)
    assert _Bench._worth(means, rng.standard_normal((len(first), 1))) == pytest.approx(0, abs=0.01)


def test_one_more_seed_of_the_two_rivals_together_comes_first() -> None:
    advice = next_run(posterior(rival_table()))
    seeds = [option for option in advice.options if option.kind == "seed"]
    assert set(seeds[0].recipes) == {mixed(1.0, 0.5), mixed(1.0, 0.75)}
    assert seeds[0].seed == 3
    assert seeds[0].cost == 2000
    assert 0 < seeds[0].value <= advice.open * 1.1
    assert [option.rate for option in advice.options] == sorted((o.rate for o in advice.options), reverse=True)


def test_a_missing_replicate_of_a_rival_is_offered_and_one_of_a_straggler_is_not_worth_it() -> None:
    table = rival_table()
    missing = {(1, 2), (4, 2)}  # by number and seed: the second rival, and the last
    table = replace(table, rows=tuple(row for row in table.rows if (row.number, row.seed) not in missing))
    worth = {o.recipes: o.value for o in next_run(posterior(table)).options if o.kind == "replicate"}
    assert worth[(mixed(1.0, 0.75),)] > 0
    assert (real(0.5),) not in worth


def test_a_trunk_is_paid_once_and_not_again_for_a_seed_that_trained_it() -> None:
    scores: Scores = {
        tuned(1.0): [0.70, 0.72, 0.71],
        tuned(1.0, 0.02): [0.71, 0.70, None],
        tuned(0.5): [0.5, 0.5, 0.52],
        real(1.0): [0.3, 0.32, 0.31],
    }
    table = table_of(scores)
    advice = next_run(posterior(table))
    replicate = next(o for o in advice.options if o.kind == "replicate" and o.recipes == (tuned(1.0, 0.02),))
    assert replicate.cost == 1000, "its trunk's 500 steps are in the store"
    both = next(o for o in advice.options if o.kind == "seed" and len(o.recipes) == 2)
    assert both.cost == 2500
    assert advice.unit == "steps"
    unknown = replace(table, rows=tuple(replace(row, steps_alone=None) for row in table.rows))
    advice = next_run(posterior(unknown))
    assert advice.unit == "runs"
    assert {o.cost for o in advice.options if o.kind == "replicate"} == {1}


def test_an_untried_neighbour_is_offered_where_the_curve_rises_towards_it() -> None:
    rng = np.random.Generator(np.random.Philox(key=3))
    means: dict[Recipe, float] = {
        mixed(f, s): 0.6 + 0.03 * math.log(f) + 0.2 * s for f in FRACTIONS for s in (0.25, 0.5, 0.75)
    }
    del means[mixed(1.0, 0.75)], means[mixed(0.25, 0.75)]
    made = simulate(rng, means, recipe=0.003, residual=0.005)
    advice = next_run(posterior(made.table))
    best = advice.options[0]
    assert (best.kind, best.recipes) == ("recipe", (mixed(1.0, 0.75),))
    assert best.value > advice.open, "more than knowing all that were tried"
    assert str(best) == f"{mixed(1.0, 0.75)}, which nobody tried, with seed 0"
    assert str(advice).startswith(f"Run next {best} (1,000 steps): it is expected to better the choice by 0.0")
    limited = replace(made.table, constraints={"num_real_labels": {"max": 500}})
    offered = {r for o in next_run(posterior(limited)).options for r in o.recipes}
    assert mixed(0.25, 0.75) in offered
    assert mixed(1.0, 0.75) not in offered, "it does not keep to the constraint"


def test_a_clear_winner_leaves_next_to_nothing_open_and_a_lone_recipe_has_no_rival() -> None:
    scores: Scores = {real(f): [0.5 + 0.3 * f, 0.5 + 0.3 * f, 0.501 + 0.3 * f] for f in FRACTIONS}
    assert next_run(posterior(table_of(scores))).open < 1e-3
    alone = next_run(posterior(table_of({real(1.0): [0.5, 0.5, 0.5]})))
    assert alone.options == ()
    assert str(alone).startswith("Nothing can be said of what to run next")


def test_what_to_run_next_is_printed() -> None:
    console = Console(file=io.StringIO(), width=200)
    advice = next_run(posterior(rival_table()))
    show_advice(console, advice)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert str(advice) in text.splitlines()
    assert "one more seed, 3, of" in text
