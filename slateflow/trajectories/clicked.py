"""Clicked candidates as something to learn from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.schema import Trajectories


def clicked_features(rows: Trajectories) -> NDArray[np.float32]:
    """Features (C, D) of the clicked candidates, one row per click.

    Raises:
        InputError: There are no rows or no clicks, or all clicked candidates have the same
            features, so that nothing can be learnt about others.
    """
    if not len(rows):
        raise InputError("dataset: expected rows to train from, got none")
    clicked = np.flatnonzero(rows.clicked >= 0)
    if not len(clicked):
        raise InputError("dataset: expected rows with a click, got none")
    features = rows.clicked_features(clicked)
    if (features == features[0]).all():
        raise InputError(no_variation_message(features[0]))
    return features


def no_variation_message(features: NDArray[np.floating]) -> str:
    """The error where all clicked candidates have the same features (D,)."""
    got = ", ".join(f"{value:g}" for value in features)
    return (
        f"candidates: expected clicked candidates that vary, got ({got}) every time; log a random "
        "policy, too"
    )
