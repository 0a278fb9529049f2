"""Copying packs: from a folder or a URI to another, and packs that are written straight to a URI.

A filesystem that is reached by a URI cannot be written piece by piece as a disk can. A pack for it is written into a
folder of this machine first, verified, and sent as a whole.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.cache import cache_folder
from datasets.manifest import PackError
from datasets.pack import Pack
from datasets.progress import byte_bar
from datasets.remote import RemotePack
from datasets.uri import is_uri, redacted
from datasets.whole import whole_folder
from datasets.writer import check_target


def copy_pack(pack: Pack, out: str, *, overwrite: bool = False) -> None:
    """Verifies a pack and copies it, whole or not at all, into a new folder or to a URI.

    Raises PackError where there is something at `out` (a pack is replaced with `overwrite`), when the pack is damaged,
    or when `out` cannot be written.
    """
    target = RemotePack(out) if is_uri(out) else Path(out).absolute()
    if isinstance(target, RemotePack):
        target.check_target(overwrite)
    else:
        check_target(target, overwrite)
    pack.verify()
    files, folder = pack.manifest.files, Path(pack.folder)
    if isinstance(target, RemotePack):
        with byte_bar("sending", pack.manifest.bytes) as progress:
            target.upload(files, folder, progress, again=overwrite)
        return
    with whole_folder(target, partial(check_target, overwrite=overwrite)) as new:
        for name in (*(file.name for file in files), "manifest.json"):
            shutil.copyfile(folder / name, new / name)


@contextmanager
def destination(out: str, *, overwrite: bool = False) -> Iterator[Path]:
    """The folder to write a pack for `out` into: `out` itself or, for a URI, one that is sent there at the block's end.

    Such a folder lies in the pack cache, in the same place for the same URI, so that what was interrupted goes on. It
    stays when the pack is complete and cannot be sent. Raises PackError as `copy_pack` does, before anything is
    written where there is something at `out`, and when another process writes for the same URI.
    """
    if not is_uri(out):
        yield Path(out)
        return
    RemotePack(out).check_target(overwrite)
    outgoing = cache_folder() / "outgoing"
    outgoing.mkdir(parents=True, exist_ok=True)
    folder = outgoing / hashlib.blake2b(out.encode(), digest_size=16).hexdigest()
    try:
        lock = FileLock(f"{folder}.lock", fallback_to_soft=False).acquire(blocking=False)
    except Timeout:
        raise PackError(
            f"{redacted(out)}: must be written by one process at a time, but another one writes it; wait for it"
        ) from None
    with lock:
        yield folder / "pack"
        try:
            copy_pack(Pack.open(folder / "pack"), out, overwrite=overwrite)
        except PackError as error:
            raise PackError(
                f"{error}; the pack is complete in {folder / 'pack'}: send it with `python -m datasets copy`"
            ) from None
        shutil.rmtree(folder)
