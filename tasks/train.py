"""Step two: a learner on a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, task
from prefect.runtime import task_run

from slateflow.errors import InputError
from slateflow.learners import learner_config, train, train_live
from slateflow.trajectories import Dataset
from tasks.reports.documents import DatasetReference, ModelReference
from tasks.server.lineage import dataset_name, model_trained
from tasks.server.progress import watched_stage
from tasks.server.retries import RETRIES
from tasks.store.tracking import (
    PROJECT,
    TRAINING,
    log_training,
    mlflow_client,
    model_name,
    training_digest,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHECKPOINTS = PROJECT / "mlflow" / "checkpoints"
"""Where a training that is killed leaves what it needs to go on."""


def _run_name() -> str:
    """The learner and the dataset's name."""
    parameters = task_run.parameters
    return f"train {parameters['learner']} on {dataset_name(parameters['dataset'])}"


@task(task_run_name=_run_name, **RETRIES)
def train_learner(
    dataset: DatasetReference, learner: str, seed: int, settings: dict[str, Any] | None = None
) -> ModelReference:
    """Train one learner and log it as an MLflow run; find the run where that was done before."""
    config = learner_config(learner, **(settings or {}))
    client = mlflow_client()
    opened = Dataset.open(dataset.path)
    if opened.digest != dataset.digest:
        raise InputError(
            f"{dataset.path}: expected digest {dataset.digest}, got {opened.digest}; "
            "the dataset was replaced since it was generated, start again"
        )
    key, what = f"train-{learner}-{opened.spec.name}", f"train {learner} on {dataset_name(dataset)}"
    progress = watched_stage(f"train {learner}", key, what)
    digest = training_digest(opened, learner, config.parameters(), seed)
    model = _newest(client, opened, learner, f"tags.`{TRAINING}` = '{digest}'")
    if model is not None:
        progress(1, 1)
        get_run_logger().info("%s: trained before, run %s", learner, model.run_id)
    else:
        scorer, report = (
            train_live(opened.spec, config, seed, progress)
            if config.live
            else train(opened, config, seed, progress, CHECKPOINTS)
        )
        run_id = log_training(client, opened, scorer, report)
        get_run_logger().info("%s: %.1f s, run %s", learner, report.train_seconds, run_id)
        model = ModelReference(
            learner=learner,
            run_id=run_id,
            train_seconds=report.train_seconds,
            live_steps=report.live_steps,
        )
    model_trained(model, dataset, opened.spec.name)
    return model


def newest_models(dataset: Dataset, learners: list[str], required: bool) -> list[ModelReference]:
    """The newest finished run of each learner on exactly this dataset.

    Args:
        dataset: Its digest picks the runs.
        learners: Learners to look for.
        required: Whether one without a run is an error; else it is left out.
    """
    client = mlflow_client()
    models = []
    for learner in learners:
        model = _newest(
            client, dataset, learner, f"tags.`slateflow.dataset_digest` = '{dataset.digest}'"
        )
        if model is not None:
            models.append(model)
        elif required:
            raise InputError(
                f"{learner}: expected a training on {dataset.path}, found none; "
                "make it with `slateflow train`"
            )
    if not models:
        raise InputError(
            f"{dataset.path}: expected trainings on it, found none; "
            "make them with `slateflow train`"
        )
    return models


def _newest(
    client: MlflowClient, dataset: Dataset, learner: str, condition: str
) -> ModelReference | None:
    """The newest finished run of the learner that meets the condition."""
    experiment = client.get_experiment_by_name(model_name(dataset.spec.name))
    if experiment is None:
        return None
    query = (
        f"{condition} and tags.`slateflow.learner` = '{learner}' and attributes.status = 'FINISHED'"
    )
    runs = client.search_runs(
        [experiment.experiment_id], query, max_results=1, order_by=["start_time DESC"]
    )
    return next(
        (
            ModelReference(
                learner=learner,
                run_id=run.info.run_id,
                train_seconds=run.data.metrics["train_seconds"],
                live_steps=int(run.data.metrics["live_steps"]),
            )
            for run in runs
        ),
        None,
    )
