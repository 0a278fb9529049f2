"""Does a search of many short trials, under one random fault after another, end with the numbers of an undisturbed one?

    python tests/benchmarks/soak.py [--trials 500] [--every-s 8] [--seed 0] [--folder FOLDER]

A fixed list of recipes (a grid) is searched on a Ray cluster of a head and two nodes with two slots each. Every few
seconds (uniformly between half and one and a half times --every-s) one of these is done, drawn with the seed:

    worker      kill -9 of a process that trains            controller  of Ray Train's controller of a slot
    trial       of the actor of a trial                     dispatcher  of the actor that hands out the work
    node        of everything on a node; another one joins  notice      a node is said to go, and goes 10 s later
    driver      kill -9 of the command; the same again      ctrl_c      Ctrl-C, which ends it in order; the same again

The command is started again whenever it has ended before the search has, as a user would; where it ended otherwise than
it was asked to, the end of what it said is printed. At the end every metric of
every recipe in MLflow, and what the study was told, must be to the bit what plain training in one process gives,
without Ray and without sharing. A fault that finds nothing to hit (no such process just then) is not counted. The last
line is JSON.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from search.config import load  # noqa: E402
from search.study import read_study  # noqa: E402
from tests.benchmarks.fault_search import FaultySearch  # noqa: E402
from tests.nodes import Nodes, nodes  # noqa: E402
from tests.search.test_run import last_metrics  # noqa: E402
from tests.toy import RUNGS, toy_problem, toy_search, toy_trainer  # noqa: E402
from trainables.numerics import set_deterministic  # noqa: E402
from trainables.path import path_of  # noqa: E402

KILLED = {
    "worker": "ray::RayTrainWorker",
    "controller": "ray::TrainController",
    "trial": "ray::ResourceTrainable",
    "dispatcher": "ray::Dispatcher",
}
FAULTS = (*KILLED, "node", "notice", "driver", "ctrl_c")
SLOTS_ON_A_NODE = 2
NOTICE_S = 10.0
RUNS = 60  # of the command at most
ENDS = (0, 128 + signal.SIGINT, -signal.SIGKILL)  # complete, or as the fault has it
SHOWN = 40  # lines of a command that ended otherwise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--every-s", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        search = FaultySearch((given.folder or Path(folder)) / "search")
        lrs = [round(0.02 + 0.1 * number / given.trials, 6) for number in range(-(-given.trials // 2))]
        search.file = toy_search(
            search.packs,
            search.folder,
            {
                "schedule: [real_only, synthetic_only, finetune]": "schedule: [real_only, synthetic_only]",
                "real_fraction: [0.5, 1.0]": "real_fraction: [1.0]",
                "pretrain: {steps: [4], lr: [0.05]}": "",
                "lr: [0.1]": f"lr: {lrs}",
                "seeds: 2": "seeds: 1",
                "sampler: grid": f"sampler: grid\nslots: {{count: {2 * SLOTS_ON_A_NODE}}}",
            },
        )
        print(json.dumps(Soak(search, given.every_s, given.seed).run()))


class Soak:
    def __init__(self, search: FaultySearch, every_s: float, seed: int) -> None:
        self._search = search
        self._every_s = every_s
        self._draw = random.Random(seed)
        self._done: Counter[str] = Counter()

    def run(self) -> dict[str, object]:
        search = self._search
        began = time.monotonic()
        try:
            with nodes(search.environment, SLOTS_ON_A_NODE, SLOTS_ON_A_NODE) as cluster:
                search.environment = cluster.environment
                search.options = ["--address", cluster.address]
                self._to_its_end(cluster)
                self._print(f"ended after {time.monotonic() - began:.0f} s and {search.runs} runs of the command")
        finally:
            search.close()
        truth = self._truth()
        found = {key: metrics for (key, _), metrics in last_metrics(search.tracking).items()}
        told = {
            trial.user_attrs["recipe"]: trial.value
            for trial in read_study("toy", search.results / "toy").get_trials(deepcopy=False)
        }
        identical = found == truth and told == {key: metrics["val/miou"] for key, metrics in truth.items()}
        self._print(f"faults: {dict(self._done)}")
        return {
            "trials": len(found),
            "faults": self._done.total(),
            "identical": identical,
            "runs": search.runs,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "by_fault": dict(self._done),
        }

    def _to_its_end(self, cluster: Nodes) -> None:
        """The command, with faults, again and again until it has ended with a complete search."""
        search = self._search
        while True:
            command = search.start()
            if search.runs > RUNS:
                raise RuntimeError(f"the search must be complete within {RUNS} runs of its command:\n{search.output}")
            while command.poll() is None:
                due = time.monotonic() + self._every_s * self._draw.uniform(0.5, 1.5)
                while command.poll() is None and time.monotonic() < due:
                    time.sleep(0.1)
                if command.poll() is None and search.steps():
                    self._fault(cluster)
            said = search.output.splitlines()
            lines = said[-1:] if command.returncode in ENDS else said[-SHOWN:]
            self._print("\n    ".join([f"run {search.runs} ended with {command.returncode}:", *lines]))
            if command.returncode == 0:
                return

    def _fault(self, cluster: Nodes) -> None:
        search = self._search
        fault = self._draw.choice(FAULTS)
        workers = cluster.alive[1:]
        if fault in KILLED:
            victims = search.titled(KILLED[fault])
            if not victims:
                return
            with suppress(ProcessLookupError):
                os.kill(self._draw.choice(sorted(victims)), signal.SIGKILL)
        elif fault in ("node", "notice"):
            node = self._draw.choice(workers)
            if fault == "notice":
                cluster.give_notice(node)
                time.sleep(NOTICE_S)
            cluster.kill(node)
            cluster.add(SLOTS_ON_A_NODE)
        else:
            assert search.driver is not None
            search.driver.send_signal(signal.SIGKILL if fault == "driver" else signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                search.driver.wait(180)
        self._done[fault] += 1
        self._print(f"{self._done.total()}: {fault}")

    def _truth(self) -> dict[str, dict[str, float]]:
        """The metrics of every recipe by plain training in this process."""
        search = self._search
        set_deterministic(1)
        problem, trainer = toy_problem(search.packs), toy_trainer(search.packs, search.folder / "truth")
        recipes = load(search.file).space.enumerate()
        return {
            recipe.key: list(trainer.train(path_of(recipe, problem, 0), RUNGS, namespace=recipe.key))[-1].metrics
            for recipe in recipes
        }

    @staticmethod
    def _print(text: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    main()
