"""The rows of faults.py on a Ray cluster: a head without slots and two workers of one CPU, each started as on a machine
of its own, of which one goes away with everything on it."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.benchmarks.fault_search import WAIT_S, FaultySearch, Process
from tests.s3 import free_port

RAYS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::_AutoscalingCoordinatorActor")  # of a cluster


class _Cluster:
    """`ray start` of a head and two workers, in the environment of a search, which is found by its token."""

    def __init__(self, search: FaultySearch) -> None:
        self._search = search
        search.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}  # of the driver too
        self._environment = os.environ | search.environment | {"RAY_USAGE_STATS_ENABLED": "0"}
        self.address = f"127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        # Its own folder, and not the one where a plain `ray.init()` looks for a cluster to join.
        self._temp = f"/tmp/faults-{port}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._add("--head", f"--port={port}", "--include-dashboard=false", "--num-cpus=0", f"--temp-dir={self._temp}")
        search.until_there(lambda: "Ray runtime started" in self._log(0), "the head")
        for number in (1, 2):
            self._add(f"--address={self.address}", "--num-cpus=1")
            search.until_there(lambda n=number: "Ray runtime started" in self._log(n), "a worker")  # type: ignore[misc]

    def node_of(self, pid: int) -> subprocess.Popen[bytes]:
        """The node whose process this is."""
        return next(node for node in self.nodes if pid in self.on(node))

    def on(self, node: subprocess.Popen[bytes]) -> list[int]:
        """All processes of a node, itself first."""
        alive, found = self._search.processes(), [node.pid]
        for pid in found:  # which grows meanwhile
            found += [process.pid for process in alive if process.parent == pid]
        return found

    def actors(self) -> list[Process]:
        return [p for p in self._search.processes() if p.title.startswith("ray::") and p.title not in RAYS]

    def end(self) -> None:
        for node in self.nodes:
            for pid in self.on(node):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.wait()

    def _log(self, number: int) -> str:
        return (self._search.folder / f"node-{self.address[-5:]}-{number}.log").read_text(errors="replace")

    def _add(self, *options: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        name = f"node-{self.address[-5:]}-{len(self.nodes)}.log"
        with (self._search.folder / name).open("wb") as log:
            node = subprocess.Popen(
                [*command, "--object-store-memory=100000000", *options],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)


@contextmanager
def _on_a_cluster(search: FaultySearch) -> Iterator[_Cluster]:
    cluster = _Cluster(search)
    search.options = ["--address", cluster.address]
    try:
        yield cluster
    finally:
        cluster.end()


def _left(search: FaultySearch, cluster: _Cluster) -> None:
    """Actors that outlive the search's command on its cluster are left behind."""
    with suppress(TimeoutError):
        search.until_there(lambda: not cluster.actors(), "the end of actors", 30.0)
    search.left += [f"actor {process.pid} {process.title}" for process in cluster.actors()]


def worker_node(search: FaultySearch) -> None:
    """kill -9 of everything on the node whose slot trains."""
    with _on_a_cluster(search) as cluster:
        search.start()
        node = cluster.node_of(search.until_steps().process)
        search.kill(*reversed(cluster.on(node)))
        search.end(0)
        _left(search, cluster)


def head_node(search: FaultySearch) -> None:
    """kill -9 of everything on the head; a new cluster, and the same command again."""
    with _on_a_cluster(search) as cluster:
        command = search.start()
        search.until_steps()
        search.kill(*reversed(cluster.on(cluster.nodes[0])))
        if command.wait(WAIT_S) == 0:
            raise RuntimeError("the command must end with an error when the head is gone, but ended with 0")
    with _on_a_cluster(search) as cluster:
        search.start()
        search.end(0)
        _left(search, cluster)


NODES = (worker_node, head_node)
