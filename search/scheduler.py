"""The scheduler: Tune's driver-side view of every result, and the one place that knows why a trial ended."""

import logging
from collections.abc import Callable
from typing import Any

import ray
from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from search.job import Failed, Measured, Ticket
from search.ledger import Ledger

log = logging.getLogger(__name__)


class LedgerScheduler(FIFOScheduler):
    """Hands every result to the ledger and its verdict to Tune; ends go to both the ledger and the dispatcher."""

    def __init__(self, ledger: Ledger, dispatcher: Any, steps_alone: Callable[[Ticket, int], int]) -> None:
        super().__init__()
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._steps_alone = steps_alone  # of a ticket's path to a rung

    def __reduce__(self) -> tuple[Any, ...]:
        return FIFOScheduler, ()  # in Tune's experiment checkpoint, which is not used: the study is the state

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        ticket = _ticket(trial)
        if self._measured(ticket, result["measured"]):
            return self.CONTINUE
        self._dispatcher.stop.remote(ticket.id)
        return self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """After the last rung, which Tune shows nowhere else, or after a verdict to stop."""
        ticket = _ticket(trial)
        last: Measured = result["measured"]
        told = last.steps_trained, self._steps_alone(ticket, last.step)
        if last.final:
            self._measured(ticket, last)
            self._ledger.finished(ticket, *told)
            self._dispatcher.stop.remote(ticket.id)
        else:
            self._ledger.left(ticket, *told)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """The job failed; or the trial's actor died, and a new one takes the ticket, whose job goes on meanwhile."""
        ticket = _ticket(trial)
        # Tune tells of the error before it knows the exception; the dispatcher has the slot's own traceback.
        failure: Failed | None = ray.get(self._dispatcher.failure.remote(ticket.id))
        if failure is None and self._ledger.lost(ticket):
            log.warning("the actor of trial %s died: another one takes its ticket", ticket.id)
            return
        self._dispatcher.stop.remote(ticket.id)
        self._ledger.failed(ticket, failure.traceback if failure else "the trial's actor died before its job ended")

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._dispatcher.stop.remote(_ticket(trial).id)

    def _measured(self, ticket: Ticket, outcome: Measured) -> bool:
        return self._ledger.measured(ticket, outcome.step, outcome.metrics, outcome.time_ms)


def _ticket(trial: Trial) -> Ticket:
    ticket: Ticket = trial.config["ticket"]
    return ticket


class EndWhen(Stopper):
    """Ends the whole experiment as soon as a condition holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition

    def __reduce__(self) -> tuple[Any, ...]:
        return Stopper, ()  # see LedgerScheduler

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._condition()
