"""The ledger, on a real study: what Optuna and MLflow are told of replicates, failures and second runs."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.config import SearchConfig, load
from search.job import Ticket
from search.ledger import Ledger
from search.study import note_numerics, open_study
from tests.toy import toy_problem, toy_search

METRICS = ("val/miou", "val/pixel_accuracy")


class Notes:
    """A recorder that keeps what it was told."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.ended: dict[tuple[str, int], str] = {}
        self.trained: dict[tuple[str, int], int] = {}
        self.tracebacks: list[str] = []

    def trial_started(self, recipe: Any, seed: int, number: int, facts: Any, datasets: Any) -> None:
        self.started.append((recipe.key, seed))

    def evaluation(self, *_: object) -> None: ...

    def trial_ended(self, recipe_key: str, seed: int, status: str, *, traceback: str | None, facts: Any) -> None:
        self.ended[recipe_key, seed] = status
        self.trained[recipe_key, seed] = facts.get("steps_trained", 0)
        if traceback:
            self.tracebacks.append(traceback)


def open_all(packs: Path, folder: Path, config: SearchConfig) -> tuple[Ledger, optuna.Study, Notes]:
    problem = toy_problem(packs)
    study = open_study(config, {"real": "a"}, folder, share=True)
    notes = Notes()
    ledger = Ledger(study, config, problem, notes, datasets=lambda recipe: [])
    return ledger, study, notes


@pytest.fixture
def config(toy_packs: Path, tmp_path: Path) -> SearchConfig:
    return load(toy_search(toy_packs, tmp_path))


def drain(ledger: Ledger) -> list[Ticket]:
    tickets = []
    while (ticket := ledger.next_ticket(1000)) is not None:
        tickets.append(ticket)
    return tickets


def run(ledger: Ledger, ticket: Ticket, values: dict[int, float]) -> None:
    for step, value in values.items():
        ledger.measured(ticket, step, dict.fromkeys(METRICS, value), 1)
    if 6 in values:
        ledger.finished(ticket, 6, 6)


def test_every_recipe_of_a_grid_is_issued_once_for_each_replicate(
    config: SearchConfig, toy_packs: Path, tmp_path: Path
) -> None:
    ledger, _, _ = open_all(toy_packs, tmp_path, config)
    tickets = drain(ledger)
    assert ledger.exhausted
    recipes = [ticket.recipe.key for ticket in tickets if ticket.replicate == 0]
    assert sorted(recipes) == sorted(recipe.key for recipe in config.space.enumerate())
    assert len(tickets) == 2 * len(recipes)


def test_no_more_are_out_than_the_bound(config: SearchConfig, toy_packs: Path, tmp_path: Path) -> None:
    ledger, _, _ = open_all(toy_packs, tmp_path, config)
    first, second = ledger.next_ticket(2), ledger.next_ticket(2)
    assert ledger.next_ticket(2) is None
    assert first is not None
    assert second is not None
    run(ledger, first, {3: 0.1, 6: 0.2})
    assert ledger.next_ticket(2) is not None


def test_optuna_is_told_the_mean_over_replicates_at_each_rung(
    config: SearchConfig, toy_packs: Path, tmp_path: Path
) -> None:
    ledger, study, notes = open_all(toy_packs, tmp_path, config)
    one, two = ledger.next_ticket(9), ledger.next_ticket(9)
    assert one is not None
    assert two is not None
    ledger.measured(one, 3, dict.fromkeys(METRICS, 0.2), 1)
    assert study.trials[one.number].intermediate_values == {}  # the other replicate has not got there
    run(ledger, two, {3: 0.4, 6: 0.6})
    assert study.trials[one.number].intermediate_values == {3: pytest.approx(0.3)}
    run(ledger, one, {6: 0.8})
    trial = study.trials[one.number]
    assert trial.state is TrialState.COMPLETE
    assert trial.value == pytest.approx(0.7)
    assert trial.intermediate_values == {3: pytest.approx(0.3), 6: pytest.approx(0.7)}
    assert set(notes.ended.values()) == {"finished"}


def test_a_recipe_whose_replicates_all_fail_is_failed_and_one_that_completes_counts_alone(
    config: SearchConfig, toy_packs: Path, tmp_path: Path
) -> None:
    ledger, study, notes = open_all(toy_packs, tmp_path, config)
    a0, a1, b0, b1 = (ledger.next_ticket(9) for _ in range(4))
    for ticket in (a0, a1, b1):
        assert ticket is not None
        ledger.failed(ticket, "Traceback ...\nNotFiniteError: at step 3")
        ledger.failed(ticket, "told twice")
    assert b0 is not None
    run(ledger, b0, {3: 0.5, 6: 0.6})
    assert study.trials[0].state is TrialState.FAIL
    assert study.trials[0].user_attrs["error"] == "NotFiniteError: at step 3"
    assert study.trials[1].state is TrialState.COMPLETE
    assert study.trials[1].value == pytest.approx(0.6)
    assert study.trials[1].user_attrs["failed_replicates"] == [1]
    assert len(notes.tracebacks) == 3
    assert ledger.summary()["failed"] == 1


def test_a_nan_metric_is_a_failure_and_never_the_best(config: SearchConfig, toy_packs: Path, tmp_path: Path) -> None:
    ledger, study, _ = open_all(toy_packs, tmp_path, config)
    for _ in range(2):
        ticket = ledger.next_ticket(9)
        assert ticket is not None
        run(ledger, ticket, {3: float("nan"), 6: float("nan")})
    assert study.trials[0].state is TrialState.FAIL
    assert ledger.summary()["best"] == []


def test_a_second_run_issues_what_was_running_and_then_what_is_missing(
    config: SearchConfig, toy_packs: Path, tmp_path: Path
) -> None:
    ledger, study, _ = open_all(toy_packs, tmp_path, config)
    tickets = [ledger.next_ticket(9) for _ in range(4)]  # both replicates of recipes 0 and 1
    for ticket in tickets[:2]:
        assert ticket is not None
        run(ledger, ticket, {3: 0.1, 6: 0.2})
    # Here the process dies. Another begins:
    again, study, _ = open_all(toy_packs, tmp_path, config)
    assert again.summary()["ended"] == 1
    issued = drain(again)
    assert [(t.number, t.replicate) for t in issued[:2]] == [(1, 0), (1, 1)]
    assert {t.number for t in issued} == set(range(1, len(config.space.enumerate())))
    assert {t.attempt for t in issued} == {1}
    for ticket in issued:
        run(again, ticket, {3: 0.1, 6: 0.3})
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)
    third, _, _ = open_all(toy_packs, tmp_path, config)
    assert third.exhausted
    assert third.next_ticket(9) is None
    assert third.summary()["best"][0][0] == pytest.approx(0.3)


def test_steps_of_the_runs_before_count(config: SearchConfig, toy_packs: Path, tmp_path: Path) -> None:
    ledger, _, _ = open_all(toy_packs, tmp_path, config)
    ticket = ledger.next_ticket(1000)
    assert ticket is not None
    ledger.measured(ticket, 3, dict.fromkeys(METRICS, 0.5), 1)
    ledger.left(ticket, 3, 3)

    ledger, _, notes = open_all(toy_packs, tmp_path, config)
    again = next(one for one in drain(ledger) if one.params == ticket.params and one.replicate == ticket.replicate)
    run(ledger, again, {3: 0.5, 6: 0.5})
    assert notes.trained == {(ticket.recipe.key, ticket.replicate): 3 + 6}


def test_raised_trials_ask_for_the_missing_ones_only(toy_packs: Path, tmp_path: Path) -> None:
    replace = {"sampler: grid": "sampler: tpe", "steps: 6,": "trials: 3, steps: 6,"}
    config = load(toy_search(toy_packs, tmp_path, replace))
    ledger, _, _ = open_all(toy_packs, tmp_path, config)
    for ticket in drain(ledger):
        run(ledger, ticket, {3: 0.1, 6: 0.2})
    more = load(toy_search(toy_packs, tmp_path, replace | {"steps: 6,": "trials: 5, steps: 6,"}))
    ledger, study, _ = open_all(toy_packs, tmp_path, more)
    tickets = drain(ledger)
    assert {t.number for t in tickets} == {3, 4}
    assert len(study.trials) == 5


def test_an_unknown_objective_names_the_known_ones(config: SearchConfig, toy_packs: Path, tmp_path: Path) -> None:
    ledger, _, _ = open_all(toy_packs, tmp_path, config)
    ticket = ledger.next_ticket(9)
    assert ticket is not None
    with pytest.raises(ValueError, match=r"objective\.metric must be one of val/pixel_accuracy; but got 'val/miou'"):
        ledger.measured(ticket, 3, {"val/pixel_accuracy": 1.0, "test/a/miou": 1.0}, 1)


@pytest.mark.parametrize(
    ("replace", "field"),
    [
        ({"batch_size: 6": "batch_size: 5"}, "training.batch_size"),
        ({"width: 0.0625": "width: 0.125"}, "task.width"),
        ({"seeds: 2": "seeds: 3"}, "budget.seeds"),
        ({"lr: [0.1]": "lr: [0.1, 0.2]"}, "space.lr"),
    ],
)
def test_a_change_that_makes_old_trials_incomparable_names_the_field(
    config: SearchConfig, toy_packs: Path, tmp_path: Path, replace: dict[str, str], field: str
) -> None:
    study = open_study(config, {"real": "a"}, tmp_path, share=True)
    study.ask()
    open_study(config, {"real": "a"}, tmp_path, share=True)
    changed = load(toy_search(toy_packs, tmp_path, replace))
    with pytest.raises(ValueError, match=f"^{field} must stay as it was"):
        open_study(changed, {"real": "a"}, tmp_path, share=True)
    with pytest.raises(ValueError, match=r"^data\.real must stay as it was"):
        open_study(config, {"real": "b"}, tmp_path, share=True)
    with pytest.raises(ValueError, match="--no-share was given"):
        open_study(config, {"real": "a"}, tmp_path, share=False)


def test_a_search_of_which_nothing_was_asked_takes_the_file_as_it_is_now(
    config: SearchConfig, toy_packs: Path, tmp_path: Path
) -> None:
    open_study(config, {"real": "a"}, tmp_path, share=True)
    changed = load(toy_search(toy_packs, tmp_path, {"lr: [0.1]": "lr: [0.3]"}))
    again = open_study(changed, {"real": "b"}, tmp_path, share=False)
    assert json.loads(again.user_attrs["search"])["space.lr"] == [0.3]
    assert not again.user_attrs["share"]


def test_a_run_that_computes_otherwise_than_the_one_before_says_so_once(config: SearchConfig, tmp_path: Path) -> None:
    numerics = {"torch": "2.13.0", "device": "NVIDIA A100", "tf32": False}
    other = numerics | {"device": "NVIDIA L4"}
    told = []
    for now in (numerics, numerics, other, other):
        study = open_study(config, {"real": "a"}, tmp_path, share=True)
        study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))  # an empty study is made anew
        told.append(note_numerics(study, now))
    assert [line is None for line in told] == [True, True, False, True]
    assert str(told[2]).startswith("device is 'NVIDIA L4' and was 'NVIDIA A100' in the run before: ")
