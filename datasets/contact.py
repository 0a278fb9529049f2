"""Contact sheets: what is in a pack, at a glance, before anyone trains on it.

Each cell is an image beside itself with its classes drawn in, or other layers; a legend names the colours.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.classes import IGNORE
from datasets.manifest import PackError
from datasets.pack import Pack
from datasets.segments import SEGMENTS

# What a cell can show, each with the columns that it needs; of the points' two, the first that a pack has is drawn.
LAYERS: dict[str, tuple[str, ...]] = {
    "image": ("image",),
    "classes": ("image", "segmentation"),
    "points": ("image", "landmarks_contour", "landmarks"),
    "alpha": ("alpha",),
    "segments": ("image", "segments"),
}
CELL = 128  # smaller images are enlarged by a whole factor up to about this many pixels, so that they can be read
GAP = 6
LINE = 22
INK = (30, 30, 30)
POINT = (80, 255, 80)
HIDDEN = (255, 60, 60)
# Paul Tol's "bright" and "vibrant" schemes: told apart by colour-blind readers too. The background is not coloured.
COLOURS = (
    (0, 0, 0),
    (238, 204, 102),
    (51, 119, 187),
    (238, 51, 119),
    (0, 153, 136),
    (204, 51, 17),
    (170, 51, 119),
    (238, 119, 51),
    (102, 204, 238),
    (34, 136, 51),
    (187, 187, 187),
)

Entry = tuple[tuple[int, int, int] | None, str]  # of the legend: swatch and name, or a name alone


def parse_layers(text: str | None) -> tuple[str, ...] | None:
    """A comma-separated list of layers, None for None. Raises ValueError for none and for one that is not in LAYERS."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names or ("",):
        if name not in LAYERS:
            raise ValueError(f"layers must be of {', '.join(LAYERS)}, but got {name!r}")
    return names


def contact_sheet(pack: Pack, count: int, columns: int, layers: Sequence[str] | None = None) -> np.ndarray:
    """`count` rows of a pack, evenly spaced over it, `columns` to a line: uint8 [H, W, 3] RGB.

    layers  what a cell shows side by side, of LAYERS: `classes` and `segments` over the image, with the background
            darkened and ignored pixels (255) white; `points` are landmarks_contour, else landmarks, green, and red
            where they are hidden. None: image, and classes where the pack has them

    Raises ValueError on a count below 1 and PackError where the pack lacks a layer's column.
    """
    if count < 1 or columns < 1:
        raise ValueError(f"`count >= 1` and `columns >= 1` must hold, but got (count={count}, columns={columns})")
    if layers is None:
        layers = ("image", "classes") if "segmentation" in pack.columns else ("image",)
    needed = sorted({name for layer in layers for name in _needed(pack, layer)})
    count = min(count, len(pack))
    rows = [i * len(pack) // count for i in range(count)]
    cells = []
    seen: dict[str, set[int]] = {"segmentation": set(), "segments": set()}
    for row in rows:
        sample = {name: np.asarray(value) for name, value in pack.sample(row, needed).items()}
        for name in seen.keys() & sample.keys():
            seen[name] |= set(np.unique(sample[name]).tolist())
        cells.append(np.hstack([_picture(layer, sample) for layer in layers]))
    grid = _grid(cells, min(columns, count))
    title = f"{pack.name}: {count} of {len(pack)}, {pack.digest[:12]}"
    entries: list[Entry] = [(None, title)]
    if "classes" in layers:
        names = dict(enumerate(pack.manifest.classes or ()))
        entries += _swatches(set(names) | seen["segmentation"], names, "class")
    if "segments" in layers:
        entries += [(None, "segments:"), *_swatches(seen["segments"], dict(enumerate(SEGMENTS)), "segment")]
    return np.vstack([grid, _legend(entries, grid.shape[1])])


def _needed(pack: Pack, layer: str) -> list[str]:
    """The columns to draw a layer from. Raises PackError where the pack has not all that it takes."""
    needed = LAYERS[layer]
    if layer == "points":
        points = next((name for name in needed[1:] if name in pack.columns), " or ".join(needed[1:]))
        needed = ("image", points)
    for name in needed:
        if name not in pack.columns:
            raise PackError(f"{pack.path}: layer {layer} needs column {name}; this pack has {', '.join(pack.columns)}")
    return [*needed, *(["landmarks_visible"] if layer == "points" and "landmarks_visible" in pack.columns else [])]


def _picture(layer: str, sample: dict[str, np.ndarray]) -> np.ndarray:
    """A layer of a sample, uint8 [H, W, 3], enlarged."""
    if layer == "alpha":
        picture = np.repeat(sample["alpha"][..., None], 3, axis=2)
    elif layer == "classes":
        picture = overlay(sample["image"], sample["segmentation"])
    elif layer == "segments":
        picture = overlay(sample["image"], sample["segments"])
    else:
        picture = sample["image"]
    factor = max(1, CELL // picture.shape[0])
    picture = np.kron(picture, np.ones((factor, factor, 1), np.uint8))
    if layer == "points":
        points = sample["landmarks_contour"] if "landmarks_contour" in sample else sample["landmarks"]
        visible = sample.get("landmarks_visible", np.ones(len(points)))
        for (x, y), shown in zip((points + 0.5) * factor - 0.5, visible, strict=True):
            at = round(float(x) * 16), round(float(y) * 16)  # OpenCV counts sixteenths of a pixel here
            cv2.circle(picture, at, 18, POINT if shown else HIDDEN, -1, cv2.LINE_AA, 4)
    return picture


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """An image [H, W, 3] with its classes [H, W] drawn over it at 60%, all uint8."""
    table = np.array([colour(i) for i in range(256)], np.float32)
    mixed = 0.4 * image.astype(np.float32) + 0.6 * table[labels]
    mixed[labels == IGNORE] = 255
    return np.rint(mixed).astype(np.uint8)


def colour(number: int) -> tuple[int, int, int]:
    """The RGB of a class: a table, then hues that the golden ratio keeps apart; ignore (255) is white."""
    if number == IGNORE:
        return 255, 255, 255
    if number < len(COLOURS):
        return COLOURS[number]
    hsv = np.array([[[int(180 * (number * 0.618034 % 1)), 190, 220]]], np.uint8)
    red, green, blue = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Writes an RGB image uint8 [H, W, 3] as PNG. Raises OSError where the file cannot be written."""
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    Path(path).write_bytes(data.tobytes())


def _grid(cells: list[np.ndarray], columns: int) -> np.ndarray:
    height, width = cells[0].shape[:2]
    lines = -(-len(cells) // columns)
    sheet = np.full((lines * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        y = GAP + number // columns * (height + GAP)
        x = GAP + number % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = cell
    return sheet


def _swatches(numbers: set[int], names: dict[int, str], kind: str) -> list[Entry]:
    """The legend's entries of class ids, ignore last where it is there."""
    known = sorted(numbers - {IGNORE})
    swatches: list[Entry] = [(colour(i), names.get(i, f"{kind} {i}")) for i in known]
    if IGNORE in numbers:
        swatches.append((colour(IGNORE), "ignore"))
    return swatches


def _legend(entries: list[Entry], width: int) -> np.ndarray:
    """Swatches with names (or a name alone, on a line of its own), wrapped to a width."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    placed = []
    x, line = GAP, 0
    for swatch, name in entries:
        advance = cv2.getTextSize(name, font, scale, 1)[0][0] + (LINE if swatch else 0) + 2 * GAP
        if x > GAP and (x + advance > width or swatch is None):
            x, line = GAP, line + 1
        placed.append((x, line, swatch, name))
        x, line = (x + advance, line) if swatch else (GAP, line + 1)
    sheet = np.full((LINE * (line + 1) + GAP, width, 3), 255, np.uint8)
    for x, line, swatch, name in placed:
        y = line * LINE
        if swatch is not None:
            cv2.rectangle(sheet, (x, y + 3), (x + 16, y + 18), swatch, -1)
            cv2.rectangle(sheet, (x, y + 3), (x + 16, y + 18), INK, 1)
            x += LINE
        cv2.putText(sheet, name, (x, y + 15), font, scale, INK, 1, cv2.LINE_AA)
    return sheet
