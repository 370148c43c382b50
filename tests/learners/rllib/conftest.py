"""A small dataset in several parts."""

from __future__ import annotations

import pytest

from slateflow.trajectories import Dataset, Folder, Recipe, generate


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Dataset:
    """Three parts of random and one of greedy, 4 steps an episode; nobody changes it."""
    recipe = Recipe(
        "small",
        "modified-lts-20-2",
        1_300,
        7,
        {"random": 0.8, "greedy": 0.2},
        {"time_budget": 4},
    )
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("small"))))
