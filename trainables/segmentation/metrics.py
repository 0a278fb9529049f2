"""Mean intersection over union from one confusion matrix over a whole split (no averages over images)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainables.task import Batch


def confusion_matrix(label: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """Counts int64 [C, C] of (label, prediction) pairs, on the tensors' device.

    `label` is of any integer type and shape, with values >= 0; those of C and above (255 = ignore) are left out.
    `prediction` has the same shape and values in [0, C).
    """
    pair = label.long() * num_classes + prediction.long()
    pair = torch.where(label < num_classes, pair, num_classes**2)  # one more bin, which is dropped
    counts = torch.bincount(pair.flatten(), minlength=num_classes**2 + 1)
    return counts[:-1].reshape(num_classes, num_classes)


def scores(confusion: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Metrics of a confusion matrix [label, prediction], in [0, 1].

    miou             mean of the classes' IoU; a class in neither labels nor predictions is NaN and left out
    miou_foreground  the same without class 0
    iou/NAME         diagonal / (row + column - diagonal); NaN where the class is absent from both
    fwiou            mean of the classes' IoU weighted by their share of the labelled pixels
    pixel_accuracy   share of the labelled pixels that are right; NaN when there are none
    """
    counts = confusion.to("cpu", torch.float64)
    right = counts.diagonal()
    iou = right / (counts.sum(0) + counts.sum(1) - right)
    values = {
        "miou": iou.nanmean(),
        "miou_foreground": iou[1:].nanmean(),
        "fwiou": (counts.sum(1) / counts.sum() * iou.nan_to_num()).sum(),
        "pixel_accuracy": right.sum() / counts.sum(),
    }
    values |= {f"iou/{name}": value for name, value in zip(class_names, iou, strict=True)}
    return {name: float(value) for name, value in values.items()}


class SegmentationEvaluator:
    """Sums confusion matrices; `predict(model, batch)` gives the logits [B, C, H, W] of a batch."""

    def __init__(
        self, predict: Callable[[nn.Module, Batch], Tensor], class_names: Sequence[str], device: torch.device
    ) -> None:
        self.predict = predict
        self.class_names = tuple(class_names)
        self.confusion = torch.zeros(len(class_names), len(class_names), dtype=torch.int64, device=device)

    def update(self, model: nn.Module, batch: Batch) -> None:
        prediction = self.predict(model, batch).argmax(1)
        self.confusion += confusion_matrix(batch["segmentation"], prediction, len(self.class_names))

    def state(self) -> dict[str, Tensor]:
        return {"confusion": self.confusion}

    def compute(self) -> dict[str, float]:
        return scores(self.confusion, self.class_names)
