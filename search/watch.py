"""The watch: a thread of the driver that asks the dispatcher how things are, for all who want to know."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import ray

from search.cost import Costs
from search.ledger import Ledger
from search.pool import SlotPool
from search.spending import Spending

log = logging.getLogger(__name__)

ASK_EVERY_S = 0.2
LOOK_EVERY_S = 1.0
WAIT_MOST = 8  # a ticket is a process on the head, and the driver has a new one out in a fraction of a second


class Watch:
    """Keeps costs and spending up to date, and says how many tickets may be out. Use as a context manager.

    note     is told with what numerics the slots compute, once, and may answer with a warning
    shot     the newest Dispatcher.snapshot(); empty before the first
    warning  a line for the user
    """

    def __init__(
        self,
        dispatcher: Any,
        slots: SlotPool,
        ledger: Ledger,
        costs: Costs,
        spending: Spending,
        store: str,
        note: Callable[[dict[str, Any]], str | None],
    ) -> None:
        self.shot: dict[str, Any] = {}
        self.warning: str | None = None
        self._note = note
        self._dispatcher = dispatcher
        self._slots = slots
        self._ledger = ledger
        self._costs = costs
        self._spending = spending
        self._store = store
        self._blocked = 0  # the most so far
        self._logged = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def limit(self) -> int:
        """How many tickets may be out: one for each slot, half as many that wait (at most `WAIT_MOST`), and as many as
        were ever found to wait for a stage that another trains while a slot had nothing to do (at most two for each
        slot).

        It never falls: Tune ends the actor of a trial that no other follows at once, and a new one takes seconds.
        """
        slots = max(self._slots.alive, 1)
        return slots + min(max(1, slots // 2), WAIT_MOST) + min(self._blocked, 2 * slots)

    def look(self) -> dict[str, Any]:
        """Asks now; the snapshot."""
        shot: dict[str, Any] = ray.get(self._dispatcher.snapshot.remote())
        self._costs.update(shot["progress"])
        if shot["division"] and not self._costs.exact:
            self._costs.open(self._store_of(shot["division"]))
            self.warning = self._note(shot["numerics"])
        self._spending.update(shot["spent_s"], shot["steps_trained"])
        self.shot = shot
        return shot

    def _store_of(self, division: str) -> Any:
        from trainables.store import Store  # torch, which takes a while

        return lambda namespace: Store(self._store, f"{division}/{namespace}".rstrip("/"))

    def _run(self) -> None:
        looked = 0.0
        while not self._ended.wait(ASK_EVERY_S):
            try:
                self._blocked = max(self._blocked, ray.get(self._dispatcher.blocked.remote()))
                if time.monotonic() - looked > LOOK_EVERY_S:
                    self.look()
                    looked = time.monotonic()
            except Exception as error:  # noqa: BLE001  (it may just be restarted; a search goes on without being watched)
                if not self._logged:
                    log.warning("costs and view may be out of date: %s", error)
                self._logged = True
            else:
                self._logged = False
