"""How fast do training batches come? Four ways to read the same faces, in one run.

    python tests/benchmarks/loader.py [--faces 256] [--rows 2048] [--seconds 4] [--runs 3]

  pack        our loader from a pack, whose rows are decoded and resized once, when it is written
  folder      torch's DataLoader, cv2.imread of JPEG and PNG files, resize
  webdataset  shards of the same files' bytes
  litdata     chunks of the same bytes, as Lightning streams them

each with 1 and 2 loader processes, bare (read, decode, resize, batch) and with the augmentation of the segmentation
task. The originals are embedded faces of 512 px (CelebAMask-HQ's are 512 and 1024), written --rows / --faces times
each; batches are 8 images of 256 px. OpenCV has one thread a process on every side. All files are in the page cache.
Figures are medians over --runs of the rate after the first 8 batches; nobody's epoch ends meanwhile. `augmentation` is
the same transform on one face in memory: what any loader can reach at most.

`drawn` is our loader where the training device augments (datasets/batched.py): it reads, and draws the numbers. What
the device then does with its batches is timed apart, on the GPU where there is one, else on one thread of the CPU.

`make bench` installs webdataset. litdata declares torchvision, which has no build beside this torch, and does without
it: `pip install --no-deps litdata`, then `pip install lightning-utilities boto3 obstore`. One that is absent is null.

The memory of a slot is what a process of its own, with one loader process, has after an epoch, beyond what it had
before it opened the pack; pages that the two share count once, and those of the pack are the page cache's.

The last line is JSON: ratios at 2 loader processes, our augmented images per second there, and megabytes a slot.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from datasets import Pack
    from trainables.segmentation.task import Segmentation

ORIGINAL, SIZE, BATCH, WARM_UP = 512, 256, 8, 8
Arrays = dict[str, np.ndarray]
Augment = Callable[[Arrays, int], Arrays]


def segmentation() -> "Segmentation":
    from trainables.segmentation.spec import SegmentationSpec
    from trainables.segmentation.task import Segmentation

    return Segmentation(SegmentationSpec(kind="segmentation", resolution=SIZE))


def bare(sample: Arrays, _: int) -> Arrays:
    return dict(sample)


def decode(jpeg: bytes, png: bytes) -> Arrays:
    """A sample at SIZE from the bytes of its files."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    labels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    return shrink(image, labels)


def shrink(image: Any, labels: Any) -> Arrays:
    image = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return {"image": image, "segmentation": cv2.resize(labels, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)}


def one_thread(_: int = 0) -> None:
    cv2.setNumThreads(0)


class Folder:
    """Dataset: cv2.imread, resize, transform."""

    def __init__(self, files: list[tuple[str, str]], rows: int, augment: Augment) -> None:
        self.files, self.rows, self.augment = files, rows, augment

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, i: int) -> Arrays:
        jpeg, png = self.files[i % len(self.files)]
        return self.augment(shrink(cv2.imread(jpeg), cv2.imread(png, cv2.IMREAD_GRAYSCALE)), i)


class Held:
    """Dataset: batches of one face that is in memory."""

    def __init__(self, sample: Arrays, augment: Augment) -> None:
        self.sample, self.augment = sample, augment

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, i: int) -> Arrays:
        made = [self.augment(self.sample, i * BATCH + k) for k in range(BATCH)]
        return {name: np.stack([one[name] for one in made]) for name in made[0]}


def loaded(dataset: Any, workers: int, **options: Any) -> Iterable[Any]:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, num_workers=workers, worker_init_fn=one_thread, **options)


def of_pack(pack: "Pack", workers: int, augment: Augment) -> Iterator[Any]:
    from datasets import Domain, Source
    from datasets.loader import Loader
    from datasets.loader_processes import LoaderProcesses
    from datasets.mix import DomainRows, Mix

    source = Source([pack])
    rows = DomainRows(Domain.SYNTHETIC, source.digest, np.arange(len(source)))
    mix = Mix(BATCH, 0, [rows])
    loader = Loader({Domain.SYNTHETIC: source}, mix, augment, ("image", "segmentation"))
    return loader.batches(0, 10**6, LoaderProcesses(workers) if workers else None)


def of_row(augment: Augment, row: dict[str, Any]) -> Arrays:
    return augment(decode(row["jpg"], row["png"]), int(row["__key__"]))


def of_webdataset(folder: Path, workers: int, augment: Augment) -> Iterable[Any]:
    import webdataset

    shards = sorted(str(path) for path in folder.glob("*.tar"))
    rows = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(256).map(partial(of_row, augment))
    return loaded(rows, workers, batch_size=BATCH)


def of_litdata(folder: Path, workers: int, augment: Augment) -> Iterable[Any]:
    import litdata

    class Rows(litdata.StreamingDataset):
        def __getitem__(self, index: Any) -> Arrays:
            row = super().__getitem__(index)
            return augment(decode(row["jpg"], row["png"]), row["number"])

    rows = Rows(str(folder), shuffle=True, seed=0)
    return litdata.StreamingDataLoader(rows, batch_size=BATCH, num_workers=workers, worker_init_fn=one_thread)


def rate(batches: Iterable[Any], seconds: float) -> float:
    """Images per second after the first WARM_UP batches."""
    iterator = iter(batches)
    for _ in range(WARM_UP):
        next(iterator)
    began, count = time.perf_counter(), 0
    for _ in iterator:
        count += BATCH
        if time.perf_counter() - began > seconds:
            break
    took = time.perf_counter() - began
    del iterator
    return count / took


def write_files(folder: Path, faces: int, workers: int) -> list[tuple[str, str]]:
    from datasets.generate import FaceSet, generate_faces

    files = []
    for sample in generate_faces(FaceSet(faces, ORIGINAL, columns=("image", "segmentation")), workers=workers):
        jpeg, png = folder / f"{sample['id']}.jpg", folder / f"{sample['id']}.png"
        image: Any = sample["image"]
        cv2.imwrite(str(jpeg), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        cv2.imwrite(str(png), np.asarray(sample["segmentation"]))
        files.append((str(jpeg), str(png)))
    return files


def write_pack_of(out: Path, files: list[tuple[str, str]], rows: int) -> "Pack":
    from datasets import write_pack
    from datasets.classes import FACE_CLASSES

    samples = (
        {"id": f"{i}", **decode(*(Path(path).read_bytes() for path in files[i % len(files)]))} for i in range(rows)
    )
    return write_pack(out, samples, source={"format": "benchmark"}, classes=FACE_CLASSES)


def write_shards(out: Path, files: list[tuple[str, str]], rows: int) -> None:
    import webdataset

    with webdataset.ShardWriter(f"{out}/%04d.tar", maxcount=rows // 8, verbose=0) as writer:
        for i in range(rows):
            jpeg, png = (Path(path).read_bytes() for path in files[i % len(files)])
            writer.write({"__key__": f"{i:08d}", "jpg": jpeg, "png": png})


def chunk_row(row: tuple[int, str, str]) -> dict[str, Any]:
    number, jpeg, png = row
    return {"number": number, "jpg": Path(jpeg).read_bytes(), "png": Path(png).read_bytes()}


def write_chunks(out: Path, files: list[tuple[str, str]], rows: int) -> None:
    import litdata

    inputs = [(i, *files[i % len(files)]) for i in range(rows)]
    litdata.optimize(fn=chunk_row, inputs=inputs, output_dir=str(out), num_workers=1, chunk_bytes="16MB", verbose=False)
    multiprocessing.set_start_method("fork", force=True)  # it sets another for the whole process


def own_bytes(process: int | str = "self") -> int:
    """Memory of a process that is no file's; a page that n processes share counts 1 / n in each."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))


def slot_bytes(path: str, rows: int, end: Any) -> None:
    """In a process of its own: bytes of reading an epoch with one loader process."""
    from datasets import Pack

    one_thread()
    augment = segmentation().augment
    before = own_bytes()
    batches = of_pack(Pack.open(path), 1, augment)
    for _ in range(rows // BATCH):
        next(batches)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    loaders = [pid for pid in children if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    end.send(own_bytes() - before + sum(own_bytes(pid) for pid in loaders))


def measure_slot(path: str, rows: int) -> float:
    """Megabytes of a slot, see slot_bytes."""
    context = multiprocessing.get_context("spawn")
    link, end = context.Pipe(duplex=False)
    process = context.Process(target=slot_bytes, args=(path, rows, end))
    process.start()
    end.close()
    megabytes: float = link.recv() / 2**20
    process.join()
    return megabytes


def finish_rate(pack: "Pack", seconds: float) -> tuple[str, float]:
    """The device that augments, and the images per second that it does, batches lying in memory."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    task = segmentation()
    batches = of_pack(pack, 0, task.draw)
    held = [next(batches) for _ in range(32)]

    def finished() -> Iterator[None]:
        for i in range(10**6):
            task.finish(held[i % len(held)], device)
            if device.type == "cuda":
                torch.cuda.synchronize()
            yield

    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, 1 thread"
    return name, rate(finished(), seconds)


def measure(given: argparse.Namespace, folder: Path) -> dict[tuple[str, int, bool], float]:
    """Images per second by side, loader processes, and whether augmented; the pack stays in `folder`."""
    for name in ("files", "shards", "chunks"):
        (folder / name).mkdir()
    files = write_files(folder / "files", given.faces, workers=os.cpu_count() or 1)
    pack = write_pack_of(folder / "pack", files, given.rows)
    sides: dict[str, Callable[[int, Augment], Iterable[Any]]] = {
        "pack": lambda workers, augment: of_pack(pack, workers, augment),
        "folder": lambda workers, augment: loaded(
            Folder(files, given.rows, augment), workers, batch_size=BATCH, shuffle=True
        ),
    }
    if find_spec("webdataset"):
        write_shards(folder / "shards", files, given.rows)
        sides["webdataset"] = lambda workers, augment: of_webdataset(folder / "shards", workers, augment)
    if find_spec("litdata"):
        write_chunks(folder / "chunks", files, given.rows)
        sides["litdata"] = lambda workers, augment: of_litdata(folder / "chunks", workers, augment)
    task = segmentation()
    sides["drawn"] = lambda workers, augment: of_pack(pack, workers, task.draw)
    one = decode(*(Path(path).read_bytes() for path in files[0]))
    sides["augmentation"] = lambda workers, augment: loaded(Held(one, augment), workers, batch_size=None)
    rates: dict[tuple[str, int, bool], list[float]] = {}
    for _ in range(given.runs):  # every side in turn, so that a busy minute is no one's alone
        for workers in (1, 2):
            for augmented in (False, True):
                for name, batches in sides.items():
                    if name not in ("augmentation", "drawn") or augmented:
                        got = rate(batches(workers, task.augment if augmented else bare), given.seconds)
                        rates.setdefault((name, workers, augmented), []).append(got)
    return {key: statistics.median(values) for key, values in rates.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=256, help="different ones, rendered")
    parser.add_argument("--rows", type=int, default=2048, help="of the pack and of an epoch")
    parser.add_argument("--seconds", type=float, default=4.0, help="a run")
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    from datasets import Pack

    given = parse()
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(given, Path(folder))
        megabytes = measure_slot(f"{folder}/pack", given.rows)
        device, finished = finish_rate(Pack.open(f"{folder}/pack"), given.seconds)
    names = ("pack", "folder", "webdataset", "litdata", "augmentation", "drawn")
    print(f"{'images per second':>18} {'bare, 1':>9} {'bare, 2':>9} {'augm., 1':>9} {'augm., 2':>9}  loader processes")
    for name in names:
        values = [rates.get((name, workers, augmented)) for augmented in (False, True) for workers in (1, 2)]
        print(f"{name:>18} " + " ".join(f"{'-' if value is None else format(value, '.0f'):>9}" for value in values))
    for workers in (1, 2):
        share = 1 - rates["pack", workers, True] / rates["pack", workers, False]
        reached = rates["pack", workers, True] / rates["augmentation", workers, True]
        print(f"{workers} loader processes: augmentation is {share:.0%} of the time; {reached:.0%} of what it allows")
    print(f"augmenting what was drawn: {finished:.0f} images per second on {device}")

    def versus(name: str, augmented: bool) -> float | None:
        other = rates.get((name, 2, augmented))
        return None if other is None else round(rates["pack", 2, augmented] / other, 2)

    figures = {
        "bare_vs_folder": versus("folder", False),
        "bare_vs_webdataset": versus("webdataset", False),
        "bare_vs_litdata": versus("litdata", False),
        "augmented_vs_folder": versus("folder", True),
        "images_per_s": round(rates["pack", 2, True], 1),
        "slot_rss_mb": round(megabytes, 1),
        "drawn_images_per_s": round(rates["drawn", 2, True], 1),
        "drawn_vs_augmented": round(rates["drawn", 2, True] / rates["pack", 2, True], 2),
        "device": device,
        "device_images_per_s": round(finished, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
