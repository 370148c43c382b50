"""The choice among models by what held-out episodes lose with each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Model = TypeVar("Model")


def simplest(losses: Mapping[Model, NDArray[np.float64]]) -> Model:
    """The first model that loses no more than the best, within a standard error.

    Args:
        losses: (E,) losses of the held-out episodes by model, the simplest model first.
    """
    least = min(losses.values(), key=np.sum)
    return next(
        model
        for model, ours in losses.items()
        if (ours - least).sum() <= (ours - least).std() * np.sqrt(len(least))
    )
