"""What does our training loop cost, on top of the plainest loop over the same model?

    python tests/benchmarks/train_step.py [--tasks segmentation] [--batch 2] [--seconds 30] [--rounds 3]

Each task's full-size model at --resolution pixels, trained in turns of about --seconds seconds by

  plain  torch alone: a batch that lies in memory, forward, loss, backward, the same optimizer's step
  ours   trainables/loop.py: read from a pack, augmented, loss and gradient watched, clipped, averaged (EMA), and at the
         end of each turn a checkpoint in the store and an evaluation, of whose time the forward passes are taken off

with as many threads as there are cores (or on the GPU, where there is one). `overhead` is the median over --rounds of
ours / plain - 1. A turn of ours begins with the fork of a loader process, whose cores are the same, and ends with a
checkpoint; in a search a checkpoint comes every 30 seconds. Images per second are those of ours.

The last line is JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from trainables.task import Task

ROWS, VALIDATION = 32, 4
Row = dict[str, Any]


def segmentation(resolution: int) -> tuple[Any, Callable[[np.random.Generator], Row]]:
    from trainables.segmentation.spec import SegmentationSpec

    def row(rng: np.random.Generator) -> Row:
        shape = (resolution, resolution)
        return {
            "image": rng.integers(0, 256, (*shape, 3), np.uint8),
            "segmentation": rng.integers(0, 9, shape, np.uint8),
        }

    return SegmentationSpec(kind="segmentation", backbone="drn_d_54", resolution=resolution), row


def landmarks(resolution: int) -> tuple[Any, Callable[[np.random.Generator], Row]]:
    from trainables.landmarks.spec import LandmarksSpec

    def row(rng: np.random.Generator) -> Row:
        return {
            "image": rng.integers(0, 256, (resolution, resolution, 3), np.uint8),
            "landmarks": rng.uniform(0, resolution - 1, (51, 2)).astype(np.float32),
        }

    return LandmarksSpec(kind="landmarks", stacks=8, resolution=resolution), row


def matting(resolution: int) -> tuple[Any, Callable[[np.random.Generator], Row]]:
    from trainables.matting.spec import MattingSpec

    def row(rng: np.random.Generator) -> Row:
        shape = (resolution, resolution)
        return {
            "foreground": rng.integers(0, 256, (*shape, 3), np.uint8),
            "alpha": rng.integers(0, 256, shape, np.uint8),
        }

    return MattingSpec(kind="matting", phase="base", resolution=resolution), row


TASKS = {"segmentation": segmentation, "matting": matting, "landmarks": landmarks}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Plain:
    """The plainest loop."""

    def __init__(self, task: "Task", samples: list[Row], device: torch.device) -> None:
        from trainables.task import example_batch

        self.task, self.device = task, device
        self.model = task.build_model()
        task.initialise(self.model, 0)
        self.model.to(device).train()
        batch = example_batch(task, samples, [0] * len(samples))
        self.batch = {name: tensor.to(device) for name, tensor in batch.items()}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)

    def turn(self, steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            self.task.loss(self.model, self.batch)["total"].backward()
            self.optimizer.step()
        wait(self.device)
        return time.perf_counter() - began


class Ours:
    """A trainer that goes on with one stage, turn by turn."""

    def __init__(self, spec: Any, folder: Path, batch_size: int, device: torch.device, scenes: Any) -> None:
        from datasets import Pack, Source
        from trainables.loop import Trainer
        from trainables.problem import Problem, SourceFacts
        from trainables.stage import Training
        from trainables.store import Store

        source, val = (Source([Pack.open(folder / name)]) for name in ("train", "val"))
        behind = scenes.training.digest if scenes else None
        training = Training(batch_size=batch_size, warmup=0, precision="fp32")
        facts = SourceFacts(source.digest, len(source))
        self.problem = lambda steps: Problem(spec, training, facts, None, (steps,), backgrounds=behind)
        store = Store(str(folder / "store"), "benchmark")
        self.trainer = Trainer(
            spec, [source], val=val, tests={}, store_of=lambda _: store, device=device, scenes=scenes, num_workers=1
        )
        self.device, self.done = device, 0

    def turn(self, steps: int) -> float:
        from trainables.path import path_of
        from trainables.recipe import Recipe

        self.done += steps
        path = path_of(Recipe(schedule="real_only", real_fraction=1.0, lr=1e-3), self.problem(self.done), 0)
        began = time.perf_counter()
        list(self.trainer.train(path, (self.done,)))
        wait(self.device)
        return time.perf_counter() - began - self.forward_seconds()

    def forward_seconds(self) -> float:
        """The evaluation's forward pass alone, which any loop has."""
        from datasets import eval_batches

        live: Any = self.trainer._live
        task: Any = self.trainer.task
        (batch,) = eval_batches(self.trainer.sets.val, task.prepare, task.columns, batch_size=VALIDATION)
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        given = batch["image"] if live.stage.task.kind == "landmarks" else batch
        wait(self.device)
        began = time.perf_counter()
        with torch.no_grad():
            task.predict(live.average, given)
        wait(self.device)
        return time.perf_counter() - began


def rows(row: Callable[[np.random.Generator], Row], count: int, seed: int) -> Iterator[Row]:
    rng = np.random.Generator(np.random.Philox(seed))
    return ({"id": str(i), **row(rng)} for i in range(count))


def rooms(folder: Path, resolution: int) -> Any:
    """Backgrounds of noise."""
    from datasets import write_pack
    from datasets.compositing import Compositor, Scenes

    def pictures(seed: int) -> Iterator[Row]:
        rng = np.random.Generator(np.random.Philox(seed))
        return ({"image": rng.integers(0, 256, (resolution, resolution, 3), np.uint8)} for _ in range(4))

    both = [
        Compositor.over([write_pack(folder / f"rooms-{seed}", pictures(seed), source={"format": "benchmark"})])
        for seed in (3, 4)
    ]
    return Scenes(*both)


def measure(name: str, given: argparse.Namespace, device: torch.device) -> tuple[float, float]:
    """Overhead, and images per second of our loop."""
    from datasets import write_pack
    from trainables.task import build_task

    spec, row = TASKS[name](given.resolution)
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        for part, count, seed in (("train", ROWS, 0), ("val", VALIDATION, 1)):
            write_pack(folder / part, rows(row, count, seed), source={"format": "benchmark"})
        scenes = rooms(folder, given.resolution) if spec.composes else None
        task = build_task(spec, scenes)
        held = [task.prepare(sample) for sample in rows(row, given.batch, 2)]
        plain, ours = Plain(task, held, device), Ours(spec, folder, given.batch, device, scenes)
        plain.turn(1)
        steps = max(2, round(given.seconds / plain.turn(1)))
        ours.turn(1)
        turns = [(plain.turn(steps), ours.turn(steps)) for _ in range(given.rounds)]
    for p, o in turns:
        print(f"{name}: {steps} steps a turn, plain {p / steps:.3f} s a step, ours {o / steps:.3f}")
    overhead = statistics.median(o / p - 1 for p, o in turns)
    return overhead, steps * given.batch / statistics.median(o for _, o in turns)


def main() -> None:
    from trainables.numerics import set_deterministic

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="a turn, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=256)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    set_deterministic(os.cpu_count() or 1)
    figures = {name: measure(name, given, device) for name in given.tasks}
    print(
        json.dumps(
            {
                "overhead": {name: round(overhead, 4) for name, (overhead, _) in figures.items()},
                "images_per_s": {name: round(rate, 3) for name, (_, rate) in figures.items()},
                "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            }
        )
    )


if __name__ == "__main__":
    main()
