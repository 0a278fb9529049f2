"""The dispatcher: the conversations of a search's trials, scheduler and slots about its jobs.

One small async Ray actor, which holds nothing that the study and the store do not; what it knows is on its board
(search/board.py). Nobody is woken for nothing: a slot that waits is handed its job, and a trial hears of its own job
alone.
"""

import asyncio
from dataclasses import replace
from typing import Any

from search.board import Board
from search.job import Failed, Job, Measured, Outcome, Ticket
from search.patience import Patience
from search.roster import SlotState
from trainables.problem import Problem

LOOK_AGAIN_S = 2.0  # how long a stage that another search trains is left alone


class Dispatcher:
    """See the module. Trials call `outcome`, the scheduler `stop`, slots `take` and what follows it.

    A slot's words carry its incarnation: those of a process that it no longer is, or about a job that it no longer
    has, change nothing. After a restart the dispatcher knows nothing: a slot that it does not know is told so and
    begins again, and a trial's question brings its ticket along.
    """

    def __init__(self, problem: Problem, *, share: bool, max_failures: int) -> None:
        self._board = Board(problem, _now, share=share, max_failures=max_failures)
        self._takers: dict[int, asyncio.Future[Job | str]] = {}  # slots that wait for work, first come first
        self._errors: dict[int, str] = {}  # slots that ended because they could not work
        self._patience = Patience(_now)
        self._division = ""  # of the store, as the slots' processes compute it from their numerics
        self._numerics: dict[str, Any] = {}
        self._closing = False

    # -- trials ------------------------------------------------------------------------------------------------

    async def submit(self, ticket: Ticket) -> None:
        """Queues a job; the same ticket again changes nothing."""
        self._board.submit(ticket)
        self._serve()

    async def outcome(self, ticket: Ticket, index: int) -> Outcome:
        """The outcome number `index` of a ticket's job, as soon as there is one. It is queued if it is not known: the
        first time, and after a restart of the dispatcher."""
        await self.submit(ticket)
        entry = self._board.entries.get(ticket.id)
        if entry is None:
            return _stopped()
        while len(entry.outcomes) <= index:
            if entry.stopped:
                return _stopped()
            if self._closing:
                return Failed("the search was closed", "the search was closed before this job ended")
            listener = asyncio.get_running_loop().create_future()
            entry.listeners.append(listener)
            await listener
        outcome = entry.outcomes[index]
        return replace(outcome, steps_trained=entry.steps_trained) if isinstance(outcome, Measured) else outcome

    async def failure(self, job: str) -> Failed | None:
        """What ended a job, if it failed."""
        entry = self._board.entries.get(job)
        return next((o for o in entry.outcomes if isinstance(o, Failed)), None) if entry else None

    async def stop(self, job: str) -> None:
        """The scheduler's last word on a job, whether it ended or not: nobody asks for it any more. A slot that trains
        it hears so at its next question."""
        self._board.stop(job)

    # -- slots -------------------------------------------------------------------------------------------------

    async def ready(self, slot: int, incarnation: str, division: str, numerics: dict[str, Any]) -> None:
        """The slot can work; its checkpoints are in the division of the store that these numerics have.

        A search has one, for a recipe has other numbers in another: a slot on another device, or with other packages,
        ends.
        """
        if self._hear(slot, incarnation) is None:
            return
        if not self._division:
            self._division, self._numerics = division, numerics
        if division != self._division:
            name = next(name for name, value in numerics.items() if self._numerics[name] != value)
            self._errors[slot] = (
                f"{name} must be the same on all slots of a search, but is {numerics[name]!r} on slot {slot} and"
                f" {self._numerics[name]!r} on the first; name one model in slots.accelerator_type, or use nodes alike"
            )

    async def beat(self, slot: int, incarnation: str, saved: int) -> None:
        """The slot's process lives, and has written so many checkpoints."""
        if self._hear(slot, incarnation) is not None:
            self._patience.saved(slot, incarnation, saved)
        self._look()

    async def take(self, slot: int, incarnation: str, wait_s: float, trained: int) -> Job | str:
        """Work for a slot whose process has trained so many steps: a job, "wait" when there is none within `wait_s`, or
        "close"."""
        state = self._hear(slot, incarnation)
        self._look()
        # A lost slot may be started again by Train, since its other workers waited.
        if slot in self._errors or self._closing:
            return "close"
        pause = self._patience.pause(slot)
        if state is None or pause:
            await asyncio.sleep(min(wait_s, pause) if pause else wait_s)
            return "wait"
        self._board.count(state, trained)
        if state.job is not None:  # the answer to its last question was lost on the way
            self._board.give_back(state)
        state.asked = True
        self._dismiss(slot, "wait")
        taker: asyncio.Future[Job | str] = asyncio.get_running_loop().create_future()
        self._takers[slot] = taker
        self._serve()
        if not taker.done():
            await asyncio.wait([taker], timeout=wait_s)
        if not taker.done():
            del self._takers[slot]
            return "wait"
        return taker.result()

    async def progress(self, slot: int, incarnation: str, job: str, stage: str, step: int, trained: int) -> bool:
        """What a slot trains now, and the steps that its process trained in all. False: stop.

        A verdict, the search's end, and a stage that another slot trains are the reasons to. Words may overtake each
        other: one that is older than what the slot has said since changes nothing, and unless the stage is the slot's,
        which may have left it or never had it, the answer is to stop.
        """
        state = self._at_work(slot, incarnation, job, trained)
        if state is None or self._closing:
            return False
        if state.trained is not None and trained < state.trained:
            may_train = self._board.has(state, stage)
        else:
            may_train = self._board.trains(state, stage, step)
            self._serve()
        return may_train and not self._board.entries[job].stopped

    async def milestone(self, slot: int, incarnation: str, job: str, stage: str, step: int, trained: int) -> None:
        """(stage, step) is in the store, whoever says so: jobs that wait for it may go on."""
        entry = self._board.entries.get(job)
        if entry is not None:
            self._board.stored(self._at_work(slot, incarnation, job, trained), entry.job, stage, step)
            self._serve()

    async def report(self, slot: int, incarnation: str, job: str, outcome: Outcome, trained: int) -> None:
        """A rung was reached, or the job failed.

        A rung that two incarnations of a slot report counts once; of several workers' failures the first stands.
        """
        state = self._at_work(slot, incarnation, job, trained)
        if state is None:
            return
        self._board.entries[job].book(outcome)
        if isinstance(outcome, Failed):
            state.live = None
        if isinstance(outcome, Failed) or outcome.final:
            self._board.free(state)
        elif state.stage is None:
            self._board.go_on(state)
        self._serve()

    async def leased(self, slot: int, incarnation: str, job: str, stage: str, seconds: float, trained: int) -> None:
        """Another search trains the stage, for so many seconds: the slot gives the job back until somebody looks."""
        state = self._at_work(slot, incarnation, job, trained)
        if state is not None:
            name = self._board.elsewhere(state, stage)
            asyncio.get_running_loop().call_later(min(max(seconds, 0.0), LOOK_AGAIN_S), self._look_again, name)
            self._serve()

    async def released(self, slot: int, incarnation: str, job: str, trained: int) -> None:
        """The slot goes no further with a job, told to or unable to. It is queued again unless a verdict stopped it."""
        state = self._at_work(slot, incarnation, job, trained)
        if state is not None:
            self._board.give_back(state, urgent=not state.refused)
            self._serve()

    async def outage(
        self, slot: int, incarnation: str, job: str | None, error: str, saved: int, trained: int
    ) -> float | None:
        """The store failed a slot, at a job, which is queued again, or at its start. Seconds until it may try again;
        None: it was once too often, and the slot ends.

        `saved` are the checkpoints that its process has written; each of its workers may say so. A job that the store
        fails while it works for others fails.
        """
        state = self._hear(slot, incarnation) if job is None else self._at_work(slot, incarnation, job, trained)
        if state is not None:
            self._patience.saved(slot, incarnation, saved)
            if job is not None:
                if self._patience.hopeless(job):
                    self._board.entries[job].book(
                        Failed(error, f"the store failed this trial alone, time after time: {error}")
                    )
                self._board.give_back(state, urgent=True)
            if not self._patience.outage(slot):
                self._errors[slot] = error
            self._serve()
        return None if slot in self._errors else self._patience.pause(slot)

    async def lost(self, slot: int, incarnation: str, error: str) -> None:
        """A slot cannot work (its packs, the store, its start); it ends. With the last one, the search does."""
        if self._hear(slot, incarnation) is not None:
            self._errors[slot] = error

    # -- the search --------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Slots stop at their next question, with a checkpoint, and end."""
        self._closing = True
        for slot in [*self._takers]:
            self._dismiss(slot, "close")
        for entry in self._board.entries.values():
            entry.tell()

    async def present(self) -> list[int]:
        """The slots that have spoken, are not silent, and have not said that they cannot work."""
        self._look()
        return [n for n, state in self._board.roster.slots.items() if not state.silent and n not in self._errors]

    async def blocked(self) -> int:
        """While a slot has nothing to do: how many jobs wait for a stage that another trains."""
        slots = self._board.roster.slots
        idle = any(slots[number].asked and slots[number].job is None for number in await self.present())
        return len(self._board.queue.waiting()) if idle else 0

    async def snapshot(self) -> dict[str, Any]:
        """What is going on, as plain values.

        queued    jobs that wait, for a slot or for a stage; `waiting` are the latter: {job: name of the stage}
        stages    by name: what is "trained" (the furthest step in the store), "training" (the step now) and "waiting"
                  (the furthest step that queued jobs need next); `progress` is the first two in one
        slots     by number: its process, job, recipe, replicate, leg and step, seconds with a job (`busy_s`), the
                  share without since its first (`idle`), and whether it is silent
        spent_s   seconds that slots had jobs, over all slots; errors: by slot, why it ended
        division  of the store, and the numerics that it is of; "" before a slot is ready
        """
        self._look()
        return self._board.snapshot() | {
            "errors": dict(self._errors),
            "division": self._division,
            "numerics": self._numerics,
        }

    # -- inside ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Hands work to waiting slots: first to those that hold the weights of a stage that is to be trained."""
        queue, slots = self._board.queue, self._board.roster.slots
        while self._takers and queue.any() and not self._closing:
            slot = next((n for n in self._takers if queue.is_free(slots[n].live)), next(iter(self._takers)))
            job = self._board.assign(slots[slot])
            if job is None:
                return
            self._takers.pop(slot).set_result(job)

    def _dismiss(self, slot: int, word: str) -> None:
        """Answers a slot that waits for work without any."""
        if slot in self._takers:
            self._takers.pop(slot).set_result(word)

    def _hear(self, slot: int, incarnation: str) -> SlotState | None:
        """The state of a slot that speaks; None if the word is of a process that it no longer is."""
        state, is_new = self._board.hear(slot, incarnation)
        if is_new:
            self._dismiss(slot, "wait")
            self._serve()
        return state

    def _at_work(self, slot: int, incarnation: str, job: str, trained: int) -> SlotState | None:
        """The state of a slot that speaks of the job that it has; None if it has it no longer."""
        state = self._hear(slot, incarnation)
        if state is None or state.job != job:
            return None
        self._board.count(state, trained)
        return state

    def _look(self) -> None:
        """Slots that have fallen silent are out, and what they had is others'."""
        fallen = self._board.look()
        for slot in fallen:
            self._dismiss(slot, "wait")
        if fallen:
            self._serve()

    def _look_again(self, name: str) -> None:
        self._board.queue.elsewhere(name, False)
        self._serve()


def _stopped() -> Failed:
    return Failed("the job was stopped", "the job was stopped by a verdict before it got so far")


def _now() -> float:
    return asyncio.get_running_loop().time()
