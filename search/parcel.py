"""The parcel: what a submitted search takes along to a cluster, and what has to be there already.

Along go the code, the search file and the files of weights that it names. Packs and the store are too large and are
not copied: they are on storage that every node reaches, by a URI or in a folder that all nodes mount at the same path.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import yaml

from datasets.uri import is_uri, redacted
from search.cluster import ROOT
from search.config import ConfigError, SearchConfig

CODE = ("analysis", "datasets", "search", "trainables")  # what runs; nothing else of the repository is looked at
FOLDER = "submitted"  # of the parcel, beside the code: the search file and its weights


@dataclass(frozen=True)
class Parcel:
    """A folder that is a job's working directory.

    file  the search file in it, relative to it
    """

    folder: Path
    file: PurePosixPath


@dataclass(frozen=True)
class _Place:
    """A scalar of the search file that names a place: the field, the text, and where it stands in the file."""

    field: str
    value: str
    start: int
    end: int


def pack_up(file: Path, config: SearchConfig, shared: Iterable[str], folder: Path, *, results: str | None) -> Parcel:
    """Fills an empty folder with all that the job needs of this machine.

    The search file is kept as it was written, but for paths: relative ones and those of weights would mean something
    else, or nothing, on the cluster.

    shared   folders that every node of the cluster mounts at the same path; URIs among them are passed over
    results  the folder of results on the cluster's head, where it is known

    Raises ConfigError, one line, for packs, a store or a tracking database that the cluster's nodes do not reach.
    """
    mounts = [Path(os.path.abspath(one)) for one in shared if not is_uri(one)]
    text = file.read_text(encoding="utf-8")
    inside = folder / FOLDER
    inside.mkdir(parents=True)
    for name in CODE:
        (folder / name).symlink_to(ROOT / name)
    if (ROOT / ".gitignore").is_file():
        (folder / ".gitignore").symlink_to(ROOT / ".gitignore")
    places = list(_places(text))
    _check_store(file, config, mounts, results)
    for place in reversed(places):  # from the end, so that what is before keeps its place
        given = _there(file, place, mounts, inside)
        if given != place.value:
            text = text[: place.start] + json.dumps(given, ensure_ascii=False) + text[place.end :]
    name = f"{config.name}.yaml"
    (inside / name).write_text(text, encoding="utf-8")
    return Parcel(folder, PurePosixPath(FOLDER) / name)


def _places(text: str) -> Iterator[_Place]:
    """The scalars that name places, in the order of the text; an anchor's once."""
    seen: dict[int, _Place] = {}

    def walk(node: yaml.Node | None, path: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                walk(value, (*path, str(key.value)))
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                walk(item, path)
        elif isinstance(node, yaml.ScalarNode) and _names_a_place(path) and node.tag != "tag:yaml.org,2002:null":
            mark = node.start_mark.index
            seen.setdefault(mark, _Place(".".join(path), str(node.value), mark, node.end_mark.index))

    walk(yaml.compose(text, yaml.SafeLoader), ())
    yield from sorted(seen.values(), key=lambda place: place.start)


def _names_a_place(path: tuple[str, ...]) -> bool:
    if path[:1] == ("data",):
        return len(path) > 1
    return path in {("store",), ("store", "uri"), ("tracking", "uri")} or _names_weights(path)


def _names_weights(path: tuple[str, ...]) -> bool:
    fields = {("task", "pretrained"), ("space", "adain_image", "encoder"), ("space", "adain_image", "decoder")}
    return path in fields or (path[-1] == "path" and path[:-1] in fields)


def _there(file: Path, place: _Place, mounts: list[Path], inside: Path) -> str:
    """What names the same on the cluster. Weights that are on no shared folder are put into the parcel."""
    local = _local(file, place)
    if local is None:
        return place.value
    common = any(local.is_relative_to(mount) for mount in mounts)
    if _names_weights(tuple(place.field.split("."))):
        if common:
            return str(local)
        name = f"{len(list(inside.iterdir()))}-{local.name}"
        (inside / name).symlink_to(local.resolve())
        return name
    if common:
        sqlite = place.value.startswith("sqlite:")
        return f"sqlite:///{local}" if sqlite else place.value if is_uri(place.value) else str(local)
    raise ConfigError(f"{file}: {place.field}: {_explained(place, local, mounts)}")


def _local(file: Path, place: _Place) -> Path | None:
    """The path that a place is on whatever machine reads it; None where it is a URI of a server's."""
    parts = urlsplit(place.value)
    if place.field == "tracking.uri" and parts.scheme == "sqlite":  # sqlite:///relative and sqlite:////absolute
        return Path(os.path.abspath(unquote(parts.path.removeprefix("/"))))
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if is_uri(place.value) or place.value == "databricks":
        return None
    return Path(os.path.abspath(file.parent / Path(place.value).expanduser()))


def _explained(place: _Place, local: Path, mounts: list[Path]) -> str:
    what = "on no shared folder" + (f" ({', '.join(map(str, mounts))})" if mounts else "")
    if place.field == "tracking.uri":
        return (
            f"must be a server that the cluster's head reaches, but {redacted(place.value)!r} is {what}; take it out:"
            " the cluster's own server is then used"
        )
    if place.field.startswith("store"):
        return (
            f"must be a URI, or a folder that every node mounts, but {local} is {what}; write `store: s3://...`, or"
            " name the nodes' folder with --shared"
        )
    return (
        f"packs are not uploaded, and {local} is {what}; copy it to storage that all nodes reach (python -m datasets"
        f" copy {local} s3://...) and name that, or name the folder that every node mounts with --shared"
    )


def _check_store(file: Path, config: SearchConfig, mounts: list[Path], results: str | None) -> None:
    """The default store is in the folder of results, on the head alone."""
    reached = results is not None and any(Path(os.path.abspath(results)).is_relative_to(mount) for mount in mounts)
    if config.store.uri is None and not reached:
        raise ConfigError(
            f"{file}: store: must be given for a cluster, since every node writes its checkpoints there, but it is"
            " absent; write `store: s3://...`, or a folder that every node mounts"
        )
