"""The ledger: which recipes and replicates are out, what they measured, and what Optuna and MLflow are told of it.

The searcher and the scheduler share one, on the driver: it alone knows why a trial ended. A recipe that does not go on
from a rung is left behind: its trial in Tune stops, in the study it stays RUNNING, and where it turns out to be among
those that should go on it is issued again from that rung. What is still left behind when nothing else is to be done is
PRUNED. The ledger is rebuilt at start from the study: recipes that were RUNNING are taken up where they were.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.config import SearchConfig
from search.entry import Entry
from search.finals import Finals
from search.job import Ticket
from search.ladder import Ladder
from search.proposer import Proposal, Proposer
from search.recorder import Recorder
from search.standing import Standing
from search.study import num_recipes
from search.study_writer import StudyWriter
from search.tracking import DatasetFact, Status
from trainables.path import path_of, rungs_of
from trainables.problem import Problem
from trainables.recipe import Recipe

LOST_MOST = 3  # how often a trial's actor may die


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
        self._config = config
        self._problem = problem
        self._recorder = recorder
        self._datasets = datasets
        self._affords = affords
        self._metric, self._against = config.objective.metric, config.objective.against
        self._sign = 1.0 if config.objective.mode == "max" else -1.0
        self._replicates = config.budget.seeds
        self._racing = config.budget.racing
        self._writer = StudyWriter(study, self._against)
        self._levels = len(config.budget.evaluations)
        self._ladder = Ladder(config.pruning, self._levels, self._sign, self._against)
        self._proposer = Proposer(config, accept=self._acceptable, cost=cost)
        self._attempt = int(study.user_attrs.get("attempts", 0))
        study.set_user_attr("attempts", self._attempt + 1)
        self._lock = threading.RLock()
        self._open: dict[int, Entry] = {}  # recipes that have not ended
        self._finals = Finals(self._sign, self._against, self._replicates)
        self._tickets: deque[Ticket] = deque()
        self._out: dict[tuple[int, int], Ticket] = {}
        self._seen: dict[int, FrozenTrial] = {}  # every trial as the sampler should see it
        self._known: set[str] = set()  # keys of all recipes of the study
        self._wanted = num_recipes(config)
        self._budget = [self._wanted, config.budget.hours]
        # Nothing new is asked: the space or the budget is exhausted, in this run or one before with the same budget.
        self._closed = self._writer.closed_at == self._budget
        self._held: Proposal | None = None  # a recipe that there was no room for when it was proposed
        self._lost: Counter[tuple[int, int]] = Counter()
        self._standing = Standing(self._sign, self._against)
        for trial in study.get_trials(deepcopy=False):
            self._take_up(trial)
        for level in range(self._levels - 1):
            self._promote(level)

    # -- the searcher ------------------------------------------------------------------------------------------

    def next_ticket(self, bound: int) -> Ticket | None:
        """What to train next; None while `bound` tickets are out, or when there is nothing now (or ever: `exhausted`).

        Recipes that may go on come first, then new ones, then further seeds of contenders.
        """
        with self._lock:
            if len(self._out) >= bound:
                return None
            if not self._tickets:
                self._refill()
            if not self._tickets:
                return None
            ticket = self._tickets.popleft()
            self._out[ticket.number, ticket.replicate] = ticket
            recipe = self._open[ticket.number].recipe
            facts = self._problem.counts(recipe)
            self._recorder.trial_started(recipe, ticket.replicate, ticket.number, facts, self._datasets(recipe))
            return ticket

    @property
    def exhausted(self) -> bool:
        """Whether everything that the search will try has been issued."""
        with self._lock:
            if self._tickets or self._may_ask():
                return False
            return not self._open or not (self._ladder.active or self._racing)

    @property
    def complete(self) -> bool:
        """Whether every recipe of the search has ended."""
        with self._lock:
            return not self._open and not self._may_ask()

    def _may_ask(self) -> bool:
        return not self._closed and len(self._known) < self._wanted

    def _refill(self) -> None:
        """Issues what is next, if anything is."""
        if self._config.budget.hours is not None:  # what there was no room for may fit by now
            for level in range(self._levels - 1):
                self._promote(level)
        if not self._tickets and self._may_ask():
            self._ask()
        if not self._tickets and not self._may_ask() and self._racing:
            self._race()
        if not self._tickets and not self._may_ask() and not self._out:
            self._last_resort()
            if not self._tickets:
                self._conclude()

    def _ask(self) -> None:
        """Begins a new recipe, if there is one and room for it. Beside those that are out there may be none yet."""
        proposal = self._held or self._proposer.propose(list(self._seen.values()))
        if proposal is None:
            self._close()
            return
        params = tuple(proposal.recipe.params().items())
        tickets = [Ticket(len(self._seen), r, self._attempt, params) for r in range(self._at_first)]
        room = self._affords(tickets, self._pending)
        self._held = None if room else proposal
        if room:
            entry = self._entry(self._writer.begin(proposal), proposal.recipe)
            self._open[entry.number] = entry
            self._show(entry)
            self._begin(entry, self._at_first)
        elif room is False and not self._out:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._writer.closed(self._budget)

    @property
    def _at_first(self) -> int:
        """The seeds that a recipe begins with."""
        return 1 if self._racing else self._replicates

    @property
    def _pending(self) -> list[Ticket]:
        return [*self._out.values(), *self._tickets]

    def _entry(self, trial: FrozenTrial, recipe: Recipe) -> Entry:
        path = path_of(recipe, self._problem, 0)
        costs = {**self._problem.counts(recipe), "steps": sum(leg.steps for leg in path)}
        self._known.add(recipe.key)
        return Entry(trial, recipe, rungs_of(path, self._problem), costs, self._config.constraints)

    def _begin(self, entry: Entry, replicates: int) -> None:
        """Issues further replicates of a recipe, from the start."""
        for replicate in range(entry.issued, entry.issued + replicates):
            self._tickets.append(self._ticket(entry, replicate))
        entry.issued += replicates

    def _acceptable(self, recipe: Recipe) -> bool:
        """Whether a recipe is new and keeps to what constraints say of costs."""
        if recipe.key in self._known:
            return False
        bounds = {n: b for n, b in self._config.constraints.items() if not n.startswith("val/")}
        if not bounds:
            return True
        costs: dict[str, float] = {**self._problem.counts(recipe)}
        if "steps" in bounds:
            costs["steps"] = sum(leg.steps for leg in path_of(recipe, self._problem, 0))
        return all(bound.violation(costs[name]) <= 0 for name, bound in bounds.items())

    def _take_up(self, trial: FrozenTrial) -> None:
        """A trial of the study, as this run finds it."""
        if trial.state is TrialState.WAITING:
            return
        entry = self._entry(trial, self._config.space.recipe(trial.params))
        for level, step in enumerate(entry.rungs):
            if step in entry.reported:
                self._reach(entry, level)
        if entry.told_seeds:
            entry.take_seeds()
            self._finals.enter(entry)
        if trial.state is not TrialState.RUNNING:
            self._seen[trial.number] = trial
            self._standing.ended(trial.state)
            if trial.state is TrialState.COMPLETE and all(v <= 0 for v in trial.constraints.values()):
                self._standing.place(trial.values[0], entry, max(1, len(entry.told_seeds)))
            return
        self._open[entry.number] = entry
        if self._racing and entry.told_seeds:
            self._settle(entry)
        elif self._ladder.active and entry.reported and entry.reached < entry.rungs[-1]:
            # It goes on from its last rung, or waits there.
            entry.issued = self._at_first
            entry.waiting = set(range(entry.issued))
            if entry.goes_to > entry.rungs.index(entry.reached):
                self._go_on(entry)
        else:
            entry.forget_seeds()  # the store has them: they are measured again for nothing
            self._begin(entry, self._at_first)
        if entry.number in self._open:
            self._show(entry)

    # -- the scheduler -----------------------------------------------------------------------------------------

    def measured(self, ticket: Ticket, step: int, metrics: dict[str, float], time_ms: int) -> bool:
        """A replicate reached a rung. Returns whether it goes on; where it does not, `left` follows.

        Raises ValueError when the objective is not among its metrics.
        """
        if self._metric not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("val/")))
            raise ValueError(f"objective.metric must be one of {known}; but got {self._metric!r}")
        with self._lock:
            entry = self._open[ticket.number]
            entry.measure(ticket.replicate, step, metrics[self._metric], metrics)
            self._recorder.evaluation(entry.recipe.key, ticket.replicate, step, metrics, time_ms)
            self._report(entry)
            level = entry.rungs.index(step)
            if level == len(entry.rungs) - 1 or not self._ladder.active:
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
            if self._out.pop((ticket.number, ticket.replicate), None) is not None:
                self._ended_for_now(ticket, "stopped", steps_trained, steps_alone)

    def finished(self, ticket: Ticket, steps_trained: int, steps_alone: int) -> None:
        """A replicate reached its last rung."""
        with self._lock:
            if self._out.pop((ticket.number, ticket.replicate), None) is None:
                return
            entry = self._open[ticket.number]
            entry.finished.add(ticket.replicate)
            self._finals.enter(entry)
            if self._racing:
                self._writer.seeds(entry)
            self._ended_for_now(ticket, "finished", steps_trained, steps_alone)
            self._settle(entry)

    def lost(self, ticket: Ticket) -> bool:
        """A trial's actor died, and its job did not fail: the ticket is issued again. False after too many times."""
        with self._lock:
            key = (ticket.number, ticket.replicate)
            if self._out.get(key) == ticket:
                self._lost[key] += 1
                if self._lost[key] > LOST_MOST:
                    return False
                self._tickets.appendleft(self._out.pop(key))
            return ticket in self._tickets  # else it has ended

    def failed(self, ticket: Ticket, traceback: str) -> None:
        """A replicate failed; the recipe fails when all of its replicates did."""
        with self._lock:
            if self._out.pop((ticket.number, ticket.replicate), None) is None:
                return  # its end was told before (Tune tells of a failure twice)
            entry = self._open[ticket.number]
            entry.failed[ticket.replicate] = traceback
            self._recorder.trial_ended(entry.recipe.key, ticket.replicate, "failed", traceback=traceback, facts={})
            self._report(entry)
            self._settle(entry)

    def _ended_for_now(self, ticket: Ticket, status: Status, steps_trained: int, steps_alone: int) -> None:
        entry = self._open[ticket.number]
        trained = entry.steps_trained.get(ticket.replicate, 0) + steps_trained
        entry.steps_trained[ticket.replicate] = trained
        facts = {"steps_trained": trained, "steps_alone": steps_alone}
        self._recorder.trial_ended(entry.recipe.key, ticket.replicate, status, traceback=None, facts=facts)

    def _settle(self, entry: Entry) -> None:
        """Ends a recipe of which nothing more will come; lets one go on that waited for a replicate which failed."""
        if len(entry.finished) + len(entry.failed) == entry.issued:
            if not self._racing or not entry.finished:
                self._tell(entry)
            else:
                self._show(entry)
        elif entry.waiting:
            self._promote(entry.goes_to)

    # -- rungs -------------------------------------------------------------------------------------------------

    def _report(self, entry: Entry) -> None:
        """Tells Optuna of each rung that every replicate which counts has reached now."""
        for level, step in enumerate(entry.rungs):
            if step in entry.reported or (mean := entry.mean(step)) is None:
                continue
            if self._racing and entry.finished and len(entry.counted) > 1:
                continue  # the rungs of a recipe in a race are those of its first seed
            entry.reported[step] = mean
            self._reach(entry, level)
            self._writer.report(entry, step, mean)
            self._show(entry)

    def _reach(self, entry: Entry, level: int) -> None:
        """A recipe without rungs of its own (it is measured at its end alone) is compared with nobody at rungs."""
        if len(entry.rungs) == self._levels:
            self._ladder.reach(entry, level)

    def _promote(self, level: int) -> None:
        """Lets every recipe go on that waits at a rung and is among those that should."""
        if not self._ladder.active:
            return
        for number in self._ladder.going_on(level):
            entry = self._open.get(number)
            if entry is not None and entry.goes_to == level and entry.waiting and self._has_room(entry):
                self._raise(entry)

    def _has_room(self, entry: Entry) -> bool:
        """Whether the replicates of a recipe that wait at a rung may go on."""
        return bool(self._affords([self._ticket(entry, r) for r in sorted(entry.waiting)], self._pending))

    def _ticket(self, entry: Entry, replicate: int, after: int = 0) -> Ticket:
        return Ticket(entry.number, replicate, self._attempt, tuple(entry.recipe.params().items()), after)

    def _raise(self, entry: Entry) -> None:
        entry.goes_to += 1
        self._writer.goes_to(entry)
        self._go_on(entry)

    def _go_on(self, entry: Entry) -> None:
        """Issues the replicates that wait at a rung again, but for one that is still out and goes on as it is."""
        for replicate in sorted(entry.waiting, reverse=True):
            if (entry.number, replicate) not in self._out:
                self._tickets.appendleft(self._ticket(entry, replicate, entry.reached))
        entry.waiting.clear()

    def _last_resort(self) -> None:
        """Where no recipe came to the end, the best of those that came farthest goes on."""
        if self._standing.complete or any(entry.finished for entry in self._open.values()):
            return
        waiting = {number: entry for number, entry in self._open.items() if entry.waiting and entry.reported}
        for level in sorted({entry.goes_to for entry in waiting.values()}, reverse=True):
            best = self._ladder.best(level, {number for number, entry in waiting.items() if entry.goes_to == level})
            if best is not None:
                self._raise(waiting[best])
                return

    def _race(self) -> None:
        """Gives one more seed to the best contender that has fewer than all."""
        for entry in self._finals.next(self._open):
            if self._affords([self._ticket(entry, entry.issued)], self._pending):
                self._begin(entry, 1)
                return

    # -- ends --------------------------------------------------------------------------------------------------

    def _conclude(self) -> None:
        """Nothing is out and nothing more is to be done: what was left behind is PRUNED, a race is over."""
        for entry in list(self._open.values()):
            self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        """The recipe's end."""
        trial = self._writer.tell(entry)
        del self._open[entry.number]
        self._seen[entry.number] = trial
        self._standing.ended(trial.state)
        if trial.state is TrialState.COMPLETE and entry.feasible:
            self._standing.place(trial.values[0], entry, len(entry.finished))

    def _show(self, entry: Entry) -> None:
        self._seen[entry.number] = entry.seen(self._against)

    def live(self) -> list[tuple[Recipe, int]]:
        """(recipe, replicate) of all that may still be trained."""
        with self._lock:
            return [
                (e.recipe, r) for e in self._open.values() for r in range(self._replicates if e.finished else e.issued)
            ]

    # -- the view ----------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """Counts of recipes and the best so far, plain values."""
        with self._lock:
            return {
                "recipes": len(self._known) if self._closed else self._wanted,
                "asked": len(self._known),
                **self._standing.counts(),
                "left": sum(bool(entry.waiting) for entry in self._open.values()),
                "running": len({number for number, _ in self._out}),
                "objectives": [self._metric, *self._against] if self._against else [],
                **self._standing.shown(self._open.values()),
            }
