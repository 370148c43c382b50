"""Small datasets for the tests of this folder, which break only copies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slateflow.trajectories import Dataset, Recipe
from tests.small import SMALL, small_dataset


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """The recipe of `small`."""
    return SMALL


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Dataset:
    """The dataset of `SMALL`, which tests do not change."""
    return small_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def copied(small, tmp_path) -> Path:
    """A copy of `small` that may be broken."""
    return Path(shutil.copytree(small.path, tmp_path / "small"))
