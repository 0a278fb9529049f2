"""A search as text: the YAML that `load` reads back as the same search, and the file in which a run leaves it.

RESULTS/NAME/search.yaml has every field, paths absolute, so that `export` and `explain` know of a search what its last
run knew, wherever its file has gone.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from search.config import ConfigError, SearchConfig, load

FILE = "search.yaml"
_UNIONS = ("real_source", "synthetic_source", "freeze")  # of a space: several names are a list there


def plain(config: SearchConfig) -> dict[str, Any]:
    """A search as the values of its file, without what is absent."""
    given: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    for name in _UNIONS:
        if name in given["space"]:
            given["space"][name] = [v.split("+") if "+" in v else v for v in given["space"][name]]
    if config.task.pretrained is not None:  # a file is written down by its digest, and read by its path
        given["task"]["pretrained"] = config.task.pretrained.path
    encoded = config.space.adain_image
    for name in ("encoder", "decoder"):
        if encoded is not None and (weights := getattr(encoded, name)) is not None:
            given["space"]["adain_image"][name] = weights.path
    return given


def to_yaml(given: dict[str, Any]) -> str:
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def leave(config: SearchConfig, folder: Path) -> None:
    """Writes the file of a search that runs. It is its owner's alone, since URIs may carry credentials."""
    fresh = folder / f"{FILE}.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"# What search {config.name} was last run as; written by `run`.\n{to_yaml(plain(config))}")
    os.replace(fresh, folder / FILE)


def find(name: str, results: Path) -> tuple[SearchConfig, Path]:
    """The search of a name as it was last run, and its folder. Raises ConfigError, one line, where there is none."""
    if not name or name[0] in "-." or not all(c.isalnum() or c in "-_." for c in name):
        raise ConfigError(f"a search is known by its name, letters, digits, '-', '_' or '.', but got {name!r}")
    folder = results.resolve() / name
    if not (folder / FILE).is_file():
        known = sorted(path.parent.name for path in results.resolve().glob(f"*/{FILE}"))
        hint = f"there are: {', '.join(known)}" if known else "there is none yet"
        if (folder / "study.db").is_file():
            hint = "an older version ran it; `run` it again, which trains nothing that is there"
        raise ConfigError(f"no search {name!r} in {results.resolve()}; {hint}; --results names another folder")
    return load(folder / FILE), folder
