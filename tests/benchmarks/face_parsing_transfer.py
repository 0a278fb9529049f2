"""What are the embedded faces worth to a face parser? Trained on renders alone, tested on real photographs.

    python tests/benchmarks/face_parsing_transfer.py [--renders PACK ...] [--photographs DIR] [--steps 9600] [--seeds 1]

The demo's segmentation (a recipe `synthetic_only`, in this one process, without Ray) learns from `studio` faces and is
tested on all CelebAMask-HQ photographs of a folder, at the same resolution. Without --renders, --count faces are
rendered into a temporary folder. The photographs choose nothing: the length of the training is given beforehand, and
the last step is what counts. The IoU on the renders it learned from stands beside that on photographs, and tells a
class that does not transfer from one that was not learned: a quarter of this length learns neither eyes nor lips, on
any renders. A seed takes 15 minutes on one core.

The last line is JSON: mIoU of the nine classes and IoU of each, from one confusion matrix over all
photographs.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from datasets import Pack, Source

COLUMNS = ("id", "image", "segmentation")
RENDER_SEED = 7


def render_pack(out: Path, given: argparse.Namespace) -> "Pack":
    """A pack of rendered faces as `python -m datasets faces` writes it."""
    from datasets import write_pack
    from datasets.classes import FACE_CLASSES
    from datasets.generate import FaceSet, generate_faces

    faces = FaceSet(given.count, given.size, given.domain, RENDER_SEED, given.panoramas, COLUMNS)
    return write_pack(out, generate_faces(faces, workers=given.workers), source=faces.source, classes=FACE_CLASSES)


def train_and_test(renders: "Source", photographs: "Source", given: argparse.Namespace, seed: int) -> dict[str, float]:
    """The metrics after `given.steps` steps on `renders`: "val/iou/nose" on `photographs`, "test/renders/iou/nose"."""
    import torch

    from trainables.loop import Trainer
    from trainables.numerics import set_deterministic
    from trainables.path import path_of
    from trainables.problem import Problem, SourceFacts
    from trainables.recipe import Recipe
    from trainables.segmentation.spec import SegmentationSpec
    from trainables.stage import Training
    from trainables.store import Store

    set_deterministic(given.threads)
    spec = SegmentationSpec(kind="segmentation", width=given.width, resolution=given.size, aspp_rates=(1, 2, 3))
    training = Training(batch_size=given.batch_size, warmup=20, ema_decay=0.98)
    facts = SourceFacts(renders.digest, len(renders))
    problem = Problem(spec, training, real=None, synthetic=facts, rungs=(given.steps,))
    recipe = Recipe(schedule="synthetic_only", synthetic_fraction=1.0, lr=given.lr)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            spec,
            [renders],
            val=photographs,
            tests={"renders": renders},
            store_of=lambda namespace: Store(folder, "benchmark"),
            device=torch.device("cpu"),
        )
        for source in (renders, photographs):
            for pack in source.packs:
                trainer.task.check_pack(pack)
        (report,) = trainer.train(path_of(recipe, problem, seed), problem.rungs)
    return report.metrics


def measure(given: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Each metric of every seed; packs that have to be made are made in `folder`."""
    from datasets import Pack, Source, write_pack
    from datasets.formats import read

    reading = read("celebamask_hq", given.photographs, size=given.size)
    photographs = write_pack(folder / "photographs", reading.samples, source=reading.source, classes=reading.classes)
    packs = [Pack.open(path) for path in given.renders]
    if not packs:
        began = time.monotonic()
        packs = [render_pack(folder / "renders", given)]
        print(f"rendered {len(packs[0])} faces in {time.monotonic() - began:.0f} s", flush=True)
    renders = Source(packs)
    print(f"training on {len(renders)} renders, testing on {len(photographs)} photographs, {given.size} px", flush=True)
    values: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        began = time.monotonic()
        metrics = train_and_test(renders, Source([photographs]), given, seed)
        took = time.monotonic() - began
        print(f"seed {seed}: mIoU {metrics['val/miou']:.4f} after {given.steps} steps, {took:.0f} s", flush=True)
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    return values


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", nargs="+", type=Path, default=[], metavar="PACK", help="instead of rendering")
    parser.add_argument("--count", type=int, default=2000, help="faces to render")
    parser.add_argument("--domain", default="studio", help="of the rendered faces")
    parser.add_argument("--panoramas", type=Path, metavar="DIR", help="that light the rendered faces")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--photographs", type=Path, default=ROOT.parent / "shared" / "data" / "celebamask_hq")
    parser.add_argument("--size", type=int, default=64, help="resolution, pixels")
    parser.add_argument("--width", type=float, default=0.25, help="of the model")
    parser.add_argument("--steps", type=int, default=9600)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=1, help="trainings, averaged")
    parser.add_argument("--threads", type=int, default=1, help="of the training; changes the last bits")
    return parser.parse_args(arguments)


def main() -> None:
    from datasets.classes import FACE_CLASSES

    given = parse()
    with tempfile.TemporaryDirectory() as folder:
        try:
            values = measure(given, Path(folder))
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")
    means = {name: statistics.fmean(of_seeds) for name, of_seeds in values.items()}
    print(f"{'':>16} photographs   the renders it learned from   seeds on photographs")
    for name in FACE_CLASSES:
        seeds = " ".join(f"{value:.3f}" for value in values[f"val/iou/{name}"])
        print(f"{name:>16} {means[f'val/iou/{name}']:11.4f} {means[f'test/renders/iou/{name}']:29.4f}   {seeds}")
    for name in ("miou", "miou_foreground", "pixel_accuracy"):
        print(f"{name:>16} {means[f'val/{name}']:11.4f} {means[f'test/renders/{name}']:29.4f}")
    iou = {name: round(means[f"val/iou/{name}"], 4) for name in FACE_CLASSES}
    print(json.dumps({"miou": round(means["val/miou"], 4), "iou": iou}))


if __name__ == "__main__":
    main()
