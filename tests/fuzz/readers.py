"""Every place where the project reads a file that a user, another program or the network may have broken.

A reader makes a valid input in an empty folder, names the file of it that is to be broken, and reads all of it as the
commands do.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
S = 16  # pixels


@dataclass(frozen=True)
class Reader:
    """make     writes a valid input into a folder
    read     reads it: its result, or one line of ValueError or OSError that names a file
    file     the one that is broken
    form     how: "bytes", "json", "yaml"
    sealed   makes checksums and sizes those of the broken file, so that no reader is content with comparing these
    mounted  whether it is a file of this machine, or an object of a filesystem that has nothing else
    large    whether it may have as many bytes as it likes
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    file: str
    form: str = "bytes"
    sealed: Callable[[Path], object] = lambda folder: None
    mounted: bool = True
    large: bool = False


def philox(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def photo(side: int = S) -> np.ndarray:
    return philox(1).integers(0, 256, (side, side, 3), dtype=np.uint8)


def classes(side: int = S) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side]
    return ((x // 2 + y // 4) % 9).astype(np.uint8)


def face(side: int = S) -> np.ndarray:
    """68 points (x, y) within `side`."""
    return philox(3).uniform(0.2, 0.8, (68, 2)) * side


def save(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# The files that people write.


def search_file(folder: Path) -> None:
    shutil.copy(ROOT / "search/examples/adaptation_parsing.yaml", folder / "search.yaml")


def read_search(folder: Path) -> object:
    from search.config import load

    return load(folder / "search.yaml")


def population(folder: Path) -> None:
    shutil.copy(ROOT / "datasets/faces/populations/street.yaml", folder / "mine.yaml")


def read_population(folder: Path) -> object:
    from datasets.faces.population import load_population

    return load_population(folder / "mine.yaml").draw(7)


def label_table(folder: Path) -> None:
    shutil.copy(ROOT / "datasets/labels/face_api.yaml", folder / "mine.yaml")


def read_labels(folder: Path) -> object:
    from datasets.labels import load_labels

    return load_labels(folder / "mine.yaml")


# Data sets in their own layouts.


def read_format(format: str, folder: Path, **options: Any) -> object:
    from datasets import formats

    return list(formats.read(format, folder, size=S, **options).samples)


def generic(folder: Path) -> None:
    save(folder / "photos/1.jpg", photo())
    save(folder / "masks/1.png", classes())
    save(folder / "mattes/1.png", photo()[..., 0])
    write(folder / "points/1.txt", "\n".join(f"{x} {y}" for x, y in face()))
    write(folder / "train.txt", "1\n")
    write(
        folder / "dataset.yaml",
        'image: "photos/{id}.jpg"\nsegmentation: "masks/{id}.png"\nalpha: "mattes/{id}.png"\n'
        'landmarks: "points/{id}.txt"\norigin: 1\nlabels: generic\nsplits: {train: train.txt}\n',
    )


def table(folder: Path) -> None:
    save(folder / "1.png", photo())
    write(folder / "dataset.yaml", "table: samples.csv\n")
    write(folder / "samples.csv", "image,id,split,x0,y0,x1,y1\n1.png,one,train,1,2,3,4.5\n")


def sample() -> dict[str, Any]:
    from datasets.segments import SEGMENTS

    rng = philox(5)
    segments = np.full((S, S), SEGMENTS.index("background"), np.uint8)
    segments[4:12, 4:12] = SEGMENTS.index("nose")
    inside = segments == SEGMENTS.index("nose")
    return {
        "id": "one",
        "image": photo(),
        "segments": segments,
        "segmentation": classes(),
        "alpha": photo()[..., 0],
        "depth": np.where(inside, rng.uniform(1, 2, (S, S)), 0).astype(np.float16),
        "normals": np.where(inside[..., None], rng.uniform(-1, 1, (S, S, 3)), 0).astype(np.float16),
        "landmarks": face().astype(np.float32),
        "landmarks_contour": face().astype(np.float32),
        "landmarks_visible": np.ones(68, np.uint8),
        "pupils": np.float32([[5, 6], [9, 6]]),
        "gaze": np.float32([[0, 0, 1], [0, 0, 1]]),
        "intrinsics": np.float32([[20, 0, 8], [0, 20, 8], [0, 0, 1]]),
        "world_to_camera": np.eye(4, dtype=np.float32),
        "metadata": "{}",
    }


def face_api(folder: Path) -> None:
    from datasets.formats.face_api_writer import write_face_api

    write_face_api(folder / "renders", [sample()])


def face_api_old(folder: Path) -> None:
    """As version 1 has it, but for depth and normals."""
    face_api(folder)
    for name in ("depth", "normals"):
        (folder / f"renders/0.{name}.tif").unlink()
    points = (face() / S).tolist()
    file = folder / "renders/0.info.json"
    info = {
        "version": 1,
        "segments_mapping": json.loads(file.read_text())["segments_mapping"],
        "landmarks": [{"ptnum": k, "screen_space_pos": place} for k, place in enumerate(points)],
        "contour_landmarks": [{"ptnum": k + 1, "screen_space_pos": place} for k, place in enumerate(points)],
        "pupil_coordinates": {f"pupil_{eye}": {"screen_space_pos": [0.3, 0.4]} for eye in ("right", "left")},
        "gaze_values": {f"eye_{eye}": {"gaze_vector": [0, 0, 1]} for eye in ("right", "left")},
        "facial_attributes": {"head_turn": {"pitch": 1, "roll": 2, "yaw": 3}},
        "camera": {
            "intrinsics": [[20, 0, 8], [0, 20, 8], [0, 0, 1]],
            "transform_world2cam": {"mat_4x4": np.eye(4).tolist()},
        },
    }
    file.write_text(json.dumps(info))


def face_api_v2(folder: Path) -> None:
    scene = folder / "1"
    scene.mkdir()
    ids = np.where(classes() > 3, 700, 2).astype(np.uint16)
    np.savez_compressed(scene / "rgb.npz", image=photo())
    np.savez_compressed(scene / "body_segmentation.npz", segmentation=ids)
    np.savez_compressed(scene / "depth.npz", depth=np.ones((S, S), np.float32))
    np.savez(scene / "surface_normals.npz", surface_normals=np.ones((S, S, 3), np.float32))
    mapping = {"background": 2, "nose": 700}
    write(scene / "image_metadata.json", json.dumps({"humans": [{"age": 3}], "segments_mapping": mapping}))


def celebamask(folder: Path) -> None:
    save(folder / "images/0.jpg", photo(2 * S))
    save(folder / "masks/0.png", classes())
    write(folder / "CelebA-HQ-to-CelebA-mapping.txt", "idx orig_idx orig_file\n0 119613 119614.jpg\n")


def lapa(folder: Path) -> None:
    save(folder / "train/images/1.jpg", photo())
    save(folder / "train/labels/1.png", classes())
    points = np.concatenate([face(), face()])[:106]
    write(folder / "train/landmarks/1.txt", "106\n" + "\n".join(f"{x} {y}" for x, y in points))


def ibug(folder: Path) -> None:
    from datasets.formats.pts import write_pts

    save(folder / "afw/1.png", photo())
    write_pts(folder / "afw/1.pts", face())


def aisegment(folder: Path) -> None:
    save(folder / "clip_img/1/clip_0/1.jpg", photo())
    save(folder / "matting/1/matting_0/1.png", np.dstack([photo(), photo()[..., 0]]))


def panoramas(folder: Path) -> None:
    light = philox(2).uniform(0.1, 4, (32, 64, 3)).astype(np.float32)
    cv2.imwrite(str(folder / "a.hdr"), light)


def flat_hdr(folder: Path) -> None:
    """Without run lengths, which files less than 8 pixels wide never have."""
    cv2.imwrite(str(folder / "a.hdr"), np.ones((3, 6, 3), np.float32))


def png_panorama(folder: Path) -> None:
    cv2.imwrite(str(folder / "a.png"), (philox(2).uniform(0, 1, (32, 64, 3)) * 65535).astype(np.uint16))


def exr_panorama(folder: Path) -> None:
    import OpenEXR

    light = philox(2).uniform(0.1, 4, (16, 32, 3)).astype(np.float32)
    with OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, {"RGB": light}) as file:
        file.write(str(folder / "a.exr"))


def picture(folder: Path, format: str) -> None:
    """A picture of any format under the name of a photograph, as users have them."""
    folder.mkdir(exist_ok=True)
    Image.fromarray(photo()).save(folder / "1.jpg", format=format)


def read_picture(folder: Path) -> object:
    from datasets.formats.reading import decode

    return decode(folder / "1.jpg", "RGB")


# Packs.


def pack(folder: Path) -> None:
    from datasets import write_pack

    rows = [sample() | {"id": f"{k}"} for k in range(3)]
    write_pack(folder / "pack", rows, source={"format": "toy"}, classes=("background", "skin"))


def arrow_sealed(folder: Path) -> None:
    """The manifest says the size that the file has."""
    path = folder / "pack/manifest.json"
    manifest = json.loads(path.read_text())
    for file in manifest["files"]:
        file["bytes"] = (folder / "pack" / file["name"]).stat().st_size
    path.write_text(json.dumps(manifest))


def first_arrow(folder: Path) -> Path:
    return next((folder / "pack").glob("*.arrow"))


def arrow(folder: Path) -> None:
    """A pack whose file has a name that is known."""
    pack(folder)
    path = folder / "pack/manifest.json"
    manifest = json.loads(path.read_text())
    os.rename(first_arrow(folder), folder / "pack/a.arrow")
    manifest["files"][0]["name"] = "a.arrow"
    path.write_text(json.dumps(manifest))


def read_pack(folder: Path) -> object:
    from datasets import Pack

    opened = Pack.open(folder / "pack")
    samples = [opened.sample(i) for i in range(min(len(opened), 10))]
    opened.verify()
    return [{name: np.asarray(value).tobytes() for name, value in one.items()} for one in samples]


def read_pack_by_uri(folder: Path) -> object:
    from datasets import Pack

    os.environ["TITRATE_PACK_CACHE"] = str(folder / "cache")
    try:
        return Pack.open(f"file://{folder}/pack").sample(0)
    finally:
        left = [path.name for path in (folder / "cache").glob("*") if path.suffix != ".lock" and len(path.name) != 64]
        assert not left, left


def cached(folder: Path) -> None:
    """A pack in the cache, as an entry of a name that is known."""
    arrow(folder)
    (folder / "cache").mkdir()
    os.rename(folder / "pack", folder / "cache" / "a")
    write(folder / "cache/a/uri", "s3://bucket/pack\n")


def read_cache(folder: Path) -> object:
    from datasets.cache import entries

    os.environ["TITRATE_PACK_CACHE"] = str(folder / "cache")
    return entries()


# Weights, models and the store.


def network() -> Any:
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def weights(folder: Path, *, zipped: bool = True) -> None:
    import torch

    state = {"state_dict": {f"module.{k}": v for k, v in network().state_dict().items()}, "epoch": 3, "best": 0.5}
    torch.save(state, folder / "published.pth", _use_new_zipfile_serialization=zipped)


def read_weights(folder: Path) -> object:
    from datasets.weights import Weights, load_weights

    return load_weights(network(), Weights(path="published.pth").identified(folder))


def model(folder: Path) -> None:
    import torch

    from trainables.adaptation import adapt
    from trainables.model_folder import ModelFile, input_of
    from trainables.model_folder import save as save_model
    from trainables.segmentation.spec import SegmentationSpec
    from trainables.task import build_task

    spec = SegmentationSpec(kind="segmentation", width=0.0625, resolution=32, aspp_rates=(1, 2, 3))
    made = build_task(spec).build_model()
    adapt(made, "none", None)
    given: dict[str, Any] = {"adaptation": "none", "input": input_of(spec, None)}
    with torch.no_grad():
        save_model(folder, made, ModelFile(task=spec, metric="val/x", metrics={"val/x": 0.5}, **given))


def model_sealed(folder: Path) -> None:
    path = folder / "model.json"
    file = json.loads(path.read_text())
    file["sha256"] = hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest()
    path.write_text(json.dumps(file))


def read_model(folder: Path) -> object:
    from trainables.predict import Predictor

    return Predictor.load(folder, "cpu")


STAGE = "0123456789abcdef" * 2
DIVISION = "numbers"


def store(folder: Path) -> None:
    import time

    import torch

    from trainables.claims import write_claim
    from trainables.objects import Objects
    from trainables.store import Evaluation, Store

    opened = Store(str(folder / "store"), DIVISION)
    opened.save(STAGE, 3, {"model": {"w": torch.ones(3)}, "step": 3}, keep=True)
    opened.save_evaluation(STAGE, 3, "key", Evaluation({"val/miou": 0.5}, 0.1, 1))
    opened.describe(STAGE, DESCRIBED)
    lease = {"owner": "someone", "expires": time.time() + 100, "step": 3}
    opened.objects.write_json(opened.path(STAGE, "lease.json"), lease)
    write_claim(Objects(str(folder / "store")), "faces", [STAGE])


DESCRIBED: dict[str, Any] = {
    "task": {"kind": "segmentation"},
    "real": {"count": 3, "total": 4},
    "synthetic": None,
    "translation": None,
    "adaptation": "none",
    "lr": 0.1,
    "seed": 0,
    "start": {"stage": STAGE, "step": 2},
}


def store_sealed(folder: Path) -> None:
    from trainables.objects import DIGEST_BYTES, MAGIC, checksum

    path = folder / "store" / DIVISION / STAGE / "kept-00000003.ckpt"
    body = path.read_bytes()[len(MAGIC) : -DIGEST_BYTES]
    path.write_bytes(MAGIC + body + hashlib.sha256(body).digest())
    path = path.with_name("eval-00000003-key.json")
    try:
        found = json.loads(path.read_bytes())
        path.write_text(json.dumps({**found, "checksum": checksum(found["evaluation"])}))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # broken so that it has no checksum


def read_store(folder: Path) -> object:
    from search.store_admin import _descriptions, _row
    from trainables.census import damaged, take_census
    from trainables.claims import read_claims
    from trainables.lease import held_until
    from trainables.objects import Objects
    from trainables.store import Store

    opened, objects = Store(str(folder / "store"), DIVISION), Objects(str(folder / "store"))
    census = take_census(objects)
    words = _descriptions(objects, census)
    json.dumps([_row(census, entry, words[entry]) for entry in census.entries])
    found = opened.load(STAGE, 3), opened.evaluation(STAGE, 3, "key"), held_until(opened, STAGE, "me")
    return found, read_claims(objects), damaged(objects, census)


# What a search leaves of itself.


def snapshot(folder: Path) -> None:
    look = {
        "summary": {"recipes": 4, "asked": 3, "ended": 2, "failed": 0, "best": [[0.5, "finetune", 2]]},
        "slots": {
            "0": {"job": "a", "recipe": "mixed", "replicate": 0, "leg": "s", "step": 3, "target": 9, "idle": 0.1}
        },
        "queued": 1,
        "waiting": 0,
        "stages": {
            "trained": 1,
            "training": 1,
            "waiting": 0,
            "now": [{"leg": "s", "step": 1, "target": 2, "waits": 1}],
        },
        "cost": {"steps_trained": 10, "steps_alone": 20, "hours": 0.1, "budget_hours": None},
        "runs": {"running": 1},
        "left_s": 30.0,
        "note": "so it is",
    }
    said = {"search": "faces", "metric": "val/miou", "state": "stopped", "at": 1.0, "host": "h", "pid": 1, "look": look}
    write(folder / "faces/status.json", json.dumps(said))


def read_status(folder: Path) -> object:
    from rich.console import Console

    from search.status import show

    with open(os.devnull, "w") as nowhere:
        show("faces", folder, None, Console(file=nowhere, width=120), as_json=False, watch=False)
    return None


def study(folder: Path) -> None:
    import optuna

    from search.study import open_storage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    (folder / "faces").mkdir()
    storage = open_storage(folder / "faces/study.db")
    made = optuna.create_study(storage=storage, study_name="faces", direction="maximize")
    made.set_user_attr("search", json.dumps({"budget.seeds": 2, "objective.metric": "val/miou"}))
    made.enqueue_trial({"lr": 0.1})
    trial = made.ask()
    trial.suggest_float("lr", 0.01, 1.0)
    made.tell(trial, 0.5)
    storage.engine.dispose()


def read_study(folder: Path) -> object:
    from search.study import asked_trials
    from search.study import read_study as read

    found = asked_trials(read("faces", folder / "faces"))
    read_status(folder)
    return found


def spool(folder: Path) -> None:
    write(folder / "spool.jsonl", '{"a":1}\n{"b":[2]}\n{"half')


def read_spool(folder: Path) -> object:
    from search.spool import Spool

    return Spool(folder / "spool.jsonl").read()


def _readers() -> Iterator[tuple[str, Reader]]:
    yield "search file", Reader(search_file, read_search, "search.yaml", "yaml")
    yield "population", Reader(population, read_population, "mine.yaml", "yaml")
    yield "label table", Reader(label_table, read_labels, "mine.yaml", "yaml")
    of_train = partial(read_format, "generic", split="train")
    yield "generic settings", Reader(generic, partial(read_format, "generic"), "dataset.yaml", "yaml")
    yield "generic split", Reader(generic, of_train, "train.txt")
    yield "generic points", Reader(generic, of_train, "points/1.txt")
    yield "generic alpha", Reader(generic, of_train, "mattes/1.png")
    yield "generic table", Reader(table, partial(read_format, "generic"), "samples.csv")
    for name, make in (("face_api", face_api), ("face_api version 1", face_api_old)):
        read = lambda folder: read_format("face_api", folder / "renders")  # noqa: E731
        yield f"{name} info", Reader(make, read, "renders/0.info.json", "json")
    for file in ("rgb.png", "segments.png", "alpha.tif", "depth.tif", "normals.tif"):
        yield f"face_api {file}", Reader(face_api, read, f"renders/0.{file}")
    read = partial(read_format, "face_api_v2")
    yield "face_api_v2 metadata", Reader(face_api_v2, read, "1/image_metadata.json", "json")
    for name in ("rgb", "body_segmentation", "depth", "surface_normals"):
        yield f"face_api_v2 {name}", Reader(face_api_v2, read, f"1/{name}.npz")
    read = partial(read_format, "celebamask_hq")
    yield "celebamask_hq photo", Reader(celebamask, read, "images/0.jpg")
    yield "celebamask_hq mask", Reader(celebamask, read, "masks/0.png")
    mapping = "CelebA-HQ-to-CelebA-mapping.txt"
    yield "celebamask_hq split", Reader(celebamask, partial(read, split="train"), mapping)
    yield "lapa landmarks", Reader(lapa, partial(read_format, "lapa"), "train/landmarks/1.txt")
    yield "ibug_300w pts", Reader(ibug, partial(read_format, "ibug_300w"), "afw/1.pts")
    yield "aisegment matte", Reader(aisegment, partial(read_format, "aisegment"), "matting/1/matting_0/1.png")
    read = partial(read_format, "panoramas", crops=1)
    yield "panorama hdr", Reader(panoramas, read, "a.hdr")
    yield "panorama hdr without run lengths", Reader(flat_hdr, read, "a.hdr")
    yield "panorama png", Reader(png_panorama, read, "a.png")
    yield "panorama exr", Reader(exr_panorama, read, "a.exr")
    for format in ("JPEG", "TIFF", "BMP", "GIF", "WEBP"):
        yield f"picture {format}", Reader(partial(picture, format=format), read_picture, "1.jpg")
    yield "pack manifest", Reader(arrow, read_pack, "pack/manifest.json", "json")
    of_rows = Reader(arrow, read_pack, "pack/a.arrow", sealed=arrow_sealed, large=True)
    yield "pack arrow", of_rows
    yield "pack manifest by URI", Reader(arrow, read_pack_by_uri, "pack/manifest.json", "json", mounted=False)
    yield (
        "pack arrow by URI",
        Reader(arrow, read_pack_by_uri, "pack/a.arrow", sealed=arrow_sealed, mounted=False, large=True),
    )
    yield "cache manifest", Reader(cached, read_cache, "cache/a/manifest.json", "json")
    yield "cache uri", Reader(cached, read_cache, "cache/a/uri")
    yield "weights", Reader(weights, read_weights, "published.pth", large=True)
    yield "weights of old torch", Reader(partial(weights, zipped=False), read_weights, "published.pth", large=True)
    yield "model", Reader(model, read_model, "model.json", "json")
    yield "model weights", Reader(model, read_model, "weights.pt", sealed=model_sealed, large=True)
    objects = {
        "checkpoint": "kept-00000003.ckpt",
        "evaluation": "eval-00000003-key.json",
        "stage": "stage.json",
        "lease": "lease.json",
    }
    for name, file in objects.items():
        form = "json" if file.endswith(".json") else "bytes"
        one = Reader(store, read_store, f"store/{DIVISION}/{STAGE}/{file}", form, mounted=False, large=form == "bytes")
        yield f"store {name}", one
        if name in ("checkpoint", "evaluation"):
            yield f"store {name} of a right checksum", replace(one, sealed=store_sealed)
    yield "store claim", Reader(store, read_store, "store/claims/faces.json", "json", mounted=False)
    yield "status", Reader(snapshot, read_status, "faces/status.json", "json")
    yield "study", Reader(study, read_study, "faces/study.db")
    yield "spool", Reader(spool, read_spool, "spool.jsonl", mounted=False, large=True)


READERS = dict(_readers())
