"""A sample of sessions, for regressions that do not need all of them."""

from __future__ import annotations

from slateflow.errors import InputError
from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.schema import Trajectories

MOST_PARTS = 32
"""Parts of the dataset from which the sessions come, at most."""


def some_sessions(dataset: Dataset, most: int) -> Trajectories:
    """Every n-th session of parts spread evenly over all: parts are ordered by policy and day."""
    chosen = dataset.parts[:: -(-len(dataset.parts) // MOST_PARTS) or 1]
    every = max(sum(part.rows for part in chosen) // most, 1)
    found = []
    for part in chosen:
        rows = dataset.part(part)
        found.append(rows.where(rows.sessions % every == 0))
    if not found:
        raise InputError("dataset: expected rows to train from, got none")
    return Trajectories.from_parts(found)
