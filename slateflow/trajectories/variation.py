"""The check that clicked candidates vary, without which nothing can be learnt from logs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.schema import Trajectories


def check_variation(rows: Trajectories) -> None:
    """Refuse rows from which nothing can be learnt.

    Raises:
        InputError: There are no rows or no clicks, or the same candidate was clicked every time, so
            that the logs show nothing about other candidates.
    """
    if not len(rows):
        raise InputError("dataset: expected rows to train from, got none")
    clicked = np.flatnonzero(rows.clicked >= 0)
    if not len(clicked):
        raise InputError("dataset: expected rows with a click, got none")
    features = rows.clicked_features(clicked)
    if (features == features[0]).all():
        raise InputError(no_variation_message(features[0]))


def no_variation_message(features: NDArray[np.floating]) -> str:
    """The error message for clicked candidates that all have the same features (D,)."""
    got = ", ".join(f"{value:g}" for value in features)
    return (
        f"candidates: expected clicked candidates that vary, got ({got}) every time; log a random "
        "policy, too"
    )
