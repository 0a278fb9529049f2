"""A run's step against a second implementation of it, its state against going on, and its guard against NaN."""

import io
import math
import random
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.toy import SPEC
from trainables.ranks import Ranks
from trainables.run import CHECK_EVERY, LOSS_DECAY, NotFiniteError, Run
from trainables.stage import Rows, Stage, Training

CPU = torch.device("cpu")
TRAINING = Training(batch_size=6, warmup=4, ema_decay=0.6, clip_norm=0.5, weight_decay=0.01, precision="fp32")


class Small(nn.Module):
    """A model in which everything that a step has to handle occurs: a normalisation, its buffers, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.bn = nn.BatchNorm2d(5)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(torch.relu(self.bn(self.conv(x)))).mean((2, 3)))


class SmallTask:
    """As much of a task as a run asks for."""

    spec = SPEC

    def __init__(self, lr_factors: Mapping[str, float] | None = None) -> None:
        self.lr_factors = lr_factors or {}

    def build_model(self) -> nn.Module:
        return Small()

    def initialise(self, model: nn.Module, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name.endswith("num_batches_tracked"):
                    tensor.zero_()
                elif "running" in name:
                    tensor.fill_(float(name.endswith("var")))
                else:
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)

    def initialise_from(self, model: nn.Module, weights: Mapping[str, Tensor], seed: int) -> None:
        model.load_state_dict(weights)

    def loss(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        loss = F.cross_entropy(model(batch["x"]), batch["label"])
        return {"total": loss * batch.get("scale", 1.0)}


TASK: Any = SmallTask()


def stage(**given: Any) -> Stage:
    training = TRAINING.model_copy(update=given.pop("training", {}))
    rows = Rows("d" * 64, 10, 10)
    fields: dict[str, Any] = {
        "start": None,
        "horizon": None,
        "conversion": "none",
        "task": SPEC,
        "real": rows,
        "synthetic": rows,
    }
    fields |= {
        "synthetic_share": 0.5,
        "backgrounds": None,
        "adaptation": "none",
        "training": training,
        "lr": 0.3,
        "seed": 5,
    }
    return Stage(**(fields | given))


def batch(step: int, **more: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(6, 3, 6, 6, generator=generator)
    label = torch.randint(0, 4, (6,), generator=generator)
    return {"x": x, "label": label, "domain": torch.tensor([0, 0, 0, 1, 1, 1])} | more


def begin(of: Stage | None = None, weights: dict[str, Tensor] | None = None, task: Any = TASK) -> Run:
    of = of or stage()
    return Run.begin(of, task, CPU, Ranks(), ("store", of.key), weights)


def train(run: Run, stop: int) -> Run:
    run.model.train()
    while run.step < stop:
        run.train_step(batch(run.step), seed=77 + run.step)
    return run


def equal(one: Any, other: Any) -> bool:
    """Whether two nested states are equal; tensors to the bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


class Reference:
    """The training step written down a second time, from the formulas, without torch's optimizer, EMA or clipping."""

    def __init__(self, of: Stage, factors: Mapping[str, float] | None = None) -> None:
        self.stage, self.model, self.step = of, TASK.build_model(), 0
        self.factors = factors or {}
        TASK.initialise(self.model, of.seed)
        self.model.train()
        self.velocity: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self.average = {name: value.double().clone() for name, value in self.model.state_dict().items()}
        self.loss_sum = self.weight = 0.0
        self.rates: list[float] = []
        self.norms: list[float] = []
        self.finite = True

    def train_step(self) -> None:
        training = self.stage.training
        self.rates.append(self.stage.lr * ((self.step + 1) / training.warmup if self.step < training.warmup else 1))
        if self.stage.horizon:
            self.rates[-1] *= (1 - self.step / self.stage.horizon) ** 0.9
        torch.manual_seed(77 + self.step)
        loss = TASK.loss(self.model, batch(self.step))["total"]
        parameters = dict(self.model.named_parameters())
        grads = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
        self.norms.append(math.sqrt(sum(float(grad.double().square().sum()) for grad in grads.values())))
        self.finite = self.finite and math.isfinite(loss.item()) and math.isfinite(self.norms[-1])
        scale = min(1.0, training.clip_norm / self.norms[-1])
        with torch.no_grad():
            for name, value in parameters.items():
                pull = grads[name] * scale + training.weight_decay * value
                rate = self.rates[-1] * self.factors.get(name.partition(".")[0] + ".", 1)
                value -= rate * self.direction(name, pull)
        decay = min(training.ema_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            whole = not value.is_floating_point()
            mean = self.average[name]
            self.average[name] = value.double() if whole else decay * mean + (1 - decay) * value.double()
        self.loss_sum = LOSS_DECAY * self.loss_sum + loss.item()
        self.weight = LOSS_DECAY * self.weight + 1
        self.step += 1

    def direction(self, name: str, pull: Tensor) -> Tensor:
        """Of SGD with momentum, Adam (Kingma & Ba 2015) and RMSprop (Tieleman & Hinton 2012)."""
        t = self.step + 1
        first, second = self.velocity.get(name), self.squares.get(name, torch.zeros_like(pull))
        match self.stage.training.optimizer:
            case "sgd":
                self.velocity[name] = pull if first is None else self.stage.training.momentum * first + pull
                return self.velocity[name]
            case "adam":
                self.velocity[name] = 0.9 * (torch.zeros_like(pull) if first is None else first) + 0.1 * pull
                self.squares[name] = 0.999 * second + 0.001 * pull.square()
                return (self.velocity[name] / (1 - 0.9**t)) / ((self.squares[name] / (1 - 0.999**t)).sqrt() + 1e-8)
            case "rmsprop":
                self.squares[name] = 0.99 * second + 0.01 * pull.square()
                return pull / (self.squares[name].sqrt() + 1e-8)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_other_optimizers_agree_with_their_formulas(optimizer: str) -> None:
    of = stage(lr=0.01, training={"optimizer": optimizer})
    run, reference = begin(of), Reference(of)
    for step in range(9):
        train(run, step + 1)
        reference.train_step()
    expected = reference.model.state_dict()
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)
    again = Run.restore(of, TASK, CPU, Ranks(), ("store", of.key), deepcopy(run.state()))
    assert equal(train(again, 12).state(), train(run, 12).state())


def test_poly_ends_at_nothing_and_parts_have_rates_of_their_own() -> None:
    of, factors = stage(horizon=9, training={"lr_schedule": "poly"}), {"head.": 10.0, "bn.": 0.5}
    run, reference = begin(of, task=SmallTask(factors)), Reference(of, factors)
    for step in range(9):
        train(run, step + 1)
        reference.train_step()
        for name, value in run.model.state_dict().items():
            torch.testing.assert_close(value, reference.model.state_dict()[name], rtol=1e-3, atol=1e-4)
    rates = {group["factor"]: group["lr"] for group in run.state()["optimizer"]["param_groups"]}
    assert rates == pytest.approx({factor: factor * reference.rates[-1] for factor in (1.0, 10.0, 0.5)})
    assert reference.rates[-1] == pytest.approx(0.3 * (1 / 9) ** 0.9)
    assert reference.rates[2] == pytest.approx(0.3 * 0.75 * (7 / 9) ** 0.9)
    with pytest.raises(ValueError, match=r"lr_factors must be of parts of Small, but it has no 'neck\.'"):
        begin(task=SmallTask({"neck.": 2.0}))


def test_steps_agree_with_a_second_implementation() -> None:
    """Warm-up, clipping, momentum, weight decay, the average of parameters and buffers, and the loss average."""
    run, reference = begin(), Reference(stage())
    rates = []
    for step in range(9):
        train(run, step + 1)
        reference.train_step()
        rates.append(run.state()["optimizer"]["param_groups"][0]["lr"])
        expected = reference.model.state_dict()
        for name, value in run.model.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
        for name, value in run.average.state_dict().items():
            torch.testing.assert_close(value.double(), reference.average[name], rtol=1e-4, atol=1e-5)
        assert run.train_loss() == pytest.approx(reference.loss_sum / reference.weight, rel=1e-4)
    assert rates == pytest.approx([0.075, 0.15, 0.225, *[0.3] * 6])
    assert rates == pytest.approx(reference.rates)
    assert max(reference.norms) > TRAINING.clip_norm > min(reference.norms)  # both sides of clipping were seen


def test_the_average_is_of_every_float_and_copies_integers() -> None:
    run = train(begin(), 3)
    raw, average = run.model.state_dict(), run.average.state_dict()
    assert int(average["bn.num_batches_tracked"]) == 3
    moved = [name for name, value in average.items() if value.is_floating_point() and not torch.equal(value, raw[name])]
    assert moved == [name for name, value in average.items() if value.is_floating_point()]
    assert {"bn.running_mean", "bn.running_var"} < set(moved)


def test_without_warmup_the_first_step_has_the_whole_rate() -> None:
    run = train(begin(stage(training={"warmup": 0})), 1)
    assert run.state()["optimizer"]["param_groups"][0]["lr"] == 0.3


def test_weight_decay_is_on_every_parameter() -> None:
    """Where the loss has no gradient, one step of rate r takes r * weight_decay of each parameter."""
    run = begin(stage(training={"warmup": 0}))
    before = run.raw_weights()
    run.train_step(batch(0, scale=torch.tensor(0.0)), seed=1)
    for name, value in run.model.named_parameters():
        torch.testing.assert_close(value.detach(), before[name] * (1 - 0.3 * 0.01))


@pytest.mark.parametrize("adaptation", ["none", "real_bn"])
@pytest.mark.parametrize("stop", [0, 1, 2, 5])
def test_a_restored_run_goes_on_with_the_same_bits(stop: int, adaptation: Any) -> None:
    of = stage(adaptation=adaptation)
    buffer = io.BytesIO()
    torch.save(train(begin(of), stop).state(), buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    torch.manual_seed(stop)  # a new process has another global state
    restored = Run.restore(of, TASK, CPU, Ranks(), ("store", of.key), loaded)
    assert restored.step == stop
    assert equal(restored.state(), train(begin(of), stop).state())
    train(restored, 8)
    whole = train(begin(of), 8)
    assert equal(restored.state(), whole.state())
    assert restored.train_loss() == whole.train_loss()
    assert whole.state()["optimizer"]["state"][0]["momentum_buffer"].abs().sum() > 0


def test_a_fork_takes_raw_weights_and_starts_the_rest_afresh() -> None:
    trunk = train(begin(), 5)
    raw = trunk.raw_weights()
    assert not equal(raw, dict(trunk.average.state_dict()))
    fork = begin(stage(lr=0.2), raw)
    fork.start_average()
    assert equal(dict(fork.model.state_dict()), raw)
    assert equal(dict(fork.average.state_dict()), raw)
    assert fork.step == 0
    assert fork.state()["optimizer"]["state"] == {}
    assert math.isnan(fork.train_loss())
    train(fork, 1)
    assert fork.state()["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.2 / 4)  # warms up again
    assert equal(trunk.raw_weights(), raw)  # and leaves the trunk as it was


def test_global_random_states_do_not_matter() -> None:
    undisturbed = train(begin(), 6).state()
    run = begin()
    for step in range(6):
        torch.manual_seed(step * 31 + 1)
        np.random.seed(step)  # noqa: NPY002  (the global state is what this test is about)
        random.seed(step)
        before = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # noqa: NPY002
        train(run, step + 1)
        assert before == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]  # noqa: NPY002
    assert equal(run.state(), undisturbed)


def test_dropout_follows_the_seed_of_the_step() -> None:
    """Guards the test above: a run in which the seed does something."""
    run, other = begin(), begin()
    run.train_step(batch(0), seed=1)
    other.train_step(batch(0), seed=2)
    assert not equal(run.raw_weights(), other.raw_weights())


def first_bad_step(of: Stage) -> int:
    """The number of the first step whose loss or gradient is not finite, by the second implementation."""
    reference = Reference(of)
    while reference.finite:
        reference.train_step()
        assert reference.step < 1000
    return reference.step


def test_the_guard_names_the_step_at_which_training_diverged() -> None:
    of = stage(lr=1e36, training={"clip_norm": 1e9, "warmup": 0})
    expected = first_bad_step(of)
    assert 1 < expected < CHECK_EVERY
    run = begin(of)
    with pytest.raises(NotFiniteError, match=rf"at step {expected} of stage {of.key} \(lr=1e\+36\)") as caught:
        train(run, 100)
    assert "\n" not in str(caught.value)
    assert run.step == CHECK_EVERY  # looked at every ten steps, so that no step waits for the device
    run = train(begin(of), expected - 1)
    run.check_finite()
    assert run.is_finite()
    train(run, expected)
    assert not run.is_finite()


@pytest.mark.parametrize("scale", [math.nan, math.inf])
@pytest.mark.parametrize("at", [1, 4, CHECK_EVERY, CHECK_EVERY + 3])
def test_the_guard_names_the_first_of_several_bad_steps(scale: float, at: int) -> None:
    run = train(begin(), at - 1)

    def go_on() -> None:
        run.train_step(batch(at - 1, scale=torch.tensor(scale)), seed=at)
        train(run, at + CHECK_EVERY)

    with pytest.raises(NotFiniteError, match=f"at step {at} of"):
        go_on()
    assert run.step - at < CHECK_EVERY


def test_real_samples_alone_move_the_statistics_of_real_bn() -> None:
    """The run tells the model's layers each sample's domain, in the order of the batch."""
    run = begin(stage(adaptation="real_bn", training={"warmup": 0}))
    plain = deepcopy(begin().model)
    run.train_step(batch(0), seed=3)
    with torch.no_grad():
        plain.train()(batch(0)["x"][:3])
    for name in ("bn.running_mean", "bn.running_var"):
        torch.testing.assert_close(run.model.state_dict()[name], plain.state_dict()[name])


@pytest.mark.parametrize(("precision", "dtype"), [("auto", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_on_the_cpu(precision: str, dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    run = begin(stage(training={"precision": precision}))
    note: Callable[..., None] = lambda module, inputs, output: seen.append(output.dtype)  # noqa: E731
    run.model.get_submodule("conv").register_forward_hook(note)
    train(run, 1)
    assert seen == [dtype]
    assert {value.dtype for value in run.model.parameters()} == {torch.float32}
