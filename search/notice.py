"""Notice: whether the node of a slot is about to be taken away (a spot instance's notice, `ray drain-node`)."""

import logging
import threading

import ray.train
from ray.exceptions import RayError

log = logging.getLogger(__name__)

ASK_EVERY_S = 3.0  # a spot instance has 30 s (Google, Azure) or 120 s (AWS) left when it is told


class NodeLeavingError(RuntimeError):
    """This slot's node is taken away: its workers end, and Ray Train starts them on another one."""


class Notice:
    """Asks Ray Train in a thread of its own, on every worker of a slot alike, since Train answers them together.

    given  whether a node that holds a worker of this slot was said to go; it stays so
    """

    def __init__(self) -> None:
        self.given = False
        self._left = threading.Event()
        threading.Thread(target=self._watch, name="notice", daemon=True).start()

    def leave(self) -> None:
        """Asks no more."""
        self._left.set()

    def _watch(self) -> None:
        while not (self.given or self._left.wait(ASK_EVERY_S)):
            try:
                info = ray.train.get_preemption_info()
            except RayError as error:  # the actor through which the workers agree is gone, and they soon are
                log.warning("whether this node is about to go is not known: %s", error)
                return
            self.given = info is not None
