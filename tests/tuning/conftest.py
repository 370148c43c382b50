"""The logs of the learners' tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slateflow.trajectories import Dataset, Folder, generate
from tests.learners.conftest import SMALL, logs, make_logs, quiet  # noqa: F401


@pytest.fixture(scope="session")
def small_logs(tmp_path_factory) -> Dataset:
    """Logs like `SMALL`: in its twelve held-out sessions a memory predicts more, by chance."""
    return generate(replace(SMALL, seed=4), Folder(str(tmp_path_factory.mktemp("small"))))
