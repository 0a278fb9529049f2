"""The model card: what an exported recipe is, what it is worth, how sure that is, and what it is not."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis import Conclusion, Row
from analysis.runs import mean, std
from analysis.wording import decimals
from datasets.uri import redacted
from search.config import SearchConfig
from search.problem import Opened
from trainables.model_folder import ModelFile
from trainables.recipe import Recipe

RENDERED = ("faces",)  # formats of packs that the embedded renderer made
USES = {
    "segmentation": "gives each pixel of a face one of the classes {classes}",
    "matting": "gives a person's alpha and colours, from a picture and one of the same place without the person",
    "landmarks": "gives {points} landmarks of a face, in iBUG's order",
}


@dataclass(frozen=True)
class Card:
    """row   the replicate whose weights are exported, of the recipe's finished ones `rows`
    file  what the weights are, or None where the recipe is exported alone
    """

    config: SearchConfig
    recipe: Recipe
    row: Row
    rows: tuple[Row, ...]
    conclusion: Conclusion
    opened: Opened
    file: ModelFile | None
    curve: bool

    def text(self) -> str:
        """Markdown."""
        parts = [self._head(), self._use(), self._worth(), self._sure(), self._data(), self._again()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        task = self.config.task
        what = USES[task.kind].format(
            classes=", ".join(getattr(task, "classes", ())), points=getattr(task, "points", "")
        )
        size = f"{task.resolution} x {task.resolution} pixels"
        winner = self.conclusion.decision.winner
        if winner is not None and winner.recipe == self.recipe:
            chosen = f"The recipe that the search recommends. {self.conclusion.recommendation}"
        else:
            chosen = f"Not the recipe that the search recommends. That is: {self.conclusion.recommendation}"
        return "\n\n".join(
            [
                f"# {self.config.name}: {self.recipe}",
                f"A model that {what}. It sees squares of {size}. Trial {self.row.number}"
                f" of search `{self.config.name}`, recipe `{self.recipe.key}`.",
                chosen,
            ]
        )

    def _use(self) -> str:
        if self.file is None:
            return (
                "## Weights\n\nNone are here. `python -m search run recipe.yaml --results results` trains them, from"
                " Titrate's root, and `python -m search export` writes them."
            )
        background = " --background PLATE.jpg" if self.config.task.kind == "matting" else ""
        lines = [
            "## Use",
            "From Titrate's root:",
            f"```sh\npython -m trainables predict FOLDER PICTURE.jpg OUT{background}\n```",
            "`weights.pt` is a state_dict (`torch.load(..., weights_only=True)`): the moving average of the weights,"
            " with the statistics that were evaluated,"
            f" of replicate {self.row.seed} after {self.file.trained['step']} steps of the last stage."
            " `model.json` says what network they are of and what goes in.",
        ]
        if self.file.input.crop == "face":
            lines.append(
                "It was trained on squares around faces. Of other pictures cut such squares first, or give"
                " `predict --box X0,Y0,X1,Y1`."
            )
        if len(self.rows) > 1:
            lines.append(
                f"Of {len(self.rows)} replicates this is the one that was chosen for export; the recipe is judged by"
                " their mean, below."
            )
        return "\n\n".join(lines)

    def _worth(self) -> str:
        """The metrics that are not of one class or point: of these weights, and over the recipe's replicates."""
        sets = {name: 2 if name.startswith("test/") else 1 for name in self.row.metrics if name[:6] != "train/"}
        names = sorted(name for name, slashes in sets.items() if name.count("/") == slashes)
        lines = [
            "## What it is worth",
            "",
            "| metric | these weights | mean ± std over seeds | seeds |",
            "|---|---|---|---|",
        ]
        if self.file is None:
            lines[2:] = ["| metric | mean ± std over seeds | seeds |", "|---|---|---|"]
        for name in names:
            values = [value for row in self.rows if (value := row.value(name)) is not None]
            if not values:
                continue
            digits = decimals(mean(values))
            spread = f" ± {std(values):.{digits}f}" if len(values) > 1 else ""
            own = self.row.value(name)
            mine = [] if self.file is None else ["" if own is None else f"{own:.{digits}f}"]
            lines.append(f"| {' | '.join([name, *mine, f'{mean(values):.{digits}f}{spread}', str(len(values))])} |")
        lines += ["", "`val` chose the recipe, so its values are optimistic; `test` sets chose nothing."]
        return "\n".join(lines)

    def _sure(self) -> str:
        lines = ["## How sure that is"]
        if self.curve:
            lines += ["![the metric against labelled real images, each line a schedule](curve.png)"]
            lines += ["Each point is the best recipe at that number of images, by its mean over seeds; dots are seeds."]
        notes: Sequence[str] = self.conclusion.decision.notes
        lines.append("\n".join(f"- {note}" for note in [*notes, *self._caveats()]))
        return "\n\n".join(lines)

    def _caveats(self) -> list[str]:
        evaluated = [
            pack
            for name, source in self.opened.sources.items()
            if name == "val" or name.startswith("test/")
            for pack in source.packs
        ]
        caveats = []
        if any(pack.manifest.source.get("format") in RENDERED for pack in evaluated):
            caveats.append(
                "it was evaluated on rendered pictures, which stand in for photographs: what they say of photographs"
                " is not known"
            )
        small = min((len(pack) for pack in evaluated), default=0)
        if small < 100:
            caveats.append(f"its smallest evaluation set has {small} pictures: a few more or less right would show")
        caveats.append(
            "nothing is known of pictures that are unlike those below: try it on your own before you rely on it"
        )
        return caveats

    def _data(self) -> str:
        lines = ["## Data", "", "| pack | used for | pictures | made from | digest |", "|---|---|---|---|---|"]
        packs = {pack.path: pack for source in self.opened.sources.values() for pack in source.packs}
        for fact in self.opened.facts_of(self.recipe):
            manifest = packs[fact.source].manifest.source if fact.source in packs else {}
            made = ", ".join(str(manifest[key]) for key in ("format", "domain") if isinstance(manifest.get(key), str))
            lines.append(f"| {fact.name} | {fact.context} | {fact.num_rows} | {made} | `{fact.digest[:12]}` |")
        counts = self.opened.problem.counts(self.recipe)
        lines += [
            "",
            f"Of these it trained on {counts['num_real_labels']} labelled real and {counts['num_synthetic']} synthetic"
            f" pictures" + (f", and read {n} without labels" if (n := counts["num_real_unlabelled"]) else "") + ".",
        ]
        return "\n".join(lines)

    def _again(self) -> str:
        shown = json.dumps(self.recipe.params())
        lines = [
            "## Train it again",
            "```sh\npython -m search run recipe.yaml\n```",
            "On the search's store this trains nothing, since every stage is there; on another one all of it. The packs"
            f" are named by their places on the machine of the search. Recipe: `{shown}`.",
        ]
        versions = self._versions()
        if versions:
            lines.append(f"Exported with {versions}.")
        return "\n\n".join(lines)

    def _versions(self) -> str:
        import torch

        known: dict[str, Any] = {"Python": platform.python_version(), "torch": torch.__version__}
        if self.file is not None:
            known["numerics of the store"] = f"`{self.file.trained['division']}`"
        return redacted(", ".join(f"{name} {version}" for name, version in known.items()))
