"""export: a recipe that a search tried, to use: its search file, its weights as they were evaluated, a model card.

DIR/recipe.yaml   a search of this one trial, which `run` accepts: the same stages, so nothing is trained again
    weights.pt    the averaged weights; model.json says what they are (trainables/model_folder.py)
    README.md     the model card, with curve.png where the search has one
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from analysis import Conclusion, Row, conclude
from datasets.uri import redacted
from datasets.whole import whole_folder
from search.config import SearchConfig
from search.model_card import Card
from search.one_trial import one_trial
from search.problem import Opened, open_problem
from search.stored import divisions, evaluations
from search.study import read_study
from search.tracking import default_uri
from search.written import find, to_yaml
from trainables.evaluation import EvaluationSets
from trainables.feed import Feed
from trainables.model_folder import ModelFile, input_of, save
from trainables.numerics import set_deterministic
from trainables.path import Leg, path_of
from trainables.ranks import Ranks
from trainables.recipe import Recipe
from trainables.run import Run
from trainables.task import build_task

RECIPE, CARD, CURVE = "recipe.yaml", "README.md", "curve.png"
FACES = ("celebamask_hq", "faces")  # formats whose pictures are squares around faces as they are


@dataclass(frozen=True)
class Choice:
    """What is exported: of a recipe's finished replicates one, and what the search came to."""

    recipe: Recipe
    row: Row
    rows: tuple[Row, ...]  # all finished replicates of the recipe
    conclusion: Conclusion

    @property
    def recommended(self) -> bool:
        winner = self.conclusion.decision.winner
        return winner is not None and winner.recipe == self.recipe


def export(
    name: str,
    results: Path,
    out: Path,
    console: Console,
    *,
    trial: int | None = None,
    recipe: str | None = None,
    seed: int | None = None,
    weights: bool = True,
    tracking: str | None = None,
    concluded: Conclusion | None = None,
) -> None:
    """Writes a recipe of a search into the folder `out`, whole or not at all.

    trial    the recipe's number in the study; or `recipe`, the beginning of its key; None: the recommended one
    seed     which replicate; None: of those that finished, the best on `val`
    weights  False: the recipe and the card alone, to train it again somewhere else
    concluded  what the search came to, where that is known

    Raises ValueError, one line, where there is nothing to export, and what to do.
    """
    if trial is not None and recipe is not None:
        raise ValueError("--trial and --recipe must not be given together; either names the recipe")
    if weights is False and seed is not None:
        raise ValueError("--seed chooses weights, and must be left out with --no-weights")
    config, folder = find(name, results)
    out = out.expanduser().absolute()
    uri = tracking or config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(results.resolve())
    with tempfile.TemporaryDirectory(prefix="titrate-export-") as scratch, whole_folder(out, _check_free) as target:
        conclusion = concluded or conclude(config.name, uri, config.tracking.experiment, Path(scratch))
        choice = _choose(conclusion, trial, recipe, seed)
        opened = open_problem(config, verify=False)
        given = one_trial(config, choice.recipe, seeds=len(choice.rows), keep_store=weights)
        head = f"# {choice.recipe}\n# of search {config.name}; `python -m search run {RECIPE}` trains it.\n"
        (target / RECIPE).write_text(redacted(head + to_yaml(given)), encoding="utf-8")
        curve = next((file for file in conclusion.files if file.name == CURVE), None)
        if curve is not None:
            shutil.copy(curve, target / CURVE)
        file = _weights(config, opened, choice, results, folder, target) if weights else None
        card = Card(config, choice.recipe, choice.row, choice.rows, conclusion, opened, file, curve is not None)
        (target / CARD).write_text(card.text(), encoding="utf-8")
    what = f"recipe {choice.recipe.key}" + (f", seed {choice.row.seed}" if weights else "")
    console.print(f"{choice.recipe}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote {what} of search {config.name} to {out}", markup=False, highlight=False, soft_wrap=True)


def _check_free(out: Path) -> None:
    """An export may be made again; nothing else is replaced."""
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / RECIPE).is_file())):
        raise ValueError(f"{out}: must be a new folder, or one that `export` wrote; give another --out")


def _choose(conclusion: Conclusion, trial: int | None, key: str | None, seed: int | None) -> Choice:
    table, winner = conclusion.table, conclusion.decision.winner
    recipes = table.recipes()
    if trial is not None:
        named = [one for one, rows in recipes.items() if rows[0].number == trial]
        if not named:
            raise ValueError(
                f"--trial must be a trial of search {table.search}, 0 to {_last(recipes)}, but got {trial}"
            )
    elif key is not None:
        named = [one for one in recipes if one.key.startswith(key)]
        if len(named) != 1:
            raise ValueError(f"--recipe must begin the key of one recipe, but {key!r} begins those of {len(named)}")
    elif winner is None:
        raise ValueError(conclusion.recommendation)
    else:
        named = [winner.recipe]
    (recipe,) = named
    rows = tuple(row for row in recipes[recipe] if row.value(table.metric) is not None)
    if not rows:
        states = ", ".join(sorted({row.status for row in recipes[recipe]}))
        raise ValueError(
            f"a recipe must have come to its end to be exported, but trial {recipes[recipe][0].number} is {states}:"
            f" {recipe}; `python -m search explain {table.search} {recipes[recipe][0].number}` says why"
        )
    if seed is not None:
        chosen = [row for row in rows if row.seed == seed]
        if not chosen:
            known = ", ".join(str(row.seed) for row in rows)
            raise ValueError(f"--seed must be a finished replicate of the recipe, one of {known}, but got {seed}")
    else:
        chosen = [max(rows, key=lambda row: (table.sign * (row.value(table.metric) or 0.0), -row.seed))]
    return Choice(recipe, chosen[0], rows, conclusion)


def _last(recipes: Any) -> int:
    return max((rows[0].number for rows in recipes.values()), default=-1)


def _weights(
    config: SearchConfig, opened: Opened, choice: Choice, results: Path, folder: Path, target: Path
) -> ModelFile:
    """Finds the checkpoint that was measured so, and writes its weights as they were evaluated."""
    set_deterministic(config.slots.threads)
    leg = path_of(choice.recipe, opened.problem, choice.row.seed)[-1]
    state, division = _checkpoint(
        config, choice, leg, results, bool(read_study(config.name, folder).user_attrs["share"])
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = build_task(config.task, opened.scenes)
    ranks = Ranks()
    feed = Feed(opened.training, device, ranks, 0)
    sets = EvaluationSets(task, opened.sources["val"], {}, scenes=opened.scenes, feed=feed, device=device, ranks=ranks)
    model = sets.model(Run.restore(leg.stage, task, device, ranks, ("", leg.stage.key), state), leg.statistics)
    facts = opened.facts_of(choice.recipe)
    metrics = {name: value for name, value in choice.row.metrics.items() if abs(value) < float("inf")}
    file = ModelFile(
        task=config.task.model_copy(update={"pretrained": None}),
        adaptation=leg.stage.adaptation,
        adain=leg.stage.adain,
        precision=config.training.precision,
        input=input_of(config.task, _crop(opened)),
        metric=choice.conclusion.table.metric,
        metrics=metrics,
        trained={
            "search": config.name,
            "recipe": choice.recipe.params(),
            "recipe_key": choice.recipe.key,
            "replicate": choice.row.seed,
            "stage": leg.stage.key,
            "step": leg.steps,
            "division": division,
            "run": choice.row.run_id,
            "statistics_of": vars(leg.statistics) if leg.statistics else None,
            "packs": [{"name": f.name, "context": f.context, "digest": f.digest, "rows": f.num_rows} for f in facts],
        },
    )
    return save(target, model, file)


def _checkpoint(
    config: SearchConfig, choice: Choice, leg: Leg, results: Path, shared: bool
) -> tuple[dict[str, Any], str]:
    """The checkpoint of the stage whose evaluation is the recorded one, and its division.

    Divisions have other bits of the same stage: it is told by what it was measured to be.
    """
    uri = config.store.uri or str(results.resolve() / "store")
    metric = choice.conclusion.table.metric
    recorded, name = choice.row.metrics[metric], metric.removeprefix("val/")
    measured = []
    for division, store in divisions(uri, "" if shared else f"alone-{choice.recipe.key}"):
        found = evaluations(store, leg.stage.key, leg.steps)
        if any(one.metrics.get(name) == recorded for one in found):
            measured.append(division)
            state = store.load(leg.stage.key, leg.steps)
            if state is not None:
                return state, division
    why = (
        "its weights are no longer in the store (evicted, or damaged and set aside)"
        if measured
        else "the store has not measured it so"
    )
    raise ValueError(
        f"trial {choice.row.number}, seed {choice.row.seed}: {why}, {redacted(uri)}; to train it again:"
        f" `python -m search export {config.name} --trial {choice.row.number} --no-weights --out again`, then"
        f" `python -m search run again/{RECIPE} --results again/results`, and export that"
    )


def _crop(opened: Opened) -> str | None:
    """The value "face" where all pictures that are trained on are squares around faces, by what their packs say."""
    sources = [pack.manifest.source for source in opened.training for pack in source.packs]
    return "face" if all(one.get("crop") == "face" or one.get("format") in FACES for one in sources) else None
