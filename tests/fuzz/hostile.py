"""Files that somebody made to do harm: to run code, to fill the memory, to never end, to lead elsewhere."""

import io
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MARK = "executed"  # a file beside the broken one, which code that runs would make
DEEP = 100_000
KEYS = {"search file": "name", "population": "identity", "label table": "labels", "generic settings": "image"}


def yaml_files(key: str) -> dict[str, bytes]:
    """Of a mapping that has `key`."""
    laughs, merges = "[" + "x, " * 9 + "x]", "m0: &m0 {x: 1}\n"
    for level in range(12):
        laughs = f"[&l{level} {laughs}" + f", *l{level}" * 9 + "]"
        merges += f"m{level + 1}: &m{level + 1} {{<<: [" + ", ".join([f"*m{level}"] * 10) + "]}\n"
    values = {
        "laughs": laughs,
        "itself": "&a [*a]",
        "mapping of itself": "&a {x: *a}",
        "deep lists": "[" * DEEP,
        "deep mappings": "{a: " * DEEP,
        "deep and whole": "[" * 3000 + "]" * 3000,
        "a few levels deep": "[" * 200 + "]" * 200,
        "code": f"!!python/object/apply:os.system ['touch {MARK}']",
        "code by name": "!!python/name:os.system",
        "module": "!!python/module:antigravity",
        "object": "!!python/object/new:pathlib.Path [x]",
        "digits": "9" * 5000,
        "hexadecimal": "0x" + "f" * 5000,
        "base 60": "1" + ":10" * 2000,
        "list as a key": "{[a]: 1}",
        "no anchor": "*nobody",
        "date": "2001-02-30",
        "time": "2001-01-01 99:99:99",
        "reversed": "\u202egnp.exe",
    }
    for tag in ("timestamp", "int", "bool", "float", "binary", "map", "seq", "set", "omap", "pairs", "null", "merge"):
        values[f"{tag} of text"] = f"!!{tag} x"
        values[f"{tag} of nothing"] = f"!!{tag} ''"
        values[f"{tag} of a list"] = f"!!{tag} [a, [b]]"
        values[f"{tag} of a mapping"] = f"!!{tag} {{a: b}}"
    whole = {
        "merges": merges,
        "number as a key": "1: 2\nnull: 3\n.nan: 4\n2001-01-01: 5\n",
        "two documents": f"{key}: 1\n---\n{key}: 2\n",
        "directive": f"%YAML 9.9\n---\n{key}: 1\n",
        "list of keys": "- a\n- b\n",
        "mapping that is none": "!!map x",
        "merge of text": "<<: x\n",
    }
    files = {name: f"{key}: {value}\n".encode() for name, value in values.items()}
    return files | {name: text.encode() for name, text in whole.items()} | {"UTF-16": f"{key}: 1".encode("utf-16")}


def json_files() -> dict[str, bytes]:
    return {
        "deep lists": b"[" * DEEP,
        "deep and whole": b"[" * DEEP + b"]" * DEEP,
        "deep mappings": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        "digits": b"9" * 5000,
        "not a number": b"NaN",
        "text": b'"text"',
        "half a character": b'{"\\ud800": "\\udfff"}',
        "UTF-16": '{"a": 1}'.encode("utf-16"),
        "mark": b"\xef\xbb\xbf{}",
    }


class Runs:
    """Pickled, it makes MARK when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {MARK}",)


def weight_files() -> dict[str, bytes]:
    import torch

    def saved(value: Any, *, zipped: bool = True) -> bytes:
        file = io.BytesIO()
        torch.save(value, file, _use_new_zipfile_serialization=zipped)
        return file.getvalue()

    bomb = io.BytesIO()
    given = zipfile.ZipFile(io.BytesIO(saved({"w": torch.ones(1)})))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        for name in given.namelist():
            file.writestr(name, bytes(64 << 20) if name.endswith("data/0") else given.read(name))
    expanded = torch.ones(1).expand(10**6, 10**6)
    return {
        "code": saved({"state_dict": Runs()}),
        "code of old torch": saved({"state_dict": Runs()}, zipped=False),
        **{f"pickle {protocol}": pickle.dumps(Runs(), protocol) for protocol in range(6)},
        "compressed": bomb.getvalue(),
        "expanded": saved({"w": expanded, "0.weight": expanded}),
        "a list": saved([torch.ones(1)]),
        "keys that are none": saved({1: torch.ones(1), None: torch.ones(2), ("a",): torch.ones(3)}),
        "sparse": saved({"0.weight": torch.ones(4, 3, 3, 3).to_sparse()}),
        "no storage": saved({"0.weight": torch.empty(4, 3, 3, 3, device="meta")}),
        "complex": saved({"0.weight": torch.ones(4, 3, 3, 3, dtype=torch.complex64)}),
        "deep": saved(_deep(100)),
    }


def _deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"state_dict": value}
    return value


def png(width: int, height: int, chunks: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def tiff(width: int, height: int, *, samples: int = 1, compression: int = 1) -> bytes:
    tags = {
        256: width,
        257: height,
        258: 8,
        259: compression,
        262: 1,
        273: 8,
        277: samples,
        278: height,
        279: 4,
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 12) + b"data" + struct.pack("<H", len(tags)) + entries + bytes(4)


def npz(name: str, header: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"few")
    return file.getvalue()


def picture_files() -> dict[str, bytes]:
    text = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(200 << 20))
    bomb = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return {
        "PNG of 100,000 x 100,000": png(100_000, 100_000),
        "PNG of no pixel": png(0, 0),
        "PNG of a long text": png(16, 16, bomb),
        "TIFF of 100,000 x 100,000": tiff(100_000, 100_000),
        "TIFF of 16 x 16 x 1,000,000,000": tiff(16, 16, samples=1_000_000_000),
        "GIF of 65,535 x 65,535": b"GIF89a"
        + struct.pack("<HH", 65535, 65535)
        + b"\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;",
        "BMP of 100,000 x 100,000": b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 100_000, 100_000, 1, 24, *[0] * 6),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n(x) (w) file\nshowpage\n",
        "PPM": b"P6 100000 100000 255\n",
        "PDF": b"%PDF-1.4\n",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }


def hdr_files() -> dict[str, bytes]:
    def header(size: str, head: str = "#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n") -> bytes:
        return f"{head}\n{size}\n".encode() + b"\2\2\0\x20" * 9

    return {
        "50,000 x 100,000": header("-Y 50000 +X 100000"),
        "8,192 x 16,384": header("-Y 8192 +X 16384"),
        "less than nothing": header("-Y -8 +X -16"),
        "no number": header("-Y 8 +X x"),
        "digits": header("-Y 8 +X " + "9" * 5000),
        "a long line": header("-Y 8 +X 16", "#?RADIANCE\n" + "a" * 7000 + "\n"),
        "run lengths beyond the row": header("-Y 8 +X 16")[:-36] + b"\2\2\0\x10" + b"\xff\0" * 200,
    }


def npz_files() -> dict[str, bytes]:
    def header(shape: str, descr: str = "'|u1'") -> bytes:
        return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()

    files = {
        "100,000 x 100,000": header("(100000, 100000, 3)"),
        "more than there is": header("(4611686018427387904, 4)"),
        "less than nothing": header("(-1, 16)"),
        "objects": header("(16, 16)", "'|O'"),
        "no dtype": header("(16, 16)", "'nonsense'"),
        "fields": header("(16, 16)", "[('a', '<f4')]"),
        "code": header("(16, __import__('os').system('touch executed'))"),
        "deep": b"(" * 5000,
    }
    made = {name: npz("image", head) for name, head in files.items()}
    file = io.BytesIO()
    np.savez(file, image=np.array([Runs()], object), allow_pickle=True)
    return made | {"pickle": file.getvalue()}


def hostile(name: str, file: str, form: str) -> dict[str, bytes]:
    """Such files in place of the one that a reader of this name reads."""
    if form == "yaml":
        return yaml_files(KEYS[name])
    if form == "json":
        return json_files()
    if name == "store checkpoint of a right checksum":
        from trainables.objects import DIGEST_BYTES, MAGIC

        return {kind: MAGIC + data + bytes(DIGEST_BYTES) for kind, data in weight_files().items()}
    kinds = {".pth": weight_files, ".pt": weight_files, ".hdr": hdr_files, ".npz": npz_files}
    kinds |= dict.fromkeys((".png", ".jpg", ".tif"), picture_files)
    made = kinds.get(Path(file).suffix)
    return made() if made else {}


def _is_huge(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(4 << 30)  # without a block on the disk


def _is(link: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.unlink()
        path.symlink_to(link)

    return make


def _is_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _is_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    shutil.copy(__file__, path)


# What may be in place of a file.
PLACES: dict[str, Callable[[Path], object]] = {
    "nothing": Path.unlink,
    "a folder": _is_folder,
    "a pipe": _is_pipe,
    "a link to a device": _is("/dev/zero"),
    "a link to nothing": _is("nowhere"),
    "a link to itself": _is("a"),
    "4 GB": _is_huge,
}
