"""Roster: the slots that have spoken, which process each is now, what it does, and which have fallen silent."""

from dataclasses import dataclass, field
from typing import Any

BEAT_S = 2.0  # how often a slot's first worker says that it lives
SILENT_S = 20.0  # of no word at all: its job goes to another slot. Pauses of a few seconds are no death


@dataclass
class SlotState:
    """One slot. Its number stays; its process, the incarnation, is another one after a failure.

    stage   the name of the stage that it trains now; None while it only evaluates
    live    the name of the stage that it trained last, whose weights it still holds
    since   when it took its job, `first` when it took the first one
    trained steps that this incarnation has trained; None before it has said so
    """

    number: int
    incarnation: str
    heard: float
    past: set[str] = field(default_factory=set)
    silent: bool = False
    asked: bool = False
    refused: bool = False  # told to give its job back, since another slot trains the stage
    job: str | None = None
    stage: str | None = None
    live: str | None = None
    step: int = 0
    since: float = 0.0
    first: float | None = None
    busy_s: float = 0.0
    trained: int | None = None

    def begin(self, incarnation: str) -> None:
        """Another process is this slot from now on."""
        self.past.add(self.incarnation)
        self.past.discard(incarnation)
        self.incarnation, self.trained, self.live, self.asked = incarnation, None, None, False

    def take(self, job: str, now: float) -> None:
        self.job, self.step, self.since, self.refused = job, 0, now, False
        if self.first is None:
            self.first = now

    def free(self, now: float) -> None:
        self.busy_s += now - self.since
        self.job = self.stage = None

    def busy(self, now: float) -> float:
        """Seconds that it had a job."""
        return self.busy_s + (now - self.since if self.job else 0.0)

    def idle(self, now: float) -> float:
        """The share of the time since its first job that it had none."""
        lived = now - self.first if self.first is not None else 0.0
        return max(0.0, 1 - self.busy(now) / lived) if lived else 0.0

    def plain(self, now: float) -> dict[str, Any]:
        return {
            "process": self.incarnation,
            "job": self.job,
            "stage": self.stage,
            "step": self.step,
            "idle": self.idle(now),
            "busy_s": self.busy(now),
            "silent": self.silent,
        }


class Roster:
    """The slots by number. Times are seconds of one clock, given by the caller.

    Silence is counted while the listener itself is awake: after a pause of its own it judges nobody by words that
    still wait to be heard.
    """

    def __init__(self) -> None:
        self.slots: dict[int, SlotState] = {}
        self._awake = 0.0
        self._looked: float | None = None

    def hear(self, slot: int, incarnation: str) -> tuple[SlotState | None, bool]:
        """The state of a slot that speaks (None: a process that it no longer is), and whether it is another process.

        First words may be late, so that one that has died seems to replace the one that lives: who still speaks when
        the other has fallen silent is the slot again.
        """
        state = self.slots.get(slot)
        if state is None:
            state = self.slots[slot] = SlotState(slot, incarnation, self._awake)
        elif incarnation in state.past and not state.silent:
            return None, False
        state.heard, state.silent = self._awake, False
        return state, incarnation != state.incarnation

    def look(self, now: float) -> list[int]:
        """The slots that have fallen silent since the last look."""
        if self._looked is not None:
            if now - self._looked < BEAT_S / 2:
                return []
            self._awake += min(now - self._looked, 2 * BEAT_S)
        self._looked = now
        fallen = [n for n, s in self.slots.items() if not s.silent and self._awake - s.heard > SILENT_S]
        for number in fallen:
            self.slots[number].silent = True
        return fallen
