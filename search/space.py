"""The space: which recipes a search may try, as finite lists and ranges, with each parameter only where it applies."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from search.given import flat, take, take_factor, times
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
from trainables.recipe import DOMAINS, FIELDS, OPTIONAL, DomainName, Recipe, fields, reads


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

    def uneven(self) -> str | None:
        """The first parameter that some recipes have and others have not, if there is one."""
        branches = [self._domains(schedule, method) for schedule, method in self._branches()]
        return next((name for branch in branches for name in branch if not all(name in b for b in branches)), None)

    def domains(self) -> dict[str, BaseDistribution]:
        """What every parameter of a trial may be, those of all schedules and methods together."""
        found: dict[str, BaseDistribution] = {}
        for schedule, method in self._branches():
            found |= self._domains(schedule, method)
        return found

    def distributions(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """What the parameters of a trial may be, of those that its schedule and its method have."""
        axis = self._adaptation_axis(params["schedule"])
        return self._domains(params["schedule"], params[axis[0]] if axis else None)

    def suggest(self, trial: Trial) -> Recipe:
        """Draws a recipe: the schedule first, then the adaptation, then the parameters that they have."""
        params: dict[str, Any] = {"schedule": trial.suggest_categorical("schedule", self.schedule)}
        method = None
        if axis := self._adaptation_axis(params["schedule"]):
            params[axis[0]] = method = trial.suggest_categorical(*axis)
        for name, domain in self._domains(params["schedule"], method).items():
            if isinstance(domain, FloatDistribution):
                params[name] = trial.suggest_float(name, domain.low, domain.high, log=domain.log)
            elif isinstance(domain, CategoricalDistribution) and name not in params:
                params[name] = trial.suggest_categorical(name, domain.choices)
        return self.recipe(params)

    def recipe(self, params: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial's parameters.

        They are the recipe's, but for three: `adaptation.SCHEDULE` is the adaptation where a schedule takes only some
        of the methods (to Optuna the choices under one name never change), `lr_factor` is the rate as a part of
        `pretrain.lr`, and `sqrt(NAME)` is the square root of NAME, where its range is on that scale.
        """
        given: dict[str, Any] = {}
        for name, value in params.items():
            if name.startswith("adaptation."):
                given["adaptation"] = value
            elif name.startswith("sqrt("):
                given[name[5:-1]] = getattr(self, name[5:-1]).clipped(times(value, value))
            else:
                given[name] = value
        if given.get("adaptation") == "none" and "adaptation" not in FIELDS[given["schedule"]]:
            del given["adaptation"]
        if "lr_factor" in given:
            given["lr"] = times(given.pop("lr_factor"), given["pretrain.lr"])
        return Recipe.from_params(given)

    def params_of(self, given: Recipe | Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `recipe`, of a recipe or of its parameters as people write them: nested or flat, `lr_factor`
        or `lr`, the names of a union in any order. Raises ValueError, one line that begins with the parameter's name,
        for what is not of this space."""
        left = flat(given.params() if isinstance(given, Recipe) else given)
        schedule: Schedule = take(left, "schedule", self.schedule)
        params: dict[str, Any] = {"schedule": schedule}
        axis, method = self._adaptation_axis(schedule), None
        if "adaptation" in OPTIONAL.get(schedule, ()):
            left.setdefault("adaptation", "none")
            if axis is None:
                take(left, "adaptation", ("none",))
        if axis is not None:
            params[axis[0]] = method = take(left, "adaptation", axis[1])
        for name, values in self._axes(schedule, method):
            factor = name == "lr_factor"
            value = take_factor(left, values, params["pretrain.lr"]) if factor else take(left, name, values)
            sqrt = isinstance(values, Range) and values.sqrt
            params |= {f"sqrt({name})": math.sqrt(value)} if sqrt else {name: value}
        if left:
            known = ", ".join(self.recipe(params).params())
            raise ValueError(f"{next(iter(left))} must be one of {known}, which such a recipe has, but is none of them")
        return params

    def grid(self) -> dict[str, dict[str, Any]]:
        """Every distinct recipe of a space without ranges, schedule by schedule: a trial's parameters, by its key."""
        found: dict[str, dict[str, Any]] = {}
        for schedule, method in self._branches():
            axis = self._adaptation_axis(schedule)
            chosen = {"schedule": schedule} | ({axis[0]: method} if axis else {})
            axes = self._axes(schedule, method)
            for values in itertools.product(*(values for _, values in axes)):
                params = chosen | dict(zip((name for name, _ in axes), values, strict=True))
                found.setdefault(self.recipe(params).key, params)
        return found

    def enumerate(self) -> list[Recipe]:
        """The recipes of `grid`."""
        return [self.recipe(params) for params in self.grid().values()]

    def _branches(self) -> list[tuple[Schedule, Adaptation | None]]:
        """Every schedule with every method that it has: recipes of one branch have the same parameters."""
        axes = {schedule: self._adaptation_axis(schedule) for schedule in self.schedule}
        return [(schedule, method) for schedule, axis in axes.items() for method in (axis[1] if axis else (None,))]

    def _domains(self, schedule: Schedule, method: str | None) -> dict[str, BaseDistribution]:
        """What the parameters of a trial may be, with a schedule and a method."""
        found: dict[str, BaseDistribution] = {"schedule": CategoricalDistribution(self.schedule)}
        if axis := self._adaptation_axis(schedule):
            found[axis[0]] = CategoricalDistribution(axis[1])
        for name, values in self._axes(schedule, method):
            if not isinstance(values, Range):
                found[name] = CategoricalDistribution(values)
            elif values.sqrt:
                found[f"sqrt({name})"] = FloatDistribution(math.sqrt(values.low), math.sqrt(values.high))
            else:
                found[name] = FloatDistribution(values.low, values.high, log=bool(values.log))
        return found

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
