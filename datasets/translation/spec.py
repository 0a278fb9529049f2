"""TranslationSpec: which method makes synthetic images look real, and how strongly. Frozen, torch-free, in keys."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from datasets.weights import Weights

Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def identified(self, folder: Path) -> Self:
        """This spec with the digests of its files, relative paths being meant from `folder`; without files, itself.

        Raises ValueError, one line, when a file cannot be read.
        """
        return self


class Fda(_Spec):
    """Fourier domain adaptation: the amplitudes of low frequencies are the reference's, the phases stay (Yang and
    Soatto 2020, equations 2 and 3).

    beta  half the side of the window of swapped frequencies, as a part of the image's side; the paper uses 0.01, 0.05
          and 0.09. Below one pixel of a side (beta 0.01 at 64 pixels) only the mean colour is the reference's, and at
          0.5 all amplitudes are
    """

    method: Literal["fda"] = "fda"
    beta: float = Field(default=0.01, gt=0, le=0.5, allow_inf_nan=False)


class Histogram(_Spec):
    """Histogram matching: each channel gets the reference's distribution (Gonzalez and Woods, chapter 3).

    strength  the weight of the matched image; the rest is the image as it was
    """

    method: Literal["histogram"] = "histogram"
    strength: Strength = 1.0


class PixelDistribution(_Spec):
    """The colours as points of a space of three axes, moved to where the reference's lie (as the package qudida does).

    transform  standard: mean and deviation of each channel are the reference's; minmax: least and largest value of each
               are; pca: the mean and the principal axes are, the spread along each axis stays
    strength   the weight of the moved colours; the rest is the image as it was
    """

    method: Literal["pixel_distribution"] = "pixel_distribution"
    transform: Literal["pca", "standard", "minmax"] = "standard"
    strength: Strength = 1.0


class AdainImage(_Spec):
    """Mean and deviation of each channel become the reference's, in a space where that is a matter of style.

    encoder, decoder  local files of weights, both or neither. With them the channels are the features of VGG-19 at
                      relu4_1, and the decoder makes an image of the result (adaptive instance normalisation, Huang and
                      Belongie 2017), in the layers and names of naoto0804/pytorch-AdaIN. Without them the channels are
                      those of CIE Lab (after Reinhard et al. 2001, who use another space of lightness and opponent
                      colours)
    strength          the weight of the reference's statistics, and the rest the image's own. The decoder loses detail
                      at any strength, so that with it a small strength is not the image as it was
    """

    method: Literal["adain_image"] = "adain_image"
    strength: Strength = 1.0
    encoder: Weights | None = None
    decoder: Weights | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.encoder is None) != (self.decoder is None):
            given, lacking = ("decoder", "encoder") if self.encoder is None else ("encoder", "decoder")
            raise ValueError(
                f"encoder and decoder go together, but got {given} alone; name {lacking}'s file too, or neither for Lab"
            )
        return self

    def identified(self, folder: Path) -> Self:
        if self.encoder is None or self.decoder is None:
            return self
        files = {"encoder": self.encoder.identified(folder), "decoder": self.decoder.identified(folder)}
        return self.model_copy(update=files)


TranslationSpec = Annotated[Fda | Histogram | PixelDistribution | AdainImage, Field(discriminator="method")]
