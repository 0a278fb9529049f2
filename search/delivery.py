"""Delivery: what a finished search leaves of its best recipe, to look at and to use.

    RESULTS/NAME/best           the recipe, its weights and a model card, as `export` writes them
    RESULTS/NAME/predictions    the worst, median and best picture of each evaluation set, drawn
    in MLflow                   both as artifacts (pictures of the trial's run), and the model in the registry

None of it is part of the search's result, so what fails here is said in a line, and the search has ended all the same.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis import Conclusion
from analysis.provenance import RECIPE, SAMPLES
from analysis.ranking import Candidate
from analysis.wording import decimals
from search.config import SearchConfig
from search.problem import Opened
from search.registry import Registrar, Request
from search.tracking import Tracker

BEST = "best"
AT_MOST = 100  # rows of an evaluation set that pictures are chosen from
QUALITY = 88  # of JPEG


def deliver(
    config: SearchConfig,
    opened: Opened,
    results: Path,
    folder: Path,
    tracker: Tracker,
    uri: str,
    conclusion: Conclusion,
    registrar: Registrar,
) -> list[str]:
    """Leaves all of it, as far as that is possible; returns a line for what there is, and one for each that is not.

    Whether the model is registered is the registrar's to say, later.

    results, folder  RESULTS and RESULTS/NAME
    """
    winner = conclusion.decision.winner
    if winner is None:
        return []
    lines: list[str] = []
    for step in _steps(config, opened, results, folder, tracker, uri, conclusion, winner, registrar):
        try:
            lines += step()
        except (ValueError, OSError, RuntimeError) as error:
            lines.append(f"of the best recipe something is not there: {' '.join(str(error).split())[:300]}")
            break  # each rests on the one before
    return lines


def _steps(
    config: SearchConfig,
    opened: Opened,
    results: Path,
    folder: Path,
    tracker: Tracker,
    uri: str,
    conclusion: Conclusion,
    winner: Candidate,
    registrar: Registrar,
) -> tuple[Callable[[], list[str]], ...]:
    table = conclusion.table
    best, pictures = folder / BEST, folder / SAMPLES

    def exported() -> list[str]:
        from search.export import export

        export(config.name, results, best, Console(quiet=True), tracking=uri, concluded=conclusion)
        tracker.artifact(best / RECIPE)
        return [f"the best recipe and its weights: {best}"]

    def drawn() -> list[str]:
        seed = int(_model(best)["trained"]["replicate"])
        for file in draw(config, opened, best, pictures):
            tracker.artifact(file, SAMPLES, (winner.recipe.key, seed))
        return []

    def asked() -> list[str]:
        model = _model(best)
        score = model["metrics"].get(table.metric)
        value = "" if score is None else f" {score:.{decimals(score)}f}"
        request = Request(
            folder=str(best.absolute()),
            name=f"titrate-{config.name}",
            run_id=model["trained"]["run"],
            search_run_id=table.run_id,
            tags={
                "titrate.search": config.name,
                "titrate.recipe": winner.recipe.key,
                "titrate.run": model["trained"]["run"],
                "weights": model["sha256"],
            },
            description=f"`{winner.recipe}`\n\n{table.metric}{value}, trial {winner.rows[0].number} of {config.name}",
        )
        registrar.ask(request)
        return []

    return exported, asked, drawn


def _model(best: Path) -> dict[str, Any]:
    from trainables.model_folder import FILE

    found: dict[str, Any] = json.loads((best / FILE).read_text(encoding="utf-8"))
    return found


def draw(config: SearchConfig, opened: Opened, best: Path, pictures: Path) -> list[Path]:
    """Draws the exported model's worst, median and best picture of `val` and of each test set, into a folder that is
    made anew; returns the files, with index.json, which says what they show."""
    import cv2

    from trainables.predict import Predictor
    from trainables.samples import worst_median_best

    predictor = Predictor.load(best)
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    metric = config.objective.metric.removeprefix("val/")
    index, files = [], []
    for name in (name for name in opened.sources if name == "val" or name.startswith("test/")):
        pack = opened.sources[name].packs[0]
        found = worst_median_best(
            predictor, pack, metric, mode=config.objective.mode, scenes=opened.scenes, at_most=AT_MOST
        )
        for sample in found:
            file = pictures / f"{name.replace('/', '-')}-{sample.place}.jpg"
            bgr = cv2.cvtColor(sample.picture, cv2.COLOR_RGB2BGR)
            file.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
            index.append(
                {"place": sample.place, "metric": f"{name}/{metric}", "score": sample.score, "file": file.name}
            )
            files.append(file)
    listed = pictures / "index.json"
    listed.write_text(json.dumps(index), encoding="utf-8")
    return [*files, listed]
