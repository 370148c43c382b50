"""Step two: a learner on a dataset."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task
from prefect.runtime import task_run

from slateflow.errors import InputError
from slateflow.learners import learner_config, train, train_live
from slateflow.trajectories import Dataset
from tasks.lineage import dataset_name, model_trained
from tasks.progress import watched_stage
from tasks.references import DatasetReference, ModelReference
from tasks.tracking import PROJECT, log_training, mlflow_client, model_name

CHECKPOINTS = PROJECT / "mlflow" / "checkpoints"
"""Where a training that is killed leaves what it needs to go on."""


def _run_name() -> str:
    """The learner and the dataset's name."""
    parameters = task_run.parameters
    return f"train {parameters['learner']} on {dataset_name(parameters['dataset'])}"


@task(task_run_name=_run_name)
def train_learner(
    dataset: DatasetReference, learner: str, seed: int, settings: dict[str, Any] | None = None
) -> ModelReference:
    """Train one learner and log it as an MLflow run."""
    config = learner_config(learner, **(settings or {}))
    client = mlflow_client()
    opened = Dataset.open(dataset.path)
    if opened.digest != dataset.digest:
        raise InputError(
            f"{dataset.path}: expected digest {dataset.digest}, got {opened.digest}; "
            "the dataset was replaced since it was generated, start again"
        )
    progress = watched_stage(f"train {learner}")
    scorer, report = (
        train_live(opened.spec, config, seed, progress)
        if config.online
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
    experiment = client.get_experiment_by_name(model_name(dataset.spec.name))
    models = []
    for learner in learners:
        query = (
            f"tags.`slateflow.dataset_digest` = '{dataset.digest}' "
            f"and tags.`slateflow.learner` = '{learner}' and attributes.status = 'FINISHED'"
        )
        runs = (
            client.search_runs(
                [experiment.experiment_id], query, max_results=1, order_by=["start_time DESC"]
            )
            if experiment is not None
            else []
        )
        if not runs and required:
            raise InputError(
                f"{learner}: expected a training on {dataset.path}, found none; "
                "make it with `slateflow train`"
            )
        models += [
            ModelReference(
                learner=learner,
                run_id=run.info.run_id,
                train_seconds=run.data.metrics["train_seconds"],
                live_steps=int(run.data.metrics["live_steps"]),
            )
            for run in runs
        ]
    if not models:
        raise InputError(
            f"{dataset.path}: expected trainings on it, found none; "
            "make them with `slateflow train`"
        )
    return models
