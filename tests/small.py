"""A small dataset in several parts, for tests in all folders."""

from __future__ import annotations

from pathlib import Path

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


def small_dataset(folder: Path) -> Dataset:
    """The dataset of `SMALL`, which tests do not change."""
    return generate(SMALL, Folder(str(folder)))
