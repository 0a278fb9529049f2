"""What a trial costs in stock Ray: the two sides that `trial_overhead.py` measures our warm slots against.

(a) `nested_trials`: each Tune trial starts its own Ray Train V2 run, as Ray's user guide "Hyperparameter Tuning with
    Ray Tune" (Ray Train, V2) shows: a driver function that makes a `TorchTrainer` with a `TuneReportCallback` and
    fits it.
(a2) `function_trials`: each Tune trial is a plain function in its own actor process, which imports torch.

The work is the same and trivial (one torch operation, one metric reported), so that what remains is what a trial costs
before it trains anything. Ray is started by the caller, who thereby says how many CPUs there are. Neither side reuses
actors, which is Ray's default.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.train
import ray.tune
from ray.tune.integration.ray_train import TuneReportCallback

# So that the functions below reach Ray's workers whatever path this module was imported by.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

# A driver waits and computes nothing, so it must take no CPU from the workers of another trial. Tune refuses a trial
# without any resource, and 0.01 CPU each would keep the last whole CPU from the last worker.
_DRIVER = ray.tune.PlacementGroupFactory([{"node:__internal_head__": 0.0001}])


def _work() -> dict[str, float]:
    import torch

    return {"value": float(torch.ones(4, 4).sum())}


def _train_worker(_config: dict[str, Any]) -> None:
    ray.train.report(_work())


def fit_nested(worker: Callable[[dict[str, Any]], None], config: dict[str, Any]) -> None:
    """A Ray Train V2 run of one worker on one CPU within a Tune trial, which gets what the worker reports.

    Its results go to config["storage"].
    """
    from ray.train.torch import TorchTrainer

    callbacks: list[Any] = [TuneReportCallback()]  # Ray types them as V1's class, which V2's is not
    TorchTrainer(
        worker,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(
            name=f"train-trial_id={ray.tune.get_context().get_trial_id()}",
            storage_path=config["storage"],
            callbacks=callbacks,
        ),
    ).fit()


def _train_driver(config: dict[str, Any]) -> None:
    fit_nested(_train_worker, config)


def _function(_config: dict[str, Any]) -> None:
    ray.tune.report(_work())


def _fit(
    trainable: Callable[[dict[str, Any]], None],
    resources: dict[str, float] | ray.tune.PlacementGroupFactory,
    num_trials: int,
    concurrent: int,
) -> float:
    """Seconds of one `Tuner.fit()` over `num_trials` trials; RuntimeError if a trial did not report its value."""
    with tempfile.TemporaryDirectory(prefix="stock-") as storage:
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(trainable, resources),
            param_space={"number": ray.tune.grid_search(list(range(num_trials))), "storage": storage},
            tune_config=ray.tune.TuneConfig(max_concurrent_trials=concurrent),
            run_config=ray.tune.RunConfig(name="stock", storage_path=storage, verbose=0),
        )
        # Even at verbosity 0 Tune prints a banner: a benchmark's standard output is its own.
        with contextlib.redirect_stdout(sys.stderr):
            start = time.perf_counter()
            results = tuner.fit()
            seconds = time.perf_counter() - start
        if results.num_errors:
            raise RuntimeError(f"{results.num_errors} of {num_trials} trials failed: {results.errors[0]}")
        values = [(results[index].metrics or {}).get("value") for index in range(len(results))]
        if values != [16.0] * num_trials:
            raise RuntimeError(f"each of {num_trials} trials must report the value 16.0, but they reported {values}")
    return seconds


def nested_trials(num_trials: int, concurrent: int) -> float:
    """Seconds for `num_trials` Tune trials that each start a Ray Train V2 run of one worker on one CPU.

    At most `concurrent` trials run at a time; Ray must be initialised, with at least as many CPUs. Start-up and
    shut-down of Ray are not included. Raises RuntimeError if a trial fails.
    """
    return _fit(_train_driver, _DRIVER, num_trials, concurrent)


def function_trials(num_trials: int, concurrent: int) -> float:
    """Seconds for `num_trials` Tune function trials of one CPU each that import torch.

    At most `concurrent` trials run at a time; Ray must be initialised, with at least as many CPUs. Start-up and
    shut-down of Ray are not included. Raises RuntimeError if a trial fails.
    """
    return _fit(_function, {"cpu": 1}, num_trials, concurrent)
