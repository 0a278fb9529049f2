"""The scheduler: Tune's driver-side view of every result, and the one place that knows why a trial ended."""

from collections.abc import Callable
from typing import Any

import ray
from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from search.job import Failed, Ticket
from search.ledger import Ledger


class LedgerScheduler(FIFOScheduler):
    """Every trial runs to its last rung. Results and ends go to the ledger, early ends to the dispatcher too."""

    def __init__(self, ledger: Ledger, dispatcher: Any, steps_alone: Any) -> None:
        super().__init__()
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._steps_alone = steps_alone  # Ticket -> steps of its path

    def __reduce__(self) -> tuple[Any, ...]:
        return FIFOScheduler, ()  # in Tune's experiment checkpoint, which is not used: the study is the state

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self._measured(trial, result)
        return self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        ticket = self._measured(trial, result)
        self._ledger.finished(ticket, result["steps_trained"], self._steps_alone(ticket))

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        ticket = Ticket(**trial.config["ticket"])
        # Tune tells of the error before it knows the exception; the dispatcher has the slot's own traceback.
        failure: Failed | None = ray.get(self._dispatcher.failure.remote(ticket.id))
        self._dispatcher.stop.remote(ticket.id)
        self._ledger.failed(ticket, failure.traceback if failure else "the trial's actor died before its job ended")

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._dispatcher.stop.remote(Ticket(**trial.config["ticket"]).id)

    def _measured(self, trial: Trial, result: dict[str, Any]) -> Ticket:
        ticket = Ticket(**trial.config["ticket"])
        prefix = "metrics/"  # Tune flattens nested results
        metrics = {name.removeprefix(prefix): value for name, value in result.items() if name.startswith(prefix)}
        self._ledger.measured(ticket, result["rung"], metrics, result["time_ms"])
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
