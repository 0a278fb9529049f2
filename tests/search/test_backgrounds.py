"""Backgrounds go from the search file to slots and keys, and wrong ones are told before anything starts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datasets import PackError, write_pack
from search.config import ConfigError, load
from search.problem import open_problem
from search.slots import SlotJob, make_trainer
from tests.trainables.matting import SIZE, person
from trainables.path import path_of

MATTING: dict[str, Any] = {
    "name": "toy-matting",
    "task": {
        "kind": "matting",
        "width": 0.125,
        "resolution": SIZE,
        "phase": "refine",
        "base": {"steps": 2, "lr": 0.01},
    },
    "data": {
        "real": {"people": "people"},
        "val": "val",
        "backgrounds": {"train": "rooms", "evaluation": ["halls", "gardens"]},
    },
    "space": {"schedule": ["real_only"], "real_fraction": [1.0], "lr": [0.01]},
    "objective": {"metric": "val/mae", "mode": "min"},
    "budget": {"steps": 2, "seeds": 1},
    "sampler": "grid",
    "training": {"optimizer": "adam", "weight_decay": 0, "batch_size": 2, "warmup": 0},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, first in (("people", 0), ("val", 10)):
        rows = ({"id": str(i), **person(i)} for i in range(first, first + 3))
        write_pack(tmp_path / name, rows, source={"format": "test"})
    rng = np.random.Generator(np.random.Philox(5))
    for name in ("rooms", "halls", "gardens"):
        rows = ({"image": rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)} for _ in range(2))
        write_pack(tmp_path / name, rows, source={"format": "test"})
    return tmp_path


def write(folder: Path, **data: Any) -> Path:
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(MATTING | {"data": MATTING["data"] | data}), encoding="utf-8")
    return path


def test_a_slot_trains_both_phases_before_the_drivers_backgrounds(folder: Path) -> None:
    config = load(write(folder))
    opened = open_problem(config)
    assert {name: len(packs) for name, packs in opened.backgrounds.items()} == {"train": 1, "evaluation": 2}
    shown = {(fact.name, fact.context) for fact in opened.facts_of(config.space.enumerate()[0])}
    assert {("rooms", "train backgrounds"), ("halls", "evaluation backgrounds")} < shown
    job = SlotJob(
        config.task,
        opened.packs,
        opened.backgrounds,
        str(folder / "store"),
        "me",
        threads=1,
        loaders=0,
        cache_bytes=2**20,
    )
    path = path_of(config.space.enumerate()[0], opened.problem, 0)
    assert [leg.stage.task.phase for leg in path] == ["base", "refine"]
    assert {leg.stage.backgrounds for leg in path} == {opened.digests["backgrounds.train"]}
    (report,) = make_trainer(job, 1).train(path, (2,))
    assert report.steps_trained == 4
    assert np.isfinite(report.metrics["val/whole/mae"])
    # Other rooms to train in are another training; other rooms to be evaluated in are not, and are evaluated anew.
    other = open_problem(load(write(folder, backgrounds={"train": "gardens", "evaluation": "halls"})))
    assert path_of(config.space.enumerate()[0], other.problem, 0)[0].stage.key != path[0].stage.key
    moved = open_problem(load(write(folder, backgrounds={"train": "rooms", "evaluation": "gardens"})))
    assert path_of(config.space.enumerate()[0], moved.problem, 0)[-1].stage.key == path[-1].stage.key
    job = SlotJob(
        config.task,
        moved.packs,
        moved.backgrounds,
        str(folder / "store"),
        "me",
        threads=1,
        loaders=0,
        cache_bytes=2**20,
    )
    (again,) = make_trainer(job, 1).train(path, (2,))
    assert again.steps_trained == 0
    assert again.metrics["val/whole/mae"] != report.metrics["val/whole/mae"]


@pytest.mark.parametrize(
    ("backgrounds", "says"),
    [
        (None, "data.backgrounds must be given for task.kind matting"),
        ({"train": "rooms"}, "data.backgrounds.evaluation must be given"),
        (
            {"train": "rooms", "evaluation": "rooms"},
            "data.backgrounds.evaluation: .*rooms must not be one that is trained",
        ),
        ({"train": ["rooms", "rooms"], "evaluation": "halls"}, "data.backgrounds.train must name each pack once"),
        ({"train": "none", "evaluation": "halls"}, "none: no pack here"),
        ({"train": "people", "evaluation": "halls"}, "people: backgrounds must be a column background or image"),
    ],
)
def test_wrong_backgrounds_are_one_line(folder: Path, backgrounds: Any, says: str) -> None:
    with pytest.raises((ConfigError, PackError, ValueError), match=says) as caught:
        open_problem(load(write(folder, backgrounds=backgrounds)))
    assert "\n" not in str(caught.value)
