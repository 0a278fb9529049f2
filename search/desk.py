"""The desk: a slot's side of its conversation with the dispatcher. Rank 0 talks, the other ranks hear the same."""

import errno
import logging
import os
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any, Literal

import ray
from ray.exceptions import ActorDiedError

from search.job import Failed, Job, Outcome
from search.roster import BEAT_S
from trainables.stage import Stage

log = logging.getLogger(__name__)

ASK_AT_FIRST_S = 0.05  # after a report, while a verdict is on its way; then twice as long each time, up to
ASK_EVERY_S = 0.5  # how often a slot tells where it is and asks whether to go on
TAKE_WAIT_S = 2.0  # how long one question for work waits
# Somebody must see to these: they are no outages. Object stores have words in the place of numbers.
LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
DENIED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "NO_SUCH_BUCKET", "PERMISSION_DENIED")
PEER_LOSS_S = 6.0  # Train notices a killed worker and ends its peers well within this


class Pace:
    """When a slot asks whether to go on: at once after a report, soon again, then every `ASK_EVERY_S`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = 0.0
        self._asked = -float("inf")

    def hurry(self) -> None:
        self._pause = 0.0

    def due(self) -> bool:
        return self._clock() - self._asked >= self._pause

    def asked(self) -> None:
        self._asked = self._clock()
        self._pause = min(2 * self._pause, ASK_EVERY_S) if self._pause else ASK_AT_FIRST_S


class Desk:
    """A slot's worker at its desk, from its start to its end; `trainer` is set once it is made.

    leaving  whether the slot is to go to another node: it then gives its job back, with a checkpoint
    """

    def __init__(self, dispatcher: Any, slot: int, ranks: Any, leaving: Callable[[], bool] = lambda: False) -> None:
        self.ranks = ranks
        self.trainer: Any = None
        self._leaving = leaving
        self._dispatcher = dispatcher
        self._slot = slot
        # Of all workers of the slot: what any of them says is the slot's word.
        self._incarnation = ranks.broadcast(f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")
        self._pace = Pace()
        self._left = threading.Event()
        if ranks.first:
            threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def leave(self) -> None:
        """Ends the heartbeat: this process will be no slot any more."""
        self._left.set()

    def ready(self, division: str, numerics: dict[str, Any]) -> None:
        """The trainer is made; its checkpoints are in the division of the store that these numerics have.

        Raises ValueError where they are not those of the slot's other workers.
        """
        first = self.ranks.broadcast(numerics)
        if not self.ranks.all(first == numerics):
            raise ValueError(f"all workers of a slot must compute alike, but one has {numerics} and the first {first}")
        if self.ranks.first:
            self._say("ready", division, numerics)

    def failed_to_start(self, error: Exception) -> bool:
        """The trainer cannot be made. Whether Train is to start this slot again, after an outage that was waited for;
        else it ends."""
        if _may_pass(error):
            pause = ray.get(self._say("outage", None, _one_line(error), 0, 0))
            if pause is not None:
                time.sleep(pause)
                return True
        self.lost(error)
        return False

    def take(self) -> Job | str:
        """A job, "wait", "close" or "leave" (the node). "close" too where the search ended without this slot, which
        waited for a node."""
        job: Any = None
        if self.ranks.first and self._leaving():
            job = "leave"
        elif self.ranks.first:
            try:
                job = ray.get(self._say("take", TAKE_WAIT_S, self.trainer.steps_trained))
            except ActorDiedError:
                job = "close"
        self._pace.hurry()
        answer: Job | str = self.ranks.broadcast(job)
        return answer

    def control(self, job: Job) -> Any:
        """The loop's question before each step. An answer is read when it is there, so that no step waits for it.

        What is answered about a stage that was left in the meantime does not count: the next question comes at once.
        """
        asked: list[Any] = []
        asked_stage, answer = "", True

        def go_on(stage: Stage, step: int) -> bool:
            nonlocal asked_stage, answer
            if self.ranks.first:
                if asked and ray.wait(asked, timeout=0)[0]:
                    may_train = ray.get(asked.pop())
                    answer = answer and (may_train or asked_stage != stage.key)
                answer = answer and not self._leaving()
                if not asked and (self._pace.due() or asked_stage != stage.key):
                    asked.append(self._say("progress", job.id, stage.key, step, self.trainer.steps_trained))
                    self._pace.asked()
                    asked_stage = stage.key
            if self.ranks.world_size > 1 and step % 10:
                return True  # one broadcast in ten steps: every rank must leave at the same one
            return bool(self.ranks.broadcast(answer))

        return go_on

    def milestone(self, job: Job) -> Any:
        def tell(stage: str, step: int) -> None:
            if self.ranks.first:
                self._say("milestone", job.id, stage, step, self.trainer.steps_trained)

        return tell

    def report(self, job: Job, outcome: Outcome) -> None:
        if self.ranks.first:
            ray.get(self._say("report", job.id, outcome, self.trainer.steps_trained))
        self._pace.hurry()

    def lost(self, error: Exception) -> None:
        """This slot cannot work: the search shows why, and ends when no slot is left."""
        log.error("slot %d ends: %s", self._slot, error)
        ray.get(self._say("lost", _one_line(error)))

    def ended_by(self, job: Job, error: Exception) -> Literal["go on", "restart", "end"]:
        """Says what ended a job to the dispatcher, and to the slot what to do.

        A verdict, or another search that trains the stage: go on with the next job. An error of the place and not of
        the recipe (store or packs cannot be read or written): the job stays unfinished and the slot ends, but where it
        may pass, it tries again a few times first. A poisoned process: restart, and the job is queued again. Anything
        else fails the job. With several workers the slot restarts where it would go on, since the others wait for this
        one.
        """
        import torch

        from datasets import PackError
        from trainables.lease import Leased
        from trainables.loop import Interrupted

        alone = self.ranks.world_size == 1
        if isinstance(error, Leased):
            if self.ranks.first:
                seconds = error.until - time.time()
                ray.get(self._say("leased", job.id, error.stage, seconds, self.trainer.steps_trained))
            return "go on"
        if isinstance(error, Interrupted):
            if self.ranks.first:
                ray.get(self._say("released", job.id, self.trainer.steps_trained))
            return "go on"
        self.trainer.forget()
        if isinstance(error, (OSError, PackError)):
            if _may_pass(error):
                log.warning("slot %d: %s", self._slot, error)
                words = (job.id, _one_line(error), self._num_saved(), self.trainer.steps_trained)
                tries_again = ray.get(self._say("outage", *words)) is not None
            else:
                ray.get(self._say("released", job.id, self.trainer.steps_trained))
                self.lost(error)
                tries_again = False
            return "restart" if not alone else "go on" if tries_again else "end"
        if isinstance(error, torch.AcceleratorError):
            return "restart"
        if not alone and isinstance(error, RuntimeError):
            # A peer that was killed shows as a failed collective here: Train is given the time to end this one too.
            time.sleep(PEER_LOSS_S)
        outcome = Failed(_one_line(error), traceback.format_exc())
        ray.get(self._say("report", job.id, outcome, self.trainer.steps_trained))
        return "go on" if alone else "restart"

    def _num_saved(self) -> int:
        """The checkpoints that this process has written."""
        return int(self.trainer.checkpoints.saved) if self.trainer is not None else 0

    def _say(self, what: str, *words: Any) -> Any:
        return getattr(self._dispatcher, what).remote(self._slot, self._incarnation, *words)

    def _beat(self) -> None:
        """A thread of its own, so that a long step or an evaluation is no silence."""
        while not self._left.is_set():
            self._say("beat", self._num_saved())
            self._left.wait(BEAT_S)


def _may_pass(error: Exception) -> bool:
    """Whether it is an outage: not that the store is full, denied or wrong in what it holds, nor a pack that is not
    there or not right."""
    from datasets import PackError
    from trainables.objects import StoreContentError

    outage = False
    cause: BaseException | None = error
    while isinstance(cause, (OSError, PackError)):
        if isinstance(cause, (StoreContentError, FileNotFoundError)):
            return False
        if isinstance(cause, OSError):
            if cause.errno in LASTING or any(word in str(cause) for word in DENIED):
                return False
            outage = True
        cause = cause.__context__
    return outage


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
