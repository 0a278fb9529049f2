"""The losses of BackgroundMattingV2: alpha, its edges, the foreground's colours, and the error that it predicts.

Lin et al., "Real-Time High-Resolution Background Matting" (CVPR 2021), section 4. Each is a dict of named scalar terms
whose sum is "total". Everything is computed in float32, also under autocast.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.matting.model import Matte, RefinedMatte

EPSILON = 1e-6  # under the root of the edges' magnitude: a flat area has 1e-3


def base_loss(matte: Matte, alpha: Tensor, foreground: Tensor) -> dict[str, Tensor]:
    """Of the base network, for the true alpha [B, 1, H, W] and foreground [B, 3, H, W], float32 in [0, 1].

    alpha       mean absolute error
    sobel       that of the alphas' edges
    foreground  that of the colours where the true alpha is not 0, averaged over all pixels
    error       mean square of the predicted error less the true one, through which no gradient reaches alpha
    """
    true_error = (matte.alpha.float().detach() - alpha).abs()
    terms = {
        **_terms("", matte.alpha, matte.foreground, alpha, foreground),
        "error": F.mse_loss(matte.error.float(), true_error),
    }
    return _with_total(terms)


def refine_loss(matte: RefinedMatte, alpha: Tensor, foreground: Tensor) -> dict[str, Tensor]:
    """Of base network and refiner together; arguments and terms as `base_loss` has them.

    The terms with _small are those of the base network at its size, where the truth is resized bilinearly. The error
    is compared at full size with that of the base network's alpha, through which gradients do reach it.
    """
    alpha_small, foreground_small = (_resize(true, matte.alpha_small) for true in (alpha, foreground))
    true_error = (_resize(matte.alpha_small.float(), alpha) - alpha).abs()
    terms = {
        **_terms("", matte.alpha, matte.foreground, alpha, foreground),
        **_terms("_small", matte.alpha_small, matte.foreground_small, alpha_small, foreground_small),
        "error": F.mse_loss(_resize(matte.error_small.float(), alpha), true_error),
    }
    return _with_total(terms)


def sobel(x: Tensor) -> Tensor:
    """The magnitude of the gradient, [B, 1, H, W] of the same shape: Sobel's kernels over 8, the border repeated,
    sqrt(gx^2 + gy^2 + EPSILON).

    Differences and sums of shifted images: those have deterministic gradients on every device.
    """
    across, down = _difference(_smooth(x, 2), 3), _difference(_smooth(x, 3), 2)
    return ((across / 8).square() + (down / 8).square() + EPSILON).sqrt()


def _terms(suffix: str, alpha: Tensor, colours: Tensor, true_alpha: Tensor, foreground: Tensor) -> dict[str, Tensor]:
    alpha, colours = alpha.float(), colours.float()
    seen = (true_alpha != 0).float()
    return {
        f"alpha{suffix}": F.l1_loss(alpha, true_alpha),
        f"sobel{suffix}": F.l1_loss(sobel(alpha), sobel(true_alpha)),
        f"foreground{suffix}": F.l1_loss(colours * seen, foreground * seen),
    }


def _with_total(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**terms, "total": torch.stack(list(terms.values())).sum()}


def _smooth(x: Tensor, axis: int) -> Tensor:
    """[1, 2, 1] along an axis."""
    before, after = _neighbours(x, axis)
    return before + 2 * x + after


def _difference(x: Tensor, axis: int) -> Tensor:
    """[-1, 0, 1] along an axis."""
    before, after = _neighbours(x, axis)
    return after - before


def _neighbours(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Each value's neighbours along an axis; the border's own stand for those beyond it."""
    size = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)], dim=axis)
    after = torch.cat([x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)], dim=axis)
    return before, after


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
