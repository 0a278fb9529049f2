"""`python -m datasets`: make packs, look at them, check them.

    python -m datasets faces packs/synthetic --count 2000 --size 64 --domain studio --seed 7 --workers 8
    python -m datasets pack celebamask_hq /data/CelebAMask-HQ packs/real-train --size 64 --split train
    python -m datasets show packs/real-train --out sheet.png
    python -m datasets verify packs/real-train

A mistake in what was asked or given is one line on stderr, `error: ...`, and exit status 2.
"""

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from datasets import Pack, write_pack
from datasets.pack import Value

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a pack at OUT.")]


@app.command()
def pack(
    format: Annotated[str, typer.Argument(help="Layout of SOURCE: celebamask_hq.")],
    source: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Argument(help="Folder of the pack to write.")],
    size: Annotated[int, typer.Option(help="Side of the square images in pixels.")],
    split: Annotated[str | None, typer.Option(help="The data set's own split: train, val or test.")] = None,
    rows: Annotated[str | None, typer.Option(help="START:STOP of the images in a seeded shuffled order.")] = None,
    shuffle_seed: Annotated[int, typer.Option(help="Seed of that order.")] = 0,
    glasses: Annotated[str, typer.Option(help="Label of glasses: background or ignore.")] = "background",
    overwrite: Overwrite = False,
) -> None:
    """Writes a data set in its own layout as a pack."""
    from datasets.formats import FORMATS

    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, but got {format!r}")
    reading = FORMATS[format](source, size=size, split=split, rows=rows, shuffle_seed=shuffle_seed, glasses=glasses)
    samples = _progress(reading.samples, reading.count)
    _say(write_pack(out, samples, source=reading.source, classes=reading.classes, overwrite=overwrite))


@app.command()
def faces(
    out: Annotated[Path, typer.Argument(help="Folder of the pack to write.")],
    count: Annotated[int, typer.Option(help="Number of faces.")],
    size: Annotated[int, typer.Option(help="Side of the square images in pixels.")],
    domain: Annotated[str, typer.Option(help="studio (renders) or street (a stand-in for photographs).")] = "studio",
    seed: Annotated[int, typer.Option(help="Face i is a function of domain, seed and i.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; the pack is the same for any number.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """Writes a pack of the embedded synthetic faces."""
    from datasets.classes import FACE_CLASSES
    from datasets.generate import generate_faces

    source = {"format": "faces", "version": 1, "count": count, "size": size, "domain": domain, "seed": seed}
    samples = _progress(generate_faces(count, size=size, domain=domain, seed=seed, workers=workers), count)
    _say(write_pack(out, samples, source=source, classes=FACE_CLASSES, overwrite=overwrite))


@app.command()
def show(
    pack: Annotated[Path, typer.Argument(help="Folder of the pack.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    count: Annotated[int, typer.Option(help="Number of samples, evenly spaced over the pack.")] = 24,
    columns: Annotated[int, typer.Option(help="Samples on a line.")] = 6,
) -> None:
    """Draws a contact sheet of a pack: each image beside its classes, with a legend."""
    from datasets.contact import contact_sheet, write_png

    write_png(out, contact_sheet(Pack.open(pack), count, columns))
    print(out)


@app.command()
def verify(pack: Annotated[Path, typer.Argument(help="Folder of the pack.")]) -> None:
    """Reads a whole pack and compares its content with its digest."""
    opened = Pack.open(pack)
    opened.verify()
    _say(opened)


def _progress(samples: Iterable[dict[str, Value]], count: int) -> Iterable[dict[str, Value]]:
    console = Console(stderr=True)
    return track(samples, "packing", total=count, console=console, transient=True) if console.is_terminal else samples


def _say(pack: Pack) -> None:
    columns = ", ".join(f"{column.name} {column}" for column in pack.manifest.columns)
    megabytes = sum(file.bytes for file in pack.manifest.files) / 1e6
    print(f"{pack.path}: {len(pack)} samples, {columns}, {megabytes:.1f} MB, digest {pack.digest[:12]}")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a half-written pack is removed
    try:
        app()
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        else:
            message = "; ".join(str(error).splitlines())
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
