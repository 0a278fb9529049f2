"""What the tests of networks and metrics share: what was recorded of the public reference implementations.

`../shared/reference` beside the repository has their state_dict keys and shapes (`keys/`), their outputs for weights
and inputs that rules fill (`parity/`), and these rules (`parity/fill.py`). A test without it is skipped, visibly.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from torch import nn

SHARED = Path(__file__).parents[3] / "shared"


def reference(path: str) -> Path:
    """A file of the references, or a visible skip."""
    if not (SHARED / "reference" / path).exists():
        pytest.skip(f"no reference file {path} beside the repository")
    return SHARED / "reference" / path


def fill() -> Any:
    """The references' rules for weights, inputs and comparisons."""
    spec = importlib.util.spec_from_file_location("fill", reference("parity/fill.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shapes(model: nn.Module) -> dict[str, list[int]]:
    """The keys of a model's state_dict, and the shapes of its tensors."""
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
