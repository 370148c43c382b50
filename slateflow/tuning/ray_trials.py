"""A trial of a study as Ray Tune runs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from ray import tune

from slateflow.errors import InputError
from slateflow.evaluation.off_policy.estimates import held_out_values
from slateflow.learners import learner_config, train
from slateflow.trajectories import Dataset
from slateflow.tuning.trial import Trial


class OnComplete(tune.Callback):
    """Callback of Ray Tune that passes every finished trial on to `finished`."""

    def __init__(self, finished: Callable[[Trial], None]) -> None:
        self.finished = finished

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its callbacks to the disk; `finished` stays here

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Pass the finished trial on."""
        self.finished(Trial(**trial.last_result["trial"]))


def run_trial(parameters: dict[str, Any]) -> dict[str, Any]:
    """Train and evaluate in a Ray process; the parameters include those of `StudyDesign`."""
    os.environ.pop("RAY_ADDRESS", None)  # a trial is itself a cluster task, and starts no others
    number, settings = parameters["trial"]["number"], parameters["trial"]["settings"]
    try:
        config = learner_config(parameters["learner"], **settings)
        logs, checkpoints = Dataset.open(parameters["training"]), parameters["checkpoints"]
        scorer, summary = train(logs, config, parameters["seed"], checkpoints=checkpoints)
    except InputError as error:
        return {"trial": asdict(Trial(number, settings, None, 0.0, str(error)))}
    except (ArithmeticError, np.linalg.LinAlgError) as error:  # a retry would fail in the same way
        reason = f"{settings}: {type(error).__name__}: {error}"
        return {"trial": asdict(Trial(number, settings, None, 0.0, reason))}
    (found,) = held_out_values(Dataset.open(parameters["dataset"]), {"trial": scorer}).values()
    reason = found.reason and f"{settings}: cannot be estimated from these logs: {found.reason}"
    return {"trial": asdict(Trial(number, settings, found.value, summary.train_seconds, reason))}
