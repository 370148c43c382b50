"""Train: offline RL and bandit models from a dataset's logs alone."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from flows.parameters import DatasetDigest, DatasetPath, Learners, Settings, WholeSeed
from slateflow.learners import learners_for
from slateflow.trajectories import Dataset
from tasks.generate import verify_dataset
from tasks.reports.documents import ModelReference, World
from tasks.server.lineage import training_finished
from tasks.server.orphans import record_process
from tasks.train import train_learner


def _run_name() -> str:
    """The dataset's name; its path is too long for the timeline."""
    path: str = flow_run.parameters["dataset_path"]
    return f"train on {path.rstrip('/').rsplit('/', 1)[-1]}"


@flow(name="train", flow_run_name=_run_name, on_running=[record_process])
def train(
    dataset_path: DatasetPath,
    learners: Learners = None,
    seed: WholeSeed = 0,
    settings: Settings = None,
    dataset_digest: DatasetDigest = None,
) -> list[ModelReference]:
    """Verify the dataset, then train each learner on it, or find it trained.

    Args:
        dataset_path: Path or URL of a published dataset.
        learners: Learners to train; default those that are made for the world.
        seed: Seed of the trainings, 0 or more.
        settings: Settings by learner, for those that differ from the defaults.
        dataset_digest: The digest that the dataset has to have; default any.
    """
    dataset = verify_dataset(dataset_path, dataset_digest)
    chosen = settings or {}
    opened = Dataset.open(dataset.path)
    names = learners or learners_for(opened.spec)
    models = [train_learner(dataset, name, seed, chosen.get(name)) for name in names]
    world = World(
        environment=opened.recipe["environment"],
        parameters=opened.recipe.get("parameters", {}),
        seed=seed,
    )
    training_finished(models, dataset, world)
    return models
