"""The rows of faults.py in which a process or a machine goes away, or a user ends the search."""

import os
import signal
import time

from tests.benchmarks.fault_search import FaultySearch


def slot_worker(search: FaultySearch) -> None:
    """kill -9 of the process that trains."""
    search.start()
    search.kill(search.until_steps().process)
    search.end(0)


def loader_process(search: FaultySearch) -> None:
    """kill -9 of a process that makes batches for the one that trains."""
    search.configure(slots="slots: {count: 1, loaders: 1}")
    search.start()
    trains = search.until_steps().process
    alive = search.processes()
    title = next(process.title for process in alive if process.pid == trains)
    search.kill(next(process.pid for process in alive if process.parent == trains and process.title == title))
    search.end(0)


def dispatcher(search: FaultySearch) -> None:
    """kill -9 of the actor that knows who has which job."""
    search.start()
    search.until_steps()
    search.kill(*search.titled("ray::Dispatcher"))
    search.end(0)


def trial_actor(search: FaultySearch) -> None:
    """kill -9 of the actor of a trial that runs."""
    search.start()
    search.until_steps()
    search.kill(search.titled("ray::ResourceTrainable")[0])
    search.end(0)


def train_controller(search: FaultySearch) -> None:
    """kill -9 of Ray Train's controller of the slot."""
    search.start()
    search.until_steps()
    search.kill(*search.titled("ray::TrainController"))
    search.end(0)


def train_controllers(search: FaultySearch) -> None:
    """The same of two slots, which on a machine of two cores have all of them: both controllers at once."""
    search.configure(slots="slots: {count: 2}")
    search.start()
    search.until(lambda: len({step.process for step in search.steps()}) == 2, "a step of each slot")
    search.until_steps()
    search.kill(*search.titled("ray::TrainController"))
    search.end(0)


def driver(search: FaultySearch) -> None:
    """kill -9 of the command, and the same command again."""
    command = search.start()
    search.until_steps()
    search.kill(command.pid)
    search.end(-signal.SIGKILL)
    search.start()
    search.end(0)


def sigterm(search: FaultySearch) -> None:
    """SIGTERM to the command, and the same command again: an orderly end, which loses nothing."""
    command = search.start()
    search.until_steps()
    search.kill(command.pid, number=signal.SIGTERM)
    search.end(130)
    search.left += search.orphans()
    search.start()
    search.end(0)


def ctrl_c(search: FaultySearch) -> None:
    """Ctrl-C at a terminal, which every process of the command's group hears, and the same command again."""
    command = search.start()
    search.until_steps()
    search.hit()
    os.killpg(command.pid, signal.SIGINT)
    search.end(130)
    search.left += search.orphans()
    search.start()
    search.end(0)


def ctrl_c_twice(search: FaultySearch) -> None:
    """A second Ctrl-C a moment after the first: the end is at once, and the same command goes on."""
    command = search.start()
    search.until_steps()
    search.hit()
    os.killpg(command.pid, signal.SIGINT)
    time.sleep(0.3)
    os.killpg(command.pid, signal.SIGINT)
    search.end(130)
    search.start()
    search.end(0)


def two_drivers(search: FaultySearch) -> None:
    """The same command in a second terminal while the first runs: it is refused."""
    first = search.start()
    search.until_steps()
    search.hit()
    search.start()
    output = search.end(2)
    if "another one holds" not in output:
        raise RuntimeError(f"the second command must say that another one runs, but said:\n{output[-2000:]}")
    search.driver = first
    search.end(0)
    search.runs -= 1


KILLS = (
    slot_worker,
    driver,
    dispatcher,
    sigterm,
    ctrl_c,
    ctrl_c_twice,
    trial_actor,
    train_controller,
    train_controllers,
    loader_process,
    two_drivers,
)
