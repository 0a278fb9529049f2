"""A model folder: one trained model as it was evaluated, in files that need neither its search nor its store.

    model.json   what the weights are of, what goes in, and what they were measured to be worth (`ModelFile`)
    weights.pt   the state_dict, a plain dictionary of tensors: `torch.load(..., weights_only=True)` reads it

`python -m search export` writes one; trainables/predict.py reads it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from datasets.ordinary import read_text
from datasets.settings import explain, line
from datasets.torch_file import load_torch
from trainables.adaptation import adapt
from trainables.methods import Adain, NetworkMethod
from trainables.specs import TaskSpec
from trainables.task import build_task

FILE, WEIGHTS = "model.json", "weights.pt"


class ModelInput(BaseModel):
    """What the network is given: square RGB pictures of `resolution` pixels, as (value / `scale` - mean) / std.

    crop  how the pictures that it was trained on were framed (`datasets pack --crop`), where their packs say so
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resolution: int
    scale: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: str | None = None


class ModelFile(BaseModel):
    """model.json.

    adaptation  of the network's normalisations, and the options of `adain`
    precision   of the evaluation: "fp32", "bf16", or "auto", bf16 on GPUs
    sha256      of weights.pt
    metric      the objective that chose it, and `metrics`, the finite ones: "val/miou", "test/NAME/miou"
    trained     where the weights come from, for people: search, recipe, seed, stage, step, packs
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    task: TaskSpec
    adaptation: NetworkMethod
    adain: Adain | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    input: ModelInput
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    metric: str
    metrics: dict[str, float]
    trained: dict[str, Any] = Field(default_factory=dict)


def input_of(spec: TaskSpec, crop: str | None) -> ModelInput:
    """What a task's network is given."""
    if spec.kind == "segmentation":
        from trainables.segmentation.task import MEAN, STD

        return ModelInput(resolution=spec.resolution, mean=MEAN, std=STD, crop=crop)
    return ModelInput(resolution=spec.resolution, crop=crop)


def save(folder: Path, model: nn.Module, file: ModelFile) -> ModelFile:
    """Writes weights.pt and model.json into a folder, and returns the latter with the former's checksum."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    torch.save(state, folder / WEIGHTS)
    file = file.model_copy(update={"sha256": _sha256(folder / WEIGHTS)})
    text = json.dumps(file.model_dump(mode="json"), indent=1, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
    return file


def load(place: str | Path, device: torch.device) -> tuple[ModelFile, nn.Module]:
    """The model of a folder (or of its model.json), in evaluation mode on a device.

    Raises ValueError, one line that names the file, where one is missing, damaged, or of something else.
    """
    path = Path(place)
    path = path / FILE if path.is_dir() else path
    if path.name != FILE or not path.is_file():
        raise ValueError(f"{place}: must be a folder that `python -m search export` wrote, or its {FILE}")
    try:
        file = ModelFile.model_validate_json(read_text(path))
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error, ModelFile)}; export the model again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: must be text, but: {error}; export the model again") from None
    weights = path.with_name(WEIGHTS)
    if not weights.is_file():
        raise ValueError(f"{weights}: the file is missing; keep it beside {FILE}")
    if _sha256(weights) != file.sha256:
        raise ValueError(f"{weights}: damaged, its checksum is not the one in {FILE}; export the model again")
    model = build_task(file.task).build_model()
    adapt(model, file.adaptation, file.adain)
    try:
        model.load_state_dict(load_torch(weights, str(weights)))
    except (RuntimeError, TypeError, AttributeError) as error:  # other names or shapes, or no dictionary of tensors
        why = line(" ".join(str(error).split()), 200)
        raise ValueError(f"{weights}: must hold the weights of the task in {FILE}, but: {why}") from None
    return file, model.to(device).eval()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
