"""Batched augmentation: an albumentations pipeline whose pixel work is done on whole batches, on the training device.

Two loader processes augment some hundred pictures a second, and a GPU trains on thousands. So the work is divided:
the loader draws the numbers (which transforms, which angle), which costs microseconds, and the device moves the
pixels (pixel_ops.py). The pipeline is stated once, as an albumentations `Compose`, and draws what it would draw if it
worked on the pixels itself: the same seed gives the same angle in both ways.

Transforms that pixel_ops.py does not know are done by albumentations in the loader, and then so is what comes before
them: order is kept. Points are few and are always moved in the loader, by albumentations. A batch's bits depend on its
samples and their seeds alone, on one device: not on how samples are spread over batches or ranks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import albumentations as A
import numpy as np
import torch
from torch import Tensor

from datasets.augment import seeded
from datasets.pack import Value
from datasets.pixel_ops import Op, Planes, op_of

DRAWN = "augmentation"  # the column that carries the numbers from the loader to the device


class Batched:
    """A pipeline of one image, any masks and any points, divided between loader and device. It can be pickled.

    transform   the pipeline; of its targets "image" and those take part that it declares as "mask" (uint8 [H, W]) or
                "keypoints" (float32 [K, 2], x and y in pixels, the centre of the first at (0, 0); NaN where not known)
    on_device   the names of the transforms whose pixel work is the device's; on_host those of the loader's

    Raises ValueError for a pipeline with processors of boxes or keypoints (they drop points that leave the image, and
    refuse NaN), or one that is not always applied.
    """

    def __init__(self, transform: A.Compose) -> None:
        if transform.processors or transform.p != 1:
            raise ValueError("a batched pipeline must have p=1 and no bbox_params or keypoint_params, but has")
        self.transform = transform
        kinds = transform.additional_targets.items()
        self.masks = tuple(name for name, kind in kinds if kind == "mask")
        self.points = tuple(name for name, kind in kinds if kind == "keypoints")
        ops: list[Op] = []
        for one in reversed(transform.transforms):
            op = op_of(one)
            if op is None:
                break
            ops.insert(0, op)
        self._ops = ops
        self._host = transform.transforms[: len(transform.transforms) - len(ops)]
        self._deferred = transform.transforms[len(self._host) :]

    @property
    def on_host(self) -> tuple[str, ...]:
        return tuple(type(one).__name__ for one in self._host)

    @property
    def on_device(self) -> tuple[str, ...]:
        return tuple(type(one).__name__ for one in self._deferred)

    def augment(self, sample: Mapping[str, Value], seed: int) -> dict[str, np.ndarray]:
        """The whole augmentation by albumentations: the image, masks and points, shaped as they were.

        A function of sample and seed (0 <= seed < 2**64) alone.
        """
        return self._narrow(self._on_host(sample, seed, self.transform.transforms))

    def draw(self, sample: Mapping[str, Value], seed: int) -> dict[str, np.ndarray]:
        """The loader's part: the image uint8 [H, W, 3] and masks uint8 [H, W] after the transforms of `on_host`, points
        float32 [K, 2] after all of them, and the column DRAWN, float64 [P]: for each transform of `on_device` whether
        it is applied, and its numbers.

        A function of sample and seed (0 <= seed < 2**64) alone.
        """
        data = self._on_host(sample, seed, self._host)
        drawn: list[float] = []
        for one, op in zip(self._deferred, self._ops, strict=True):
            if not one.should_apply():
                drawn += [0.0] * (1 + op.size)
                continue
            params = one.update_transform_params(params=one.get_params(), data=data)
            params |= one.get_params_dependent_on_data(params=params, data=data)
            drawn += [1.0, *op.values(params)]
            if isinstance(one, A.DualTransform):
                data |= {name: one.apply_to_keypoints(data[name], **params) for name in self.points}
        return self._narrow(data) | {DRAWN: np.array(drawn, np.float64)}

    @torch.no_grad()
    def apply(self, batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """The device's part: a batch of what `draw` gives, stacked, with its other columns, on `device`.

        The image is float between the transforms and rounded once, at the end: uint8 [B, H, W, 3] as before.
        """
        drawn = batch[DRAWN].cpu().numpy()
        out = {name: column.to(device, non_blocking=True) for name, column in batch.items() if name != DRAWN}
        image = out["image"].permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        planes = Planes(image, {name: out[name] for name in self.masks})
        at = 0
        for op in self._ops:
            rows, values = np.flatnonzero(drawn[:, at]), drawn[:, at + 1 : at + 1 + op.size]
            at += 1 + op.size
            if len(rows) == len(drawn):
                planes = op(planes, values)
            elif len(rows):
                planes = planes.replaced(rows, op(planes.of(rows), values[rows]))
        pixels = planes.image.round().clamp(0, 255).to(torch.uint8)  # a half goes to the even number
        return {**out, "image": pixels.permute(0, 2, 3, 1).contiguous(), **planes.masks}

    def _on_host(self, sample: Mapping[str, Value], seed: int, transforms: Sequence[Any]) -> dict[str, Any]:
        """The data after some of the first transforms; points are float32 [K, 5] (x, y, z, angle, scale), as
        albumentations has them inside a pipeline."""
        seeded(self.transform, seed).py_random.random()  # Compose draws one number for its own p
        data: dict[str, Any] = {name: sample[name] for name in ("image", *self.masks)}
        data |= {name: np.pad(np.asarray(sample[name], np.float32), ((0, 0), (0, 3))) for name in self.points}
        for one in transforms:
            data = one(**data)
        return data

    def _narrow(self, data: dict[str, Any]) -> dict[str, Any]:
        return data | {name: np.ascontiguousarray(data[name][:, :2]) for name in self.points}
