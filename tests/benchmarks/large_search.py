"""A large search in MLflow that nobody ran: recipes drawn from the README's space, scores from a law with noise.

The search's own run and its first trials are written by the real tracker. The others are inserted into the database's
tables as copies of those, since the tracker's calls would take minutes; `write` checks that both kinds have the same
params, tags and metrics.
"""

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.run_labels import filter_tags, run_name
from search.tracking import DatasetFact, Tracker, default_uri
from trainables.recipe import Recipe

CLASSES = ("skin", "hair", "brow", "eye", "nose", "lip", "mouth", "ear", "neck")
SETS = {"val": 0.0, "test/same": -0.005, "test/other": -0.12}  # and how much lower each scores
NUM_REAL, NUM_SYNTHETIC = 4000, 20_000
RUNGS = (250, 500, 1000, 2000)
METHODS = {"mixed": ("none", "real_bn", "dsbn"), "finetune": ("none", "real_bn", "adabn")}
SPREAD = 0.004  # of a recipe's seeds
STUDY = "5" * 32
BEGAN_MS = 1_780_000_000_000
PACKS = (
    DatasetFact("real-train", "real", "ab" * 32, "/packs/real-train", NUM_REAL),
    DatasetFact("syn-train", "synthetic", "cd" * 32, "/packs/syn-train", NUM_SYNTHETIC),
    DatasetFact("real-val", "val", "ef" * 32, "/packs/real-val", 500),
)
CONFIG = "name: {name}\ntask: {{kind: segmentation}}\nobjective: {{metric: val/miou, mode: max}}\n"


@dataclass(frozen=True)
class Trial:
    """A replicate: its evaluations by step, and how it ended."""

    recipe: Recipe
    seed: int
    number: int
    status: str
    evaluations: Mapping[int, Mapping[str, float]]

    @property
    def counts(self) -> dict[str, int]:
        recipe = self.recipe
        known = {}
        if recipe.real_fraction is not None:
            known["num_real_labels"] = round(NUM_REAL * recipe.real_fraction)
        if recipe.synthetic_fraction is not None:
            known["num_synthetic"] = round(NUM_SYNTHETIC * recipe.synthetic_fraction)
        return known

    @property
    def facts(self) -> dict[str, int]:
        last = max(self.evaluations, default=0)
        before = self.recipe.pretrain.steps if self.recipe.pretrain else 0
        return {"steps_trained": last, "steps_alone": last + before}


def trials(recipes: int, seed: int = 0) -> Iterator[Trial]:
    """Of `recipes` recipes, two in three are left behind at a rung, some fail, and the better tenth has three seeds."""
    rng = np.random.default_rng(seed)
    for number in range(recipes):
        recipe = _recipe(rng)
        centre = _score(recipe) + rng.normal(0, 0.002)
        seeds = 3 if centre > 0.856 else 1
        chance = rng.random()
        status = "failed" if chance < 0.01 else "stopped" if chance < 0.6 and seeds == 1 else "finished"
        steps = RUNGS if status == "finished" else RUNGS[: int(rng.integers(1, 3))]
        for replicate in range(seeds):
            value = centre + rng.normal(0, SPREAD)
            evaluations = {step: _metrics(rng, value * (1 - 0.05 * math.log2(RUNGS[-1] / step))) for step in steps}
            yield Trial(recipe, replicate, number, status, evaluations)


def _recipe(rng: np.random.Generator) -> Recipe:
    schedule = str(rng.choice(["real_only", "synthetic_only", "mixed", "finetune"], p=[0.15, 0.05, 0.4, 0.4]))
    params: dict[str, Any] = {"schedule": schedule, "lr": float(10 ** rng.uniform(-3, -1))}
    if schedule != "synthetic_only":
        params["real_fraction"] = float(rng.choice([0.02, 0.05, 0.1, 0.25, 0.5, 1.0]))
    if schedule != "real_only":
        params["synthetic_fraction"] = float(rng.choice([0.1, 0.25, 0.5, 1.0]))
    if schedule in METHODS:
        params["adaptation"] = str(rng.choice(METHODS[schedule]))
    if schedule == "mixed":
        params["synthetic_share"] = float(np.round(rng.uniform(0.05, 0.95), 3))
    if schedule == "finetune":
        params |= {"pretrain.steps": int(rng.choice([1000, 2000])), "pretrain.lr": 0.03}
    return Recipe.from_params(params)


def _score(recipe: Recipe) -> float:
    """The law: `1 - (c + a (n_real + k n_syn^0.8)^-b)`, worse away from a good rate and a good share."""
    n = NUM_REAL * (recipe.real_fraction or 0.0)
    s = NUM_SYNTHETIC * (recipe.synthetic_fraction or 0.0)
    error = 0.10 + 0.6 * (n + 0.4 * s**0.8 + 1.0) ** -0.32
    error += 0.01 * (math.log10(recipe.lr) + 1.8) ** 2
    if isinstance(recipe.synthetic_share, float):
        error += 0.04 * (recipe.synthetic_share - 0.55) ** 2
    error += {"real_bn": -0.003, "dsbn": -0.005}.get(recipe.adaptation or "none", 0.0)
    return 1 - error


def _metrics(rng: np.random.Generator, value: float) -> dict[str, float]:
    found = {}
    for name, shift in SETS.items():
        each = value + shift + np.linspace(-0.1, 0.1, len(CLASSES)) + rng.normal(0, 0.003, len(CLASSES))
        found |= {f"{name}/iou/{one}": float(v) for one, v in zip(CLASSES, each, strict=True)}
        found[f"{name}/miou"] = float(each.mean())
    return found


def write(results: Path, name: str, recipes: int, *, by_tracker: int = 5) -> int:
    """Writes the search into RESULTS/mlflow.db, made here; returns how many trials (runs) it has."""
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    tracker = Tracker(default_uri(results), "titrate", name, results / "spool")
    tracker.connect()
    tags = {"titrate.metric": "val/miou", "titrate.mode": "max", "titrate.seeds": 3, "titrate.trials": recipes}
    tracker.start(STUDY, {"seeds": 3, "budget.steps": 2000}, tags, CONFIG.format(name=name), f"{name}.yaml", PACKS)
    every = list(trials(recipes))
    for trial in every[:by_tracker]:
        tracker.trial_started(trial.recipe, trial.seed, trial.number, trial.counts, PACKS)
        for step, metrics in trial.evaluations.items():
            tracker.evaluation(trial.recipe.key, trial.seed, step, metrics, BEGAN_MS + step)
        traceback = "Traceback\nRuntimeError: out of memory" if trial.status == "failed" else None
        tracker.trial_ended(trial.recipe.key, trial.seed, trial.status, traceback=traceback, facts=trial.facts)  # type: ignore[arg-type]
    if not tracker.finish("finished"):
        raise RuntimeError(f"MLflow at {default_uri(results)} did not take the search")
    _insert(default_uri(results), name, every, by_tracker)
    return len(every)


def _insert(uri: str, name: str, every: list[Trial], known: int) -> None:
    from mlflow import MlflowClient
    from mlflow.store.tracking.dbmodels import models
    from sqlalchemy import create_engine, insert

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("titrate")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.\"titrate.kind\" = 'search'")
    for trial in every[:known]:
        _check(client, experiment.experiment_id, trial, name, parent.info.run_id)
    rows: dict[Any, list[dict[str, Any]]] = {
        table: [] for table in (models.SqlRun, models.SqlTag, models.SqlParam, models.SqlMetric, models.SqlLatestMetric)
    }
    for i, trial in enumerate(every[known:], known):
        run_id = f"{i:032x}"
        root = f"{experiment.artifact_location}/{run_id}/artifacts"
        began = BEGAN_MS + 1000 * i
        rows[models.SqlRun].append(
            {
                "run_uuid": run_id,
                "name": run_name(trial.recipe, trial.seed, trial.number),
                "source_type": "UNKNOWN",
                "source_name": "",
                "entry_point_name": "",
                "user_id": "unknown",
                "status": {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}[trial.status],
                "start_time": began,
                "end_time": began + 60_000,
                "source_version": "",
                "lifecycle_stage": "active",
                "artifact_uri": root,
                "experiment_id": int(experiment.experiment_id),
            }
        )
        params, tags = _params(trial), _tags(trial, name, parent.info.run_id)
        rows[models.SqlTag] += [{"key": k, "value": v, "run_uuid": run_id} for k, v in tags.items()]
        rows[models.SqlParam] += [{"key": k, "value": v, "run_uuid": run_id} for k, v in params.items()]
        for step, metrics in trial.evaluations.items():
            logged = [
                {"key": k, "value": v, "timestamp": began + step, "step": step, "is_nan": False, "run_uuid": run_id}
                for k, v in metrics.items()
            ]
            rows[models.SqlMetric] += logged
        rows[models.SqlLatestMetric] += logged
    engine = create_engine(uri)
    with engine.begin() as connection:
        for table, some in rows.items():
            if some:
                connection.execute(insert(table), some)
    engine.dispose()


def _check(client: Any, experiment_id: str, trial: Trial, name: str, parent: str) -> None:
    """What the tracker wrote of a trial is what would be inserted."""
    query = f"tags.\"titrate.number\" = '{trial.number}' and tags.\"titrate.seed\" = '{trial.seed}'"
    (run,) = client.search_runs([experiment_id], query)
    tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.user"}
    metrics = trial.evaluations[max(trial.evaluations)]
    wrote, inserted = (tags, run.data.params, run.data.metrics), (_tags(trial, name, parent), _params(trial), metrics)
    if wrote != inserted:
        raise AssertionError(f"the tracker writes {wrote}, and not {inserted}")


def _params(trial: Trial) -> dict[str, str]:
    return {key: str(value) for key, value in {**trial.recipe.params(), "seed": trial.seed, **trial.counts}.items()}


def _tags(trial: Trial, name: str, parent: str) -> dict[str, str]:
    tags = {
        **filter_tags(trial.recipe, trial.seed),
        "status": trial.status,
        "cost": str(trial.facts["steps_trained"]),
        "mlflow.parentRunId": parent,
        "mlflow.runName": run_name(trial.recipe, trial.seed, trial.number),
        "titrate.kind": "trial",
        "titrate.search": name,
        "titrate.recipe": trial.recipe.key,
        "titrate.seed": str(trial.seed),
        "titrate.number": str(trial.number),
        "titrate.status": trial.status,
        "titrate.step": str(max(trial.evaluations, default=0)),
        **{f"titrate.{key}": str(value) for key, value in trial.facts.items()},
    }
    return tags | ({"titrate.error": "RuntimeError: out of memory"} if trial.status == "failed" else {})
