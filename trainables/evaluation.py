"""Evaluation: what the averaged weights of a run are worth on the evaluation sets, measured once and kept in the store.

It works on a copy and draws no random numbers, so that how often a run is evaluated changes nothing of it.
"""

import time
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import nn

from datasets import Source, eval_batches
from datasets.compositing import Scenes
from trainables.adaptation import recompute_statistics
from trainables.feed import Feed
from trainables.path import Leg
from trainables.ranks import Ranks
from trainables.recipe import digest
from trainables.run import Run
from trainables.stage import Rows
from trainables.store import Evaluation, Store
from trainables.task import Task

EVALUATION_BATCH = 32


class EvaluationSets:
    """The sets that one search is evaluated on.

    task        the search's own, whatever phase of it a stage trains
    val, tests  `val` at every rung, `tests` at the last one only
    scenes      what people are put before, where the task composes
    """

    def __init__(
        self,
        task: Task,
        val: Source,
        tests: Mapping[str, Source],
        *,
        scenes: Scenes | None,
        feed: Feed,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.val = val
        self.tests = dict(tests)
        self._task, self._scenes = task, scenes
        self._feed, self._device, self._ranks = feed, device, ranks

    def stored(self, store: Store, leg: Leg, rung: int, *, final: bool) -> dict[str, Evaluation | None]:
        """What the store has of a rung, by set: "val", and at the last rung each "test/NAME"."""
        found: dict[str, Evaluation | None] = {}
        for name, source in self._sets(final).items():
            one = store.evaluation(leg.stage.key, rung, self.key(leg, source)) if self._ranks.first else None
            found[name] = self._ranks.broadcast(one)
        return found

    def completed(
        self, store: Store, run: Run, leg: Leg, found: Mapping[str, Evaluation | None], *, final: bool
    ) -> dict[str, Evaluation | None]:
        """The same without gaps: a run at that rung is measured on the sets that the store has nothing of."""
        model = self.model(run, leg.statistics)
        missing = {name: source for name, source in self._sets(final).items() if found[name] is None}
        return {**found, **{name: self._evaluate(store, run, model, leg, source) for name, source in missing.items()}}

    def key(self, leg: Leg, source: Source) -> str:
        """Of all that changes what weights are measured to be on a set; of backgrounds only where they are seen."""
        behind = self._scenes.evaluation.digest if self._scenes and self._task.composes(source.packs) else None
        options = self._task.spec.evaluation_options()
        how = [source.digest, behind, self._task.metric_version, options, "real"]
        return digest(how + ([vars(leg.statistics)] if leg.statistics else []))[:16]

    def model(self, run: Run, statistics: Rows | None) -> nn.Module:
        """The model that is evaluated: the averaged weights, with the statistics of real rows where they are given."""
        # Statistics of BatchNorm2d are the same on every rank; of other buffers the run's are rank 0's.
        self._ranks.copy(run.average.buffers())
        if statistics is None:
            return run.average
        model = deepcopy(run.average)
        with run.autocast():
            recompute_statistics(model, self._feed.once(statistics, run.task, run.stage.seed), run.task.loss)
        return model

    def metrics(self, run: Run, model: nn.Module, source: Source) -> dict[str, float]:
        """The metrics of a model on a whole set; the sums over ranks are exact."""
        evaluator = run.task.evaluator(self._device)
        model.eval()
        columns = run.task.evaluation_columns(source.packs)
        batches = eval_batches(
            source if set(columns) <= set(source.columns) else Source(source.packs, columns),
            run.task.prepare,
            columns,
            batch_size=EVALUATION_BATCH,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
        )
        with torch.no_grad(), run.autocast():
            for batch in batches:
                evaluator.update(model, self._feed.to_device(batch))
        self._ranks.sum(evaluator.state())
        return {name: float(value) for name, value in evaluator.compute().items()}

    def _sets(self, final: bool) -> dict[str, Source]:
        return {"val": self.val} | ({f"test/{name}": source for name, source in self.tests.items()} if final else {})

    def _evaluate(self, store: Store, run: Run, model: nn.Module, leg: Leg, source: Source) -> Evaluation:
        """Evaluates a run on a whole set, and stores what it measured."""
        metrics = self.metrics(run, model, source)
        evaluation = Evaluation(metrics, train_loss=run.train_loss(), time_ms=time.time_ns() // 1_000_000)
        if self._ranks.first:
            store.save_evaluation(run.stage.key, run.step, self.key(leg, source), evaluation)
        found: Evaluation = self._ranks.broadcast(evaluation)
        return found
