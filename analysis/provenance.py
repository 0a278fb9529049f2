"""Provenance: where a search's runs come from, as its own MLflow run has it: file, packs, versions, and its pictures.

A report says with it how to get the same runs again. Everything is read from MLflow, from any machine.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.runs import Table, connect

RECIPE = "recipe.yaml"  # artifact of a finished search: its recommended recipe as a search file
SAMPLES = "predictions"  # folder of artifacts of a trial: pictures, and index.json, which says what they show


@dataclass(frozen=True)
class Pack:
    """A pack that the search read: what it is used as ("train", "val"), its digest, its length, where it was."""

    name: str
    context: str
    digest: str
    num_rows: int | None
    place: str


@dataclass(frozen=True)
class Sample:
    """A prediction as a picture (JPEG): the picture, the prediction and the truth side by side.

    place  "worst", "median" or "best" of a set, by a metric of this sample alone
    """

    place: str
    metric: str
    score: float
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Provenance:
    """`began` is in milliseconds of Unix time."""

    run_id: str
    began: int
    file: str  # the search file's name, "" where there is none
    text: str
    recipe_text: str  # of the recommended recipe, "" where the search has not left it
    versions: Mapping[str, str]
    metrics: Mapping[str, float]
    packs: tuple[Pack, ...]


def provenance(table: Table, tracking_uri: str | None = None) -> Provenance:
    """Of a table that `runs.load` made. Raises ValueError, one line, when MLflow cannot be read."""
    with connect(tracking_uri) as client:
        run = client.get_run(table.run_id)
        names = {item.path for item in client.list_artifacts(table.run_id) if not item.is_dir}
        file = f"{table.search}.yaml"
        return Provenance(
            run_id=table.run_id,
            began=run.info.start_time,
            file=file if file in names else "",
            text=_text(client, table.run_id, file) if file in names else "",
            recipe_text=_text(client, table.run_id, RECIPE) if RECIPE in names else "",
            versions=json.loads(run.data.tags.get("titrate.versions", "{}")),
            metrics=dict(run.data.metrics),
            packs=tuple(_pack(one) for one in run.inputs.dataset_inputs),
        )


def samples(run_id: str, tracking_uri: str | None = None) -> tuple[Sample, ...]:
    """The prediction pictures of a trial; none where it has none. Raises ValueError as `provenance` does."""
    with connect(tracking_uri) as client, tempfile.TemporaryDirectory() as folder:
        if not any(item.path == SAMPLES for item in client.list_artifacts(run_id)):
            return ()
        place = Path(client.download_artifacts(run_id, SAMPLES, folder))
        listed = json.loads((place / "index.json").read_text(encoding="utf-8"))
        return tuple(
            Sample(
                one["place"],
                one["metric"],
                float(one["score"]),
                (place / Path(one["file"]).name).read_bytes(),
            )
            for one in listed
        )


def _text(client: Any, run_id: str, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_text(encoding="utf-8")


def _pack(one: Any) -> Pack:
    source, profile = json.loads(one.dataset.source), json.loads(one.dataset.profile or "{}")
    context = next((tag.value for tag in one.tags if tag.key == "mlflow.data.context"), "")
    digest = source.get("digest", one.dataset.digest)
    return Pack(one.dataset.name, context, digest, profile.get("num_rows"), source.get("uri", ""))
