"""`kernel`: a function compiled by numba, kept on disk between processes.

numba's own cache notices a change of the file that a kernel stands in, but not of the files that it calls into or takes
constants from, and would go on with the old code. So kernels are kept in a folder that is named by a digest of their
file and of all of this project's files that it imports, directly or not.
"""

import ast
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

INSTALL = "pip install -c constraints.txt anny numba threadpoolctl"

try:
    import numba
except ModuleNotFoundError as error:
    raise ValueError(f"the embedded faces need {error.name}, which is not installed: {INSTALL}") from None

ROOT = Path(__file__).resolve().parents[2]


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
    folder = _folder(_file(function.__module__))
    before = config.CACHE_DIR
    config.CACHE_DIR = before if folder is None else str(folder)
    try:
        return numba.njit(cache=folder is not None, error_model="numpy", forceinline=inline)(function)
    finally:
        config.CACHE_DIR = before


@cache
def _folder(path: Path) -> Path | None:
    """Where the kernels of a file are kept: below NUMBA_CACHE_DIR, or beside the sources; None where neither can be
    written, since numba would turn to a folder of its own that knows no digest. Beside the sources, what other sources
    left is removed; NUMBA_CACHE_DIR may be shared with other versions of them."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(given or Path(__file__).resolve().parent / "__pycache__") / "kernels"
    folder = base / f"{path.stem}-{sources_digest(path)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    for old in () if given else base.glob(f"{path.stem}-*"):
        if old != folder and len(old.name) == len(folder.name):
            shutil.rmtree(old, ignore_errors=True)
    return folder if os.access(folder, os.W_OK) else None


@cache
def sources_digest(path: Path) -> str:
    """A digest of a file's content and of that of every file of the project that it imports, directly or not, with the
    tables that lie beside them."""
    files, found = [path], {path}
    for file in files:
        for imported in _imports(file) - found:
            found.add(imported)
            files.append(imported)
    tables = {table for file in found for table in file.parent.glob("*.yaml")}  # that modules take constants from
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(found | tables):
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


@cache
def _imports(path: Path) -> frozenset[Path]:
    """The project's files that a file imports."""
    package = path.relative_to(ROOT).parts[:-1]
    found = (_file(name) for name in _names(ast.parse(path.read_bytes()), package))
    return frozenset(file for file in found if file.is_file())


def _names(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Dotted names of all modules that a file of `package` may import: a name that is imported may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
