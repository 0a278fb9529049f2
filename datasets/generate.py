"""Embedded faces by several processes, in order: the same samples for any number of them.

Apart from `__main__`, because a spawned process finds its work by importing the module that names it.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import cv2
import numpy as np

from datasets.faces import render, samples
from datasets.pack import Value

CHUNK = 16  # faces made by a process at a time


def generate_faces(count: int, *, size: int, domain: str, seed: int, workers: int) -> Iterator[dict[str, Value]]:
    """`datasets.faces.samples(count, size=..., domain=..., seed=...)`, made by `workers` processes.

    Raises ValueError as `samples` does, at the call, and BrokenProcessPool (a RuntimeError) when a process is killed.
    """
    if workers < 1:
        raise ValueError(f"`workers >= 1` must hold, but got {workers}")
    alone = samples(count, size=size, domain=domain, seed=seed)
    return alone if workers == 1 else _spread(count, partial(_face, size=size, domain=domain, seed=seed), workers)


def _spread(count: int, face: partial, workers: int) -> Iterator[dict[str, Value]]:
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(0,))
    try:
        yield from executor.map(face, range(count), chunksize=CHUNK)
    finally:
        executor.shutdown(cancel_futures=True)


def _face(i: int, *, size: int, domain: str, seed: int) -> dict[str, Value]:
    """Sample i of `datasets.faces.samples`; a test holds the two together."""
    words = np.random.SeedSequence((seed, i)).generate_state(1, np.uint64)
    return {"id": f"{domain}-{seed}-{i:06d}", **render(int(words[0]), size=size, domain=domain)}
