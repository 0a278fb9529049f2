"""The ledger: which recipes and replicates are out, what they measured, and what Optuna and MLflow are told of it.

The searcher and the scheduler share one, on the driver: it alone knows why a trial ended. A recipe that does not go on
from a rung is left behind: its trial in Tune stops, in the study it stays RUNNING, and where it turns out to be among
those that should go on it is issued again from that rung. What is still left behind when nothing else is to be done is
PRUNED. The ledger is rebuilt at start from the study: recipes that were RUNNING are taken up where they were.
"""

import threading
from collections.abc import Callable
from typing import Any

import optuna

from search.asking import Asking
from search.config import SearchConfig
from search.entries import Entries
from search.entry import Entry
from search.job import Ticket
from search.recorder import Recorder
from search.study_writer import StudyWriter
from search.tickets import Tickets
from search.tracking import DatasetFact, Status
from trainables.problem import Problem
from trainables.recipe import Recipe


class Ledger:
    """See the module. Called from Tune's loop alone; the live view reads under the lock.

    datasets  the packs that a recipe reads
    cost      training steps that a recipe would add to what is trained: the cheaper of equally promising ones is tried
    affords   whether what is left of the budget has room for tickets beside those that are out; None: not known yet
    """

    def __init__(
        self,
        study: optuna.Study,
        config: SearchConfig,
        problem: Problem,
        recorder: Recorder,
        *,
        datasets: Callable[[Recipe], list[DatasetFact]],
        cost: Callable[[Recipe], float] = lambda recipe: 0.0,
        affords: Callable[[list[Ticket], list[Ticket]], bool | None] = lambda tickets, out: True,
    ) -> None:
        self._problem = problem
        self._recorder = recorder
        self._datasets = datasets
        self._affords = affords
        self._metric, self._against = config.objective.metric, config.objective.against
        self._replicates = config.budget.seeds
        self._racing = config.budget.racing
        self._by_hours = config.budget.hours is not None
        writer = StudyWriter(study, self._against)
        self._entries = Entries(config, problem, writer)
        self._asking = Asking(config, self._entries, writer, cost)
        attempt = int(study.user_attrs.get("attempts", 0))
        study.set_user_attr("attempts", attempt + 1)
        self._tickets = Tickets(attempt)
        self._lock = threading.RLock()
        for trial in study.get_trials(deepcopy=False):
            if (entry := self._entries.find(trial)) is not None:
                self._take_up(entry)
        self._promote_all()

    # -- the searcher ------------------------------------------------------------------------------------------

    def next_ticket(self, bound: int) -> Ticket | None:
        """What to train next; None while `bound` tickets are out, or when there is nothing now (or ever: `exhausted`).

        Recipes that may go on come first, then new ones, then further seeds of contenders.
        """
        with self._lock:
            if self._tickets.num_out >= bound:
                return None
            if not self._tickets.any_next:
                self._refill()
            if not self._tickets.any_next:
                return None
            ticket = self._tickets.take()
            recipe = self._entries.open[ticket.number].recipe
            facts = self._problem.counts(recipe)
            self._recorder.trial_started(recipe, ticket.replicate, ticket.number, facts, self._datasets(recipe))
            return ticket

    @property
    def exhausted(self) -> bool:
        """Whether everything that the search will try has been issued."""
        with self._lock:
            if self._tickets.any_next or self._asking.goes_on:
                return False
            return not self._entries.open or not (self._entries.ladder.active or self._racing)

    @property
    def complete(self) -> bool:
        """Whether every recipe of the search has ended."""
        with self._lock:
            return not self._entries.open and not self._asking.goes_on

    def _refill(self) -> None:
        """Issues what is next, if anything is."""
        if self._by_hours:  # what there was no room for may fit by now
            self._promote_all()
        if not self._tickets.any_next and self._asking.goes_on:
            self._ask()
        if not self._tickets.any_next and not self._asking.goes_on and self._racing:
            self._race()
        if not self._tickets.any_next and not self._asking.goes_on and not self._tickets.num_out:
            best = self._entries.last_resort()
            if best is not None:
                self._raise(best)
            if not self._tickets.any_next:
                self._conclude()

    def _ask(self) -> None:
        """Begins a new recipe, if there is one and room for it. Beside those that are out there may be none yet."""
        proposal = self._asking.next()
        if proposal is None:
            return
        number = len(self._entries.trials)
        tickets = [self._tickets.of(number, proposal.recipe, replicate) for replicate in range(self._at_first)]
        room = self._affords(tickets, self._tickets.pending)
        if room:
            self._tickets.begin(self._entries.begin(proposal), self._at_first)
            return
        self._asking.put_by(proposal)
        if room is False and not self._tickets.num_out:
            self._asking.close()

    @property
    def _at_first(self) -> int:
        """The seeds that a recipe begins with."""
        return 1 if self._racing else self._replicates

    def _race(self) -> None:
        """Gives one more seed to the best contender that has fewer than all."""
        for entry in self._entries.finals.next(self._entries.open):
            ticket = self._tickets.of(entry.number, entry.recipe, entry.issued)
            if self._affords([ticket], self._tickets.pending):
                self._tickets.begin(entry, 1)
                return

    def _conclude(self) -> None:
        """Nothing is out and nothing more is to be done: what was left behind is PRUNED, a race is over."""
        for entry in list(self._entries.open.values()):
            self._entries.tell(entry)

    def _take_up(self, entry: Entry) -> None:
        """A recipe that had not ended when the run before did."""
        if self._racing and entry.told_seeds:
            self._settle(entry)
        elif self._entries.ladder.active and entry.reported and entry.reached < entry.rungs[-1]:
            # It goes on from its last rung, or waits there.
            entry.issued = self._at_first
            entry.waiting = set(range(entry.issued))
            if entry.goes_to > entry.rungs.index(entry.reached):
                self._tickets.go_on(entry)
        else:
            entry.forget_seeds()  # the store has them: they are measured again for nothing
            self._tickets.begin(entry, self._at_first)
        if entry.number in self._entries.open:
            self._entries.show(entry)

    # -- the scheduler -----------------------------------------------------------------------------------------

    def measured(self, ticket: Ticket, step: int, metrics: dict[str, float], time_ms: int) -> bool:
        """A replicate reached a rung. Returns whether it goes on; where it does not, `left` follows.

        Raises ValueError when the objective is not among its metrics.
        """
        if self._metric not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("val/")))
            raise ValueError(f"objective.metric must be one of {known}; but got {self._metric!r}")
        with self._lock:
            entry = self._entries.open[ticket.number]
            entry.measure(ticket.replicate, step, metrics[self._metric], metrics)
            self._recorder.evaluation(entry.recipe.key, ticket.replicate, step, metrics, time_ms)
            self._entries.report(entry)
            level = entry.rungs.index(step)
            if level == len(entry.rungs) - 1 or not self._entries.ladder.active:
                return True
            if entry.finished and self._racing:  # a further seed of a contender
                return True
            if entry.goes_to <= level:
                entry.waiting.add(ticket.replicate)
                self._promote(level)
            return ticket.replicate not in entry.waiting

    def left(self, ticket: Ticket, steps_trained: int, steps_alone: int) -> None:
        """A replicate stopped at a rung, as `measured` said."""
        with self._lock:
            if self._tickets.end(ticket):
                self._ended_for_now(ticket, "stopped", steps_trained, steps_alone)

    def finished(self, ticket: Ticket, steps_trained: int, steps_alone: int) -> None:
        """A replicate reached its last rung."""
        with self._lock:
            if not self._tickets.end(ticket):
                return
            entry = self._entries.open[ticket.number]
            self._entries.finish(entry, ticket.replicate)
            self._ended_for_now(ticket, "finished", steps_trained, steps_alone)
            self._settle(entry)

    def lost(self, ticket: Ticket) -> bool:
        """A trial's actor died, and its job did not fail: the ticket is issued again. False after too many times."""
        with self._lock:
            return self._tickets.lost(ticket)

    def failed(self, ticket: Ticket, traceback: str) -> None:
        """A replicate failed; the recipe fails when all of its replicates did."""
        with self._lock:
            if not self._tickets.end(ticket):
                return  # its end was told before (Tune tells of a failure twice)
            entry = self._entries.open[ticket.number]
            entry.failed[ticket.replicate] = traceback
            self._recorder.trial_ended(entry.recipe.key, ticket.replicate, "failed", traceback=traceback, facts={})
            self._entries.report(entry)
            self._settle(entry)

    def _ended_for_now(self, ticket: Ticket, status: Status, steps_trained: int, steps_alone: int) -> None:
        entry = self._entries.open[ticket.number]
        trained = self._entries.trained(entry, ticket.replicate, steps_trained)
        facts = {"steps_trained": trained, "steps_alone": steps_alone}
        self._recorder.trial_ended(entry.recipe.key, ticket.replicate, status, traceback=None, facts=facts)

    def _settle(self, entry: Entry) -> None:
        """Ends a recipe of which nothing more will come; lets one go on that waited for a replicate which failed."""
        if len(entry.finished) + len(entry.failed) == entry.issued:
            if not self._racing or not entry.finished:
                self._entries.tell(entry)
            else:
                self._entries.show(entry)
        elif entry.waiting:
            self._promote(entry.goes_to)

    def _promote_all(self) -> None:
        for level in range(self._entries.levels - 1):
            self._promote(level)

    def _promote(self, level: int) -> None:
        """Lets every recipe go on that waits at a rung, is among those that should, and that there is room for."""
        for entry in self._entries.going_on(level):
            tickets = [self._tickets.of(entry.number, entry.recipe, r) for r in sorted(entry.waiting)]
            if self._affords(tickets, self._tickets.pending):
                self._raise(entry)

    def _raise(self, entry: Entry) -> None:
        self._entries.raised(entry)
        self._tickets.go_on(entry)

    # -- the view ----------------------------------------------------------------------------------------------

    def live(self) -> list[tuple[Recipe, int]]:
        """(recipe, replicate) of all that may still be trained."""
        with self._lock:
            return [
                (entry.recipe, replicate)
                for entry in self._entries.open.values()
                for replicate in range(self._replicates if entry.finished else entry.issued)
            ]

    def summary(self) -> dict[str, Any]:
        """Counts of recipes and the best so far, plain values."""
        with self._lock:
            return {
                "recipes": self._asking.recipes,
                "asked": len(self._entries.known),
                "running": len(self._tickets.recipes_out),
                "objectives": [self._metric, *self._against] if self._against else [],
                **self._entries.summary(),
            }
