"""Sums over the earlier visits of a visitor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def count_before(order: NDArray[np.int64], *keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """(R,) number of rows with the same keys before each row."""
    return sum_before(np.ones(len(order), np.int64), order, *keys)


def sum_before(
    values: NDArray[Any], order: NDArray[np.int64], *keys: NDArray[np.integer]
) -> NDArray[Any]:
    """(R, …) sums of values (R, …) in the rows with the same keys (R,) before each row.

    Example:
        >>> sum_before(np.array([1, 2, 4]), np.array([2, 1, 3]), np.array([7, 7, 7])).tolist()
        [2, 0, 3]
    """
    rows = np.lexsort((order, *keys))
    first = np.ones(len(rows), np.bool_)
    first[1:] = np.any([key[rows][1:] != key[rows][:-1] for key in keys], axis=0)
    sums = np.cumsum(values[rows], axis=0) - values[rows]
    found = np.empty_like(values)
    found[rows] = sums - sums[first][np.cumsum(first) - 1]
    return found
