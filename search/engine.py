"""The engine: one run's moving parts (slots, dispatcher, Tune with the ledger), started, watched and ended in order."""

import os
import shutil
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from search.config import SearchConfig
from search.dispatcher import Dispatcher
from search.job import Ticket
from search.ledger import Ledger
from search.pool import SlotPool, nodes, slot_count
from search.problem import Opened
from search.publisher import Publisher
from search.sampler import LedgerSearcher
from search.scheduler import EndWhen, LedgerScheduler
from search.slots import SlotJob
from search.tracking import Tracker
from search.trial import RecipeTrial
from search.view import Look, View
from trainables.path import path_of, steps_alone

SLOT_CLOSE_S = 60.0  # how long slots may take to write their last checkpoint
HEAD = {"node:__internal_head__": 0.0001}  # driver-side actors stay on the head and hold nothing that a slot needs


class SlotsLostError(OSError):
    """Every slot ended before the search was complete; one line with the first reason."""


class Engine:
    """A search that runs: Ray is up, and the ledger says what is to be done. Use once.

    folder  RESULTS/NAME; Ray keeps its own bookkeeping in it while the search runs
    """

    def __init__(
        self,
        config: SearchConfig,
        opened: Opened,
        ledger: Ledger,
        tracker: Tracker,
        folder: Path,
        *,
        share: bool,
    ) -> None:
        count = slot_count(config.slots, nodes())
        self._config = config
        self._metric = config.objective.metric
        self._publisher = Publisher(self._look, folder, tracker, search=config.name, metric=self._metric)
        self._problem = opened.problem
        self._bound = count + max(1, count // 2)  # trials that are out: every slot busy, and a few queued
        self._interrupted = threading.Event()
        self._began = time.monotonic()
        self.steps_alone = 0
        self._dispatcher_name = f"titrate-{config.name}-{uuid.uuid4().hex[:8]}"
        options: dict[str, Any] = {
            "name": self._dispatcher_name,
            "num_cpus": 0,
            "resources": HEAD,
            "max_concurrency": 10_000,
        }
        actor: Any = ray.remote(Dispatcher)
        self._dispatcher = actor.options(**options, max_restarts=-1, max_task_retries=-1).remote(
            opened.problem, share=share, max_failures=config.slots.max_failures
        )
        store = config.store.uri or str(folder.parent / "store")
        job = SlotJob(config.task, opened.packs, opened.backgrounds, store, config.slots.threads, config.slots.loaders)
        self._storage = folder / "ray"
        self._slots = SlotPool(count, config.slots, job, self._dispatcher, str(self._storage), config.name)
        self._ledger = ledger
        self._ended_before = self._ledger.summary()["ended"]

    @property
    def interrupted(self) -> bool:
        return self._interrupted.is_set()

    def interrupt(self) -> None:
        """Asks for an orderly end: trials stop at their next question, with a checkpoint."""
        self._interrupted.set()

    def run(self, console: Console) -> int:
        """Starts slots and trials, waits for the end, and returns how many steps were trained."""
        self._slots.start()
        try:
            with View(self._look, console, self._metric), self._publisher:
                self._tune()
            last: dict[str, Any] = ray.get(self._dispatcher.snapshot.remote())
            complete = self._ledger.complete
            dead = not complete and not self.interrupted and self._slots.alive == 0
        finally:
            ray.get(self._dispatcher.close.remote())
            closed = self._slots.join(SLOT_CLOSE_S)
            ray.kill(self._dispatcher)
        if not closed:
            console.print("a slot did not end in time; what it trained since its last checkpoint is lost", markup=False)
        shutil.rmtree(self._storage, ignore_errors=True)  # Ray's bookkeeping of slots and trials that have ended
        errors = [*last["errors"].values(), *map(str, self._slots.errors)]
        if dead:
            raise SlotsLostError(
                f"no slot is left to train; the first ended with {errors[0] if errors else 'no error'}"
            )
        if errors:
            console.print(f"a slot ended early and the others did its work: {errors[0]}", markup=False, soft_wrap=True)
        return int(last["steps_trained"])

    def _tune(self) -> None:
        """Ray Tune, to the end of the search."""
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self._bound)  # Tune's default for a searcher is 1 at a time
        tuner = tune.Tuner(
            tune.with_resources(RecipeTrial, tune.PlacementGroupFactory([HEAD])),
            tune_config=tune.TuneConfig(
                search_alg=LedgerSearcher(self._ledger, self._dispatcher_name, bound=lambda: self._bound),
                scheduler=LedgerScheduler(self._ledger, self._dispatcher, self._steps_alone),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self._storage),
                verbose=0,
                stop=EndWhen(lambda: self.interrupted or self._slots.alive == 0),
            ),
        )
        tuner.fit()

    def _steps_alone(self, ticket: Ticket, rung: int) -> int:
        """The steps of a ticket's path to a rung of its last stage; of all tickets together they are counted once."""
        steps = steps_alone([path_of(ticket.recipe, self._problem, ticket.replicate)]) - self._problem.steps + rung
        self.steps_alone += rung - ticket.after if ticket.after else steps
        return steps

    def _look(self) -> Look:
        """What the live view shows, as plain values."""
        counts = self._ledger.summary()
        shot: dict[str, Any] = ray.get(self._dispatcher.snapshot.remote())
        ended = counts["ended"] - self._ended_before
        passed = time.monotonic() - self._began
        left = passed / ended * (counts["recipes"] - counts["ended"]) if ended else None
        note = "" if shot["slots"] else "slots are starting"
        if shot["errors"]:
            note = f"{len(shot['errors'])} slots ended: {next(iter(shot['errors'].values()))}"
        if self.interrupted:
            note = "stopping: running trials are checkpointed"
        return {
            "summary": {
                "recipes": counts["recipes"],
                "ended": counts["ended"],
                "failed": counts["failed"],
                "running": counts["running"],
                "best": [(*counts["best"], self._config.budget.seeds)] if counts["best"] else [],
            },
            "slots": shot["slots"],
            "queued": shot["queued"],
            "cost": {"steps_trained": shot["steps_trained"], "steps_alone": self.steps_alone},
            "left_s": left,
            "note": note,
        }
