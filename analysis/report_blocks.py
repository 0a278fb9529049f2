"""Blocks: what a report's sections are made of, and each as Markdown. The page's template has each as HTML.

Texts are plain, with code between `backticks`; whatever else they hold (names from a search file, errors) is shown as
it is, never as markup.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

MEDIA = {"svg": "image/svg+xml", "jpg": "image/jpeg"}
FOLDER = "figures"  # of the pictures that Markdown names, beside it
_MARKUP = re.compile(r"([\\*_\[\]<>#|~!])")


@dataclass(frozen=True)
class Text:
    text: str
    kind: Literal["", "lead", "small", "warning"] = ""


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Tiles:
    """The few numbers of a section, large: each with what it is."""

    tiles: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Grid:
    """A table of cells.

    words  how many columns from the left hold words; the others are numbers, set to the right
    best   the row to mark
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    best: int | None = None
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure, whole: nothing is read from anywhere when it is looked at."""

    name: str
    data: bytes = field(repr=False)
    alt: str
    caption: str = ""
    form: Literal["svg", "jpg"] = "svg"

    @property
    def uri(self) -> str:
        return f"data:{MEDIA[self.form]};base64,{base64.b64encode(self.data).decode()}"

    @property
    def file(self) -> str:
        return f"{FOLDER}/{self.name}.{self.form}"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, as large as there is room for."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Interactive:
    """A plotly figure as HTML without plotly's script, which the page has once; in print and Markdown it is absent."""

    html: str = field(repr=False)
    title: str


@dataclass(frozen=True)
class Code:
    text: str
    language: str = ""


Block = Text | Bullets | Tiles | Grid | Picture | Gallery | Interactive | Code


@dataclass(frozen=True)
class Section:
    """A part of a report. `key` is its anchor in the page: letters and hyphens."""

    key: str
    title: str
    blocks: tuple[Block, ...]


def spans(text: str) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether it is code: what stands between two backticks. A backtick that is alone is
    itself."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts[-2:] = [f"{parts[-2]}`{parts[-1]}"]
    return [(part, i % 2 == 1) for i, part in enumerate(parts) if part]


def markdown(block: Block) -> str:
    """A block in GitHub's and MLflow's Markdown; what a name holds is escaped."""
    match block:
        case Text(text, kind):
            return f"**{plain(text)}**" if kind == "lead" else plain(text)
        case Bullets(items):
            return "\n".join(f"- {plain(item)}" for item in items)
        case Tiles(tiles):
            return "\n".join(f"- {plain(label)}: **{plain(value)}**" for value, label in tiles)
        case Grid():
            return _grid(block)
        case Picture():
            return f"![{plain(block.alt)}]({block.file})" + (f"\n\n{plain(block.caption)}" if block.caption else "")
        case Gallery(pictures):
            return "\n\n".join(map(markdown, pictures))
        case Interactive():
            return ""
        case Code(text, language):
            fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
            return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def plain(text: str) -> str:
    """Text as Markdown, on one line."""
    pieces = (f"`{part}`" if code else _MARKUP.sub(r"\\\1", part) for part, code in spans(" ".join(text.split())))
    return "".join(pieces)


def _grid(grid: Grid) -> str:
    marks = ["---" if i < grid.words else "---:" for i in range(len(grid.header))]
    rows = [[_cell(cell) for cell in row] for row in grid.rows]
    if grid.best is not None and grid.best < len(rows):
        rows[grid.best] = [f"**{cell}**" if cell else "" for cell in rows[grid.best]]
    lines: list[Sequence[str]] = [[_cell(cell) for cell in grid.header], marks, *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return table + (f"\n\n{plain(grid.caption)}" if grid.caption else "")


def _cell(text: str) -> str:
    return plain(text.replace("`", ""))  # a bar within code would end the cell
