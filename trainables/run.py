"""Run: one live stage, its weights, their moving average, the optimizer and the step it has reached.

`state()` is one literal dict that holds all that a resume needs; a run restored from it goes on with the same bits.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainables.adaptation import adapt, domains, undecayed
from trainables.ranks import Ranks
from trainables.stage import Stage
from trainables.task import Batch, Task

CHECK_EVERY = 10  # steps between looks at the NaN guard: a look waits for the device
POLY = 0.9  # the power of the polynomial decay, as DeepLab's
LOSS_DECAY = 0.98  # of the running average of the training loss (reported, never trained on)


class NotFiniteError(ArithmeticError):
    """The loss or the gradient was NaN or infinite; names the step and what to change."""


class Run:
    """A stage while it is trained. Make one with `begin` or `restore`."""

    def __init__(
        self, stage: Stage, task: Task, device: torch.device, ranks: Ranks, address: tuple[str, str], model: nn.Module
    ) -> None:
        self.stage = stage
        self.task = task
        self.device = device
        self._ranks = ranks
        self.address = address  # (store root, stage key): what its checkpoints are called
        self.step = 0
        self.model = model.to(device)
        self._still = freeze(model, stage.frozen)
        self.average = deepcopy(self.model)  # what is evaluated
        on_gpu = [device.index] if device.type == "cuda" else None
        self._parallel: nn.Module = self.model
        if ranks.world_size > 1:
            self._parallel = DistributedDataParallel(self.model, device_ids=on_gpu)
        self._optimizer = _optimizer(self.model, stage, task.lr_factors)
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        pairs = list(zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True))
        self._floats = [(mean, value) for mean, value in pairs if mean.is_floating_point()]
        self._integers = [(mean, value) for mean, value in pairs if not mean.is_floating_point()]
        self._loss_average = torch.zeros((), dtype=torch.float64, device=device)
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    @classmethod
    def begin(
        cls,
        stage: Stage,
        task: Task,
        device: torch.device,
        ranks: Ranks,
        address: tuple[str, str],
        weights: dict[str, Tensor] | None,
    ) -> "Run":
        """A run at step 0: from the seed's initial weights, or a fork from raw ones of the stage's adaptation (see
        `adaptation.converted`), optimizer and average new."""
        model = task.build_model()
        if weights is None:
            task.initialise(model, stage.seed)
            adapt(model, stage.adaptation, stage.adain)
        else:
            adapt(model, stage.adaptation, stage.adain)
            task.initialise_from(model, weights, stage.seed)
        return cls(stage, task, device, ranks, address, model)

    @classmethod
    def restore(
        cls, stage: Stage, task: Task, device: torch.device, ranks: Ranks, address: tuple[str, str], state: Any
    ) -> "Run":
        """The run that `state()` was taken of, to the bit."""
        model = task.build_model()
        adapt(model, stage.adaptation, stage.adain)
        model.load_state_dict(state["model"])
        run = cls(stage, task, device, ranks, address, model)
        run.average.load_state_dict(state["average"])
        run._optimizer.load_state_dict(state["optimizer"])
        run._loss_average.copy_(state["loss_average"])
        run.step = state["step"]
        return run

    def state(self) -> dict[str, Any]:
        """Everything a resume needs, by reference: serialise it before the next step."""
        return {
            "stage": self.stage.key,
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "loss_average": self._loss_average,
        }

    def raw_weights(self) -> dict[str, Tensor]:
        """A copy of the raw (not averaged) parameters and buffers: what a fork takes."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def start_average(self) -> None:
        """Sets the average to the weights as they are (after a conversion has changed them at the fork)."""
        self.average.load_state_dict(self.model.state_dict())

    def train(self) -> None:
        """Training mode, but for the normalisations that are frozen: their statistics stay too."""
        self.model.train()
        for module in self._still:
            module.eval()

    def train_step(self, batch: Batch, *, seed: int) -> None:
        """One optimizer step. Everything torch draws in it comes from `seed`."""
        torch.manual_seed(seed)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate() * group["factor"]
        with self.autocast(), domains(self.model, batch["domain"]):
            loss = self.task.loss(self._parallel, batch)["total"]
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, self.stage.training.clip_norm)
        mean_loss = self._ranks.mean(loss.detach())
        bad = ~(torch.isfinite(mean_loss) & torch.isfinite(norm))
        self._first_bad = torch.where(bad & (self._first_bad < 0), self.step + 1, self._first_bad)
        self._optimizer.step()
        self._update_average(mean_loss)
        self.step += 1
        if self.step % CHECK_EVERY == 0:
            self.check_finite()

    def _rate(self) -> float:
        """The learning rate of the next step, before the factors of parts of the model."""
        warmup = self.stage.training.warmup
        rate = self.stage.lr * min(1.0, (self.step + 1) / warmup) if warmup else self.stage.lr
        if self.stage.training.lr_schedule == "constant":
            return rate
        assert self.stage.horizon is not None
        return rate * (1 - self.step / self.stage.horizon) ** POLY

    def is_finite(self) -> bool:
        """Whether every step so far was finite. Waits for the device."""
        return int(self._first_bad) < 0

    def check_finite(self) -> None:
        """Raises NotFiniteError if any step so far was not finite. Nothing is saved or evaluated before this passed."""
        if not self.is_finite():
            step = int(self._first_bad)
            raise NotFiniteError(
                f"the loss must stay finite, but at step {step} of stage {self.stage.key} (lr={self.stage.lr:g}) it or "
                "its gradient was not; lower `lr`, lengthen `training.warmup` or lower `training.clip_norm`"
            )

    def train_loss(self) -> float:
        """The running average of the training loss, without the bias of its start at 0."""
        weight = 1 - LOSS_DECAY**self.step
        return float(self._loss_average) / weight if self.step else float("nan")

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 where the stage asks for it ("auto": on GPUs); bf16 needs no loss scaler."""
        precision = self.stage.training.precision
        bf16 = precision == "bf16" or (precision == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16)

    @torch.no_grad()
    def _update_average(self, loss: Tensor) -> None:
        """EMA of parameters and float buffers with decay min(d, (1 + t) / (10 + t)); integer buffers are copied."""
        keep = min(self.stage.training.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_([mean for mean, _ in self._floats], [value for _, value in self._floats], 1 - keep)
        for mean, value in self._integers:
            mean.copy_(value)
        self._loss_average.lerp_(loss.double(), 1 - LOSS_DECAY)


def freeze(model: nn.Module, parts: tuple[str, ...]) -> list[nn.Module]:
    """Stops the gradients of parts of a model ("norm", or prefixes of parameters' names); the normalisations in them.

    Raises ValueError for a part that the model has not, and when nothing is left to train.
    """
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    still: dict[str, nn.Module] = {}
    for part in parts:
        prefix = f"{part.rstrip('.')}."
        within = {n: m for n, m in norms.items() if part == "norm" or f"{n}.".startswith(prefix)}
        parameters = [p for n, p in model.named_parameters() if n.startswith(prefix)]
        if part == "norm":
            parameters = [parameter for module in norms.values() for parameter in module.parameters()]
        if not parameters:
            known = sorted({name.partition(".")[0] for name, _ in model.named_parameters()})
            raise ValueError(f"freeze must name norm or parts of the model ({', '.join(known)}), but got {part!r}")
        for parameter in parameters:
            parameter.requires_grad_(False)
        still |= within
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freeze must leave something to train, but {'+'.join(parts)} is the whole model")
    return list(still.values())


def _optimizer(model: nn.Module, stage: Stage, factors: Mapping[str, float]) -> torch.optim.Optimizer:
    """The optimizer of a stage, one group of parameters for each learning rate, with weight decay or without.

    One fused kernel steps all parameters of a group: of a small model's step on a CPU that is a sixth.

    Raises ValueError for a prefix of `factors` that no parameter has.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    found = set()
    spared = {id(parameter) for parameter in undecayed(model)}
    for name, parameter in model.named_parameters():
        prefixes = [prefix for prefix in factors if name.startswith(prefix)]
        found.update(prefixes)
        factor = factors[max(prefixes, key=len)] if prefixes else 1.0
        if parameter.requires_grad:
            groups.setdefault((factor, id(parameter) not in spared), []).append(parameter)
    if absent := [prefix for prefix in factors if prefix not in found]:
        raise ValueError(f"lr_factors must be of parts of {type(model).__name__}, but it has no {absent[0]!r}")
    training = stage.training
    parts = [
        {"params": parameters, "factor": factor, "weight_decay": training.weight_decay if decayed else 0.0}
        for (factor, decayed), parameters in groups.items()
    ]
    match training.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parts, lr=stage.lr, momentum=training.momentum, weight_decay=training.weight_decay, fused=True
            )
        case "adam":
            return torch.optim.Adam(parts, lr=stage.lr, weight_decay=training.weight_decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(parts, lr=stage.lr, weight_decay=training.weight_decay)
