"""Ray: connecting to it, or starting it on this machine, in the one way that run, check and the tests share."""

import logging
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# What Ray ships to the nodes of a cluster is this repository's code alone.
EXCLUDES = [".git", ".venv", "packs", "results", "mlruns", "docs", "**/__pycache__", ".*_cache"]

# Read by Ray at import or by its worker processes.
ENVIRONMENT = {
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that is late would start a second Ray after the first was shut down
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a killed worker is noticed that soon
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # and a node that is to be taken away (search/notice.py)
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune prints a banner otherwise, even when told to be silent
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `run` owns the signals
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow records; no CSV, JSON and TensorBoard files beside it
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tuner.restore is not used: the study is the state
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",  # it looks for a newer version of itself at import otherwise
}

# The same, where Ray runs on this machine alone.
LOCAL_ENVIRONMENT = {
    "RAY_worker_maximum_startup_concurrency": "16",  # slots and trials start together, also on few cores
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody takes this machine away
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


def connect(address: str | None = None, *, num_cpus: int | None = None, log_to_driver: bool = False) -> bool:
    """Connects to a Ray cluster, or starts Ray on this machine when `address` is None and none is named in RAY_ADDRESS.

    Returns whether this process started Ray (and so has to shut it down). Workers import this repository's code
    without installing it.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS")
    common: dict[str, Any] = {"log_to_driver": log_to_driver, "logging_level": logging.ERROR}
    if address:
        environment: dict[str, Any] | None = {
            "working_dir": str(ROOT),
            "excludes": EXCLUDES,
            "env_vars": {"NO_ALBUMENTATIONS_UPDATE": "1"},
        }
        if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:  # a job has brought its own (search/submit.py)
            environment = None
        try:
            ray.init(address=address, runtime_env=environment, **common)
        except ConnectionError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"a Ray cluster must be reachable at {address!r}, but: {reason}; start it, or leave --address out"
            ) from None
    else:
        # Workers inherit this environment, which is quicker than shipping the code to the machine that it is on.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        for name, value in LOCAL_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        ray.init(num_cpus=num_cpus, include_dashboard=False, **common)
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    # Tune logs each failed trial's traceback; the ledger records it where it belongs (MLflow and the study).
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    return not address
