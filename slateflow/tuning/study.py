"""A study of a learner's settings: trials, and the choice among them by held-out logs.

Every trial trains on four fifths of the episodes, and its policy is evaluated on the others
(`evaluation.off_policy`). The simulator is not used: its episodes are for the verdict.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slateflow.learners.rllib.cluster import cluster
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.learners.search_space import Settings
from slateflow.ray_cluster import cluster_address
from slateflow.side_by_side import PROCESSORS
from slateflow.trajectories import Dataset
from slateflow.tuning.trial import Trial

MAX_FAILURES = 3
"""Number of times that a trial is restarted if its process dies, perhaps with its machine."""

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a heading even at verbosity 0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C interrupts, as it does elsewhere
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class StudyDesign:
    """The logs, learner and seed that all trials of a study share.

    Attributes:
        dataset: Logs whose held-out episodes evaluate each trial.
        training: Its other episodes, as `trajectories.held_out.training_logs` gives them.
        learner: Name of the learner whose settings are tried.
        seed: Seed of every training; it gives a trial the same value on every machine.
        checkpoints: Folder of checkpoints, from which a killed training resumes.
    """

    dataset: Dataset
    training: Dataset
    learner: str
    seed: int
    checkpoints: Path | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The design as sent to other processes, which open the datasets themselves."""
        return {
            "dataset": self.dataset.folder.absolute().url,
            "training": self.training.folder.absolute().url,
            "learner": self.learner,
            "seed": self.seed,
            "checkpoints": self.checkpoints,
        }


def run_trials(
    design: StudyDesign,
    wanted: Mapping[int, Settings],
    workers: int | None = None,
    finished: Callable[[Trial], None] = lambda trial: None,
) -> None:
    """Run trials on Ray Tune, each in a process of its own.

    Args:
        design: Design of the study.
        wanted: Settings by the trial's number.
        workers: Trials at a time; None for one per processor of the machine or the cluster.
        finished: Called in this process with each trial as it ends.
    """
    if not wanted:
        return
    os.environ.update(_QUIET)
    at_once = workers or (0 if cluster_address() else PROCESSORS)
    numbered = [{"number": number, "settings": drawn} for number, drawn in wanted.items()]
    with (
        quiet_rllib(),
        cluster(min(at_once, len(wanted)) or 1),
        tempfile.TemporaryDirectory() as folder,
    ):
        from ray import tune  # takes seconds
        from ray.exceptions import RayTaskError

        from slateflow.tuning.ray_trials import OnComplete, run_trial

        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are raised below
        results = tune.Tuner(
            tune.with_resources(run_trial, {"cpu": 1}),
            param_space={**design.parameters, "trial": tune.grid_search(numbered)},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=at_once or None),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                callbacks=[OnComplete(finished)],
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            ),
        ).fit()
    if results.errors:
        error = results.errors[0]
        raise (error.cause if isinstance(error, RayTaskError) else error) from error
