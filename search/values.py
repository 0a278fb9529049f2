"""What a parameter of the space may be: lists of distinct values and ranges, each checked for what it means."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from trainables.recipe import Share


class Range(BaseModel):
    """A continuous parameter in [low, high], even on a linear scale, on that of its logarithm or of its square root.

    Where the file says neither, the kind of the parameter does: rates and fractions are log, shares sqrt, which is fine
    near 0. `log: false` is linear.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    log: bool | None = None
    sqrt: bool | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"`low < high` must hold, but got (low={self.low:g}, high={self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"`low > 0` must hold on a log scale, but got low={self.low:g}")
        if self.log and self.sqrt:
            raise ValueError("must be on one scale, but got log and sqrt; take one of them out")
        return self

    def clipped(self, value: float) -> float:
        return min(max(value, self.low), self.high)


def _scaled(scale: Literal["log", "sqrt"]) -> AfterValidator:
    """Fills in the scale of a kind of parameter where the file says none."""

    def fill(values: Any) -> Any:
        if not isinstance(values, Range):
            return values
        silent = values.log is None and values.sqrt is None
        chosen = {"log": bool(values.log), "sqrt": bool(values.sqrt)} | ({scale: True} if silent else {})
        return values.model_copy(update=chosen)

    return AfterValidator(fill)


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
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


def rates(values: "tuple[float, ...] | Range") -> "tuple[float, ...] | Range":
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
    Annotated[tuple[float, ...], AfterValidator(distinct), _List] | _Range,
    Discriminator(_form),
    AfterValidator(_fractions),
    _scaled("log"),
]
Shares = Annotated[
    Annotated[tuple[Share, ...], AfterValidator(distinct), _List] | _Range,
    Discriminator(_form),
    AfterValidator(_shares),
    _scaled("sqrt"),
]
Rates = Annotated[
    Annotated[tuple[float, ...], AfterValidator(distinct), _List] | _Range,
    Discriminator(_form),
    AfterValidator(rates),
    _scaled("log"),
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
    tuple[Annotated[str, BeforeValidator(_union)], ...], AfterValidator(distinct), AfterValidator(_different)
]
Strengths = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(distinct)]
