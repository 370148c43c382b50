"""Fixtures and settings of all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Parallel test processes have one processor each; NumPy reads this at import.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from absl import logging as absl_logging
from hypothesis import HealthCheck, settings

from flows.cli.main import PREFECT_SETTINGS

# RLlib and RecSim import absl, whose log handler keeps the standard error of that moment, here
# pytest's capture. Prefect configures logging at its import and closes all handlers that stand.
# absl then closes its stream unless that is the standard error of *this* moment, which it is not
# in a test with `capsys`; and pytest dies with its capture.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

# Prefect configures its logging once, at its import: here as in commands, whatever the first test.
for name, value in PREFECT_SETTINGS.items():
    os.environ.setdefault(name, value)

# Examples are the same everywhere, and the speed of a busy machine is not tested.
settings.register_profile(
    "slateflow",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("slateflow")


INTEGRATION = ("flows", "registry", "crash", "learners/rllib")
"""Folders of tests that start more than the code under test; single files mark themselves."""


LONG = ("slow", "services", "long", "benchmark")
"""Markers of tests that `-m "not integration"` also leaves out."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip folders that `-m "not integration"` would deselect: their imports take long."""
    if config.option.markexpr != "not integration":
        return None
    room = collection_path.relative_to(Path(__file__).parent)
    return room.as_posix() in (*INTEGRATION, "benchmarks") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of these folders, and those that take long."""
    for item in items:
        room = item.path.relative_to(Path(__file__).parent)
        if any(room.is_relative_to(name) for name in INTEGRATION) or any(
            item.get_closest_marker(name) for name in LONG
        ):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory):
    """Prefect's test API and a separate MLflow store; returns the folder of both."""
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
def up(tmp_path_factory):
    """One `slateflow up` for all tests of the real servers, which do not end it."""
    from tests.up import running_up

    with running_up(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture(scope="module")
def up_client(up):
    """A client of the Prefect server that `up` started."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(up.api) as client:
        yield client


@pytest.fixture
def read(monkeypatch):
    """The parts of datasets that are read during the test."""
    from slateflow.trajectories import Dataset

    parts = []
    real = Dataset.part

    def part(self, part, **settings):
        parts.append(part)
        return real(self, part, **settings)

    monkeypatch.setattr(Dataset, "part", part)
    return parts
