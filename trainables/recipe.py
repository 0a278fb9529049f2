"""Recipe: one point of the search space, and the only noun of `trainables` that `analysis` reads.

A recipe says how a model is trained (schedule, shares, adaptation, rates) and nothing of where or by
whom. Parameters that do not apply to a schedule are absent, not defaulted, so that two different
recipes are always two different trainings.
"""

import hashlib
import json
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Schedule = Literal["real_only", "synthetic_only", "mixed", "finetune"]
Adaptation = Literal["none", "real_bn"]
DomainName = Literal["real", "synthetic"]
Share = float | Literal["natural"]

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
DOMAINS: tuple[DomainName, ...] = get_args(DomainName)

# Which fields each schedule has; every one of them is required there, and refused elsewhere. Where a schedule reads a
# domain (it has the domain's fraction) it may have the domain's source too.
FIELDS: dict[Schedule, tuple[str, ...]] = {
    "real_only": ("real_fraction", "lr"),
    "synthetic_only": ("synthetic_fraction", "lr"),
    "mixed": ("adaptation", "real_fraction", "synthetic_fraction", "synthetic_share", "lr"),
    "finetune": ("adaptation", "real_fraction", "synthetic_fraction", "pretrain", "lr"),
}


def fields(schedule: Schedule) -> tuple[str, ...]:
    """All fields that a schedule can have, those of `FIELDS` after the sources that it may name."""
    return (*(f"{domain}_source" for domain in DOMAINS if reads(schedule, domain)), *FIELDS[schedule])


def reads(schedule: Schedule, domain: DomainName) -> bool:
    """Whether a schedule trains on images of a domain."""
    return f"{domain}_fraction" in FIELDS[schedule]


class Pretrain(BaseModel):
    """The first stage of `finetune`: its length in steps and its learning rate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0)
    lr: float = Field(gt=0)


class Recipe(BaseModel):
    """One way to train: schedule, data sources and fractions in (0, 1], adaptation and learning rates.

    real_source         the sources of real images that are read, by name and joined by "+": "original+refined";
                        absent where the search does not vary them, and then all that it has are read
    synthetic_source    the same of synthetic images
    real_fraction       share of the labelled real images of its source that is used; nested (5% lies inside 10%)
    synthetic_fraction  share of the synthetic images of its source that is used; nested
    synthetic_share     share of each mixed batch that is synthetic, in (0, 1), or "natural": n_s / (n_s + n_r)
    pretrain            the synthetic stage before the real one (`finetune` only)
    lr                  learning rate of the last stage
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule
    real_source: str | None = None
    synthetic_source: str | None = None
    adaptation: Adaptation | None = None
    real_fraction: float | None = Field(default=None, gt=0, le=1)
    synthetic_fraction: float | None = Field(default=None, gt=0, le=1)
    synthetic_share: Share | None = None
    pretrain: Pretrain | None = None
    lr: float = Field(gt=0)

    @model_validator(mode="after")
    def _only_what_applies(self) -> "Recipe":
        applies, needed = fields(self.schedule), FIELDS[self.schedule]
        for name in type(self).model_fields:
            if name == "schedule":
                continue
            given = getattr(self, name) is not None
            if given and name not in applies:
                raise ValueError(
                    f"{name} does not apply to schedule {self.schedule!r}, but got {getattr(self, name)!r}"
                )
            if not given and name in needed:
                raise ValueError(f"schedule {self.schedule!r} needs {name}, but it is absent")
        for domain in DOMAINS:
            names = self.sources(domain)
            if not all(names) or len(set(names)) != len(names):
                raise ValueError(f"{domain}_source must be distinct names joined by '+', but got {'+'.join(names)!r}")
        share = self.synthetic_share
        if isinstance(share, float) and not 0 < share < 1:
            raise ValueError(
                f"`0 < synthetic_share < 1` must hold, but got {share}; 0 is real_only and 1 synthetic_only"
            )
        return self

    def params(self) -> dict[str, Any]:
        """The parameters that it has, flat, as `fields` has them: {"schedule": "finetune", "pretrain.steps": 5}."""
        flat: dict[str, Any] = {"schedule": self.schedule}
        for name in fields(self.schedule):
            value = getattr(self, name)
            if isinstance(value, Pretrain):
                flat |= {"pretrain.steps": value.steps, "pretrain.lr": value.lr}
            elif value is not None:
                flat[name] = value
        return flat

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> "Recipe":
        """The inverse of `params`; raises pydantic.ValidationError (a ValueError) when they name no recipe."""
        nested = {name: value for name, value in params.items() if not name.startswith("pretrain.")}
        pretrain = {name.removeprefix("pretrain."): v for name, v in params.items() if name.startswith("pretrain.")}
        return cls.model_validate(nested | ({"pretrain": pretrain} if pretrain else {}))

    def sources(self, domain: DomainName) -> tuple[str, ...]:
        """The names in its source of a domain; none where it names none."""
        source: str | None = getattr(self, f"{domain}_source")
        return () if source is None else tuple(source.split("+"))

    @property
    def key(self) -> str:
        """16 hex digits: a digest of the parameters, the same on every machine."""
        return digest(self.params())[:16]

    def __str__(self) -> str:
        """A name that reads: `finetune real=0.25 of refined synthetic=1 pretrain=500@0.03 real_bn lr=0.01`."""
        words: list[str] = [self.schedule]
        for domain in DOMAINS:
            fraction, source = getattr(self, f"{domain}_fraction"), getattr(self, f"{domain}_source")
            if fraction is not None:
                words.append(f"{domain}={fraction:.4g}" + (f" of {source}" if source else ""))
        if self.synthetic_share is not None:
            share = self.synthetic_share
            words.append(f"share={share if isinstance(share, str) else format(share, '.4g')}")
        if self.pretrain is not None:
            words.append(f"pretrain={self.pretrain.steps}@{self.pretrain.lr:.4g}")
        if self.adaptation not in (None, "none"):
            words.append(str(self.adaptation))
        words.append(f"lr={self.lr:.4g}")
        return " ".join(words)


def digest(value: Any) -> str:
    """64 hex digits of blake2b over the canonical JSON of a value: sorted keys, no spaces, no NaN.

    Floats are written by their shortest exact form and integers apart from floats, so that 1 and 1.0 differ:
    a value has to be typed (pydantic, dataclass) before it is digested.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
