"""The store: checkpoints addressed by (stage key, step), and the evaluations made of them, on any pyarrow filesystem.

To train a stage to step n, ask for its latest checkpoint at or before n and go on from there: this is resume, rungs,
sharing and free repeats at once. How an object is written and checked is in trainables/objects.py; what is the least
used, and goes first, is known by the times of a stage's objects (trainables/census.py, eviction.py).

    ROOT/DIVISION/STAGE KEY/kept-00000500.ckpt      forks, rungs and finals
                           /rolling-00000731.ckpt   the newest of a live stage; the one before is removed
                           /eval-00000500-EVALUATION KEY.json
                           /stage.json              what the stage is: the fields that its key digests
                           /lease.json              who trains it now (trainables/lease.py)
                           /used                    empty: its time is when a checkpoint was last loaded
    ROOT/claims/SEARCH.json                         what a running search needs (trainables/claims.py)
"""

import io
import logging
import time
from dataclasses import asdict
from functools import partial
from typing import IO, Any, cast

import torch
from pyarrow import fs

from datasets.remote import listing
from datasets.torch_file import load_torch
from trainables.objects import (
    CHECKPOINT,
    DESCRIPTION,
    MAGIC,
    Evaluation,
    HashingFile,
    Objects,
    StoreContentError,
    StoreError,
    checkpoint_body,
    checksum,
    parse_evaluation,
)

__all__ = ["Evaluation", "Store", "StoreError"]

log = logging.getLogger(__name__)

USED_EVERY_S = 60.0  # how exact the time of the last use is


class Store:
    """One division of a store: all checkpoints whose numbers are comparable bit for bit.

    uri       "/path", "s3://bucket/prefix", "gs://..." or anything else that pyarrow.fs.FileSystem.from_uri reads
    division  the numerics digest of the processes that use it (trainables/numerics.py), and "/alone-RECIPE" behind it
              for runs that share nothing
    """

    def __init__(self, uri: str, division: str) -> None:
        self.objects = Objects(uri)
        self.root = f"{self.objects.root}/{division}"

    def stages(self) -> set[str]:
        """The keys of the stages that have something stored."""
        found = listing(self.objects.filesystem, self.root)
        return {info.base_name for info in found if info.type == fs.FileType.Directory}

    def steps(self, stage: str) -> dict[int, str]:
        """The steps of a stage that have a checkpoint, with the path of each; a kept one goes before a rolling one."""
        checkpoints = sorted(self._checkpoints(stage), reverse=True)  # "rolling" before "kept", which overwrites it
        return {step: self.path(stage, name) for _, step, name in checkpoints}

    def latest(self, stage: str, at_most: int) -> int | None:
        """The largest step of a stage at or before `at_most` that has a checkpoint."""
        return max((step for step in self.steps(stage) if step <= at_most), default=None)

    def load(self, stage: str, step: int) -> dict[str, Any] | None:
        """The state saved at (stage, step), its tensors on the CPU; None where there is none or a damaged one."""
        path = self.steps(stage).get(step)
        raw = self.objects.read(path) if path is not None else None  # it may have been replaced since it was listed
        if path is None or raw is None:
            return None
        body = checkpoint_body(raw)
        if body is None:
            log.warning(
                "checkpoint %s is damaged (its checksum differs): set aside, training goes back to an older one", path
            )
            self.objects.set_aside(path)
            return None
        try:
            state: dict[str, Any] = load_torch(io.BytesIO(body), path)
        except ValueError as error:
            raise StoreContentError(f"{error}; its checksum is right, so this is no damage: remove it") from None
        return state

    def save(self, stage: str, step: int, state: dict[str, Any], *, keep: bool) -> None:
        """Writes a checkpoint, whole or not at all, and removes the stage's rolling ones up to `step`.

        One with `keep` stays; one without is rolling itself, until a later one replaces it.
        """
        kind = "kept" if keep else "rolling"
        path = self.path(stage, f"{kind}-{step:08d}.ckpt")
        self.objects.write(path, partial(_serialise, state))
        for older_kind, older_step, name in self._checkpoints(stage):
            older = self.path(stage, name)
            if older_kind == "rolling" and older_step <= step and older != path:
                self.objects.delete(older)

    def kept(self, stage: str, step: int) -> bool:
        """Whether (stage, step) has a checkpoint that stays."""
        return f"kept-{step:08d}.ckpt" in self._names(stage)

    def touch(self, stage: str) -> None:
        """Records that a checkpoint of a stage was used, unless something in its folder is as new as that.

        What is saved says so by itself: the times that a filesystem gives are all of one clock, whoever writes.
        """
        newest = max((info.mtime_ns or 0 for info in self._infos(stage)), default=0)
        if time.time() - newest / 1e9 > USED_EVERY_S:
            try:
                self.objects.write(self.path(stage, "used"), lambda stream: None)
            except StoreError as error:  # a full disk still trains from what it has
                log.warning("the use of stage %s is not recorded, so that it may be evicted early: %s", stage, error)

    def evaluation(self, stage: str, step: int, key: str) -> Evaluation | None:
        """The evaluation of a checkpoint under an evaluation key; None where there is none or a damaged one."""
        path = self._evaluation_path(stage, step, key)
        raw = self.objects.read(path)
        if raw is None:
            return None
        found = parse_evaluation(raw)
        if found is None:
            log.warning("evaluation %s is damaged (its checksum differs): set aside, and made again", path)
            self.objects.set_aside(path)
        return found

    def save_evaluation(self, stage: str, step: int, key: str, evaluation: Evaluation) -> None:
        """Writes an evaluation, whole or not at all. NaN and infinite metrics come back as they are."""
        value = asdict(evaluation)
        path = self._evaluation_path(stage, step, key)
        self.objects.write_json(path, {"evaluation": value, "checksum": checksum(value)})

    def describe(self, stage: str, canonical: dict[str, Any]) -> None:
        """Leaves what a stage is beside its checkpoints, for people and for `analysis` (written once)."""
        if DESCRIPTION not in self._names(stage):
            self.objects.write_json(self.path(stage, DESCRIPTION), canonical, indent=1)

    def path(self, stage: str, name: str) -> str:
        """Where an object of a stage is."""
        return f"{self.root}/{stage}/{name}"

    def _evaluation_path(self, stage: str, step: int, key: str) -> str:
        return self.path(stage, f"eval-{step:08d}-{key}.json")

    def _checkpoints(self, stage: str) -> list[tuple[str, int, str]]:
        """(kind, step, name) of a stage's checkpoints; not of what is being written or was set aside."""
        matches = [CHECKPOINT.fullmatch(name) for name in self._names(stage)]
        return [(match[1], int(match[2]), match[0]) for match in matches if match]

    def _names(self, stage: str) -> list[str]:
        return [info.base_name for info in self._infos(stage)]

    def _infos(self, stage: str) -> list[Any]:
        found = listing(self.objects.filesystem, f"{self.root}/{stage}")
        return [info for info in found if info.type == fs.FileType.File]


def _serialise(state: dict[str, Any], stream: Any) -> None:
    stream.write(MAGIC)
    body = HashingFile(stream)
    torch.save(state, cast("IO[bytes]", body))
    if body.error is not None:
        raise body.error
    stream.write(body.digest.digest())
