"""The configuration of the face-parsing task: what changes its weights, frozen and torch-free."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SegmentationSpec(BaseModel):
    """DeepLabv3+ on a DRN backbone at one square resolution.

    width        multiplies every channel count of backbone, ASPP and decoder (at least 4 channels are kept)
    resolution   side of the square training images in pixels, a multiple of 8; a pack must have this size
    num_classes  the nine of `datasets.classes.FACE_CLASSES`: the augmentation's flip knows which of them are a pair
    aspp_rates   dilations of the three 3x3 ASPP branches; the reference's at output stride 8 are 12, 24, 36
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["segmentation"]
    backbone: Literal["drn_d_22"] = "drn_d_22"
    width: float = Field(default=1.0, gt=0, le=2)
    resolution: int = Field(default=256, ge=32, le=2048, multiple_of=8)
    num_classes: Literal[9] = 9
    aspp_rates: tuple[int, int, int] = (12, 24, 36)
