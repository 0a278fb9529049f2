"""What every task must do. To run a new task through it, add a Case; nothing here knows of a task's insides."""

import copy
import io
import math
import pickle
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets import Domain, Pack, write_pack
from datasets.classes import FACE_CLASSES
from datasets.compositing import Backgrounds, Compositor, Scenes
from trainables.adaptation import adapt, domains
from trainables.landmarks.spec import LandmarksSpec
from trainables.matting.spec import MattingSpec, Refinement
from trainables.segmentation.spec import SegmentationSpec
from trainables.specs import TaskSpec
from trainables.task import Task, build_task, example_batch

METHODS = ("none", "real_bn")  # whose parameters are the plain model's; test_adaptation_tasks.py has the others
R, S = int(Domain.REAL), int(Domain.SYNTHETIC)


@dataclass(frozen=True)
class Case:
    """A small spec, a row of a pack that it can learn from, the class names of such a pack, and whether the task puts
    people before `backgrounds`."""

    name: str
    spec: TaskSpec
    row: Callable[[np.random.Generator], dict[str, np.ndarray]]
    classes: tuple[str, ...] | None
    composes: bool = False

    def rows(self, count: int) -> list[dict[str, np.ndarray]]:
        rng = np.random.Generator(np.random.Philox(11))
        rows = [self.row(rng) for _ in range(count)]
        for row in rows:
            for array in row.values():
                array.flags.writeable = False
        return rows


def face_parsing_row(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Blocks of 8x8 pixels, each of a random class and in its colour, some unlabelled."""
    label = np.kron(rng.integers(0, 9, (4, 4)), np.ones((8, 8))).astype(np.uint8)
    image = label[..., None] * np.array([28, 20, 12]) + rng.integers(0, 30, (32, 32, 3))
    label[:2, :5] = 255
    return {"image": image.astype(np.uint8), "segmentation": label}


def landmarks_row(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A face of 68 points without a jaw to learn: a grid that is shifted, with a bright spot at every point."""
    points = 4.0 * np.stack([np.arange(68) % 9 + 2, np.arange(68) // 9 + 3], 1) + rng.uniform(-4, 4, 2)
    image = rng.integers(0, 30, (64, 64, 3))
    image[tuple(np.rint(points).astype(int).T[::-1])] = rng.integers(100, 256, 3)
    return {"image": image.astype(np.uint8), "landmarks": points.astype(np.float32)}


def matting_row(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A disc with a soft edge, of one colour that no background has."""
    y, x = np.mgrid[:32, :32] - rng.uniform(12, 20, (2, 1, 1))
    alpha = np.clip((rng.uniform(8, 12) - np.hypot(x, y)) / 4 + 0.5, 0, 1)
    foreground = np.array([220, 40, 200]) + rng.integers(-20, 20, (32, 32, 3))
    return {"foreground": foreground.astype(np.uint8), "alpha": np.rint(255 * alpha).astype(np.uint8)}


CASES = [
    Case(
        "segmentation", SegmentationSpec(kind="segmentation", width=0.25, resolution=32), face_parsing_row, FACE_CLASSES
    ),
    Case(
        "landmarks",
        LandmarksSpec(kind="landmarks", stacks=2, width=0.125, depth=2, resolution=64),
        landmarks_row,
        None,
    ),
    Case("matting", MattingSpec(kind="matting", width=0.25, resolution=32), matting_row, None, composes=True),
    Case(
        "matting refine",
        MattingSpec(
            kind="matting",
            phase="refine",
            width=0.25,
            resolution=32,
            refinement=Refinement(backbone_scale=0.5, sample_pixels=320),
        ),
        matting_row,
        None,
        composes=True,
    ),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def build(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Task]:
    """Makes the case's task anew."""
    if not case.composes:
        return lambda: build_task(case.spec)
    rng = np.random.Generator(np.random.Philox(5))
    pictures = np.kron(rng.integers(60, 200, (3, 8, 8, 1)), np.ones((1, 8, 8, 3))).astype(np.uint8)
    folder = tmp_path_factory.mktemp("backgrounds") / "rooms"
    pack = write_pack(folder, ({"image": picture} for picture in pictures), source={"format": "test"})
    compositor = Compositor((Backgrounds("rooms", pack),))
    return lambda: build_task(case.spec, Scenes(compositor, compositor))


@pytest.fixture(scope="module")
def task(build: Callable[[], Task]) -> Task:
    return build()


def model_of(task: Task, seed: int = 0) -> nn.Module:
    model = task.build_model()
    task.initialise(model, seed)
    return model


def batch_of(task: Task, case: Case, which: list[int]) -> dict[str, Tensor]:
    return example_batch(task, [task.prepare(row) for row in case.rows(len(which))], which)


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def same_samples(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


def global_generators() -> bytes:
    return pickle.dumps((torch.get_rng_state().numpy(), np.random.get_state(), random.getstate()))  # noqa: NPY002


def reverse_registration(model: nn.Module) -> None:
    for module in list(model.modules()):
        for table in (module._modules, module._parameters, module._buffers):
            items = list(table.items())[::-1]
            table.clear()
            table.update(items)  # type: ignore[arg-type]


def test_a_spec_is_a_value(case: Case, task: Task) -> None:
    spec = type(case.spec).model_validate_json(case.spec.model_dump_json())
    assert spec == case.spec
    assert task.spec == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_initial_weights_are_a_function_of_seed_and_name(task: Task) -> None:
    first = model_of(task, seed=3).state_dict()
    torch.manual_seed(99)
    turned = task.build_model()
    reverse_registration(turned)
    assert list(turned.state_dict()) != list(first)
    before = global_generators()
    task.initialise(turned, 3)
    assert global_generators() == before
    assert equal(first, turned.state_dict())
    assert not equal(first, model_of(task, seed=4).state_dict())


def test_initialising_again_erases_what_was_trained(task: Task) -> None:
    model = model_of(task)
    fresh = copy.deepcopy(model.state_dict())
    for tensor in model.state_dict().values():
        tensor.add_(1)
    task.initialise(model, 0)
    assert equal(fresh, model.state_dict())


def test_augmentation_is_a_function_of_row_and_seed(case: Case, task: Task, build: Callable[[], Task]) -> None:
    rows = case.rows(2)
    kept = copy.deepcopy(rows)
    before = global_generators()
    seeds = [0, 1, 2**32 - 1]
    first = [task.augment(row, seed) for row in rows for seed in seeds]
    copies = [{name: array.copy() for name, array in sample.items()} for sample in first]
    again = build()
    second = [again.augment(row, seed) for row in reversed(rows) for seed in reversed(seeds)][::-1]
    assert all(same_samples(a, b) for a, b in zip(copies, second, strict=True))
    assert all(same_samples(a, b) for a, b in zip(copies, first, strict=True))  # no buffer that is used again
    assert all(same_samples(a, b) for a, b in zip(kept, rows, strict=True))
    assert not same_samples(first[0], first[1])
    assert global_generators() == before


def test_the_device_finishes_what_the_loader_drew(case: Case, task: Task, build: Callable[[], Task]) -> None:
    """What is drawn in the loader and finished on the device is `augment`, up to rounding and the stream of noise."""
    pairs = [(row, seed) for row in case.rows(3) for seed in (0, 3, 2**32 - 1)]
    before = global_generators()
    drawn = [task.draw(row, seed) for row, seed in pairs]
    assert all(same_samples(a, build().draw(*pair)) for a, pair in zip(drawn, pairs, strict=True))
    batch = task.finish(example_batch(task, drawn, [R] * len(drawn)), torch.device("cpu"))
    assert global_generators() == before
    for k, (row, seed) in enumerate(pairs):
        whole = task.augment(row, seed)
        assert {*batch} == {*whole, "domain"}
        alone = task.finish(example_batch(task, [drawn[k]], [R]), torch.device("cpu"))
        for name, array in whole.items():
            assert (batch[name].numpy().dtype, batch[name][k].shape) == (array.dtype, array.shape)
            assert torch.equal(alone[name][0], batch[name][k])
            assert np.abs(batch[name][k].numpy().astype(float) - array).mean() < 0.05 * max(float(array.max()), 1)


def test_preparation_draws_nothing_and_gives_what_augmentation_gives(
    case: Case, task: Task, build: Callable[[], Task]
) -> None:
    (row,) = case.rows(1)
    before = global_generators()
    prepared, augmented = task.prepare(row), task.augment(row, 7)
    assert global_generators() == before
    assert same_samples(prepared, build().prepare(row))
    assert {k: (v.dtype, v.shape) for k, v in prepared.items()} == {k: (v.dtype, v.shape) for k, v in augmented.items()}
    assert "domain" not in prepared  # the loader adds it


@pytest.mark.parametrize("which", [[R] * 4, [S] * 4, [R, R, S, S], [S, R, R, R]], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_loss_is_finite_and_reaches_every_parameter(case: Case, task: Task, method: str, which: list[int]) -> None:
    model = model_of(task)
    adapt(model, method)
    batch = batch_of(task, case, which)
    with domains(model, batch["domain"]):
        terms = task.loss(model, batch)
    total = terms["total"]
    assert total.shape == ()
    assert torch.isfinite(total)
    torch.testing.assert_close(total, torch.stack([value for name, value in terms.items() if name != "total"]).sum())
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_methods_agree_on_a_real_batch(case: Case, task: Task) -> None:
    losses = []
    for method in METHODS:
        model = model_of(task)
        adapt(model, method)
        batch = batch_of(task, case, [R] * 4)
        torch.manual_seed(0)
        with domains(model, batch["domain"]):
            losses.append(task.loss(model, batch)["total"].item())
    assert len(set(losses)) == 1


def test_evaluator_states_of_two_halves_add_up_to_the_whole(case: Case, task: Task) -> None:
    model = model_of(task).eval()
    weights = copy.deepcopy(model.state_dict())
    rows = [task.prepare(row) for row in case.rows(8)]
    batches = [example_batch(task, rows[i : i + 2], [R, R]) for i in range(0, 8, 2)]
    whole, left, right = (task.evaluator(torch.device("cpu")) for _ in range(3))
    before = global_generators()
    with torch.no_grad():
        for i, batch in enumerate(batches):
            whole.update(model, batch)
            (left if i % 2 else right).update(model, batch)
    metrics = whole.compute()
    assert global_generators() == before
    assert equal(weights, model.state_dict())
    for name, tensor in left.state().items():
        assert tensor.dtype in (torch.int64, torch.float64)
        tensor += right.state()[name]  # in place, as a reduction over ranks does
    assert equal(left.state(), whole.state())
    assert repr(left.compute()) == repr(metrics)  # by text, since NaN is not equal to itself
    assert all(isinstance(value, float) for value in metrics.values())
    assert not any(name.startswith(("val/", "test/", "train/")) for name in metrics)


def test_an_empty_evaluator_gives_every_name(case: Case, task: Task) -> None:
    """The search checks its objective against these names before anything starts."""
    evaluator = task.evaluator(torch.device("cpu"))
    names = set(evaluator.compute())
    assert all(math.isnan(value) for value in evaluator.compute().values())
    with torch.no_grad():
        evaluator.update(model_of(task).eval(), batch_of(task, case, [R, R]))
    assert set(evaluator.compute()) == names


def test_state_loads_as_weights_only(task: Task) -> None:
    model = model_of(task, seed=1)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other = model_of(task, seed=2)
    other.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert equal(model.state_dict(), other.state_dict())


def test_four_samples_are_learned(case: Case, task: Task) -> None:
    model = model_of(task)
    batch = batch_of(task, case, [R] * 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(24):
        torch.manual_seed(step)
        loss = task.loss(model, batch)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:3]) / 2, losses


def packed(case: Case, path: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Pack:
    return write_pack(path, [change(row) for row in case.rows(2)], source={"format": "test"}, classes=case.classes)


def one_line(task: Task, pack: Pack) -> str:
    with pytest.raises(ValueError, match=r"^\S") as caught:
        task.check_pack(pack)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(pack.path)
    return message


def test_a_fitting_pack_passes_and_its_rows_can_be_trained_on(case: Case, task: Task, tmp_path: Path) -> None:
    pack = packed(case, tmp_path / "fits", lambda row: row | {"unrelated": np.zeros(3, np.float32)})
    task.check_pack(pack)
    sample = pack.sample(1, task.columns)
    assert set(sample) == set(task.columns)
    task.augment(sample, 5)  # type: ignore[arg-type]
    assert same_samples(task.prepare(sample), task.prepare(case.rows(2)[1]))  # type: ignore[arg-type]


def test_a_pack_without_a_column_is_refused(case: Case, task: Task, tmp_path: Path) -> None:
    for missing in task.columns:
        keep = {name: name for name in task.columns if name != missing} | {"id": "id"}
        pack = packed(
            case, tmp_path / missing, lambda row, keep=keep: {k: row.get(k, np.zeros(1, np.uint8)) for k in keep}
        )
        assert repr(missing) in one_line(task, pack)


@pytest.mark.parametrize("change", ["dtype", "shape"])
def test_a_pack_of_another_type_or_size_is_refused(case: Case, task: Task, tmp_path: Path, change: str) -> None:
    def wrong(array: np.ndarray) -> np.ndarray:
        return array.astype(np.int16) if change == "dtype" else array[:-1]

    for name in task.columns:
        pack = packed(case, tmp_path / name, lambda row, name=name: row | {name: wrong(row[name])})
        assert repr(name) in one_line(task, pack)


def test_a_pack_with_other_classes_is_refused(case: Case, task: Task, tmp_path: Path) -> None:
    if case.classes is None:
        pytest.skip(f"{case.name} has no classes")
    for classes in (case.classes[::-1], (*case.classes, "hat")):
        other = Case(case.name, case.spec, case.row, classes)
        assert case.classes[1] in one_line(task, packed(other, tmp_path / classes[-1], dict))
    task.check_pack(packed(Case(case.name, case.spec, case.row, None), tmp_path / "unnamed", dict))
