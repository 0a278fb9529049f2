"""Weights to start from: a local checkpoint, named in a task's spec, known by its content, checked before training.

`pretrained: path` in a search file. The search puts the file's digest beside the path, so that stages that began from
another content have another key, and a file that was replaced is refused.
"""

import hashlib
import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:  # a search file is checked without torch
    from torch import Tensor, nn

PREFIXES = ("model.", "module.")  # what wrappers put before every key, in any order
COUNTER = "num_batches_tracked"  # absent from files of old versions of torch, and without effect on any output


class Pretrained(BaseModel):
    """A checkpoint file and the SHA-256 of its content; written as its path alone, the digest is not known (yet)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")

    @model_validator(mode="before")
    @classmethod
    def _a_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    def pinned(self, absolute: Callable[[str], str]) -> "Pretrained":
        """This file with its absolute path and its digest. Raises ValueError, one line, where it cannot be read."""
        path = absolute(self.path)
        return Pretrained(path=path, sha256=hashlib.sha256(_content(path)).hexdigest())

    def read(self) -> dict[str, "Tensor"]:
        """The tensors of the checkpoint by name: a state_dict, or one under "state_dict", without wrappers' prefixes.

        Nothing but tensors and plain containers is unpickled. Raises ValueError, one line, where the file cannot be
        read, has another digest than this one's, or holds no tensors.
        """
        import torch

        content = _content(self.path)
        found = hashlib.sha256(content).hexdigest()
        if self.sha256 not in (None, found):
            raise ValueError(
                f"{self.path}: sha256 must be {str(self.sha256)[:12]}, but is {found[:12]}; the file was replaced"
            )
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, AttributeError) as error:
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise ValueError(f"{self.path}: must be a checkpoint that torch.save wrote, but: {reason}") from None
        state = state.get("state_dict", state) if isinstance(state, dict) else state
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError(f"{self.path}: must hold tensors by name, itself or under 'state_dict', but does not")
        return {_bare(name): value for name, value in state.items()}


def load(model: "nn.Module", source: Pretrained, heads: tuple[str, ...] = ()) -> None:
    """Copies a checkpoint into a model.

    heads  prefixes of the layers that depend on the number of outputs: where the file has another number, they keep
           their values, and a warning, one line, says so

    Raises ValueError, one line, unless all other keys and shapes are the model's; what the model then holds is part of
    both. Counters of batches may be absent, and what the model's own hooks take out of a file may be in it.
    """
    state = source.read()
    own = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    other = [name for name in own if name in state and list(state[name].shape) != own[name]]
    kept = [name for name in other if name.startswith(heads)] if heads else []
    wrong = [f"{name} is {list(state[name].shape)} for {own[name]}" for name in other if name not in kept]
    fitting = {name: tensor for name, tensor in state.items() if name not in other}
    result = model.load_state_dict(fitting, strict=False)
    missing = [name for name in result.missing_keys if not name.endswith(COUNTER) and name not in other]
    problems = {"other shapes": wrong, "missing keys": missing, "unexpected keys": result.unexpected_keys}
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names)
        raise ValueError(f"{source.path}: must fit this {type(model).__name__}, but has {told}")
    if kept:
        warnings.warn(
            f"{source.path}: has another number of outputs; {_some(kept)} keep their initial values", stacklevel=2
        )


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: must be a readable file, but: {error.strerror}") from None


def _bare(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
