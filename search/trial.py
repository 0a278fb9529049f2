"""A trial: a Tune Trainable that holds no accelerator and imports no torch. It submits its ticket and waits.

Nothing is submitted in `setup` or `reset_config`: with reused actors Tune may call them late, for a trial that has
already ended. The first `step` submits, idempotently.
"""

from typing import Any

import ray
from ray import tune

from search.job import Failed, Outcome, Ticket, Unknown


class TrialFailed(RuntimeError):
    """The job behind a trial failed; the message is the slot's traceback."""


class RecipeTrial(tune.Trainable):
    """One replicate of one recipe. A step is one evaluation."""

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._ticket = Ticket(**config["ticket"])
        self._dispatcher: Any = ray.get_actor(config["dispatcher"])
        self._seen = 0

    def step(self) -> dict[str, Any]:
        outcome: Outcome | Unknown = Unknown()
        if self._seen:
            outcome = self._ask()
        while isinstance(outcome, Unknown):  # not submitted yet, or the dispatcher was restarted
            ray.get(self._dispatcher.submit.remote(self._ticket))
            outcome = self._ask()
        if isinstance(outcome, Failed):
            raise TrialFailed(outcome.traceback)
        self._seen += 1
        return {
            "metrics": outcome.metrics,
            "rung": outcome.step,
            "time_ms": outcome.time_ms,
            "steps_trained": outcome.steps_trained,
            "final": outcome.final,
            "done": outcome.final,  # Tune's own word, which it also sets where a verdict ends the trial
        }

    def _ask(self) -> Outcome | Unknown:
        answer: Outcome | Unknown = ray.get(self._dispatcher.outcome.remote(self._ticket.id, self._seen))
        return answer

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing: the store holds the weights, the study holds the values."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to load; see `save_checkpoint`."""
