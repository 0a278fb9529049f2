"""The configuration of the background-matting task: what changes its weights, frozen and torch-free."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainables.base_spec import BaseSpec, Phase


class BasePhase(BaseModel):
    """How the base network is trained before phase refine, on the same data: steps, and the largest learning rate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0)
    lr: float = Field(gt=0, allow_inf_nan=False)


class Refinement(BaseModel):
    """How the refiner is used; the defaults are the reference's.

    backbone_scale  side of the images that the base network sees over the whole one's; at most 1/2
    mode            which cells of 4x4 pixels are refined in evaluation: "sampling" those of the largest predicted
                    error, "thresholding" those above a threshold, "full" all. Training always samples
    sample_pixels   refined pixels of an image in training and in "sampling", 16 a cell; no more than it has
    threshold       of "thresholding", on the predicted error in [0, 1]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone_scale: float = Field(default=0.25, gt=0, le=0.5)
    mode: Literal["sampling", "thresholding", "full"] = "sampling"
    sample_pixels: int = Field(default=80_000, ge=16)
    threshold: float = Field(default=0.1, ge=0, lt=1)


class MattingSpec(BaseSpec):
    """BackgroundMattingV2 at one square resolution.

    phase       "base" trains the base network alone; "refine" trains it with the refiner, at a reduced size
    width       multiplies every channel count of backbone, ASPP and decoder, rounded to multiples of 8
    resolution  side of the square training images in pixels, a multiple of 4; a pack must have this size
    base        the phase before phase refine; without it that starts from initial weights, or `pretrained`
    refinement  of phase refine; its defaults where it is absent
    pretrained  a local file of published weights: a BackgroundMattingV2, a DeepLabv3 of VainF's, or a backbone
    """

    evaluation_fields: ClassVar[Mapping[str, Any]] = {"refinement": {"mode": True, "threshold": True}}
    composes: ClassVar[bool] = True

    kind: Literal["matting"]
    phase: Literal["base", "refine"] = "base"
    backbone: Literal["mobilenet_v2", "resnet50", "resnet101"] = "mobilenet_v2"
    width: float = Field(default=1.0, gt=0, le=2)
    resolution: int = Field(default=512, ge=32, le=4096, multiple_of=4)
    base: BasePhase | None = None
    refinement: Refinement | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_phase(cls, given: Any) -> Any:
        """Written out, so that leaving them out and stating them are the same training."""
        if isinstance(given, dict) and given.get("phase") == "refine" and given.get("refinement") is None:
            return {**given, "refinement": {}}
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> "MattingSpec":
        for name in ("base", "refinement"):
            if self.phase == "base" and getattr(self, name) is not None:
                raise ValueError(f"{name} must be absent in phase base, where it has no meaning; set phase: refine")
        small = int(self.resolution * self.refiner.backbone_scale)
        if self.phase == "refine" and small < 8:
            raise ValueError(f"resolution x backbone_scale must be at least 8 pixels, but is {small}; raise either")
        return self

    @property
    def refiner(self) -> Refinement:
        """The refinement, or its defaults."""
        return self.refinement or Refinement()

    @property
    def phases(self) -> tuple[Phase, ...]:
        if self.base is None:
            return ()
        spec = self.model_copy(update={"phase": "base", "base": None, "refinement": None})
        return (Phase(spec, self.base.steps, self.base.lr),)
