"""Work for several processes, whose results come in order: the same for any number of them.

Of multiprocessing's own pools the one ends only after what was begun, which may be a minute of compilation, and the
other waits forever for a process that was killed.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from typing import Any, TypeVar

import cv2

AHEAD = 4  # results of a process that wait to be taken

T = TypeVar("T")


class WorkerError(RuntimeError):
    """A process ended before its work was done: killed, or by an error that it has printed."""


def spread(make: Callable[[int], T], count: int, workers: int, what: str = "item") -> Generator[T]:
    """make(0), make(1) ... make(count - 1) by `workers` processes; closing the generator ends them at once.

    make  can be pickled, and so can its results; with one worker it is called here. A process is spawned, so that
          `make` must not come from `__main__`
    what  one result, for messages

    Raises ValueError at the call, WorkerError when a process ends early, and the ValueError or OSError of a `make`.
    """
    if workers < 1:
        raise ValueError(f"`workers >= 1` must hold, but got {workers}")
    workers = min(workers, count)
    return _spread(make, count, workers, what) if workers > 1 else (make(i) for i in range(count))


def _spread(make: Callable[[int], T], count: int, workers: int, what: str) -> Generator[T]:
    """Process k of n makes k, k + n, k + 2 n ... and sends each through a pipe of its own."""
    context = multiprocessing.get_context("spawn")
    processes, links = [], []
    try:
        for k in range(workers):
            link, end = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(make, range(k, count, workers), end), daemon=True)
            start(process)
            end.close()
            processes.append(process)
            links.append(link)
        for i in range(count):
            try:
                made = links[i % workers].recv()
            except EOFError:
                processes[i % workers].join()
                code = processes[i % workers].exitcode
                raise WorkerError(f"the process of {what} {i} ended early with exit code {code}") from None
            if isinstance(made, Exception):
                raise made
            yield made
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def start(process: BaseProcess) -> None:
    """Starts a process that a Ctrl-C does not reach, not even while it imports: it is this one that ends it."""
    ensure_running()  # or starting the first process would start it, which lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the new process inherits it
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(make: Callable[[int], Any], numbers: range, end: Connection) -> None:
    """Sends what is made of `numbers`, of which a few may wait until they are taken, or the error that one met."""
    cv2.setNumThreads(0)  # more than one thread a process would only wait for each other
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it cannot read is an error of ours
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as sender:
        try:
            for i in numbers:
                waiting.append(sender.submit(end.send, make(i)))
                if len(waiting) > AHEAD:
                    waiting.popleft().result()
        except BrokenPipeError:
            return  # nobody is there to take them
        except (ValueError, OSError) as error:
            sender.submit(end.send, error)
