"""Tune: trials of a learner's settings, of which held-out logs choose."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from flows.parameters import DatasetPath, LogLearner, Processes, Trials, WholeSeed
from tasks.generate import verify_dataset
from tasks.reports.documents import StudyReport
from tasks.server.orphans import record_process
from tasks.tune import tune_learner


def _run_name() -> str:
    """The learner and the dataset's name; its path is too long for the timeline."""
    path: str = flow_run.parameters["dataset_path"]
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return f"tune {flow_run.parameters['learner']} on {name}"


@flow(name="tune", flow_run_name=_run_name, on_running=[record_process])
def tune(
    dataset_path: DatasetPath,
    learner: LogLearner,
    trials: Trials = 16,
    seed: WholeSeed = 0,
    workers: Processes = None,
) -> StudyReport:
    """Verify the dataset, then run the trials that the study does not have yet.

    Args:
        dataset_path: Path or URL of a published dataset.
        learner: Whose settings are tried.
        trials: Trials in all; the first has the defaults.
        seed: Seed of the settings that are drawn and of the trainings.
        workers: Trials at a time; default one for every processor.
    """
    return tune_learner(verify_dataset(dataset_path), learner, trials, seed, workers)
