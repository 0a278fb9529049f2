"""The pack cache: packs that are named by a URI, as files on the node's own disk, however many processes ask at once.

An entry is addressed by its pack's digest. It gets its name when it is whole and its content has given that digest, so
what is there is verified. One process fetches it, under a lock, while the others wait; then all map the same files,
through one page cache. A process that is killed loses the lock, and the next removes what it left.

    CACHE/DIGEST/            manifest.json, the files, and `uri`: where it was fetched from
         /DIGEST.lock        held while an entry is looked up, fetched or removed
         /.DIGEST.writing-*  being fetched

An open pack holds a shared lock on its manifest.json: an entry that any process has open is not removed. Packs with the
same content are one entry, which keeps the manifest (the `source` in it is not content) of the one that came first.
"""

import fcntl
import logging
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.manifest import Manifest, PackError, replaced
from datasets.ordinary import read_bytes
from datasets.pack import Pack
from datasets.progress import byte_bar
from datasets.remote import RemotePack
from datasets.settings import line
from datasets.uri import reason, redacted
from datasets.whole import whole_folder

log = logging.getLogger("titrate.cache")

VARIABLE = "TITRATE_PACK_CACHE"
POLL_S = 0.1  # how often a process that waits for another's fetch looks again


@dataclass(frozen=True)
class Entry:
    """A pack in the cache. `used` is when it was last opened, in seconds since 1970; `open` whether it is now."""

    digest: str
    uri: str
    samples: int
    bytes: int
    used: float
    open: bool


def cache_folder() -> Path:
    """TITRATE_PACK_CACHE, or `titrate/packs` in the user's cache folder (XDG Base Directory Specification 0.8)."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".cache") / "titrate" / "packs"


def fetch(uri: str, digest: str | None = None) -> Pack:
    """Opens the pack at a URI from the node's cache, fetching it once.

    digest  the content that it must have. With it a pack that is in the cache is opened without asking the URI;
            without it the URI's manifest says which content is meant.

    Raises PackError, and leaves nothing behind, when the pack cannot be read, is damaged or another one, or when it
    cannot be kept here.
    """
    cache = cache_folder()
    remote = None
    if digest is None:
        remote = RemotePack(uri)
        digest = remote.manifest()[1].digest
    try:
        with _lock(cache, digest):
            folder = cache / digest
            pack = _opened(folder, uri)
            if pack is None:
                _download(remote or RemotePack(uri), digest, folder)
                pack = Pack.in_folder(folder, uri)
            os.utime(folder)
            return _held(pack)
    except OSError as error:
        raise PackError(
            f"{redacted(uri)}: must be kept in the pack cache {cache}, but: {reason(error)}; free space there"
            f" (`python -m datasets cache clear`), or set {VARIABLE} to another folder"
        ) from None


def entries() -> list[Entry]:
    """The packs in the cache, those opened last first. One that cannot be read is told in the log and passed over."""
    found = []
    for folder in _folders(cache_folder()):
        try:
            manifest = Manifest.parse(read_bytes(folder / "manifest.json"), str(folder))
            uri = line(read_bytes(folder / "uri").decode(errors="replace").strip())
            used, held = folder.stat().st_mtime, not _free(folder)
        except FileNotFoundError:
            continue  # removed meanwhile
        except PackError:
            log.warning("%s is not whole, or of another version; `python -m datasets cache clear` removes it", folder)
            continue
        found.append(Entry(folder.name, uri, manifest.count, manifest.bytes, used, held))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear(*, older_than_days: float = 0) -> tuple[int, int]:
    """Removes entries that were last opened so long ago, and what was left half-fetched: (removed, kept as in use)."""
    cache = cache_folder()
    before = time.time() - older_than_days * 86400
    removed = in_use = 0
    for lock in sorted(cache.glob("*.lock")):
        folder = cache / lock.stem
        try:
            with _lock(cache, lock.stem, wait=False):
                _remove_remains(folder)
                if not folder.is_dir() or folder.stat().st_mtime > before:
                    continue
                if not _free(folder):
                    in_use += 1
                    continue
                _remove(folder)
                removed += 1
        except Timeout:
            in_use += 1  # being fetched
    return removed, in_use


def _opened(folder: Path, uri: str) -> Pack | None:
    """The pack of an entry, under its lock; None where there is no entry. One with files missing is removed."""
    if not folder.is_dir():
        return None
    try:
        return Pack.in_folder(folder, uri)
    except PackError as error:
        log.warning("%s: its copy in %s is no longer whole (%s): it is fetched again", redacted(uri), folder, error)
        _remove(folder)
        return None


def _remove(folder: Path) -> None:
    """Removes an entry, under its lock; where this is killed, it leaves remains and no entry."""
    _remove_remains(folder)
    aside = folder.with_name(f".{folder.name}.writing-removed")
    os.rename(folder, aside)
    shutil.rmtree(aside)


def _download(remote: RemotePack, digest: str, folder: Path) -> None:
    """Makes an entry, under its lock."""
    _remove_remains(folder)
    text, manifest = remote.manifest()
    if manifest.digest != digest:
        raise replaced(remote.path, digest, manifest.digest)
    free = shutil.disk_usage(folder.parent).free
    if manifest.bytes > free:
        raise PackError(
            f"{remote.path}: its {manifest.bytes:,} bytes must fit into the pack cache {folder.parent}, but {free:,}"
            f" are free; free space there (`python -m datasets cache clear`), or set {VARIABLE} to another folder"
        )
    with whole_folder(folder, lambda _: None) as new:
        with byte_bar("fetching", manifest.bytes) as progress:
            remote.download(manifest.files, new, progress)
        (new / "manifest.json").write_bytes(text)
        (new / "uri").write_text(f"{remote.path}\n", encoding="utf-8")
        Pack.in_folder(new, remote.path).verify()


def _remove_remains(folder: Path) -> None:
    """Removes what a process that was killed left of an entry; its lock is held here, so nobody writes it."""
    for remains in folder.parent.glob(f".{folder.name}.writing-*"):
        shutil.rmtree(remains)


def _folders(cache: Path) -> list[Path]:
    """The entries; what begins with a dot is being fetched or removed."""
    return [path for path in cache.glob("[!.]*") if path.is_dir() and (path / "manifest.json").is_file()]


@contextmanager
def _lock(cache: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Holds an entry; the kernel lets go of it when the process ends, however it ends. Without `wait`: Timeout."""
    cache.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache / f"{name}.lock", poll_interval=POLL_S, fallback_to_soft=False)
    with lock.acquire(blocking=wait):
        yield


def _held(pack: Pack) -> Pack:
    """A pack whose entry stays until the pack is collected, here and in every process that is forked from this one."""
    descriptor = os.open(os.path.join(pack.folder, "manifest.json"), os.O_RDONLY)
    weakref.finalize(pack, os.close, descriptor)
    pack.remedy = f"clear its copy in {pack.folder} (`python -m datasets cache clear`), or write it again"
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return pack


def _free(folder: Path) -> bool:
    """Whether no process has the pack of an entry open."""
    with open(folder / "manifest.json", "rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
