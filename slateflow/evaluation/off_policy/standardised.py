"""Columns in units of their standard deviations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def standardised(columns: NDArray[Any]) -> NDArray[np.float64]:
    """(R, F) columns with a mean of 0 and a standard deviation of 1; 0 where they do not vary.

    Example:
        >>> standardised(np.array([[1, 0.1], [5, 0.1]] * 500))[:2].tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    x = np.asarray(columns, np.float64)
    deviation = x.std(axis=0)
    # The mean of equal numbers may differ from them by rounding
    varies = deviation > np.finfo(np.float32).eps * np.abs(x).max(axis=0, initial=0)
    return np.where(varies, (x - x.mean(axis=0)) / np.where(varies, deviation, 1.0), 0.0)
