"""LoaderProcesses: processes that make batches ahead, kept warm from one loader to the next.

They are forked once, while their parent is small. A fork makes every page of its parent copy-on-write, so that one in
the middle of a training costs as long as it takes to copy the model, its gradients and its optimizer, page by page.
Not torch's DataLoader, which forks for each loader, or keeps its processes for one data set, and raises the loss of
one wherever the main thread happens to be.
"""

import logging
import multiprocessing
import os
import signal
import traceback
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pickle import loads
from typing import TYPE_CHECKING

import cv2
import torch
from torch import Tensor

from datasets.processes import WorkerError, start

if TYPE_CHECKING:
    from datasets.loader import Loader

log = logging.getLogger(__name__)

RETRIES = 3  # of starting processes that are lost before they made a batch
PREFETCH = 2  # batches that each process makes ahead
NICENESS = 10  # where cores are scarce, a training step goes before the batch after the next
ORPHANED_S = 5.0  # how often an idle process looks whether its parent is still there

Ring = Sequence[dict[str, Tensor]]


class LoaderProcesses:
    """`count` >= 1 processes, forked by the constructor; they end with this object, and with this process.

    Whatever a loader holds is pickled to them, and packs are opened there again.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"`count >= 1` must hold, but got {count}")
        self.count = count
        self._loaders = 0  # that were served, to tell late answers of one from those of the next
        self._start()

    def batches(self, loader: "Loader", first: int, stop: int) -> Iterator[dict[str, Tensor]]:
        """The loader's batches of steps [first, stop), in order, for one caller at a time.

        They are written into a few batches of shared memory in turn, so that a batch holds until the next but one is
        asked for: who keeps one longer must copy it. A lost process changes nothing but the time. Raises what the
        loader raises, and WorkerError when the processes are lost again and again.
        """
        losses = 0
        while first < stop:
            try:
                for batch in self._made(loader, first, stop):
                    yield batch
                    first, losses = first + 1, 0
            except (EOFError, ConnectionError):
                self._stop()
                codes = ", ".join(str(process.exitcode) for process in self._processes)
                losses += 1
                if losses > RETRIES:
                    raise WorkerError(
                        f"loader processes must live to make batch {first}, but {losses} times in a row they ended with"
                        f" exit code {codes}; where it is -9, give a slot more memory or fewer `slots.loaders`"
                    ) from None
                log.warning("loader processes ended with exit code %s: they are started again", codes)
                self._start()

    def _made(self, loader: "Loader", first: int, stop: int) -> Iterator[dict[str, Tensor]]:
        # In flight are PREFETCH for each process; the batch that was yielded last and the one before are in use.
        ring = [loader.empty(first) for _ in range(PREFETCH * self.count + 2)]
        self._loaders += 1
        for link in self._links:
            # A pickle for each process: the handle of shared memory in it can be taken once.
            link.send((self._loaders, bytes(ForkingPickler.dumps((loader, ring)))))
        ahead = first
        for step in range(first, stop):
            while ahead < min(step + PREFETCH * self.count, stop):
                self._links[ahead % self.count].send((ahead, (ahead - first) % len(ring)))
                ahead += 1
            self._take(step)
            yield ring[(step - first) % len(ring)]

    def _take(self, step: int) -> None:
        """Waits for the batch of a step: a process answers its orders in their order."""
        number = -1
        while number != self._loaders:  # late answers are of a loader that was left in the middle
            number, answer = self._links[step % self.count].recv()
        if isinstance(answer, Exception):
            raise answer

    def _start(self) -> None:
        self._processes: list[BaseProcess] = []
        self._links: list[Connection] = []
        # A fork shares this process's memory; a spawned one takes 180 MB of its own.
        context = multiprocessing.get_context("fork")
        for _ in range(self.count):
            link, end = context.Pipe()
            process = context.Process(target=_serve, args=(end, os.getpid()), daemon=True)
            start(process)
            end.close()
            self._processes.append(process)
            self._links.append(link)
        self._stop = weakref.finalize(self, _end, self._processes, self._links)


def _end(processes: list[BaseProcess], links: list[Connection]) -> None:
    for link in links:
        link.close()
    for process in processes:
        process.kill()  # they hold nothing that could be lost
    for process in processes:
        process.join()


def _serve(end: Connection, parent: int) -> None:
    """Takes loaders, and orders of their batches, until the parent is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICENESS)
    cv2.setNumThreads(0)  # the processes are the parallelism: threads in each would only fight over the cores
    torch.set_num_threads(1)
    number, job = 0, b""
    loader: Loader | None = None
    ring: Ring = ()
    with suppress(EOFError, ConnectionError):
        while True:
            while not end.poll(ORPHANED_S):
                if os.getppid() != parent:
                    return
            message = end.recv()
            if isinstance(message[1], bytes):
                number, job = message
                loader, ring = None, ()
                continue
            step, place = message
            answer: int | Exception = step
            try:
                if loader is None:
                    loader, ring = loads(job)
                loader.fill(ring[place], step)
            except Exception as error:  # noqa: BLE001  (it is raised again where the batch is asked for)
                answer = _told(error)
            end.send((number, answer))


def _told(error: Exception) -> Exception:
    """An error that can be sent, with where it happened as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        loads(ForkingPickler.dumps(error))
    except Exception:  # noqa: BLE001  (whatever its class does when it is pickled)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
