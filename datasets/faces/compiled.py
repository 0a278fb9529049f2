"""`kernel`: a function compiled by numba, kept on disk between processes.

numba's own cache notices a change of the file that a kernel stands in, but not of the files that it calls into or takes
constants from, and would go on with the old code. So kernels are kept in a folder that is named by a digest of their
file and of all of this project's files that it imports, directly or not.
"""

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

try:
    import numba
except ModuleNotFoundError as error:
    raise ValueError(
        f"the embedded faces need the package {error.name}: pip install -c constraints.txt anny numba threadpoolctl"
    ) from None

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(__file__).resolve().parent / "__pycache__"
_IMPORT = re.compile(r"^\s*from (datasets[\w.]*) import \(?([\w ,]*)|^\s*import (datasets[\w.]*)", re.MULTILINE)


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function at its first call, or takes what an earlier process compiled of the same sources.

    Divisions by zero give infinities and NaN as in numpy, since tests for them would keep loops from being vectorised.
    """
    return _compiled(function, inline=False)


def inlined(function: Callable[..., Any]) -> Any:
    """A `kernel` that is compiled into its callers: a call that hands arrays on counts references, which costs a pass
    over all pixels half of its time."""
    return _compiled(function, inline=True)


def _compiled(function: Callable[..., Any], inline: bool) -> Any:
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(CACHE / f"kernels-{sources_digest(_file(function.__module__))}")
    try:
        return numba.njit(cache=True, error_model="numpy", forceinline=inline)(function)
    finally:
        config.CACHE_DIR = before


@cache
def sources_digest(path: Path) -> str:
    """A digest of a file's content and of that of every file of the project that it imports, directly or not."""
    files, found = [path], {path}
    for file in files:
        for imported in _imports(file) - found:
            found.add(imported)
            files.append(imported)
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(found):
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


@cache
def _imports(path: Path) -> frozenset[Path]:
    out = set()
    for module, names, plain in _IMPORT.findall(path.read_text(encoding="utf-8")):
        parents = [module or plain, *(f"{module}.{name.strip()}" for name in names.split(",") if name.strip())]
        out |= {_file(name) for name in parents}
    return frozenset(file for file in out if file.is_file())


def _file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
