"""The engine: one run's moving parts (slots, dispatcher, Tune with the ledger), started, watched and ended in order."""

import os
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from search.config import SearchConfig
from search.cost import Costs
from search.dispatcher import Dispatcher
from search.job import Ticket
from search.keeper import Keeper
from search.ledger import Ledger
from search.pool import SlotPool, nodes, slot_count
from search.problem import Opened
from search.publisher import Publisher
from search.sampler import LedgerSearcher
from search.scheduler import EndWhen, LedgerScheduler
from search.slots import SlotJob
from search.spending import Spending
from search.tracking import Tracker
from search.trial import RecipeTrial
from search.view import Look, StageLook, Stages, View
from search.watch import Watch
from trainables.path import steps_alone

SLOT_CLOSE_S = 60.0  # how long slots may take to write their last checkpoint
HEAD = {"node:__internal_head__": 0.0001}  # driver-side actors stay on the head and hold nothing that a slot needs


class SlotsLostError(OSError):
    """Every slot ended before the search was complete; one line with the first reason."""


class Engine:
    """A search that runs: Ray is up, and the ledger says what is to be done. Use once.

    folder  RESULTS/NAME; Ray keeps its own bookkeeping in it while the search runs
    owner   of the search on the store, to other searches: the identity of its study
    note    as Watch has it
    """

    def __init__(
        self,
        config: SearchConfig,
        opened: Opened,
        ledger: Ledger,
        costs: Costs,
        spending: Spending,
        tracker: Tracker,
        folder: Path,
        *,
        owner: str,
        share: bool,
        note: Callable[[dict[str, Any]], str | None],
    ) -> None:
        cluster = nodes()
        what = config.slots.on_one_model(cluster)
        count = slot_count(what, cluster)
        self._config = config
        self._ledger = ledger
        self._costs = costs
        self._spending = spending
        self._interrupted = threading.Event()
        self._began = time.monotonic()
        self._ended_before = ledger.summary()["ended"]
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
        job = SlotJob(
            config.task,
            opened.packs,
            opened.backgrounds,
            store,
            owner,
            threads=what.threads,
            loaders=what.loaders,
            cache_bytes=int(what.batch_cache_gb * 1e9),
        )
        self._storage = folder / "ray"
        self._slots = SlotPool(count, what, job, self._dispatcher, str(self._storage), config.name)
        self._watch = Watch(self._dispatcher, self._slots, ledger, costs, spending, store, note)
        self._publisher = Publisher(self._look, folder, tracker, search=config.name, metric=config.objective.metric)
        size = int(config.store.max_gb * 1e9) if config.store.max_gb else None
        self._keeper = Keeper(store, owner, self._needed, size)

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
            with self._keeper, self._publisher:
                with self._watch, View(self._look, console, self._config.objective.metric):
                    self._tune()
                last = self._watch.look()  # before the publisher's last word, so that it has everything
            self._spending.save()
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
        if self._watch.warning:
            console.print(self._watch.warning, markup=False, soft_wrap=True)
        if dead:
            raise SlotsLostError(
                f"no slot is left to train; the first ended with {errors[0] if errors else 'no error'}"
            )
        if errors:
            console.print(f"a slot ended early and the others did its work: {errors[0]}", markup=False, soft_wrap=True)
        return int(last["steps_trained"])

    def _tune(self) -> None:
        """Ray Tune, to the end of the search."""
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1000"  # not 1 at a time: the watch's limit is the bound
        tuner = tune.Tuner(
            tune.with_resources(RecipeTrial, tune.PlacementGroupFactory([HEAD])),
            tune_config=tune.TuneConfig(
                search_alg=LedgerSearcher(self._ledger, self._dispatcher_name, bound=self._watch.limit),
                scheduler=LedgerScheduler(self._ledger, self._dispatcher, self._steps_alone),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self._storage),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the store has the weights
                stop=EndWhen(lambda: self.interrupted or self._slots.alive == 0),
            ),
        )
        tuner.fit()

    def _steps_alone(self, ticket: Ticket, rung: int) -> int:
        """The steps of a ticket's path to a rung of its last stage. Over all tickets they are counted once."""
        path = self._costs.path(ticket.recipe, ticket.replicate)
        steps = steps_alone([path]) - path[-1].steps + rung
        added = rung - ticket.after if ticket.after else steps
        self.steps_alone += added
        self._spending.steps_alone += added
        return steps

    def _needed(self) -> set[str]:
        """The stages of all recipes that may still be trained."""
        live = self._ledger.live()
        return {leg.stage.key for recipe, replicate in live for leg in self._costs.path(recipe, replicate)}

    def _look(self) -> Look:
        """What there is to see of the search."""
        summary: Any = self._ledger.summary()
        shot = self._watch.shot or self._watch.look()
        ended = summary["ended"] + summary["left"] - self._ended_before  # few of those left behind go on
        passed = time.monotonic() - self._began
        note = "" if shot["slots"] else "slots are starting"
        if shot["errors"]:
            note = f"{len(shot['errors'])} slots ended: {next(iter(shot['errors'].values()))}"
        if self.interrupted:
            note = "stopping: running trials are checkpointed"
        return {
            "summary": summary,
            "slots": shot["slots"],
            "queued": shot["queued"],
            "waiting": len(shot["waiting"]),
            "stages": _stages(shot),
            "cost": {
                "steps_trained": self._spending.steps_trained,
                "steps_alone": self._spending.steps_alone,
                "hours": self._spending.hours,
                "budget_hours": self._config.budget.hours,
            },
            "left_s": passed / ended * (summary["recipes"] - summary["ended"] - summary["left"]) if ended else None,
            "note": note,
        }


def _stages(shot: dict[str, Any]) -> Stages:
    """The tree as a snapshot of the dispatcher has it: counts, and the stages in training with the jobs that wait."""
    waits = Counter(shot["waiting"].values())
    busy = [slot for slot in shot["slots"].values() if slot["stage"] is not None]
    now: list[StageLook] = [
        {"leg": slot["leg"], "step": slot["step"], "target": slot["target"], "waits": waits[slot["stage"]]}
        for slot in busy
    ]
    states = shot["stages"]
    return {
        "trained": len(states["trained"].keys() - states["training"].keys()),
        "training": len(states["training"]),
        "waiting": len(states["waiting"].keys() - states["training"].keys()),
        "now": sorted(now, key=lambda stage: -stage["waits"]),
    }
