"""The standing: how many recipes ended in which way, and which are the best so far."""

from collections import Counter
from collections.abc import Iterable

from optuna.trial import TrialState

from search.entry import Entry
from trainables.recipe import Recipe

BEST_SHOWN = 5
_NAMES = {TrialState.FAIL: "failed", TrialState.PRUNED: "pruned", TrialState.COMPLETE: "complete"}

Place = tuple[float, str, int]  # the value, the recipe in words, the seeds that it is the mean of


class Standing:
    """Of the recipes that ended. `sign` is 1 where the objective is to be large, -1 where it is to be small."""

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._counts: Counter[str] = Counter()
        self._places: list[Place] = []

    def ended(self, state: TrialState) -> None:
        self._counts[_NAMES[state]] += 1

    def place(self, value: float, recipe: Recipe, seeds: int) -> None:
        """A feasible recipe with a value."""
        self._places.append((value, str(recipe), seeds))

    @property
    def complete(self) -> int:
        return self._counts["complete"]

    def counts(self) -> dict[str, int]:
        """{"ended": 12, "failed": 1, "pruned": 7}"""
        return {"ended": self._counts.total(), **{name: self._counts[name] for name in ("failed", "pruned")}}

    def best(self, racing: Iterable[Entry]) -> list[Place]:
        """The best few, those with more seeds first; `racing` are recipes that have a value and may get more seeds."""
        places = self._places + [
            (value, str(entry.recipe), len(entry.finished))
            for entry in racing
            if (value := entry.final()) is not None and value == value and entry.feasible
        ]
        return sorted(places, key=lambda place: (-place[2], -self._sign * place[0]))[:BEST_SHOWN]
