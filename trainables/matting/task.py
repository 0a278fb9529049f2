"""Background matting as a Task: a person's alpha and colours before a known background, scored along the boundary."""

import logging
from collections.abc import Mapping, Sequence
from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from datasets import Pack
from datasets.compositing import COLUMNS, Scenes
from datasets.weights import load_weights, take_weights
from trainables.initialisation import fan_out, initialise
from trainables.matting.augment import training_sample
from trainables.matting.losses import base_loss, refine_loss
from trainables.matting.metrics import MattingEvaluator
from trainables.matting.model import Matte, MattingBase, MattingRefine, RefinedMatte
from trainables.matting.spec import MattingSpec
from trainables.task import Batch, Sample

log = logging.getLogger(__name__)

CAPTURED = ("image", "background")  # of packs that hold a picture and its background, beside COLUMNS
FIXED_SEED = 0  # of the composites that models are tested on
# Published files: parts of DeepLabv3 under other names, its MobileNetV2 cut in two; what is not used here; and the
# first convolution, which sees one image there.
RENAMED = {
    "classifier.classifier.0.": "aspp.",
    "backbone.low_level_features.": "backbone.features.",
    "backbone.high_level_features.": "backbone.features.",
}
DROPPED = (r"^classifier\.", r"^fc\.", r"^features\.18\.")
FIRST = (r"^backbone\.features\.0\.0\.weight$", r"^backbone\.conv1\.weight$")


def default(shape: torch.Size) -> float:
    """sqrt(1 / (3 in k k)) of a weight [out, in, ...]: the deviation of torch's own uniform draws."""
    return sqrt(1 / (3 * prod(shape[1:])))


RULES = {"backbone.": fan_out, "aspp.": default, "decoder.": default, "refiner.": default}

# The reference's learning rates over the largest of them: 5e-4 in phase base, 3e-4 in phase refine.
LR_FACTORS = {
    "base": {"backbone.": 1 / 5, "aspp.": 1.0, "decoder.": 1.0},
    "refine": {"backbone.": 1 / 6, "aspp.": 1 / 6, "decoder.": 1 / 3, "refiner.": 1.0},
}


class Matting:
    """The background-matting task of a spec. Without scenes it cannot train, only be evaluated on captured backgrounds.

    Samples and batches, uint8: "src", the picture, and "bgr", the background without the person, [(B,) R, R, 3] RGB;
    "alpha" [(B,) R, R]; "foreground" [(B,) R, R, 3], not premultiplied.
    """

    columns: tuple[str, ...] = COLUMNS
    unlabelled_columns: tuple[str, ...] = COLUMNS  # a person without a matte cannot be put before a background
    metric_version = 1

    def __init__(self, spec: MattingSpec, scenes: Scenes | None = None) -> None:
        self.spec = spec
        self._scenes = scenes
        self.lr_factors: Mapping[str, float] = LR_FACTORS[spec.phase]

    def evaluation_columns(self, packs: Sequence[Pack]) -> tuple[str, ...]:
        """Where every pack has CAPTURED too, the real picture and background are evaluated, else fixed composites."""
        return COLUMNS if self.composes(packs) else COLUMNS + CAPTURED

    def composes(self, packs: Sequence[Pack]) -> bool:
        return not all(set(CAPTURED) <= set(pack.columns) for pack in packs)

    def check_pack(self, pack: Pack) -> None:
        """Raises ValueError unless foreground and alpha are there, and they and a captured pair uint8 of this size."""
        side = self.spec.resolution
        columns = {column.name: column for column in pack.manifest.columns}
        for name in self.evaluation_columns([pack]):
            if name not in columns:
                raise ValueError(f"{pack.path}: matting needs column {name!r}, but the pack has {list(columns)}")
            shape = (side, side) if name == "alpha" else (side, side, 3)
            if (columns[name].dtype, columns[name].shape) != ("uint8", shape):
                raise ValueError(
                    f"{pack.path}: column {name!r} must be uint8{list(shape)}, but is {columns[name]}; "
                    f"write the pack at resolution {side} or set task.resolution to the pack's"
                )

    def build_model(self) -> nn.Module:
        return MattingRefine(self.spec) if self.spec.phase == "refine" else MattingBase(self.spec)

    def initialise(self, model: nn.Module, seed: int) -> None:
        """`fresh`, and then the published weights, if any; what they lack stays.

        Raises ValueError, one line, for weights that are not this architecture's.
        """
        fresh(model, seed)
        if self.spec.pretrained is not None:
            unused = (r"^refiner\.",) if self.spec.phase == "base" else ()
            load_weights(
                model,
                self.spec.pretrained,
                prefixes=("", "backbone."),
                rename=RENAMED,
                drop=(*DROPPED, *unused),
                fresh=FIRST,
                lacks=(r"^decoder\.", r"^refiner\."),  # DeepLabv3 has neither, a base network no refiner
            )

    @torch.no_grad()
    def initialise_from(self, model: nn.Module, weights: Mapping[str, Tensor], seed: int) -> None:
        """From weights of phase base a model of phase refine takes all but its refiner, which is the seed's."""
        fresh(model, seed)
        refiner = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("refiner.")}
        take_weights(model, {**refiner, **weights} if not any(map(refiner.__contains__, weights)) else weights)

    def augment(self, sample: Sample, seed: int) -> dict[str, np.ndarray]:
        """Raises ValueError without scenes, and for a sample that does not have the columns."""
        return training_sample(sample, seed, self.spec.phase, self.scenes.training)

    def draw(self, sample: Sample, seed: int) -> dict[str, np.ndarray]:
        """All of it: panoramas are cropped from memory that only the loader has."""
        return self.augment(sample, seed)

    def finish(self, batch: Batch, device: torch.device) -> Batch:
        return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}

    def prepare(self, sample: Sample) -> dict[str, np.ndarray]:
        """The captured picture and background where the sample has both, else the sample's fixed composite."""
        if all(name in sample for name in CAPTURED):
            src, bgr = (sample[name] for name in CAPTURED)
            return {"src": src, "bgr": bgr, "alpha": sample["alpha"], "foreground": sample["foreground"]}
        return self.scenes.evaluation.fixed(sample, FIXED_SEED)

    def unaugmented(self, sample: Sample) -> dict[str, np.ndarray]:
        """The sample's fixed composite before a training background."""
        return self.scenes.training.fixed(sample, FIXED_SEED)

    def predict(self, model: nn.Module, batch: Batch) -> Matte | RefinedMatte:
        """What a model makes of a batch, as it is evaluated."""
        return model(_planes(batch["src"]), _planes(batch["bgr"]))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The terms of losses.py for the spec's phase. The refiner refines a fixed number of cells of every sample,
        whatever the spec's mode and the model's are: `mode` and `threshold` are of evaluation alone."""
        options = {"fixed_count": True} if self.spec.phase == "refine" else {}
        matte: Matte | RefinedMatte = model(_planes(batch["src"]), _planes(batch["bgr"]), **options)
        alpha, foreground = _planes(batch["alpha"][..., None]), _planes(batch["foreground"])
        with torch.autocast(alpha.device.type, enabled=False):
            if isinstance(matte, RefinedMatte):
                return refine_loss(matte, alpha, foreground)
            return base_loss(matte, alpha, foreground)

    def evaluator(self, device: torch.device) -> MattingEvaluator:
        def predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            matte = self.predict(model, batch)
            return matte.alpha, matte.foreground

        return MattingEvaluator(predict, device)

    @property
    def scenes(self) -> Scenes:
        if self._scenes is None:
            raise ValueError("matting needs backgrounds to put people before, but has none; give data.backgrounds")
        return self._scenes


@torch.no_grad()
def fresh(model: nn.Module, seed: int) -> None:
    """Initial weights: normal of the references' deviations, fan-out for the backbone and torch's default elsewhere.

    Alpha starts at a half: it is clamped to [0, 1], outside of which no gradient comes back, and half of the pixels
    would start there (of small networks without published weights all of them stayed there).
    """
    initialise(model, seed, RULES)
    for name, parameter in model.named_parameters():
        if name in ("decoder.conv4.bias", "refiner.conv4.bias"):
            parameter[0] = 0.5


def _planes(images: Tensor) -> Tensor:
    """uint8 [B, H, W, C] as contiguous float32 [B, C, H, W] in [0, 1]."""
    x = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return x / 255
