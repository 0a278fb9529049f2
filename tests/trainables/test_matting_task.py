"""Background matting as a task: where weights come from, what it is evaluated on, and that it learns real people."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from datasets import Pack, Source, write_pack
from datasets.compositing import Scenes
from datasets.weights import Weights
from tests.trainables.matting import person, rooms, scenes
from trainables.loop import Trainer
from trainables.matting.spec import MattingSpec
from trainables.matting.task import Matting
from trainables.path import Path as StagePath
from trainables.path import path_of
from trainables.problem import Problem, SourceFacts
from trainables.recipe import Recipe
from trainables.specs import TaskSpec
from trainables.stage import Training
from trainables.store import Store
from trainables.task import build_task


def spec(**fields: Any) -> MattingSpec:
    return MattingSpec.model_validate({"kind": "matting", "width": 0.25, "resolution": 48} | fields)


def model_of(task: Matting, seed: int = 0) -> torch.nn.Module:
    model = task.build_model()
    task.initialise(model, seed)
    return model


def saved(path: Path, content: Any) -> Weights:
    torch.save(content, path)
    return Weights(path=str(path)).identified(path.parent)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"refinement": {}}, "refinement must be absent in phase base"),
        ({"base": {"steps": 3, "lr": 0.1}}, "base must be absent in phase base"),
        ({"resolution": 50}, "multiple of 4"),
        ({"phase": "refine", "resolution": 32, "refinement": {"backbone_scale": 0.125}}, "but is 4; raise either"),
        ({"phase": "refine", "refinement": {"backbone_scale": 0.75}}, "less than or equal to 0.5"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spec(**fields)


def test_the_kind_of_a_spec_decides_the_task() -> None:
    read: Any = TypeAdapter(TaskSpec).validate_python({"kind": "matting", "phase": "refine"})
    task = build_task(read)
    assert isinstance(task, Matting)
    assert task.spec.refiner.mode == "sampling"


@pytest.mark.parametrize("phase", ["base", "refine"])
def test_learning_rates_are_the_reference_s(phase: str) -> None:
    task = Matting(spec(phase=phase))
    names = [name for name, _ in task.build_model().named_parameters()]
    assert {name.partition(".")[0] + "." for name in names} == set(task.lr_factors)
    base, refine = (1e-4, 5e-4, 5e-4), (5e-5, 5e-5, 1e-4, 3e-4)
    rates = base if phase == "base" else refine
    assert [max(rates) * factor for factor in task.lr_factors.values()] == pytest.approx(rates)


def test_a_refining_model_starts_from_a_base_model_and_the_seed_s_refiner() -> None:
    base, refine = Matting(spec()), Matting(spec(phase="refine"))
    weights = model_of(base, seed=5).state_dict()
    model = refine.build_model()
    refine.initialise_from(model, weights, seed=3)
    fresh = model_of(refine, seed=3).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, (fresh if name.startswith("refiner.") else weights)[name]), name
    again = refine.build_model()
    refine.initialise_from(again, model.state_dict(), seed=9)  # the same phase: the refiner too
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_weights_of_another_architecture_are_refused_in_one_line() -> None:
    refine = Matting(spec(phase="refine"))
    wide = model_of(Matting(spec(width=0.5))).state_dict()
    with pytest.raises(ValueError, match=r"^weights must be of this MattingRefine, but backbone\.\S+, "):
        refine.initialise_from(refine.build_model(), wide, seed=0)
    base = Matting(spec())
    with pytest.raises(ValueError, match=r"this MattingBase, but refiner\.conv1\.weight, .* and 17 more differ"):
        base.initialise_from(base.build_model(), model_of(refine).state_dict(), seed=0)


def test_phase_refine_may_have_phase_base_before_it() -> None:
    plain = spec(phase="refine", base={"steps": 30, "lr": 0.002}, refinement={"sample_pixels": 160})
    (phase,) = plain.phases
    assert (phase.spec, phase.steps, phase.lr) == (spec(), 30, 0.002)
    assert spec().phases == spec(phase="refine").phases == ()


def test_a_published_deeplab_starts_backbone_and_aspp(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file under the names of VainF's DeepLabv3: an image of 3 channels, a split backbone, numbers beside weights."""
    source = model_of(Matting(spec()), seed=7).state_dict()
    theirs: dict[str, Any] = {"classifier.classifier.4.weight": torch.zeros(21, 8, 1, 1)}
    for name, tensor in source.items():
        if name.startswith("aspp."):
            theirs[name.replace("aspp.", "classifier.classifier.0.")] = tensor
        elif name.startswith("backbone.features."):
            level = "low" if int(name.split(".")[2]) < 4 else "high"
            theirs[name.replace("features", f"{level}_level_features")] = tensor
    first = "backbone.low_level_features.0.0.weight"
    theirs[first] = theirs[first][:, :3]
    file = saved(tmp_path / "deeplab.pth", {"model_state": theirs, "best_score": np.float64(0.7)})
    with caplog.at_level(logging.INFO, logger="trainables.matting.task"):
        state = model_of(Matting(spec(pretrained=file)), seed=1).state_dict()
    fresh = model_of(Matting(spec()), seed=1).state_dict()
    for name, tensor in state.items():
        kept = name.startswith("decoder.") or name == "backbone.features.0.0.weight"
        assert torch.equal(tensor, (fresh if kept else source)[name]), name
    (message,) = caplog.messages
    assert "initial values stay in backbone.features.0.0.weight, decoder.bn1.bias" in message


def test_a_base_model_s_file_starts_a_refining_model(tmp_path: Path) -> None:
    source = model_of(Matting(spec()), seed=7).state_dict()
    file = saved(tmp_path / "base.pth", {f"module.{name}": tensor for name, tensor in source.items()})
    state = model_of(Matting(spec(phase="refine", pretrained=file)), seed=1).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in source.items())


def test_an_imagenet_file_starts_the_backbone(tmp_path: Path) -> None:
    """torchvision's: an image of 3 channels, the last convolution and the classifier."""
    source = model_of(Matting(spec()), seed=7).state_dict()
    theirs = {k.removeprefix("backbone."): v for k, v in source.items() if k.startswith("backbone.")}
    theirs["features.0.0.weight"] = theirs["features.0.0.weight"][:, :3]
    theirs |= {"features.18.0.weight": torch.zeros(1280, 80, 1, 1), "classifier.1.weight": torch.zeros(1000, 1280)}
    state = model_of(Matting(spec(pretrained=saved(tmp_path / "m.pth", theirs))), seed=1).state_dict()
    kept = "backbone.features.0.0.weight"
    assert all(
        torch.equal(state[f"backbone.{k}"], v)
        for k, v in theirs.items()
        if f"backbone.{k}" in state and f"backbone.{k}" != kept
    )
    assert not torch.equal(state[kept], source[kept])


@pytest.mark.parametrize("width", [0.25, 0.5])
def test_a_file_of_another_architecture_is_named_in_one_line(tmp_path: Path, width: float) -> None:
    content = {"other": torch.zeros(3)} if width == 0.25 else model_of(Matting(spec(width=width))).state_dict()
    with pytest.raises(ValueError, match=r"w\.pth: .* give the file of this architecture") as caught:
        model_of(Matting(spec(pretrained=saved(tmp_path / "w.pth", content))))
    assert "\n" not in str(caught.value)


def test_without_backgrounds_one_line_says_so() -> None:
    with pytest.raises(ValueError, match=r"^matting needs backgrounds .*; give data\.backgrounds$"):
        Matting(spec()).augment(person(), 0)


def triple(seed: int) -> dict[str, Any]:
    rng = np.random.Generator(np.random.Philox(seed))
    pair = {name: rng.integers(0, 256, (48, 48, 3), dtype=np.uint8) for name in ("image", "background")}
    return person(seed) | pair


def write(path: Path, rows: list[dict[str, Any]]) -> Pack:
    return write_pack(path, rows, source={"format": "test"})


def test_captured_backgrounds_are_evaluated_where_every_pack_has_them(tmp_path: Path) -> None:
    task = Matting(spec(), scenes(tmp_path))
    real, cut = write(tmp_path / "real", [triple(0)]), write(tmp_path / "cut", [person(1)])
    assert task.evaluation_columns([real]) == ("foreground", "alpha", "image", "background")
    assert task.evaluation_columns([real, cut]) == task.evaluation_columns([cut]) == task.columns
    prepared = task.prepare(real.sample(0, task.evaluation_columns([real])))
    np.testing.assert_array_equal(prepared["src"], triple(0)["image"])
    np.testing.assert_array_equal(prepared["bgr"], triple(0)["background"])
    composed = task.prepare(real.sample(0, task.columns))
    assert not np.array_equal(composed["src"], prepared["src"])
    np.testing.assert_array_equal(composed["alpha"], prepared["alpha"])


def test_backgrounds_are_in_an_evaluation_s_key_where_they_are_seen(tmp_path: Path) -> None:
    """Captured pictures are evaluated once, whatever else people are put before."""
    captured = Source([write(tmp_path / "real", [triple(0)])], Matting.columns)
    cut = Source([write(tmp_path / "cut", [person(1)])])
    both = Source([*captured.packs, *cut.packs], Matting.columns)
    keys = []
    leg: Any = SimpleNamespace(statistics=None)
    for seed in (78, 79):
        trainer = Trainer(
            spec(),
            [cut],
            val=captured,
            tests={},
            store_of=lambda namespace: Store(str(tmp_path / "store"), "d"),
            device=torch.device("cpu"),
            scenes=Scenes(rooms(tmp_path / f"train-{seed}"), rooms(tmp_path / f"evaluation-{seed}", seed)),
        )
        keys.append([trainer.sets.key(leg, source) for source in (captured, cut, both)])
    assert [one == other for one, other in zip(*keys, strict=True)] == [True, False, False]
    assert len({*keys[0], *keys[1]}) == 5


def test_a_captured_pair_of_another_size_is_refused(tmp_path: Path) -> None:
    pack = write(tmp_path / "p", [triple(0) | {"background": np.zeros((24, 24, 3), np.uint8)}])
    with pytest.raises(ValueError, match=r"column 'background' must be uint8\[48, 48, 3\], but is uint8\[24, 24, 3\]"):
        Matting(spec()).check_pack(pack)


@pytest.mark.parametrize("adaptation", ["none", "real_bn"])
def test_the_loop_trains_both_phases_and_evaluates(tmp_path: Path, adaptation: Any) -> None:
    """On composites of real and synthetic people; evaluated on captured pictures, and tested on composites."""
    seeds = {"real": 0, "synthetic": 9}
    packs = {name: write(tmp_path / name, [person(k + seed) for k in range(4)]) for name, seed in seeds.items()}
    real, synthetic = (Source([packs[name]]) for name in seeds)
    refining = spec(phase="refine", base={"steps": 2, "lr": 0.01}, refinement={"backbone_scale": 0.5})
    behind = scenes(tmp_path)
    trainer = Trainer(
        refining,
        [real, synthetic],
        val=Source([write(tmp_path / "val", [triple(k) for k in range(3)])], Matting.columns),
        tests={"composites": real},
        store_of=lambda namespace: Store(str(tmp_path / "store"), f"d/{namespace}".rstrip("/")),
        device=torch.device("cpu"),
        scenes=behind,
    )
    recipe = Recipe(
        schedule="mixed",
        adaptation=adaptation,
        real_fraction=1.0,
        synthetic_fraction=1.0,
        synthetic_share=0.5,
        lr=0.01,
    )
    facts = [SourceFacts(source.digest, len(source)) for source in (real, synthetic)]
    training = Training(batch_size=4, optimizer="adam")
    problem = Problem(refining, training, *facts, rungs=(2,), backgrounds=behind.training.digest)
    path = path_of(recipe, problem, 0)
    (report,) = trainer.train(path, (2,))
    assert report.steps_trained == 4
    for name in ("val/mae", "val/whole/iou", "test/composites/grad", "test/composites/whole/fgr_mse"):
        assert np.isfinite(report.metrics[name]), name
    assert 0 < report.metrics["val/whole/mae"] < 1


def trained(tmp_path: Path, store: str, refinement: dict[str, Any]) -> tuple[Trainer, StagePath]:
    """A fork from synthetic to real people of a refining model, with the restart of its statistics, after two steps."""
    packs = {name: tmp_path / name for name in ("real", "synthetic")}
    for name, seed in {"real": 0, "synthetic": 9}.items():
        if not packs[name].exists():
            write(packs[name], [person(k + seed) for k in range(4)])
    real, synthetic = (Source([Pack.open(path)]) for path in packs.values())
    behind = scenes(tmp_path / store)
    trainer = Trainer(
        spec(phase="refine", refinement={"backbone_scale": 0.5, "sample_pixels": 160, **refinement}),
        [real, synthetic],
        val=real,
        tests={},
        store_of=lambda namespace: Store(str(tmp_path / store), f"d/{namespace}".rstrip("/")),
        device=torch.device("cpu"),
        scenes=behind,
    )
    recipe = Recipe.from_params(
        {
            "schedule": "finetune",
            "adaptation": "real_bn",
            "real_fraction": 1.0,
            "synthetic_fraction": 1.0,
            "pretrain.steps": 2,
            "pretrain.lr": 0.01,
            "lr": 0.01,
        }
    )
    facts = [SourceFacts(source.digest, len(source)) for source in (real, synthetic)]
    training = Training(batch_size=4, optimizer="adam")
    problem = Problem(trainer.task.spec, training, *facts, rungs=(2,), backgrounds=behind.training.digest)
    path = path_of(recipe, problem, 0)
    list(trainer.train(path, (2,)))
    return trainer, path


@pytest.mark.parametrize("mode", ["thresholding", "full"])
def test_how_cells_are_chosen_in_evaluation_changes_no_weight(tmp_path: Path, mode: str) -> None:
    """Nor what the statistics restart from at a fork, though no cell is above the threshold."""
    weights = []
    for number, refinement in enumerate([{"mode": mode, "threshold": 0.999}, {"mode": "sampling"}]):
        trainer, path = trained(tmp_path, f"store-{number}", refinement)
        state = trainer.store_of("").load(path[-1].stage.key, 2)
        assert state is not None
        weights.append((path[-1].stage.key, state["model"]))
    assert weights[0][0] == weights[1][0]
    assert all(torch.equal(weights[0][1][name], tensor) for name, tensor in weights[1][1].items())


def test_statistics_restart_from_a_fixed_number_of_cells(tmp_path: Path) -> None:
    """The normalisation of the refiner sees 10 cells of each real sample, in evaluation mode too."""
    trainer, path = trained(tmp_path, "store", {"mode": "thresholding", "threshold": 0.999})
    model = trainer.task.build_model().eval()
    seen: list[int] = []
    model.get_submodule("refiner.conv1").register_forward_hook(lambda _, __, output: seen.append(len(output)))
    for batch in trainer.feed.once(path[-1].stage.real, trainer.task, path[-1].stage.seed):
        trainer.task.loss(model, batch)
    assert sum(seen) == 4 * 10
