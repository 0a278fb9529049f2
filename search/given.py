"""Recipes as people write them (enqueued ones): each parameter matched to the values that the space has for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from search.values import Range


def flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """`{"pretrain": {"steps": 5}}` as recipes name it: `{"pretrain.steps": 5}`."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        inner = {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
        found |= inner
    return found


def take(given: dict[str, Any], name: str, values: "Sequence[Any] | Range") -> Any:
    """Takes a parameter out of what is given: the value of the space that it means (1 is 1.0, `b+a` and [b, a] are
    `a+b`), or the number inside of the space's range. Raises ValueError, one line that begins with the name."""
    if name not in given:
        raise ValueError(f"{name} must be given, but it is absent")
    value = given.pop(name)
    if isinstance(values, Range):
        number = _number(value)
        if number is None or not values.low <= number <= values.high:
            raise ValueError(f"{name} must be a number in [{values.low:g}, {values.high:g}], but got {value!r}")
        return number
    for known in values:
        if _same(known, value):
            return known
    raise ValueError(f"{name} must be one of {', '.join(map(str, values))}, but got {value!r}")


def take_factor(given: dict[str, Any], values: "Sequence[Any] | Range", trunk: float) -> Any:
    """Takes `lr_factor` out of what is given; where that has `lr`, the factor of the trunk's rate that makes it."""
    lr = _number(given.get("lr"))
    if "lr_factor" in given or lr is None:
        return take(given, "lr_factor", values)
    factors = values if not isinstance(values, Range) else (values.clipped(lr / trunk),)
    for factor in factors:
        if times(factor, trunk) == times(lr, 1.0):
            del given["lr"]
            return factor
    if isinstance(values, Range):
        rates = f"be a number in [{times(values.low, trunk):g}, {times(values.high, trunk):g}]"
    else:
        rates = f"be one of {', '.join(str(times(factor, trunk)) for factor in values)}"
    raise ValueError(f"lr must {rates}, parts of pretrain.lr {trunk:g}, but got {lr:g}")


def times(one: float, other: float) -> float:
    """A product to 12 significant digits: 0.1 of 0.3 is 0.03."""
    return float(f"{one * other:.12g}")


def _same(known: Any, value: Any) -> bool:
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        value = "+".join(value)
    if isinstance(known, str) and isinstance(value, str):
        return sorted(known.split("+")) == sorted(value.split("+"))
    return bool(known == value) if isinstance(known, str) else known == _number(value)


def _number(value: Any) -> float | None:
    """A number, also one that YAML takes for a text (`1e-3`)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
