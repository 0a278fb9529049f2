"""The rows of faults.py in which what a search stands on fails: MLflow, its database, the store."""

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from tests.benchmarks.fault_link import Link
from tests.benchmarks.fault_search import SLOT, FaultySearch
from tests.mlflow_server import MlflowServer
from tests.s3 import s3_server

OUTAGE_S = 60.0
PAIR = "slots: {count: 1, workers: 2}"
STEP_S = 0.2  # of a training step, so that the outage is over before the search is


def _slow(search: FaultySearch) -> None:
    search.environment["FAULTS_STEP_S"] = str(STEP_S)


# -- MLflow ------------------------------------------------------------------------------------------------------


@contextmanager
def _tracked(search: FaultySearch) -> Iterator[MlflowServer]:
    server = MlflowServer(search.folder)
    search.configure(tracking=server.uri)
    try:
        server.start()
        yield server
        search.look()
    finally:
        server.end()


def mlflow_down_a_while(search: FaultySearch) -> None:
    """The MLflow server is killed, and there again after a while."""
    with _tracked(search) as server:
        _slow(search)
        search.start()
        search.until_steps()
        search.hit()
        server.end()
        time.sleep(OUTAGE_S)
        server.start()
        search.end(0)


def mlflow_down_for_good(search: FaultySearch) -> None:
    """The MLflow server is away until the search has ended; it is started again, and then the same command."""
    with _tracked(search) as server:
        search.start()
        search.until_steps()
        search.hit()
        server.end()
        output = search.end(0)
        if "MLflow lacks a part" not in output:
            raise RuntimeError(f"the command must say that MLflow lacks something, but said:\n{output[-2000:]}")
        server.start()
        search.start()
        search.end(0)


def sqlite_locked(search: FaultySearch) -> None:
    """Somebody reads both databases in one long transaction, such as a browser of databases does."""
    _slow(search)
    search.start()
    search.until_steps()
    search.hit()
    files = (search.results / "mlflow.db", "experiments"), (search.results / "toy" / "study.db", "studies")
    with closing(sqlite3.connect(files[0][0])) as runs, closing(sqlite3.connect(files[1][0])) as study:
        for reader, (_, table) in zip((runs, study), files, strict=True):
            reader.execute("begin")
            reader.execute(f"select * from {table}").fetchone()
        time.sleep(OUTAGE_S)
    search.end(0)


# -- the store ---------------------------------------------------------------------------------------------------


@contextmanager
def _stored_far_away(search: FaultySearch, slots: str = SLOT) -> Iterator[Link]:
    """The store is on an S3 server, behind a link."""
    with s3_server(search.folder) as server:
        link = Link(server.port)
        uri = "s3://key:secret@bucket/store?endpoint_override=127.0.0.1:{}&scheme=http"
        search.configure(slots, store=uri.format(link.port))
        try:
            yield link
            search.look()
        finally:
            link.close()


def store_unreachable(search: FaultySearch, slots: str = SLOT) -> None:
    """The store is out of reach for a while."""
    with _stored_far_away(search, slots) as link:
        _slow(search)
        search.start()
        search.until_steps()
        search.hit()
        link.cut()
        time.sleep(OUTAGE_S)
        link.mend()
        search.end(0)


def store_unreachable_pair(search: FaultySearch) -> None:
    """The same for a slot of two workers, which end and start again at each try. Its numbers are its own."""
    undisturbed = FaultySearch(search.folder / "undisturbed")
    undisturbed.configure(PAIR)
    try:
        undisturbed.start()
        undisturbed.end(0)
        search.truth = undisturbed.table()
    finally:
        undisturbed.close()
    store_unreachable(search, PAIR)


def store_slow(search: FaultySearch) -> None:
    """From the fault on, everything that is sent to the store takes a fifth of a second more."""
    with _stored_far_away(search) as link:
        search.start()
        search.until_steps()
        search.hit()
        link.delay_s = 0.2
        search.end(0)


def store_full(search: FaultySearch) -> None:
    """The disk of the store is full, until room is made and the same command run again."""
    disk = search.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "faults", str(disk)], check=True)
    try:
        search.configure(store=str(disk / "store"))
        search.start()
        search.until_steps()
        search.hit()
        with suppress(OSError), (disk / "other").open("wb") as other:
            while True:
                other.write(bytes(1 << 16))
        search.end(2)
        (disk / "other").unlink()
        search.start()
        search.end(0)
        search.look()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


OUTAGES = (
    mlflow_down_a_while,
    mlflow_down_for_good,
    store_unreachable,
    store_unreachable_pair,
    store_full,
    store_slow,
    sqlite_locked,
)
