"""The configuration of the face-parsing task: what changes its weights or its metrics, frozen and torch-free."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from datasets.classes import FACE_CLASSES
from trainables.base_spec import BaseSpec

Backbone = Literal[
    "drn_c_26",
    "drn_c_42",
    "drn_c_58",
    "drn_d_22",
    "drn_d_38",
    "drn_d_54",
    "drn_d_56",
    "drn_d_105",
    "mobilenet_v2",
]
RATES = {8: (12, 24, 36), 16: (6, 12, 18)}  # the reference's, by output stride


class SegmentationSpec(BaseSpec):
    """DeepLabv3+ at one square resolution.

    width          multiplies every channel count of backbone, ASPP and decoder (at least 4 channels are kept)
    resolution     side of the square training images in pixels, a multiple of 8; a pack must have this size
    classes        names in the order of the labels, as the packs' manifests have them. Two that differ in "left" and
                   "right" alone, or begin with "l_" and "r_", are a pair, which a flip exchanges
    output_stride  input pixels a pixel of the backbone's features: 8 for a DRN, 16 (or 8) for mobilenet_v2
    aspp_rates     dilations of the three 3x3 ASPP branches; the reference's are 12, 24, 36 at stride 8, 6, 12, 18 at 16
    class_weights  of the cross-entropy, one a class; None weighs all alike
    head_lr        factor on the learning rate of ASPP and decoder; the reference trains them with 10
    pretrained     a local file of published weights: of the backbone (ImageNet) or of the whole network (VOC)
    flip_test      evaluates the mean of an image's and its mirror image's logits; changes no weights
    """

    evaluation_fields: ClassVar[Mapping[str, Any]] = {"flip_test": True}

    kind: Literal["segmentation"]
    backbone: Backbone = "drn_d_22"
    width: float = Field(default=1.0, gt=0, le=2)
    resolution: int = Field(default=256, ge=32, le=2048, multiple_of=8)
    classes: tuple[str, ...] = Field(default=FACE_CLASSES, min_length=2, max_length=255)
    output_stride: Literal[8, 16]
    aspp_rates: tuple[int, int, int]
    class_weights: tuple[float, ...] | None = None
    head_lr: float = Field(default=1.0, gt=0)
    flip_test: bool = False

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_backbone(cls, given: Any) -> Any:
        """Written out, so that leaving them out and stating them are the same training."""
        if not isinstance(given, dict):
            return given
        natural = 16 if given.get("backbone") == "mobilenet_v2" else 8
        stride = given.get("output_stride", natural)
        return {"output_stride": natural, "aspp_rates": RATES.get(stride, RATES[8]), **given}

    @model_validator(mode="after")
    def _fits_together(self) -> "SegmentationSpec":
        if self.backbone != "mobilenet_v2" and self.output_stride != 8:
            raise ValueError(f"output_stride must be 8 for {self.backbone}, but got {self.output_stride}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be distinct, but got {list(self.classes)}")
        if self.class_weights is not None:
            if len(self.class_weights) != len(self.classes):
                raise ValueError(
                    f"class_weights must be {len(self.classes)}, one a class, but got {len(self.class_weights)}"
                )
            if not all(0 <= weight < float("inf") for weight in self.class_weights) or not any(self.class_weights):
                raise ValueError(f"class_weights must be 0 or more and not all 0, but got {list(self.class_weights)}")
        return self

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The labels that a horizontal flip exchanges: (2, 3) of "eye_left" and "eye_right", or "l_eye" and "r_eye"."""
        others = [re.sub("^l_", "r_", name.replace("left", "right")) for name in self.classes]
        return tuple(
            (number, self.classes.index(other))
            for number, other in enumerate(others)
            if other != self.classes[number] and other in self.classes
        )
