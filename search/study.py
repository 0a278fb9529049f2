"""The Optuna study of a search: opened or created, and refused when the search file changed under it."""

import copy
import json
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, text

from datasets.settings import line
from search.budget import ObjectiveConfig
from search.config import ConfigError, SearchConfig
from trainables.recipe import DOMAINS

# What may differ between two runs of one search: everything else decides whether old and new trials compare. Data is
# compared by its digests, not by its paths.
_FREE = {"sampler", "pruner", "enqueue", "slots", "tracking", "store", "data"}


def open_study(config: SearchConfig, digests: dict[str, str], folder: Path, *, share: bool) -> optuna.Study:
    """The study of a search in `folder`/study.db: the record of what was asked and told (search/proposer.py samples).

    Raises ConfigError when the file's old trials are not comparable with what it says now, naming the field; a search
    of which nothing was asked yet takes the file as it is now. Sources that no old trial read may come, go and change.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    directions = directions_of(config.objective)
    with readable(folder / "study.db"):
        storage = open_storage(folder / "study.db")
        what: dict[str, Any] = {"storage": storage, "study_name": config.name}
        study = optuna.create_study(**what, directions=directions, load_if_exists=True)
        asked_trials(study)
    if not asked_trials(study) and study.user_attrs:
        optuna.delete_study(**what)  # nothing was asked: the file may have become any other
        study = optuna.create_study(**what, directions=directions)
    now = _identifying(config, digests)
    _check_comparable(study, config, now, share=share)
    if "search" not in study.user_attrs:
        study.set_user_attr("search", json.dumps(now))
        study.set_user_attr("share", share)
    elif json.loads(study.user_attrs["search"]) != now:
        study = _rewritten(study, storage, config, now)
    study.sampler = RandomSampler(seed=config.seed)  # never asked
    return study


def read_study(name: str, folder: Path) -> optuna.Study:
    """The study of a search in its folder, to read, also while it runs. Raises ConfigError where there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / "study.db"
    if path.is_file():  # SQLite would make one
        with readable(path):
            try:
                study = optuna.load_study(study_name=name, storage=f"sqlite:///{path.resolve()}")
            except KeyError:
                study = None
            if study is not None:
                asked_trials(study)
                return study
    raise ConfigError(f"{path}: must hold the study of search {name!r}, but there is none; `run` the search first")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Where the database of a study is read first. Raises ConfigError, one line, where that fails."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (SQLite, SQLAlchemy and Optuna have each their own)
        why = line(next(iter(str(error).splitlines()), "") or type(error).__name__, 300)
        raise ConfigError(f"{path}: must be a study that Optuna reads, but: {why}; put a copy of it back") from None


def directions_of(objective: ObjectiveConfig) -> list[StudyDirection]:
    """The metric's, and down for every cost beside it."""
    first = StudyDirection.MAXIMIZE if objective.mode == "max" else StudyDirection.MINIMIZE
    return [first, *(StudyDirection.MINIMIZE for _ in objective.against)]


def open_storage(path: Path) -> RDBStorage:
    """The SQLite database of a study. A commit waits for the operating system and not for the disk (write-ahead log): a
    killed process loses nothing, a machine without power its last few trials, which are then tried again."""
    storage = RDBStorage(f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": 60}})

    @event.listens_for(storage.engine, "connect")
    def _quick(connection: Any, _: Any) -> None:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=normal")

    storage.engine.dispose()  # the connection that made the tables knows nothing of it
    return storage


def identity(study: optuna.Study) -> str:
    """32 hex digits that tell this study from any other of the same name, made with it."""
    if "identity" not in study.user_attrs:
        study.set_user_attr("identity", uuid.uuid4().hex)
    return str(study.user_attrs["identity"])


def note_numerics(study: optuna.Study, numerics: dict[str, Any]) -> str | None:
    """Notes what this run computes with (trainables.numerics). Returns a line to tell where runs before had others."""
    before = study.user_attrs.get("numerics")
    if before == numerics:
        return None
    study.set_user_attr("numerics", numerics)
    if before is None:
        return None
    name = next(name for name in {**numerics, **before} if before.get(name) != numerics.get(name))
    return (
        f"{name} is {numerics.get(name)!r} and was {before.get(name)!r} in the run before: what is trained now shares"
        " nothing with what was trained then, and the same recipe would have slightly other numbers"
    )


def num_recipes(config: SearchConfig) -> int:
    """How many recipes the search tries when it is complete."""
    if config.sampler == "grid":
        return len(config.space.enumerate()[: config.budget.trials])
    assert config.budget.trials is not None
    return config.budget.trials


def asked_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials whose recipe is drawn: all but those that only wait in the queue."""
    return [t for t in study.get_trials(deepcopy=False) if t.state is not TrialState.WAITING]


def _identifying(config: SearchConfig, digests: dict[str, str]) -> dict[str, Any]:
    """Everything of a search by which its trials compare, flat."""
    now = _flatten(config.model_dump(mode="json", exclude=_FREE)) | {f"data.{k}": v for k, v in digests.items()}
    if not config.objective.against:
        del now["objective.against"]
    for name in ("budget.trials", "budget.hours", "budget.racing"):  # may be raised: only what is missing is done
        now.pop(name, None)
    return now


def _check_comparable(study: optuna.Study, config: SearchConfig, now: dict[str, Any], *, share: bool) -> None:
    before = study.user_attrs.get("search")
    if before is None:
        return
    if study.user_attrs["share"] != share:
        had, asked = ("shared", "--no-share") if study.user_attrs["share"] else ("shared nothing", "--share")
        raise ConfigError(
            f"search {config.name!r} must be run on as it was begun, but its trials {had} and {asked} was given;"
            " give another --results folder, and compare"
        )
    old: dict[str, Any] = json.loads(before)
    changed = _changed(old, now, asked_trials(study))
    if changed:
        field, others = changed[0], len(changed) - 1
        more = f" (and {others} more fields)" if others else ""
        raise ConfigError(
            f"{field} must stay as it was for the old trials of search {config.name!r} to compare: it was"
            f" {old.get(field)!r} and is {now.get(field)!r}{more}; put it back, or give the search another name"
        )


def _changed(old: dict[str, Any], now: dict[str, Any], asked: list[FrozenTrial]) -> list[str]:
    """The fields that make old trials incomparable. Where the source is varied, what no old trial read does not."""
    changed = {field for field in old.keys() | now.keys() if old.get(field) != now.get(field)}
    for domain in DOMAINS:
        axis, packs = f"space.{domain}_source", {field for field in changed if field.startswith(f"data.{domain}")}
        if old.get(axis) is None and now.get(axis) is None:
            continue
        if old.get(axis) is None or now.get(axis) is None:
            changed -= packs  # they are told source by source on one side only
            continue
        read = {trial.params[f"{domain}_source"] for trial in asked if f"{domain}_source" in trial.params}
        names = {f"data.{domain}.{name}" for source in read for name in source.split("+")}
        changed -= packs - names
        if read <= set(now[axis]):
            changed.discard(axis)
    return sorted(changed)


def _rewritten(study: optuna.Study, storage: RDBStorage, config: SearchConfig, now: dict[str, Any]) -> optuna.Study:
    """The study with the sources that may be chosen now, in place of the old one: to Optuna the values of a categorical
    parameter are fixed for a study. It is written beside the old one and takes its name in one transaction."""
    values = {f"{domain}_source": config.space.sources(domain) for domain in DOMAINS}
    domains = {name: CategoricalDistribution(choices) for name, choices in values.items() if choices is not None}
    fresh, old = f"{study.study_name} (new)", f"{study.study_name} (old)"
    for left in {fresh, old} & set(optuna.get_all_study_names(storage)):
        optuna.delete_study(study_name=left, storage=storage)  # of a rewriting that was interrupted
    written = optuna.create_study(storage=storage, study_name=fresh, directions=study.directions)
    for name, value in (study.user_attrs | {"search": json.dumps(now)}).items():
        written.set_user_attr(name, value)
    for asked in asked_trials(study):
        trial = copy.deepcopy(asked)
        trial.distributions = {name: domains.get(name, known) for name, known in trial.distributions.items()}
        written.add_trial(trial)
    rename = text("update studies set study_name = :to where study_name = :name")
    with storage.engine.begin() as connection:
        connection.execute(rename, {"name": study.study_name, "to": old})
        connection.execute(rename, {"name": fresh, "to": study.study_name})
    optuna.delete_study(study_name=old, storage=storage)
    return optuna.load_study(storage=storage, study_name=study.study_name)


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for name, item in value.items() for k, v in _flatten(item, f"{prefix}.{name}".lstrip(".")).items()}
