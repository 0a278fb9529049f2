"""Entry: one recipe of the study while a run works on it, and how the sampler is to see it."""

import json
from collections.abc import Mapping
from math import inf, isnan
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState, create_trial

from search.budget import Bounds
from trainables.recipe import Recipe

# User attributes of its trial: the rung that it may go to, its final values by seed, the metrics that constraints are
# about, and, where Optuna takes no intermediate values, those.
GOES_TO, SEEDS, MEASURED, RUNGS, TRAINED = "goes_to", "seeds", "measured", "rungs", "trained"


class Entry:
    """A recipe with what its replicates measured.

    trial    in the study: RUNNING until the recipe has ended
    rungs    the steps at which it is evaluated; its value is that of the last
    costs    by name (search/budget.py), known from the start
    issued   replicates that were begun
    goes_to  index of the rung that it may go to
    waiting  replicates that stopped at that rung until the recipe may go on
    """

    def __init__(
        self,
        trial: FrozenTrial,
        recipe: Recipe,
        rungs: tuple[int, ...],
        costs: Mapping[str, float],
        constraints: Mapping[str, Bounds],
    ) -> None:
        self.trial = trial
        self.number = trial.number
        self.recipe = recipe
        self.rungs = rungs
        self.costs = costs
        self.issued = 0
        self.waiting: set[int] = set()
        self.finished: set[int] = set()
        self.failed: dict[int, str] = {}
        self.steps_trained = {r: int(n) for r, n in _numbered(trial, TRAINED).items()}  # of tickets that ended
        self.values: dict[int, dict[int, float]] = {}  # replicate -> step -> objective
        self._metrics: dict[int, dict[str, float]] = {}  # replicate -> the newest that constraints are about
        self._constraints = constraints
        self.goes_to: int = trial.user_attrs.get(GOES_TO, 0)
        self.reported: dict[int, float] = dict(trial.intermediate_values) or _numbered(trial, RUNGS)
        self.told_seeds: dict[int, float] = _numbered(trial, SEEDS)  # final values when the run before ended
        self._told: dict[str, float] = json.loads(trial.user_attrs.get(MEASURED, "{}"))
        if self.reported:  # the pruner may have been another one in the run before
            self.goes_to = max(self.goes_to, rungs.index(self.reached))

    @property
    def reached(self) -> int:
        """The last rung that all of its replicates reached, in steps; 0 before the first."""
        return max(self.reported, default=0)

    @property
    def counted(self) -> list[int]:
        """The replicates that were begun and did not fail."""
        return [replicate for replicate in range(self.issued) if replicate not in self.failed]

    @property
    def seeds(self) -> dict[int, float]:
        """The final values, by replicate."""
        return {r: self.values[r][self.rungs[-1]] for r in sorted(self.finished)}

    def measure(self, replicate: int, step: int, value: float, metrics: dict[str, float]) -> None:
        self.values.setdefault(replicate, {})[step] = value
        self._metrics[replicate] = {name: metrics[name] for name in self._constraints if name in metrics}

    def take_seeds(self) -> None:
        """Takes up the replicates that had finished when the run before ended."""
        self.issued = max(self.told_seeds) + 1
        self.finished = set(self.told_seeds)
        self.values = {replicate: {self.rungs[-1]: value} for replicate, value in self.told_seeds.items()}
        self.failed = {r: "failed in a run before" for r in range(self.issued) if r not in self.finished}

    def forget_seeds(self) -> None:
        """Begins anew, as if nothing had finished."""
        self.issued, self.finished, self.values, self.failed = 0, set(), {}, {}

    def mean(self, step: int) -> float | None:
        """The mean at a step over the replicates that count, once all of them have it."""
        values = [self.values.get(replicate, {}).get(step) for replicate in self.counted]
        return None if not values or any(v is None for v in values) else fmean(v for v in values if v is not None)

    def final(self) -> float | None:
        """The mean over its finished replicates."""
        return fmean(self.seeds.values()) if self.finished else None

    def measured(self) -> dict[str, float]:
        """The means of the metrics that constraints are about, the newest of each replicate."""
        found = {}
        for name in self._constraints:
            values = [m[name] for r, m in self._metrics.items() if r not in self.failed and name in m]
            if values:
                found[name] = fmean(values)
        return self._told | found

    def violations(self) -> dict[str, float]:
        """How far each constraint is from being kept, 0 or less where it is, and infinitely where it is NaN."""
        known = {**self.measured(), **self.costs}
        return {name: _or_inf(b.violation(known[name])) for name, b in self._constraints.items() if name in known}

    @property
    def feasible(self) -> bool:
        return all(violation <= 0 for violation in self.violations().values())

    def seen(self, against: tuple[str, ...]) -> FrozenTrial:
        """The recipe as the sampler should see it while it has not ended.

        One that waits for more seeds is COMPLETE with what it has; one at or past a rung is PRUNED, so that it is
        ranked by how far it came and never beside full-length values; one before its first rung is RUNNING.
        """
        value = self.final()
        if value is not None and value == value:
            return self.as_trial(TrialState.COMPLETE, [value, *(self.costs[name] for name in against)], against)
        return self.as_trial(TrialState.PRUNED if self.reported else TrialState.RUNNING, None, against)

    def as_trial(self, state: TrialState, values: list[float] | None, against: tuple[str, ...]) -> FrozenTrial:
        """Its trial in a state, with what it reported and how far its constraints are from being kept."""
        trial = create_trial(
            state=state,
            values=values,
            params=self.trial.params,
            distributions=self.trial.distributions,
            system_attrs=dict(self.trial.system_attrs),
            intermediate_values={} if against else dict(self.reported),
            constraints=self.violations() if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        )
        trial.number = self.number
        return trial


def _or_inf(violation: float) -> float:
    return inf if isnan(violation) else violation


def _numbered(trial: FrozenTrial, name: str) -> dict[int, float]:
    return {int(number): value for number, value in json.loads(trial.user_attrs.get(name, "{}")).items()}
