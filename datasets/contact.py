"""Contact sheets: what is in a pack, at a glance, before anyone trains on it.

Each cell is an image beside itself with its classes drawn in; a legend names the colours.
"""

from pathlib import Path

import cv2
import numpy as np

from datasets.pack import Pack, PackError

IGNORE = 255
CELL = 128  # smaller images are enlarged by a whole factor up to about this many pixels, so that they can be read
GAP = 6
LINE = 22
INK = (30, 30, 30)
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


def contact_sheet(pack: Pack, count: int, columns: int) -> np.ndarray:
    """`count` rows of a pack, evenly spaced over it, `columns` to a line: uint8 [H, W, 3] RGB.

    The pack needs a column `image` (uint8 [H, W, 3]); `segmentation` (uint8 [H, W]) is drawn where it has one, with the
    background darkened and ignored pixels (255) white. Raises ValueError on a count below 1 and PackError on a pack
    without images.
    """
    if count < 1 or columns < 1:
        raise ValueError(f"`count >= 1` and `columns >= 1` must hold, but got (count={count}, columns={columns})")
    if "image" not in pack.columns:
        raise PackError(
            f"{pack.path}: a contact sheet needs column 'image', but this pack has {', '.join(pack.columns)}"
        )
    labelled = "segmentation" in pack.columns
    count = min(count, len(pack))
    rows = [i * len(pack) // count for i in range(count)]
    cells = []
    seen: set[int] = set()
    for row in rows:
        sample = pack.sample(row, ("image", "segmentation") if labelled else ("image",))
        image = np.asarray(sample["image"])
        pictures = [image]
        if labelled:
            labels = np.asarray(sample["segmentation"])
            seen |= set(np.unique(labels).tolist())
            pictures.append(overlay(image, labels))
        factor = max(1, CELL // image.shape[0])
        cells.append(np.hstack([np.kron(p, np.ones((factor, factor, 1), np.uint8)) for p in pictures]))
    grid = _grid(cells, min(columns, count))
    title = f"{Path(pack.path).name}: {count} of {len(pack)}, {pack.digest[:12]}"
    entries: list[tuple[tuple[int, int, int] | None, str]] = [(None, title)]
    if labelled:
        names = dict(enumerate(pack.manifest.classes or ()))
        known = sorted(set(names) | (seen - {IGNORE}))
        entries += [(colour(i), names.get(i, f"class {i}")) for i in known]
        entries += [(colour(IGNORE), "ignore")] if IGNORE in seen else []
    return np.vstack([grid, _legend(entries, grid.shape[1])])


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


def _legend(entries: list[tuple[tuple[int, int, int] | None, str]], width: int) -> np.ndarray:
    """Swatches with names (or a name alone, on a line of its own), wrapped to a width."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    placed = []
    x, line = GAP, 0
    for swatch, name in entries:
        advance = cv2.getTextSize(name, font, scale, 1)[0][0] + (LINE if swatch else 0) + 2 * GAP
        if x > GAP and x + advance > width:
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
