"""Tickets: the replicates of recipes that are out, and those that are to be issued next."""

from collections import Counter, deque

from search.entry import Entry
from search.job import Ticket
from trainables.recipe import Recipe

LOST_MOST = 3  # how often a trial's actor may die


class Tickets:
    """Of one run of a search, which is the `attempt` that all of them carry."""

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self._next: deque[Ticket] = deque()
        self._out: dict[tuple[int, int], Ticket] = {}
        self._lost: Counter[tuple[int, int]] = Counter()

    def of(self, number: int, recipe: Recipe, replicate: int, after: int = 0) -> Ticket:
        """A ticket for the replicate of a recipe, which is not issued by that."""
        return Ticket(number, replicate, self._attempt, tuple(recipe.params().items()), after)

    def begin(self, entry: Entry, replicates: int) -> None:
        """Issues further replicates of a recipe, from the start."""
        for replicate in range(entry.issued, entry.issued + replicates):
            self._next.append(self.of(entry.number, entry.recipe, replicate))
        entry.issued += replicates

    def go_on(self, entry: Entry) -> None:
        """Issues the replicates that wait at a rung again, but for one that is still out and goes on as it is."""
        for replicate in sorted(entry.waiting, reverse=True):
            if (entry.number, replicate) not in self._out:
                self._next.appendleft(self.of(entry.number, entry.recipe, replicate, entry.reached))
        entry.waiting.clear()

    @property
    def any_next(self) -> bool:
        return bool(self._next)

    @property
    def num_out(self) -> int:
        return len(self._out)

    @property
    def pending(self) -> list[Ticket]:
        """All that are out or to be issued."""
        return [*self._out.values(), *self._next]

    @property
    def recipes_out(self) -> set[int]:
        return {number for number, _ in self._out}

    def take(self) -> Ticket:
        """The next one, which is out from now on."""
        ticket = self._next.popleft()
        self._out[ticket.number, ticket.replicate] = ticket
        return ticket

    def end(self, ticket: Ticket) -> bool:
        """It is out no longer. False if it was not: its end was told before."""
        return self._out.pop((ticket.number, ticket.replicate), None) is not None

    def lost(self, ticket: Ticket) -> bool:
        """A trial's actor died, and its job did not fail: the ticket is issued again. False after too many times."""
        key = (ticket.number, ticket.replicate)
        if self._out.get(key) == ticket:
            self._lost[key] += 1
            if self._lost[key] > LOST_MOST:
                return False
            self._next.appendleft(self._out.pop(key))
        return ticket in self._next  # else it has ended
