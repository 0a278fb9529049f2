"""The configuration of the landmark task: what changes its weights or its metrics, frozen and torch-free."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from trainables.base_spec import BaseSpec

STRIDE = 4  # image pixels a heatmap pixel


class LandmarksSpec(BaseSpec):
    """A stacked hourglass at one square resolution.

    points      51 (brows, nose, eyes, mouth) or 68 (the jaw, too), in iBUG's order; for 51, packs may have 68
    stacks      hourglasses one after another, each with a loss of its own; 8 in the paper, 1 or 2 where time is short
    width       multiplies every channel count; 1 is 256 channels (a multiple of 4, and at least 8, are kept)
    depth       how often an hourglass halves its maps
    resolution  side of the square images in pixels, a multiple of 4 * 2**depth; a pack must have this size. Heatmaps
                have a quarter of it
    sigma       of the targets' Gaussians, in heatmap pixels
    decoding    how a heatmap becomes a point (heatmaps.py): "unbiased"; "refined", which tells a hundredth of a pixel
                where "unbiased" tells a quarter; or "reference", the published code's, which alone changes the
                weights too, by its targets
    flip_test   evaluates the mean of an image's and its mirror image's heatmaps; changes no weights
    pretrained  a local file of the published network's weights, or of this one's
    """

    evaluation_fields: ClassVar[Mapping[str, Any]] = {"flip_test": True, "decoding": True}

    kind: Literal["landmarks"]
    points: Literal[51, 68] = 51
    stacks: int = Field(default=8, ge=1, le=16)
    width: float = Field(default=1.0, gt=0, le=2)
    depth: int = Field(default=4, ge=1, le=6)
    resolution: int = Field(default=256, ge=16, le=1024)
    sigma: float = Field(default=1.0, gt=0, le=10)
    decoding: Literal["unbiased", "refined", "reference"] = "unbiased"
    flip_test: bool = False

    @model_validator(mode="after")
    def _halves(self) -> "LandmarksSpec":
        multiple = STRIDE * 2**self.depth
        if self.resolution % multiple:
            raise ValueError(
                f"resolution must be a multiple of {STRIDE} * 2**depth = {multiple} (depth={self.depth}), but is "
                f"{self.resolution}"
            )
        return self

    def training_options(self) -> dict[str, Any]:
        """`decoding` is among them where it has targets of its own."""
        targets = {"decoding": self.decoding} if self.decoding == "reference" else {}
        return super().training_options() | targets
