"""Patience: how often a slot may meet an outage of the store in a row, and how long it waits after each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

PATIENCE_S = (2.0, 5.0, 10.0, 20.0, 30.0)  # after the first, the second, ...: an outage of a minute is none


@dataclass
class _Slot:
    outages: int = 0
    until: float = 0.0
    incarnation: str = ""
    saved: int = 0


class Patience:
    """Of all slots of a search, by number. A checkpoint that was written ends a row: what was read may be cached.

    It is the dispatcher's, since a slot of several workers is another process after each outage.
    """

    def __init__(self, clock: Callable[[], float], pauses_s: Sequence[float] = PATIENCE_S) -> None:
        self._clock = clock
        self._pauses_s = pauses_s
        self._slots: dict[int, _Slot] = {}
        self._worked = 0  # how often a checkpoint was written by anybody
        self._jobs: dict[str, tuple[int, int]] = {}  # that the store failed: how often, and `_worked` at the last time

    def saved(self, number: int, incarnation: str, count: int) -> None:
        """A process of a slot has written so many checkpoints in all."""
        slot = self._slots.setdefault(number, _Slot())
        if incarnation != slot.incarnation:
            slot.incarnation, slot.saved = incarnation, 0
        if count > slot.saved:
            slot.saved, slot.outages = count, 0
            self._worked += 1

    def outage(self, number: int) -> bool:
        """The store failed a slot. Whether that is to try again, after its `pause`, in which words change nothing."""
        slot = self._slots.setdefault(number, _Slot())
        if not self.pause(number):
            if slot.outages >= len(self._pauses_s):
                return False
            slot.until = self._clock() + self._pauses_s[slot.outages]
            slot.outages += 1
        return True

    def pause(self, number: int) -> float:
        """Seconds that a slot still waits."""
        slot = self._slots.get(number)
        return max(0.0, slot.until - self._clock()) if slot else 0.0

    def hopeless(self, job: str) -> bool:
        """The store failed a slot at a job. Whether it did so again and again, and worked for others in between."""
        times, worked = self._jobs.get(job, (0, -1))
        if worked < self._worked:
            times += 1
        self._jobs[job] = times, self._worked
        return times > len(self._pauses_s)
