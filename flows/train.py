"""Train: offline RL and bandit models from a dataset's logs alone."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.parameters import Learners
from slateflow.learners import learners_for
from slateflow.trajectories import Dataset
from tasks.generate import verify_dataset
from tasks.references import ModelReference
from tasks.train import train_learner


def _run_name() -> str:
    """The dataset's name; its path is too long for the timeline."""
    path: str = flow_run.parameters["dataset_path"]
    return f"train on {path.rstrip('/').rsplit('/', 1)[-1]}"


@flow(name="train", flow_run_name=_run_name)
def train(
    dataset_path: str,
    learners: Learners = None,
    seed: int = 0,
    settings: dict[str, dict[str, Any]] | None = None,
) -> list[ModelReference]:
    """Verify the dataset, then train each learner on it.

    Args:
        dataset_path: Path or URL of a published dataset.
        learners: Learners to train; default those that are made for the world.
        seed: Seed of the trainings.
        settings: Settings by learner, for those that differ from the defaults.
    """
    dataset = verify_dataset(dataset_path)
    chosen = settings or {}
    names = learners or learners_for(Dataset.open(dataset.path).spec)
    return [train_learner(dataset, name, seed, chosen.get(name)) for name in names]
