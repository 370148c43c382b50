"""Small datasets that the tests of this room read, and break copies of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slateflow.trajectories import Dataset, Folder, Recipe, generate

SMALL = Recipe(
    name="small",
    environment="modified-lts-20-2",
    episodes=1_300,
    seed=7,
    policies={"random": 0.8, "greedy": 0.2},
    parameters={"time_budget": 4},
)
"""Three parts of random (500, 500 and 40 episodes) and one of greedy (260), 4 steps each."""


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """The recipe of `small`."""
    return SMALL


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Dataset:
    """The dataset of `SMALL`; nobody changes it."""
    return generate(SMALL, Folder(str(tmp_path_factory.mktemp("data"))))


@pytest.fixture
def copied(small, tmp_path) -> Path:
    """A copy of it that may be broken."""
    return Path(shutil.copytree(small.path, tmp_path / "small"))
