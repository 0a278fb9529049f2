"""Face parsing as a Task: each pixel of a face to one of the classes, scored by mIoU."""

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets import Pack
from datasets.augment import face_parsing_transform
from datasets.batched import Batched
from datasets.classes import IGNORE
from datasets.weights import load_weights, take_weights
from trainables.initialisation import fan_in, fan_out, initialise
from trainables.segmentation.metrics import SegmentationEvaluator
from trainables.segmentation.model import DeepLab
from trainables.segmentation.spec import SegmentationSpec
from trainables.task import Batch, Sample

log = logging.getLogger(__name__)

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB / 255, as the published backbone weights expect
STD = (0.229, 0.224, 0.225)

# Of published files: classifiers, a projection that drn_c_58 has and does not use, and names under which the
# reference's MobileNetV2 has its features once more.
DROPPED = (
    r"^fc\.",
    r"^(backbone\.)?layer7\.0\.downsample\.",
    r"^classifier\.",
    r"^features\.18\.",
    r"^backbone\.(low|high)_level_features\.",
)


class Segmentation:
    """The face-parsing task of a spec.

    Samples and batches: "image" uint8 [(B,) R, R, 3] RGB and "segmentation" uint8 [(B,) R, R], class ids below
    `num_classes` or 255, which neither the loss nor a metric counts.
    """

    columns: tuple[str, ...] = ("image", "segmentation")
    unlabelled_columns: tuple[str, ...] = ("image",)
    metric_version = 2

    def __init__(self, spec: SegmentationSpec) -> None:
        self.spec = spec
        self.lr_factors: Mapping[str, float] = {"aspp.": spec.head_lr, "decoder.": spec.head_lr}
        self._batched = Batched(face_parsing_transform(spec.resolution, spec.pairs()))

    def evaluation_columns(self, packs: Sequence[Pack]) -> tuple[str, ...]:
        return self.columns

    def composes(self, packs: Sequence[Pack]) -> bool:
        return False

    def check_pack(self, pack: Pack) -> None:
        """Raises ValueError unless the pack has both columns as uint8 at the resolution, and no other class names."""
        side = self.spec.resolution
        columns = {column.name: column for column in pack.manifest.columns}
        for name, shape in (("image", (side, side, 3)), ("segmentation", (side, side))):
            if name not in columns:
                raise ValueError(f"{pack.path}: segmentation needs column {name!r}, but the pack has {list(columns)}")
            column = columns[name]
            if (column.dtype, column.shape) != ("uint8", shape):
                raise ValueError(
                    f"{pack.path}: column {name!r} must be uint8{list(shape)}, but is {column}; "
                    f"write the pack at resolution {side} or set task.resolution to the pack's"
                )
        classes = pack.manifest.classes
        if classes is not None and classes != self.spec.classes[: len(classes)]:
            raise ValueError(
                f"{pack.path}: classes must be {list(self.spec.classes)}, but are {list(classes)}; "
                "write the pack with the label map of these classes or set task.classes to the pack's"
            )

    def build_model(self) -> nn.Module:
        return DeepLab(self.spec)

    def initialise(self, model: nn.Module, seed: int) -> None:
        """The references' distributions: fan-out normal for the backbone, fan-in normal for ASPP and decoder. Then the
        published weights, if any; what they lack (the head, layers of drn_d_56 that drn_d_54 has not) stays.

        Raises ValueError, one line, for weights that are not this architecture's.
        """
        initialise(model, seed, {"backbone.": fan_out, "aspp.": fan_in, "decoder.": fan_in})
        if self.spec.pretrained is not None:
            # The classifier of another number of classes (VOC's 21) stays as it is; drn_d_54's file serves drn_d_56.
            more = (r"^backbone\.layer[78]\.[34]\.",) if self.spec.backbone == "drn_d_56" else ()
            load_weights(
                model,
                self.spec.pretrained,
                prefixes=("", "backbone."),
                drop=DROPPED,
                fresh=(r"^decoder\.last_conv\.8\.",),
                lacks=more,
            )

    def initialise_from(self, model: nn.Module, weights: Mapping[str, Tensor], seed: int) -> None:
        take_weights(model, weights)

    def augment(self, sample: Sample, seed: int) -> dict[str, np.ndarray]:
        """Raises ValueError for a label that is neither a class nor 255."""
        self._check_labels(sample["segmentation"])
        return self._batched.augment(sample, seed)

    def draw(self, sample: Sample, seed: int) -> dict[str, np.ndarray]:
        """Raises ValueError for a label that is neither a class nor 255."""
        self._check_labels(sample["segmentation"])
        return self._batched.draw(sample, seed)

    def finish(self, batch: Batch, device: torch.device) -> Batch:
        return self._batched.apply(batch, device)

    def prepare(self, sample: Sample) -> dict[str, np.ndarray]:
        """The row as it is. Raises ValueError for a label that is neither a class nor 255."""
        self._check_labels(sample["segmentation"])
        return {"image": sample["image"], "segmentation": sample["segmentation"]}

    def unaugmented(self, sample: Sample) -> dict[str, np.ndarray]:
        if "segmentation" not in sample:
            sample = {**sample, "segmentation": np.full(sample["image"].shape[:2], IGNORE, np.uint8)}
        return self.prepare(sample)

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits [B, num_classes, R, R] of a batch's images, normalised on their device."""
        mean, std = _mean_and_std(batch["image"].device)
        # Contiguous, though a permuted HWC tensor is channels-last already: that layout sends torch 2.13's CPU
        # convolutions down a path that corrupts the heap (backward of a 1x1 with stride 2 and 4 input channels).
        x = batch["image"].permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return model((x - mean) / std)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, averaged over the labelled pixels of the batch, each weighing what its class weighs; 0 when
        there are none.

        The terms are "cross_entropy" and the "total", which it is alone. Labels were checked by `augment`.
        """
        logits = self.predict(model, batch).float()
        target = batch["segmentation"].long()
        # One row a pixel: the two-dimensional loss adds up in any order on CUDA, the one-dimensional one does not.
        rows = logits.permute(0, 2, 3, 1).flatten(0, 2)
        labels = target.flatten()
        loss = F.cross_entropy(rows, labels, ignore_index=IGNORE, reduction="none")
        labelled = (labels != IGNORE).to(loss.dtype)
        if self.spec.class_weights is not None:
            weights = _on_device(self.spec.class_weights, loss.device).to(loss.dtype)
            labelled = labelled * weights[labels.clamp(max=len(weights) - 1)]
        loss = (loss * labelled).sum() / labelled.sum().clamp(min=torch.finfo(loss.dtype).tiny)
        return {"cross_entropy": loss, "total": loss}

    def evaluator(self, device: torch.device) -> SegmentationEvaluator:
        return SegmentationEvaluator(self.scored, self.spec.classes, device)

    def scored(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits [B, C, R, R] that are scored; with `flip_test` their mean with those of the mirrored images."""
        logits = self.predict(model, batch)
        if not self.spec.flip_test:
            return logits
        order = list(range(self.spec.num_classes))
        for one, other in self.spec.pairs():
            order[one], order[other] = other, one
        mirrored = self.predict(model, {**batch, "image": batch["image"].flip(2)})
        return (logits + mirrored.flip(3)[:, order]) / 2

    def _check_labels(self, segmentation: np.ndarray) -> None:
        wrong = (segmentation >= self.spec.num_classes) & (segmentation != IGNORE)
        if wrong.any():
            raise ValueError(
                f"segmentation must hold labels below {self.spec.num_classes} or {IGNORE} (ignore), but has "
                f"{int(segmentation[wrong][0])}; write the pack with the label map of its classes"
            )


@lru_cache
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Float32, copied to a device once."""
    return torch.tensor(values, device=device)


@lru_cache
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """ImageNet's statistics on the 0..255 scale, [3, 1, 1], copied to a device once."""
    mean, std = (torch.tensor(values, device=device).reshape(3, 1, 1) * 255 for values in (MEAN, STD))
    return mean, std
