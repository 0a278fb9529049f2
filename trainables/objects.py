"""Objects: what a store is made of, on any pyarrow filesystem. Each is whole or not there, and shows if it is damaged.

An object is written under a temporary name and renamed where the filesystem can rename; object stores show one only
when it is all there. It carries a checksum, and one that fails it is set aside. Nothing here needs torch.
"""

import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyarrow import fs

from datasets.ordinary import TEXT_BYTES, parse_json
from datasets.remote import renames
from trainables.recipe import digest

STAGE = re.compile(r"[0-9a-f]{32}")
CHECKPOINT = re.compile(r"(kept|rolling)-(\d{8,})\.ckpt")
EVALUATION = re.compile(r"eval-(\d{8,})-([^.]+)\.json")
DESCRIPTION = "stage.json"

MAGIC = b"titrate-checkpoint-2\n"  # then what torch.save writes, then the SHA-256 of that
DIGEST_BYTES = 32
_CHUNK_BYTES = 4 << 20


class StoreError(OSError):
    """The store cannot be read or written; one line that names the path and what to do."""


class StoreContentError(StoreError):
    """What the store holds is wrong, and will not be right by itself."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one checkpoint on one set.

    train_loss  the checkpoint's running average of the training loss
    time_ms     when it was first made, in milliseconds since 1970: logging it twice is then one record
    """

    metrics: dict[str, float]
    train_loss: float
    time_ms: int


class Objects:
    """The objects under one root, which `fs.FileSystem.from_uri` read from a URI or an absolute path."""

    def __init__(self, uri: str) -> None:
        self.filesystem, root = fs.FileSystem.from_uri(uri)
        self.root = root.rstrip("/")
        self._renames = renames(self.filesystem)

    def read(self, path: str) -> bytes | None:
        """An object's bytes; None where there is none (or no longer: others remove what they replaced)."""
        try:
            with self.filesystem.open_input_stream(path) as stream:
                raw: bytes = stream.read() if CHECKPOINT.fullmatch(path.rpartition("/")[2]) else stream.read(TEXT_BYTES)
                return raw
        except FileNotFoundError:
            return None

    def write(self, path: str, content: Callable[[Any], object]) -> None:
        """Writes an object, whole or not at all. `content` is given the stream; StoreError where it cannot be."""
        target = f"{path}.{uuid.uuid4().hex}.tmp" if self._renames else path
        try:
            self.filesystem.create_dir(os.path.dirname(path), recursive=True)
            with self.filesystem.open_output_stream(target) as stream:
                content(stream)
            if self._renames:
                self.filesystem.move(target, path)
        except BaseException as error:  # also an interrupt leaves nothing half-written
            if self._renames:
                self.delete(target)
            if not isinstance(error, OSError):
                raise
            why = str(error).splitlines()[0]
            raise StoreError(
                f"the store must be writable, but {path} failed: {why}; free space or set `store:` elsewhere"
            ) from error

    def write_json(self, path: str, value: Any, *, indent: int | None = None) -> None:
        text = json.dumps(value, indent=indent)
        self.write(path, lambda stream: stream.write(text.encode()))

    def delete(self, path: str) -> bool:
        """Removes an object; False where there was none."""
        if self.filesystem.get_file_info(path).type == fs.FileType.NotFound:
            return False
        try:
            self.filesystem.delete_file(path)
        except FileNotFoundError:
            return False  # another process was first
        return True

    def set_aside(self, path: str) -> None:
        """Renames a damaged object, so that it counts as absent and can still be looked at."""
        try:
            self.filesystem.move(path, f"{path}.damaged")
        except FileNotFoundError:
            return  # another process was first

    def intact(self, path: str) -> bool:
        """Whether an object passes its checksum, read piece by piece.

        A stage's description is what its key digests. Objects of other names have none, and pass. FileNotFoundError
        where there is no such object.
        """
        folder, _, name = path.rpartition("/")
        with self.filesystem.open_input_stream(path) as stream:
            if CHECKPOINT.fullmatch(name):
                return _passes(stream)
            if EVALUATION.fullmatch(name):
                return parse_evaluation(stream.read(TEXT_BYTES)) is not None
            if name == DESCRIPTION:
                try:
                    return folder.endswith(digest(parse_json(stream.read(TEXT_BYTES)))[:32])
                except ValueError:
                    return False
        return True


def checkpoint_body(raw: bytes) -> memoryview | None:
    """What torch.save wrote of a checkpoint; None where its checksum differs."""
    body = memoryview(raw)[len(MAGIC) : -DIGEST_BYTES]
    whole = raw.startswith(MAGIC) and raw[-DIGEST_BYTES:] == hashlib.sha256(body).digest()
    return body if whole else None


def _passes(stream: Any) -> bool:
    """`checkpoint_body` of a stream, without the whole of it in memory."""
    if stream.read(len(MAGIC)) != MAGIC:
        return False
    sha, tail = hashlib.sha256(), b""
    while chunk := stream.read(_CHUNK_BYTES):
        tail += chunk
        sha.update(tail[:-DIGEST_BYTES])
        tail = tail[-DIGEST_BYTES:]
    return tail == sha.digest()


class HashingFile(io.RawIOBase):
    """A file that hashes what is written through it: a checkpoint is never in memory as a whole."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None
        self.digest = hashlib.sha256()  # processors have instructions for it: twice as fast as blake2b

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        # torch.save says something of its own after an error in the middle: this one waits until it is done.
        if self.error is None:
            self.digest.update(data)
            try:
                self._stream.write(data)
            except OSError as error:
                self.error = error
        return len(data)


def parse_evaluation(raw: bytes) -> Evaluation | None:
    """The evaluation that an object holds; None where it is not what was written."""
    try:
        found = parse_json(raw)
        if found["checksum"] == checksum(found["evaluation"]):
            return Evaluation(**found["evaluation"])
    except (ValueError, TypeError, KeyError):
        pass  # not the JSON that was written: damaged like one whose checksum differs
    return None


def checksum(evaluation: dict[str, Any]) -> str:
    """32 hex digits. JSON keeps the order of names and every bit of a float, so what was read digests as it did."""
    return hashlib.blake2b(json.dumps(evaluation).encode(), digest_size=16).hexdigest()
