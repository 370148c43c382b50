"""Datasets of about a given number of rows, for benchmarks of several sizes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slateflow.trajectories import Dataset, Folder, Recipe, generate

STEPS = {"modified-lts-20-2": 120, "interest-evolution": 65.5}
"""Mean number of steps per episode."""


@contextmanager
def logs_by_rows(world: str, rows: int, folder: Path) -> Iterator[Dataset]:
    """Logs of random and greedy, half each, which are removed afterwards."""
    shares = {"random": 0.5, "greedy": 0.5}
    recipe = Recipe(f"r{rows}", world, round(rows / STEPS[world]), 0, shares)
    dataset = generate(recipe, Folder(str(folder)), workers=os.cpu_count() or 1)
    try:
        yield dataset
    finally:
        shutil.rmtree(dataset.path)
