"""Whether logs can teach anything: the clicked candidates have to vary."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slateflow.errors import InputError
from slateflow.trajectories.schema import Trajectories


def check_variation(rows: Trajectories) -> None:
    """Refuse rows that cannot teach anything.

    Raises:
        InputError: There are no rows, no clicks, or the same candidate was clicked every time:
            then nothing in the logs bears on another candidate.
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
    """The error where all clicked candidates have the same features (D,)."""
    got = ", ".join(f"{value:g}" for value in features)
    return (
        f"candidates: expected clicked candidates that vary, got ({got}) every time; log a random "
        "policy, too"
    )
