"""Mix: which rows make up batch s, as a pure function of (seed, data, share, s).

A search compares hundreds of trainings that differ in how much real and synthetic data they see. The comparison is
only fair, and shared prefixes are only exact, when the order of the data is a value rather than a process: nothing
here has a state, so batch 7,000 can be asked for first, on any machine, and is the batch a long run would get.
Random numbers are raw output of counter-based Philox generators, keyed by a digest of what they are for (Salmon et
al. 2011, "Parallel random numbers: as easy as 1, 2, 3"); raw output, unlike `Generator.permutation`, is guaranteed
by numpy never to change.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from functools import lru_cache
from math import floor

import numpy as np

from datasets.manifest import Column
from datasets.pack import Pack, Value


class Domain(IntEnum):
    """Where a sample comes from; the number is what models and batches carry."""

    REAL = 0
    SYNTHETIC = 1


class Source:
    """Rows of several packs, one after another: row i of the first pack, then the second's, and so on.

    columns  names that every pack has; they must agree in dtype and shape (ValueError names the pack and column).
             Where they are given, every pack must have these, and nothing else of the packs has to agree: sets that
             were unified for one task differ in the rest, and the task says what classes must be
    classes  the class names, which must agree; None where no pack names any, or they need not agree and do not
    digest   64 hex digits of the packs' digests in order
    """

    def __init__(self, packs: Sequence[Pack], columns: Sequence[str] | None = None) -> None:
        if not packs:
            raise ValueError("a source needs at least one pack, but got none")
        self.packs = tuple(packs)
        first = packs[0]
        self.classes = first.manifest.classes
        common: dict[str, Column] | None = None
        for pack in packs:
            classes = pack.manifest.classes
            if classes != self.classes:
                if columns is None:
                    wanted = f"{first.manifest.classes} as in {first.path}"
                    raise ValueError(f"{pack.path}: classes must be {wanted}, but are {classes}")
                self.classes = None
            theirs = {column.name: column for column in pack.manifest.columns}
            if columns is not None:
                if missing := [name for name in columns if name not in theirs]:
                    raise ValueError(f"{pack.path}: must have column {missing[0]!r}, but has {', '.join(theirs)}")
                theirs = {name: theirs[name] for name in columns}
            common = theirs if common is None else {name: common[name] for name in common if name in theirs}
            for name, column in common.items():
                if theirs[name] != column:
                    other = f"{column} as in {first.path}, but is {theirs[name]}"
                    raise ValueError(f"{pack.path}: column {name!r} must be {other}")
        assert common is not None
        self.columns = tuple(common)
        self.digest = _key("source", *(pack.digest for pack in self.packs)).hex()
        self._ends = np.cumsum([len(pack) for pack in self.packs])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sample(self, i: int, columns: Sequence[str] | None = None) -> dict[str, Value]:
        """Row i, as `Pack.sample`; all common columns, or those named. Raises IndexError when i is out of range."""
        if not 0 <= i < len(self):
            raise IndexError(f"`0 <= i < {len(self)}` must hold, but got i={i}")
        number = int(np.searchsorted(self._ends, i, side="right"))
        start = int(self._ends[number - 1]) if number else 0
        return self.packs[number].sample(int(i) - start, self.columns if columns is None else columns)


def subset_count(num_rows: int, fraction: float) -> int:
    """Rows in a fraction (0, 1] of `num_rows` rows: rounded, half up, and at least 1."""
    if not 0 < fraction <= 1:
        raise ValueError(f"`0 < fraction <= 1` must hold, but got {fraction}")
    if num_rows < 1:
        raise ValueError(f"`num_rows >= 1` must hold, but got {num_rows}")
    return max(1, floor(num_rows * _exact(fraction) + Fraction(1, 2)))


def nested_rows(num_rows: int, count: int, *, seed: int, digest: str) -> np.ndarray:
    """The first `count` of one permutation of `num_rows` rows: int64 [count]; a smaller count lies inside a larger one.

    The permutation is keyed by (seed, digest of the source), and by nothing else.
    """
    if not 1 <= count <= num_rows:
        raise ValueError(f"`1 <= count <= num_rows` must hold, but got (count={count}, num_rows={num_rows})")
    return _permutation(num_rows, "subset", seed, digest)[:count]


@dataclass(frozen=True, eq=False)
class DomainRows:
    """The rows of a source that one domain may draw: a sequence of ints, kept as a read-only int64 array [n]."""

    domain: Domain
    digest: str  # of the source
    rows: np.ndarray

    def __post_init__(self) -> None:
        rows = np.array(self.rows, dtype=np.int64)
        if rows.ndim != 1 or rows.size == 0 or rows.min() < 0 or np.unique(rows).size != rows.size:
            raise ValueError(
                f"{self.domain.name.lower()}: rows must be distinct, >= 0 and not none, but got {rows.size} rows"
            )
        rows.flags.writeable = False
        object.__setattr__(self, "rows", rows)


@dataclass(frozen=True, eq=False)
class Draws:
    """One batch: `domain` int64 [B] (of Domain), `row` int64 [B] (of that domain's source), `seed` uint32 [B]."""

    domain: np.ndarray
    row: np.ndarray
    seed: np.ndarray


@dataclass(frozen=True)
class Blocks:
    """Synthetic shares in [0, 1] of the equal blocks of a run of `steps` batches, in turn; the last one goes on.

    Block k of n begins at batch k * steps // n.
    """

    shares: tuple[float, ...]
    steps: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.shares) <= self.steps or not all(0 <= share <= 1 for share in self.shares):
            raise ValueError(
                f"blocks must be shares in [0, 1], at most one a batch, but got {list(self.shares)} for {self.steps}"
            )

    def batches(self, step: int) -> Fraction:
        """The sum of the shares of the first `step` batches, exactly."""
        n = len(self.shares)
        starts = [k * self.steps // n for k in range(n)]
        ends = [min(step, end) for end in (*starts[1:], step)]
        spans = (max(0, end - start) for start, end in zip(starts, ends, strict=True))
        return sum((span * _exact(share) for span, share in zip(spans, self.shares, strict=True)), Fraction())


class Mix:
    """A deterministic sequence of batches, from one domain or two.

    **What a share weighs.** `synthetic_share` is the part of every batch that is synthetic, so it weighs gradients,
    not datasets: with share 0.5, ten real images weigh as much as ten thousand renders. It holds over the whole run
    exactly: after s batches, floor(s * B * share) samples were synthetic, for every s; single batches have one more
    or one fewer where B * share is no integer. A share that owes a domain less than one sample a batch is as exact:
    8 photographs beside 2,000 renders are 1/251 of the samples, one in every 15 or 16 batches of 16, and the batches
    between hold none (`rarest` says how thin that is). The share is read as the nearest fraction with a denominator
    of at most ten million, so that 0.1 is one tenth, and n_s / (n_s + n_r) is itself.

    **What happens when a source runs out.** It starts again, in a new order. Each domain is an endless stream:
    epoch e is a permutation of its n rows keyed by (seed, source digest, domain, e), draw j is element j mod n of
    epoch j // n. Epochs of the two domains are independent, neither ends the other's, and batches run across them.

    **Pairing.** A draw's augmentation seed is a digest of (seed, source digest, domain, j), so that the j-th real
    draw is augmented in the same way whatever the share, the batch size or the learning rate.

    **A share that changes.** `Blocks` give the share of each part of a run. The count of synthetic samples after s
    batches is then the floor of the sum of B * share over them: as exact, across blocks too.

    Within a batch the real rows come first, then the synthetic.
    """

    def __init__(
        self,
        batch_size: int,
        seed: int,
        domains: Sequence[DomainRows],
        synthetic_share: "float | Blocks | None" = None,
    ) -> None:
        """Raises ValueError unless there is one domain and no share, or both domains and a share in (0, 1) or blocks
        of shares in [0, 1]."""
        if batch_size < 1:
            raise ValueError(f"`batch_size >= 1` must hold, but got {batch_size}")
        given = [domain.domain for domain in domains]
        if sorted(given) not in ([Domain.REAL], [Domain.SYNTHETIC], [Domain.REAL, Domain.SYNTHETIC]):
            raise ValueError(f"domains must be REAL, SYNTHETIC or one of each, but got {[d.name for d in given]}")
        if (synthetic_share is None) != (len(given) == 1):
            raise ValueError(f"a synthetic_share goes with two domains, but got {synthetic_share} with {len(given)}")
        self.batch_size = batch_size
        self.seed = seed
        self.domains = tuple(sorted(domains, key=lambda domain: domain.domain))
        if isinstance(synthetic_share, float) and not 0 < synthetic_share < 1:
            raise ValueError(f"`0 < synthetic_share < 1` must hold, but got {synthetic_share}")
        share = float(given == [Domain.SYNTHETIC]) if synthetic_share is None else synthetic_share
        self._blocks = share if isinstance(share, Blocks) else Blocks((share,), 1)

    def batch(self, step: int) -> Draws:
        """The draws of batch `step` >= 0."""
        if step < 0:
            raise ValueError(f"`step >= 0` must hold, but got {step}")
        first = step * self.batch_size
        synthetic = tuple(floor(self.batch_size * self._blocks.batches(s)) for s in (step, step + 1))
        spans = {
            Domain.REAL: (first - synthetic[0], first + self.batch_size - synthetic[1]),
            Domain.SYNTHETIC: (synthetic[0], synthetic[1]),
        }
        draws = [(domain, *spans[domain.domain]) for domain in self.domains]
        draws = [(domain, start, stop) for domain, start, stop in draws if start < stop]  # a domain may have none
        return Draws(
            domain=np.concatenate([np.full(stop - start, d.domain, np.int64) for d, start, stop in draws]),
            row=np.concatenate([self._rows(d, start, stop) for d, start, stop in draws]),
            seed=np.concatenate([self._seeds(d, start, stop) for d, start, stop in draws]),
        )

    def _rows(self, domain: DomainRows, start: int, stop: int) -> np.ndarray:
        """Rows of draws [start, stop) of a domain's stream, int64."""
        n = domain.rows.size
        parts = []
        for epoch in range(start // n, -(-stop // n)):
            order = _permutation(n, "epoch", self.seed, domain.digest, domain.domain.name, epoch)
            parts.append(order[max(start - epoch * n, 0) : min(stop - epoch * n, n)])
        return domain.rows[np.concatenate(parts)]

    def _seeds(self, domain: DomainRows, start: int, stop: int) -> np.ndarray:
        """Augmentation seeds of draws [start, stop) of a domain's stream, uint32."""
        key = _key("augment", self.seed, domain.digest, domain.domain.name)
        digests = [
            hashlib.blake2b(j.to_bytes(8, "little"), digest_size=4, key=key).digest() for j in range(start, stop)
        ]
        return np.frombuffer(b"".join(digests), "<u4").astype(np.uint32)


def rarest(batch_size: int, synthetic_share: float) -> tuple[Domain, Fraction]:
    """The domain that a mix with this share in (0, 1) draws less often, and its samples a batch on average (exact)."""
    share = _exact(synthetic_share)
    domain, part = (Domain.SYNTHETIC, share) if share < Fraction(1, 2) else (Domain.REAL, 1 - share)
    return domain, part * batch_size


def _exact(value: float) -> Fraction:
    """The fraction a float was written as: 0.1 is 1/10. Ten million recovers every n / m with m up to that size.

    What is too near to 0 or 1 for that is its own value: a share never becomes none or all.
    """
    near = Fraction(value).limit_denominator(10_000_000)
    return near if 0 < near < 1 else Fraction(value)


def _key(*parts: str | int) -> bytes:
    """32 bytes of blake2b over the canonical JSON of the parts."""
    return hashlib.blake2b(json.dumps(parts, separators=(",", ":")).encode(), digest_size=32).digest()


@lru_cache(maxsize=8)
def _permutation(n: int, *key: str | int) -> np.ndarray:
    """A permutation of range(n), int64 and read-only: the order of n raw 64-bit Philox numbers."""
    words = np.frombuffer(_key(*key)[:16], "<u8")
    order = np.argsort(np.random.Philox(key=words).random_raw(n), kind="stable").astype(np.int64, copy=False)
    order.flags.writeable = False
    return order
