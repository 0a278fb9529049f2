"""A search on a cluster of three nodes: packs and store on an S3 server, MLflow a server with a database of its own.

Its slots are on the workers, one on each, and all else on the head. One worker is taken away with a notice, as a spot
instance is: its slot moves to the other node with its work. A second search, whose slot has two workers, is on a node
with the accelerator that it names.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from datasets import Pack
from datasets.copying import copy_pack
from search.config import load
from tests.benchmarks.fault_search import hooks
from tests.mlflow_server import MlflowServer
from tests.nodes import Nodes, nodes
from tests.s3 import S3, s3_server
from tests.search.test_run import last_metrics, runs_of
from tests.toy import SPEC, TRAINING, toy_search, toy_sources, toy_trainer
from trainables.numerics import set_deterministic
from trainables.path import path_of
from trainables.problem import Problem, SourceFacts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKS = ("real", "synthetic", "val", "test")
STEPS = 240
SLOW_S = 0.3  # of a step until the slot has moved: on a busy machine a notice takes half a minute to be heeded
SEARCH = {
    "schedule: [real_only, synthetic_only, finetune]": "schedule: [real_only, synthetic_only]",
    "real_fraction: [0.5, 1.0]": "real_fraction: [1.0]",
    "pretrain: {steps: [4], lr: [0.05]}": "",
    "budget: {steps: 6, rungs: [3, 6], seeds: 2}": f"budget: {{steps: {STEPS}, seeds: 1}}",
}


@dataclass
class Seen:
    """What was seen of the search while it ran, and what it left.

    actors   by node ("head", the worker that is "leaving" and the one that is "staying"), before the notice
    places   the node of each slot then; `moved` is where slot 1 was afterwards
    steps    where slot 1 was at the notice, and where it was first seen on its new node
    left     actors when the search had ended; `objects` is what its store holds
    pair     how many workers of the second search's slot were on the node with the accelerator, and how many elsewhere
    """

    output: str = ""
    uri: str = ""
    actors: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    moved: str = ""
    steps: tuple[int, int] = (0, 0)
    left: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    pair: tuple[int, int] = (0, 0)


class Running:
    """`search run` on a cluster, and what its status file says."""

    def __init__(self, name: str, file: Path, results: Path, cluster: Nodes) -> None:
        self._status = results / name / "status.json"
        self._log = results.parent / f"{name}.log"
        command = [sys.executable, "-m", "search", "run", str(file), "--results", str(results)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--address", cluster.address],
                cwd=ROOT,
                env={**os.environ, **cluster.environment},
                stdout=log,
                stderr=log,
            )

    def slots(self) -> dict[str, Any]:
        try:
            slots: dict[str, Any] = json.loads(self._status.read_text())["look"].get("slots", {})
        except FileNotFoundError:
            return {}
        return slots

    def pid(self, slot: str) -> int:
        return int(self.slots()[slot]["process"].split(":")[1])

    def step(self, slot: str) -> int:
        return int(self.slots().get(slot, {}).get("step") or 0)

    def until(self, holds: Callable[[], bool], what: str, timeout_s: float = 240.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, f"{what} did not come: {self.slots()}\n{self.output}"
            time.sleep(0.1)

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as served:
        yield served


@pytest.fixture(scope="module")
def seen(toy_packs: Path, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("nodes")
    for name in PACKS:
        copy_pack(Pack.open(toy_packs / name), s3.uri(f"bucket/packs/{name}"), overwrite=False)
    places = {f"{{packs}}/{name}": f"'{s3.uri(f'bucket/packs/{name}')}'" for name in PACKS}
    environment = {
        "OMP_NUM_THREADS": "1",
        "TITRATE_PACK_CACHE": str(folder / "cache"),
        **hooks(folder, SLOW_S),
        "FAULTS_WHILE": str(folder / "slow"),
    }
    server = MlflowServer(folder)
    server.start()
    try:
        with nodes(environment, 2, 2) as cluster:
            where = {
                "name: toy": f"name: toy\nstore: '{s3.uri('bucket/store')}'\nslots: {{count: 2}}",
                "tracking: {": f"tracking: {{uri: '{server.uri}', ",
            }
            file = toy_search("{packs}", folder, SEARCH | where)
            text = file.read_text()
            for place, uri in places.items():
                text = text.replace(place, uri)
            file.write_text(text)
            slow = folder / "slow"
            slow.touch()
            found = Seen(uri=server.uri)
            running = Running("toy", file, folder / "results", cluster)
            _taken_away(running, cluster, found, s3, hurry=slow.unlink)
            pair = {
                "name: toy": "name: pair",
                "slots: {count: 2}": "slots: {count: 1, workers: 2, accelerator_type: L4}",
                f"uri: '{server.uri}'": f"uri: 'sqlite:///{folder}/pair.db'",
            }
            for before, after in pair.items():
                assert before in text
                text = text.replace(before, after)
            (folder / "pair.yaml").write_text(text)
            slow.touch()
            cluster.add(2, accelerator_type="L4")
            running = Running("pair", folder / "pair.yaml", folder / "results", cluster)
            found.pair = _placed(running, cluster, hurry=slow.unlink)
            yield found
    finally:
        server.end()


def _taken_away(running: Running, cluster: Nodes, seen: Seen, s3: S3, hurry: Callable[[], None]) -> None:
    """Gives notice to a node when its slot is in the middle, and takes it away when nothing is on it any more."""
    running.until(lambda: len(running.slots()) == 2 and min(map(running.step, ("0", "1"))) > 10, "training")
    leaving = cluster.of(running.pid("1"))
    names = {"head": cluster.head, "leaving": leaving}
    names["staying"] = next(node for node in cluster.alive if node not in names.values())
    place = {node.pid: name for name, node in names.items()}
    seen.actors = {name: [p.title for p in cluster.actors(node)] for name, node in names.items()}
    seen.places = {slot: place[cluster.of(running.pid(slot)).pid] for slot in ("0", "1")}
    before = running.pid("1")
    cluster.give_notice(leaving)
    at = running.step("1")
    running.until(lambda: running.pid("1") != before and running.step("1") > 0, "the slot on another node")
    seen.steps = at, running.step("1")
    hurry()
    seen.moved = place[cluster.of(running.pid("1")).pid]
    running.until(lambda: not any("Train" in p.title for p in cluster.actors(leaving)), "the end of the old workers")
    cluster.kill(leaving)
    assert running.process.wait(300) == 0, running.output
    deadline = time.monotonic() + 30
    while (left := [p.title for node in cluster.alive for p in cluster.actors(node)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    seen.output, seen.left = running.output, left
    filesystem, root = fs.FileSystem.from_uri(s3.uri("bucket/store"))
    seen.objects = [info.path for info in filesystem.get_file_info(fs.FileSelector(root, recursive=True))]


def _placed(running: Running, cluster: Nodes, hurry: Callable[[], None]) -> tuple[int, int]:
    """How many workers are on the newest node, and on the others, while the slot trains; the search is then ended."""
    running.until(lambda: running.step("0") > 0, "training")
    workers = [sum("RayTrainWorker" in p.title for p in cluster.actors(node)) for node in cluster.alive]
    hurry()
    assert running.process.wait(300) == 0, running.output
    return workers[-1], sum(workers[:-1])


@pytest.fixture(scope="module")
def truth(toy_packs: Path, seen: Seen, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Any]:
    """The metrics of every recipe as plain training in this process gives them."""
    folder = tmp_path_factory.mktemp("truth")
    set_deterministic(1)
    sources = toy_sources(toy_packs)
    real, synthetic = (SourceFacts(sources[name].digest, len(sources[name])) for name in ("real", "synthetic"))
    problem = Problem(SPEC, TRAINING, real, synthetic, (STEPS,))
    trainer = toy_trainer(toy_packs, folder)
    recipes = load(toy_search(toy_packs, folder, SEARCH)).space.enumerate()
    paths = {(recipe.key, 0): path_of(recipe, problem, 0) for recipe in recipes}
    return {key: list(trainer.train(path, (STEPS,)))[-1].metrics for key, path in paths.items()}


def test_slots_are_on_the_workers_one_on_each_and_all_else_is_on_the_head(seen: Seen) -> None:
    assert seen.places == {"0": "staying", "1": "leaving"} or seen.places == {"0": "leaving", "1": "staying"}
    for name in ("staying", "leaving"):
        assert sum("RayTrainWorker" in title for title in seen.actors[name]) == 1, seen.actors
        assert not [title for title in seen.actors[name] if "Dispatcher" in title or "RecipeTrial" in title]
    assert sum("Dispatcher" in title for title in seen.actors["head"]) == 1, seen.actors
    assert not [title for title in seen.actors["head"] if "RayTrainWorker" in title]


def test_a_slot_whose_node_is_taken_away_moves_with_its_work(seen: Seen) -> None:
    assert seen.moved == "staying"
    at, again = seen.steps
    assert again >= at  # nothing was trained twice: the notice came, and was heeded, later than `at`
    assert "search toy: 2 of 2 recipes done" in seen.output


def test_a_slot_is_on_a_node_with_its_accelerator_and_all_of_its_workers_together(seen: Seen) -> None:
    assert seen.pair == (2, 0)


def test_every_number_is_that_of_plain_training(seen: Seen, truth: dict[tuple[str, int], Any]) -> None:
    assert last_metrics(seen.uri) == truth
    assert {one.info.status for one in runs_of(seen.uri).values()} == {"FINISHED"}


def test_nothing_is_left_on_the_nodes_or_the_store(seen: Seen) -> None:
    assert seen.left == []
    assert not [path for path in seen.objects if path.endswith((".tmp", "/lease.json")) or "claims/" in path]
    assert [path for path in seen.objects if path.endswith(".ckpt")]


def test_no_secret_is_shown(seen: Seen) -> None:
    assert "secret" not in seen.output
