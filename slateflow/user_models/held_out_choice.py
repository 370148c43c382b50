"""The choice among models by what held-out episodes lose with each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Model = TypeVar("Model")

ROUNDING = 1e-12
"""Share of the losses below which a difference is none."""


def simplest(losses: Mapping[Model, NDArray[np.float64]]) -> Model:
    """The first model that loses no more than the best, within a standard error.

    Args:
        losses: (E,) losses of the held-out episodes by model, the simplest model first.
    """
    least = min(losses.values(), key=np.sum)
    return next(model for model, ours in losses.items() if not better(ours, least, 1.0))


def better(plain: NDArray[np.float64], ours: NDArray[np.float64], standard_errors: float) -> bool:
    """Whether held-out episodes lose less than with a plain model, by more than chance or rounding.

    Args:
        plain: (E,) losses of the plain model.
        ours: (E,) losses of the other.
        standard_errors: By how many of them less.

    Example:
        >>> plain = np.array([1.0, 1.1, 0.9])
        >>> better(plain, np.array([0.5, 0.7, 0.3]), 2.0), better(plain, plain - 1e-15, 2.0)
        (True, False)
    """
    gain, rounding = plain - ours, ROUNDING * float(np.abs(plain).sum())
    return bool(gain.sum() > standard_errors * gain.std() * np.sqrt(len(gain)) + rounding)
