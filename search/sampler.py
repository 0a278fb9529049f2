"""Optuna in Tune: a Searcher that hands out the ledger's tickets. Tune asks when it has room; the ledger says what."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from search.ledger import Ledger


class LedgerSearcher(Searcher):
    """Suggests a trial's config: its ticket, and the name of the dispatcher that it submits it to.

    bound  how many tickets may be out now: more where the slots find nothing to do in those that are
    """

    def __init__(self, ledger: Ledger, dispatcher: str, *, bound: Callable[[], int]) -> None:
        super().__init__()
        self._bound = bound
        self._ledger = ledger
        self._dispatcher = dispatcher

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        ticket = self._ledger.next_ticket(self._bound())
        if ticket is not None:
            return {"ticket": ticket, "dispatcher": self._dispatcher}
        return Searcher.FINISHED if self._ledger.exhausted else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: it cannot see why a trial ended. The scheduler can, and tells the ledger."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Searcher, ()  # in Tune's experiment checkpoint, which is not used: the study is the state

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state (`Tuner.restore` is not used)."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore; see `save`."""
