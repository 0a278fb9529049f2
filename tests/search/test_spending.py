"""What a budget in accelerator-hours has room for, and what is remembered of it."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from search.config import SearchConfig, load
from search.cost import Costs
from search.job import Ticket
from search.spending import Spending
from search.study import open_study
from tests.toy import RECIPES, toy_problem, toy_search
from trainables.store import Store


def ticket(name: str, number: int = 0) -> Ticket:
    return Ticket(number, 0, 0, tuple(RECIPES[name].params().items()))


@pytest.fixture
def parts(toy_packs: Path, tmp_path: Path) -> tuple[SearchConfig, optuna.Study, Costs]:
    # A slot of two workers without GPUs holds two accelerators: 360 busy seconds are 0.2 hours.
    budget = {"seeds: 2": "hours: 0.2", "sampler: grid": "sampler: grid\nslots: {workers: 2}"}
    config = load(toy_search(toy_packs, tmp_path, budget))
    study = open_study(config, {"real": "a"}, tmp_path, share=True)
    return config, study, Costs(toy_problem(toy_packs), store_of=lambda namespace: Store(str(tmp_path), "division"))


def test_the_room_is_that_of_the_steps_that_the_store_lacks(parts: tuple[SearchConfig, optuna.Study, Costs]) -> None:
    spending = Spending(*parts)
    assert spending.affords([ticket("mixed")], [])  # before anything was trained it has room
    spending.update(300.0, 30)  # 10 s a step: 60 s are left, which are 6 steps
    assert spending.hours == pytest.approx(600 / 3600)
    assert spending.affords([ticket("mixed")], [])  # 6 steps
    assert not spending.affords([ticket("mixed")], [ticket("real")])  # and 6 of another
    assert not spending.affords([ticket("finetune")], [])  # a trunk of 4 and 6 steps
    # The trunk of 4 lies within the 6 steps of the same stage: together they take 6 and 6.
    assert not spending.affords([ticket("finetune")], [ticket("synthetic")])
    spending.update(240.0, 24)  # a dispatcher that was restarted counts from 0
    assert spending.hours == pytest.approx(2 * (300 + 240) / 3600)
    assert not spending.affords([ticket("mixed")], [])


def test_what_was_spent_is_known_to_the_next_run(parts: tuple[SearchConfig, optuna.Study, Costs]) -> None:
    config, study, costs = parts
    first = Spending(config, study, costs)
    first.update(100.0, 10)
    first.update(180.0, 15)
    first.save()
    second = Spending(config, study, costs)
    assert second.hours == first.hours == pytest.approx(0.1)
    second.update(90.0, 5)
    assert second.hours == pytest.approx(0.15)
    assert not second.affords([ticket("mixed"), ticket("real", 1)], [])  # 12 steps of 13.5 s: 162 s of 90


def test_nothing_is_said_before_the_store_is_known_and_nothing_refused_without_a_budget(
    parts: tuple[SearchConfig, optuna.Study, Costs], toy_packs: Path
) -> None:
    config, study, _ = parts
    unknown = Spending(config, study, Costs(toy_problem(toy_packs)))
    unknown.update(300.0, 30)
    assert unknown.affords([ticket("mixed")], []) is None
    free = config.model_copy(update={"budget": config.budget.model_copy(update={"hours": None})})
    spending = Spending(free, study, Costs(replace(toy_problem(toy_packs))))
    spending.update(1e9, 1)
    assert spending.affords([ticket("mixed")], [])
