"""The trials of a study as Ray Tune runs them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ray import tune

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.fitted_q_evaluation import (
    Estimator,
    held_out_estimator,
    memory_decays,
)
from slateflow.learners import learner_config, train
from slateflow.learners.search_space import Settings
from slateflow.trajectories import Dataset
from slateflow.tuning.trial import Trial, drop_impossible_value

MAX_FAILURES = 3
"""Times that a trial is started again whose process died, with its machine perhaps."""


@dataclass(frozen=True)
class Job:
    """Arguments that all trials of a study share; see `tuning.run_trials`."""

    dataset: str
    training: str
    learner: str
    seed: int
    checkpoints: Path | None


class _Report(tune.Callback):
    """Hands every finished trial on."""

    def __init__(self, finished: Callable[[Trial], None]) -> None:
        self.finished = finished

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its callbacks to the disk; who listens stays here

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.finished(Trial(**trial.last_result["trial"]))


def run_with_ray_tune(
    job: Job,
    wanted: Mapping[int, Settings],
    at_once: int | None,
    finished: Callable[[Trial], None],
) -> None:
    """Run the trials on the cluster that this process is connected to."""
    numbered = [{"number": number, "settings": drawn} for number, drawn in wanted.items()]
    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            tune.with_resources(run_trial, {"cpu": 1}),
            param_space={"job": job, "trial": tune.grid_search(numbered)},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=at_once),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                callbacks=[_Report(finished)],
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            ),
        ).fit()
    if results.errors:
        raise results.errors[0]


def run_trial(parameters: dict[str, Any]) -> dict[str, Any]:
    """Train and evaluate; runs in a process of Ray."""
    job: Job = parameters["job"]
    os.environ.pop("RAY_ADDRESS", None)  # a trial is one of the cluster's tasks, and makes none
    number, settings = parameters["trial"]["number"], parameters["trial"]["settings"]
    try:
        scorer, report = train(
            Dataset.open(job.training),
            learner_config(job.learner, **settings),
            job.seed,
            checkpoints=job.checkpoints,
        )
    except InputError as error:
        return {"trial": asdict(Trial(number, settings, None, 0.0, str(error)))}
    estimator = _estimator(job.dataset, memory_decays(scorer))
    trial = Trial(number, settings, estimator.value(scorer), report.train_seconds)
    return {"trial": asdict(drop_impossible_value(trial, estimator.rows.reward, estimator.horizon))}


@lru_cache(maxsize=1)
def _estimator(path: str, decays: tuple[float, ...]) -> Estimator:
    """One process runs many trials, which have the same estimator."""
    return held_out_estimator(Dataset.open(path), decays)
