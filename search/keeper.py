"""The keeper: a thread of a search's driver that says which stages are needed, and keeps the store to its size."""

import logging
import threading
import time
from collections.abc import Callable, Collection

from datasets.uri import reason
from trainables.claims import remove_claim, write_claim
from trainables.eviction import gc
from trainables.objects import Objects

log = logging.getLogger(__name__)

EVERY_S = 60.0
GC_SHARE = 0.05  # of the time, that looking at a big store may take
CLOSE_S = 30.0  # how long a claim is waited for that is just being written


class Keeper:
    """Renews a search's claim and evicts what nobody needs, from its start to its end. Use as a context manager.

    The store may be out of reach for a while: that is logged, and tried again.

    needed     the keys of all stages that live trials need; called from the keeper's thread
    max_bytes  what checkpoints may take in the whole store; None evicts nothing
    """

    def __init__(
        self, store_uri: str, search_id: str, needed: Callable[[], Collection[str]], max_bytes: int | None = None
    ) -> None:
        self._objects = Objects(store_uri)
        self._search = search_id
        self._needed = needed
        self._max_bytes = max_bytes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._claim_due = 0.0  # of time.monotonic()
        self._gc_due = 0.0
        self._full = False

    def __enter__(self) -> "Keeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(CLOSE_S)
        try:
            remove_claim(self._objects, self._search)
        except OSError as error:
            log.warning("the search's claim on the store could not be removed, and expires: %s", reason(error))

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._renew()
                self._evict()
            except Exception as error:  # noqa: BLE001  (a search goes on without; its checkpoints can be trained again)
                log.warning("the store could not be kept (%s); tried again in %.0f s", reason(error), EVERY_S)
            self._ended.wait(EVERY_S)

    def _renew(self) -> None:
        if time.monotonic() >= self._claim_due and not self._ended.is_set():
            write_claim(self._objects, self._search, self._needed())
            self._claim_due = time.monotonic() + EVERY_S / 2

    def _evict(self) -> None:
        if self._max_bytes is None or time.monotonic() < self._gc_due or self._ended.is_set():
            return
        began = time.monotonic()
        done = gc(self._objects, self._max_bytes, needed=self._needed(), removed=lambda _: self._renew())
        self._gc_due = time.monotonic() + (time.monotonic() - began) / GC_SHARE
        if done.removals:
            log.info("%d checkpoints evicted, %.2f GB", len(done.removals), (done.before - done.after) / 1e9)
        full = done.after > self._max_bytes
        if full and not self._full:
            log.warning(
                "the store holds %.2f GB, more than its %.2f, and all of it is in use",
                done.after / 1e9,
                self._max_bytes / 1e9,
            )
        self._full = full
