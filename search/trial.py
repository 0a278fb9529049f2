"""A trial: a Tune Trainable that holds no accelerator and imports no torch. It hands in its ticket and waits.

Nothing is asked in `setup` or `reset_config`: with reused actors Tune may call them late, for a trial that has already
ended. It is `step` that brings the ticket, idempotently.
"""

from typing import Any

import ray
from ray import tune

from search.job import Failed, Outcome, Ticket


class TrialFailed(RuntimeError):
    """The job behind a trial failed; the message is the slot's traceback."""


class RecipeTrial(tune.Trainable):
    """One replicate of one recipe. A step is one evaluation, which Tune passes on as one value (search.job.Measured):
    it would keep statistics of every number that it can see."""

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._ticket: Ticket = config["ticket"]
        self._dispatcher: Any = ray.get_actor(config["dispatcher"])
        self._seen = 0

    def step(self) -> dict[str, Any]:
        outcome: Outcome = ray.get(self._dispatcher.outcome.remote(self._ticket, self._seen))
        if isinstance(outcome, Failed):
            raise TrialFailed(outcome.traceback)
        self._seen += 1
        # `done` is Tune's own word, which it also sets where a verdict ends the trial.
        return {"measured": outcome, "done": outcome.final}

    def get_auto_filled_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Nothing: of what Tune adds to a result (times, process, host, the config again) nothing is read here."""
        return {}
