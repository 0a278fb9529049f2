"""decide: means over seeds choose, pairs over seeds compare, and what cannot be said is said. Truths by hand."""

import math
from dataclasses import replace

import pytest

from analysis import Row, Table, decide
from analysis.ranking import rank
from analysis.wording import decimals
from trainables.recipe import Pretrain, Recipe


def real(fraction: float, lr: float = 0.01) -> Recipe:
    return Recipe(schedule="real_only", real_fraction=fraction, lr=lr)


def mixed(fraction: float, share: float = 0.5, adaptation: str = "none") -> Recipe:
    return Recipe.model_validate(
        {
            "schedule": "mixed",
            "adaptation": adaptation,
            "real_fraction": fraction,
            "synthetic_fraction": 1.0,
            "synthetic_share": share,
            "lr": 0.01,
        }
    )


FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)
TUNED = Recipe(
    schedule="finetune",
    adaptation="real_bn",
    real_fraction=0.25,
    synthetic_fraction=1.0,
    pretrain=Pretrain(steps=500, lr=0.03),
    lr=0.01,
)


def table(scores: dict[Recipe, list[float | None]], mode: str = "max", seeds: int = 3) -> Table:
    """None is a failed replicate."""
    rows = [
        Row(
            run_id=f"{number}-{seed}",
            recipe=recipe,
            seed=seed,
            number=number,
            status="failed" if value is None else "finished",
            step=1000,
            metrics={} if value is None else {"val/miou": value, "test/other/miou": value - 0.1},
            num_real_labels=None if recipe.real_fraction is None else round(120 * recipe.real_fraction),
            num_synthetic=None if recipe.synthetic_fraction is None else 400,
            error="ValueError: boom" if value is None else None,
        )
        for number, (recipe, values) in enumerate(scores.items())
        for seed, value in enumerate(values)
    ]
    return Table("faces", "val/miou", "min" if mode == "min" else "max", seeds, tuple(rows))


def test_the_mean_wins_and_not_the_seed_that_was_lucky() -> None:
    lucky, steady = real(1.0, lr=0.1), real(1.0)
    decision = decide(table({lucky: [0.9, 0.3, 0.3], steady: [0.6, 0.6, 0.6]}))
    assert decision.winner is not None
    assert decision.winner.recipe == steady
    assert decision.winner.mean == 0.6


def test_one_finished_replicate_of_three_is_not_put_before_three() -> None:
    lucky, steady = real(1.0, lr=0.1), real(1.0)
    decision = decide(table({lucky: [None, 0.9, None], steady: [0.6, 0.5, 0.7]}))
    assert [candidate.recipe for candidate in decision.candidates] == [steady, lucky]
    assert [candidate.complete for candidate in decision.candidates] == [True, False]
    assert any("not considered, with 1 of 3 replicates" in note and "0.900" in note for note in decision.notes)


def test_where_less_is_better_the_lowest_mean_wins_and_differences_keep_their_sense() -> None:
    decision = decide(table({mixed(0.5): [0.10, 0.12, 0.11], real(1.0): [0.20, 0.22, 0.21]}, mode="min"))
    assert decision.winner is not None
    assert decision.winner.recipe == mixed(0.5)
    assert decision.comparisons[0].mean == pytest.approx(0.1)
    (line,) = [note for note in decision.notes if note.startswith("against ")]
    assert line.startswith("against the runner-up and the best real-only recipe and ")
    assert "): 0.100 better, 95% interval 0.100 to 0.100" in line


def test_differences_are_paired_over_seeds() -> None:
    # Seeds differ by 0.1, recipes by 0.01, 0.02, 0.03: unpaired the recipes could not be told apart.
    decision = decide(table({mixed(1.0): [0.51, 0.62, 0.73], real(1.0): [0.50, 0.60, 0.70]}))
    (comparison,) = decision.comparisons
    assert comparison.differences == pytest.approx((0.01, 0.02, 0.03))
    assert comparison.standard_error == pytest.approx(0.01 / math.sqrt(3))
    margin = 4.302652729911275 * 0.01 / math.sqrt(3)  # t of 2 degrees of freedom at 97.5%, from a printed table: 4.303
    assert (comparison.low, comparison.high) == pytest.approx((0.02 - margin, 0.02 + margin))
    assert comparison.distinguishable is False  # 0.02 - 0.0248 < 0
    close = decide(table({mixed(1.0): [0.52, 0.621, 0.719], real(1.0): [0.50, 0.60, 0.70]}))
    assert close.comparisons[0].distinguishable is True  # 0.02 ± 0.0025


def test_a_runner_up_within_the_spread_is_called_not_distinguishable() -> None:
    scores: dict[Recipe, list[float | None]] = {
        TUNED: [0.60, 0.62, 0.61],
        mixed(0.25): [0.61, 0.60, 0.60],
        real(0.25): [0.50, 0.52, 0.51],
        real(1.0): [0.55, 0.56, 0.57],
    }
    decision = decide(table(scores))
    text = decision.recommendation
    sentence = (
        "Train `finetune` on 25% of the real images (30 labels) after 500 steps (lr 0.03) on 100% of the synthetic "
        "images (400), with real_bn, at lr 0.01: val/miou 0.610 ± 0.010 (mean ± std over 3 seeds), "
        "the best of 4 recipes with probability "
    )
    assert text.startswith(sentence)
    assert decision.probability is not None
    assert text == f"{sentence}{decision.probability:.0%}."
    # The best real-only recipe is also the best on all real images: said once.
    assert [c.role for c in decision.comparisons] == [
        "the runner-up",
        "the best real-only recipe and the best recipe on all real images",
    ]
    second, first = sorted(note for note in decision.notes if note.startswith("against "))
    assert first.startswith("against the runner-up (mixed real=0.25")
    assert "): 0.007 better, not distinguishable, 95% interval -0.0" in first
    assert second.startswith("against the best real-only recipe and the best recipe on all real images (real_only ")
    assert "): 0.050 better, 95% interval 0.0" in second
    assert not any("seeds: intervals are wide" in note for note in decision.notes)
    assert all("\n" not in line for line in (text, *decision.notes))


def test_two_seeds_are_said_once_to_tell_little_and_show_no_interval_that_tells_nothing() -> None:
    scores: dict[Recipe, list[float | None]] = {TUNED: [0.16, 0.18], real(0.25): [0.15, 0.16], real(1.0): [0.14, 0.14]}
    decision = decide(table(scores, seeds=2))
    assert ": val/miou 0.170 ± 0.014 (mean ± std over 2 seeds), the best of 3 recipes" in decision.recommendation
    assert decision.notes.count("2 seeds: intervals are wide; 3 or more tell more") == 1
    lines = [note for note in decision.notes if note.startswith("against ")]
    assert len(lines) == 2
    assert all(line.endswith(" better, not distinguishable") for line in lines)


def test_a_comparison_on_fewer_seeds_than_the_winner_has_says_on_how_many() -> None:
    decision = decide(table({mixed(1.0): [0.7, 0.7, 0.7], real(1.0): [0.5, 0.6, None]}))
    (line,) = [note for note in decision.notes if note.startswith("against ")]
    assert line.endswith("): 0.150 better on 2 common seeds, not distinguishable")
    assert "2 seeds: intervals are wide; 3 or more tell more" in decision.notes


def test_a_real_only_winner_is_compared_with_the_best_that_uses_synthetic() -> None:
    decision = decide(table({real(1.0): [0.7, 0.71, 0.7], real(0.5): [0.6, 0.6, 0.61], mixed(1.0): [0.5, 0.5, 0.51]}))
    roles = {comparison.role: comparison.other.recipe for comparison in decision.comparisons}
    assert roles["the best recipe with synthetic images"] == mixed(1.0)
    assert roles["the runner-up and the best recipe on fewer real images"] == real(0.5)


def test_one_seed_says_that_no_difference_can_be_told_from_chance() -> None:
    decision = decide(table({real(1.0): [0.7], mixed(1.0): [0.6]}, seeds=1))
    assert decision.recommendation.endswith(": val/miou 0.700 (one seed).")
    assert "one seed: no difference can be told from chance; set `seeds: 3` or more" in decision.notes
    assert any(note.endswith("): 0.100 better") for note in decision.notes), "neither interval nor verdict"
    assert "±" not in decision.recommendation
    assert decision.comparisons[0].distinguishable is None
    assert decision.winner is not None
    assert math.isnan(decision.winner.std)


def test_recipes_without_a_common_seed_are_not_compared() -> None:
    decision = decide(table({real(1.0): [0.7, None, None], mixed(1.0): [None, 0.6, None]}))
    assert decision.comparisons[0].differences == ()
    assert any(note.endswith("): no seed in common") for note in decision.notes)
    assert any("no recipe finished all 3 replicates" in note for note in decision.notes)


def test_when_all_failed_nothing_is_recommended_and_the_error_is_shown() -> None:
    decision = decide(table({real(1.0): [None, None, None]}))
    assert decision.winner is None
    assert decision.recommendation == (
        "Nothing can be recommended: none of 3 trials finished with a val/miou, 3 failed; "
        "the last error: ValueError: boom."
    )
    assert decide(Table("faces", "val/miou", "max", 3, ())).winner is None


def test_a_nan_objective_is_no_finished_replicate() -> None:
    candidates = rank(table({real(1.0): [math.nan, 0.9, 0.9], real(0.5): [0.5, 0.5, 0.5]}))
    assert [candidate.values for candidate in candidates] == [(0.5, 0.5, 0.5), (0.9, 0.9)]


def test_a_stopped_trial_counts_for_nothing_however_good_its_low_fidelity_score() -> None:
    rows = table({real(1.0): [0.5, 0.5, 0.5]}).rows
    stopped = Row("s", mixed(1.0), 0, 9, "stopped", 250, {"val/miou": 0.99})
    both = Table("faces", "val/miou", "max", 3, (*rows, stopped))
    (candidate,) = rank(both)
    assert candidate.recipe == real(1.0)
    assert any(note.startswith("1 of 4 trials were left behind at a rung") for note in decide(both).notes)
    assert not any("left behind" in note for note in decide(replace(both, rows=rows)).notes)


def test_what_breaks_a_constraint_is_not_recommended_and_that_is_said() -> None:
    free = table({real(1.0): [0.9, 0.9, 0.9], real(0.5): [0.7, 0.7, 0.7], real(0.25): [0.5, 0.5, 0.5]})
    few = replace(free, constraints={"num_real_labels": {"max": 60}, "val/miou": {"min": 0.6}})
    decision = decide(few)
    assert [candidate.recipe for candidate in decision.candidates] == [real(0.5)]
    assert "2 recipes do not keep to num_real_labels, val/miou and are not considered" in decision.notes
    assert decide(free).winner is not None
    assert decide(replace(free, constraints={"val/miou": {"max": 0.1}})).winner is None


def test_the_winners_test_scores_are_reported_and_do_not_choose() -> None:
    decision = decide(table({real(1.0): [0.6, 0.61, 0.62]}))
    (note,) = [note for note in decision.notes if note.startswith("on data that chose nothing")]
    assert note.startswith("on data that chose nothing: test/other/miou 0.510 ± 0.010, seeds: 3; 0.1")
    assert note.endswith("worse than what val/miou regresses to")


@pytest.mark.parametrize(("value", "digits"), [(0.612, 3), (0.0421, 4), (12.3, 1), (123.0, 0), (0.0, 3), (-0.5, 3)])
def test_three_significant_digits_are_shown(value: float, digits: int) -> None:
    assert decimals(value) == digits


def test_the_recommendation_names_the_source_and_compares_with_the_best_on_another() -> None:
    def on(source: str, lr: float = 0.01) -> Recipe:
        return Recipe.from_params(real(0.25).params() | {"real_source": source, "lr": lr})

    scores: dict[Recipe, list[float | None]] = {
        on("refined"): [0.60, 0.62, 0.61],
        on("refined", lr=0.1): [0.59, 0.60, 0.60],
        on("original"): [0.50, 0.52, 0.51],
        on("original+refined"): [0.55, 0.56, 0.57],
    }
    decision = decide(table(scores))
    assert decision.recommendation.startswith(
        "Train `real_only` on 25% of the real images of refined (30 labels), at lr"
    )
    roles = {c.role: c.other.recipe.real_source for c in decision.comparisons}
    assert roles == {"the runner-up": "refined", "the best recipe on another real source": "original+refined"}
    alone = {recipe: values for recipe, values in scores.items() if recipe.real_source == "refined"}
    assert [c.role for c in decide(table(alone)).comparisons] == ["the runner-up"]


def test_how_probable_the_winner_and_its_group_are_is_said_and_adds_up() -> None:
    scores: dict[Recipe, list[float | None]] = {
        TUNED: [0.60, 0.62, 0.61],
        mixed(0.25): [0.61, 0.60, 0.60],
        mixed(0.25, share=0.75): [0.59, 0.60, 0.60],
        real(0.25): [0.50, 0.52, 0.51],
    }
    decision = decide(table(scores))
    assert decision.posterior is not None
    assert decision.probability == decision.posterior.probability_best[0]
    assert sum(decision.groups.values()) == pytest.approx(1)
    assert set(decision.groups) == {("finetune", "real_bn"), ("mixed", "none"), ("real_only", "none")}
    (note,) = [note for note in decision.notes if note.startswith("probability ")]
    assert "that it is the best of 4 recipes; else mixed real=0.25" in note
    assert any(note.startswith("the best recipe is of finetune + real_bn ") for note in decision.notes)
    (choice,) = [note for note in decision.notes if note.startswith("the best of 4 recipes is also the luckiest")]
    assert f"its val/miou of 0.610 regresses to {decision.contenders[0].expected:.3f}, 90% interval " in choice
    assert decision.contenders[0].candidate == decision.winner
    assert len(decision.contenders) == 4


def test_one_that_is_more_probably_the_best_than_the_winner_is_named_and_still_not_put_first() -> None:
    steady: dict[Recipe, list[float | None]] = {
        real(f): [0.4 + 0.1 * f, 0.41 + 0.1 * f, 0.39 + 0.1 * f] for f in FRACTIONS
    }
    decision = decide(table(steady | {mixed(1.0): [0.9, 0.91, None]}))
    assert decision.winner is not None
    assert decision.winner.recipe == real(1.0)
    assert any(note.startswith(f"more probably the best is {mixed(1.0)}, with 2 of 3") for note in decision.notes)


def test_a_flat_curve_is_said_to_be_flat_and_a_peak_where_it_lies() -> None:
    def shares(height: float) -> Table:
        noise = [0.012, -0.011, 0.013, -0.012, 0.010, -0.011, 0.012, -0.010, 0.011]
        return table(
            {
                mixed(1.0, share): [0.6 - height * (share - 0.5) ** 2 + noise[3 * i + seed] for seed in range(3)]
                for i, share in enumerate((0.25, 0.5, 0.75))
            }
        )

    assert any(note.startswith("synthetic share: the curve is flat") for note in decide(shares(0.0)).notes)
    assert any(note.startswith("synthetic share: best at 0.5") for note in decide(shares(4.0)).notes)


def test_a_half_that_failed_and_scores_that_are_not_finite_are_said() -> None:
    scores: dict[Recipe, list[float | None]] = {
        real(1.0): [0.6, 0.61, 0.62],
        real(0.5): [math.nan, 0.5, 0.5],
        mixed(1.0): [None, None, None],
        mixed(0.5): [None, None, None],
    }
    decision = decide(table(scores))
    assert (
        "6 of 12 trials failed, and of 2 recipes every one: nothing can be said of these, nor of mixed at all"
        in decision.notes
    )
    assert "1 of 12 trials finished without a finite val/miou and count for nothing" in decision.notes


def test_what_one_seed_or_one_recipe_cannot_tell_is_said() -> None:
    few = decide(table({real(1.0): [0.7], mixed(1.0): [0.6]}, seeds=1))
    assert any(note.startswith("no recipe has two replicates, so how much chance there is") for note in few.notes)
    assert any(note.startswith("only 2 recipes finished") for note in few.notes)
    assert "probability" not in few.recommendation, "it rests on what is thought beforehand"
    alone = decide(table({real(1.0): [0.7, 0.7, 0.71]}))
    assert "one recipe finished: there is nothing to choose from" in alone.notes
    assert alone.recommendation.endswith("(mean ± std over 3 seeds).")
