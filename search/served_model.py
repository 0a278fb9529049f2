"""The model that a search registers, as MLflow serves it: pictures in, classes, mattes or points out.

MLflow stores this file as it is ("models from code") and runs it where the model is loaded, beside copies of `datasets`
and `trainables`; nothing of a search is needed there.
"""

from typing import Any

import mlflow.models
import numpy as np
from mlflow.pyfunc.model import PythonModel

IMAGE, BACKGROUND = "image", "background"


class Served(PythonModel):
    """A model folder (`trainables/model_folder.py`), which is the model's artifact `folder`."""

    def load_context(self, context: Any) -> None:
        from trainables.predict import Predictor

        self.predictor = Predictor.load(context.artifacts["folder"])

    # MLflow takes an annotation of model_input for a schema, and warns that `Any` is none.
    def predict(self, context: Any, model_input, params: dict[str, Any] | None = None) -> np.ndarray:  # type: ignore[no-untyped-def]
        """Pictures uint8 [N, H, W, 3] RGB of one size; of background matting {"image": ..., "background": ...}.

        Gives classes uint8 [N, H, W], mattes uint8 [N, H, W, 4] (foreground and alpha) or points float32 [N, K, 2]
        (x and y in pixels). See `trainables.predict.Predictor`.
        """
        if isinstance(model_input, dict):
            return np.stack(self.predictor(list(model_input[IMAGE]), list(model_input[BACKGROUND])))
        return np.stack(self.predictor(list(np.asarray(model_input))))


mlflow.models.set_model(Served())
