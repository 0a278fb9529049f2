"""`dataset.yaml`, the file that tells where the data of one's own are; generic.py tells what it means."""

import posixpath
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from datasets.settings import explain, read_mapping

FILE = "dataset.yaml"
KINDS = ("image", "segmentation", "alpha", "landmarks")
Origin = Literal[0, 1, "corner"]


class Settings(BaseModel):
    """What dataset.yaml says: a pattern for each kind of file, or a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str | None = None
    segmentation: str | None = None
    alpha: str | None = None
    landmarks: str | None = None
    origin: Origin | None = None
    labels: str | None = None
    splits: dict[str, str] = Field(default_factory=dict)
    table: str | None = None

    @property
    def patterns(self) -> dict[str, str]:
        """Those that are given, by kind, image first."""
        given = {kind: getattr(self, kind) for kind in KINDS}
        return {kind: pattern for kind, pattern in given.items() if pattern is not None}

    @field_validator(*KINDS)
    @classmethod
    def _is_pattern(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        fields = re.findall(r"\{(.*?)\}", pattern)
        if "id" not in fields or not {"id", "split"}.issuperset(fields) or "*" in pattern:
            raise ValueError(
                f'must be a path with {{id}} (and perhaps {{split}}), as in "photos/{{id}}.jpg", but got {pattern!r}'
            )
        return posixpath.normpath(pattern)

    @model_validator(mode="after")
    def _patterns_or_a_table(self) -> "Settings":
        if self.table is not None:
            beside = [*self.patterns, *(["splits"] if self.splits else [])]
            if beside:
                raise ValueError(f"{beside[0]} must be left out beside table, whose columns say it")
        elif self.image is None:
            raise ValueError('image must be given, as in image: "photos/{id}.jpg", or a table, but both are absent')
        by_folder = self.image is not None and "{split}" in self.image
        if by_folder and self.splits:
            raise ValueError("splits must be left out where the pattern of image has {split}")
        for kind, pattern in self.patterns.items():
            if "{split}" in pattern and not by_folder:
                raise ValueError(f"{kind} must not have {{split}} where image has none, but got {pattern!r}")
        return self


def load_settings(source: Path) -> Settings:
    """Reads a folder's dataset.yaml. Raises ValueError, one line that names it, on whatever is wrong with it."""
    path = source / FILE
    try:
        raw = read_mapping(path, "the data set's file", 'image: "photos/{id}.jpg" ...')
    except ValueError as error:
        hint = "; put patterns in quotes" if "must be YAML" in str(error) else ""
        raise ValueError(f"{path}: {error}{hint}; datasets/formats/generic.py tells how to write it") from None
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error, Settings)}") from None
