"""How a population file says what is random: numbers and choices, each with one inverse distribution function.

A **number** is written as one of

    0.3                                        always this
    [0.7, 1]                                   uniform between the two
    {mean: 0, sd: 12, low: -45, high: 45}      normal, truncated to low..high
    - {percent: 70, mean: 0, sd: 12, low: -45, high: 45}       a mixture of these, whose percentages sum to 100;
    - {percent: 20, low: -45, high: 45}                        `{low, high}` is uniform and `{value}` always this
    - {percent: 10, value: 0}

and a **choice** as a name, or as `{name: percent, ...}`: what is missing from 100 goes to the choice's default.

Both are drawn by `at(u)` from one number u of [0, 1), so that each field of a person takes the same place in its noun's
stream of random numbers whatever its distribution is (`Stream`), and changing one field changes no other.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from statistics import NormalDist
from typing import Any

import numpy as np
from pydantic import BeforeValidator

from datasets.settings import unknown

STANDARD = NormalDist()
UNIFORMS = 96  # of a stream; the longest noun takes about 70
FORMS = "a number, [low, high], {mean, sd, low, high}, or a list of such mappings with percent"


@dataclass(frozen=True)
class Part:
    """Uniform on low..high where sd is 0 (constant where they are equal), else the normal truncated to low..high."""

    low: float
    high: float
    mean: float = 0.0
    sd: float = 0.0
    below: float = 0.0  # probability that the normal is below `low`, and that it is below `high`
    upto: float = 1.0

    def at(self, u: float) -> float:
        if self.sd == 0:
            return self.low + u * (self.high - self.low)
        p = min(max(self.below + u * (self.upto - self.below), 1e-15), 1 - 1e-15)
        return min(max(self.mean + self.sd * STANDARD.inv_cdf(p), self.low), self.high)


@dataclass(frozen=True)
class Spread:
    """The distribution of a number: parts, and the cumulative shares at which each of them ends (the last is 1)."""

    parts: tuple[Part, ...]
    ends: tuple[float, ...] = (1.0,)

    @property
    def low(self) -> float:
        return min(part.low for part in self.parts)

    @property
    def high(self) -> float:
        return max(part.high for part in self.parts)

    def at(self, u: float) -> float:
        """The value below which lies the share u (0 to 1) of the distribution, part by part."""
        if len(self.parts) == 1:
            return self.parts[0].at(u)
        i = min(bisect_right(self.ends, u), len(self.parts) - 1)
        start = self.ends[i - 1] if i else 0.0
        return self.parts[i].at((u - start) / (self.ends[i] - start))


@dataclass(frozen=True)
class Shares:
    """The distribution of a choice: names, and the cumulative shares at which each of them ends (the last is 1)."""

    names: tuple[str, ...]
    ends: tuple[float, ...]

    def at(self, u: float) -> str:
        return self.names[min(bisect_right(self.ends, u), len(self.names) - 1)]

    def share(self, name: str) -> float:
        """The probability of a name, 0 to 1."""
        starts = (0.0, *self.ends[:-1])
        return sum(end - start for n, start, end in zip(self.names, starts, self.ends, strict=True) if n == name)


class Stream:
    """The random numbers of one noun of one person: a pure function of (series, noun, seed), by Philox.

    `next(stream)` is uniform on [0, 1), and at most UNIFORMS of them are there. Raises ValueError for a seed that is no
    whole number of 0 to 2**64 - 1.
    """

    def __init__(self, series: int, noun: str, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
            raise ValueError(f"a person's seed must be a whole number of 0 to 2**64 - 1, but got {seed!r}")
        self.generator = np.random.Generator(np.random.Philox(key=_stream_key(series, noun) + int(seed)))
        self._values = iter(self.generator.random(UNIFORMS).tolist())

    def __next__(self) -> float:
        return next(self._values)

    def between(self, low: float, high: float) -> float:
        return low + next(self._values) * (high - low)

    def normal(self, limit: float = 2.2) -> float:
        """Standard normal, truncated to +-limit."""
        edge = STANDARD.cdf(-limit)
        return STANDARD.inv_cdf(edge + next(self._values) * (1 - 2 * edge))

    def seed(self) -> int:
        """A seed for whatever is painted or scattered later, 0 to 2**31 - 1."""
        return int(next(self._values) * 2**31)


@cache
def _stream_key(series: int, noun: str) -> int:
    digest = hashlib.blake2b(f"{series}/{noun}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") << 64


def number(low: float, high: float) -> BeforeValidator:
    """Reads a Spread whose values all lie in low..high."""
    return BeforeValidator(lambda value: read_spread(value, low, high))


def choice(default: str, *others: str) -> BeforeValidator:
    """Reads Shares of names, the first of which takes what is missing from 100 percent."""
    return BeforeValidator(lambda value: read_shares(value, (default, *others)))


def real(low: float, high: float) -> BeforeValidator:
    """Reads one plain number of low..high."""
    return BeforeValidator(lambda value: read_real(value, low, high))


def read_real(value: Any, low: float = -math.inf, high: float = math.inf, what: str = "") -> float:
    """A finite number of low..high, no bool and no text. Raises ValueError; `what` names a part of the value."""
    of = f"{what} " if what else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{of}must be a number, but got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{of}must be a finite number, but got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{of}must be between {low:g} and {high:g}, but got {value!r}")
    return float(value)


def read_spread(value: Any, low: float = -math.inf, high: float = math.inf) -> Spread:
    """A number's distribution, in the grammar above. Raises ValueError with one line that shows the value."""
    if isinstance(value, Spread):
        return value
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        shares = []
        for i, item in enumerate(value):
            if not isinstance(item, dict) or "percent" not in item:
                raise ValueError(f"every part of a mixture must be a mapping with percent, but got {item!r}")
            shares.append(read_real(item["percent"], 0, 100, f"percent of part {i + 1}"))
        if abs(sum(shares) - 100) > 1e-6:
            raise ValueError(f"the percentages of a mixture must sum to 100, but sum to {sum(shares):g}")
        parts = [_read_part({k: v for k, v in item.items() if k != "percent"}, low, high) for item in value]
        kept = [(part, share) for part, share in zip(parts, shares, strict=True) if share > 0]
        return Spread(tuple(part for part, _ in kept), _ends(share for _, share in kept))
    return Spread((_read_part(value, low, high),))


def _read_part(value: Any, low: float, high: float) -> Part:
    if isinstance(value, list):
        if len(value) != 2:
            raise ValueError(f"a range must be [low, high], but got {value!r}")
        value = {"low": value[0], "high": value[1]}
    elif not isinstance(value, dict):
        if isinstance(value, str) or value is None:
            raise ValueError(f"must be {FORMS}, but got {value!r}")
        value = {"value": value}
    given = {str(key): read_real(item, what=str(key) if key != "value" else "") for key, item in value.items()}
    if set(given) == {"value"}:
        part = Part(given["value"], given["value"])
    elif set(given) == {"low", "high"}:
        part = Part(given["low"], given["high"])
    elif set(given) == {"mean", "sd", "low", "high"}:
        if given["sd"] <= 0:
            raise ValueError(f"sd must be above 0, but got {given['sd']:g}")
        ends = [STANDARD.cdf((given[end] - given["mean"]) / given["sd"]) for end in ("low", "high")]
        part = Part(given["low"], given["high"], given["mean"], given["sd"], *ends)
    else:
        raise ValueError(f"must be {FORMS}, but got a mapping with {', '.join(given) or 'nothing'}")
    if part.low > part.high:
        raise ValueError(f"low <= high must hold, but got low={part.low:g}, high={part.high:g}")
    if part.sd and not part.upto - part.below > 1e-9:
        raise ValueError(f"the normal must lie in low..high with some probability, but got {value!r}")
    if not (low <= part.low and part.high <= high):
        raise ValueError(f"must be between {low:g} and {high:g}, but got {_shown(part)}")
    return part


def _shown(part: Part) -> str:
    return f"{part.low:g}" if part.low == part.high else f"{part.low:g} to {part.high:g}"


def read_shares(value: Any, names: tuple[str, ...]) -> Shares:
    """A choice's distribution; `names` are those there are, the default first. Raises ValueError with one line."""
    if isinstance(value, Shares):
        return value
    if isinstance(value, str):
        value = {value: 100}
    if not isinstance(value, dict):
        raise ValueError(f"must be a name or a mapping {{name: percent}} of {', '.join(names)}, but got {value!r}")
    shares = dict.fromkeys(names[1:], 0.0) | {names[0]: 0.0}
    for name, percent in value.items():
        if name not in names:
            raise ValueError(unknown("name", name, names))
        shares[name] = read_real(percent, 0, 100, f"percent of {name}")
    total = sum(shares.values())
    if total > 100 + 1e-6:
        raise ValueError(f"percentages must sum to at most 100, but sum to {total:g}")
    shares[names[0]] += max(100 - total, 0.0)
    kept = {name: share for name, share in shares.items() if share > 0}
    return Shares(tuple(kept), _ends(kept.values()))


def _ends(percents: Iterable[float]) -> tuple[float, ...]:
    sums = list(accumulate(percents))
    return (*(end / sums[-1] for end in sums[:-1]), 1.0)
