"""A Prefect API, an MLflow store and one finished pipeline for all tests of the flows."""

from __future__ import annotations

import pytest

EPISODES = 200
SEED = 3


@pytest.fixture(scope="session")
def embedded(tmp_path_factory):
    """Prefect's test API and an MLflow store of its own; gives the folder of both."""
    folder = tmp_path_factory.mktemp("embedded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.delenv("PREFECT_API_URL", raising=False)
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
        from prefect.testing.utilities import prefect_test_harness

        with (
            prefect_test_harness(server_startup_timeout=120),
            temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        ):
            yield folder


@pytest.fixture(scope="session")
def data(embedded):
    """Folder of the datasets, as the flows take it."""
    return str(embedded / "data")


@pytest.fixture(scope="session")
def report(embedded, data):
    """The first pipeline on an empty registry."""
    from flows.pipeline import pipeline

    return pipeline(
        environment="modified-lts-20-2",
        episodes=EPISODES,
        seed=SEED,
        learners=["linucb", "lints", "bc", "fitted-q"],
        evaluation_episodes=500,
        data=data,
    )


@pytest.fixture(scope="session")
def client(report):
    """An MLflow client on the store in which the report was made."""
    from tasks.tracking import mlflow_client

    return mlflow_client()
