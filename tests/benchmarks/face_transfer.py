"""What are the embedded faces worth to a landmark predictor? Trained on renders, tested on real photographs.

    python tests/benchmarks/face_transfer.py [--renders PACK ...] [--count 2000] [--data DIR] [--report DIR]

A cascade of regression trees (dlib's; Kazemi and Sullivan 2014) learns the 68 iBUG points from

    renders          rendered faces: --renders, or --count of them made here
    real             the photographs of --train, once each: few faces are 8 initial shapes each to these trees
    real_repeated    the same photographs as often as in `both`: what the renders add, they must add to this
    both             the renders and each photograph so often that all of them weigh --real-weight renders

and is tested on the photographs of every other folder of --data that holds .pts files, beside the mean shape of the
training photographs. Errors are NME: distances over that of the outer eye corners (36, 45), averaged over the inner
51 points (17 to 67) or all 68, then over photographs. The errors on the training folder are printed as a check.

More than anything else these trees want many initial shapes: 80 photographs once each give 0.067 on Helen, 13 times
each 0.041. So `both` has to be read beside `real_repeated`, not beside `real`. On training photographs held out, each
half by trees that saw the other and 500 renders, --real-weight 0.25, 0.5, 1 and 2 gave 0.0505, 0.0480, 0.0454 and
0.0449; the default takes half as long as 2 and is the reference table's. With several values after it the choice is
made anew, in that way. With 2,000 renders the four predictors take some 12 minutes of processor time; another seed of
--seeds moves an error by 0.0005 (many shapes) to 0.003 (`real`).

The box, given from the labels to training and test alike, is the square around the centre of the inner 51 points'
tight box, of the same area. The jaw has no part in it: projections of 3-D points and visible outlines differ there,
and a turned head's jaw says little of where its face is (the mean shape's NME on Helen is 0.117 in this box and 0.192
in the square around all 68 points). Crops around it have one scale, so every box is the same for dlib.

The last line is JSON: `nme_PREDICTOR` is the inner 51 points' on helen/testset, `nme_PREDICTOR_FOLDER` a folder's.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from datasets import Pack

REGIONS = {
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
    "jaw": slice(0, 17),
    "inner 51": slice(17, 68),
    "all 68": slice(0, 68),
}
INNER = REGIONS["inner 51"]
HEADLINE = "helen/testset"
FACE = 128  # side of the box in a crop, pixels; 256 and 400 gave the same error within the seeds' spread
MARGIN = 64  # of a crop around the box, pixels: features and jaws lie outside the box too
RENDER_SEED = 7
IMAGES = (".jpg", ".png")


class BenchmarkError(ValueError):
    """The benchmark cannot be run as asked; one line."""


@dataclass(frozen=True)
class Face:
    """A crop around a face: image uint8 [FACE + 2 MARGIN] * 2, grey, and points float64 [68, 2] in its pixels."""

    name: str
    image: np.ndarray
    points: np.ndarray


def box(points: np.ndarray) -> tuple[np.ndarray, float]:
    """(first corner float64 [2], side) of the square that stands for a face with points [68, 2]."""
    low, high = points[INNER].min(0), points[INNER].max(0)
    side = float(np.sqrt(np.prod(high - low)))
    return (low + high - side) / 2, side


def crop(name: str, image: np.ndarray, points: np.ndarray) -> Face:
    """The face of a grey image uint8 [H, W]; what lies outside the image repeats its border."""
    corner, side = box(points)
    scale = FACE / side
    if scale < 0.9:  # blurred as an area filter would, before it is sampled more coarsely
        image = cv2.GaussianBlur(image, (0, 0), 0.5 * np.sqrt(scale**-2 - 1))
    offset = MARGIN - corner * scale
    place = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    length = FACE + 2 * MARGIN
    pixels = cv2.warpAffine(image, place, (length, length), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return Face(name, pixels, points * scale + offset)


def read_photographs(folder: Path) -> list[Face]:
    """The faces of a folder's .pts files, each beside its image, in the order of their names."""
    from datasets.formats.pts import read_pts

    faces = []
    for path in sorted(folder.glob("*.pts")):
        where = next((path.with_suffix(ending) for ending in IMAGES if path.with_suffix(ending).is_file()), None)
        if where is None:
            raise BenchmarkError(f"{path}: must have an image of its name beside it ({' or '.join(IMAGES)})")
        # As the pixels are stored: the annotators' tools knew of no orientation tag.
        image = cv2.imread(str(where), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise BenchmarkError(f"{where}: not a readable image; replace or remove it")
        faces.append(crop(path.stem, image, read_pts(path)))
    return faces


def folders_to_test_on(data: Path, train: Path) -> dict[str, Path]:
    """Every folder of `data` that holds .pts files, but for the training one, by its path below `data`."""
    found = sorted({path.parent for path in data.rglob("*.pts")} - {train})
    if not found:
        raise BenchmarkError(f"{data}: must hold folders of .pts files beside {train}, but there is none")
    return {path.relative_to(data).as_posix() if path != data else path.name: path for path in found}


def render_pack(out: Path, columns: tuple[str, ...], given: argparse.Namespace) -> "Pack":
    """A pack of rendered faces as `python -m datasets faces` writes it."""
    from datasets import write_pack
    from datasets.generate import FaceSet, generate_faces

    faces = FaceSet(given.count, given.size, given.domain, RENDER_SEED, given.panoramas, columns)
    return write_pack(out, generate_faces(faces, workers=given.workers), source=faces.source)


def read_renders(given: argparse.Namespace, folder: Path) -> list[Face]:
    """The faces of the packs that were given, or of one that is rendered into `folder`."""
    from datasets import Pack

    columns = ("id", "image", given.labels)
    packs = [Pack.open(path) for path in given.renders]
    if not packs:
        began = time.monotonic()
        packs = [render_pack(folder / "renders", columns, given)]
        print(f"rendered {len(packs[0])} faces of {given.size} px in {time.monotonic() - began:.0f} s", flush=True)
    faces = []
    for pack in packs:
        if given.labels not in pack.columns:
            raise BenchmarkError(f"{pack.path}: must have column {given.labels!r}, but has {', '.join(pack.columns)}")
        for i in range(len(pack)):
            row: dict[str, Any] = pack.sample(i, columns)
            grey = cv2.cvtColor(row["image"], cv2.COLOR_RGB2GRAY)
            faces.append(crop(row["id"], grey, row[given.labels].astype(np.float64)))
    return faces


class Trees:
    """dlib's predictor of the 68 points, trained on faces.

    seed     of dlib's features, splits and initial shapes
    threads  at most this many; another number gives other trees, by the order of its sums
    """

    def __init__(self, faces: Sequence[Face], seed: int, threads: int) -> None:
        import dlib

        self._box = dlib.rectangle(MARGIN, MARGIN, MARGIN + FACE - 1, MARGIN + FACE - 1)
        options = dlib.shape_predictor_training_options()
        options.tree_depth = 4
        options.nu = 0.1
        options.cascade_depth = 10
        options.oversampling_amount = 8
        options.feature_pool_size = 400
        options.num_test_splits = 20
        options.num_trees_per_cascade_level = 500
        options.random_seed = str(seed)
        options.num_threads = threads
        labels = []
        for face in faces:
            points = [dlib.point(round(x), round(y)) for x, y in face.points.tolist()]
            labels.append([dlib.full_object_detection(self._box, points)])
        self._predictor = dlib.train_shape_predictor([face.image for face in faces], labels, options)

    def predict(self, faces: Sequence[Face]) -> np.ndarray:
        """Points float64 [N, 68, 2] in the crops' pixels."""
        parts = [self._predictor(face.image, self._box).parts() for face in faces]
        return np.array([[(point.x, point.y) for point in of_face] for of_face in parts], np.float64)


def truth(faces: Sequence[Face]) -> np.ndarray:
    return np.array([face.points for face in faces])


def errors(predicted: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Distances over that of the outer eye corners, float64 [..., N, 68]; `predicted` is [..., N, 68, 2]."""
    points = truth(faces)
    ocular = np.linalg.norm(points[:, 45] - points[:, 36], axis=-1)
    return np.linalg.norm(predicted - points, axis=-1) / ocular[:, None]


def offsets(predicted: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Mean signed errors float64 [68, 2] over that distance: along the line of the eyes, and down across it."""
    points = truth(faces)
    eyes = points[:, 45] - points[:, 36]
    frames = np.stack([eyes, np.stack([-eyes[:, 1], eyes[:, 0]], -1)], 1) / (eyes**2).sum(-1)[:, None, None]
    return np.einsum("nij,...npj->...npi", frames, predicted - points).reshape(-1, 68, 2).mean(0)


def num_copies(weight: float, renders: Sequence[Face], real: Sequence[Face]) -> int:
    """How often each photograph is given, so that all together weigh `weight` times the renders."""
    return max(1, round(weight * len(renders) / len(real)))


def choose_weight(renders: list[Face], real: list[Face], given: argparse.Namespace) -> float:
    """The weight with the lowest error on training photographs held out: each half by trees that saw the other."""
    found = {}
    for weight in given.real_weight:
        halves = []
        for half in (0, 1):
            seen, held_out = real[half::2], real[1 - half :: 2]
            trees = Trees([*renders, *seen * num_copies(weight, renders, seen)], 0, given.threads)
            halves.append(errors(trees.predict(held_out), held_out)[:, INNER].mean())
        found[weight] = float(np.mean(halves))
        print(f"real weight {weight:g}: inner 51 on held-out training photographs {found[weight]:.4f}", flush=True)
    return min(found, key=lambda weight: found[weight])


def train_all(renders: list[Face], real: list[Face], given: argparse.Namespace) -> dict[str, list[Trees]]:
    """The trees of every seed by what they learned from."""
    weight = given.real_weight[0] if len(given.real_weight) == 1 else choose_weight(renders, real, given)
    copies = num_copies(weight, renders, real)
    print(f"{len(renders)} renders, {len(real)} photographs; in `both` and `real_repeated` each {copies} times")
    of = {"renders": renders, "real": real, "real_repeated": real * copies, "both": renders + real * copies}
    trained: dict[str, list[Trees]] = {}
    for name, faces in of.items():
        if name == "real_repeated" and copies == 1:
            trained[name] = trained["real"]
            continue
        began = time.monotonic()
        trained[name] = [Trees(faces, seed, given.threads) for seed in range(given.seeds)]
        took = (time.monotonic() - began) / given.seeds
        print(f"trained {name} on {len(faces)} faces, {took:.0f} s a seed", flush=True)
    return trained


def print_table(title: str, of_predictor: dict[str, np.ndarray]) -> None:
    """NME by region of each predictor, from its errors float64 [seeds, N, 68]."""
    print(f"\n{title:<44}" + "".join(f"{region:>10}" for region in (*REGIONS, "over 0.1", "seeds +-")))
    for name, found in of_predictor.items():
        inner = found[..., INNER].mean(-1)
        spread = f"{inner.mean(-1).std(ddof=1):10.4f}" if len(inner) > 1 else f"{'-':>10}"
        regions = "".join(f"{found[..., points].mean():10.4f}" for points in REGIONS.values())
        print(f"  {name:<42}{regions}{(inner > 0.1).mean():10.0%}{spread}")


def print_offsets(trees: list[Trees], renders: list[Face], real: list[Face]) -> None:
    predicted = offsets(np.array([one.predict(real) for one in trees]), real)
    shapes = offsets(np.broadcast_to(truth(renders).mean(0), truth(real).shape), real)
    print("\nMean signed offset on the training photographs, in inter-ocular distances, x along the eyes, y down:")
    print("that of the renders' trees, and that of the renders' mean shape")
    for start in range(17):
        columns = [f"{i:>4} {'{:+.3f} {:+.3f}'.format(*predicted[i])} {_pair(shapes[i])}" for i in range(start, 68, 17)]
        print("   ".join(columns))


def _pair(offset: np.ndarray) -> str:
    return f"({offset[0]:+.3f} {offset[1]:+.3f})"


def draw(faces: Sequence[Face], predicted: np.ndarray | None, captions: Sequence[str], columns: int = 6) -> np.ndarray:
    """A contact sheet BGR uint8: crops with the true points in green and the predicted ones in red."""
    tiles = []
    for number, (face, caption) in enumerate(zip(faces, captions, strict=True)):
        tile = cv2.cvtColor(cv2.resize(face.image, None, fx=1.5, fy=1.5), cv2.COLOR_GRAY2BGR)
        for x, y in face.points * 1.5 + 0.25:
            cv2.circle(tile, (round(x), round(y)), 2, (0, 220, 0), -1, cv2.LINE_AA)
        for x, y in () if predicted is None else predicted[number] * 1.5 + 0.25:
            cv2.circle(tile, (round(x), round(y)), 2, (40, 40, 255), -1, cv2.LINE_AA)
        cv2.putText(tile, caption, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 255, 255), 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def write_report(folder: Path, trees: Trees, renders: list[Face], tests: dict[str, list[Face]]) -> None:
    """Contact sheets: for each folder the photographs on which the renders' trees are worst, and some renders."""
    folder.mkdir(parents=True, exist_ok=True)
    sheets = {"renders": draw(renders[:24], None, [face.name for face in renders[:24]])}
    for name, faces in tests.items():
        predicted = trees.predict(faces)
        inner = errors(predicted, faces)[:, INNER].mean(-1)
        worst = np.argsort(-inner)[:24]
        captions = [f"{inner[i]:.3f} {faces[i].name}" for i in worst]
        sheets[f"worst_{_key(name)}"] = draw([faces[i] for i in worst], predicted[worst], captions)
    for name, sheet in sheets.items():
        cv2.imwrite(str(folder / f"{name}.png"), sheet)
        print(folder / f"{name}.png")


def _key(folder: str) -> str:
    return folder.replace("/", "_")


def run(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Trains, tests and prints; the figures of the last line."""
    data = given.data.resolve()
    train = given.train.resolve() if given.train else data / "helen" / "trainset"
    folders = folders_to_test_on(data, train)
    real = read_photographs(train)
    if len(real) < 2:
        raise BenchmarkError(
            f"{train}: must hold photographs to train on, but has {len(real)}; name a folder by --train"
        )
    tests = {name: read_photographs(path) for name, path in folders.items()}
    renders = read_renders(given, folder)
    trained = train_all(renders, real, given)
    headline = HEADLINE if HEADLINE in tests else next(iter(tests))
    figures: dict[str, float] = {}
    by_folder: dict[str, float] = {}
    check = train.relative_to(data).as_posix() if train.is_relative_to(data) else train.name
    for name, faces in {**tests, check: real}.items():
        found = {"mean_shape": errors(np.broadcast_to(truth(real).mean(0), (1, len(faces), 68, 2)), faces)}
        for predictor, trees in trained.items():
            found[predictor] = errors(np.array([one.predict(faces) for one in trees]), faces)
        print_table(f"{name} ({len(faces)}{', trained on: a check' if name == check else ''})", found)
        for predictor, values in found.items():
            by_folder[f"nme_{predictor}_{_key(name)}"] = round(float(values[..., INNER].mean()), 4)
            if name == headline:
                figures[f"nme_{predictor}"] = by_folder[f"nme_{predictor}_{_key(name)}"]
    print_offsets(trained["renders"], renders, real)
    if given.report:
        write_report(given.report, trained["renders"][0], renders, tests)
    print(f"\nnme_PREDICTOR is that of {headline}, inner 51 points")
    return figures | by_folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", nargs="+", type=Path, default=[], metavar="PACK", help="instead of rendering")
    parser.add_argument("--count", type=int, default=2000, help="faces to render")
    parser.add_argument("--size", type=int, default=256, help="of the rendered faces, pixels")
    parser.add_argument("--domain", default="studio", help="of the rendered faces")
    parser.add_argument("--panoramas", type=Path, metavar="DIR", help="that light the rendered faces")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--labels", default="landmarks_contour", help="column of the renders' points")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "300w", help="photographs")
    parser.add_argument("--train", type=Path, help="the folder of training photographs; DATA/helen/trainset")
    parser.add_argument(
        "--real-weight",
        nargs="+",
        type=float,
        default=[0.5],
        help="of all photographs in `both`, in renders; of several, the best on held-out training photographs is taken",
    )
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each predictor, averaged")
    parser.add_argument("--threads", type=int, default=2, help="of the training; another number gives other trees")
    parser.add_argument("--report", type=Path, metavar="DIR", help="writes contact sheets of the worst photographs")
    return parser.parse_args(arguments)


def main() -> None:
    given = parse()
    try:
        import dlib  # noqa: F401
    except ImportError:
        sys.exit("error: this benchmark needs dlib, which is in no other part: pip install dlib-bin (extra `bench`)")
    with tempfile.TemporaryDirectory() as folder:
        try:
            figures = run(given, Path(folder))
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
