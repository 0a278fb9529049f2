"""The store: checkpoints addressed by (stage key, step), and the evaluations made of them, on any pyarrow filesystem.

To train a stage to step n, ask for its latest checkpoint at or before n and go on from there: this is resume, rungs,
sharing and free repeats at once. An object is whole or not there: it is written under a temporary name and renamed
where the filesystem can rename, it carries a checksum, and one that fails it is set aside and counts as absent.

    ROOT/DIVISION/STAGE KEY/kept-00000500.ckpt      forks, rungs and finals
                           /rolling-00000731.ckpt   the newest of a live stage; the one before is removed
                           /eval-00000500-EVALUATION KEY.json
"""

import hashlib
import io
import json
import logging
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import IO, Any, cast

import torch
from pyarrow import fs

from datasets.remote import renames

log = logging.getLogger(__name__)

_MAGIC = b"titrate-checkpoint-2\n"  # then what torch.save writes, then the SHA-256 of that
_DIGEST_BYTES = 32
_CHECKPOINT = re.compile(r"(kept|rolling)-(\d{8,})\.ckpt")


class StoreError(OSError):
    """The store cannot be read or written; one line that names the path and what to do."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one checkpoint on one set.

    train_loss  the checkpoint's running average of the training loss
    time_ms     when it was first made, in milliseconds since 1970: logging it twice is then one record
    """

    metrics: dict[str, float]
    train_loss: float
    time_ms: int


class Store:
    """One division of a store: all checkpoints whose numbers are comparable bit for bit.

    uri       "/path", "s3://bucket/prefix", "gs://..." or anything else that pyarrow.fs.FileSystem.from_uri reads
    division  the numerics digest of the processes that use it (trainables/numerics.py), and "/alone-RECIPE" behind it
              for runs that share nothing
    """

    def __init__(self, uri: str, division: str) -> None:
        self.filesystem, root = fs.FileSystem.from_uri(uri)
        self.root = f"{root.rstrip('/')}/{division}"
        self._renames = renames(self.filesystem)

    def steps(self, stage: str) -> dict[int, str]:
        """The steps of a stage that have a checkpoint, with the path of each; a kept one goes before a rolling one."""
        checkpoints = sorted(self._checkpoints(stage), reverse=True)  # "rolling" before "kept", which overwrites it
        return {step: f"{self.root}/{stage}/{name}" for _, step, name in checkpoints}

    def latest(self, stage: str, at_most: int) -> int | None:
        """The largest step of a stage at or before `at_most` that has a checkpoint."""
        return max((step for step in self.steps(stage) if step <= at_most), default=None)

    def load(self, stage: str, step: int) -> dict[str, Any] | None:
        """The state saved at (stage, step), its tensors on the CPU; None where there is none or a damaged one."""
        path = self.steps(stage).get(step)
        if path is None:
            return None
        try:
            with self.filesystem.open_input_stream(path) as stream:
                raw = stream.read()
        except FileNotFoundError:  # replaced by a newer rolling checkpoint since it was listed
            return None
        body = memoryview(raw)[len(_MAGIC) : -_DIGEST_BYTES]
        if not raw.startswith(_MAGIC) or raw[-_DIGEST_BYTES:] != hashlib.sha256(body).digest():
            log.warning(
                "checkpoint %s is damaged (its checksum differs): set aside, training goes back to an older one", path
            )
            self._set_aside(path)
            return None
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)

    def save(self, stage: str, step: int, state: dict[str, Any], *, keep: bool) -> None:
        """Writes a checkpoint, whole or not at all, and removes the stage's rolling ones up to `step`.

        One with `keep` stays; one without is rolling itself, until a later one replaces it.
        """
        kind = "kept" if keep else "rolling"
        path = f"{self.root}/{stage}/{kind}-{step:08d}.ckpt"
        self._write(path, partial(_serialise, state))
        for older_kind, older_step, name in self._checkpoints(stage):
            older = f"{self.root}/{stage}/{name}"
            if older_kind == "rolling" and older_step <= step and older != path:
                self._delete(older)

    def kept(self, stage: str, step: int) -> bool:
        """Whether (stage, step) has a checkpoint that stays."""
        return f"kept-{step:08d}.ckpt" in self._names(stage)

    def evaluation(self, stage: str, step: int, key: str) -> Evaluation | None:
        """The evaluation of a checkpoint under an evaluation key; None where there is none or a damaged one."""
        path = self._evaluation_path(stage, step, key)
        try:
            with self.filesystem.open_input_stream(path) as stream:
                raw = stream.read()
        except FileNotFoundError:
            return None
        try:
            found = json.loads(raw)
            if found["checksum"] == _checksum(found["evaluation"]):
                return Evaluation(**found["evaluation"])
        except (ValueError, TypeError, KeyError):
            pass  # not the JSON that was written: damaged like one whose checksum differs
        log.warning("evaluation %s is damaged (its checksum differs): set aside, and made again", path)
        self._set_aside(path)
        return None

    def save_evaluation(self, stage: str, step: int, key: str, evaluation: Evaluation) -> None:
        """Writes an evaluation, whole or not at all. NaN and infinite metrics come back as they are."""
        value = asdict(evaluation)
        text = json.dumps({"evaluation": value, "checksum": _checksum(value)})
        self._write(self._evaluation_path(stage, step, key), lambda stream: stream.write(text.encode()))

    def describe(self, stage: str, canonical: dict[str, Any]) -> None:
        """Leaves what a stage is beside its checkpoints, for people and for `analysis` (written once)."""
        if "stage.json" not in self._names(stage):
            text = json.dumps(canonical, indent=1)
            self._write(f"{self.root}/{stage}/stage.json", lambda stream: stream.write(text.encode()))

    def _evaluation_path(self, stage: str, step: int, key: str) -> str:
        return f"{self.root}/{stage}/eval-{step:08d}-{key}.json"

    def _checkpoints(self, stage: str) -> list[tuple[str, int, str]]:
        """(kind, step, name) of a stage's checkpoints; not of what is being written or was set aside."""
        matches = [_CHECKPOINT.fullmatch(name) for name in self._names(stage)]
        return [(match[1], int(match[2]), match[0]) for match in matches if match]

    def _names(self, stage: str) -> list[str]:
        selector = fs.FileSelector(f"{self.root}/{stage}", allow_not_found=True)
        return [info.base_name for info in self.filesystem.get_file_info(selector) if info.type == fs.FileType.File]

    def _write(self, path: str, content: Callable[[Any], object]) -> None:
        target = f"{path}.{uuid.uuid4().hex}.tmp" if self._renames else path
        try:
            self.filesystem.create_dir(os.path.dirname(path), recursive=True)
            with self.filesystem.open_output_stream(target) as stream:
                content(stream)
            if self._renames:
                self.filesystem.move(target, path)
        except BaseException as error:  # also an interrupt leaves nothing half-written
            if self._renames:
                self._delete(target)
            if not isinstance(error, OSError):
                raise
            reason = str(error).splitlines()[0]
            raise StoreError(
                f"the store must be writable, but {path} failed: {reason}; free space or set `store:` elsewhere"
            ) from error

    def _delete(self, path: str) -> None:
        if self.filesystem.get_file_info(path).type == fs.FileType.NotFound:
            return
        try:
            self.filesystem.delete_file(path)
        except FileNotFoundError:
            return  # another slot was first

    def _set_aside(self, path: str) -> None:
        try:
            self.filesystem.move(path, f"{path}.damaged")
        except FileNotFoundError:
            return  # another slot was first


class _Hashing(io.RawIOBase):
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


def _serialise(state: dict[str, Any], stream: Any) -> None:
    stream.write(_MAGIC)
    body = _Hashing(stream)
    torch.save(state, cast("IO[bytes]", body))
    if body.error is not None:
        raise body.error
    stream.write(body.digest.digest())


def _checksum(evaluation: dict[str, Any]) -> str:
    """32 hex digits. JSON keeps the order of names and every bit of a float, so what was read digests as it did."""
    return hashlib.blake2b(json.dumps(evaluation).encode(), digest_size=16).hexdigest()
