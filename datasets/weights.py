"""Weights: a local file of published parameters, and how they get into a model.

A path says nothing of what is in it, and the keys of stages hold no path: what counts is the file's digest.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from datasets.ordinary import ordinary
from datasets.settings import line
from datasets.torch_file import load_torch

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

WRAPPERS = re.compile(r"^(module\.|model\.)+")  # of DataParallel and of training scripts
HOLDERS = ("state_dict", "model_state", "model")  # where published checkpoints keep the parameters


class Weights(BaseModel):
    """A file, given as its path; `identified` adds the digest that stands for it in keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="before")
    @classmethod
    def _a_path(cls, given: Any) -> Any:
        return {"path": given} if isinstance(given, str) else given

    @model_serializer
    def _without_the_path(self) -> str:
        """In keys and records: the digest. Raises ValueError before the file was identified."""
        if self.digest is None:
            raise ValueError(f"{self.path}: the file must be identified before it is written down")
        return self.digest

    def identified(self, folder: Path) -> "Weights":
        """These weights with an absolute path, relative ones being meant from `folder`, and their digest.

        Raises ValueError, one line, when the file cannot be read.
        """
        path = (folder / Path(self.path).expanduser()).resolve()
        return Weights(path=str(path), digest=_digest(path))


def load_weights(
    model: "nn.Module",
    weights: Weights,
    *,
    prefixes: Iterable[str] = ("",),
    rename: Mapping[str, str] = MappingProxyType({}),
    drop: Iterable[str] = (),
    fresh: Iterable[str] = (),
    lacks: Iterable[str] = (),
) -> list[str]:
    """Copies a file's tensors into a model and returns the names of the model's that keep their values, sorted.

    prefixes  a file of a part of the model (a backbone) is recognised by one of them ("" is the whole model): the first
              with which a tensor of the file is one of the model's
    rename    beginnings of names in the file, without wrappers ("module."), and what stands for them in the model
    drop      patterns of names in the file, without wrappers and renamed, that are left out
    fresh     patterns of names in the model that keep their values where the shapes differ (another number of classes)
    lacks     patterns of names in the model, below the prefix, that the file need not have

    Raises ValueError, one line that names the file, when it is not the one that was identified or holds no parameters,
    has a name that the model has not, lacks one that it has, or has another shape. What a load hook of the model's own
    takes out may be there. What keeps its values is told once a process.
    """
    given = {_renamed(name, rename): tensor for name, tensor in _read(weights).items()}
    names = {name: tensor for name, tensor in given.items() if not any(re.search(p, name) for p in drop)}
    state = model.state_dict()
    prefix = next((p for p in prefixes if any(p + name in state for name in names)), None)
    if prefix is None:
        raise ValueError(
            f"{weights.path}: must hold weights of {type(model).__name__}, but has {_some(given)}; give the file of"
            " this architecture"
        )
    fitting: dict[str, Any] = {}
    for name, tensor in names.items():
        mine = state.get(prefix + name)
        if mine is None or mine.shape == tensor.shape:
            fitting[prefix + name] = tensor
        elif not any(re.search(p, prefix + name) for p in fresh):
            raise ValueError(
                f"{weights.path}: {name} must have shape {list(mine.shape)}, but has {list(tensor.shape)}; give the"
                " file of this architecture, width and number of classes or points"
            )
    try:
        loaded = model.load_state_dict(fitting, strict=False)
    except RuntimeError as error:  # sparse ones
        reason = line(" ".join(str(error).split()), 300)
        raise ValueError(f"{weights.path}: must hold plain tensors, but: {reason}") from None
    unknown = [name.removeprefix(prefix) for name in loaded.unexpected_keys]
    if unknown:
        raise ValueError(
            f"{weights.path}: must hold names of {type(model).__name__} only, but also has {_some(unknown)}; give the"
            " file of this architecture"
        )
    kept = sorted(
        name
        for name in state
        if name.startswith(prefix) and name not in fitting and not name.endswith("num_batches_tracked")
    )  # old files lack these counters
    if missing := [name for name in kept if not any(re.search(p, name) for p in (*fresh, *lacks))]:
        raise ValueError(
            f"{weights.path}: must hold all weights of this part of {type(model).__name__}, but lacks {_some(missing)};"
            " give the file of this architecture"
        )
    if kept:
        _tell(f"{weights.path}: initial values stay in {', '.join(kept)}")
    return kept


def take_weights(model: "nn.Module", weights: Mapping[str, "Tensor"]) -> None:
    """Copies the weights of a model of the same architecture.

    Raises ValueError, one line that names the first that does not fit, for those of another.
    """
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    given = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := [name for name in {**wanted, **given} if wanted.get(name) != given.get(name)]:
        raise ValueError(
            f"weights must be of this {type(model).__name__}, but {_some(wrong)} differ; start from a stage of the same"
            " architecture"
        )
    model.load_state_dict(dict(weights))


def _read(weights: Weights) -> Mapping[str, Any]:
    import torch

    if weights.digest is not None and _digest(Path(weights.path)) != weights.digest:
        raise ValueError(
            f"{weights.path}: the file must stay as it was (digest {weights.digest[:12]}) while a search runs, but was"
            " replaced"
        )
    held = load_torch(Path(weights.path), weights.path)
    for name in HOLDERS:
        if isinstance(held, dict) and isinstance(held.get(name), dict):
            held = held[name]
    tensors = (
        {WRAPPERS.sub("", str(name)): value for name, value in held.items() if isinstance(value, torch.Tensor)}
        if isinstance(held, dict)
        else {}
    )
    if not tensors:
        raise ValueError(f"{weights.path}: must hold a dictionary of parameters, but holds {type(held).__name__}")
    return tensors


@lru_cache
def _tell(text: str) -> None:
    """Once a process."""
    log.warning(text)


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    theirs = next((beginning for beginning in rename if name.startswith(beginning)), "")
    return rename.get(theirs, "") + name.removeprefix(theirs)


@lru_cache(maxsize=8)
def _digest_of(path: str, size: int, mtime_ns: int) -> str:
    hasher = hashlib.blake2b(digest_size=32)
    with open(ordinary(Path(path)), "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def _digest(path: Path) -> str:
    try:
        stat = path.stat()
        return _digest_of(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ValueError(f"{path}: must be a file of published weights, but: {error.strerror or error}") from None


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(line(name, 60) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
