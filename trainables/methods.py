"""Which adaptation methods there are, which schedules they mean something in, and what each is told."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from datasets.translation.spec import AdainImage, Fda, Histogram, PixelDistribution

Schedule = Literal["real_only", "synthetic_only", "mixed", "gradual", "finetune", "mixed_finetune"]
NetworkMethod = Literal["none", "real_bn", "adabn", "dsbn", "dson", "adain"]
ImageMethod = Literal["fda", "histogram", "pixel_distribution", "adain_image"]
Adaptation = Literal[NetworkMethod, ImageMethod]

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
ADAPTATIONS: tuple[Adaptation, ...] = get_args(Adaptation)
IMAGE_METHODS: tuple[ImageMethod, ...] = get_args(ImageMethod)

# Where both domains are in one stage, every method makes a difference. Where synthetic images come first and real ones
# after, a stage sees one domain, trains the plain model and leaves no second branch to keep: what dsbn, dson and adain
# would do there is "none", and a space has one name for one training.
APPLIES: dict[Schedule, tuple[Adaptation, ...]] = {
    "real_only": (),
    "synthetic_only": ("none", "adabn", *IMAGE_METHODS),
    "mixed": ADAPTATIONS,
    "gradual": ADAPTATIONS,
    "finetune": ("none", "real_bn", "adabn", *IMAGE_METHODS),
    "mixed_finetune": ADAPTATIONS,
}


class Adain(BaseModel):
    """Adaptive instance normalisation of features: which layers, and how far.

    layers    the first normalisation of the network ("stem"), the first third of them ("early"), or "all"
    strength  the weight of the real images' statistics; the rest is the synthetic image's own
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: Literal["stem", "early", "all"] = "early"
    strength: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0


# What the methods that are told something are told. Files of weights are the search's affair, and not a recipe's.
OPTIONS: dict[Adaptation, type[BaseModel]] = {
    "adain": Adain,
    "fda": Fda,
    "histogram": Histogram,
    "pixel_distribution": PixelDistribution,
    "adain_image": AdainImage,
}
_NOT_OPTIONS = {"method", "encoder", "decoder"}


def options_of(value: BaseModel) -> dict[str, Any]:
    """What a method is told, by name."""
    return value.model_dump(mode="json", exclude=_NOT_OPTIONS)


def reads_references(method: str | None) -> bool:
    """Whether a method reads real images without their labels."""
    return method == "adabn" or method in IMAGE_METHODS
