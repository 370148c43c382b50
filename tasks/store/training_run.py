"""A training as a run in MLflow, from its start to its weights or its error."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.runtime import flow_run

from slateflow.learners import LearnerConfig, TrainingSummary
from slateflow.policies import AnyScorer
from slateflow.trajectories import Dataset
from tasks.processes import process_is_gone, this_process
from tasks.store.tracking import (
    SCORER_FILE,
    TRAINING,
    code_commit,
    dataset_input,
    experiment_id,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_PROCESS = "slateflow.process"
"""Tag of a run: the process that trains."""
_METRICS_AT_ONCE = 1000  # the most that MLflow takes


@dataclass(frozen=True)
class TrainingRun:
    """The run of a training that is under way."""

    client: MlflowClient
    run_id: str

    def log(self, scorer: AnyScorer, summary: TrainingSummary) -> None:
        """Log the results: curves with their times, and the weights."""
        from mlflow.entities import Metric

        now = _milliseconds(time.time())
        metrics = [
            Metric("train_seconds", summary.train_seconds, now, 0),
            Metric("train_rows", float(summary.rows), now, 0),
            Metric("live_steps", float(summary.live_steps), now, 0),
        ]
        for name, values in summary.curves.items():
            points = zip(values, summary.curves.times[name], strict=True)
            metrics += [
                Metric(name, value, _milliseconds(moment), step)
                for step, (value, moment) in enumerate(points)
            ]
        for start in range(0, len(metrics), _METRICS_AT_ONCE):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / SCORER_FILE
            scorer.save(path)
            self.client.log_artifact(self.run_id, str(path))


@contextmanager
def training_run(
    client: MlflowClient,
    recipe: str,
    dataset: Dataset,
    config: LearnerConfig,
    seed: int,
) -> Iterator[TrainingRun]:
    """A run for the training in the block: finished at its end, or failed with its error.

    It has the parameters, the dataset, and a link to the flow run that trains. Meanwhile MLflow
    measures the machine, unless `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` is false. Runs that
    processes of this machine left when they were killed are closed.
    """
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    experiment = experiment_id(client, recipe)
    training, learner = config.training_digest(dataset, seed), config.learner
    _close_killed(client, experiment, training)
    run = client.create_run(
        experiment,
        run_name=f"{learner}-{recipe}",
        tags={
            "slateflow.learner": learner,
            "slateflow.environment": dataset.spec.name,
            "slateflow.dataset_digest": dataset.digest,
            "slateflow.recipe": json.dumps(dataset.recipe, sort_keys=True),
            "slateflow.code_commit": code_commit(),
            TRAINING: training,
            _PROCESS: this_process(),
            **_flow_run_tags(),
        },
    )
    run_id = str(run.info.run_id)
    settings = {"learner": learner, "seed": seed, **config.parameters()}
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in settings.items()])
    try:
        client.log_inputs(run_id, datasets=[dataset_input(dataset)])
    except MlflowException:  # a training beside this one has just made the same dataset's row
        client.log_inputs(run_id, datasets=[dataset_input(dataset)])
    with failing(client, run_id), _machine_measured(run_id):
        yield TrainingRun(client, run_id)
    client.set_terminated(run_id, "FINISHED")


@contextmanager
def failing(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Close a run as failed, with the error as the tag `slateflow.error`, where the block fails."""
    try:
        yield
    except Exception as error:
        with suppress(Exception):  # the server may be what failed
            client.set_tag(run_id, "slateflow.error", f"{type(error).__name__}: {error}"[:5000])
            client.set_terminated(run_id, "FAILED")
        raise
    except BaseException:
        with suppress(Exception):
            client.set_terminated(run_id, "KILLED")
        raise


@contextmanager
def _machine_measured(run_id: str) -> Iterator[None]:
    """Let MLflow log processor, memory, disk and network as `system/…` every ten seconds."""
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() in ("false", "0"):
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _flow_run_tags() -> dict[str, str]:
    """The flow run that trains, for programs and, as a link, for people; empty outside a flow."""
    from prefect.utilities.urls import url_for

    if flow_run.id is None:
        return {}
    address = url_for("flow-run", obj_id=flow_run.id)
    link = {"mlflow.note.content": f"Flow run in Prefect: [{flow_run.name}]({address})"}
    return {"prefect.flow_run_id": str(flow_run.id), **(link if address else {})}


def _close_killed(client: MlflowClient, experiment: str, training: str) -> None:
    """Close runs of the same training, and those of processes of this machine that are gone."""
    for run in client.search_runs([experiment], f"tags.`{TRAINING}` != '' and status = 'RUNNING'"):
        process, began = run.data.tags.get(_PROCESS), run.info.start_time / 1000
        if run.data.tags[TRAINING] == training or process_is_gone(process, began):
            client.set_terminated(run.info.run_id, "KILLED")


def _milliseconds(seconds: float) -> int:
    return int(1000 * seconds)
