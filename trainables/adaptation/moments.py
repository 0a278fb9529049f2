"""Mean and variance of every sample's channels, and the affine map that normalises with whatever is made of them.

Every method that mixes, pools or exchanges statistics is small sums of these [B, C] numbers between two passes over the
features. Two passes for the moments (the mean, then squares around it) keep a small variance beside a large mean.
The sums are torch's batch normalisation kernels, told that each (sample, channel) is a channel: float32 sums and
arithmetic for bfloat16 features, on CPU and GPU, and bits that do not depend on the run.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of features float [B, C, H, W]: the features without their mean, in x's dtype; mean and biased variance over
    H and W, float64 [B, C], of float32 sums. Differentiable."""
    return _Moments.apply(x)


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale + shift in x's dtype; x float [B, C, H, W], scale and shift float64 [B, C]. Differentiable."""
    return _Affine.apply(x, scale, shift)


class _Moments(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.contiguous()
        mean = x.mean((2, 3), dtype=_wide(x))
        centred = (x - mean[:, :, None, None]).to(x.dtype)
        norm = torch.linalg.vector_norm(centred, dim=(2, 3), dtype=_wide(x))
        ctx.save_for_backward(centred)
        return centred, mean.double(), norm.double().square() / x[0, 0].numel()

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        # d centred = dx - mean(dx), d mean = mean(dx), d var = 2 mean(centred dx); centred has the mean 0.
        (centred,) = ctx.saved_tensors
        size = centred[0, 0].numel()
        constant = grad_mean / size - grad.mean((2, 3), dtype=_wide(grad))
        return _map(centred, grad_var * (2 / size), constant).add_(grad)


class _Affine(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return _map(x, scale, shift)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, scale = ctx.saved_tensors
        flat, zeros, ones = _constants(x)
        dx, grad_scale, grad_shift = torch.ops.aten.native_batch_norm_backward(
            _flat(grad),
            flat,
            scale.to(zeros.dtype).reshape(-1),
            zeros,
            ones,
            None,
            None,
            False,
            0.0,
            [True, True, True],
        )
        return dx.view(x.shape), grad_scale.view(scale.shape).double(), grad_shift.view(scale.shape).double()


def _map(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    flat, zeros, ones = _constants(x)
    # Written into a tensor that is no view: what follows a normalisation works in place.
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    torch.ops.aten.native_batch_norm.out(
        *(flat, scale.to(zeros.dtype).reshape(-1), shift.to(zeros.dtype).reshape(-1), zeros, ones, False, 0.0, 0.0),
        out=_flat(y),
        save_mean=zeros.new_empty(0),
        save_invstd=zeros.new_empty(0),
    )
    return y


def _constants(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x with a channel for each (sample, channel), and the statistics that leave it as it is."""
    flat = _flat(x)
    return flat, *_standard(flat.shape[1], _wide(x), x.device)


@lru_cache(maxsize=256)
def _standard(channels: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """A mean of 0 and a variance of 1, which nothing writes to."""
    with torch.inference_mode(False):
        return torch.zeros(channels, dtype=dtype, device=device), torch.ones(channels, dtype=dtype, device=device)


def _flat(x: Tensor) -> Tensor:
    """[B, C, H, W] as [1, B C, H, W]; the kernels want it contiguous."""
    return x.contiguous().view(1, -1, *x.shape[2:])


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
