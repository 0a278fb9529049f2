"""`python -m datasets`: make packs, look at them, check them.

    python -m datasets faces packs/synthetic --count 2000 --size 64 --domain studio --seed 7 --workers 8
    python -m datasets faces renders --count 100 --size 512 --domain my.yaml --panoramas hdri --layout face-api
    python -m datasets pack face_api renders packs/renders --size 256
    python -m datasets pack panoramas hdri packs/rooms --size 256 --crops 24
    python -m datasets refine packs/rough packs/fine --workers 8
    python -m datasets pack celebamask_hq /data/CelebAMask-HQ packs/real-train --size 64 --split train
    python -m datasets show packs/real-train --out sheet.png
    python -m datasets verify packs/real-train
    python -m datasets copy packs/real-train s3://bucket/packs/real-train
    python -m datasets cache ls

Where a pack is named, a path or a URI that pyarrow opens will do (s3://, gs://, abfs://, file://). What a URI names is
fetched into the node's pack cache once (TITRATE_PACK_CACHE, else ~/.cache/titrate/packs) and opened there.

A mistake in what was asked or given is one line on stderr, `error: ...`, and exit status 2. A process that ends early
(most often for want of memory) is another, and 1. Ctrl-C is silent and 130; nothing half-written stays.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import typer
from rich.console import Console
from rich.progress import Progress, track

from datasets import Pack, mattes, write_pack
from datasets.copying import destination
from datasets.generate import COLUMNS, FaceSet, generate_faces, parse_columns
from datasets.pack import Value
from datasets.processes import WorkerError
from datasets.uri import is_uri, redacted

if TYPE_CHECKING:
    from datasets.packing import Samples

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
cache = typer.Typer(no_args_is_help=True, help="The packs that were fetched from URIs onto this node.")
app.add_typer(cache, name="cache")
PackPlace = Annotated[str, typer.Argument(help="Folder or URI of the pack.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a pack (or a Face API folder) at OUT.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad samples out, listed in the manifest.")]
Workers = Annotated[int, typer.Option(help="Processes; the pack is the same for any number.")]


@app.command()
def pack(
    format: Annotated[str, typer.Argument(help="Layout of SOURCE: celebamask_hq, face_api, lapa ...")],
    source: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[str, typer.Argument(help="Folder or URI of the pack to write.")],
    size: Annotated[int, typer.Option(help="Side of the square images in pixels.")],
    crop: Annotated[
        str, typer.Option(help="none (square images), center, pad, or face as CelebA-HQ shows it.")
    ] = "none",
    split: Annotated[str | None, typer.Option(help="The data set's own split: train, val or test.")] = None,
    rows: Annotated[str | None, typer.Option(help="START:STOP of the images in a seeded shuffled order.")] = None,
    shuffle_seed: Annotated[int, typer.Option(help="Seed of that order.")] = 0,
    labels: Annotated[str | None, typer.Option(help="Label table, a name or a file; the format's own.")] = None,
    glasses: Annotated[str | None, typer.Option(help="Class of glasses; background unless given; or ignore.")] = None,
    nose_outer: Annotated[
        str | None, typer.Option(help="Class of the Face API's halo beside the nose; skin unless given.")
    ] = None,
    crops: Annotated[int | None, typer.Option(help="Pictures cut from each of the panoramas; 8 unless given.")] = None,
    crops_seed: Annotated[int | None, typer.Option(help="Seed of those; 0 unless given.")] = None,
    workers: Workers = 1,
    skip_bad: SkipBad = False,
    overwrite: Overwrite = False,
) -> None:
    """Writes a data set in its own layout as a pack. Run again after an interruption, it goes on where it was."""
    from datasets.formats import read
    from datasets.packing import PART

    chosen = {name: value for name, value in (("glasses", glasses), ("nose_outer", nose_outer)) if value is not None}
    reading = read(
        format,
        source,
        size=size,
        crop=crop,
        split=split,
        rows=rows,
        shuffle_seed=shuffle_seed,
        labels=labels,
        choices=chosen,
        crops=crops,
        crops_seed=crops_seed,
    )
    _make(reading, out, "packing", PART, workers=workers, skip_bad=skip_bad, overwrite=overwrite)


@app.command()
def refine(
    pack: Annotated[str, typer.Argument(help="Folder or URI of a pack with id, image and alpha.")],
    out: Annotated[str, typer.Argument(help="Folder or URI of the pack to write.")],
    keep_mattes: Annotated[bool, typer.Option(help="Leave the mattes; estimate foregrounds alone.")] = False,
    inner: Annotated[
        float, typer.Option(help="How far within its edge a matte may be wrong, as a share of the longer side.")
    ] = mattes.INNER,
    outer: Annotated[float, typer.Option(help="How far outside of its edge: hair that was cut off.")] = mattes.OUTER,
    side: Annotated[int, typer.Option(help="Pixels of the longer side at which mattes are solved for.")] = mattes.SIDE,
    workers: Workers = 1,
    skip_bad: SkipBad = False,
    overwrite: Overwrite = False,
) -> None:
    """Writes a pack again with its mattes refined and the foregrounds estimated. Goes on as `pack` does."""
    from datasets.refining import PART, Refinement

    if keep_mattes and (inner, outer, side) != (mattes.INNER, mattes.OUTER, mattes.SIDE):
        raise ValueError("--inner, --outer and --side say how mattes are refined; leave them out with --keep-mattes")
    refinement = Refinement.of(Pack.open(pack), keep_mattes=keep_mattes, inner=inner, outer=outer, side=side)
    _make(refinement, out, "refining", PART, workers=workers, skip_bad=skip_bad, overwrite=overwrite)


@app.command()
def faces(
    out: Annotated[str, typer.Argument(help="Folder to write, or URI of the pack.")],
    count: Annotated[int, typer.Option(help="Number of faces.")],
    size: Annotated[int, typer.Option(help="Side of the square images in pixels, 16 to 1024.")],
    domain: Annotated[
        str, typer.Option(metavar="NAME|FILE.yaml", help="studio, street, landmark_study or a population's file.")
    ] = "studio",
    seed: Annotated[int, typer.Option(help="Face i is a function of domain, panoramas, size, seed and i.")] = 0,
    panoramas: Annotated[
        Path | None, typer.Option(help="Folder of panoramas (.hdr, .exr, .jpg, .png) that give light and background.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; the result is the same for any number.")] = 1,
    layout: Annotated[str, typer.Option(help="pack, or face-api: a folder of the Face API's files.")] = "pack",
    columns: Annotated[
        str | None, typer.Option(help="Columns of the pack, as image,segmentation; all unless given.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Writes a pack of the embedded synthetic faces, or the same faces in the Face API's layout."""
    from datasets.classes import FACE_CLASSES
    from datasets.formats.face_api_writer import HELD, write_face_api

    if layout not in ("pack", "face-api"):
        raise ValueError(f"layout must be pack or face-api, but got {layout!r}")
    names = parse_columns(columns)
    if layout == "face-api":
        if columns is not None:
            raise ValueError(f"columns must be left out with layout face-api, which has its own, but got {columns!r}")
        names = tuple(name for name in COLUMNS if name in HELD)
        if is_uri(out):
            raise ValueError(f"OUT must be a folder for layout face-api, but got {redacted(out)}")
    wanted = FaceSet(count, size, domain, seed, panoramas, names)
    with closing(generate_faces(wanted, workers=workers)) as rows:
        samples = _progress(rows, count)
        if layout == "face-api":
            print(f"{out}: {write_face_api(Path(out), samples, overwrite=overwrite)} scenes in the Face API's layout")
        else:
            classes = FACE_CLASSES if "segmentation" in names else None
            with destination(out, overwrite=overwrite) as folder:
                replace = overwrite or is_uri(out)  # a pack for a URI that could not be sent is made anew
                packed = write_pack(folder, samples, source=wanted.source, classes=classes, overwrite=replace)
            _say(packed, out)


@app.command()
def show(
    pack: PackPlace,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    count: Annotated[int, typer.Option(help="Number of samples, evenly spaced over the pack.")] = 24,
    columns: Annotated[int, typer.Option(help="Samples on a line.")] = 6,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Of image, classes, points, alpha and segments; unless given, image,classes as far as there."
        ),
    ] = None,
) -> None:
    """Draws a contact sheet of a pack: each image beside its classes (or other layers), with a legend."""
    from datasets.contact import contact_sheet, parse_layers, write_png

    write_png(out, contact_sheet(Pack.open(pack), count, columns, parse_layers(layers)))
    print(out)


@app.command()
def verify(pack: PackPlace) -> None:
    """Reads a whole pack and compares its content with its digest; of a URI, the copy in the cache."""
    opened = Pack.open(pack)
    opened.verify()
    _say(opened, pack)


@app.command()
def copy(
    pack: PackPlace,
    out: Annotated[str, typer.Argument(help="Folder or URI to copy it to.")],
    overwrite: Overwrite = False,
) -> None:
    """Copies a pack, verified and whole, into a folder or to a URI."""
    from datasets.copying import copy_pack

    opened = Pack.open(pack)
    copy_pack(opened, out, overwrite=overwrite)
    _say(opened, out)


@cache.command()
def ls() -> None:
    """Lists the packs in the cache, those opened last first."""
    from datasets.cache import cache_folder, entries

    found = entries()
    for one in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used))
        state = "open now" if one.open else f"opened {used}"
        print(f"{one.digest[:12]}  {one.samples:>9,} samples  {one.bytes / 1e6:>10,.1f} MB  {state}  {one.uri}")
    print(f"{cache_folder()}: packs: {len(found)}, {sum(one.bytes for one in found) / 1e6:,.1f} MB")


@cache.command()
def clear(
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Only what was last opened so long ago.")
    ] = 0,
) -> None:
    """Removes packs from the cache, and what was left half-fetched; never what a process has open."""
    from datasets.cache import clear

    removed, in_use = clear(older_than_days=older_than)
    print(f"packs removed: {removed}; in use, and kept: {in_use}")


def _progress(samples: Iterable[dict[str, Value]], count: int) -> Iterable[dict[str, Value]]:
    console = Console(stderr=True)
    return track(samples, "packing", total=count, console=console, transient=True) if console.is_terminal else samples


def _make(samples: "Samples", out: str, doing: str, part: int, *, overwrite: bool, **options: Any) -> None:
    """Makes a pack of samples, with a bar on a terminal, and says what came of it."""
    from datasets.packing import pack_data_set

    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with destination(out, overwrite=overwrite) as folder:
        replace = overwrite or is_uri(out)  # a pack for a URI that could not be sent is made anew
        with bar:
            task = bar.add_task(doing, total=len(samples.names))
            pack = pack_data_set(
                samples,
                folder,
                part=part,
                progress=lambda done: bar.advance(task, done),
                overwrite=replace,
                **options,
            )
    for reason in dict.fromkeys(pack.manifest.source.get("skipped", {}).values()):
        print(f"skipped: {reason}", file=sys.stderr)
    _say(pack, out)


def _say(pack: Pack, place: str) -> None:
    path = redacted(place) if is_uri(place) else os.path.abspath(place)
    columns = ", ".join(f"{column.name} {column}" for column in pack.manifest.columns)
    megabytes = pack.manifest.bytes / 1e6
    print(f"{path}: {len(pack)} samples, {columns}, {megabytes:.1f} MB, digest {pack.digest[:12]}")


def _stop(number: int, _: FrameType | None) -> None:
    """Ends the program as an error does, removing what is half-written; a second signal cannot stop that."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> None:
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _stop)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it cannot read is one line of ours
    try:
        app()
    except (ValueError, OSError) as error:
        from datasets.packing import BadFiles

        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        elif isinstance(error, BadFiles):
            message = "\n  ".join(str(error).splitlines())
        else:
            message = "; ".join(str(error).splitlines())
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    except WorkerError as error:
        print(f"error: {error}, which is most often want of memory; use fewer --workers", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
