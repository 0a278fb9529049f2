"""explain: of one trial of a search why it was proposed, what it shared, what it reached, why it ended, what it cost.

From the study, the search's file and a listing of the store alone, so that it also works while the search runs.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from search.config import SearchConfig
from search.entry import GOES_TO, RUNGS, SEEDS, TRAINED
from search.problem import open_problem
from search.proposer import STARTUP, Origin
from search.store_admin import in_words
from search.stored import divisions
from search.study import asked_trials, read_study
from search.study_writer import ORIGIN
from search.written import find
from trainables.objects import StoreError
from trainables.path import Leg, path_of, rungs_of
from trainables.problem import Problem
from trainables.recipe import Recipe
from trainables.store import Store

SHOWN = 8  # other trials that are named
Lines = list[str]


def explain(name: str, number: int, results: Path, console: Console) -> None:
    """Prints what is to be said of a trial. Raises ValueError, one line, where there is no such search or trial."""
    config, folder = find(name, results)
    study = read_study(config.name, folder)
    trials = asked_trials(study)
    story = Story(config, open_problem(config, verify=False).problem, trials, number, bool(study.user_attrs["share"]))
    uri = config.store.uri or str(results.resolve() / "store")
    for line in story.lines(uri):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


class Story:
    """What a study tells of one of its trials.

    trials  all that were asked
    share   whether trials share stages
    """

    def __init__(
        self, config: SearchConfig, problem: Problem, trials: Sequence[FrozenTrial], number: int, share: bool
    ) -> None:
        self.config = config
        self.problem = problem
        self.trials = {trial.number: trial for trial in trials}
        if number not in self.trials:
            known = f"0 to {max(self.trials)}" if self.trials else "none so far"
            raise ValueError(f"a trial must be one of search {config.name}, {known}, but got {number}")
        self.trial = self.trials[number]
        self.share = share
        self.recipes = {n: config.space.recipe(trial.params) for n, trial in self.trials.items()}
        self.paths = {n: path_of(recipe, problem, 0) for n, recipe in self.recipes.items()}

    @property
    def recipe(self) -> Recipe:
        return self.recipes[self.trial.number]

    def lines(self, store: str) -> Lines:
        """All of it; `store` is the URI of the search's."""
        head = f"trial {self.trial.number} of search {self.config.name}: {self.recipe}  (recipe {self.recipe.key})"
        parts = [self.proposed(), self.shared(store), self.reached(), self.ended(), self.cost()]
        titles = ("proposed", "stages", "reached", "ended", "cost")
        found = [head]
        for title, part in zip(titles, parts, strict=True):
            found += [f"{title + ':' if k == 0 else '':<10}{line}" for k, line in enumerate(part)]
        return found

    def proposed(self) -> Lines:
        raw = self.trial.user_attrs.get(ORIGIN)
        asked = sum(n < self.trial.number for n in self.trials)
        if raw is None:
            return [f"by {self.config.sampler}, after {asked} others; the version that did it kept no more"]
        origin = Origin(**json.loads(raw))
        match origin.by:
            case "enqueued":
                why = "the search file names it under `enqueue`"
            case "grid":
                why = "the next recipe of the grid"
            case "rest":
                why = f"at random of the recipes that were left, since {self.config.sampler} drew none of them"
            case "chance":
                why = f"at random of the whole space, since {self.config.sampler} drew nothing new"
            case by if origin.startup:
                why = f"by {by}, at random: it learns from {STARTUP} ended recipes on"
            case "random" | "qmc" as by:
                why = f"by {by}"
            case by:
                why = f"by {by}, from what the trials before it had reached"
        lines = [f"{why}; {asked} were asked before"]
        if len(origin.steps) > 1:
            took = ", ".join(f"{steps:,.0f}" for steps in sorted(origin.steps))
            lines.append(f"the cheapest of {len(origin.steps)} draws: they lacked {took} steps in the store then")
        return lines

    def shared(self, store: str) -> Lines:
        """Its stages, of the first seed: those of the others differ from them by the seed alone."""
        namespace = "" if self.share else f"alone-{self.recipe.key}"
        try:
            stores = [one for _, one in divisions(store, namespace)]
            unread = []
        except StoreError as error:
            stores, unread = [], [f"the store could not be read: {error}"]
        return [line for leg in self.paths[self.trial.number] for line in self._stage(leg, stores)] + unread

    def _stage(self, leg: Leg, stores: Sequence[Store]) -> Lines:
        steps = max((step for store in stores for step in store.steps(leg.stage.key)), default=0)
        has = f"in the store up to step {min(steps, leg.steps):,}" if steps else "not in the store"
        with_it = [n for n in self.sharers(leg) if n != self.trial.number]
        others = "shared with no other trial"
        if with_it:
            more = f" and {len(with_it) - SHOWN} more" if len(with_it) > SHOWN else ""
            first = min([self.trial.number, *with_it])
            whose = "this one was the first" if first == self.trial.number else f"{first} was the first"
            others = f"shared with {_trials(with_it[:SHOWN])}{more}; {whose}"
        words = in_words(leg.stage.canonical())
        return [f"{leg.stage.key[:8]}  {leg.steps:,} steps of {words}", f"          {has}; {others}"]

    def sharers(self, leg: Leg) -> list[int]:
        """The trials that train a stage, ascending."""
        if not self.share:
            return [self.trial.number]
        return [n for n, path in self.paths.items() if any(one.stage.key == leg.stage.key for one in path)]

    def reached(self) -> Lines:
        mine = values_of(self.trial)
        steps = rungs_of(self.paths[self.trial.number], self.problem)
        if not mine:
            return [f"no rung yet (they are at steps {', '.join(f'{step:,}' for step in steps)})"]
        return [f"step {step:>7,}: {self.config.objective.metric} {mine[step]:.4g}, {self.rank(step)}" for step in mine]

    def rank(self, step: int) -> str:
        """Its place among all that reached a rung, the best being the first."""
        own = values_of(self.trial)[step]
        there = [values[step] for trial in self.trials.values() if step in (values := values_of(trial))]
        sign = 1 if self.config.objective.mode == "max" else -1
        if math.isnan(own):
            return f"not a number, of {len(there)} there"
        return f"{1 + sum(sign * value > sign * own for value in there)} of {len(there)} there"

    def ended(self) -> Lines:
        trial, mine = self.trial, values_of(self.trial)
        rungs = rungs_of(self.paths[trial.number], self.problem)
        last = max(mine, default=0)
        if trial.state is TrialState.FAIL:
            error = trial.user_attrs.get("error", "the metric was not a number")
            failed = trial.user_attrs.get("failed_replicates")
            of = f" (seeds {', '.join(map(str, failed))})" if failed else ""
            return [f"failed{of}: {error}"]
        if trial.state is TrialState.COMPLETE:
            seeds = json.loads(trial.user_attrs.get(SEEDS, "{}"))
            count = len(seeds) or self.config.budget.seeds
            value = fmean(seeds.values()) if seeds else trial.values[0]
            lines = [f"completed: {self.config.objective.metric} {value:.4g}, mean of {count} seed{'s' * (count > 1)}"]
            if failed := trial.user_attrs.get("failed_replicates"):
                lines.append(f"but seeds {', '.join(map(str, failed))} failed: {trial.user_attrs.get('error')}")
            broken = [name for name, far in trial.constraints.items() if far > 0] if self.config.constraints else []
            return lines + ([f"it does not keep to the constraints on {', '.join(broken)}"] if broken else [])
        at_it = [values for one in self.trials.values() if last in (values := values_of(one))]
        beyond, there = sum(max(values) > last for values in at_it), len(at_it)
        pruner = self.config.pruning.kind
        if trial.state is TrialState.PRUNED:
            return [
                f"left behind at rung {rungs.index(last) + 1} of {len(rungs)}, step {last:,}: {self.rank(last)},"
                f" of which {pruner} let {beyond} go on"
            ]
        if last and trial.user_attrs.get(GOES_TO, 0) <= rungs.index(last) and pruner != "none":
            return [
                f"not yet: it waits at step {last:,}, {self.rank(last)}, and goes on if it is among those that"
                f" {pruner} lets go on ({beyond} of {there} so far)"
            ]
        return ["not yet: it is being trained, or will be when the search runs again"]

    def cost(self) -> Lines:
        """Steps of the first seed by the order of the trials, and what the run that ended it trained."""
        path, alone, added = self._trained(self.trial.number), 0, 0
        before: dict[str, int] = {}
        for n in sorted(self.trials):
            if n < self.trial.number and self.share:
                for key, steps in self._trained(n).items():
                    before[key] = max(steps, before.get(key, 0))
        for key, steps in path.items():
            alone += steps
            added += max(0, steps - before.get(key, 0))
        lines = [f"{alone:,} steps a seed alone; {added:,} that no trial before it needs too"]
        if (told := self.trial.user_attrs.get(TRAINED)) is not None:
            lines.append(f"{sum(json.loads(told).values()):,} steps were trained for all its seeds")
        return lines

    def _trained(self, number: int) -> Mapping[str, int]:
        """The steps of a trial's stages, as far as it came: all of them before its first rung is reached."""
        trial, path = self.trials[number], self.paths[number]
        last = path[-1].steps
        if trial.state is not TrialState.COMPLETE:
            last = max(values_of(trial), default=0 if trial.state is TrialState.FAIL else last)
        return {leg.stage.key: leg.steps for leg in path[:-1]} | {path[-1].stage.key: last}


def values_of(trial: FrozenTrial) -> dict[int, float]:
    """The objective at the rungs that all of a trial's replicates reached, by step."""
    told = dict(trial.intermediate_values) or json.loads(trial.user_attrs.get(RUNGS, "{}"))
    return {int(step): value for step, value in sorted(told.items(), key=lambda one: int(one[0]))}


def _trials(numbers: Sequence[int]) -> str:
    return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
