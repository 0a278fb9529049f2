"""How far landmarks are off: NME, PCK, failure rate and AUC, each as a mean of numbers of images or of points.

That each is a plain mean makes them exact over ranks: also AUC, since the integral of the cumulative error distribution
up to t, over t, is the mean of max(0, 1 - NME / t).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from datasets.landmarks import EYES, OUTER_CORNERS, REGIONS, first_of
from trainables.task import Batch

PCK = tuple(k / 100 for k in range(1, 11))
FAILURE = (0.08, 0.1)
SCALE = 2.0**30  # values are summed as whole multiples of 1/SCALE: integers, whose sum knows no order
LARGEST = 1024.0  # any error beyond is as bad; so 2**23 of them can be added


def measure(prediction: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """The numbers whose means are the metrics, float64, NaN where not defined. Points [B, K, 2], K 51 or 68, in pixels.

    nme             mean distance over the points of a face, divided by that of the outer corners of its eyes (the
                    300-W challenge's, Sagonas et al. 2016); points whose truth is NaN are left out
    nme_pupil       divided by the distance of the middles of the eyes' points
    nme_box         divided by the diagonal of the box around the true points (Menpo, Zafeiriou et al. 2017)
    region_nme/...  nme over a region's points
    point_nme/...   one point's; it is called by its place among the 68, from 0
    pck/t           share of points, over all faces, whose distance is below t times the outer corners'
    fr/t            share of faces with nme above t: failures
    auc/t           area under the share of faces with an nme below x, for x from 0 to t, over t

    A face for which a divisor is not known, or is 0, does not count where that divides.
    """
    first = first_of(truth.shape[1])
    prediction, truth = prediction.double(), truth.double()
    distance = torch.linalg.vector_norm(prediction - truth, dim=2)
    left, right = (truth[:, corner - first] for corner in OUTER_CORNERS)
    pupils = [truth[:, begin - first : end - first].mean(1) for begin, end in EYES]
    known = ~truth.isnan()
    box = torch.where(known, truth, -torch.inf).amax(1) - torch.where(known, truth, torch.inf).amin(1)
    error = distance / _divisor(left - right)[:, None]
    nme = error.nanmean(1)
    values = {
        "nme": nme,
        "nme_pupil": (distance / _divisor(pupils[0] - pupils[1])[:, None]).nanmean(1),
        "nme_box": (distance / _divisor(box)[:, None]).nanmean(1),
    }
    for region, (begin, end) in REGIONS.items():
        if begin >= first:
            values[f"region_nme/{region}"] = error[:, begin - first : end - first].nanmean(1)
    values |= {f"pck/{t}": _share(error, error < t) for t in PCK}
    values |= {f"fr/{t}": _share(nme, nme > t) for t in FAILURE}
    values |= {f"auc/{t}": (1 - nme / t).clamp(min=0) for t in FAILURE}
    return values | {f"point_nme/{first + k}": error[:, k] for k in range(truth.shape[1])}


class LandmarksEvaluator:
    """Adds up what `measure` gives; `locate(model, batch)` gives the points [B, K, 2] of a batch, in pixels."""

    def __init__(self, locate: Callable[[nn.Module, Batch], Tensor], num_points: int, device: torch.device) -> None:
        self.locate = locate
        unknown = torch.full((1, num_points, 2), torch.nan)
        self.names = tuple(measure(unknown, unknown))
        self.sums = torch.zeros(len(self.names), dtype=torch.int64, device=device)  # in 1/SCALE
        self.counts = torch.zeros(len(self.names), dtype=torch.int64, device=device)

    def update(self, model: nn.Module, batch: Batch) -> None:
        values = measure(self.locate(model, batch), batch["landmarks"])
        whole = [(value.nan_to_num(0.0).clamp(max=LARGEST) * SCALE).round().long().sum() for value in values.values()]
        self.sums += torch.stack(whole)
        self.counts += torch.stack([(~value.isnan()).sum() for value in values.values()])

    def state(self) -> dict[str, Tensor]:
        return {"sums": self.sums, "counts": self.counts}

    def compute(self) -> dict[str, float]:
        means = self.sums.to("cpu", torch.float64) / SCALE / self.counts.cpu()  # 0 / 0 is NaN
        return dict(zip(self.names, means.tolist(), strict=True))


def _divisor(vector: Tensor) -> Tensor:
    """Lengths [B] of vectors [B, 2]; NaN where they are 0 or not finite."""
    length = torch.linalg.vector_norm(vector, dim=1)
    return torch.where(length.isfinite() & (length > 0), length, torch.nan)


def _share(of: Tensor, holds: Tensor) -> Tensor:
    """1 where something holds and 0 where not; NaN where `of` is."""
    return torch.where(of.isnan(), torch.nan, holds.double())
