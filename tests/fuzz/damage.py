"""What happens to files on their way: bytes flip, are lost or doubled, lengths grow huge, values become others."""

import copy
import json
import math
from typing import Any

import yaml
from hypothesis import strategies as st

HUGE = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1]
SNIPPETS = [
    b"\0",
    b"\xff" * 8,
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r",
    b"\x1b[2J",
    b"../",
    b"%s%n",
    b"\n" * 3,
    b"9" * 5000,
]
WHOLE = [b"", b"\0" * 64, b"\xef\xbb\xbf", b"\xff\xfe{\0}\0", b"[" * 100_000, b"{" * 50, b"null", b"{}", b"[]", b"0"]
STRANGE: list[Any] = [
    None,
    True,
    0,
    -1,
    0.5,
    2**31,
    2**63,
    10**400,
    1e308,
    -1e-320,
    math.inf,
    math.nan,
    "",
    "\0",
    "a" * 20_000,
    "line\nline\x1b[2J\u2028line",
    "\ud800",
    "../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "file:///etc/passwd",
    "s3://nobody.invalid/x?secret_key=k",
    "~nobody/x",
    "1" * 5000,
    "12345678901234567890",
    [],
    {},
    [[]],
    {"": None},
    ["a", 1, None],
    [0] * 10_000,
]


@st.composite
def broken_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """A file of which one to four pieces are others, mostly where formats have their headers; or none of it is left."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.sampled_from(WHOLE) | st.binary(max_size=64))
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        last = len(data) - 1
        at = draw(st.integers(0, last) | st.integers(0, min(last, 200)) | st.integers(max(0, last - 200), last))
        match draw(st.sampled_from(["flip", "set", "number", "cut", "drop", "insert", "repeat", "zero"])):
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                data[at] = draw(st.integers(0, 255))
            case "number":
                size = draw(st.sampled_from([1, 2, 4, 8]))
                number = draw(st.sampled_from(HUGE)) % 256**size
                data[at : at + size] = number.to_bytes(size, draw(st.sampled_from(["little", "big"])))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 64))]
            case "insert":
                data[at:at] = draw(st.sampled_from(SNIPPETS) | st.binary(min_size=1, max_size=16))
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))] * draw(st.sampled_from([1, 2, 50]))
            case "zero":
                size = draw(st.integers(1, 64))
                data[at : at + size] = bytes(len(data[at : at + size]))
    return bytes(data)


@st.composite
def broken_tree(draw: st.DrawFn, valid: Any) -> Any:
    """A value of JSON or YAML of which one to three places hold another value, or nothing."""
    tree = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(tree)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return copy.deepcopy(draw(st.sampled_from(STRANGE)))
            continue
        *way, key = path
        holder = tree
        for step in way:
            holder = holder[step]
        match draw(st.sampled_from(["other", "other", "other", "gone", "nested", "renamed", "doubled", "swapped"])):
            case "other":
                holder[key] = copy.deepcopy(
                    draw(st.sampled_from(STRANGE) | st.integers() | st.floats() | st.text(max_size=8))
                )
            case "gone":
                del holder[key]
            case "nested":
                for _ in range(draw(st.sampled_from([1, 2, 200]))):
                    holder[key] = draw(st.sampled_from([[holder[key]], {"a": holder[key]}]))
            case "renamed" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["", "x", "__class__", "a\nb", "\0", "é" * 300]))] = holder.pop(key)
            case "doubled" if isinstance(holder, list):
                holder[key:key] = [holder[key]] * draw(st.sampled_from([1, 100]))
            case _:
                other = draw(st.sampled_from(_paths(tree)))
                value = tree
                for step in other:
                    value = value[step]
                holder[key] = json.loads(json.dumps(value))
    return tree


def _paths(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of a tree and everything in it, no deeper than a few: what is far in stands for all that is there."""
    items = (
        list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree[:40])) if isinstance(tree, list) else []
    )
    return [at, *(path for key, value in items if len(at) < 12 for path in _paths(value, (*at, key)))]


def broken(valid: bytes, form: str) -> st.SearchStrategy[bytes]:
    """Files that were `valid`; those of form "json" and "yaml" also with other values in their places."""
    if form == "json":
        text = broken_tree(json.loads(valid)).map(lambda tree: json.dumps(tree).encode())
        return text | broken_bytes(valid)
    if form == "yaml":
        text = broken_tree(yaml.safe_load(valid)).map(_as_yaml)
        return text | broken_bytes(valid)
    return broken_bytes(valid)


def _as_yaml(tree: Any) -> bytes:
    text: str = yaml.safe_dump(tree, allow_unicode=False, sort_keys=False)
    return text.encode("utf-8", "surrogatepass")
