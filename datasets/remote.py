"""RemotePack: a pack's folder on another filesystem, which pyarrow opens by a URI: S3, GCS, Azure, `file://`.

Files go over as they are, whole and several at a time. The manifest goes last, in one piece: it is what makes a pack.
"""

import re
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from pyarrow import fs

from datasets.manifest import File, Manifest, PackError, wrong_size
from datasets.ordinary import TEXT_BYTES
from datasets.uri import reason, redacted

CHUNK_BYTES = 8 << 20
THREADS = 8  # files at a time
_OURS = re.compile(r"[0-9a-f]{12}-\d{5,}\.arrow|manifest\.json\.[0-9a-f]{32}\.tmp")  # what a killed upload may leave


class RemotePack:
    """The pack at a URI. Whatever fails is a PackError that names the URI, without its secrets."""

    def __init__(self, uri: str) -> None:
        self.path = redacted(uri)
        try:
            self.filesystem, root = fs.FileSystem.from_uri(uri)
        except (ValueError, NotImplementedError) as error:  # both are pyarrow's
            raise PackError(
                f"{self.path}: must be a URI that pyarrow opens (s3://, gs://, abfs://, file://), but: {reason(error)}"
            ) from None
        except OSError as error:
            self._unreachable(error)
        self.root = root.rstrip("/")

    def manifest(self) -> tuple[bytes, Manifest]:
        """The manifest, as it is there and parsed."""
        try:
            with self.filesystem.open_input_stream(f"{self.root}/manifest.json") as stream:
                text = stream.read(TEXT_BYTES)
        except FileNotFoundError:
            self._check_bucket()
            raise PackError(f"{self.path}: no pack here (no manifest.json); check the path, or write one") from None
        except OSError as error:
            self._unreachable(error)
        return text, Manifest.parse(text, self.path)

    def download(self, files: Sequence[File], folder: Path, progress: Callable[[int], None]) -> None:
        """Copies files into `folder`; `progress` is told bytes. OSError is the folder's, PackError the URI's."""

        def copy(file: File, stop: threading.Event) -> None:
            size = 0
            with self._open(file) as source, open(folder / file.name, "xb") as target:
                while not stop.is_set() and (chunk := self._read(source)):
                    target.write(chunk)
                    progress(len(chunk))
                    size += len(chunk)
            if size != file.bytes and not stop.is_set():
                raise wrong_size(f"{self.path}/{file.name}", file.bytes, size)

        _all_at_once(copy, files)

    def upload(self, files: Sequence[File], folder: Path, progress: Callable[[int], None], *, again: bool) -> None:
        """Copies a pack from `folder`, its manifest last; then removes the files of a pack that it replaced.

        again  whether files are sent that are there already, by name and size: what was damaged there is repaired so
        """
        text = (folder / "manifest.json").read_bytes()
        written: list[str] = []

        def copy(file: File, stop: threading.Event) -> None:
            path = f"{self.root}/{file.name}"
            if not again and self._size(path) == file.bytes:  # a name says the content
                progress(file.bytes)
                return
            written.append(path)
            with open(folder / file.name, "rb") as source, self.filesystem.open_output_stream(path) as target:
                while not stop.is_set() and (chunk := source.read(CHUNK_BYTES)):
                    target.write(chunk)
                    progress(len(chunk))
            if not stop.is_set() and (size := self._size(path)) != file.bytes:
                raise wrong_size(f"{self.path}/{file.name}", file.bytes, size or 0)

        try:
            before = self._names()
            self.filesystem.create_dir(self.root, recursive=True)
            _all_at_once(copy, files)
            self._write_manifest(text)
        except BaseException as error:
            if not self._has_manifest(text):  # an error may come after the manifest has arrived
                self._delete(written)
            if isinstance(error, OSError):
                self._unreachable(error)
            raise
        self._delete(
            [f"{self.root}/{name}" for name in before - {file.name for file in files} if _OURS.fullmatch(name)]
        )

    def check_target(self, overwrite: bool) -> None:
        """Raises PackError where there is a pack already, or something else."""
        self._check_bucket()
        try:
            names = self._names()
        except OSError as error:
            self._unreachable(error)
        if "manifest.json" in names and not overwrite:
            raise PackError(f"{self.path}: exists; choose another path or pass overwrite (--overwrite)")
        if "manifest.json" not in names and not all(map(_OURS.fullmatch, names)):
            raise PackError(f"{self.path}: exists and is not a pack; choose another path")

    def _open(self, file: File) -> Any:
        try:
            return self.filesystem.open_input_stream(f"{self.root}/{file.name}")
        except FileNotFoundError:
            raise PackError(f"{self.path}/{file.name}: the file is missing; write the pack again") from None
        except OSError as error:
            self._unreachable(error)

    def _read(self, source: Any) -> bytes:
        try:
            return source.read(CHUNK_BYTES)
        except OSError as error:
            self._unreachable(error)

    def _names(self) -> set[str]:
        return {info.base_name for info in listing(self.filesystem, self.root)}

    def _size(self, path: str) -> int | None:
        return self.filesystem.get_file_info(path).size

    def _write_manifest(self, text: bytes) -> None:
        path = f"{self.root}/manifest.json"
        target = f"{path}.{uuid.uuid4().hex}.tmp" if renames(self.filesystem) else path
        with self.filesystem.open_output_stream(target) as stream:
            stream.write(text)
        if target != path:
            self.filesystem.move(target, path)

    def _has_manifest(self, text: bytes) -> bool:
        try:
            with self.filesystem.open_input_stream(f"{self.root}/manifest.json") as stream:
                return stream.read() == text
        except OSError:
            return False

    def _delete(self, paths: Sequence[str]) -> None:
        """Removes what may be there; what cannot be removed belongs to no pack, and the next upload does it."""
        for path in paths:
            try:
                self.filesystem.delete_file(path)
            except OSError:
                continue

    def _check_bucket(self) -> None:
        bucket = self.root.partition("/")[0]
        if renames(self.filesystem):
            return
        try:
            there = self.filesystem.get_file_info(bucket).type != fs.FileType.NotFound
        except OSError as error:
            self._unreachable(error)
        if not there:
            raise PackError(
                f"{self.path}: the bucket must exist, but there is no {bucket!r}; check its name and region"
            )

    def _unreachable(self, error: OSError) -> NoReturn:
        raise PackError(
            f"{self.path}: must be reachable, but: {reason(error)}; check the address, the network and the credentials"
        ) from None


def listing(filesystem: fs.FileSystem, folder: str, *, recursive: bool = False) -> list[fs.FileInfo]:
    """What a folder holds; nothing where there is none.

    Arrow finds no folder, and then looks whether that is so: one that somebody makes in between is an error of its
    local filesystem. It is there when asked again.
    """
    selector = fs.FileSelector(folder, allow_not_found=True, recursive=recursive)
    try:
        found: list[fs.FileInfo] = filesystem.get_file_info(selector)
    except FileNotFoundError:
        found = filesystem.get_file_info(selector)
    return found


def renames(filesystem: fs.FileSystem) -> bool:
    """Whether a file can be renamed. Object stores cannot, and show an object only when its stream is closed."""
    names = ("S3FileSystem", "GcsFileSystem", "AzureFileSystem")  # a build of pyarrow may lack some
    return not isinstance(filesystem, tuple(getattr(fs, name) for name in names if hasattr(fs, name)))


def _all_at_once(copy: Callable[[File, threading.Event], None], files: Sequence[File]) -> None:
    """Copies files in threads. The first error, or an interrupt, ends the others at their next chunk."""
    stop = threading.Event()

    def one(file: File) -> None:
        try:
            if not stop.is_set():
                copy(file, stop)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for done in [pool.submit(one, file) for file in files]:
                done.result()
        except BaseException:
            stop.set()
            raise
