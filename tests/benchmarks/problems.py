"""The two search problems of `search_vs_stock.py`, as search files, and the packs that they read."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from search.config import SearchConfig, load
from tests.benchmarks.comparison import SLOTS

SIZE = 48  # pixels; with the network below a training step of 8 images takes some 25 ms of one CPU thread
RENDERS, PHOTOGRAPHS, JUDGES = 1000, 80, 40  # faces in the synthetic pack, in the real one and in `val`
FACTOR = 3  # of successive halving, on all sides; rungs are a ninth, a third and the whole of a stage

COMMON = f"""
task: {{kind: landmarks, points: 51, stacks: 1, width: 0.125, depth: 2, resolution: {SIZE}, decoding: refined}}
objective: {{metric: val/nme, mode: min}}
sampler: tpe
pruner: {{kind: asha, factor: {FACTOR}}}
training: {{optimizer: adam, weight_decay: 0, batch_size: 8, warmup: 10, ema_decay: 0.95}}
slots: {{count: {SLOTS}, workers: 1, gpus_per_worker: 0, threads: 1}}
"""

# The landmark study's question, with every adaptation of fine-tuning that reads a trained trunk. (Those that translate
# pictures read the recipe's own photographs before its trunk is trained, so that each has one of its own.)
STUDY = """
schedule: [real_only, synthetic_only, finetune]
adaptation: [none, real_bn, adabn]
real_fraction: [0.1, 0.3, 1.0]
synthetic_fraction: [1.0]
pretrain: {lr: [0.002, 0.006]}
lr: {low: 2.0e-4, high: 1.0e-2, log: true}
"""

# The README's search, with all schedules.
BROAD = """
schedule: [real_only, synthetic_only, mixed, gradual, finetune, mixed_finetune]
adaptation: [none, real_bn]
real_fraction: [0.05, 0.25, 1.0]
synthetic_fraction: [1.0]
synthetic_share: [natural, 0.5]
pretrain: {lr: [0.005]}
lr: {low: 1.0e-3, high: 1.0e-2, log: true}
"""


@dataclass(frozen=True)
class SearchProblem:
    """A space, and how long its recipes are trained.

    steps     of the last stage; pretraining is `pretrain` times as long
    trials    of a search
    list      what the space has in place of its own values where every recipe of a fixed list is trained: a grid
              without pruning
    """

    name: str
    space: str
    steps: int
    pretrain: int
    trials: int
    list: dict[str, Any]

    def config(
        self, folder: Path, data: dict[str, Any], *, seed: int, trials: int | None = None, steps: int | None = None
    ) -> tuple[SearchConfig, str]:
        """The search, read from a file that is written into `folder`, and the file's text."""
        budget = {"trials": trials or self.trials}
        return self._written(folder, data, self._space(steps), budget, steps, {"seed": seed})

    def fixed_list(self, folder: Path, data: dict[str, Any], *, steps: int | None = None) -> tuple[SearchConfig, str]:
        """The same over a fixed list of recipes."""
        return self._written(
            folder, data, self._space(steps) | self.list, {}, steps, {"sampler": "grid", "pruner": "none"}
        )

    def _space(self, steps: int | None) -> dict[str, Any]:
        space: dict[str, Any] = yaml.safe_load(self.space)
        space["pretrain"]["steps"] = [self.pretrain * (steps or self.steps)]
        return space

    def _written(
        self,
        folder: Path,
        data: dict[str, Any],
        space: dict[str, Any],
        budget: dict[str, Any],
        steps: int | None,
        update: dict[str, Any],
    ) -> tuple[SearchConfig, str]:
        steps = steps or self.steps
        if steps % FACTOR**2:
            raise ValueError(f"steps must be a multiple of {FACTOR**2}, so that a ninth is a rung, but is {steps}")
        rungs = [steps // FACTOR**2, steps // FACTOR, steps]
        content = yaml.safe_load(COMMON) | {"name": self.name, "data": data, "space": space}
        content |= {"budget": budget | {"steps": steps, "rungs": rungs}} | update
        if self.name == "study":  # synthetic_only with adabn reads photographs without their labels
            content["data"] = data | {"references": data["real"]["faces"]}
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.name}.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return load(file), file.read_text(encoding="utf-8")


PROBLEMS = {
    "A": SearchProblem("study", STUDY, steps=144, pretrain=4, trials=80, list={"lr": [0.002]}),
    "B": SearchProblem(
        "broad",
        BROAD,
        steps=108,
        pretrain=3,
        trials=60,
        list={"real_fraction": [0.25, 1.0], "synthetic_share": [0.5], "lr": [0.005]},
    ),
}


def make_packs(packs: Path, photographs: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The `data` of the searches; packs that are not in the folder `packs` yet are made.

    The real domain is 300-W's Helen below `photographs`, or rendered `street` faces where there are none.
    """
    helen = photographs / "300w/helen"
    synthetic = packs / f"studio-{SIZE}"
    _faces(synthetic, RENDERS, "studio", 7, say)
    if helen.is_dir():
        real, val = packs / f"helen-train-{SIZE}", packs / f"helen-test-{SIZE}"
        _photographs(real, helen / "trainset", say)
        _photographs(val, helen / "testset", say)
    else:
        say(f"no photographs in {helen}: rendered street faces stand in for them")
        real, val = packs / f"street-train-{SIZE}", packs / f"street-test-{SIZE}"
        _faces(real, PHOTOGRAPHS, "street", 8, say)
        _faces(val, JUDGES, "street", 9, say)
    return {"real": {"faces": str(real)}, "synthetic": {"studio": str(synthetic)}, "val": str(val)}


def _faces(pack: Path, count: int, domain: str, seed: int, say: Callable[[str], None]) -> None:
    options = ["--count", str(count), "--size", str(SIZE), "--domain", domain, "--seed", str(seed), "--workers", "2"]
    _run(pack, ["faces", str(pack), *options, "--columns", "image,landmarks"], say)


def _photographs(pack: Path, source: Path, say: Callable[[str], None]) -> None:
    _run(pack, ["pack", "ibug_300w", str(source), str(pack), "--size", str(SIZE), "--crop", "face"], say)


def _run(pack: Path, command: list[str], say: Callable[[str], None]) -> None:
    if (pack / "manifest.json").exists():
        return
    say(f"python -m datasets {' '.join(command)}")
    subprocess.run(
        [sys.executable, "-m", "datasets", *command],
        cwd=Path(__file__).resolve().parents[2],
        check=True,
        stdout=sys.stderr,
    )
