"""Logs that are exported and imported again."""

from __future__ import annotations

import pytest

from slateflow.trajectories import Dataset, Folder, Recipe, generate


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> Dataset:
    """30 episodes of 4 steps: 4 candidates, slates of 2, by two policies."""
    recipe = Recipe(
        "logged", "modified-lts-20-2", 30, 4, {"random": 0.5, "greedy": 0.5},
        {"time_budget": 4, "num_candidates": 4},
    )  # fmt: skip
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("data"))))
