"""The rows of faults.py on a Ray cluster: a head without slots and two workers of one CPU, each started as on a machine
of its own, of which one goes away with everything on it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.benchmarks.fault_search import WAIT_S, FaultySearch
from tests.nodes import Nodes, Process, nodes


@contextmanager
def _on_a_cluster(search: FaultySearch) -> Iterator[Nodes]:
    with nodes(search.environment, 1, 1) as cluster:
        search.environment |= cluster.environment  # of the driver too
        search.options = ["--address", cluster.address]
        yield cluster


def _left(search: FaultySearch, cluster: Nodes) -> None:
    """Actors that outlive the search's command on its cluster are left behind."""

    def actors() -> list[Process]:
        return [process for node in cluster.alive for process in cluster.actors(node)]

    with suppress(TimeoutError):
        search.until_there(lambda: not actors(), "the end of actors", 30.0)
    search.left += [f"actor {process.pid} {process.title}" for process in actors()]


def worker_node(search: FaultySearch) -> None:
    """kill -9 of everything on the node whose slot trains."""
    with _on_a_cluster(search) as cluster:
        search.start()
        node = cluster.of(search.until_steps().process)
        search.hit()
        cluster.kill(node)
        search.end(0)
        _left(search, cluster)


def worker_node_for_good(search: FaultySearch) -> None:
    """The same with a slot on each of two nodes, and no other node: the other slot does what is left, and the search
    ends in order while one is absent."""
    search.configure(slots="slots: {count: 2}")
    with _on_a_cluster(search) as cluster:
        search.start()
        search.until(lambda: len({step.process for step in search.steps()}) == 2, "a step of each slot")
        node = cluster.of(search.until_steps().process)
        search.hit()
        cluster.kill(node)
        search.end(0)
        _left(search, cluster)


def spot_notice(search: FaultySearch) -> None:
    """The node whose slot trains is said to go, and goes when its slot has moved."""
    with _on_a_cluster(search) as cluster:
        search.start()
        node = cluster.of(search.until_steps().process)
        search.hit()
        cluster.give_notice(node)
        search.until(lambda: search.steps()[-1].process not in cluster.on(node), "a step on the other node")
        cluster.kill(node)
        search.end(0)
        _left(search, cluster)


def head_node(search: FaultySearch) -> None:
    """kill -9 of everything on the head; a new cluster, and the same command again."""
    with _on_a_cluster(search) as cluster:
        command = search.start()
        search.until_steps()
        search.hit()
        cluster.kill(cluster.head)
        if command.wait(WAIT_S) == 0:
            raise RuntimeError("the command must end with an error when the head is gone, but ended with 0")
        if "does not answer" not in search.output:
            raise RuntimeError(f"the command must say that the head is gone, but said:\n{search.output[-3000:]}")
    with _on_a_cluster(search) as cluster:
        search.start()
        search.end(0)
        _left(search, cluster)


NODES = (worker_node, worker_node_for_good, spot_notice, head_node)
