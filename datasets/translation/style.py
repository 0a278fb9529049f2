"""The style transfer network of adaptive instance normalisation: VGG-19 to relu4_1, and a decoder that mirrors it.

Huang and Belongie 2017. Layers, their numbers in `nn.Sequential` and the convention of the statistics (variance over
n - 1, plus 1e-5) are those of naoto0804/pytorch-AdaIN, so that its published files load.
"""

import torch
from torch import Tensor, nn

from datasets.weights import Weights, load_weights

EPSILON = 1e-5
BEYOND = r"^(3[1-9]|[45]\d)\."  # the published encoder goes on to relu5_4
ENCODER = ((64, 64), (128, 128), (256, 256, 256, 256), (512,))  # channels of the convolutions between poolings
DECODER = ((256,), (256, 256, 256, 128), (128, 64), (64, 3))  # and between upsamplings
STRIDE = 2 ** (len(ENCODER) - 1)


class Encoder(nn.Sequential):
    """RGB float32 [N, 3, H, W] in [0, 1] -> relu4_1 [N, 512, H / 8, W / 8]; 3,505,740 parameters. The first layer, 1x1,
    holds the normalisation that the published weights expect."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
        channels = 3
        for number, block in enumerate(ENCODER):
            if number:
                layers.append(nn.MaxPool2d(2))
            for out in block:
                layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, out, 3), nn.ReLU(inplace=True)]
                channels = out
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """Features [N, 512, H / 8, W / 8] -> RGB float32 [N, 3, H, W], about [0, 1] and not clipped; 3,505,219
    parameters."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = 512
        for number, block in enumerate(DECODER):
            if number:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            for out in block:
                layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, out, 3), nn.ReLU(inplace=True)]
                channels = out
        super().__init__(*layers[:-1])  # the last convolution gives the image


def match_statistics(content: Tensor, style: Tensor) -> Tensor:
    """AdaIN: `content` [N, C, H, W] with the mean and deviation over space of each channel of `style` [N, C, h, w]."""
    mean, std = _statistics(content)
    wanted_mean, wanted_std = _statistics(style)
    return (content - mean) / std * wanted_std + wanted_mean


class StyleTransfer(nn.Module):
    """decoder(a AdaIN(encoder(content), encoder(style)) + (1 - a) encoder(content)), a the strength.

    Content and style float32 [N, 3, H, W] in [0, 1], sides multiples of 8 from 16 on: reflection needs two values, and
    so does a variance.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.encoder, self.decoder, self.strength = Encoder(), Decoder(), strength

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        features, wanted = self.encoder(content), self.encoder(style)
        image: Tensor = self.decoder(torch.lerp(features, match_statistics(features, wanted), self.strength))
        return image


def loaded(strength: float, encoder: Weights, decoder: Weights) -> StyleTransfer:
    """The network with the weights of two files. Raises ValueError, one line that names the file that does not fit."""
    model = StyleTransfer(strength).eval().requires_grad_(False)
    load_weights(model.encoder, encoder, drop=(BEYOND,))
    load_weights(model.decoder, decoder)
    return model


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over space, each [N, C, 1, 1]."""
    variance, mean = torch.var_mean(features, dim=(2, 3), correction=1, keepdim=True)
    return mean, (variance + EPSILON).sqrt()
