"""Entries: all recipes of a study, as a run finds them there and until it has told their ends.

Open ones are entries (search/entry.py); of those that have ended the trial is kept, as the sampler should see it.
"""

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.config import SearchConfig
from search.entry import Entry
from search.finals import Finals
from search.ladder import Ladder
from search.proposer import Proposal
from search.standing import Standing
from search.study_writer import StudyWriter
from trainables.path import path_of, rungs_of
from trainables.problem import Problem
from trainables.recipe import Recipe


class Entries:
    """See the module.

    open    by number: those that have not ended
    trials  every trial, by number, as the sampler should see it
    known   the keys of all recipes
    ladder  of the rungs; finals  of the recipes that reached the last one, in a race
    """

    def __init__(self, config: SearchConfig, problem: Problem, writer: StudyWriter) -> None:
        self.open: dict[int, Entry] = {}
        self.trials: dict[int, FrozenTrial] = {}
        self.known: set[str] = set()
        self.levels = len(config.budget.evaluations)
        self._config = config
        self._problem = problem
        self._writer = writer
        self._against = config.objective.against
        self._racing = config.budget.racing
        sign = 1.0 if config.objective.mode == "max" else -1.0
        self.ladder = Ladder(config.pruning, self.levels, sign, self._against)
        self.finals = Finals(sign, self._against, config.budget.seeds)
        self._standing = Standing(sign, self._against)

    def acceptable(self, recipe: Recipe) -> bool:
        """Whether a recipe is new and keeps to what constraints say of costs."""
        if recipe.key in self.known:
            return False
        bounds = {n: b for n, b in self._config.constraints.items() if not n.startswith("val/")}
        if not bounds:
            return True
        costs: dict[str, float] = {**self._problem.counts(recipe)}
        if "steps" in bounds:
            costs["steps"] = sum(leg.steps for leg in path_of(recipe, self._problem, 0))
        return all(bound.violation(costs[name]) <= 0 for name, bound in bounds.items())

    def begin(self, proposal: Proposal) -> Entry:
        """A new recipe, RUNNING in the study."""
        entry = self._entry(self._writer.begin(proposal), proposal.recipe)
        self.open[entry.number] = entry
        self.show(entry)
        return entry

    def find(self, trial: FrozenTrial) -> Entry | None:
        """Takes up a trial of the study. Returns its entry if it has not ended."""
        if trial.state is TrialState.WAITING:
            return None
        entry = self._entry(trial, self._config.space.recipe(trial.params))
        for level, step in enumerate(entry.rungs):
            if step in entry.reported:
                self._reach(entry, level)
        if entry.told_seeds:
            entry.take_seeds()
            self.finals.enter(entry)
        if trial.state is TrialState.RUNNING:
            self.open[entry.number] = entry
            return entry
        self.trials[trial.number] = trial
        self._standing.ended(trial.state)
        if trial.state is TrialState.COMPLETE and all(v <= 0 for v in trial.constraints.values()):
            self._standing.place(trial.values[0], entry, max(1, len(entry.told_seeds)))
        return None

    def report(self, entry: Entry) -> None:
        """Tells Optuna of each rung that every replicate which counts has reached now."""
        for level, step in enumerate(entry.rungs):
            if step in entry.reported or (mean := entry.mean(step)) is None:
                continue
            if self._racing and entry.finished and len(entry.counted) > 1:
                continue  # the rungs of a recipe in a race are those of its first seed
            entry.reported[step] = mean
            self._reach(entry, level)
            self._writer.report(entry, step, mean)
            self.show(entry)

    def finish(self, entry: Entry, replicate: int) -> None:
        """A replicate reached the last rung."""
        entry.finished.add(replicate)
        if self._racing:
            self.finals.enter(entry)
            self._writer.seeds(entry)

    def trained(self, entry: Entry, replicate: int, steps: int) -> int:
        """Steps were trained for a replicate. Returns how many in all."""
        trained = entry.steps_trained[replicate] = entry.steps_trained.get(replicate, 0) + steps
        self._writer.trained(entry)
        return trained

    def going_on(self, level: int) -> list[Entry]:
        """Those that wait at a rung and are among the ones that should go on."""
        if not self.ladder.active:
            return []
        found = (self.open.get(number) for number in self.ladder.going_on(level))
        return [entry for entry in found if entry is not None and entry.goes_to == level and entry.waiting]

    def raised(self, entry: Entry) -> None:
        """It may go on to the next rung."""
        entry.goes_to += 1
        self._writer.goes_to(entry)

    def last_resort(self) -> Entry | None:
        """Where no recipe came to the end: the best of those that came farthest."""
        if self._standing.complete or any(entry.finished for entry in self.open.values()):
            return None
        waiting = {number: entry for number, entry in self.open.items() if entry.waiting and entry.reported}
        for level in sorted({entry.goes_to for entry in waiting.values()}, reverse=True):
            best = self.ladder.best(level, {number for number, entry in waiting.items() if entry.goes_to == level})
            if best is not None:
                return waiting[best]
        return None

    def tell(self, entry: Entry) -> None:
        """The recipe's end."""
        trial = self._writer.tell(entry)
        del self.open[entry.number]
        self.trials[entry.number] = trial
        self._standing.ended(trial.state)
        if trial.state is TrialState.COMPLETE and entry.feasible:
            self._standing.place(trial.values[0], entry, len(entry.finished))

    def show(self, entry: Entry) -> None:
        self.trials[entry.number] = entry.seen(self._against)

    def summary(self) -> dict[str, Any]:
        """Counts of those that have ended or wait, and the best so far."""
        left = sum(bool(entry.waiting) for entry in self.open.values())
        return {**self._standing.counts(), "left": left, **self._standing.shown(self.open.values())}

    def _entry(self, trial: FrozenTrial, recipe: Recipe) -> Entry:
        path = path_of(recipe, self._problem, 0)
        costs = {**self._problem.counts(recipe), "steps": sum(leg.steps for leg in path)}
        self.known.add(recipe.key)
        return Entry(trial, recipe, rungs_of(path, self._problem), costs, self._config.constraints)

    def _reach(self, entry: Entry, level: int) -> None:
        """A recipe without rungs of its own (it is measured at its end alone) is compared with nobody at rungs."""
        if len(entry.rungs) == self.levels:
            self.ladder.reach(entry, level)
