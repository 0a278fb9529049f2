"""Predict: what an exported model makes of pictures of any size, in the pictures' own pixels.

A picture is made a square as `datasets pack --crop pad` makes it (black beyond its edges), or the square around a box
is cut out of it; that is resized to what the network takes, and the answer is brought back to the picture's size.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from datasets.classes import IGNORE
from datasets.formats.record import Window, resize_image
from trainables.landmarks.task import Landmarks
from trainables.matting.task import Matting
from trainables.model_folder import ModelFile, load
from trainables.segmentation.task import Segmentation
from trainables.task import Task, build_task

BATCH = 8  # pictures that go through the network at a time

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the picture


class Predictor:
    """A model that was exported, ready for pictures.

    file   its model.json
    task   of the model, without backgrounds
    model  in evaluation mode, on `device`
    """

    def __init__(self, file: ModelFile, model: torch.nn.Module, device: torch.device) -> None:
        self.file = file
        self.task: Task = build_task(file.task)
        self.model = model
        self.device = device

    @classmethod
    def load(cls, place: str | Path, device: str = "auto") -> "Predictor":
        """From an export folder or its model.json; "auto" is a GPU where there is one.

        Raises ValueError, one line, for a folder that is not one or is damaged, and a device that is not there.
        """
        chosen = _device(device)
        return cls(*load(place, chosen), chosen)

    @property
    def needs_background(self) -> bool:
        """Whether each picture comes with one of the same place without the person."""
        return self.file.task.kind == "matting"

    def __call__(
        self,
        images: Sequence[np.ndarray],
        backgrounds: Sequence[np.ndarray] | None = None,
        boxes: Sequence[Box | None] | None = None,
    ) -> list[np.ndarray]:
        """The predictions of pictures uint8 [H, W, 3] RGB, each of its own size.

        segmentation  classes uint8 [H, W]; 255 outside of a box
        matting       the foreground, not premultiplied, and its alpha: uint8 [H, W, 4]; alpha 0 outside of a box
        landmarks     (x, y) float32 [points, 2] in pixels of the picture, the centre of the first one at (0, 0)

        backgrounds  of matting: uint8, of the picture's proportions
        boxes        what of a picture to look at: the square around it

        Raises ValueError for a picture, a background or a box that is not so.
        """
        behind = self._checked(images, backgrounds)
        windows = [_window(image, box) for image, box in zip(images, boxes or [None] * len(images), strict=True)]
        side, found = self.file.input.resolution, []
        given = list(zip(images, behind, windows, strict=True))
        for start in range(0, len(given), BATCH):
            some = given[start : start + BATCH]
            squares = [resize_image(window.take(image), side) for image, _, window in some]
            plates = [resize_image(window.take(plate), side) for _, plate, window in some if plate is not None]
            outputs = self._run(np.stack(squares), np.stack(plates) if plates else None)
            for (image, _, window), square, output in zip(some, squares, outputs, strict=True):
                found.append(self._back(image, window, square, output))
        return found

    def check(self, image: np.ndarray, background: np.ndarray | None = None, box: Box | None = None) -> None:
        """Raises ValueError, one line, for what `__call__` would refuse."""
        self._checked([image], None if background is None else [background])
        _window(image, box)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision in which the model was evaluated."""
        precision = self.file.precision
        bf16 = precision == "bf16" or (precision == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16)

    def _checked(
        self, images: Sequence[np.ndarray], backgrounds: Sequence[np.ndarray] | None
    ) -> Sequence[np.ndarray | None]:
        """The backgrounds, each of its picture's size; raises ValueError before anything is predicted."""
        for image in images:
            _check_picture("a picture", image)
        if not self.needs_background:
            if backgrounds is not None:
                raise ValueError(f"a model of {self.file.task.kind} takes no backgrounds, but some are given")
            return [None] * len(images)
        if backgrounds is None or len(backgrounds) != len(images):
            count = 0 if backgrounds is None else len(backgrounds)
            raise ValueError(
                f"background matting needs one background for each picture, photographed without the person, but got"
                f" {count} for {len(images)}"
            )
        return [_fitted(plate, image) for image, plate in zip(images, backgrounds, strict=True)]

    @torch.no_grad()
    def _run(self, squares: np.ndarray, plates: np.ndarray | None) -> list[np.ndarray]:
        """Of squares [B, R, R, 3], in float32: logits [R, R, C], foreground and alpha [R, R, 4], or points [K, 2]."""
        batch = {"image": torch.from_numpy(squares).to(self.device)}
        with self.autocast():
            if isinstance(self.task, Segmentation):
                maps = self.task.scored(self.model, batch)
            elif isinstance(self.task, Matting):
                assert plates is not None
                scene = {"src": batch["image"], "bgr": torch.from_numpy(plates).to(self.device)}
                matte = self.task.predict(self.model, scene)
                maps = torch.cat([matte.foreground, matte.alpha], 1)
            else:
                assert isinstance(self.task, Landmarks)
                return list(self.task.locate(self.model, batch).float().cpu().numpy())
        return list(maps.float().permute(0, 2, 3, 1).cpu().numpy())

    def _back(self, image: np.ndarray, window: Window, square: np.ndarray, output: np.ndarray) -> np.ndarray:
        """A network's output on a square, in the picture's pixels."""
        scale = window.side / self.file.input.resolution
        if self.file.task.kind == "landmarks":
            corner = np.array([window.x, window.y], np.float32)
            return ((output + 0.5) * scale - 0.5 + corner).astype(np.float32)
        if self.file.task.kind == "segmentation":
            return _placed(image, window, _classes(output, window.side), IGNORE)
        # The foreground as a difference to the picture, so that it is as fine as the picture is.
        change = cv2.resize(output[..., :3] - square / np.float32(255), (window.side, window.side))
        colour = np.clip(window.take(image) / np.float32(255) + change, 0, 1)
        alpha = np.clip(cv2.resize(output[..., 3], (window.side, window.side)), 0, 1)
        matte = np.rint(255 * np.dstack([colour, alpha])).astype(np.uint8)
        return _placed(image, window, matte, 0)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device must be auto, cpu or one that is here, but got {name!r}: {_first(error)}") from None
    return device


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_picture(what: str, image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"{what} must be uint8 [H, W, 3] RGB, but is {image.dtype}{list(image.shape)}")


def _fitted(plate: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A background in its picture's size."""
    _check_picture("a background", plate)
    (high, wide), (height, width) = plate.shape[:2], image.shape[:2]
    if abs(high * width - wide * height) > max(high, wide, height, width):  # more than a pixel's rounding
        raise ValueError(
            f"a background must have its picture's proportions, {width}x{height}, but is {wide}x{high}; photograph it"
            " with the same camera from the same place"
        )
    return plate if plate.shape == image.shape else cv2.resize(plate, (width, height), interpolation=cv2.INTER_AREA)


def _window(image: np.ndarray, box: Box | None) -> Window:
    """The smallest square in whole pixels around a box, or around the whole picture, with the same middle."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box or (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"a box must lie in its picture of {width}x{height}, but got {x0:g},{y0:g},{x1:g},{y1:g}")
    side = max(1, int(np.ceil(max(x1 - x0, y1 - y0))))
    return Window(int(np.floor((x0 + x1 - side) / 2)), int(np.floor((y0 + y1 - side) / 2)), side)


def _classes(logits: np.ndarray, side: int) -> np.ndarray:
    """The largest of logits [R, R, C], interpolated to `side`, uint8 [side, side]; one class at a time, for memory."""
    best, labels = np.full((side, side), -np.inf, np.float32), np.zeros((side, side), np.uint8)
    for number in range(logits.shape[2]):
        plane = cv2.resize(np.ascontiguousarray(logits[..., number]), (side, side))
        higher = plane > best
        best[higher], labels[higher] = plane[higher], number
    return labels


def _placed(image: np.ndarray, window: Window, values: np.ndarray, outside: int) -> np.ndarray:
    """Values of a window [S, S, ...] where they are in their picture, [H, W, ...]."""
    height, width = image.shape[:2]
    out = np.full((height, width, *values.shape[2:]), outside, np.uint8)
    x0, y0 = max(window.x, 0), max(window.y, 0)
    x1, y1 = min(window.x + window.side, width), min(window.y + window.side, height)
    out[y0:y1, x0:x1] = values[y0 - window.y : y1 - window.y, x0 - window.x : x1 - window.x]
    return out
