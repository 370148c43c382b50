"""Tune: trials of a learner's settings, of which held-out logs choose."""

from __future__ import annotations

from prefect import flow

from flows.bounds import Trials, Workers
from flows.parameters import LogLearner, PublishedExperiment
from tasks.generate import verify_dataset
from tasks.reports.study import StudyReport
from tasks.server.orphans import record_process
from tasks.tune import tune_learner


@flow(
    name="tune",
    flow_run_name="tune {learner} on {experiment.dataset.name}",
    on_running=[record_process],
)
def tune(
    experiment: PublishedExperiment,
    learner: LogLearner,
    trials: Trials = 16,
    workers: Workers | None = None,
) -> StudyReport:
    """Verify the dataset, then run the trials that the study does not have yet.

    Args:
        experiment: Name of a recipe whose dataset is published; or the experiment of an event.
        learner: Learner whose settings are tried.
        trials: Trials in all; the first has the defaults.
        workers: Trials at a time; default the number of processors.
    """
    verify_dataset(experiment)
    return tune_learner(experiment, learner, trials, workers)
