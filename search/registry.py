"""Registry: the best model of a search in MLflow's model registry, with its signature, so that MLflow can serve it.

    mlflow models serve -m models:/titrate-NAME@best --env-manager local
    mlflow.pyfunc.load_model("models:/titrate-NAME@best").predict(pictures)

Registering goes through MLflow's global state and loads the model once, so it is done in a process of its own:
`python -m search.registry`, which reads one request, a line of JSON.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets.uri import redacted
from search.cluster import ROOT

ALIAS = "best"
CODE = ("datasets", "trainables")  # what the model runs on
PACKAGES = (
    "mlflow",
    "torch",
    "numpy",
    "opencv-python-headless",
    "albumentations",
    "pydantic",
    "pyarrow",
    "PyYAML",
    "pillow",
    "filelock",
)
TIMEOUT_S = 600.0
ENVIRONMENT = {
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}


@dataclass(frozen=True)
class Request:
    """A model folder to register under a name, as a model of an MLflow run, a trial's, and of its search's.

    tags         of the version; a version that has the same tags already is the same model, and is kept
    description  in Markdown
    """

    folder: str
    name: str
    run_id: str
    search_run_id: str
    tags: dict[str, str]
    description: str


class Registrar:
    """The process that registers. It is started ahead of its request, since its imports take seconds. Use as a context
    manager, which ends it.

    uri  of the MLflow server
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._process: subprocess.Popen[str] | None = None
        self._asked = False

    def __enter__(self) -> "Registrar":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "search.registry"],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT, "MLFLOW_TRACKING_URI": self._uri},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is the search's
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        with self._process:  # closes its pipes and waits for it
            self._process.kill()

    def ask(self, request: Request) -> None:
        """Hands in the one request, and does not wait for it."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._asked = True
        with suppress(BrokenPipeError):  # it has ended already, and `answer` says why
            self._process.stdin.write(json.dumps(asdict(request)) + "\n")
            self._process.stdin.flush()

    def answer(self) -> str | None:
        """Where the model is, or why it is not registered, in one line: a registry is no part of a search's result.
        None where nothing was asked for."""
        assert self._process is not None
        if not self._asked:
            return None
        try:
            out, err = self._process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return f"the model was not registered: MLflow at {redacted(self._uri)} took longer than {TIMEOUT_S:.0f} s"
        last = (out.strip().splitlines() or [""])[-1]
        if self._process.returncode == 0 and last.startswith("model "):
            return last
        why = (err.strip().splitlines() or [last or f"exit status {self._process.returncode}"])[-1]
        return f"the model was not registered at {redacted(self._uri)}: {redacted(why)[:300]}"


def requirements() -> list[str]:
    """What the model needs, each as it is here; without the local part of a version, which no index has."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in PACKAGES]


def _register(request: Request) -> str:
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    where = f"models:/{request.name}@{ALIAS}"
    try:
        known = client.get_model_version_by_alias(request.name, ALIAS)
        if request.tags.items() <= known.tags.items():
            return f"model {where} is version {known.version}, as before"
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    # Where the model's files go, and the page that lists it, are of the active experiment: by default of none of ours.
    mlflow.set_experiment(experiment_id=client.get_run(request.run_id).info.experiment_id)
    example, signature = _example(request.folder)
    code = Path(__file__).with_name("served_model.py")
    info = mlflow.models.Model.log(
        artifact_path=None,
        name="model",
        flavor=mlflow.pyfunc,
        run_id=request.run_id,
        registered_model_name=request.name,
        python_model=str(code),
        artifacts={"folder": request.folder},
        code_paths=[str(ROOT / name) for name in CODE],
        signature=signature,
        input_example=example,
        pip_requirements=requirements(),
    )
    client.log_outputs(request.search_run_id, [LoggedModelOutput(info.model_id, step=0)])
    version = str(info.registered_model_version)
    for key, value in request.tags.items():
        client.set_model_version_tag(request.name, version, key, value)
    client.update_model_version(request.name, version, description=request.description)
    client.set_registered_model_alias(request.name, ALIAS, version)
    return f"model {where} is version {version}"


def _example(folder: str) -> tuple[Any, Any]:
    """A picture that the model takes, and its signature: pictures of any one size."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from search.served_model import BACKGROUND, IMAGE
    from trainables.predict import Predictor

    predictor = Predictor.load(folder, "cpu")
    side = predictor.file.input.resolution
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    picture = np.stack([*np.meshgrid(ramp, ramp), np.full((side, side), 128, np.uint8)], axis=-1)[None]
    bytes_, floats = np.dtype(np.uint8), np.dtype(np.float32)
    pixels = (-1, -1, -1, 3)
    outputs = {
        "segmentation": TensorSpec(bytes_, (-1, -1, -1)),
        "matting": TensorSpec(bytes_, (-1, -1, -1, 4)),
        "landmarks": TensorSpec(floats, (-1, -1, 2)),
    }
    out = Schema([outputs[predictor.file.task.kind]])
    if not predictor.needs_background:
        return picture, ModelSignature(Schema([TensorSpec(bytes_, pixels)]), out)
    both = Schema([TensorSpec(bytes_, pixels, IMAGE), TensorSpec(bytes_, pixels, BACKGROUND)])
    return {IMAGE: picture, BACKGROUND: picture}, ModelSignature(both, out)


if __name__ == "__main__":
    import mlflow  # noqa: F401  (while nobody waits yet)

    import trainables.predict  # noqa: F401

    if line := sys.stdin.readline():
        print(_register(Request(**json.loads(line))))
