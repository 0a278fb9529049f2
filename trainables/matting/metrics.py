"""Errors of alpha and foreground, along the boundary of the true alpha and over the whole image.

The definitions are those of the matting benchmarks (Rhemann et al., "A Perceptually Motivated Online Benchmark for
Image Matting", CVPR 2009) as BackgroundMattingV2 evaluates: predictions are rounded to 8 bits, as files would hold
them, and each value is an average over images.
"""

from collections.abc import Callable
from math import ceil, log, pi, sqrt

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from trainables.task import Batch

BOUNDARY = (0.06, 0.96)  # alphas between these are unknown
CLOSING = 10  # dilations, then as many erosions, by a 3x3 cross
SIGMA = 1.4  # pixels, of the gradient's Gaussian
LEVELS = np.arange(1, 11).astype(np.float32) / np.float32(10)  # of the connectivity
IGNORED = np.float32(0.15)  # a smaller disconnection counts as none

# What an image's value is a multiple of when it is added, so that sums are exact in any order: means and sums.
MEANS, SUMS = ("mse", "mae", "fgr_mse", "fgr_mae", "iou"), ("sad", "grad", "conn")
UNIT = dict.fromkeys(MEANS, 2.0**-40) | dict.fromkeys(SUMS, 2.0**-20)
NAMES = (*UNIT, *(f"whole/{name}" for name in UNIT))

Predict = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]


class MattingEvaluator:
    """Sums the metrics of images; `predict(model, batch)` gives alpha [B, 1, H, W] and foreground [B, 3, H, W], float
    in [0, 1], of a batch that also has the true "alpha" uint8 [B, H, W] and "foreground" uint8 [B, H, W, 3]."""

    def __init__(self, predict: Predict, device: torch.device) -> None:
        self.predict = predict
        self.sums = torch.zeros(len(NAMES), dtype=torch.int64, device=device)  # in units of UNIT
        self.counts = torch.zeros(len(NAMES), dtype=torch.int64, device=device)  # images that have the metric

    def update(self, model: nn.Module, batch: Batch) -> None:
        alpha, foreground = self.predict(model, batch)
        arrays = (
            _bytes(alpha)[:, 0],
            batch["alpha"].cpu().numpy(),
            _bytes(foreground).transpose(0, 2, 3, 1),
            batch["foreground"].cpu().numpy(),
        )
        images = [errors(*image) for image in zip(*arrays, strict=True)]
        values = np.array([[image[name] for name in NAMES] for image in images])
        units = np.array([UNIT[name.rpartition("/")[2]] for name in NAMES])
        known = np.isfinite(values)
        fixed = np.rint(np.where(known, values, 0) / units).astype(np.int64)
        self.sums += torch.from_numpy(fixed.sum(0)).to(self.sums.device)
        self.counts += torch.from_numpy(known.sum(0)).to(self.counts.device)

    def state(self) -> dict[str, Tensor]:
        return {"sums": self.sums, "counts": self.counts}

    def compute(self) -> dict[str, float]:
        """The averages of `errors` over the images that have them; NaN where none has."""
        pairs = zip(NAMES, self.sums.tolist(), self.counts.tolist(), strict=True)
        return {
            name: total * UNIT[name.rpartition("/")[2]] / count if count else float("nan")
            for name, total, count in pairs
        }


def errors(alpha: np.ndarray, true_alpha: np.ndarray, colours: np.ndarray, foreground: np.ndarray) -> dict[str, float]:
    """The metrics of one image, of alphas uint8 [H, W] and foregrounds uint8 [H, W, 3], predicted and true.

    mse, mae          mean square and absolute error of alpha in [0, 1]
    fgr_mse, fgr_mae  of the colours where the true alpha is not 0; elsewhere they count as right
    iou               of the pixels whose alpha is at least 0.5
    sad               sum of the absolute errors of alpha / 1000
    grad              sum of the squared differences of the alphas' gradients (`gradient`)
    conn              sum of the differences of the alphas' connectivity (`connectivity`)

    All of them over the `boundary` of the true alpha, and under whole/ over all pixels. NaN where the boundary is
    empty, and the IoU where there is nothing to unite.
    """
    p, g = alpha / np.float64(255), true_alpha / np.float64(255)
    seen = (true_alpha > 0)[..., None]
    colour = np.where(seen, (colours.astype(np.float64) - foreground) / 255, 0)
    maps = {
        "mse": (p - g) ** 2,
        "mae": np.abs(p - g),
        "fgr_mse": (colour**2).mean(2),
        "fgr_mae": np.abs(colour).mean(2),
        "grad": (gradient(alpha) - gradient(true_alpha)) ** 2,
        "conn": np.abs(np.subtract(*connectivity(alpha, true_alpha), dtype=np.float64)),
    }
    inside, truly = p >= 0.5, g >= 0.5
    values = {}
    for prefix, where in (("", boundary(true_alpha)), ("whole/", np.ones(alpha.shape, bool))):
        size = np.count_nonzero(where)
        union = np.count_nonzero((inside | truly) & where)
        for name in UNIT:
            if not size or (name == "iou" and not union):
                value = float("nan")
            elif name == "iou":
                value = np.count_nonzero(inside & truly & where) / union
            elif name == "sad":
                value = maps["mae"][where].sum() / 1000
            else:
                total = maps[name][where].sum()
                value = total if name in ("grad", "conn") else total / size
            values[prefix + name] = float(value)
    return values


def boundary(alpha: np.ndarray) -> np.ndarray:
    """The unknown region of a true alpha uint8 [H, W], bool [H, W]: alphas between BOUNDARY, closed.

    The rule of BackgroundMattingV2's supplementary; the circular element of 3 pixels is a cross.
    """
    between = ((alpha > BOUNDARY[0] * 255) & (alpha < BOUNDARY[1] * 255)).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.erode(cv2.dilate(between, cross, iterations=CLOSING), cross, iterations=CLOSING).astype(bool)


def gradient(alpha: np.ndarray) -> np.ndarray:
    """The magnitude of the gradient of an alpha uint8 [H, W] stretched to [0, 1], float64 [H, W].

    By derivatives of a Gaussian of SIGMA, each kernel over its L2 norm, the border repeated.
    """
    low, high = float(alpha.min()), float(alpha.max())
    stretched = (alpha - low) / (high - low) if high > low else np.zeros(alpha.shape)
    half = ceil(SIGMA * sqrt(-2 * log(sqrt(2 * pi) * SIGMA * 0.01)))
    x = np.arange(-half, half + 1, dtype=np.float64)
    gaussian = np.exp(-(x**2) / (2 * SIGMA**2))
    slope = x * gaussian
    gaussian, slope = gaussian / np.linalg.norm(gaussian), slope / np.linalg.norm(slope)
    across = cv2.sepFilter2D(stretched, cv2.CV_64F, slope, gaussian, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(stretched, cv2.CV_64F, gaussian, slope, borderType=cv2.BORDER_REPLICATE)
    return np.hypot(across, down)


def connectivity(alpha: np.ndarray, true_alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel of two alphas uint8 [H, W] belongs to what both are sure of, float32 [H, W] in [0, 1] each.

    At each of LEVELS that is the largest 4-connected set of pixels whose alphas both reach it; a pixel's level is the
    last one before it leaves that set, and its connectivity is 1 less what its alpha is above that, if IGNORED or more.
    Compared in float32, as the reference is: 51/255 reaches 0.2.
    """
    alphas = [array / np.float32(255) for array in (alpha, true_alpha)]
    both = np.minimum(*alphas)
    level = np.full(alpha.shape, np.float32(-1))
    for below, at in zip(np.concatenate([[np.float32(0)], LEVELS]), LEVELS, strict=False):
        connected = _largest(both >= at)
        level[(level < 0) & ~connected] = below
    level[level < 0] = 1
    one, other = (1 - np.where(a - level >= IGNORED, a - level, np.float32(0)) for a in alphas)
    return one, other


def _largest(where: np.ndarray) -> np.ndarray:
    """The largest 4-connected component of bool [H, W]; nothing where there is none."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(where.astype(np.uint8), connectivity=4)
    if count < 2:
        return np.zeros(where.shape, bool)
    return labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))


def _bytes(x: Tensor) -> np.ndarray:
    return (x.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
