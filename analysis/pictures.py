"""Every file that shows the curves of a search, and the data behind each."""

from collections.abc import Sequence
from pathlib import Path

from analysis import interactive, multiples, plots, tables
from analysis.curves import Curve
from analysis.runs import Table

PLURALS = {"class": "classes", "region": "regions"}


def save(table: Table, drawn: Sequence[Curve], folder: Path) -> tuple[Path, ...]:
    """Writes into an existing folder: curve.png, .svg, .html, .csv and .parquet, and the same of classes and regions,
    as small multiples on val, where they were measured; curve_bands.csv and .parquet where a law was fitted.

    The page of curve.html has the curve and the multiples.
    """
    files = [*plots.save(plots.draw(drawn), folder, "curve"), *tables.save(tables.points(drawn), folder, "curve")]
    if any(line.band is not None for each in drawn for line in each.lines):
        files += tables.save(tables.bands(drawn), folder, "curve_bands")
    figures = [interactive.figure(drawn)]
    for several in multiples.multiples(table, drawn[0].axis):
        name = PLURALS[several.noun]
        files += plots.save(multiples.draw(several), folder, name)
        files += tables.save(tables.points(several.curves), folder, name)
        named = {"title": multiples.title(several), "label": multiples.label(several)}
        figures.append(interactive.figure(several.curves, columns=3, one_scale=True, **named))
    return (*files, interactive.save(figures, folder, "curve", plots.title(drawn)))


def ready(folder: Path) -> Path:
    """The folder, made if it is not there. Raises ValueError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out must be a folder that can be made, but {folder} cannot: {error.strerror}") from error
    return folder
