"""Asking: whether a search still begins new recipes, and which is next."""

from collections.abc import Callable

from search.config import SearchConfig
from search.entries import Entries
from search.proposer import Proposal, Proposer
from search.study import num_recipes
from search.study_writer import StudyWriter
from trainables.recipe import Recipe


class Asking:
    """It ends when there are as many recipes as were wanted, or when the space or the budget is exhausted, in this run
    or in one before with the same budget."""

    def __init__(
        self, config: SearchConfig, entries: Entries, writer: StudyWriter, cost: Callable[[Recipe], float]
    ) -> None:
        self._entries = entries
        self._writer = writer
        self._proposer = Proposer(config, accept=entries.acceptable, cost=cost)
        self._wanted = num_recipes(config)
        self._budget = [self._wanted, config.budget.hours]
        self._closed = writer.closed_at == self._budget
        self._held: Proposal | None = None  # a recipe that there was no room for when it was proposed

    @property
    def goes_on(self) -> bool:
        return not self._closed and len(self._entries.known) < self._wanted

    @property
    def recipes(self) -> int:
        """How many the search will have, as far as is known."""
        return len(self._entries.known) if self._closed else self._wanted

    def next(self) -> Proposal | None:
        """What was put by, or else the proposer's next one. None: the space is exhausted."""
        proposal = self._held or self._proposer.propose(list(self._entries.trials.values()))
        self._held = None
        if proposal is None:
            self.close()
        return proposal

    def put_by(self, proposal: Proposal) -> None:
        """There is no room for a recipe now: it is the next one again."""
        self._held = proposal

    def close(self) -> None:
        """Nothing new is asked any more, nor by a later run with the same budget."""
        self._closed = True
        self._writer.closed(self._budget)
