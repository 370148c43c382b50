"""What was clicked in logged steps, if it can teach anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.schema import Trajectories


def clicked_features(rows: Trajectories) -> NDArray[np.float32]:
    """Features (C, D) of the clicked candidates, one row a click.

    Raises:
        InputError: There are no rows, no clicks, or the same candidate was clicked every time:
            then nothing tells what another one would have done.
    """
    if not len(rows):
        raise InputError("dataset: expected rows to train from, got none")
    position = rows.clicked_candidate()
    clicked = np.flatnonzero(position >= 0)
    if not len(clicked):
        raise InputError("dataset: expected rows with a click, got none")
    features = rows.candidates[clicked, position[clicked]]
    if (features == features[0]).all():
        raise InputError(constant(features[0]))
    return features


def constant(features: NDArray[np.floating]) -> str:
    """What is wrong where all clicked candidates have the same features (D,)."""
    got = ", ".join(f"{value:g}" for value in features)
    return (
        f"candidates: expected clicked candidates that vary, got ({got}) every time; log a random "
        "policy, too"
    )
