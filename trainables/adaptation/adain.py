"""`adain`: in training, the features of synthetic samples take the channel statistics of real ones.

Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization" (ICCV 2017): here not
between an encoder and a decoder, but before the BatchNorm2d of chosen layers, which so sees real statistics only (at
strength 1). Variances are divided by n - 1 and have 1e-5 added on both sides, as in naoto0804/pytorch-AdaIN. The real
side is constant, as in both implementations, whose encoders have no gradient: no real feature is trained to be a style.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from trainables.adaptation.batch_norm import SharedBatchNorm2d
from trainables.adaptation.moments import affine, moments
from trainables.adaptation.pooled import Pooled, parameters, world_size
from trainables.adaptation.split import Pairs, Split

EPS = 1e-5  # on the variances of both sides


def restyled(content: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
    """Content float [B, C, H, W] with the mean and deviation of style float [B, C, h, w], per sample and channel.

    strength in [0, 1]: the result is strength * AdaIN(content, style) + (1 - strength) * content.
    """
    centred, mean, var = moments(content)
    _, style_mean, style_var = moments(style.detach())
    deviation = (_unbiased(style_var, style) + EPS).sqrt()
    factor, shift = _map(mean, _unbiased(var, content), style_mean, deviation, strength)
    return affine(centred, factor, shift)


class AdaInBatchNorm2d(SharedBatchNorm2d):
    """BatchNorm2d before which synthetic samples take the statistics of real ones. Float [B, C, H, W].

    In training, inside `domains`: synthetic sample i takes those of real sample i mod num_real of the same batch, with
    `strength` in [0, 1]. It is BatchNorm2d in evaluation, for a batch of one domain, and for maps of one pixel, where
    nothing of a sample would be left. The restyling and the normalisation are one affine map of the features.
    """

    method = "adain"
    strength = 1.0

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        split = self.known_split(input)
        if self.strength == 0 or input[0, 0].numel() == 1 or split.pairs is None:
            return super().forward(input)
        centred, mean, var = moments(input)
        factor, mean = self._styles(split, split.pairs, mean, _unbiased(var, input))
        pooled = Pooled.of(mean, factor.square() * var, input[0, 0].numel(), split.everything)
        pooled.track(0, self)
        batch_mean, batch_var = pooled.used([self])
        weight, bias = parameters([self]).chunk(2, dim=1)
        scale = weight * torch.rsqrt(batch_var + self.eps)
        return affine(centred, factor * scale, bias + (mean - batch_mean) * scale)

    def _styles(self, split: Split, pairs: Pairs, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """What each sample's centred features are multiplied by, and their mean then, [B, C]."""
        real, synthetic = split.where
        styles = torch.cat([mean, (var + EPS).sqrt()], dim=1).detach()
        table = styles.new_zeros(pairs.num_real, styles.shape[1])
        table[pairs.real] = styles[real]
        if world_size() > 1:
            dist.all_reduce(table)  # every real sample is one rank's
        style_mean, deviation = table[pairs.partner].chunk(2, dim=1)
        factor, shift = _map(mean[synthetic], var[synthetic], style_mean, deviation, self.strength)
        place = synthetic[:, None].expand(-1, mean.shape[1])
        return torch.ones_like(mean).scatter(0, place, factor), mean.scatter(0, place, shift)


def _map(mean: Tensor, var: Tensor, style_mean: Tensor, deviation: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """What centred content is multiplied by, and its mean then."""
    factor = strength * deviation * torch.rsqrt(var + EPS) + (1 - strength)
    return factor, strength * style_mean + (1 - strength) * mean


def _unbiased(var: Tensor, of: Tensor) -> Tensor:
    size = of[0, 0].numel()
    return var * (size / (size - 1))
