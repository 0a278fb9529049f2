"""Board: every job and how far it got, which slot has it, and what that says of the stages.

The dispatcher's memory, without its conversations: plain calls, no waiting. The queue (search/queue.py) has the jobs
that nobody works on, the roster (search/roster.py) the slots. A job is forgotten when the scheduler has said that it is
over, so that what is remembered does not grow with the search.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from search.job import Failed, Job, Measured, Outcome, Ticket
from search.queue import Queue
from search.roster import Roster, SlotState
from trainables.problem import Problem

REMEMBERED = 1000  # jobs that are over and forgotten, of which the number is kept: words about them may still arrive


@dataclass
class JobState:
    """A job and what became of it. `listeners` wait for its next outcome."""

    job: Job
    order: int
    outcomes: list[Outcome] = field(default_factory=list)
    listeners: list[asyncio.Future[None]] = field(default_factory=list)
    kills: int = 0
    stopped: bool = False
    steps_trained: int = 0  # by all incarnations of the slots that worked on it

    @property
    def ended(self) -> bool:
        last = self.outcomes[-1] if self.outcomes else None
        return self.stopped or isinstance(last, Failed) or (isinstance(last, Measured) and last.final)

    @property
    def reached(self) -> int:
        return max((o.step for o in self.outcomes if isinstance(o, Measured)), default=self.job.ticket.after)

    def book(self, outcome: Outcome) -> None:
        """Adds an outcome, once: an ended job has no more, and a rung counts when it is first reported."""
        if not self.ended and (isinstance(outcome, Failed) or outcome.step > self.reached):
            self.outcomes.append(outcome)
            self.tell()

    def tell(self) -> None:
        for listener in self.listeners:
            if not listener.done():
                listener.set_result(None)
        self.listeners.clear()


class Board:
    """See the module. `clock` gives seconds; a stage's name is its job's namespace and its key."""

    def __init__(self, problem: Problem, clock: Callable[[], float], *, share: bool, max_failures: int) -> None:
        self.entries: dict[str, JobState] = {}
        self._over: dict[str, None] = {}  # the last ones, oldest first
        self._submitted = 0
        self.queue = Queue()
        self.roster = Roster()
        self._problem = problem
        self._clock = clock
        self._share = share
        self._max_failures = max_failures
        self._steps_trained = 0

    # -- jobs --------------------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket) -> None:
        """Queues a job; the same ticket again changes nothing, also when the job is over."""
        if ticket.id not in self.entries and not self.is_over(ticket.id):
            job = Job.of(ticket, self._problem, share=self._share)
            entry = self.entries[ticket.id] = JobState(job, order=self._submitted)
            self._submitted += 1
            if ticket.after:
                self.queue.store(name_of(job, job.path[-1].stage.key), ticket.after)
            self.queue.add(job, entry.reached, entry.order)

    def stop(self, job: str) -> None:
        """The job goes no further, and nobody will ask for it any more. It is forgotten, when its slot has left it."""
        entry = self.entries.get(job)
        if entry is not None:
            entry.stopped = True
            self.queue.remove(job)
            entry.tell()
        if not any(state.job == job for state in self.roster.slots.values()):
            self._forget(job)

    def is_over(self, job: str) -> bool:
        """Whether `stop` was told of a job, not too long ago."""
        return job in self._over

    def _forget(self, job: str) -> None:
        self.entries.pop(job, None)
        self._over[job] = None
        if len(self._over) > REMEMBERED:
            del self._over[next(iter(self._over))]

    # -- slots -------------------------------------------------------------------------------------------------

    def hear(self, slot: int, incarnation: str) -> tuple[SlotState | None, bool]:
        """As `Roster.hear`. A new incarnation says that the one before was killed: its job is taken back."""
        state, is_new = self.roster.hear(slot, incarnation)
        if state is not None and is_new:
            self._take_back(state)
            state.begin(incarnation)
        return state, is_new

    def look(self) -> list[int]:
        """As `Roster.look`: the slots that have fallen silent. Their jobs are taken back."""
        fallen = self.roster.look(self._clock())
        for slot in fallen:
            self._take_back(self.roster.slots[slot])
        return fallen

    def assign(self, state: SlotState) -> Job | None:
        """The job that a slot should do now."""
        job = self.queue.choose(state.live)
        if job is not None:
            state.take(job.id, self._clock())
            self.go_on(state)
        return job

    def give_back(self, state: SlotState, *, urgent: bool = False) -> None:
        """Frees a slot, and queues its job again if that has not ended."""
        assert state.job is not None
        entry = self.entries[state.job]
        self.free(state)
        if not entry.ended:
            self.queue.add(entry.job, entry.reached, entry.order, urgent=urgent)

    def free(self, state: SlotState) -> None:
        assert state.job is not None
        job = state.job
        self._hold(state, None)
        state.free(self._clock())
        if self.entries[job].stopped:
            self._forget(job)

    def count(self, state: SlotState, trained: int) -> None:
        """Books the steps since the slot's last word, on the job that it has if it has one. The first word of a process
        may be to another dispatcher, which had booked what was before."""
        steps = max(0, trained - state.trained) if state.trained is not None else 0
        if state.job is not None:
            self.entries[state.job].steps_trained += steps
        self._steps_trained += steps
        state.trained = max(state.trained or 0, trained)

    # -- stages ------------------------------------------------------------------------------------------------

    def go_on(self, state: SlotState) -> None:
        """The slot goes on to what its job needs next, and has that stage from now on."""
        assert state.job is not None
        entry = self.entries[state.job]
        self._hold(state, self.queue.need(entry.job, entry.reached).stage)

    def trains(self, state: SlotState, stage: str, step: int) -> bool:
        """A slot trains a stage of its job, at `step`. False: another slot does, and this one must give it back."""
        assert state.job is not None
        job = self.entries[state.job].job
        name = state.live = name_of(job, stage)
        state.step = step
        if state.stage != name:
            self._hold(state, name)
            state.refused = state.stage != name
            self._begun(job, stage)
        self.queue.mend(name, step)
        return not state.refused

    def has(self, state: SlotState, stage: str) -> bool:
        """Whether a stage of the slot's job is the slot's."""
        assert state.job is not None
        return state.stage == name_of(self.entries[state.job].job, stage)

    def elsewhere(self, state: SlotState, stage: str) -> str:
        """Another search trains a stage of the slot's job, which waits for it. The stage's name."""
        assert state.job is not None
        entry = self.entries[state.job]
        name = name_of(entry.job, stage)
        self._begun(entry.job, stage)
        last = entry.job.path[-1].stage.key == stage
        target = next(r for r in entry.job.rungs if r > entry.reached) if last else end_of(entry.job, stage)
        self.queue.mend(name, target - 1)
        self.queue.elsewhere(name, True)
        self.give_back(state)
        return name

    def stored(self, state: SlotState | None, job: Job, stage: str, step: int) -> None:
        """(stage, step) is in the store. A slot that is done with the stage goes on before it says so."""
        name = name_of(job, stage)
        self.queue.store(name, step)
        if state is not None and state.stage == name and step >= end_of(job, stage):
            self.go_on(state)

    # -- what is shown -----------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """See `Dispatcher.snapshot`."""
        now, slots, training = self._clock(), {}, {}
        for number, state in sorted(self.roster.slots.items()):
            entry = self.entries.get(state.job) if state.job else None
            slots[number] = state.plain(now) | {
                "recipe": str(entry.job.ticket.recipe) if entry else None,
                "replicate": entry.job.ticket.replicate if entry else None,
                "leg": _leg_name(entry.job, state.stage) if entry else None,
                "target": _target(entry.job, state.stage) if entry and state.stage else None,
            }
            if state.stage is not None:
                training[state.stage] = state.step
        trained = dict(self.queue.stored)
        return {
            "queued": len(self.queue),
            "waiting": self.queue.waiting(),
            "stages": {"trained": trained, "training": training, "waiting": self.queue.wanted()},
            "progress": trained | {name: max(step, trained.get(name, 0)) for name, step in training.items()},
            "slots": slots,
            "steps_trained": self._steps_trained,
            "spent_s": sum(state.busy(now) for state in self.roster.slots.values()),
        }

    # -- inside ------------------------------------------------------------------------------------------------

    def _take_back(self, state: SlotState) -> None:
        """The slot was killed, or is silent: its job is queued again, first, or has failed."""
        if state.job is None:
            return
        entry = self.entries[state.job]
        entry.kills += 1
        if entry.kills >= self._max_failures:
            reason = f"the trial killed its slot {entry.kills} times (slots.max_failures={self._max_failures})"
            entry.book(Failed(reason, reason))
        self.give_back(state, urgent=True)

    def _begun(self, job: Job, stage: str) -> None:
        """What it says of the store that a job has come to a stage: all before it is there, nothing after it is."""
        k = next(k for k, leg in enumerate(job.path) if leg.stage.key == stage)
        for leg in job.path[:k]:
            self.queue.store(name_of(job, leg.stage.key), leg.steps)
        for leg in job.path[k + 1 :]:
            self.queue.mend(name_of(job, leg.stage.key), 0)

    def _hold(self, state: SlotState, stage: str | None) -> None:
        """Gives a slot a stage instead of the one that it has; none if another slot has it."""
        if state.stage is not None and state.stage != stage:
            self.queue.release(state.stage)
        state.stage = stage if stage is not None and self.queue.hold(stage, state.number) else None


def name_of(job: Job, stage: str) -> str:
    return job.namespace + stage


def end_of(job: Job, stage: str) -> int:
    """The step at which a job is done with a stage of its path."""
    if job.path[-1].stage.key == stage:
        return job.rungs[-1]
    return next(leg.steps for leg in job.path if leg.stage.key == stage)


def _target(job: Job, stage: str) -> int:
    return end_of(job, stage.removeprefix(job.namespace))


def _leg_name(job: Job, stage: str | None) -> str:
    """What a stage of a job's path is: "pretrain", or, of a task with phases, "finetune phase 1"."""
    if stage is None:
        return "evaluation"
    schedule = job.ticket.recipe.schedule
    before = ["pretrain"] if job.ticket.recipe.pretrain else []
    phases = len(job.path) - len(before)
    names = before + [f"{schedule} phase {k + 1}" if phases > 1 else schedule for k in range(phases)]
    legs = zip(names, job.path, strict=True)
    return next(name for name, leg in legs if name_of(job, leg.stage.key) == stage)
