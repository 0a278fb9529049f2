"""The command line: `python -m trainables predict MODEL IMAGES... OUT`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from datasets.formats.pts import write_pts
from datasets.formats.reading import decode
from trainables.specs import TaskSpec

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # of the pictures that a folder gives
TOGETHER = 8  # pictures in memory


@app.callback()
def _commands() -> None:
    """What an exported model makes of your own pictures."""


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder of `search export`, or its model.json.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Pictures of any size, or folders.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that the drawings and labels go to.")],
    background: Annotated[
        Path | None,
        typer.Option(help="Of matting: the place without the person, a picture, or a folder with one for each name."),
    ] = None,
    box: Annotated[
        str | None, typer.Option(metavar="X0,Y0,X1,Y1", help="Look at the square around it, in every picture.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Draw masks, mattes or landmarks on pictures, and write them as files, at the pictures' own resolution.

    Of NAME.jpg, segmentation gives NAME.classes.png (class numbers with a palette) and NAME.overlay.png; matting
    NAME.alpha.png, NAME.foreground.png (with transparency) and NAME.checkerboard.png; landmarks NAME.pts and
    NAME.points.png. A picture that cannot be read is named on stderr, the others are done, and the exit status is 1.
    """
    from trainables.predict import Predictor

    paths = list(_files(images))
    _check_names(paths, out)
    window = None if box is None else _box(box)
    predictor = Predictor.load(model, device)
    if predictor.needs_background != (background is not None):
        must = "must be given" if predictor.needs_background else "must be left out"
        raise ValueError(f"--background {must} for a model of {predictor.file.task.kind}")
    if predictor.file.input.crop == "face" and window is None:
        print("note: the model was trained on squares around faces; cut them so, or give --box", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for start in range(0, len(paths), TOGETHER):
        given: list[tuple[Path, np.ndarray, np.ndarray | None]] = []
        for path in paths[start : start + TOGETHER]:
            try:
                image = decode(path, "RGB")
                plate = None if background is None else decode(_background(background, path), "RGB")
                predictor.check(image, plate, window)
                given.append((path, image, plate))
            except ValueError as error:
                failed += 1
                text = " ".join(str(error).split())
                print(f"error: {text if str(path) in text else f'{path}: {text}'}", file=sys.stderr)
        plates = [plate for _, _, plate in given if plate is not None] or None
        found = predictor([image for _, image, _ in given], plates, [window] * len(given))
        for (path, image, _), prediction in zip(given, found, strict=True):
            written = write(predictor.file.task, out / path.stem, image, prediction)
            print(f"{path}: {', '.join(file.name for file in written)}")
    if failed:
        print(f"{len(paths) - failed} of {len(paths)} pictures done", file=sys.stderr)
        raise typer.Exit(1)


def write(spec: TaskSpec, stem: Path, image: np.ndarray, prediction: np.ndarray) -> list[Path]:
    """Writes a prediction and its drawing as `STEM.what.png` (or `.pts`), and returns the files."""
    from trainables.drawing import draw, palette

    files = [f"{stem}.{what}" for what in _WHAT[spec.kind]]
    drawn = Image.fromarray(draw(spec, image, prediction))
    if spec.kind == "segmentation":
        indexed = Image.fromarray(prediction).convert("P")
        indexed.putpalette(palette(len(spec.classes)))
        indexed.save(files[0])
    elif spec.kind == "matting":
        Image.fromarray(prediction[..., 3]).save(files[0])
        Image.fromarray(prediction).save(files[1])
    else:
        write_pts(files[0], prediction)
    drawn.save(files[-1])
    return [Path(file) for file in files]


_WHAT = {
    "segmentation": ("classes.png", "overlay.png"),
    "matting": ("alpha.png", "foreground.png", "checkerboard.png"),
    "landmarks": ("pts", "points.png"),
}


def _files(given: Iterable[Path]) -> Iterator[Path]:
    """The files that are named, and the pictures of folders."""
    for path in given:
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"{path}: must hold pictures ({', '.join(SUFFIXES)}), but holds none")
        yield from found


def _check_names(paths: list[Path], out: Path) -> None:
    """Nothing is written over: neither one picture's answer by another's, nor a picture by its answer."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: the last argument must be the folder that the answers go to, but is a file")
    seen: dict[str, Path] = {}
    for path in paths:
        if other := seen.get(path.stem):
            raise ValueError(f"pictures must have different names, but {other} and {path} have the same; do each alone")
        seen[path.stem] = path
    written = {(out / f"{path.stem}.{what}").resolve() for path in paths for whats in _WHAT.values() for what in whats}
    if over := [path for path in paths if path.resolve() in written]:
        raise ValueError(f"{over[0]}: would be written over; give another OUT")


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--box must be X0,Y0,X1,Y1 in pixels, but got {text!r}") from None
    return x0, y0, x1, y1


def _background(given: Path, image: Path) -> Path:
    """The background of a picture: the file, or the one of the picture's name in the folder."""
    if not given.is_dir():
        return given
    found = sorted(file for file in given.iterdir() if file.stem == image.stem and file.suffix.lower() in SUFFIXES)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{given}: must hold one background named {image.stem}, but has {names}")
    return found[0]


def main() -> None:
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
