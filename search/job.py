"""Job: one replicate of one recipe, as it travels from a trial to the dispatcher and on to a slot."""

from dataclasses import dataclass
from typing import Any

from trainables.path import Path, path_of, rungs_of
from trainables.problem import Problem
from trainables.recipe import Recipe


@dataclass(frozen=True)
class Ticket:
    """What a Tune trial holds of a job: enough to submit it, idempotently by its fields.

    number     of the recipe in the study
    attempt    0, or how often the whole search was run again before
    after      the rung that was reached before: a recipe that was left behind at a rung goes on under a new ticket
    """

    number: int
    replicate: int
    attempt: int
    params: tuple[tuple[str, Any], ...]  # Recipe.params() as a value
    after: int = 0

    @property
    def id(self) -> str:
        return f"{self.number:05d}-{self.replicate}-{self.attempt}-{self.after}"

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_params(dict(self.params))

    def __deepcopy__(self, _: Any) -> "Ticket":
        return self  # a value; Tune copies the config of a trial several times


@dataclass(frozen=True)
class Job:
    """A ticket with the path that a slot trains, and the rungs that are to come.

    `namespace` is "" where runs share, else of this recipe alone.
    """

    ticket: Ticket
    path: Path
    namespace: str
    rungs: tuple[int, ...]

    @classmethod
    def of(cls, ticket: Ticket, problem: Problem, *, share: bool) -> "Job":
        path = path_of(ticket.recipe, problem, ticket.replicate)
        namespace = "" if share else f"alone-{ticket.recipe.key}"
        rungs = tuple(rung for rung in rungs_of(path, problem) if rung > ticket.after)
        return cls(ticket, path, namespace, rungs)

    @property
    def id(self) -> str:
        return self.ticket.id


@dataclass(frozen=True)
class Measured:
    """A rung was reached. `metrics` by full name ("val/miou"); see trainables.loop.Report."""

    step: int
    metrics: dict[str, float]
    time_ms: int
    steps_trained: int
    final: bool


@dataclass(frozen=True)
class Failed:
    """The job ended with an error; `traceback` is the whole of it."""

    error: str
    traceback: str


Outcome = Measured | Failed
