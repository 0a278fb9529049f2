"""Sample predictions: of a pack the worst, the median and the best, drawn, so that one sees what a metric means."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from datasets import Pack
from datasets.compositing import Scenes
from trainables.drawing import beside
from trainables.predict import Predictor
from trainables.task import Task, build_task

Place = Literal["worst", "median", "best"]


@dataclass(frozen=True)
class SamplePrediction:
    """One row of a pack: its score by itself, and the picture, the prediction and the truth side by side."""

    place: Place
    row: int
    score: float
    picture: np.ndarray  # uint8 [R, 3 R, 3]


def worst_median_best(
    predictor: Predictor,
    pack: Pack,
    metric: str,
    *,
    mode: Literal["max", "min"] = "max",
    scenes: Scenes | None = None,
    at_most: int | None = None,
) -> list[SamplePrediction]:
    """The worst, the median and the best row of a pack, by a metric of each row alone; fewer where there are fewer.

    metric   of the task, with or without the name of a set: "val/miou" or "miou". (A mean of what rows alone score is
             not what the set scores: classes are in few rows.)
    mode     whether more is better
    scenes   what people are put before, where the task composes
    at_most  so many rows, evenly spaced over the pack, are looked at; None: all

    Equal scores stand in the order of their rows; rows for which the metric is not defined are left out. Raises
    ValueError for a metric that the task has not, and where it is defined for no row.
    """
    task = build_task(predictor.file.task, scenes)
    task.check_pack(pack)
    count = len(pack) if at_most is None else min(at_most, len(pack))
    rows = [k * len(pack) // count for k in range(count)]
    scored = [(score, row) for row in rows if not math.isnan(score := score_of(predictor, task, pack, row, metric))]
    if not scored:
        raise ValueError(f"{metric} must be defined for a row of {pack.path}, but is for none of {count}")
    sign = 1 if mode == "max" else -1
    order = sorted(scored, key=lambda one: (sign * one[0], one[1]))
    places: dict[Place, tuple[float, int]] = {"best": order[-1], "worst": order[0], "median": order[len(order) // 2]}
    shown: list[SamplePrediction] = []
    for place in ("worst", "median", "best"):
        score, row = places[place]
        if row not in [one.row for one in shown]:
            shown.append(SamplePrediction(place, row, score, picture_of(predictor, task, pack, row)))
    return shown


@torch.no_grad()
def score_of(predictor: Predictor, task: Task, pack: Pack, row: int, metric: str) -> float:
    """A metric of one row alone; NaN where it is not defined."""
    sample = _prepared(task, pack, row)
    batch = {name: torch.from_numpy(value[None].copy()).to(predictor.device) for name, value in sample.items()}
    evaluator = task.evaluator(predictor.device)
    with predictor.autocast():
        evaluator.update(predictor.model, batch)
    scores = evaluator.compute()
    name = next((name for name in (metric, _bare(metric)) if name in scores), None)
    if name is None:
        raise ValueError(f"metric must be one of {', '.join(scores)}, but got {metric!r}")
    return float(scores[name])


def picture_of(predictor: Predictor, task: Task, pack: Pack, row: int) -> np.ndarray:
    """A row's picture, its prediction and its truth, side by side."""
    sample = _prepared(task, pack, row)
    if predictor.needs_background:
        image, truth = sample["src"], np.dstack([sample["foreground"], sample["alpha"]])
        (prediction,) = predictor([image], [sample["bgr"]])
    else:
        image, truth = sample["image"], sample["segmentation" if "segmentation" in sample else "landmarks"]
        (prediction,) = predictor([image])
    return beside(predictor.file.task, image, prediction, truth)


def _prepared(task: Task, pack: Pack, row: int) -> dict[str, np.ndarray]:
    columns: Sequence[str] = task.evaluation_columns([pack])
    return task.prepare(pack.sample(row, columns))


def _bare(metric: str) -> str:
    """`val/miou` and `test/NAME/miou` without the set."""
    head, _, rest = metric.partition("/")
    return rest.partition("/")[2] if head == "test" else rest if head == "val" else metric
