"""A small dataset in several parts."""

from __future__ import annotations

import pytest

from slateflow.trajectories import Dataset
from tests.small import small_dataset


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Dataset:
    """The dataset of `SMALL`, which tests do not change."""
    return small_dataset(tmp_path_factory.mktemp("small"))
