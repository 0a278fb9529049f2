"""Label tables: what the classes of a data set are called in ours. One YAML file a table, in this folder or a user's.

    classes: [background, skin, ...]   the common names, whose place is the id in a pack; those of faces unless given
    labels:                            the data set's own names, in the order of its ids (0, 1, ...), or
      background: background           {id: ..., is: ...} where ids have gaps: each with a common name, `ignore` (255),
      eye_g: {glasses: background}     or a choice that the user may make, with what it is unless they do

`base: lapa` takes classes and labels from another table (a ready name or a path), of which only those that differ need
to be given.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.classes import FACE_CLASSES, IGNORE
from datasets.settings import Library, unknown

LIBRARY = Library("label table", Path(__file__).resolve().parent, "labels: ...")


@dataclass(frozen=True)
class LabelTable:
    """From a data set's own labels to common classes.

    names     of the data set's labels, and `ids` their numbers there
    classes   of the pack, whose place is the class
    lookup    uint8 [256], from id to class; 255 (ignore) for ids that no label has
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    classes: tuple[str, ...]
    lookup: np.ndarray

    @property
    def digest(self) -> str:
        """Of all that it says: 16 hexadecimal digits."""
        said = repr((self.names, self.ids, self.classes, self.lookup.tolist()))
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


def load_labels(name_or_path: str | Path, choices: dict[str, str] | None = None) -> LabelTable:
    """Reads a ready table by name, or any by path, and makes the user's choices.

    choices  of what the table leaves open, as {"glasses": "ignore"}; one that the table does not have is refused

    Raises ValueError, one line that names the file and the label, on whatever is wrong.
    """
    path = LIBRARY.find(name_or_path)
    raw = LIBRARY.read(path, _check)
    _check(path, raw)
    classes = tuple(raw.get("classes", FACE_CLASSES))
    if not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes):
        raise ValueError(f"{path}: classes: must be names that differ, but got {list(classes)}")
    chosen, open_ = dict(choices or {}), set()
    names, ids, lookup = [], [], np.full(256, IGNORE, np.uint8)
    for place, (name, value) in enumerate(raw["labels"].items()):
        if not isinstance(name, str):
            raise ValueError(f"{path}: labels: a label must be a name, but got {name!r}; ids are {{id: ..., is: ...}}")
        number, value = (value["id"], value.get("is")) if isinstance(value, dict) and "id" in value else (place, value)
        if isinstance(value, dict) and len(value) == 1:
            ((choice, value),) = value.items()
            open_.add(choice)
            value = chosen.get(choice, value)
        if type(number) is not int or not 0 <= number <= 255 or number in ids:
            raise ValueError(f"{path}: labels.{name}: id must be 0 to 255 and no other's, but is {number!r}")
        if value != "ignore" and value not in classes:
            raise ValueError(f"{path}: labels.{name}: {unknown('class', value, (*classes, 'ignore'))}")
        names.append(name)
        ids.append(number)
        lookup[number] = IGNORE if value == "ignore" else classes.index(value)
    for choice in chosen:
        if choice not in open_:
            raise ValueError(f"{path}: {choice} must be left out, since no label there is a choice of that name")
    lookup.flags.writeable = False
    return LabelTable(tuple(names), tuple(ids), classes, lookup)


def _check(path: Path, raw: dict[str, Any]) -> None:
    for key in raw:
        if key not in ("classes", "labels"):
            raise ValueError(f"{path}: {unknown('key', key, ('base', 'classes', 'labels'))}")
    if not isinstance(raw.get("labels"), dict) or not raw["labels"] or not isinstance(raw.get("classes", []), list):
        raise ValueError(f"{path}: labels must be a mapping and classes a list of names; give them, or a base")
