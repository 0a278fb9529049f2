"""A Ray cluster of several nodes on this machine, each started as on a machine of its own, by `ray start`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.s3 import free_port

START_S = 240.0  # that a node may take on a busy machine, in
STARTS = 3  # tries: Ray picks the ports of its processes at random, and one may be taken
_RAY = [sys.executable, "-m", "ray.scripts.scripts"]
_SMALL = ["--object-store-memory=100000000", "--dashboard-agent-listen-port=0"]
# What Ray keeps for itself: on every node, and once in a cluster.
_RAYS_OWN = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::_AutoscalingCoordinatorActor")


@dataclass(frozen=True)
class Process:
    """A process that is alive, with the title that Ray gives it or its command line."""

    pid: int
    parent: int
    title: str


def processes() -> list[Process]:
    """All processes of this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:  # it has ended
                continue
            if state != "Z":
                found.append(Process(int(entry.name), int(parent), title))
    return found


class Nodes:
    """A head without slots, and workers that are added one by one; a token keeps others out.

    environment  of all nodes, and of whoever connects to `address`
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
        patience = {"RAY_raylet_start_wait_time_s": str(int(START_S / STARTS))}
        self.environment = {**environment, **token, **patience, "RAY_USAGE_STATS_ENABLED": "0"}
        self.address = f"127.0.0.1:{free_port()}"
        self._folder = Path(tempfile.mkdtemp(prefix="nodes-"))  # short: sockets have their paths in it
        self._started = 0
        self.alive: list[subprocess.Popen[bytes]] = []
        port = self.address.rpartition(":")[2]
        try:
            self.head = self._start("--head", f"--port={port}", "--include-dashboard=false", "--num-cpus=0")
        except RuntimeError:
            self.end()
            raise

    def add(self, *num_cpus: int, accelerator_type: str = "") -> None:
        """More nodes, of so many CPUs each; they have joined. (Two that start at once take the same socket.)

        To Ray each has a GPU of the type, where one is given: no GPU is there, and slots without one are placed alike.
        """
        resources = json.dumps({f"accelerator_type:{accelerator_type}": 1} if accelerator_type else {})
        for count in num_cpus:
            for attempt in range(1, STARTS + 1):
                try:
                    self._start(f"--address={self.address}", f"--num-cpus={count}", f"--resources={resources}")
                    break
                except RuntimeError:
                    if attempt == STARTS:
                        raise

    def of(self, pid: int) -> subprocess.Popen[bytes]:
        """The node that a process runs on."""
        return next(node for node in self.alive if pid in self.on(node))

    def on(self, node: subprocess.Popen[bytes]) -> list[int]:
        """All processes of a node, itself first."""
        everything, found = processes(), [node.pid]
        for pid in found:  # which grows meanwhile
            found += [process.pid for process in everything if process.parent == pid]
        return found

    def actors(self, node: subprocess.Popen[bytes]) -> list[Process]:
        """The actors and tasks that run on a node."""
        on = set(self.on(node))
        return [p for p in processes() if p.pid in on and p.title.startswith("ray::") and p.title not in _RAYS_OWN]

    def give_notice(self, node: subprocess.Popen[bytes]) -> None:
        """Says that a node will be taken away in a minute, as a watcher of spot notices does."""
        on = set(self.on(node))
        raylet = next(p for p in processes() if p.pid in on and "--raylet_socket_name=" in p.title)
        (name,) = (word.partition("=")[2] for word in raylet.title.split() if word.startswith("--node_id="))
        notice = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=60"]
        command = [*_RAY, "drain-node", f"--address={self.address}", f"--node-id={name}", *notice]
        subprocess.run(command, env={**os.environ, **self.environment}, check=True, capture_output=True)

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """kill -9 of everything on a node, itself last."""
        for pid in reversed(self.on(node)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()
        self.alive.remove(node)

    def end(self) -> None:
        while self.alive:
            self.kill(self.alive[-1])
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        self._started += 1
        # A folder of its own, as on a machine of its own: a node that joins makes the code's folder anew, which the
        # others would read just then. Nor is it where a plain `ray.init()` looks for a cluster to join.
        own = self._folder / str(self._started)
        log = self._folder / f"{self._started}.log"
        with log.open("wb") as out:
            node = subprocess.Popen(
                [*_RAY, "start", "--block", *_SMALL, f"--temp-dir={own}", *options],
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.alive.append(node)
        deadline = time.monotonic() + START_S
        while "Ray runtime started" not in (said := log.read_text(errors="replace")):
            if node.poll() is not None or time.monotonic() > deadline:
                self.kill(node)
                raise RuntimeError(f"a node must start within {START_S:.0f} s, but did not:\n{said}")
            time.sleep(0.1)
        return node


@contextmanager
def nodes(environment: Mapping[str, str], *num_cpus: int) -> Iterator[Nodes]:
    """A head and workers of so many CPUs each."""
    cluster = Nodes(environment)
    try:
        cluster.add(*num_cpus)
        yield cluster
    finally:
        cluster.end()
