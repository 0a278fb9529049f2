"""Recipe: one point of the search space, and the only noun of `trainables` that `analysis` reads.

A recipe says how a model is trained (schedule, shares, adaptation, rates) and nothing of where or by
whom. Parameters that do not apply to a schedule are absent, not defaulted, so that two different
recipes are always two different trainings.
"""

import hashlib
import json
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from datasets.translation.spec import AdainImage, Fda, Histogram, PixelDistribution
from trainables.methods import APPLIES, OPTIONS, SCHEDULES, Adain, Adaptation, Schedule, options_of

__all__ = [
    "DOMAINS",
    "FIELDS",
    "OPTIONAL",
    "SCHEDULES",
    "Gradual",
    "Pretrain",
    "Recipe",
    "digest",
    "fields",
    "options_of",
    "reads",
]

DomainName = Literal["real", "synthetic"]
Share = float | Literal["natural"]

DOMAINS: tuple[DomainName, ...] = get_args(DomainName)

# Which fields each schedule needs; what is neither here nor in OPTIONAL is refused. Where a schedule reads a domain
# (it has the domain's fraction) it may have the domain's source too.
FIELDS: dict[Schedule, tuple[str, ...]] = {
    "real_only": ("real_fraction", "lr"),
    "synthetic_only": ("synthetic_fraction", "lr"),
    "mixed": ("adaptation", "real_fraction", "synthetic_fraction", "synthetic_share", "lr"),
    "gradual": ("adaptation", "real_fraction", "synthetic_fraction", "gradual", "lr"),
    "finetune": ("adaptation", "real_fraction", "synthetic_fraction", "pretrain", "lr"),
    "mixed_finetune": ("adaptation", "real_fraction", "synthetic_fraction", "synthetic_share", "pretrain", "lr"),
}
# Absent they are what the schedule's name says: nothing adapted, nothing frozen.
OPTIONAL: dict[Schedule, tuple[str, ...]] = {
    "synthetic_only": ("adaptation",),
    "finetune": ("freeze",),
    "mixed_finetune": ("freeze",),
}


def fields(schedule: Schedule) -> tuple[str, ...]:
    """All fields that a schedule can have, in the order in which they are drawn and shown."""
    may = {*FIELDS[schedule], *OPTIONAL.get(schedule, ())}
    may |= {f"{domain}_source" for domain in DOMAINS if reads(schedule, domain)}
    may |= {method for method in APPLIES[schedule] if method in OPTIONS}
    return tuple(name for name in Recipe.model_fields if name in may)


def reads(schedule: Schedule, domain: DomainName) -> bool:
    """Whether a schedule trains on images of a domain."""
    return f"{domain}_fraction" in FIELDS[schedule]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pretrain(_Part):
    """The first stage of `finetune` and `mixed_finetune`: its length in steps and its learning rate."""

    steps: int = Field(gt=0)
    lr: float = Field(gt=0)


class Gradual(_Part):
    """How the synthetic share of `gradual` falls: in `blocks` of equal length (the last takes what is left), each with
    a share of its own, from `start` to `end` in equal paces. 4 blocks from 1 to 0 are 1, 2/3, 1/3 and 0."""

    blocks: int = Field(default=4, ge=2, le=100)
    start: float = Field(default=1.0, gt=0, le=1)
    end: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _falls(self) -> "Gradual":
        if not self.end < self.start:
            raise ValueError(f"`end < start` must hold, but got (start={self.start:g}, end={self.end:g})")
        return self

    @property
    def shares(self) -> tuple[float, ...]:
        """The synthetic share of each block, first to last."""
        pace = (self.end - self.start) / (self.blocks - 1)
        return (*(self.start + pace * k for k in range(self.blocks - 1)), self.end)


class Recipe(BaseModel):
    """One way to train: schedule, data sources and fractions in (0, 1], adaptation and learning rates.

    real_source         the sources of real images that are read, by name and joined by "+": "original+refined";
                        absent where the search does not vary them, and then all that it has are read
    synthetic_source    the same of synthetic images
    adaptation          the method, and its options under its name where it has any (`fda`, `adain` and so on). Absent
                        from `synthetic_only` where there is none
    real_fraction       share of the labelled real images of its source that is used; nested (5% lies inside 10%)
    synthetic_fraction  share of the synthetic images of its source that is used; nested
    synthetic_share     share of each mixed batch that is synthetic, in (0, 1), or "natural": n_s / (n_s + n_r)
    gradual             how that share falls (`gradual` only)
    pretrain            the stage before the real one (`finetune`: synthetic, `mixed_finetune`: mixed)
    freeze              parts of the model that the real stage leaves as they are, joined by "+": "norm" is every
                        normalisation, "nothing" none, and anything else a prefix of parameters' names ("backbone")
    lr                  learning rate of the last stage
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule
    real_source: str | None = None
    synthetic_source: str | None = None
    adaptation: Adaptation | None = None
    adain: Adain | None = None
    fda: Fda | None = None
    histogram: Histogram | None = None
    pixel_distribution: PixelDistribution | None = None
    adain_image: AdainImage | None = None
    real_fraction: float | None = Field(default=None, gt=0, le=1)
    synthetic_fraction: float | None = Field(default=None, gt=0, le=1)
    synthetic_share: Share | None = None
    gradual: Gradual | None = None
    pretrain: Pretrain | None = None
    freeze: str | None = None
    lr: float = Field(gt=0)

    @model_validator(mode="after")
    def _only_what_applies(self) -> "Recipe":
        applies, needed = fields(self.schedule), FIELDS[self.schedule]
        for name in type(self).model_fields:
            if name == "schedule" or name in OPTIONS:
                continue
            given = getattr(self, name) is not None
            if given and name not in applies:
                raise ValueError(
                    f"{name} does not apply to schedule {self.schedule!r}, but got {getattr(self, name)!r}"
                )
            if not given and name in needed:
                raise ValueError(f"schedule {self.schedule!r} needs {name}, but it is absent")
        self._check_adaptation()
        for domain in DOMAINS:
            _check_joined(f"{domain}_source", self.sources(domain))
        _check_joined("freeze", self.frozen)
        if len(self.frozen) > 1 and "nothing" in self.frozen:
            raise ValueError(f"freeze must be 'nothing' or parts of the model, but got {self.freeze!r}")
        share = self.synthetic_share
        if isinstance(share, float) and not 0 < share < 1:
            raise ValueError(
                f"`0 < synthetic_share < 1` must hold, but got {share}; 0 is real_only and 1 synthetic_only"
            )
        return self

    def _check_adaptation(self) -> None:
        method, applies = self.adaptation, APPLIES[self.schedule]
        if method is not None and method not in applies:
            raise ValueError(
                f"adaptation {method!r} makes no difference to schedule {self.schedule!r}, where a stage sees one"
                f" domain; it has {', '.join(applies)}"
            )
        if method == "none" and "adaptation" not in FIELDS[self.schedule]:
            raise ValueError(f"schedule {self.schedule!r} without an adaptation leaves it out, but got 'none'")
        for name in OPTIONS:
            if (getattr(self, name) is not None) != (name == method):
                must = "must be given for" if name == method else "is of no use without"
                raise ValueError(f"{name} {must} adaptation {name!r}; the adaptation is {method!r}")
        if self.adain_image is not None and self.adain_image.encoder is not None:
            raise ValueError("adain_image.encoder is the search's, not a recipe's; leave it out")

    def params(self) -> dict[str, Any]:
        """The parameters that it has, flat, as `fields` has them: {"schedule": "finetune", "pretrain.steps": 5}."""
        flat: dict[str, Any] = {"schedule": self.schedule}
        for name in fields(self.schedule):
            value = getattr(self, name)
            if isinstance(value, BaseModel):
                flat |= {f"{name}.{part}": inner for part, inner in options_of(value).items()}
            elif value is not None:
                flat[name] = value
        return flat

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> "Recipe":
        """The inverse of `params`; raises pydantic.ValidationError (a ValueError) when they name no recipe."""
        given: dict[str, Any] = {}
        for name, value in params.items():
            part, dot, inner = name.partition(".")
            if dot:
                given.setdefault(part, {})[inner] = value
            else:
                given[name] = value
        return cls.model_validate(given)

    @property
    def options(self) -> Any:
        """What the adaptation is told: its model of `trainables.methods.OPTIONS`, or None."""
        return getattr(self, self.adaptation) if self.adaptation in OPTIONS else None

    @property
    def frozen(self) -> tuple[str, ...]:
        """The parts that are frozen."""
        return () if self.freeze is None else tuple(self.freeze.split("+"))

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
            words.append(f"share={_short(self.synthetic_share)}")
        if self.gradual is not None:
            words.append(f"share={self.gradual.start:.4g}..{self.gradual.end:.4g} in {self.gradual.blocks}")
        if self.pretrain is not None:
            words.append(f"pretrain={self.pretrain.steps}@{self.pretrain.lr:.4g}")
        if self.adaptation not in (None, "none"):
            told = options_of(self.options).items() if self.options else ()
            inner = ",".join(f"{name}={_short(value)}" for name, value in told)
            words.append(str(self.adaptation) + (f"({inner})" if inner else ""))
        if self.freeze not in (None, "nothing"):
            words.append(f"freeze={self.freeze}")
        words.append(f"lr={self.lr:.4g}")
        return " ".join(words)


def _short(value: Any) -> str:
    return format(value, ".4g") if isinstance(value, float) else str(value)


def _check_joined(name: str, parts: tuple[str, ...]) -> None:
    if not all(parts) or len(set(parts)) != len(parts):
        raise ValueError(f"{name} must be distinct names joined by '+', but got {'+'.join(parts)!r}")


def digest(value: Any) -> str:
    """64 hex digits of blake2b over the canonical JSON of a value: sorted keys, no spaces, no NaN.

    Floats are written by their shortest exact form and integers apart from floats, so that 1 and 1.0 differ:
    a value has to be typed (pydantic, dataclass) before it is digested.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
