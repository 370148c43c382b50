"""Step two: a learner on a dataset."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, task

from slateflow.errors import InputError
from slateflow.learners import learner_config, train, train_live
from slateflow.side_by_side import WorkerDiedError
from tasks.experiment import Experiment, ModelRef
from tasks.next_command import typed
from tasks.project import PROJECT
from tasks.server.lineage import model_trained
from tasks.server.progress import stage_with_artifact
from tasks.server.retries import RETRIES
from tasks.side_by_side import shared_workers
from tasks.store.tracking import (
    TRAINING,
    mlflow_client,
    model_name,
    run_page,
)
from tasks.store.training_run import training_run

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHECKPOINTS = PROJECT / "mlflow" / "checkpoints"
"""Folder for the state of trainings that may be killed."""


@task(task_run_name="train {learner} on {experiment.dataset.name}", **RETRIES)
def train_learner(
    experiment: Experiment, learner: str, settings: dict[str, Any] | None = None
) -> ModelRef:
    """Train a learner and log it as an MLflow run, unless such a run already exists.

    It is called within `side_by_side`, whose processes train.
    """
    config, seed = learner_config(learner, **(settings or {})), experiment.seed
    client = mlflow_client()
    dataset = experiment.training_dataset()
    progress = stage_with_artifact(
        f"train {learner}",
        f"train-{learner}-{experiment.recipe}",
        f"train {learner} on {experiment.dataset.name}",
    )
    digest = config.training_digest(dataset, seed)
    model = _newest_model(client, experiment, learner, f"tags.`{TRAINING}` = '{digest}'")
    if model is not None:
        progress(1, 1)
        get_run_logger().info("%s: trained before, run %s", learner, model.run_id)
    else:
        with (
            shared_workers().free() as worker,
            training_run(client, experiment.recipe, dataset, config, seed) as run,
        ):
            learn = train_live if config.live else partial(train, checkpoints=CHECKPOINTS)
            source = dataset.spec if config.live else dataset
            try:
                scorer, summary = worker.call(learn, source, config, seed, progress=progress)
            except WorkerDiedError as error:
                raise WorkerDiedError(f"{learner}: {error}; the next run resumes") from None
            run.log(scorer, summary)
        model = ModelRef(
            learner=learner,
            run_id=run.run_id,
            train_seconds=summary.train_seconds,
            live_steps=summary.live_steps,
        )
        page = run_page(client, run.run_id) or f"run {run.run_id}"
        get_run_logger().info("%s: %.1f s, %s", learner, summary.train_seconds, page)
    model_trained(model, experiment)
    return model


def newest_models(experiment: Experiment, learners: list[str], *, required: bool) -> list[ModelRef]:
    """The newest finished run of each learner on the dataset, which its digest picks.

    A learner without a run is left out, or an error where all are required.
    """
    client, dataset = mlflow_client(), experiment.training_dataset()
    path, models = experiment.dataset.path, []
    by_logs = experiment.evidence == "logs" and experiment.spec.simulated
    again = ["train", *experiment.named, *(["--evidence", "logs"] if by_logs else [])]
    for learner in learners:
        on_dataset = f"tags.`slateflow.dataset_digest` = '{dataset.digest}'"
        model = _newest_model(client, experiment, learner, on_dataset)
        if model is not None:
            models.append(model)
        elif required:
            raise InputError(
                f"{learner}: expected a trained model of {path}, found none; train it with "
                f"`{typed('slateflow', *again, '--learner', learner)}`"
            )
    if not models:
        raise InputError(
            f"{path}: expected trained models of it, found none; train them with "
            f"`{typed('slateflow', *again)}`"
        )
    return models


def _newest_model(
    client: MlflowClient, experiment: Experiment, learner: str, condition: str
) -> ModelRef | None:
    """The newest finished run of the learner that meets the condition."""
    found = client.get_experiment_by_name(model_name(experiment.recipe))
    if found is None:
        return None
    query = (
        f"{condition} and tags.`slateflow.learner` = '{learner}' and attributes.status = 'FINISHED'"
    )
    runs = client.search_runs(
        [found.experiment_id], query, max_results=1, order_by=["start_time DESC"]
    )
    for run in runs:
        figures = run.data.metrics
        return ModelRef(
            learner=learner,
            run_id=run.info.run_id,
            train_seconds=figures["train_seconds"],
            live_steps=int(figures["live_steps"]),
        )
    return None
