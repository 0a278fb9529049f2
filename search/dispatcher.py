"""The dispatcher: the queue of jobs, which slot works on what, and the reports coming back.

One small async Ray actor, which holds nothing that the study and the store do not. A slot that asks for work gets the
first job whose next stage nobody else is training; a job that waits for a trunk lets others go first.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from search.job import Failed, Job, Measured, Outcome, Ticket, Unknown
from trainables.path import Leg
from trainables.problem import Problem


@dataclass
class _Entry:
    job: Job
    outcomes: list[Outcome] = field(default_factory=list)
    kills: int = 0
    stopped: bool = False
    steps_trained: int = 0  # by all incarnations of the slots that worked on it

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
    trained: int = 0  # steps of this incarnation


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
        self._errors: dict[int, str] = {}  # slots that ended because they could not work
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
                outcome = entry.outcomes[index]
                if isinstance(outcome, Measured):
                    return replace(outcome, steps_trained=entry.steps_trained)
                return outcome
            return Failed("the search was closed", "the search was closed before this job ended")

    async def failure(self, job: str) -> Failed | None:
        """What ended a job, if it failed."""
        entry = self._entries.get(job)
        return next((o for o in entry.outcomes if isinstance(o, Failed)), None) if entry else None

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
            if slot in self._errors:  # started again by Train, since its other workers waited
                return "close"
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

    async def progress(self, slot: int, job: str, stage: str, step: int, trained: int) -> bool:
        """What a slot trains now, and the steps that its process trained in all. False: stop (a verdict, the end)."""
        async with self._changed:
            state = self._slots.get(slot)
            if state is None or state.job != job:
                return False  # answered too late (the job has ended since), or after a restart
            self._count(state, trained)
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

    async def report(self, slot: int, job: str, outcome: Outcome, trained: int) -> None:
        """A rung was reached, or the job failed.

        A rung that two incarnations of a slot report counts once; of several workers' failures the first stands.
        """
        async with self._changed:
            entry, state = self._entries.get(job), self._slots.get(slot)
            if entry is None or state is None or state.job != job:
                return  # a late word about a job that the slot no longer has
            self._count(state, trained)
            rungs = {o.step for o in entry.outcomes if isinstance(o, Measured)}
            if isinstance(outcome, Failed) or outcome.step not in rungs:
                entry.outcomes.append(outcome)
            if entry.ended:
                self._free(slot)
            self._changed.notify_all()

    async def released(self, slot: int, job: str, trained: int) -> None:
        """The slot goes no further with a job, told to or unable to. It is queued again unless a verdict stopped it."""
        async with self._changed:
            state = self._slots.get(slot)
            if state is None or state.job != job:
                return
            self._count(state, trained)
            self._requeue(job)
            self._free(slot)

    async def lost(self, slot: int, error: str) -> None:
        """A slot cannot work (its packs, the store, its start); it ends. With the last one, the search does."""
        async with self._changed:
            self._errors[slot] = error
            self._changed.notify_all()

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
        trained = sum(entry.steps_trained for entry in self._entries.values())
        return {"queued": len(self._queue), "slots": slots, "steps_trained": trained, "errors": dict(self._errors)}

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
        state.incarnation, state.trained = incarnation, 0
        if state.job is None:
            return
        entry = self._entries[state.job]
        entry.kills += 1
        if entry.kills >= self._max_failures:
            reason = f"the trial killed its slot {entry.kills} times (slots.max_failures={self._max_failures})"
            entry.outcomes.append(Failed(reason, reason))
        else:
            self._requeue(state.job)
        self._free(slot)

    def _requeue(self, job: str) -> None:
        """Puts a job that has not ended at the head of the queue."""
        if not self._entries[job].ended:
            self._queue[job] = None
            self._queue.move_to_end(job, last=False)

    def _count(self, state: _Slot, trained: int) -> None:
        """Books the steps since the slot's last word on the job that it has."""
        if state.job is not None:
            self._entries[state.job].steps_trained += max(0, trained - state.trained)
        state.trained = max(state.trained, trained)

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


def _leg_name(job: Job, stage: str | None) -> str:
    """What a stage of a job's path is: "pretrain of 800", or, of a task with phases, "finetune phase 1 of 400"."""
    schedule = job.ticket.recipe.schedule
    before = ["pretrain"] if job.ticket.recipe.pretrain else []
    phases = len(job.path) - len(before)
    names = before + [f"{schedule} phase {k + 1}" if phases > 1 else schedule for k in range(phases)]
    for name, leg in zip(names, job.path, strict=True):
        if leg.stage.key == stage:
            return f"{name} of {leg.steps}"
    return ""
