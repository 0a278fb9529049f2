"""The search file: what is right is read as it is meant, and what is wrong gets one line that names file and field."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.config import ConfigError, load
from search.problem import open_problem
from search.shape import Node, SlotsConfig
from tests.toy import SEARCH, toy_search


def write(folder: Path, change: Any = None) -> Path:
    raw = yaml.safe_load(SEARCH.format(packs="packs"))
    raw = copy.deepcopy(raw)
    if change:
        change(raw)
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def put(field: str, value: Any) -> Any:
    def change(raw: dict[str, Any]) -> None:
        *parents, last = field.split(".")
        for name in parents:
            raw = raw.setdefault(name, {})
        raw[last] = value

    return change


def test_paths_are_meant_from_the_files_folder(tmp_path: Path) -> None:
    config = load(write(tmp_path))
    assert config.sets() == {
        "real": (str(tmp_path / "packs/real"),),
        "synthetic": (str(tmp_path / "packs/synthetic"),),
        "val": (str(tmp_path / "packs/val"),),
        "test/same": (str(tmp_path / "packs/test"),),
    }


def test_a_source_may_be_several_packs_and_a_uri_stays(tmp_path: Path) -> None:
    config = load(write(tmp_path, put("data.real", {"a": ["x", "s3://bucket/y"], "b": "/z"})))
    assert config.sets()["real"] == (str(tmp_path / "x"), "s3://bucket/y", "/z")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("budgett", 1, "unknown key 'budgett'; did you mean 'budget'?"),
        ("training.lr_schedule", "poly", "budget.rungs must be left out with training.lr_schedule poly"),
        ("task.pretrained", "no.pth", "no.pth: must be a file of published weights, but: No such file or directory"),
        ("task.output_stride", 16, "task: output_stride must be 8 for drn_d_22, but got 16"),
        ("budget.trails", 1, "unknown key 'budget.trails'; did you mean 'budget.trials'?"),
        ("space.lrs", [1.0], "unknown key 'space.lrs'; did you mean 'space.lr'?"),
        ("budget.steps", "many", "budget.steps: must be a valid integer"),
        ("space.lr", {"low": 2, "high": 1}, "space.lr: `low < high` must hold, but got (low=2, high=1)"),
        ("space.lr", {"low": 0, "high": 1, "log": True}, "space.lr: `low > 0` must hold on a log scale, but got low=0"),
        (
            "space.lr",
            {"low": 0.1, "high": 1, "log": True, "sqrt": True},
            "space.lr: must be on one scale, but",
        ),
        ("space.lr", [], "space.lr: must list at least one value, but the list is empty"),
        ("space.lr", [-1.0], "space.lr: `0 < lr < inf` must hold, but got -1"),
        ("space.lr", [float("nan")], "space.lr: `0 < lr < inf` must hold, but got nan"),
        ("space.lr", "x", "space.lr: must be a list, but got 'x'"),
        ("space.lr", {"low": 0.1, "high": 1}, "space.lr must be a list for sampler grid"),
        ("space.real_fraction", [0.5, 0.5], "space.real_fraction: must list each value once, but got [0.5, 0.5]"),
        ("space.real_fraction", [1.5], "space.real_fraction: `0 < fraction <= 1` must hold, but got 1.5"),
        ("space.synthetic_share", [0.5, 1.0], "space.synthetic_share: `0 < share < 1` must hold, but got 1; 0 is"),
        ("space.synthetic_share", [0], "space.synthetic_share: `0 < share < 1` must hold, but got 0"),
        ("space.synthetic_share", {"low": 0, "high": 0.5}, "space.synthetic_share: `0 < share < 1` must hold"),
        ("space.synthetic_share", {"low": 0.5, "high": 1}, "space.synthetic_share: `0 < share < 1` must hold"),
        ("space.schedule", ["real_onyl"], "space.schedule.0: must be 'real_only'"),
        ("space.schedule", ["real_only"], "space: adaptation is given, but no schedule of ['real_only'] has it"),
        ("space.schedule", ["mixed"], "space: synthetic_share must be given, since schedule 'mixed' needs it"),
        ("data.synthetic", {}, "data.synthetic must name a pack, since synthetic_only reads synthetic images"),
        ("data.val", 3, "data.val: must be"),
        ("data.val", [], "data.val: must name at least one pack, but got []"),
        ("data.real", {"street": []}, "data.real.street: must name at least one pack, but got []"),
        ("data.test", {"street": ""}, "data.test.street: must name at least one pack, but got ''"),
        ("store", "s4://bucket/x", "store: must be a folder or a URI that pyarrow opens"),
        ("store", "s4://bucket/x", "but got 's4://bucket/x': Unrecognized filesystem type"),
        ("task.kind", "mating", "task.kind: must be one of 'segmentation', "),
        ("task", {"points": 51}, "task.kind must be given, but it is absent"),
        ("task", {"kind": "landmarks", "stack": 1}, "unknown key 'task.stack'; did you mean 'task.stacks'?"),
        ("task", {"kind": "landmarks", "points": 50}, "task.points: must be 51 or 68, but got 50"),
        ("task.resolution", 63, "task.resolution: must be a multiple of 8, but got 63"),
        ("sampler", "annealing", "sampler: must be"),
        ("sampler", "tpe", "budget.trials must be given for sampler tpe"),
        ("constraints", {"num_labels": {"max": 9}}, "constraints.num_labels: must be a cost, one of num_real_labels, "),
        ("constraints", {"test/same/miou": {"max": 9}}, "or a metric that begins with val/, not 'test/same/miou'"),
        ("constraints", {"steps": {}}, "constraints.steps: must give min, max or both"),
        ("objective", {"metric": "test/same/miou"}, "objective: metric must begin with val/"),
        ("budget.rungs", [3, 5], "budget: rungs must ascend and end at steps=6, but got [3, 5]"),
        ("slots", {"gpus_per_worker": 1.5}, "must be a share of one GPU or a whole number, but got 1.5"),
        ("slots", {"count": 0}, "slots.count: must be a number of at least 1, or auto, but got 0"),
        ("name", "a b", "name: must be letters, digits"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_file_and_field(tmp_path: Path, field: str, value: Any, says: str) -> None:
    path = write(tmp_path, put(field, value))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("store", "read"), [("my store", "{}/my store"), ("file:///x/y", "file:///x/y")])
def test_a_store_is_a_folder_beside_the_file_or_a_uri(tmp_path: Path, store: str, read: str) -> None:
    assert load(write(tmp_path, put("store", store))).store.uri == read.format(tmp_path)


@pytest.mark.parametrize(
    ("size", "nodes", "fits"),
    [
        ((1, 1, 0), [(4, 0), (2, 8)], 6),
        ((1, 3, 0), [(4, 0), (2, 0), (7, 0)], 3),  # a worker's CPUs are on one node
        ((2, 3, 0), [(4, 0), (2, 0), (7, 0)], 1),  # two workers may be on two
        ((1, 1, 1), [(16, 4), (2, 4)], 6),  # the second node has CPUs for two
        ((1, 2, 0.25), [(16, 2)], 8),
        ((1, 1, 0.1), [(16, 1)], 10),
        ((1, 1, 0.3), [(16, 4)], 12),  # three on each GPU, though all four together have room for 13.3
        ((4, 1, 1), [(8, 2), (8, 2), (8, 3)], 1),
        ((1, 1, 2), [(8, 1), (8, 3), (8, 1)], 1),  # five GPUs, but two on one node once
        ((1, 1, 1), [(8, 0.0)], 0),
    ],
)
def test_slots_fit_where_each_worker_has_its_node(
    size: tuple[int, int, float], nodes: list[tuple[float, float]], fits: int
) -> None:
    from search.pool import slot_count

    slots = SlotsConfig(workers=size[0], threads=size[1], gpus_per_worker=size[2])
    cluster = [Node(*node) for node in nodes]
    assert slots.fit(cluster) == fits
    if fits:
        assert slot_count(slots, cluster) == fits
    for count in {1, fits + 1} - {fits}:
        if count > fits:
            with pytest.raises(ValueError, match=f"the cluster must hold {count} x") as caught:
                slot_count(slots.model_copy(update={"count": count}), cluster)
            assert "\n" not in str(caught.value)


def test_slots_are_on_gpus_of_one_model() -> None:
    from search.pool import slot_count

    slots = SlotsConfig(gpus_per_worker=1)
    a100 = Node(16, 4, frozenset({"A100", "A100-80G"}))
    cluster = [Node(8, 0), Node(8, 2, frozenset({"T4"})), a100, a100]
    with pytest.raises(ValueError, match=r"slots.accelerator_type must name one .* the cluster has A100, A100-80G, T4"):
        slots.on_one_model(cluster)
    for model, fits in {"A100": 8, "A100-80G": 8, "T4": 2}.items():
        named = SlotsConfig(gpus_per_worker=1, accelerator_type=model)
        assert named.on_one_model(cluster) == named
        assert slot_count(named, cluster) == fits
    found = slots.on_one_model(cluster[2:])  # and stays there when nodes of another model join
    assert found.fit(cluster) == 8
    assert SlotsConfig().on_one_model(cluster).fit(cluster) == 48  # of processors nothing is known beforehand
    with pytest.raises(ValueError, match=r"1 workers of 1 CPUs and 1 GPUs of L4, .* 8 CPUs and 2 GPUs \(T4\), "):
        slot_count(SlotsConfig(gpus_per_worker=1, accelerator_type="L4"), cluster)


def test_a_share_without_synthetic_images_is_refused(tmp_path: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["space"] = {
            "schedule": ["mixed"],
            "adaptation": ["none"],
            "real_fraction": [1.0],
            "synthetic_fraction": [1.0],
            "synthetic_share": [0.5],
            "lr": [0.1],
        }
        del raw["data"]["synthetic"]

    with pytest.raises(ConfigError, match=r"data\.synthetic must name a pack, since mixed reads synthetic images"):
        load(write(tmp_path, change))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name: [", "must be YAML, but in line"),
        (b"- a", "must be a mapping"),
        (b"\xff\xfe\x00", "must be readable text"),
        (b"!!python/object/apply:os.system [true]", "must be YAML"),
    ],
)
def test_a_file_that_is_no_search_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "search.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the search file must exist"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "search" / "examples").rglob("*.yaml")))
def test_every_example_is_a_search(path: Path) -> None:
    assert load(path).space.schedule


def test_the_readmes_search_file_is_a_search(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(name:.*?)```", readme, flags=re.DOTALL)
    path = tmp_path / "readme.yaml"
    path.write_text(block, encoding="utf-8")
    assert load(path).budget.seeds == 3


def test_a_metric_that_is_bounded_is_one_of_the_task_s(toy_packs: Path, tmp_path: Path) -> None:
    bounds = {"sampler: grid": "sampler: grid\nconstraints: {steps: {max: 9}, val/fwiou: {min: 0.1}}"}
    assert open_problem(load(toy_search(toy_packs, tmp_path, bounds))).problem.steps == 6
    bounds = {"sampler: grid": "sampler: grid\nconstraints: {steps: {max: 9}, val/fwio: {min: 0.1}}"}
    with pytest.raises(ValueError, match=r"^constraints must bound metrics of val/miou, .*; but got 'val/fwio'$"):
        open_problem(load(toy_search(toy_packs, tmp_path, bounds)))


RECIPE = {"schedule": "real_only", "real_fraction": 0.5, "lr": 0.1}
TRUNK = {"adaptation": "none", "real_fraction": 0.5, "synthetic_fraction": 1.0}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "enqueue[1].schedule must be given, but it is absent"),
        (RECIPE | {"schedule": "mixed"}, "enqueue[1].schedule must be one of real_only, synthetic_only, finetune, but"),
        (RECIPE | {"lr": 0.2}, "enqueue[1].lr must be one of 0.1, but got 0.2"),
        (RECIPE | {"lr": True}, "enqueue[1].lr must be one of 0.1, but got True"),
        ({"schedule": "real_only", "lr": 0.1}, "enqueue[1].real_fraction must be given, but it is absent"),
        (RECIPE | {"lrs": 0.1}, "enqueue[1].lrs must be one of schedule, real_fraction, lr, which such a recipe has"),
        (RECIPE | {"pretrain": {"steps": 4}}, "enqueue[1].pretrain.steps must be one of schedule, real_fraction, lr, "),
        (
            {"schedule": "finetune", **TRUNK, "pretrain": {"steps": 5, "lr": 0.05}, "lr": 0.1},
            "enqueue[1].pretrain.steps must be one of 4, but got 5",
        ),
        (
            {"schedule": "synthetic_only", "adaptation": "fda", "synthetic_fraction": 1.0, "lr": 0.1},
            "enqueue[1].adaptation must be one of none, but got 'fda'",
        ),
    ],
)
def test_an_enqueued_recipe_is_one_of_the_space(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    assert load(
        write(
            tmp_path,
            put(
                "enqueue",
                [RECIPE, {"schedule": "finetune", **TRUNK, "lr": "1e-1"} | {"pretrain": {"steps": 4, "lr": 0.05}}],
            ),
        )
    ).enqueue
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, put("enqueue", [RECIPE, given])))
    assert str(caught.value).startswith(f"{tmp_path / 'search.yaml'}: {says}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("factors", "lr", "says"),
    [
        ([0.1, 0.5], 0.01, "enqueue[0].lr must be one of 0.005, 0.025, parts of pretrain.lr 0.05, but got 0.01"),
        ({"low": 0.1, "high": 1}, 0.5, "enqueue[0].lr must be a number in [0.005, 0.05], parts of pretrain.lr 0.05"),
    ],
)
def test_an_enqueued_rate_is_a_part_of_the_trunk_s(tmp_path: Path, factors: Any, lr: float, says: str) -> None:
    def change(raw: dict[str, Any]) -> None:
        recipe = {"schedule": "finetune", **TRUNK, "pretrain": {"steps": 4, "lr": 0.05}, "lr": lr}
        raw |= {"sampler": "random", "enqueue": [recipe]}
        raw["budget"]["trials"] = 9
        raw["space"]["lr_factor"] = factors

    with pytest.raises(ConfigError, match=re.escape(says)):
        load(write(tmp_path, change))


ONE = {
    "schedule": ["mixed"],
    "adaptation": ["none"],
    "real_fraction": {"low": 0.1, "high": 1},
    "synthetic_fraction": [1.0],
    "synthetic_share": {"low": 0.1, "high": 0.9},
    "lr": [0.1],
}
SEVERAL = {"against": ["num_real_labels"]}


@pytest.mark.parametrize(
    ("sampler", "space", "objective", "says"),
    [
        ("gp", ONE | {"schedule": ["mixed", "real_only"]}, {}, "sampler gp needs recipes that all have the same"),
        ("gp", ONE | {"adaptation": ["none", "fda"]}, {}, "the same parameters, but only some have fda.beta; list one"),
        ("cmaes", ONE | {"schedule": ["mixed", "real_only"]}, {}, "sampler cmaes needs recipes that all have the same"),
        ("cmaes", ONE | {"lr": [0.1, 0.2]}, {}, "space.lr must be a range or one value for sampler cmaes"),
        (
            "cmaes",
            ONE | {"real_fraction": [1.0]},
            {},
            "space must have at least two ranges for sampler cmaes",
        ),
        ("cmaes", ONE, SEVERAL, "objective.against must be left out for sampler cmaes, which has one objective"),
        ("grid", ONE, {}, "space.real_fraction must be a list for sampler grid"),
        *(("gp", ONE | {"adaptation": ["none", "dsbn"], "lr": [0.1, 0.2]}, one, None) for one in ({}, SEVERAL)),
        ("cmaes", ONE, {}, None),
        *((sampler, ONE, SEVERAL, None) for sampler in ("tpe", "nsga", "qmc", "random")),
        *((sampler, ONE | {"schedule": ["mixed", "real_only"]}, {}, None) for sampler in ("tpe", "nsga", "qmc")),
    ],
)
def test_a_sampler_is_refused_in_a_space_that_it_cannot_search(
    tmp_path: Path, sampler: str, space: dict[str, Any], objective: dict[str, Any], says: str | None
) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw |= {"sampler": sampler, "space": space, "objective": objective}
        raw["budget"]["trials"] = 9

    path = write(tmp_path, change)
    if says is None:
        assert load(path).sampler == sampler
        return
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
