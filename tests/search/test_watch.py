"""How many tickets may be out: `Watch.limit`, of which each is a process on the head."""

from types import SimpleNamespace
from typing import Any

import pytest

from search.watch import Watch


def watch(slots: int, blocked: int = 0) -> Watch:
    unused: Any = None
    pool: Any = SimpleNamespace(alive=slots)
    made = Watch(unused, pool, unused, unused, unused, "", lambda numerics: None)
    made._blocked = blocked
    return made


@pytest.mark.parametrize(("slots", "waiting"), [(1, 1), (2, 1), (8, 4), (16, 8), (64, 8), (500, 8)])
def test_each_slot_has_a_ticket_and_a_few_wait(slots: int, waiting: int) -> None:
    assert watch(slots).limit() == slots + waiting


def test_what_waits_for_another_slots_stage_comes_on_top_of_it() -> None:
    assert watch(4, blocked=5).limit() == 4 + 2 + 5
    assert watch(4, blocked=100).limit() == 4 + 2 + 2 * 4  # at most two for each slot


def test_a_search_whose_slots_all_wait_for_a_node_goes_on_asking() -> None:
    assert watch(0).limit() == 2
