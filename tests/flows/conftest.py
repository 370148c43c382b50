"""A finished pipeline for all tests of the flows."""

from __future__ import annotations

import pytest

EPISODES = 200
SEED = 3


@pytest.fixture(scope="session")
def data(embedded):
    """Folder of the datasets, as the flows expect it."""
    return str(embedded / "data")


@pytest.fixture(scope="session")
def report(embedded, data):
    """The report of the first pipeline on an empty registry."""
    from flows.pipeline import pipeline

    return pipeline(
        recipe="modified-lts-20-2",
        episodes=EPISODES,
        seed=SEED,
        learners=["linucb", "lints", "marwil", "fitted-q"],
        evaluation_episodes=500,
        data=data,
    )


@pytest.fixture(scope="session")
def client(report):
    """An MLflow client on the store of the report."""
    from tasks.store.tracking import mlflow_client

    return mlflow_client()
