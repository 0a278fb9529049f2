"""The space: which recipes a search may try, as finite lists and ranges, with each parameter only where it applies."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from trainables.recipe import DOMAINS, FIELDS, Adaptation, DomainName, Recipe, Schedule, Share, fields, reads


class Trial(Protocol):
    """What the space asks of a trial: Optuna's define-by-run interface."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


class Range(BaseModel):
    """A continuous parameter in [low, high], on a log scale if asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _not_empty(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"`low < high` must hold, but got (low={self.low:g}, high={self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"`low > 0` must hold on a log scale, but got low={self.low:g}")
        return self


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("must list at least one value, but the list is empty")
    if len(set(values)) != len(values):
        raise ValueError(f"must list each value once, but got {list(values)}")
    return values


def _fractions(values: "tuple[float, ...] | Range") -> "tuple[float, ...] | Range":
    for number in (values.low, values.high) if isinstance(values, Range) else values:
        if not 0 < number <= 1:
            raise ValueError(f"`0 < fraction <= 1` must hold, but got {number:g}")
    return values


def _shares(values: "tuple[Share, ...] | Range") -> "tuple[Share, ...] | Range":
    for number in (values.low, values.high) if isinstance(values, Range) else values:
        if isinstance(number, float) and not 0 < number < 1:
            raise ValueError(
                f"`0 < share < 1` must hold, but got {number:g}; 0 is schedule real_only and 1 synthetic_only"
            )
    return values


def _rates(values: "tuple[float, ...] | Range") -> "tuple[float, ...] | Range":
    for number in (values.low, values.high) if isinstance(values, Range) else values:
        if not 0 < number < math.inf:
            raise ValueError(f"`0 < lr < inf` must hold, but got {number:g}")
    return values


def _form(value: Any) -> str:
    """Which of the two forms a user meant: a mapping is a range, anything else a list."""
    return "range" if isinstance(value, (dict, Range)) else "list"


_List = Tag("list")
_Range = Annotated[Range, Tag("range")]
Fractions = Annotated[
    Annotated[tuple[float, ...], AfterValidator(_distinct), _List] | _Range,
    Discriminator(_form),
    AfterValidator(_fractions),
]
Shares = Annotated[
    Annotated[tuple[Share, ...], AfterValidator(_distinct), _List] | _Range,
    Discriminator(_form),
    AfterValidator(_shares),
]
Rates = Annotated[
    Annotated[tuple[float, ...], AfterValidator(_distinct), _List] | _Range,
    Discriminator(_form),
    AfterValidator(_rates),
]
Steps = Annotated[int, Field(ge=1)]


def _union(value: Any) -> str:
    """A source as recipes name it: `refined`, or `original+refined` for a list of names."""
    names: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    if not names or not all(isinstance(name, str) and name and "+" not in name for name in names):
        raise ValueError(f"must be a source's name, or a list of names for their union, but got {value!r}")
    if len(set(names)) != len(names):
        raise ValueError(f"must name each source once, but got {names}")
    return "+".join(names)


def _different(values: tuple[str, ...]) -> tuple[str, ...]:
    seen: dict[frozenset[str], str] = {}
    for value in values:
        other = seen.setdefault(frozenset(value.split("+")), value)
        if other is not value:
            raise ValueError(
                f"must list each union once, but {other!r} and {value!r} are the same sources; take one out"
            )
    return values


Sources = Annotated[
    tuple[Annotated[str, BeforeValidator(_union)], ...], AfterValidator(_distinct), AfterValidator(_different)
]


class PretrainSpace(BaseModel):
    """The trunks: finite lists, so that trials can share them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Annotated[tuple[Steps, ...], AfterValidator(_distinct)]
    lr: Annotated[tuple[float, ...], AfterValidator(_distinct), AfterValidator(_rates)]


class SpaceConfig(BaseModel):
    """The search space of the search file. A parameter that no schedule of it has is refused, a missing one named.

    real_source, synthetic_source  which of a domain's sources a recipe reads, each value a name or a union of names;
                                   None is all of them, always
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Annotated[tuple[Schedule, ...], AfterValidator(_distinct)]
    real_source: Sources | None = None
    synthetic_source: Sources | None = None
    adaptation: Annotated[tuple[Adaptation, ...], AfterValidator(_distinct)] | None = None
    real_fraction: Fractions | None = None
    synthetic_fraction: Fractions | None = None
    synthetic_share: Shares | None = None
    pretrain: PretrainSpace | None = None
    lr: Rates

    @model_validator(mode="after")
    def _what_the_schedules_have(self) -> "SpaceConfig":
        for name in type(self).model_fields:
            if name == "schedule":
                continue
            users = [schedule for schedule in self.schedule if name in fields(schedule)]
            given = getattr(self, name) is not None
            if not given and any(name in FIELDS[schedule] for schedule in users):
                raise ValueError(f"{name} must be given, since schedule {users[0]!r} needs it, but it is absent")
            if given and not users:
                raise ValueError(f"{name} is given, but no schedule of {list(self.schedule)} has it; take it out")
        return self

    def readers(self, domain: DomainName) -> list[str]:
        """The schedules that read images of a domain."""
        return [schedule for schedule in self.schedule if reads(schedule, domain)]

    def sources(self, domain: DomainName) -> tuple[str, ...] | None:
        """The sources of a domain that recipes choose from; None where each reads all."""
        values: tuple[str, ...] | None = getattr(self, f"{domain}_source")
        return values

    def ordered(self, order: Mapping[DomainName, Sequence[str]]) -> "SpaceConfig":
        """The same space, the names of each union in the order of the domain's sources (every name must be there)."""
        update = {
            f"{domain}_source": tuple("+".join(sorted(value.split("+"), key=order[domain].index)) for value in values)
            for domain in DOMAINS
            if (values := self.sources(domain)) is not None
        }
        return self.model_copy(update=update)

    def continuous(self) -> str | None:
        """The first parameter that is a range, if one is."""
        return next((name for name in type(self).model_fields if isinstance(getattr(self, name), Range)), None)

    def suggest(self, trial: Trial) -> Recipe:
        """Draws a recipe: the schedule first, then the parameters that it has, in the order of `fields`."""
        params: dict[str, Any] = {"schedule": trial.suggest_categorical("schedule", self.schedule)}
        for name, values in self._axes(params["schedule"]):
            if isinstance(values, Range):
                params[name] = trial.suggest_float(name, values.low, values.high, log=values.log)
            else:
                params[name] = trial.suggest_categorical(name, values)
        return Recipe.from_params(params)

    def enumerate(self) -> list[Recipe]:
        """Every distinct recipe of a space without ranges, schedule by schedule."""
        found: dict[str, Recipe] = {}
        for schedule in self.schedule:
            axes = self._axes(schedule)
            for values in itertools.product(*(values for _, values in axes)):
                recipe = Recipe.from_params(
                    {"schedule": schedule, **dict(zip((n for n, _ in axes), values, strict=True))}
                )
                found.setdefault(recipe.key, recipe)
        return list(found.values())

    def _axes(self, schedule: Schedule) -> list[tuple[str, Any]]:
        axes: list[tuple[str, Any]] = []
        for name in fields(schedule):
            values = getattr(self, name)
            if isinstance(values, PretrainSpace):
                axes += [("pretrain.steps", values.steps), ("pretrain.lr", values.lr)]
            elif values is not None:
                axes.append((name, values))
        return axes
