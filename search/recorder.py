"""Recorder: where the ledger writes what happens (search/tracking.py)."""

from typing import Any, Protocol

from search.tracking import DatasetFact, Status
from trainables.recipe import Recipe


class Recorder(Protocol):
    """See Tracker's methods of the same names."""

    def trial_started(
        self, recipe: Recipe, seed: int, number: int, facts: dict[str, int], datasets: list[DatasetFact]
    ) -> None: ...

    def evaluation(
        self, recipe_key: str, seed: int, step: int, metrics: dict[str, float], timestamp_ms: int
    ) -> None: ...

    def trial_ended(
        self, recipe_key: str, seed: int, status: Status, *, traceback: str | None, facts: dict[str, Any]
    ) -> None: ...
