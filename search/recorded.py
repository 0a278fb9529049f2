"""What a search's study and its runs say of it, where no snapshot does: counts, and the best recipes."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.trial import TrialState

from analysis import Table
from analysis.runs import mean
from search.study import read_study
from search.view import BEST_SHOWN, Summary


def of_study(search: str, path: Path, texts: Mapping[str, str]) -> tuple[Summary, str]:
    """Counts and the best recipes of an Optuna study, and what they are measured by. `texts` are recipes by key."""
    study = read_study(search, path.parent)
    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state for trial in trials)
    ended = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    summary: Summary = {
        "asked": len(trials) - states[TrialState.WAITING],
        "ended": sum(states[state] for state in ended),
        "failed": states[TrialState.FAIL],
        "pruned": states[TrialState.PRUNED],
        "running": states[TrialState.RUNNING],
    }
    fields = json.loads(study.user_attrs.get("search", "{}"))
    seeds = int(fields.get("budget.seeds", 1))

    def text(trial: optuna.trial.FrozenTrial) -> str:
        return texts.get(trial.user_attrs.get("recipe", "")) or " ".join(f"{k}={v}" for k, v in trial.params.items())

    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if len(study.directions) > 1:
        summary["pareto"] = [(trial.values, text(trial), seeds) for trial in study.best_trials]
        return summary, fields.get("objective.metric", "")
    sign = -1 if study.direction is optuna.study.StudyDirection.MAXIMIZE else 1
    best = sorted(
        ((trial.value, trial) for trial in complete if trial.value is not None), key=lambda one: sign * one[0]
    )
    summary["best"] = [(value, text(trial), seeds) for value, trial in best[:BEST_SHOWN]]
    return summary, fields.get("objective.metric", "")


def of_table(table: Table) -> Summary:
    """The same of a search's runs, by recipe: a recipe is running while one of its runs is."""
    recipes = table.recipes()
    states = [{row.status for row in rows} for rows in recipes.values()]
    measured = [
        (mean(values), str(recipe), len(values))
        for recipe, rows in recipes.items()
        if (values := [value for row in rows if (value := row.value(table.metric)) is not None])
    ]
    return {
        "asked": len(recipes),
        "ended": sum("running" not in seen for seen in states),
        "failed": sum(seen == {"failed"} for seen in states),
        "running": sum("running" in seen for seen in states),
        "best": sorted(measured, key=lambda one: -table.sign * one[0])[:BEST_SHOWN],
    }
