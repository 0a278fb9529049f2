"""Facial landmarks as a Task: the places of 51 or 68 points of a face, scored by the normalised mean error."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from datasets import Pack
from datasets.batched import Batched
from datasets.formats.pts import without_jaw
from datasets.landmark_augment import landmarks_transform
from datasets.landmarks import flip_order
from datasets.weights import load_weights, take_weights
from trainables.initialisation import fan_in, initialise
from trainables.landmarks.heatmaps import decode, encode, on_heatmap, on_image
from trainables.landmarks.metrics import LandmarksEvaluator
from trainables.landmarks.model import StackedHourglass
from trainables.landmarks.spec import STRIDE, LandmarksSpec
from trainables.task import Batch, Sample

log = logging.getLogger(__name__)

PARTS = ("pre.", "hgs.", "features.", "outs.", "merge_features.", "merge_preds.")
HEADS = r"^(outs|merge_preds)\."  # what depends on the number of points


class Landmarks:
    """The landmark task of a spec.

    Samples and batches: "image" uint8 [(B,) R, R, 3] RGB and "landmarks" float32 [(B,) points, 2], x and y in pixels,
    the centre of the first pixel at (0, 0). A point that is NaN is not known: neither the loss nor a metric counts it.
    One outside of the image has no place on a heatmap, so that the loss does not count it, but metrics do.
    """

    columns: tuple[str, ...] = ("image", "landmarks")
    unlabelled_columns: tuple[str, ...] = ("image",)
    metric_version = 1
    lr_factors: Mapping[str, float] = {}

    def __init__(self, spec: LandmarksSpec) -> None:
        self.spec = spec
        self._batched = Batched(landmarks_transform(spec.resolution, spec.points))

    def evaluation_columns(self, packs: Sequence[Pack]) -> tuple[str, ...]:
        return self.columns

    def composes(self, packs: Sequence[Pack]) -> bool:
        return False

    def check_pack(self, pack: Pack) -> None:
        """Raises ValueError unless the pack has images of the resolution, and as many landmarks as the spec, or 68."""
        side, points = self.spec.resolution, self.spec.points
        columns = {column.name: column for column in pack.manifest.columns}
        for name in self.columns:
            if name not in columns:
                raise ValueError(f"{pack.path}: landmarks needs column {name!r}, but the pack has {list(columns)}")
        image, landmarks = (columns[name] for name in self.columns)
        if (image.dtype, image.shape) != ("uint8", (side, side, 3)):
            raise ValueError(
                f"{pack.path}: column 'image' must be uint8{[side, side, 3]}, but is {image}; "
                f"write the pack at resolution {side} or set task.resolution to the pack's"
            )
        shapes = [(count, 2) for count in sorted({points, 68})]
        if landmarks.dtype != "float32" or landmarks.shape not in shapes:
            wanted = " or ".join(f"float32{list(shape)}" for shape in shapes)
            raise ValueError(
                f"{pack.path}: column 'landmarks' must be {wanted} for task.points {points}, but is {landmarks}; "
                "set task.points to what every pack has, or write the pack with iBUG's points"
            )

    def build_model(self) -> nn.Module:
        return StackedHourglass(self.spec)

    def initialise(self, model: nn.Module, seed: int) -> None:
        """Fan-in normal but for the heads, and then the published weights, if any; where they are for another number of
        points, the layers that depend on it stay.

        Heads begin near 0, as those of Xiao et al. 2018 (Simple Baselines), since nearly all of a heatmap is 0: in 50
        steps of Adam 8 photographs were learned to an NME of 0.076, and to 1.29 from fan-in normal heads.

        Raises ValueError, one line, for weights that are not this architecture's.
        """
        initialise(model, seed, dict.fromkeys(PARTS, fan_in) | {"outs.": lambda shape: 0.001})
        if self.spec.pretrained is not None:
            load_weights(model, self.spec.pretrained, fresh=(HEADS,))

    def initialise_from(self, model: nn.Module, weights: Mapping[str, Tensor], seed: int) -> None:
        take_weights(model, weights)

    def augment(self, sample: Sample, seed: int) -> dict[str, np.ndarray]:
        return self._batched.augment(self._row(sample), seed)

    def draw(self, sample: Sample, seed: int) -> dict[str, np.ndarray]:
        return self._batched.draw(self._row(sample), seed)

    def finish(self, batch: Batch, device: torch.device) -> Batch:
        return self._batched.apply(batch, device)

    def prepare(self, sample: Sample) -> dict[str, np.ndarray]:
        """The row as it is, without the jaw where the spec has no points there."""
        return self._row(sample)

    def unaugmented(self, sample: Sample) -> dict[str, np.ndarray]:
        if "landmarks" not in sample:
            sample = {**sample, "landmarks": np.full((self.spec.points, 2), np.nan, np.float32)}
        return self.prepare(sample)

    def predict(self, model: nn.Module, image: Tensor) -> Tensor:
        """Heatmaps float [B, stacks, points, R/4, R/4] of images uint8 [B, R, R, 3], which the model gets in [0, 1]."""
        x = image.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return model(x / 255)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The mean square error of the heatmaps over their pixels and the points that are there, averaged over stacks.

        The terms are "stack_0", "stack_1" and so on, each divided by the number of stacks, and their "total". 0 when no
        point is there.
        """
        heatmaps = self.predict(model, batch["image"]).float()
        places = on_heatmap(batch["landmarks"], STRIDE, self.spec.decoding)
        target, there = encode(places, heatmaps.shape[-1], self.spec.sigma, self.spec.decoding)
        squares = (heatmaps - target[:, None]).square().mean((3, 4))  # [B, stacks, points]
        counted = torch.where(there[:, None], squares, 0.0).sum((0, 2)) / there.sum().clamp(min=1)
        terms = counted / self.spec.stacks
        return {f"stack_{k}": term for k, term in enumerate(terms)} | {"total": terms.sum()}

    def locate(self, model: nn.Module, batch: Batch) -> Tensor:
        """Points float32 [B, points, 2] in pixels of the image, read from the last stack's heatmaps."""
        heatmaps = self.predict(model, batch["image"])[:, -1].float()
        if self.spec.flip_test:
            order = list(flip_order(self.spec.points))
            mirrored = self.predict(model, batch["image"].flip(2))[:, -1].float()
            heatmaps = (heatmaps + mirrored.flip(3)[:, order]) / 2
        return on_image(decode(heatmaps, self.spec.decoding), STRIDE, self.spec.decoding)

    def evaluator(self, device: torch.device) -> LandmarksEvaluator:
        return LandmarksEvaluator(self.locate, self.spec.points, device)

    def _row(self, sample: Sample) -> dict[str, np.ndarray]:
        landmarks = sample["landmarks"]
        if len(landmarks) == 68 and self.spec.points == 51:
            landmarks = without_jaw(landmarks)
        return {"image": sample["image"], "landmarks": landmarks}
