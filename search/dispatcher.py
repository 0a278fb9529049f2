"""The dispatcher: the queue of jobs, which slot works on what, and the reports coming back.

One small async Ray actor, which holds nothing that the study and the store do not. A slot that asks for work gets the
first job whose next stage nobody else is training; a job that waits for a trunk lets others go first.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from search.job import Failed, Job, Measured, Outcome, Ticket, Unknown
from trainables.stage import Leg, Problem


@dataclass
class _Entry:
    job: Job
    outcomes: list[Outcome] = field(default_factory=list)
    kills: int = 0
    stopped: bool = False

    @property
    def ended(self) -> bool:
        last = self.outcomes[-1] if self.outcomes else None
        return self.stopped or isinstance(last, Failed) or (isinstance(last, Measured) and last.final)


@dataclass
class _Slot:
    incarnation: str
    job: str | None = None
    stage: str | None = None  # the key it trains now
    step: int = 0
    since: float = 0.0
    busy_s: float = 0.0
    started: float = field(default_factory=time.monotonic)


class Dispatcher:
    """See the module. Trials call `submit` and `outcome`, the scheduler `stop`, slots `take` and what follows it.

    After a restart it knows nothing: slots and trials that it does not know are told so, and begin again.
    """

    def __init__(self, problem: Problem, *, share: bool, max_failures: int) -> None:
        self._problem = problem
        self._share = share
        self._max_failures = max_failures
        self._entries: dict[str, _Entry] = {}
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._slots: dict[int, _Slot] = {}
        self._done: dict[str, int] = {}  # (namespace +) stage key -> the furthest step known to be in the store
        self._closing = False
        self._changed = asyncio.Condition()

    # -- trials ------------------------------------------------------------------------------------------------

    async def submit(self, ticket: Ticket) -> None:
        """Queues a job; the same ticket again changes nothing."""
        async with self._changed:
            if ticket.id not in self._entries:
                self._entries[ticket.id] = _Entry(Job.of(ticket, self._problem, share=self._share))
                self._queue[ticket.id] = None
                self._changed.notify_all()

    async def outcome(self, job: str, index: int) -> Outcome | Unknown:
        """The job's outcome number `index`, as soon as there is one."""
        async with self._changed:
            if job not in self._entries:
                return Unknown()
            entry = self._entries[job]
            await self._changed.wait_for(lambda: len(entry.outcomes) > index or self._closing or entry.stopped)
            if len(entry.outcomes) > index:
                return entry.outcomes[index]
            return Failed("the search was closed", "the search was closed before this job ended")

    async def failure(self, job: str) -> Failed | None:
        """What ended a job, if it failed."""
        entry = self._entries.get(job)
        last = entry.outcomes[-1] if entry and entry.outcomes else None
        return last if isinstance(last, Failed) else None

    async def stop(self, job: str) -> None:
        """The scheduler's verdict: the job goes no further. A slot that trains it hears so at its next question."""
        async with self._changed:
            if job in self._entries and not self._entries[job].ended:
                self._entries[job].stopped = True
                self._queue.pop(job, None)
                self._changed.notify_all()

    # -- slots -------------------------------------------------------------------------------------------------

    async def take(self, slot: int, incarnation: str, wait_s: float) -> Job | str:
        """Work for a slot: a job, "wait" when there is none within `wait_s`, or "close"."""
        async with self._changed:
            self._greet(slot, incarnation)
            deadline = time.monotonic() + wait_s
            while not self._closing:
                job = self._next()
                if job is not None:
                    state = self._slots[slot]
                    state.job, state.since = job.id, time.monotonic()
                    state.stage, state.step = self._next_leg(job).stage.key, 0
                    del self._queue[job.id]
                    return job
                left = deadline - time.monotonic()
                if left <= 0:
                    return "wait"
                try:
                    await asyncio.wait_for(self._changed.wait(), left)
                except TimeoutError:
                    return "wait"
            return "close"

    async def progress(self, slot: int, job: str, stage: str, step: int) -> bool:
        """What a slot trains now; False tells it to stop (a verdict, or the search closes)."""
        async with self._changed:
            state = self._slots.get(slot)
            if state is None or state.job != job:
                return False  # answered too late (the job has ended since), or after a restart
            moved = state.stage != stage
            state.stage, state.step = stage, step
            if moved:  # the stage that it left is free for others
                self._changed.notify_all()
            return not self._closing and not self._entries[job].stopped

    async def milestone(self, slot: int, job: str, stage: str, step: int) -> None:
        """(stage, step) is in the store: jobs that wait for it may go on."""
        async with self._changed:
            entry = self._entries.get(job)
            if entry is None:
                return
            name = entry.job.namespace + stage
            self._done[name] = max(step, self._done.get(name, 0))
            state = self._slots.get(slot)
            if state is not None and state.job == job:  # the slot goes on to its next stage before it says so
                state.stage = self._next_leg(entry.job).stage.key
            self._changed.notify_all()

    async def report(self, slot: int, job: str, outcome: Outcome) -> None:
        """A rung was reached, or the job failed. A rung that two incarnations of a slot report counts once."""
        async with self._changed:
            entry = self._entries.get(job)
            if entry is None:
                return
            rungs = {o.step for o in entry.outcomes if isinstance(o, Measured)}
            if isinstance(outcome, Failed) or outcome.step not in rungs:
                entry.outcomes.append(outcome)
            if entry.ended:
                self._free(slot)
            self._changed.notify_all()

    async def released(self, slot: int, job: str) -> None:
        """The slot stopped the job because it was told to; while closing, the job stays unfinished."""
        async with self._changed:
            self._free(slot)

    # -- the search --------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Slots stop at their next question, with a checkpoint, and end."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()

    async def snapshot(self) -> dict[str, Any]:
        """What is going on, for the live view: plain values only."""
        now = time.monotonic()
        slots = {}
        for number, state in sorted(self._slots.items()):
            entry = self._entries.get(state.job) if state.job else None
            slots[number] = {
                "process": state.incarnation,
                "job": state.job,
                "recipe": str(entry.job.ticket.recipe) if entry else None,
                "replicate": entry.job.ticket.replicate if entry else None,
                "leg": _leg_name(entry.job, state.stage) if entry else None,
                "step": state.step,
                "idle": 1 - (state.busy_s + (now - state.since if state.job else 0)) / max(now - state.started, 1e-9),
            }
        trained = {job: _trained(entry) for job, entry in self._entries.items()}
        return {"queued": len(self._queue), "slots": slots, "steps_trained": sum(trained.values())}

    async def steps_trained(self, job: str) -> int:
        return _trained(self._entries[job]) if job in self._entries else 0

    # -- inside ------------------------------------------------------------------------------------------------

    def _free(self, slot: int) -> None:
        state = self._slots.get(slot)
        if state is None:
            return
        if state.job:
            state.busy_s += time.monotonic() - state.since
        state.job = state.stage = None
        self._changed.notify_all()

    def _greet(self, slot: int, incarnation: str) -> None:
        """A slot that comes back under a new incarnation was killed: its job is queued again, first, or failed."""
        state = self._slots.get(slot)
        if state is None:
            self._slots[slot] = _Slot(incarnation)
            return
        if state.incarnation == incarnation:
            return
        state.incarnation = incarnation
        if state.job is None:
            return
        entry = self._entries[state.job]
        entry.kills += 1
        if entry.kills >= self._max_failures:
            reason = f"the trial killed its slot {entry.kills} times (slots.max_failures={self._max_failures})"
            entry.outcomes.append(Failed(reason, reason))
        elif not entry.ended:
            self._queue[state.job] = None
            self._queue.move_to_end(state.job, last=False)
        self._free(slot)

    def _next(self) -> Job | None:
        """The first queued job whose next stage is free."""
        for job in self._queue:
            candidate = self._entries[job].job
            leg = self._next_leg(candidate)
            name = candidate.namespace + leg.stage.key
            if name not in self._training():
                return candidate
        return None

    def _training(self) -> set[str]:
        return {
            self._entries[state.job].job.namespace + state.stage
            for state in self._slots.values()
            if state.job is not None and state.stage is not None
        }

    def _next_leg(self, job: Job) -> Leg:
        for leg in job.path:
            if self._done.get(job.namespace + leg.stage.key, 0) < leg.steps:
                return leg
        return job.path[-1]


def _trained(entry: _Entry) -> int:
    measured = [o.steps_trained for o in entry.outcomes if isinstance(o, Measured)]
    return measured[-1] if measured else 0


def _leg_name(job: Job, stage: str | None) -> str:
    names = ["pretrain", "finetune"] if len(job.path) == 2 else [job.ticket.recipe.schedule]
    for name, leg in zip(names, job.path, strict=True):
        if leg.stage.key == stage:
            return f"{name} of {leg.steps}"
    return ""
