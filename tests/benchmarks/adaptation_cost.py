"""What does a method of adaptation cost, by the time of a training step?

    python tests/benchmarks/adaptation_cost.py [--models deeplab hourglass] [--batch 8] [--rounds 15] [--threads 1]

DeepLabv3+ on DRN-D-22 and the hourglass of two stacks, at --resolution pixels and the full width, half of the batch
real and half synthetic: forward, loss, backward and the optimizer's step. In each round every method, `none` included,
makes --steps steps, in an order that turns from round to round, since others may use the machine; a figure is
the median over rounds of a method's time over that of `none` in the same round.

The last line is JSON.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

METHODS = ("none", "real_bn", "dsbn", "dson", "adain")


class AdaIn(BaseModel):
    """As costly as it gets: in every layer."""

    strength: float = 1.0
    layers: str = "all"


def case(name: str, resolution: int) -> tuple[Any, dict[str, np.ndarray]]:
    """A spec, and a row to learn from."""
    from trainables.landmarks.spec import LandmarksSpec
    from trainables.segmentation.spec import SegmentationSpec

    rng = np.random.Generator(np.random.Philox(0))
    image = rng.integers(0, 256, (resolution, resolution, 3), np.uint8)
    if name == "deeplab":
        label = rng.integers(0, 9, (resolution, resolution), np.uint8)
        spec = SegmentationSpec(kind="segmentation", backbone="drn_d_22", resolution=resolution)
        return spec, {"image": image, "segmentation": label}
    points = rng.uniform(0, resolution - 1, (51, 2)).astype(np.float32)
    return LandmarksSpec(kind="landmarks", stacks=2, resolution=resolution), {"image": image, "landmarks": points}


class Trained:
    """A model of a method, with its optimizer."""

    def __init__(self, task: Any, method: str, batch: Any, device: torch.device, precision: str) -> None:
        from trainables.adaptation import adapt

        self.task, self.batch, self.device = task, batch, device
        self.bf16 = precision == "bf16"
        self.model = task.build_model()
        task.initialise(self.model, 0)
        adapt(self.model, method, AdaIn() if method == "adain" else None)
        self.model.to(device).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)

    def turn(self, steps: int) -> float:
        """Seconds that `steps` steps take."""
        from trainables.adaptation import domains

        began = time.perf_counter()
        for _ in range(steps):
            autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
            with autocast, domains(self.model, self.batch["domain"]):
                loss = self.task.loss(self.model, self.batch)["total"]
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def measure(name: str, given: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """The methods' step time over that of `none`."""
    from trainables.task import build_task, example_batch

    spec, row = case(name, given.resolution)
    task = build_task(spec)
    half = given.batch // 2
    samples = [task.augment(row, seed) for seed in range(given.batch)]
    batch = example_batch(task, samples, [0] * half + [1] * (given.batch - half))
    batch = {key: tensor.to(device) for key, tensor in batch.items()}
    trained = {method: Trained(task, method, batch, device, given.precision) for method in METHODS}
    for one in trained.values():
        one.turn(given.steps)
    rounds = []
    for k in range(given.rounds):
        order = METHODS[k % len(METHODS) :] + METHODS[: k % len(METHODS)]
        rounds.append({method: trained[method].turn(given.steps) for method in order})
    for method in METHODS:
        seconds = statistics.median(turn[method] for turn in rounds) / given.steps
        print(f"{name}: {method} {seconds * 1000:.1f} ms a step")
    return {
        method: round(statistics.median(turn[method] / turn["none"] for turn in rounds), 3) for method in METHODS[1:]
    }


def main() -> None:
    from trainables.numerics import set_deterministic

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["deeplab", "hourglass"], default=["deeplab", "hourglass"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1, help="steps of a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    set_deterministic(given.threads)
    print(json.dumps({name: measure(name, given, device) for name in given.models}))


if __name__ == "__main__":
    main()
