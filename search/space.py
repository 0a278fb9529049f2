"""The space: which recipes a search may try, as finite lists and ranges, with each parameter only where it applies."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from search.options import (
    DEFAULTS,
    AdainImageSpace,
    AdainSpace,
    FdaSpace,
    GradualSpace,
    HistogramSpace,
    PixelDistributionSpace,
    PretrainSpace,
)
from search.values import Fractions, Range, Rates, Shares, Sources, distinct
from trainables.methods import APPLIES, OPTIONS, Adaptation, Schedule, reads_references
from trainables.recipe import DOMAINS, FIELDS, DomainName, Recipe, fields, reads


class Trial(Protocol):
    """What the space asks of a trial: Optuna's define-by-run interface."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


class SpaceConfig(BaseModel):
    """The search space of the search file. A parameter that no schedule of it has is refused, a missing one named.

    adaptation   the methods. A schedule takes those that mean something in it (trainables/methods.py), and one that
                 takes none is refused; their options go under their names
    lr_factor    learning rates of the real stage of `finetune` and `mixed_finetune`, as parts of `pretrain.lr`, in
                 place of `lr`
    freeze       what that stage leaves as it is, each value a name or a list of names (see Recipe)
    real_source, synthetic_source  which of a domain's sources a recipe reads, each value a name or a union of names;
                                   None is all of them, always
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Annotated[tuple[Schedule, ...], AfterValidator(distinct)]
    real_source: Sources | None = None
    synthetic_source: Sources | None = None
    adaptation: Annotated[tuple[Adaptation, ...], AfterValidator(distinct)] | None = None
    adain: AdainSpace | None = None
    fda: FdaSpace | None = None
    histogram: HistogramSpace | None = None
    pixel_distribution: PixelDistributionSpace | None = None
    adain_image: AdainImageSpace | None = None
    real_fraction: Fractions | None = None
    synthetic_fraction: Fractions | None = None
    synthetic_share: Shares | None = None
    gradual: GradualSpace | None = None
    pretrain: PretrainSpace | None = None
    freeze: Sources | None = None
    lr_factor: Rates | None = None
    lr: Rates | None = None

    @model_validator(mode="after")
    def _what_the_schedules_have(self) -> "SpaceConfig":
        for name in type(self).model_fields:
            if name in ("schedule", "lr", "lr_factor", "gradual") or name in OPTIONS:
                continue
            users = [schedule for schedule in self.schedule if name in fields(schedule)]
            given = getattr(self, name) is not None
            if not given and any(name in FIELDS[schedule] for schedule in users):
                raise ValueError(f"{name} must be given, since schedule {users[0]!r} needs it, but it is absent")
            if given and not users:
                raise ValueError(f"{name} is given, but no schedule of {list(self.schedule)} has it; take it out")
        self._check_rates()
        for name in OPTIONS:
            if getattr(self, name) is not None and name not in (self.adaptation or ()):
                raise ValueError(f"{name} is given, but adaptation does not list it; add it there, or take it out")
        if self.gradual is not None and "gradual" not in self.schedule:
            raise ValueError(f"gradual is given, but schedule lists {list(self.schedule)}; take it out")
        adapted = [schedule for schedule in self.schedule if "adaptation" in fields(schedule)]
        for schedule in adapted:
            if "adaptation" in FIELDS[schedule] and not self.methods(schedule):
                raise ValueError(
                    f"adaptation must list a method that schedule {schedule!r} has, one of"
                    f" {', '.join(APPLIES[schedule])}, but lists {', '.join(self.adaptation or ())}"
                )
        idle = [m for m in self.adaptation or () if not any(m in self.methods(schedule) for schedule in adapted)]
        if idle:
            raise ValueError(
                f"adaptation lists {idle[0]!r}, which makes no difference to any schedule of {list(self.schedule)};"
                " take it out"
            )
        return self

    def _check_rates(self) -> None:
        relative = [schedule for schedule in self.schedule if "pretrain" in FIELDS[schedule]]
        if self.lr_factor is not None and not relative:
            raise ValueError(f"lr_factor is given, but no schedule of {list(self.schedule)} has it; take it out")
        needs = [schedule for schedule in self.schedule if self.lr_factor is None or schedule not in relative]
        if self.lr is None and needs:
            raise ValueError(f"lr must be given, since schedule {needs[0]!r} needs it, but it is absent")
        if self.lr is not None and not needs:
            raise ValueError("lr is given, but lr_factor stands in its place in every schedule; take one of them out")

    def methods(self, schedule: Schedule) -> tuple[Adaptation, ...]:
        """The methods of this space that a schedule takes."""
        return tuple(method for method in self.adaptation or () if method in APPLIES[schedule])

    def needs_references(self) -> str | None:
        """The first method that reads real images without labels in a schedule that has none with labels."""
        for schedule in self.schedule:
            for method in self.methods(schedule):
                if reads_references(method) and not reads(schedule, "real"):
                    return method
        return None

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
        """Draws a recipe: the schedule first, then the adaptation, then the parameters that they have."""
        params: dict[str, Any] = {"schedule": trial.suggest_categorical("schedule", self.schedule)}
        method = None
        if axis := self._adaptation_axis(params["schedule"]):
            params[axis[0]] = method = trial.suggest_categorical(*axis)
        for name, values in self._axes(params["schedule"], method):
            if isinstance(values, Range):
                params[name] = trial.suggest_float(name, values.low, values.high, log=values.log)
            else:
                params[name] = trial.suggest_categorical(name, values)
        return self.recipe(params)

    def recipe(self, params: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial's parameters.

        They are the recipe's, but for two: `adaptation.SCHEDULE` is the adaptation where a schedule takes only some of
        the methods (to Optuna the choices under one name never change), and `lr_factor` is the rate as a part of
        `pretrain.lr`.
        """
        given = {name.partition(".")[0] if name.startswith("adaptation.") else name: v for name, v in params.items()}
        if given.get("adaptation") == "none" and "adaptation" not in FIELDS[given["schedule"]]:
            del given["adaptation"]
        if "lr_factor" in given:
            given["lr"] = float(f"{given.pop('lr_factor') * given['pretrain.lr']:.12g}")  # 0.1 of 0.3 is 0.03
        return Recipe.from_params(given)

    def grid(self) -> dict[str, dict[str, Any]]:
        """Every distinct recipe of a space without ranges, schedule by schedule: a trial's parameters, by its key."""
        found: dict[str, dict[str, Any]] = {}
        for schedule in self.schedule:
            name, methods = self._adaptation_axis(schedule) or ("", (None,))
            for method in methods:
                chosen = {"schedule": schedule} | ({name: method} if method else {})
                axes = self._axes(schedule, method)
                for values in itertools.product(*(values for _, values in axes)):
                    params = chosen | dict(zip((axis for axis, _ in axes), values, strict=True))
                    found.setdefault(self.recipe(params).key, params)
        return found

    def enumerate(self) -> list[Recipe]:
        """The recipes of `grid`."""
        return [self.recipe(params) for params in self.grid().values()]

    def _adaptation_axis(self, schedule: Schedule) -> tuple[str, tuple[Adaptation, ...]] | None:
        """The name and the choices of a schedule's adaptation, where it has one to choose."""
        methods = self.methods(schedule)
        if not methods or (methods == ("none",) and "adaptation" not in FIELDS[schedule]):
            return None
        return "adaptation" if methods == self.adaptation else f"adaptation.{schedule}", methods

    def _axes(self, schedule: Schedule, method: str | None) -> list[tuple[str, Any]]:
        """The other parameters of a schedule with a method, and what they may be."""
        axes: list[tuple[str, Any]] = []
        for name in fields(schedule):
            values = getattr(self, name)
            if name == "adaptation" or (name in OPTIONS and name != method):
                continue
            if name in DEFAULTS:
                values = values or DEFAULTS[name]()
                axes += [(f"{name}.{part}", getattr(values, part)) for part in values.drawn]
            elif isinstance(values, PretrainSpace):
                axes += [("pretrain.steps", values.steps), ("pretrain.lr", values.lr)]
            elif name == "lr" and self.lr_factor is not None and "pretrain" in FIELDS[schedule]:
                axes.append(("lr_factor", self.lr_factor))
            elif values is not None:
                axes.append((name, values))
        return axes
