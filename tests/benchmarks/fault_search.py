"""FaultySearch: one real search on real processes, to which something is done; what faults.py measures of it.

It is started as a user starts it, and what became of it is read where a user would look (MLflow, the study, the store,
the processes), but for its steps: each process writes down every step that it trains (fault_hooks.py), so that what is
trained twice is counted by what was done, not by what the search believes.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyarrow import fs

from search.study import read_study
from search.tracking import default_uri
from tests.conftest import write_toy_pack
from tests.nodes import Process, processes
from tests.search.test_run import last_metrics
from tests.toy import toy_search

ROOT = Path(__file__).resolve().parents[2]
HOOKS = Path(__file__).with_name("fault_hooks.py")
WAIT_S = 240.0  # for anything that must come
LEAVE_S = 30.0  # that processes may take to go after the command has ended
SEARCH = {  # two recipes of two seeds, long enough to be hit in the middle of a stage
    "schedule: [real_only, synthetic_only, finetune]": "schedule: [real_only, finetune]",
    "real_fraction: [0.5, 1.0]": "real_fraction: [1.0]",
    "pretrain: {steps: [4]": "pretrain: {steps: [80]",
    "budget: {steps: 6, rungs: [3, 6], seeds: 2}": "budget: {steps: 120, rungs: [40, 120], seeds: 2}",
}
SLOT = "slots: {count: 1}"
MIDDLE = 225  # of 640 steps: where most faults come


@dataclass(frozen=True)
class Step:
    """One training step: when it was done (unix seconds), by which process, and which one it was."""

    at: float
    process: int
    stage: str
    step: int


class FaultySearch:
    """A search in `folder`, over the packs in it.

    Every process of it carries a token in its environment, and is found by that whoever its parent is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packs = folder / "packs"
        self.results = folder / "results"
        self.store = str(self.results / "store")
        self.tracking = default_uri(self.results)
        self.options: list[str] = []  # of `run`
        self.driver: subprocess.Popen[bytes] | None = None
        self.runs = 0  # how often the command was started
        self.left: list[str] = []  # orphans of commands that ended in order before the last
        self.found: tuple[dict[str, str], list[str]] | None = None
        self.truth: dict[str, str] | None = None  # its table as it must be, where that is not the undisturbed search's
        self._token = f"FAULTS_TOKEN={uuid.uuid4().hex}"
        self._hit: float | None = None
        folder.mkdir(parents=True)
        name, value = self._token.split("=")
        self.environment = {
            name: value,
            **hooks(folder),
            "FAULTS_CLOCK": str(folder / "clock"),
            "OMP_NUM_THREADS": "1",
            "TITRATE_PACK_CACHE": str(folder / "cache"),
        }
        write_toy_pack(self.packs / "real", range(0, 24), synthetic=False)
        write_toy_pack(self.packs / "val", range(100, 112), synthetic=False)
        write_toy_pack(self.packs / "test", range(200, 210), synthetic=False)
        write_toy_pack(self.packs / "synthetic", range(300, 340), synthetic=True)
        self.configure()

    def configure(self, slots: str = SLOT, tracking: str = "", store: str = "") -> None:
        """Writes the search file: its slots, where MLflow is, where the store is."""
        more = {"sampler: grid": f"sampler: grid\n{slots}"}
        if tracking:
            self.tracking = tracking
            more["tracking: {"] = f"tracking: {{uri: '{tracking}', "
        if store:
            self.store = store
            more["sampler: grid"] += f"\nstore: {{uri: '{store}'}}"
        self.file = toy_search(self.packs, self.folder, SEARCH | more)

    # -- the command -------------------------------------------------------------------------------------------

    def start(self) -> subprocess.Popen[bytes]:
        """The command of a user at a terminal: it leads a process group, which Ctrl-C reaches as a whole."""
        self.runs += 1
        command = [sys.executable, "-m", "search", "run", str(self.file), "--results", str(self.results)]
        with (self.folder / "output").open("ab") as output:
            self.driver = subprocess.Popen(
                command + self.options,
                cwd=ROOT,
                env=os.environ | self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self.driver

    def end(self, *codes: int, timeout_s: float = WAIT_S) -> str:
        """Waits until the command has ended with one of these codes; all that was printed so far."""
        assert self.driver is not None
        code = self.driver.wait(timeout_s)
        if code not in codes:
            raise RuntimeError(f"`run` must end with {codes}, but ended with {code}:\n{self.output[-3000:]}")
        return self.output

    @property
    def output(self) -> str:
        try:
            return (self.folder / "output").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def close(self) -> None:
        """Ends whatever is left of it."""
        for _ in range(3):  # what was just being started
            for process in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.5)

    # -- what it does ------------------------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        """All steps that were trained, in the order of their times."""
        try:
            lines = (self.folder / "steps").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = (line.split() for line in lines)
        return sorted((Step(float(t), int(p), s, int(n)) for t, p, s, n in found), key=lambda step: step.at)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Waits for a condition while the command runs."""

        def ended_or_true() -> bool:
            assert self.driver is not None
            if self.driver.poll() is not None:
                raise RuntimeError(f"{what} must come, but the command ended:\n{self.output[-3000:]}")
            return bool(condition())

        self.until_there(ended_or_true, what)

    def until_there(self, condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> None:
        """Waits for a condition; TimeoutError when it does not come."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} must come within {timeout_s:.0f} s, but did not:\n{self.output[-3000:]}")
            time.sleep(0.02)

    def until_steps(self, count: int = MIDDLE) -> Step:
        """Waits until so many steps were trained; the newest."""
        self.until(lambda: len(self.steps()) >= count, f"training step {count}")
        return self.steps()[-1]

    def hit(self) -> None:
        """The fault is now."""
        self._hit = time.time()

    def kill(self, *processes: int, number: int = signal.SIGKILL) -> None:
        """The fault: a signal, by default kill -9."""
        self.hit()
        for process in processes:
            os.kill(process, number)

    def processes(self) -> list[Process]:
        """All processes of the search that are alive, its servers aside."""
        return [process for process in processes() if self._token.encode() in _environment(process.pid)]

    def titled(self, title: str) -> list[int]:
        return [process.pid for process in self.processes() if process.title.startswith(title)]

    # -- what became of it -------------------------------------------------------------------------------------

    def table(self) -> dict[str, str]:
        """Every metric of every recipe and seed as MLflow has it, and what the study was told of each recipe: the bits
        of each value by its name."""
        values = {
            f"{recipe} {seed} {name}": value
            for (recipe, seed), metrics in last_metrics(self.tracking).items()
            for name, value in metrics.items()
        }
        for trial in read_study("toy", self.results / "toy").get_trials(deepcopy=False):
            told: dict[Any, float] = {"value": trial.value or 0.0, **trial.intermediate_values}
            values |= {f"{trial.user_attrs['recipe']} {trial.state.name} {at}": value for at, value in told.items()}
        return {name: value.hex() for name, value in sorted(values.items())}

    def look(self) -> None:
        """Takes the table and the orphans now, while the servers that the search stands on are still there."""
        self.found = self.table(), self.orphans()

    def lost_steps(self) -> int:
        """How many steps were trained more than once."""
        steps = self.steps()
        return len(steps) - len({(step.stage, step.step) for step in steps})

    def still_s(self) -> float:
        """The longest time without a training step, after the fault or at all."""
        since = self._hit or 0.0
        times = [step.at for step in self.steps()]
        return max(after - max(before, since) for before, after in pairwise(times) if after > since)

    def orphans(self) -> list[str]:
        """What is left that nobody will take away: processes, runs that still say RUNNING, leases, claims, halves."""
        deadline = time.monotonic() + LEAVE_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return [
            *(f"process {process.pid} {process.title[:60]}" for process in left),
            *(f"run {name} {status}" for name, status in running(self.tracking)),
            *(path for path in objects(self.store) if path.endswith((".tmp", "/lease.json")) or "/claims/" in path),
        ]


def hooks(folder: Path, step_s: float = 0.0) -> dict[str, str]:
    """The environment of processes that write their training steps into FOLDER/steps, each of `step_s` at least."""
    place = folder / "hooks"
    place.mkdir()
    (place / "sitecustomize.py").write_text(f"import runpy\n\nrunpy.run_path({str(HOOKS)!r})\n")
    return {"PYTHONPATH": str(place), "FAULTS_STEPS": str(folder / "steps"), "FAULTS_STEP_S": str(step_s)}


def running(uri: str) -> list[tuple[str, str]]:
    """(name, status) of the MLflow runs that have not ended."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    return [(run.info.run_name, run.info.status) for run in runs if run.info.status in ("RUNNING", "SCHEDULED")]


def objects(store: str) -> list[str]:
    """The paths of all files under a store."""
    filesystem, root = fs.FileSystem.from_uri(store)
    found = filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    return [info.path for info in found if info.type == fs.FileType.File]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
