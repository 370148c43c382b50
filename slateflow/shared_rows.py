"""Arrays whose rows are all the same, held once, as NumPy's `broadcast_to` makes them.

A catalogue that is on offer at every row is such an array, of its items as of their features. All
that takes rows can take it as it is; the functions here take some of its rows without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def shared(values: NDArray[Any]) -> bool:
    """Whether all rows are one in memory."""
    return len(values) > 0 and values.strides[0] == 0


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """The rows that can differ: the first alone where all are one in memory."""
    return values[:1] if shared(values) else values


def for_rows(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """The one row (1, …) of so many rows, or values as they are, of as many."""
    return values if len(values) == rows else np.broadcast_to(values, (rows, *values.shape[1:]))


def at_rows(values: NDArray[Any], rows: NDArray[Any] | slice) -> NDArray[Any]:
    """Some rows, by number, by a mask or a slice; no copy where all are one in memory.

    Example:
        >>> every = np.broadcast_to(np.arange(3), (4, 3))
        >>> at_rows(every, np.array([0, 2])).strides[0]
        0
    """
    if isinstance(rows, slice) or not shared(values):
        return values[rows]
    count = len(np.arange(len(values))[rows])
    return np.broadcast_to(values[0], (count, *values.shape[1:]))


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All rows of several arrays, one after the other; held once where all are the same."""
    filled = [part for part in parts if len(part)]
    if filled and all(shared(part) for part in filled):
        first = filled[0][0]
        if all(np.array_equal(first, part[0]) for part in filled[1:]):
            return np.broadcast_to(first, (sum(map(len, filled)), *first.shape))
    return np.concatenate(parts)
