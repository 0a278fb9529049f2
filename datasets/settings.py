"""YAML files that people write: the search file, populations, label tables.

Every mistake is one line: the field, what must hold, and what was given.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from datasets.ordinary import read_text

FILE_BYTES = 4 << 20
NODES = 1_000_000  # that the anchors of a file may stand for
LONGEST = 600  # characters of what a message says of a field
KNOWN = 40  # names that a message lists


def _wrong(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


class _Loader(yaml.SafeLoader):
    """YAML in which `off`, `on`, `yes` and `no` are words (a neckline is `off`) and no key is given twice."""

    def get_single_node(self) -> Any:
        """The tree of the file, without anchors that lead to themselves or multiply to more than NODES values."""
        root = super().get_single_node()
        sizes: dict[yaml.Node, int] = {}

        def size(node: yaml.Node) -> int:
            if node not in sizes:
                sizes[node] = NODES + 1  # of one that is met again within itself
                inner = node.value if isinstance(node, yaml.CollectionNode) else ()
                parts = (part for item in inner for part in (item if isinstance(item, tuple) else (item,)))
                sizes[node] = 1 + sum(map(size, parts))
            if sizes[node] > NODES:
                raise _wrong(f"anchors must stand for at most {NODES:,} values", node)
            return sizes[node]

        if root is not None:
            size(root)
        return root

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):  # tagged as one
            raise _wrong("must be a mapping", node)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise _wrong(f"key {key.value!r} is given twice", key)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_mapping(path: Path, what: str, keys: str) -> dict[str, Any]:
    """The mapping that a file holds. `what` names the file's kind and `keys` some of its keys, for the messages.

    Raises ValueError, one line without the file's name, for a file that is absent, no text, no YAML or no mapping.
    """
    try:
        raw = yaml.load(read_text(path, FILE_BYTES), _Loader)
    except FileNotFoundError:
        raise ValueError(f"{what} must exist, but there is none") from None
    except RecursionError:
        raise ValueError(f"{what} must be YAML of a few levels, but is too deep") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} must be readable text, but: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"{what} must be YAML, but{where}: {problem}") from None
    except (ValueError, LookupError, AttributeError, TypeError) as error:  # of a value that is not as its tag says
        raise ValueError(f"{what} must be YAML, but one value cannot be read ({error})") from None
    if not isinstance(raw, dict):
        shown = "nothing" if raw is None else type(raw).__name__
        raise ValueError(f"{what} must be a mapping ({keys}), but got {shown}")
    return raw


@dataclass(frozen=True)
class Library:
    """Files of one kind that come with this package, and a user's own that build on them by `base:`.

    what    the kind, for messages: "population"
    folder  of the ready ones, NAME.yaml
    keys    some keys of such a file, for messages
    """

    what: str
    folder: Path
    keys: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in self.folder.glob("*.yaml")))

    def find(self, name_or_path: str | Path, beside: Path = Path()) -> Path:
        """The file of a ready name, or that of a path, which is relative to `beside`. Raises ValueError for neither."""
        text = str(name_or_path)
        if text in self.names:
            return self.folder / f"{text}.yaml"
        if isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml")):
            return beside / Path(text).expanduser()
        raise ValueError(f"{unknown(self.what, text, self.names)} (or give the path of a .yaml file)")

    def read(
        self, path: Path, check: Callable[[Path, dict[str, Any]], object], derived: tuple[Path, ...] = ()
    ) -> dict[str, Any]:
        """The mapping of a file, with what its base gives filled in, key by key and one level down.

        check    raises where a base, as a whole, is not what it must be: an error is told of the file that made it
        derived  the files that led here

        Raises ValueError, one line that names the file.
        """
        if path.resolve() in derived:
            raise ValueError(f"{path}: base: must not lead back to the file itself; take it out of one of them")
        try:
            raw = read_mapping(path, f"the {self.what}'s file", self.keys)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if "base" not in raw:
            return raw
        base = raw.pop("base")
        if not isinstance(base, str):
            raise ValueError(f"{path}: base: must be a ready {self.what}'s name or a path, but got {base!r}")
        try:
            base_path = self.find(base, path.parent)
        except ValueError as error:
            raise ValueError(f"{path}: base: {error}") from None
        merged = self.read(base_path, check, (*derived, path.resolve()))
        check(base_path, merged)
        for key, value in raw.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = {**merged[key], **value} if both else value
        return merged


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """`unknown name 'clera'; did you mean 'clear'?`"""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    more = f" and {len(known) - KNOWN} more" if len(known) > KNOWN else ""
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known[:KNOWN])}{more}"
    return f"unknown {what} {line(repr(name), 60)}; {hint}"


def line(text: str, at_most: int = LONGEST) -> str:
    """A text of a file as one line of a message: its beginning, and escapes for what no line has."""
    cut = text if len(text) <= at_most else f"{text[:at_most]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def explain(error: ValidationError, model: type[BaseModel], absent: str = "") -> str:
    """The first problem, unknown keys before others, as one line: field, what must hold, what was given.

    `absent` follows "but it is absent": what to do about that.
    """
    return line(_explained(error, model, absent))


def _explained(error: ValidationError, model: type[BaseModel], absent: str) -> str:
    problems = sorted(error.errors(), key=lambda problem: problem["type"] not in ("extra_forbidden", "invalid_key"))
    problem = problems[0]
    at, fields = _place(model, problem["loc"])
    field = ".".join(at)
    elsewhere = any(_place(model, other["loc"])[0] != at for other in problems)  # a union's branches complain of one
    more = f" (and {len(problems) - 1} more)" if elsewhere else ""
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        known = [".".join([*at[:-1], name]) for name in _place(model, problem["loc"][:-1])[1]]
        return f"{unknown('key', field, known)}{more}"
    if problem["type"] == "json_invalid":
        return f"must be JSON, but: {problem['ctx']['error']}"
    if problem["type"] == "missing":
        return f"{field} must be given, but it is absent{absent}{more}"
    if problem["type"] == "union_tag_not_found":
        return f"{field}.{problem['ctx']['discriminator'].strip(chr(39))} must be given, but it is absent{more}"
    if problem["type"] == "union_tag_invalid":
        tag = problem["ctx"]
        name = f"{field}.{tag['discriminator'].strip(chr(39))}"
        return f"{name}: must be one of {tag['expected_tags']}, but got {tag['tag']!r}{more}"
    if problem["type"] == "value_error":
        return f"{field + ': ' if field else ''}{problem['msg'].removeprefix('Value error, ')}{more}"
    if problem["type"] in ("model_type", "model_attributes_type"):
        return f"{field}: must be a mapping of {', '.join(fields)}, but got {_shown(problem['input'])}{more}"
    message = problem["msg"].replace("Input should be", "must be").replace("valid tuple", "list")
    message = message[0].lower() + message[1:] if message[:1].isupper() and not message[:2].isupper() else message
    return f"{field}: {message}, but got {_shown(problem['input'])}{more}"


def _shown(value: Any) -> str:
    try:
        return line(repr(value), LONGEST // 3)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists within lists
        return f"what cannot be shown here ({type(value).__name__})"


def _place(model: type[BaseModel], loc: Iterable[Any]) -> tuple[list[str], list[str]]:
    """The path of fields to a problem, without what pydantic adds: a union's branch (`str`, `tuple[...]`, the `kind` of
    a model), `[key]`; and the names of the fields of the model that is there, none where there is none."""
    path: list[str] = []
    options: list[Any] = [model]
    for part in map(str, loc):
        tagged = [option for option in options if part in get_args(_annotation(option, "kind"))]
        if len(options) > 1 and tagged:
            options = tagged
        elif part not in ("range", "list", "str", "int", "float") and "[" not in part:
            path.append(part)
            annotation = _annotation(options[0], part) if options else None
            if annotation is not None:  # a list's index is no field
                choices = [annotation, *get_args(annotation)]
                options = [one for one in choices if isinstance(one, type) and issubclass(one, BaseModel)]
    return path, list(options[0].model_fields) if options else []


def _annotation(model: Any, field: str) -> Any:
    return model.model_fields[field].annotation if field in model.model_fields else None
