"""The Optuna study of a search: opened or created, and refused when the search file changed under it."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from search.config import ConfigError, SearchConfig
from trainables.stage import Problem

# What may differ between two runs of one search: everything else decides whether old and new trials compare.
_FREE = {"sampler", "slots", "tracking", "store", "data"}  # data is compared by its digests, not by its paths


def open_study(config: SearchConfig, problem: Problem, digests: dict[str, str], folder: Path) -> optuna.Study:
    """The study of a search in `folder`/study.db, with its sampler and, for a grid, every recipe enqueued.

    Raises ConfigError when the file's old trials are not comparable with what it says now, naming the field.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{(folder / 'study.db').resolve()}",
        study_name=config.name,
        direction="maximize" if config.objective.mode == "max" else "minimize",
        load_if_exists=True,
    )
    _check_comparable(study, config, digests)
    asked = len(study.get_trials(deepcopy=False))
    study.sampler = _sampler(config, asked)
    if config.sampler == "grid":
        for recipe in config.space.enumerate()[: config.budget.trials]:
            study.enqueue_trial(recipe.params(), skip_if_exists=True)
    return study


def num_recipes(config: SearchConfig) -> int:
    """How many recipes the search tries when it is complete."""
    if config.sampler == "grid":
        return len(config.space.enumerate()[: config.budget.trials])
    assert config.budget.trials is not None
    return config.budget.trials


def asked_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials whose recipe is drawn: all but those that only wait in the queue."""
    return [t for t in study.get_trials(deepcopy=False) if t.state is not TrialState.WAITING]


def _sampler(config: SearchConfig, asked: int) -> BaseSampler:
    """The sampler, seeded by (seed, how many were asked before): a second run does not propose the same again."""
    seed = (config.seed * 1_000_003 + asked) % 2**32
    if config.sampler == "tpe":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`, since Optuna 2.8
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    return RandomSampler(seed=seed)  # a grid's recipes are enqueued, so nothing is sampled


def _check_comparable(study: optuna.Study, config: SearchConfig, digests: dict[str, str]) -> None:
    now = _flatten(config.model_dump(mode="json", exclude=_FREE)) | {f"data.{k}": v for k, v in digests.items()}
    now.pop("budget.trials", None)  # may be raised: only what is missing is done
    before = study.user_attrs.get("search")
    if before is None:
        study.set_user_attr("search", json.dumps(now))
        return
    old: dict[str, Any] = json.loads(before)
    changed = sorted(field for field in old.keys() | now.keys() if old.get(field) != now.get(field))
    if changed:
        field, others = changed[0], len(changed) - 1
        more = f" (and {others} more fields)" if others else ""
        raise ConfigError(
            f"{field} must stay as it was for the old trials of search {config.name!r} to compare: it was"
            f" {old.get(field)!r} and is {now.get(field)!r}{more}; put it back, or give the search another name"
        )


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for name, item in value.items() for k, v in _flatten(item, f"{prefix}.{name}".lstrip(".")).items()}
