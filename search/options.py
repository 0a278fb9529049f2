"""What schedules and methods are told, as a space lists it under their names."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from datasets.translation.spec import AdainImage
from datasets.weights import Weights
from search.values import Steps, Strengths, distinct, rates
from trainables.recipe import Gradual


class PretrainSpace(BaseModel):
    """The trunks: finite lists, so that trials can share them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Annotated[tuple[Steps, ...], AfterValidator(distinct)]
    lr: Annotated[tuple[float, ...], AfterValidator(distinct), AfterValidator(rates)]


class _Options(BaseModel):
    """Lists, each with a default, so that it may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def drawn(self) -> tuple[str, ...]:
        """The parameters that a recipe has."""
        return tuple(name for name in type(self).model_fields if name not in ("encoder", "decoder"))


class AdainSpace(_Options):
    layers: Annotated[tuple[Literal["stem", "early", "all"], ...], AfterValidator(distinct)] = ("early",)
    strength: Strengths = (1.0,)


class FdaSpace(_Options):
    beta: Annotated[tuple[Annotated[float, Field(gt=0, le=0.5)], ...], AfterValidator(distinct)] = (0.01,)


class HistogramSpace(_Options):
    strength: Strengths = (1.0,)


class PixelDistributionSpace(_Options):
    transform: Annotated[tuple[Literal["pca", "standard", "minmax"], ...], AfterValidator(distinct)] = ("standard",)
    strength: Strengths = (1.0,)


class AdainImageSpace(_Options):
    """encoder, decoder  local files of weights; both, or neither for the statistics of CIE Lab."""

    strength: Strengths = (1.0,)
    encoder: Weights | None = None
    decoder: Weights | None = None

    @property
    def files(self) -> AdainImage:
        """The method with its files, which are the search's and not a recipe's."""
        return AdainImage(encoder=self.encoder, decoder=self.decoder)

    @model_validator(mode="after")
    def _both_or_neither(self) -> "AdainImageSpace":
        self.files  # noqa: B018  (it checks)
        return self


class GradualSpace(_Options):
    blocks: Annotated[tuple[Annotated[int, Field(ge=2, le=100)], ...], AfterValidator(distinct)] = (4,)
    start: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(distinct)] = (1.0,)
    end: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], AfterValidator(distinct)] = (0.0,)

    @model_validator(mode="after")
    def _falls(self) -> "GradualSpace":
        Gradual(start=min(self.start), end=max(self.end))
        return self


DEFAULTS: dict[str, type[_Options]] = {
    "adain": AdainSpace,
    "fda": FdaSpace,
    "histogram": HistogramSpace,
    "pixel_distribution": PixelDistributionSpace,
    "adain_image": AdainImageSpace,
    "gradual": GradualSpace,
}
