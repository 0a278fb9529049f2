"""The ledger at rungs and in races, on a real study: who goes on, who is left behind, and what Optuna holds of it."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.trial import TrialState
from optuna_dashboard import wsgi

from search.config import SearchConfig, load
from search.job import Ticket
from search.ledger import Ledger
from search.study import open_study
from tests.search.test_ledger import Notes
from tests.toy import toy_problem, toy_search
from trainables.path import path_of, rungs_of

RUNGS = (2, 4, 6)


def changes(trials: int = 27, budget: str = "", rest: str = "pruner: {kind: asha, factor: 3}") -> dict[str, str]:
    """Of the toy search: a random search with three rungs over a range of rates."""
    return {
        "sampler: grid": f"sampler: random\n{rest}",
        "lr: [0.1]": "lr: {low: 0.01, high: 0.1}",
        "rungs: [3, 6], seeds: 2": f"rungs: [2, 4, 6], trials: {trials}{budget}",
    }


class Search:
    """A search without Ray: tickets go out, values come from a function of (recipe number, replicate, step)."""

    def __init__(
        self, packs: Path, folder: Path, file: dict[str, str], value: Callable[[int, int, int], float], **options: Any
    ) -> None:
        self.config: SearchConfig = load(toy_search(packs, folder, file))
        self.problem = replace(toy_problem(packs), rungs=RUNGS)
        self.study = open_study(self.config, {"real": "a"}, folder, share=True)
        self.notes = Notes()
        self.ledger = Ledger(self.study, self.config, self.problem, self.notes, datasets=lambda recipe: [], **options)
        self.value = value
        self.reached: dict[tuple[int, int], int] = {}
        self.issued: list[Ticket] = []

    def step(self, ticket: Ticket) -> bool:
        """Trains a ticket to its next rung; whether it goes on from there."""
        key = ticket.number, ticket.replicate
        rungs = rungs_of(path_of(ticket.recipe, self.problem, 0), self.problem)
        rung = next(rung for rung in rungs if rung > max(self.reached.get(key, 0), ticket.after))
        self.reached[key] = rung
        value = self.value(ticket.number, ticket.replicate, rung)
        goes_on = self.ledger.measured(ticket, rung, {"val/miou": value, "val/pixel_accuracy": 1 - value}, 1)
        if rung == RUNGS[-1]:
            self.ledger.finished(ticket, 1, 1)
            return False
        if not goes_on:
            self.ledger.left(ticket, 1, 1)
        return goes_on

    def run(self, order: random.Random, most: int = 10_000, bound: int = 4) -> None:
        """Runs tickets in random order, `bound` at once, for at most so many rungs."""
        out: list[Ticket] = []
        for _ in range(most):
            while (ticket := self.ledger.next_ticket(bound)) is not None:
                assert ticket.after == self.reached.get((ticket.number, ticket.replicate), 0) or not self.issued
                self.issued.append(ticket)
                out.append(ticket)
            if not out:
                assert self.ledger.exhausted
                assert self.ledger.complete
                return
            ticket = out.pop(order.randrange(len(out)))
            if self.step(ticket):
                out.append(ticket)


def miou(number: int, replicate: int, step: int) -> float:
    """Recipes differ, seeds differ a little, and longer is better."""
    return random.Random(number).random() * 0.5 + 0.05 * step + 0.001 * random.Random(97 * number + replicate).random()


@pytest.mark.parametrize("seed", range(5))
def test_successive_halving_stops_resumes_and_tells_optuna_what_it_was(
    toy_packs: Path, tmp_path: Path, seed: int
) -> None:
    search = Search(toy_packs, tmp_path, changes(), miou)
    search.run(random.Random(seed))
    trials = {trial.number: trial for trial in search.study.trials}
    assert len(trials) == 27
    for number, trial in trials.items():
        values = {rung: miou(number, 0, rung) for rung in RUNGS if rung <= search.reached[number, 0]}
        assert trial.intermediate_values == values
        assert trial.state is (TrialState.COMPLETE if 6 in values else TrialState.PRUNED)
        assert trial.value == values[max(values)]
    for rung, following in pairwise(RUNGS):
        here = {n: t.intermediate_values[rung] for n, t in trials.items() if rung in t.intermediate_values}
        best = sorted(here, key=here.__getitem__, reverse=True)[: len(here) // 3]
        gone = {n for n in here if following in trials[n].intermediate_values}
        assert set(best) <= gone  # whoever is in the top share at the end went on, however early it had been left
        assert len(gone) <= 2 * len(here) // 3
    assert any(ticket.after for ticket in search.issued)
    statuses = {search.notes.ended[trials[n].user_attrs["recipe"], 0] for n in trials}
    assert statuses == {"finished", "stopped"}


def test_the_best_of_too_few_goes_on_at_the_end(toy_packs: Path, tmp_path: Path) -> None:
    search = Search(toy_packs, tmp_path, changes(2), miou)
    search.run(random.Random(0))
    best = max(range(2), key=lambda n: miou(n, 0, 6))
    states = {trial.number: trial.state for trial in search.study.trials}
    assert states == {best: TrialState.COMPLETE, 1 - best: TrialState.PRUNED}


def test_a_second_run_takes_up_what_the_first_left(toy_packs: Path, tmp_path: Path) -> None:
    first = Search(toy_packs, tmp_path, changes(), miou)
    first.run(random.Random(1), most=30)
    before = {t.number: (t.state, dict(t.intermediate_values)) for t in first.study.trials}
    assert any(state is TrialState.RUNNING and values for state, values in before.values())
    second = Search(toy_packs, tmp_path, changes(), miou)
    # The store has what was trained: a replicate that was on its way to a rung begins at the one before.
    second.reached = {(n, 0): max(values, default=0) for n, (_, values) in before.items()}
    second.run(random.Random(2))
    trials = second.study.trials
    assert len(trials) == 27
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        assert trial.intermediate_values == {r: miou(trial.number, 0, r) for r in trial.intermediate_values}
    again = [ticket for ticket in second.issued if ticket.number in before and ticket.after == 0]
    assert len(again) <= 4  # only those that were out before their first rung


def test_replicates_wait_for_each_other_and_the_mean_decides(toy_packs: Path, tmp_path: Path) -> None:
    search = Search(toy_packs, tmp_path, changes(12, ", seeds: 2"), miou)
    search.run(random.Random(3))
    complete = [trial for trial in search.study.trials if trial.state is TrialState.COMPLETE]
    assert complete
    for trial in complete:
        assert trial.value == pytest.approx((miou(trial.number, 0, 6) + miou(trial.number, 1, 6)) / 2)
    for trial in search.study.trials:  # both or none went on
        assert search.reached[trial.number, 0] == search.reached[trial.number, 1]


def test_racing_gives_contenders_all_seeds_and_clear_losers_one(toy_packs: Path, tmp_path: Path) -> None:
    racing = changes(12, ", seeds: 4, racing: true", "pruner: none")

    def value(number: int, replicate: int, step: int) -> float:
        noise = random.Random(f"{number} {replicate}").gauss(0, 0.004)
        return (0.6 if number in (3, 7) else 0.3) + 0.05 * replicate + noise + 0.01 * step

    search = Search(toy_packs, tmp_path, racing, value)
    search.run(random.Random(0))
    seeds = {n: sum((n, r) in search.reached for r in range(4)) for n in range(12)}
    assert seeds[3] == seeds[7] == 4
    assert sum(seeds.values()) <= 12 + 6 + 6  # the first round asks a second seed of the best few alone
    for trial in search.study.trials:
        assert trial.state is TrialState.COMPLETE
        mean = sum(value(trial.number, r, 6) for r in range(seeds[trial.number])) / seeds[trial.number]
        assert trial.value == pytest.approx(mean)
    assert [place[2] for place in search.ledger.summary()["best"][:2]] == [4, 4]


def test_a_race_that_was_interrupted_goes_on(toy_packs: Path, tmp_path: Path) -> None:
    racing = changes(6, ", seeds: 3, racing: true", "pruner: none")
    Search(toy_packs, tmp_path, racing, miou).run(random.Random(0), most=20)
    second = Search(toy_packs, tmp_path, racing, miou)
    second.run(random.Random(0))
    assert {trial.state for trial in second.study.trials} == {TrialState.COMPLETE}
    again = [(ticket.number, ticket.replicate) for ticket in second.issued]
    assert len(again) == len(set(again)) < 18


def test_several_objectives_prune_by_rank_and_end_with_all_values(toy_packs: Path, tmp_path: Path) -> None:
    objective = "objective: {metric: val/miou, against: [num_real_labels]}"
    search = Search(toy_packs, tmp_path, changes(rest=f"pruner: asha\n{objective}"), miou)
    search.run(random.Random(0))
    assert len(search.study.directions) == 2
    complete = [trial for trial in search.study.trials if trial.state is TrialState.COMPLETE]
    assert complete
    for trial in complete:
        recipe = search.config.space.recipe(trial.params)
        labels = search.problem.counts(recipe)["num_real_labels"]
        assert trial.values == [miou(trial.number, 0, 6), labels]
    assert {trial.state for trial in search.study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    front = search.ledger.summary()["pareto"]
    assert [list(values) for values, _, _ in front] == sorted(
        (t.values for t in search.study.best_trials), reverse=True
    )


def test_constraints_are_told_and_no_infeasible_recipe_is_the_best(toy_packs: Path, tmp_path: Path) -> None:
    constraint = "constraints: {val/pixel_accuracy: {min: 0.3}}"
    search = Search(toy_packs, tmp_path, changes(rest=f"pruner: none\n{constraint}"), miou)
    search.run(random.Random(0))
    for trial in search.study.trials:
        (violation,) = trial.constraints.values()
        assert violation == pytest.approx(0.3 - (1 - miou(trial.number, 0, 6)))
    feasible = [trial.value for trial in search.study.trials if next(iter(trial.constraints.values())) <= 0]
    assert search.ledger.summary()["best"][0][0] == max(feasible) < max(t.value for t in search.study.trials)


def test_a_budget_that_is_spent_begins_nothing_more(toy_packs: Path, tmp_path: Path) -> None:
    search = Search(toy_packs, tmp_path, changes(), miou, affords=lambda tickets, out: tickets[0].number < 9)
    search.run(random.Random(0))
    assert len(search.study.trials) == 9
    assert search.ledger.summary()["recipes"] == 9


def test_optunas_own_dashboard_reads_the_study(toy_packs: Path, tmp_path: Path) -> None:
    search = Search(toy_packs, tmp_path, changes(), miou)
    search.run(random.Random(0))
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    (summary,) = optuna.get_all_study_summaries(storage)
    told: list[str] = []
    environ = {"PATH_INFO": f"/api/studies/{summary._study_id}"}
    setup_testing_defaults(environ)
    body = b"".join(wsgi(storage)(environ, lambda status, headers, *_: told.append(status)))
    assert told == ["200 OK"]
    shown = json.loads(body)["trials"]
    states = [trial["state"].upper() for trial in shown]
    assert states.count("PRUNED") == sum(t.state is TrialState.PRUNED for t in search.study.trials) > 0
    assert {len(t["intermediate_values"]) for t in shown if t["state"].upper() == "COMPLETE"} == {3}


def test_recipes_that_are_measured_at_their_end_alone_take_nobodys_place(toy_packs: Path, tmp_path: Path) -> None:
    """Their full-length values are far above those of others at the first rung."""
    pretrain = "  pretrain: {steps: [4], lr: [0.05]}\n"
    file = changes() | {"[real_only, synthetic_only, finetune]": "[real_only, gradual]", pretrain: ""}
    search = Search(toy_packs, tmp_path, file, miou)
    search.run(random.Random(0))
    halved = [trial for trial in search.study.trials if trial.params["schedule"] == "real_only"]
    assert {t.state for t in search.study.trials if t.params["schedule"] == "gradual"} == {TrialState.COMPLETE}
    assert sum(4 in trial.intermediate_values for trial in halved) >= len(halved) // 3 > 2


@pytest.mark.parametrize("racing", [False, True])
def test_a_kill_after_the_last_rung_and_before_the_end_loses_nothing(
    toy_packs: Path, tmp_path: Path, racing: bool
) -> None:
    file = changes(3, ", seeds: 2, racing: true" if racing else "", "pruner: asha")
    first = Search(toy_packs, tmp_path, file, miou)
    with mock.patch.object(first.ledger, "finished", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        first.run(random.Random(0))
    assert 6 in {step for trial in first.study.trials for step in trial.intermediate_values}
    second = Search(toy_packs, tmp_path, file, miou)
    second.run(random.Random(0))
    (best,) = [trial for trial in second.study.trials if trial.state is TrialState.COMPLETE]
    seeds = range(2 if racing else 1)
    assert best.value == pytest.approx(sum(miou(best.number, r, 6) for r in seeds) / len(seeds))


def test_constraints_outlive_a_resume(toy_packs: Path, tmp_path: Path) -> None:
    rest = "pruner: none\nconstraints: {val/pixel_accuracy: {min: 0.3}}"
    file = changes(6, ", seeds: 3, racing: true", rest)
    first = Search(toy_packs, tmp_path, file, miou)
    first.run(random.Random(0), most=20)
    second = Search(toy_packs, tmp_path, file, miou)
    second.run(random.Random(0))
    for trial in second.study.trials:
        (violation,) = trial.constraints.values()
        assert violation == pytest.approx(0.3 - (1 - trial.value), abs=0.002)  # seeds differ by 0.001


def test_what_a_budget_has_no_room_for_now_is_tried_when_there_is(toy_packs: Path, tmp_path: Path) -> None:
    file = changes(9, ", hours: 1")
    search = Search(toy_packs, tmp_path, file, miou, affords=lambda tickets, out: len(out) < 2)
    search.run(random.Random(0))
    assert len(search.study.trials) == 9
    first = {trial.number: trial.intermediate_values[2] for trial in search.study.trials}
    best = sorted(first, key=first.__getitem__)[-3:]
    assert all(4 in search.study.trials[number].intermediate_values for number in best)


def test_a_value_that_is_no_number_is_in_no_race(toy_packs: Path, tmp_path: Path) -> None:
    def value(number: int, replicate: int, step: int) -> float:
        return float("nan") if number == 2 else miou(number, replicate, step)

    search = Search(toy_packs, tmp_path, changes(6, ", seeds: 4, racing: true", "pruner: none"), value)
    search.run(random.Random(0))
    assert search.study.trials[2].state is TrialState.FAIL
    assert (2, 1) not in search.reached
    seeds = [sum((n, r) in search.reached for r in range(4)) for n in range(6)]
    assert max(seeds) == 4 > min(seeds)


def test_a_ticket_whose_actor_died_is_issued_again_a_few_times(toy_packs: Path, tmp_path: Path) -> None:
    ledger = Search(toy_packs, tmp_path, changes(1), miou).ledger
    for _ in range(3):
        ticket = ledger.next_ticket(1)
        assert ticket is not None
        assert ledger.lost(ticket)
        assert ledger.lost(ticket)  # told twice
    again = ledger.next_ticket(1)
    assert again == ticket
    assert not ledger.lost(again)
